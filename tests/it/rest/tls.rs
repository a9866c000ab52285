//! TLS at the door, and proxies in front of it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::stage::{Caller, Upstream, gateway, routes, stop};
use crate::http_door::client::Door;
use crate::support::{Gateway, PATIENCE, Setup, eventually, mint};

/// Writes a certificate for this machine that signs itself, and its key; the certificate in PEM.
fn certificate(setup: &Setup) -> String {
    let made =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    for (name, text) in [("door.pem", pem.clone()), ("door.key", made.signing_key.serialize_pem())] {
        std::fs::write(setup.path(name), text).unwrap();
        std::fs::set_permissions(setup.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    pem
}

/// A gateway with TLS as these keys say, in front of these routes, and its address.
fn secured(setup: Setup, upstream: &Upstream, keys: &str, more: &str) -> (Gateway, String) {
    let tls = format!("cert_file = \"door.pem\", key_file = \"door.key\"{keys}");
    let http = format!("[http]\ntls = {{ {tls} }}\n{more}\n{}", routes(&upstream.url));
    let gateway = Gateway::spawn(setup.gateway("listen = \"127.0.0.1:0\"").more(&http));
    let address = eventually("the door", || {
        let log = gateway.log();
        let (_, rest) = log.split_once("listening on https://")?;
        Some(rest.split_once("/mcp")?.0.to_owned())
    });
    (gateway, address)
}

/// Status and body of a GET, by a client that trusts this certificate and no other.
fn get(address: &str, path: &str, pem: &str, token: &str) -> Result<(u16, serde_json::Value), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).build().unwrap();
        let request = client.get(format!("https://{address}{path}")).bearer_auth(token).timeout(PATIENCE);
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    })
}

#[test]
fn a_certificate_is_shown_and_replaced_while_the_gateway_runs() {
    let upstream = Upstream::start();
    let setup = Setup::echo();
    let first = certificate(&setup);
    let (mut gateway, address) = secured(setup, &upstream, "", "");
    let token = mint("ann", "admin", 3600);
    let (status, said) = get(&address, "/pets/7", &first, &token).unwrap();
    assert_eq!((status, &said["headers"]["x-forwarded-proto"]), (200, &json!("https")), "{said}");
    // Who speaks plainly is no client of this door.
    assert!(
        super::stage::raw(&address, b"GET /pets/7 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .is_none_or(|reply| reply.status == 400)
    );
    let second = certificate(&gateway.setup);
    gateway.reload(|_| {});
    eventually("the new certificate", || get(&address, "/pets/7", &second, &token).ok());
    assert!(get(&address, "/pets/7", &first, &token).is_err(), "the old one is not shown any more");
    // One that does not belong to its key changes nothing.
    std::fs::write(gateway.setup.path("door.key"), "no key").unwrap();
    gateway.reload(|_| {});
    gateway.await_log("http.tls", 1);
    get(&address, "/pets/7", &second, &token).unwrap();
}

#[test]
fn the_client_is_whom_a_trusted_proxy_names() {
    let upstream = Upstream::start();
    let mut door: Door =
        gateway(&upstream, Setup::echo(), "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]");
    let through = |hops: &str| Caller::of(&door).with("X-Forwarded-For", hops);
    let heard = |caller: Caller| caller.ask("GET", "/open/x").json()["headers"]["x-forwarded-for"].clone();
    assert_eq!(heard(through("203.0.113.9")), "203.0.113.9");
    assert_eq!(
        heard(through("198.51.100.7, 203.0.113.9, 10.0.0.2")),
        "203.0.113.9",
        "the rest anybody can write"
    );
    assert_eq!(heard(through("203.0.113.9, unknown")), "127.0.0.1");
    assert_eq!(heard(Caller::of(&door).with("X-Real-IP", "203.0.113.9")), "127.0.0.1");
    stop(&mut door);
    let rows = door.gateway.audit();
    assert!(rows.iter().any(|row| row["subject"] == "anonymous@203.0.113.9"), "{rows:?}");
}

fn runtime() -> tokio::runtime::Runtime {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A client of HTTP that trusts this certificate and no other.
fn client(pem: &str) -> reqwest::ClientBuilder {
    let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([certificate]).timeout(PATIENCE)
}

#[test]
fn many_requests_go_over_one_connection_of_http_2() {
    let upstream = Upstream::start();
    let setup = Setup::echo();
    let pem = certificate(&setup);
    let (gateway, address) = secured(setup, &upstream, "", "");
    let token = mint("ann", "admin", 3600);
    runtime().block_on(async {
        let client = client(&pem).build().unwrap();
        let called = address.as_str();
        let ask = |number: u32| {
            let request = client.get(format!("https://{address}/pets/{number}")).bearer_auth(&token);
            async move {
                let answer = request.send().await.unwrap();
                assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 200));
                let said: serde_json::Value = answer.json().await.unwrap();
                assert_eq!(said["target"], format!("/v1/pets/{number}"));
                assert_eq!(said["headers"]["x-forwarded-host"], called, "the name that was called: {said}");
            }
        };
        futures_util::future::join_all((1..=40).map(ask)).await;
        // A body goes through, and one that is too long is refused on its stream alone.
        let url = format!("https://{address}/pets");
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(20_000));
        for (body, status) in [("{\"name\":\"Rex\"}".to_owned(), 200), (long, 413), ("{}".to_owned(), 400)] {
            let sent =
                client.post(&url).bearer_auth(&token).header("content-type", "application/json").body(body);
            assert_eq!(sent.send().await.unwrap().status().as_u16(), status);
        }
        // The same checks of the head: another host than ours is not served.
        let wrong =
            client.get(format!("https://{address}/pets/1")).header("host", "evil.example.org").send().await;
        assert!(wrong.is_err() || wrong.is_ok_and(|answer| answer.status().is_client_error()));
        let plain = client_of_http1(&pem, &address, &token).await;
        assert_eq!(plain, (reqwest::Version::HTTP_11, 200));
    });
    drop(gateway);
}

async fn client_of_http1(pem: &str, address: &str, token: &str) -> (reqwest::Version, u16) {
    let client = client(pem).http1_only().build().unwrap();
    let answer = client.get(format!("https://{address}/pets/1")).bearer_auth(token).send().await.unwrap();
    (answer.version(), answer.status().as_u16())
}

/// A connection of HTTP/2 without a client's manners.
async fn bare(
    pem: &str,
    address: &str,
) -> (h2::client::SendRequest<bytes::Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let stream =
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    (send, tokio::spawn(connection))
}

#[test]
fn who_floods_with_streams_loses_the_connection_and_nobody_else_does() {
    let upstream = Upstream::start();
    let setup = Setup::echo();
    let pem = certificate(&setup);
    let (gateway, address) = secured(setup, &upstream, "", "");
    let token = mint("ann", "admin", 3600);
    runtime().block_on(async {
        let request = || {
            let uri = format!("https://{address}/any/hang");
            axum::http::Request::get(uri).header("authorization", format!("Bearer {token}")).body(()).unwrap()
        };
        // Streams that are opened and given up at once (CVE-2023-44487).
        let (mut send, connection) = bare(&pem, &address).await;
        let mut refused = false;
        for _ in 0..20_000 {
            let Ok(ready) = send.clone().ready().await else {
                refused = true;
                break;
            };
            send = ready;
            match send.send_request(request(), true) {
                Ok((_, mut stream)) => stream.send_reset(h2::Reason::CANCEL),
                Err(_) => {
                    refused = true;
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        assert!(refused, "twenty thousand streams were taken");
        assert!(tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap().is_err());
        // A client is told how many it may have at once; one that opens more breaks the protocol.
        let (send, _connection) = bare(&pem, &address).await;
        let mut send = send.ready().await.unwrap();
        let uri = format!("https://{address}/open/x");
        let (answer, _) = send.send_request(axum::http::Request::get(uri).body(()).unwrap(), true).unwrap();
        assert_eq!(answer.await.unwrap().status().as_u16(), 200);
        assert_eq!(send.current_max_send_streams(), 100);
        assert_eq!(client_of_http1(&pem, &address, &token).await.1, 200);
    });
    drop(gateway);
}

/// An authority, and a certificate of it for this subject with its key (PEM).
fn client_certificate(subject: &str) -> (String, String) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, subject);
    params
        .subject_alt_names
        .push(rcgen::SanType::URI(format!("spiffe://example.org/{subject}").try_into().unwrap()));
    let own = rcgen::KeyPair::generate().unwrap();
    let made = params.signed_by(&own, &issuer).unwrap();
    (root.pem(), format!("{}{}", made.pem(), own.serialize_pem()))
}

#[test]
fn a_clients_certificate_is_asked_for_and_is_a_fact_for_authenticators() {
    let upstream = Upstream::start();
    let wasm = crate::support::target().join("guests/auth.wasm");
    let rule = format!(
        "[[plugins]]\nname = \"by-certificate\"\nstage = \"authenticate\"\nwasm = {:?}\nbefore = \"auth-jwt\"\n\
         config = {{ answer = \"accept\", role = \"admin\", fact = \"peer.cert.names\" }}\n",
        wasm.to_str().unwrap()
    );
    let (authority, identity) = client_certificate("ann");
    let (_, stranger) = client_certificate("eve");
    let start = |word: &str| {
        let setup = Setup::echo();
        let pem = certificate(&setup);
        std::fs::write(setup.path("clients.pem"), &authority).unwrap();
        let keys = format!(", client_ca_file = \"clients.pem\"{word}");
        let (gateway, address) = secured(setup, &upstream, &keys, &rule);
        (gateway, address, pem)
    };
    let ask = |address: &str, pem: &str, identity: Option<&str>| {
        runtime().block_on(async {
            let mut client = client(pem);
            if let Some(identity) = identity {
                client = client.identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap());
            }
            let request = client.build().unwrap().get(format!("https://{address}/pets/7"));
            request.send().await.map(|answer| answer.status().as_u16()).ok()
        })
    };
    let (mut gateway, address, pem) = start("");
    assert_eq!(ask(&address, &pem, Some(&identity)), Some(200));
    assert_eq!(ask(&address, &pem, None), None, "no handshake without a certificate");
    assert_eq!(ask(&address, &pem, Some(&stranger)), None, "nor with one of another authority");
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait_exit().success(), "{}", gateway.log());
    let rows = gateway.audit();
    assert!(rows.iter().any(|row| row["subject"] == "URI:spiffe://example.org/ann"), "{rows:?}");

    let (_gateway, address, pem) = start(", client_certificates = \"optional\"");
    assert_eq!(ask(&address, &pem, Some(&identity)), Some(200));
    assert_eq!(ask(&address, &pem, None), Some(401), "let in by the handshake, and known by nobody");
    assert_eq!(ask(&address, &pem, Some(&stranger)), None);
}

#[test]
fn a_listed_proxy_says_whose_connection_it_passes_on_before_anything_else() {
    let upstream = Upstream::start();
    let keys = "trusted_proxies = [\"127.0.0.1\"]\nclient_address = \"proxy-protocol\"";
    let mut door = gateway(&upstream, Setup::echo(), keys);
    let request = Caller::of(&door).with("X-Forwarded-For", "192.0.2.99").text("GET", "/open/x", None);
    let heard = |header: &[u8]| {
        let reply = super::stage::raw(&door.address, &[header, &request].concat())?;
        Some(reply.json()["headers"]["x-forwarded-for"].as_str().unwrap().to_owned())
    };
    let is = |address: &str| Some(address.to_owned());
    assert_eq!(heard(b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n"), is("203.0.113.9"));
    assert_eq!(heard(b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n"), is("2001:db8::9"));
    assert_eq!(heard(b"PROXY UNKNOWN\r\n"), is("127.0.0.1"));
    let second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x0a\x7f\0\0\x01\0\x50\x01\xbb";
    assert_eq!(heard(second), is("203.0.113.10"));
    for header in [&b""[..], b"PROXY TCP4 203.0.113.9\r\n", b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\n"] {
        assert_eq!(heard(header), None, "{:?}", String::from_utf8_lossy(header));
    }
    stop(&mut door);
    let rows = door.gateway.audit();
    for subject in ["anonymous@203.0.113.9", "anonymous@2001:db8:0:0::/64", "anonymous@203.0.113.10"] {
        assert!(rows.iter().any(|row| row["subject"] == subject), "{subject}: {rows:?}");
    }
}
