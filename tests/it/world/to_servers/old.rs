//! Servers that speak HTTP as revision 2024-11-05 did.

use serde_json::json;

use super::super::web::{Foreign, Web, port};
use super::{gateway, text};
use crate::support::{Gateway, Setup, eventually};

/// The server of 2024-11-05: what is posted to `/messages` is answered on the stream. `endpoint()` says where to post.
const OLD: &str = r#"
import queue
streams = {}

def endpoint(name):
    return "/messages?session=" + name

def get(h):
    if h.path.partition("?")[0] != "/sse":
        return h.reply(404)
    streams[name := uuid.uuid4().hex] = mine = queue.Queue()
    h.stream()
    h.event(endpoint(name).encode(), "endpoint")
    while (data := mine.get()) is not None:
        h.event(data)

def taken(h):
    h.reply(202, b"Accepted")

def post(h, m):
    path, _, query = h.path.partition("?")
    if path != "/messages":
        return h.reply(405)
    mine = streams.get(query.removeprefix("session="))
    if mine is None:
        return h.reply(404, b"Could not find session")
    taken(h)
    if m.get("id") is None or m.get("method") is None:
        return
    old = answer(h, m)
    if old is not None:
        mine.put(json.dumps({"jsonrpc": "2.0", "id": m["id"], **old}).encode())

def answer(h, m):
    method = m["method"]
    if method == "initialize":
        return {"result": {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "old", "version": "1"}}}
    if method == "tools/list":
        return {"result": {"tools": tools()}}
    if method == "tools/call":
        if m["params"]["arguments"].get("hang_up"):
            for stream in streams.values():
                stream.put(None)
            streams.clear()
            return None
        return {"result": {"content": [{"type": "text", "text": "ok"}]}}
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": -32601, "message": "Method not found"}}
"#;

#[test]
fn server_of_2024_over_http() {
    let web = Web::start(OLD);
    let mut gateway = gateway(&web.at("/sse"), "headers = { X-Key = \"always\" }");
    let calls: Vec<u64> = (0..10).map(|number| gateway.begin("echo", json!({"number": number}))).collect();
    for id in calls {
        assert_eq!(text(&gateway.answer(id)), "ok");
    }
    let told = web.told();
    assert!(told.iter().all(|line| line["headers"]["x-key"] == "always"), "{told:?}");
    assert_eq!(told.iter().filter(|line| line["verb"] == "GET").count(), 1, "one stream: {told:?}");
    gateway.end();
}

#[test]
fn its_stream_ends_and_it_is_connected_again() {
    let web = Web::start(OLD);
    let mut gateway = gateway(&web.at("/sse"), "circuit_breaker_threshold = 0");
    let lost = gateway.call("echo", json!({"hang_up": true}));
    assert_eq!(lost["error"]["data"]["reason"], "backend_unreachable", "{lost}");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok", "{}", gateway.log());
    assert_eq!(web.count("tools/call"), 2, "what was under way is not sent again");
}

#[test]
fn its_endpoint_must_be_where_the_stream_is() {
    let elsewhere = Web::start("");
    let code =
        format!("{OLD}\ndef endpoint(name):\n    return {:?} + name", elsewhere.at("/messages?session="));
    let web = Web::start(&code);
    let setup = Setup::new().http("up", &web.at("/sse"), "headers = { X-Key = \"of the origin\" }");
    let gateway = Gateway::start(setup);
    gateway.await_log("nothing is sent there", 1);
    assert!(gateway.log().contains(&elsewhere.at("/messages ")), "{}", gateway.log());
    assert!(elsewhere.told().is_empty());
}

#[test]
fn an_endpoint_as_a_whole_url_or_relative_to_the_stream() {
    for endpoint in [
        "h.headers['Host'] and 'http://' + h.headers['Host'] + '/messages?session=' + name",
        "'messages?session=' + name",
        "'  /messages?session=' + name",
    ] {
        let code = OLD.replace("endpoint(name).encode()", &format!("({endpoint}).encode()"));
        let web = Web::start(&code);
        let mut gateway = gateway(&web.at("/sse"), "");
        assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    }
}

#[test]
fn one_behind_a_prefix_that_it_does_not_know_of() {
    let web = Web::start(&format!(
        r#"{OLD}
class Prefixed(Handler):
    def do_GET(self):
        self.told("GET")
        self.path = self.path.removeprefix("/tools/v1")
        get(self)

    def do_POST(self):
        if not self.path.startswith("/tools/v1/"):
            self.rfile.read(int(self.headers["Content-Length"]))
            return self.reply(404)
        self.path = self.path.removeprefix("/tools/v1")
        super().do_POST()

Handler = Prefixed
"#
    ));
    let mut gateway = gateway(&web.at("/tools/v1/sse"), "");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
}

#[test]
fn one_that_never_answers_a_post_at_its_stream() {
    // It is asked for its stream first, because of how its url ends.
    let code = OLD.replace("        return h.reply(405)", "        return time.sleep(60)");
    let web = Web::start(&code);
    let mut gateway = gateway(&web.at("/sse"), "");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    assert!(
        web.told().iter().all(|line| line["path"] != "/sse" || line["verb"] == "GET"),
        "{:?}",
        web.told()
    );
    // And one whose url ends so, and which is none.
    let web = Web::start("");
    let mut gateway = self::gateway(&web.at("/sse"), "");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
}

#[test]
fn one_at_any_path_is_found_after_its_refusal() {
    for refusal in ["h.reply(405)", "h.reply(404)", "h.error(400, 'no')", "h.reply(411)", "h.reply(415)"] {
        let code = OLD.replace("\"/sse\"", "\"/mcp\"").replace("h.reply(405)", refusal);
        let web = Web::start(&code);
        let mut gateway = gateway(&web.url(), "");
        assert_eq!(text(&gateway.call("echo", json!({}))), "ok", "{refusal}");
        assert_eq!(web.count("server/discover"), 1, "it is not asked again what it cannot know");
    }
}

#[test]
fn one_that_answers_in_both_ways_is_heard_once() {
    // Some answer in the exchange itself, with any success and any body; some take a message with 200 and a word.
    for taken in ["h.reply(200, b'ok')", "h.reply(204)", "h.reply(202, {'accepted': True})"] {
        let web = Web::start(&format!("{OLD}\ndef taken(h):\n    {taken}"));
        let mut gateway = gateway(&web.at("/sse"), "");
        assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    }
}

#[test]
fn what_it_asks_and_says_by_itself_is_heard() {
    let code = OLD.replace(
        "        return {\"result\": {\"content\"",
        "        streams[next(iter(streams))].put(b'{\"jsonrpc\":\"2.0\",\"id\":\"s-1\",\"method\":\"ping\"}')\n        \
         return {\"result\": {\"content\"",
    );
    let web = Web::start(&code);
    let mut gateway = gateway(&web.at("/sse"), "");
    gateway.call("echo", json!({}));
    let answer = web.await_request("the answer to its ping", |line| line["message"]["id"] == "s-1");
    assert_eq!(answer["message"]["result"], json!({}));
}

#[test]
fn a_server_that_is_neither_is_named_as_what_it_is() {
    let web = Web::start("def post(h, m):\n    h.reply(405)\n\ndef get(h):\n    h.reply(404)");
    let gateway = Gateway::start(Setup::new().http("up", &web.url(), ""));
    gateway.await_log("HTTP status 405", 1);
    gateway.await_log("nor is it a server of 2024-11-05: GET was answered with HTTP status 404", 1);
    // One that refuses the credentials is not asked in another way.
    let web = Web::start("def post(h, m):\n    h.reply(401)");
    let gateway = Gateway::start(Setup::new().http("up", &web.url(), ""));
    gateway.await_log("HTTP status 401", 1);
    assert!(web.told().iter().all(|line| line["verb"] == "POST"), "{:?}", web.told());
}

/// The reference server of the TypeScript SDK, and a server of the Python SDK, with the transport of 2024-11-05.
#[test]
fn servers_of_the_official_sdks_with_the_old_transport() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.py");
    std::fs::write(
        &file,
        r#"
import os
from mcp.server.mcpserver import MCPServer
server = MCPServer("python")
@server.tool()
def echo(message: str) -> str:
    return "Echo: " + message
server.run(transport="sse", host="127.0.0.1", port=int(os.environ["PORT"]))
"#,
    )
    .unwrap();
    for python in [false, true] {
        let port = port();
        let start = || if python { Foreign::python(&file, port) } else { Foreign::everything("sse", port) };
        let mut server = start();
        let mut gateway = gateway(&server.at("/sse"), "circuit_breaker_threshold = 0");
        assert!(text(&gateway.call("echo", json!({"message": "before"}))).contains("before"));
        server.kill();
        let _server = start();
        eventually("another connection", || {
            let answer = gateway.call("echo", json!({"message": "after"}));
            answer["result"]["content"][0]["text"].as_str()?.contains("after").then_some(())
        });
        gateway.end();
    }
}
