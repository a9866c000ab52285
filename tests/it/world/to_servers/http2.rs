//! What HTTP/2 adds: connections that are given up while requests are under way, and bodies that come compressed.

use serde_json::json;

use super::super::web::Web;
use super::text;
use super::tls::Certificates;
use crate::support::{Gateway, Setup};

/// Every connection takes a few requests and is then given up in order; every answer is compressed in the way the call names.
const SERVER: &str = r#"
import fs from "node:fs";
import http2 from "node:http2";
import zlib from "node:zlib";
const [key, cert] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const squeeze = { br: zlib.brotliCompressSync, gzip: zlib.gzipSync, deflate: zlib.deflateSync };
const results = {
  initialize: () => ({ protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "node", version: "1" } }),
  "tools/list": () => ({ tools: [{ name: "echo", inputSchema: { type: "object" } }] }),
  "tools/call": ({ number }) => ({ content: [{ type: "text", text: "x".repeat(1000) + number }] }),
  ping: () => ({}),
};
let requests = 0;
const server = http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) });
server.on("stream", (stream, headers) => {
  if (headers[":method"] !== "POST") { stream.respond({ ":status": 405 }); return stream.end(); }
  let body = "";
  stream.on("data", (chunk) => (body += chunk));
  stream.on("error", () => {});
  stream.on("end", () => {
    const message = JSON.parse(body);
    say({ verb: "POST", message });
    if (message.id === undefined) { stream.respond({ ":status": 202 }); return stream.end(); }
    const params = message.params?.arguments ?? {};
    const result = results[message.method]?.(params);
    const answer = JSON.stringify({ jsonrpc: "2.0", id: message.id, ...(result ? { result } : { error: { code: -32601, message: "no" } }) });
    const coding = params.coding;
    stream.respond({ ":status": 200, "content-type": "application/json", ...(coding ? { "content-encoding": coding } : {}) });
    stream.end(coding ? squeeze[coding](answer) : answer);
    requests += 1;
    if (requests % 5 === 0) stream.session.close();
  });
});
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
"#;

fn server(certificates: &Certificates) -> (Web, Gateway) {
    let web = Web::node(SERVER, &[&certificates.path("server.key"), &certificates.path("server.pem")]);
    let keys = format!("tls = {{ ca_file = {:?} }}", certificates.path("ca.pem"));
    let mut gateway = Gateway::start(Setup::new().http("up", &web.url().replace("http:", "https:"), &keys));
    gateway.await_tool("echo");
    (web, gateway)
}

#[test]
fn connections_that_a_server_gives_up_lose_no_call() {
    let certificates = Certificates::make();
    let (web, mut gateway) = server(&certificates);
    for round in 0..5 {
        let calls: Vec<(usize, u64)> = (0..20)
            .map(|number| {
                (round * 20 + number, gateway.begin("echo", json!({"number": round * 20 + number})))
            })
            .collect();
        for (number, id) in calls {
            assert!(text(&gateway.answer(id)).ends_with(&format!("x{number}")), "{}", gateway.log());
        }
    }
    assert_eq!(web.count("tools/call"), 100, "no call was sent twice");
}

#[test]
fn bodies_that_come_compressed_are_undone() {
    let certificates = Certificates::make();
    let (_web, mut gateway) = server(&certificates);
    for coding in ["br", "gzip", "deflate"] {
        let answer = gateway.call("echo", json!({"number": 7, "coding": coding}));
        assert!(text(&answer).ends_with("x7"), "{coding}: {answer}");
    }
}
