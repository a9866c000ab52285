//! Answers that come compressed: undone within the limits, or named.

use serde_json::json;

use super::super::web::Web;
use super::{gateway, text};

/// Every answer to a call is compressed, asked for or not.
const SQUEEZED: &str = r#"
def squeeze(data):
    return gzip.compress(data)

def coding():
    return "gzip"

def call(h, m):
    arguments = m["params"]["arguments"]
    body = {"jsonrpc": "2.0", "id": m["id"], "result": {"content": [{"type": "text", "text": "x" * arguments.get("length", 3)}]}}
    body = json.dumps(body).encode()
    if arguments.get("stream"):
        h.stream(Content_Encoding="gzip")
        press = zlib.compressobj(wbits=31)
        first = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"first"}}\n\n'
        h.wfile.write(press.compress(first) + press.flush(zlib.Z_SYNC_FLUSH))
        h.wfile.flush()
        h.wfile.write(press.compress(b"event: message\ndata: " + body + b"\n\n") + press.flush())
    else:
        h.reply(200, squeeze(body), Content_Type="application/json", Content_Encoding=coding())
"#;

#[test]
fn compressed_answers_are_undone() {
    let deflate = "def squeeze(data):\n    return zlib.compress(data)\n\ndef coding():\n    return 'deflate'";
    // Some write into the header what is no compression.
    let none = "def squeeze(data):\n    return data\n\ndef coding():\n    return 'utf-8'";
    for other in ["", deflate, none] {
        let web = Web::start(&format!("{SQUEEZED}\n{other}"));
        let mut gateway = gateway(&web.url(), "");
        assert_eq!(text(&gateway.call("echo", json!({}))), "xxx", "{other}");
        assert_eq!(text(&gateway.call("echo", json!({"length": 100_000}))).len(), 100_000);
        if other.is_empty() {
            assert_eq!(text(&gateway.call("echo", json!({"stream": true}))), "xxx");
        }
    }
}

#[test]
fn a_bomb_ends_at_the_limit() {
    // 300 MB in 300 KB. The limit is for what comes out, and it is not gathered first.
    let web = Web::start(SQUEEZED);
    let setup = crate::support::Setup::new()
        .http("up", &web.url(), "circuit_breaker_threshold = 0")
        .gateway("max_result_bytes = 1000000");
    let mut gateway = crate::support::Gateway::start(setup);
    gateway.await_tool("echo");
    let before = gateway.peak_memory();
    for stream in [false, true] {
        let answer = gateway.call("echo", json!({"length": 300_000_000, "stream": stream}));
        assert_eq!(answer["error"]["data"]["reason"], "backend_protocol_error", "{answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains("limit"), "{said}");
    }
    let more = gateway.peak_memory() - before;
    assert!(more < 60_000, "{more} KiB more");
    assert_eq!(text(&gateway.call("echo", json!({}))), "xxx");
}

#[test]
fn a_compression_nobody_asked_for_is_named() {
    let web = Web::start(&format!("{SQUEEZED}\ndef coding():\n    return 'zstd'"));
    let mut gateway = gateway(&web.url(), "");
    let answer = gateway.call("echo", json!({}));
    assert_eq!(answer["error"]["data"]["reason"], "backend_protocol_error", "{answer}");
    gateway.end();
    let why = gateway.audit()[0]["error"].as_str().unwrap().to_owned();
    assert!(why.contains("compressed as \"zstd\""), "{why}");
}

#[test]
fn streams_are_not_asked_to_be_compressed() {
    // What compresses a stream may keep its events back. On this machine nothing is worth compressing.
    let web = Web::start("");
    let mut gateway = gateway(&web.url(), "");
    gateway.call("echo", json!({}));
    let told = web.told();
    assert!(told.iter().all(|line| line["headers"]["accept-encoding"] == "identity"), "{told:?}");
}
