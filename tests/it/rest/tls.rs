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
    let http = "[http]\ntls = { cert_file = \"door.pem\", key_file = \"door.key\" }\n";
    let setup = setup.gateway("listen = \"127.0.0.1:0\"").more(&format!("{http}\n{}", routes(&upstream.url)));
    let mut gateway = Gateway::spawn(setup);
    let address = eventually("the door", || {
        let log = gateway.log();
        let (_, rest) = log.split_once("listening on https://")?;
        Some(rest.split_once("/mcp")?.0.to_owned())
    });
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
