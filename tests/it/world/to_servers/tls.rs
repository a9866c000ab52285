//! Servers with TLS: an authority of one's own, a certificate of the gateway's own, and HTTP/2 where it is offered.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::super::web::Web;
use super::text;
use crate::support::{Gateway, Setup};

/// Node's own server, which speaks HTTP/1.1 and HTTP/2, and asks for a certificate if it is given an authority for them.
const SERVER: &str = r#"
import fs from "node:fs";
import http2 from "node:http2";
const [key, cert, ca] = process.argv.slice(2);
const read = (path) => fs.readFileSync(path);
const options = { key: read(key), cert: read(cert), allowHTTP1: true };
if (ca) Object.assign(options, { ca: read(ca), requestCert: true, rejectUnauthorized: true });
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const results = {
  initialize: { protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "node", version: "1" } },
  "tools/list": { tools: [{ name: "echo", inputSchema: { type: "object" } }] },
  "tools/call": { content: [{ type: "text", text: "ok" }] },
  ping: {},
};
const server = http2.createSecureServer(options, (req, res) => {
  if (req.url === "/elsewhere") {
    // As one does that does not know that something before it ends TLS.
    res.writeHead(307, { location: `http://${req.headers[":authority"] ?? req.headers.host}/elsewhere/` });
    return res.end();
  }
  if (req.method !== "POST") { res.writeHead(405); return res.end(); }
  let body = "";
  req.on("data", (chunk) => (body += chunk));
  req.on("end", () => {
    const message = JSON.parse(body);
    say({ verb: "POST", message, http: req.httpVersion, encoding: req.headers["accept-encoding"], subject: req.socket.getPeerCertificate?.()?.subject?.CN });
    if (message.id === undefined) { res.writeHead(202); return res.end(); }
    const result = results[message.method];
    const answer = result ? { result } : { error: { code: -32601, message: "Method not found" } };
    res.writeHead(200, { "content-type": "application/json" });
    res.end(JSON.stringify({ jsonrpc: "2.0", id: message.id, ...answer }));
  });
});
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
"#;

/// An authority made just now, with a certificate for this machine and one for the gateway.
pub(super) struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    pub(super) fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        write("ca.pem", authority.self_signed(&key).unwrap().pem());
        let issuer = rcgen::Issuer::new(authority, key);
        for (name, host) in [("server", "127.0.0.1"), ("gateway", "gateway.example.org")] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer).unwrap().pem();
            write(&format!("{name}.key"), key.serialize_pem());
            write(&format!("{name}.both"), format!("{certificate}{}", key.serialize_pem()));
            write(&format!("{name}.pem"), certificate);
        }
        Self { dir }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn server(&self, asks: bool) -> (Web, String) {
        let ca = self.path("ca.pem");
        let mut args = vec![self.path("server.key"), self.path("server.pem")];
        args.extend(asks.then_some(ca));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let web = Web::node(SERVER, &args);
        let url = web.url().replace("http:", "https:");
        (web, url)
    }
}

fn works(setup: Setup) {
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let calls: Vec<u64> = (0..20).map(|_| gateway.begin("echo", json!({}))).collect();
    for id in calls {
        assert_eq!(text(&gateway.answer(id)), "ok");
    }
    gateway.end();
}

#[test]
fn an_authority_of_ones_own_and_http_2_where_it_is_offered() {
    let certificates = Certificates::make();
    let (web, url) = certificates.server(false);
    // Without its authority the server is refused, and the log says what to write.
    let gateway = Gateway::start(Setup::new().http("up", &url, ""));
    gateway.await_log("tls.ca_file", 1);
    assert!(web.told().is_empty());
    let keys = format!("tls = {{ ca_file = {:?} }}", certificates.path("ca.pem"));
    works(Setup::new().http("up", &url, &keys));
    assert!(web.told().iter().all(|line| line["http"] == "2.0"), "{:?}", web.told());
}

#[test]
fn a_certificate_of_the_gateways_own() {
    let certificates = Certificates::make();
    let (web, url) = certificates.server(true);
    let [ca, cert, key, both] =
        ["ca.pem", "gateway.pem", "gateway.key", "gateway.both"].map(|name| certificates.path(name));
    let gateway = Gateway::start(Setup::new().http("up", &url, &format!("tls = {{ ca_file = {ca:?} }}")));
    gateway.await_log("tls.cert_file", 1);
    assert!(web.told().is_empty());
    for keys in [format!("cert_file = {cert:?}, key_file = {key:?}"), format!("cert_file = {both:?}")] {
        works(Setup::new().http("up", &url, &format!("tls = {{ ca_file = {ca:?}, {keys} }}")));
    }
    assert!(web.told().iter().all(|line| line["subject"] == "gateway"), "{:?}", web.told());
}

/// What `openssl req -x509` makes, and many servers use: authority and server in one.
#[test]
fn a_certificate_that_vouches_for_itself() {
    for is_authority in [true, false] {
        let certificates = Certificates::make();
        let key = rcgen::KeyPair::generate().unwrap();
        let signed = |host: &str| {
            let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, host);
            if is_authority {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }
            params.self_signed(&key).unwrap().pem()
        };
        std::fs::write(certificates.path("server.key"), key.serialize_pem()).unwrap();
        for (host, works_with_it) in [("127.0.0.1", true), ("10.1.2.3", false)] {
            std::fs::write(certificates.path("server.pem"), signed(host)).unwrap();
            let (web, url) = certificates.server(false);
            let with = |file: &str| {
                Setup::new().http("up", &url, &format!("tls = {{ ca_file = {:?} }}", certificates.path(file)))
            };
            if works_with_it {
                works(with("server.pem"));
                assert!(web.told().iter().all(|line| line["http"] == "2.0"), "{:?}", web.told());
            }
            // Not for another name, and not for who names another authority.
            let seen = web.told().len();
            for setup in [with("ca.pem"), with("server.pem")].into_iter().take(2 - usize::from(works_with_it))
            {
                Gateway::start(setup).await_log("invalid peer certificate", 1);
            }
            assert_eq!(web.told().len(), seen, "{host}");
        }
    }
}

#[test]
fn a_redirect_that_loses_https_is_named_with_it() {
    let certificates = Certificates::make();
    let (web, url) = certificates.server(false);
    let url = url.replace("/mcp", "/elsewhere");
    let keys = format!("tls = {{ ca_file = {:?} }}", certificates.path("ca.pem"));
    let gateway = Gateway::start(Setup::new().http("up", &url, &keys));
    gateway.await_log(&format!("it points to {url}/; if that is the server, write it as `url`"), 1);
    assert!(web.told().is_empty());
}

#[test]
fn certificates_that_cannot_be_used_are_mistakes_in_the_file() {
    let certificates = Certificates::make();
    let path = |name: &str| certificates.path(name);
    std::fs::write(path("nothing.pem"), "nothing\n").unwrap();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(path("encrypted.key"), encrypted).unwrap();
    std::fs::set_permissions(path("encrypted.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for (keys, at, said) in [
        (format!("ca_file = {:?}", path("none.pem")), "tls.ca_file", "cannot read"),
        (format!("ca_file = {:?}", path("nothing.pem")), "tls.ca_file", "holds no certificate"),
        (format!("key_file = {:?}", path("gateway.key")), "tls.key_file", "a key without its certificate"),
        (format!("cert_file = {:?}", path("gateway.pem")), "tls.cert_file", "no private key"),
        (
            format!("cert_file = {:?}, key_file = {:?}", path("gateway.pem"), path("server.key")),
            "tls.key_file",
            "cannot be used with this key",
        ),
        (
            format!("cert_file = {:?}, key_file = {:?}", path("gateway.pem"), path("encrypted.key")),
            "tls.key_file",
            "is encrypted",
        ),
        ("cert = \"a\"".to_owned(), "tls.cert", "cert_file"),
    ] {
        let setup = Setup::new().http("up", "https://mcp.example.org/mcp", &format!("tls = {{ {keys} }}"));
        let (code, text) = setup.refused(&[]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(at) && text.contains(said), "{keys}: {text}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
}
