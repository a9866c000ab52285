//! A collector that is away, silent, or not who it should be: calls go on, and the log says it once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::collector::{Collector, section};
use super::{SAYS, call, start, told};
use crate::support::{Gateway, Setup, eventually, free_address};

#[test]
fn a_collector_that_is_away_is_said_once_and_costs_no_call() {
    let address = free_address();
    let mut gateway = start(&section(&address, "timeout_secs = 2"));
    for _ in 0..3 {
        assert!(told(&call(&mut gateway, "meta", &json!({})))["traceparent"].is_string());
        gateway.await_log("does not take spans", 1);
        gateway.await_log("does not take metrics", 1);
    }
    let collector = Collector::at(&address);
    eventually("what was lost", || {
        call(&mut gateway, "meta", &json!({}));
        let log = gateway.log();
        (log.contains("the collector takes spans again") && log.contains("the collector takes metrics again"))
            .then_some(())
    });
    collector.await_span("a call", |span| span.name() == "tools/call meta");
    // One that refuses is one that is away.
    collector.answers(Some(403));
    eventually("the refusal", || {
        call(&mut gateway, "meta", &json!({}));
        gateway.log().contains("does not take spans: it answers with HTTP status 403").then_some(())
    });
    gateway.end();
    let log = gateway.log();
    assert_eq!(log.matches("does not take spans").count(), 2, "each time once: {log}");
    let again = log.lines().find(|line| line.contains("takes spans again")).unwrap();
    let lost: u64 = again.split_once("; ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(lost > 0, "{again}");
    assert!(log.contains("spans were lost by the end"), "{log}");
}

#[test]
fn a_collector_that_never_answers_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut gateway = start(&section(&address, "timeout_secs = 0.5"));
    eventually("what the log says of it", || {
        assert!(told(&call(&mut gateway, "meta", &json!({})))["traceparent"].is_string());
        gateway.log().contains("does not take spans").then_some(())
    });
    // It ends all the same.
    gateway.end();
    assert!(gateway.log().contains("Shutdown complete"));
    drop(silent);
}

/// A server with TLS that takes everything, and the paths that it was asked for.
fn encrypted(server: Arc<rustls::ServerConfig>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let paths = Arc::new(Mutex::new(Vec::new()));
    let asked = paths.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // One that does not trust us hangs up.
            if let Some(path) = take(&server, &mut stream) {
                asked.lock().unwrap().push(path);
            }
        }
    });
    (address, paths)
}

fn take(server: &Arc<rustls::ServerConfig>, stream: &mut TcpStream) -> Option<String> {
    let mut connection = rustls::ServerConnection::new(server.clone()).ok()?;
    let mut tls = rustls::Stream::new(&mut connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    tls.read_exact(&mut vec![0; length]).ok()?;
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    connection.send_close_notify();
    let _ = connection.complete_io(stream);
    head.split(' ').nth(1).map(str::to_owned)
}

#[test]
fn a_collector_has_to_show_who_it_is() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    own.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = own.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(own, key);
    let of_server = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&of_server, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let secret = rustls::pki_types::PrivateKeyDer::try_from(of_server.serialize_der()).unwrap();
    let server = builder.unwrap().with_no_client_auth();
    let server = Arc::new(server.with_single_cert(vec![certificate.der().clone()], secret).unwrap());
    for known in [true, false] {
        let (address, paths) = encrypted(server.clone());
        let setup = Setup::new().scripted("srv", SAYS, "");
        std::fs::write(setup.path("ca.pem"), authority.pem()).unwrap();
        let ca = if known { "ca_file = \"ca.pem\"" } else { "" };
        let section = section(&address, ca).replace("http://", "https://");
        let mut gateway = Gateway::start(setup.more(&section));
        gateway.await_tool("meta");
        call(&mut gateway, "meta", &json!({}));
        if known {
            eventually("both", || {
                let paths = paths.lock().unwrap();
                ["/v1/traces", "/v1/metrics"].iter().all(|path| paths.iter().any(|p| p == path)).then_some(())
            });
        } else {
            gateway.await_log("does not take spans", 1);
            assert!(gateway.log().contains("certificate"), "{}", gateway.log());
            assert!(paths.lock().unwrap().is_empty());
        }
        gateway.end();
    }
}
