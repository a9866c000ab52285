//! Sessions that a server ends, forgets or never had, and what becomes of the calls that meet it.

use serde_json::json;

use super::super::web::{Foreign, Web, port};
use super::{gateway, text};
use crate::support::{Gateway, Setup, eventually};

/// A tool call that says `forget` has the server forget all sessions; the rest is the default.
const FORGETFUL: &str = r#"
def call(h, m):
    if m["params"]["arguments"].get("forget"):
        sessions.clear()
    h.result(m, {"content": [{"type": "text", "text": "ok"}]})
"#;

fn forgetful(refusal: &str) -> Web {
    Web::start(&format!("{FORGETFUL}\ndef unknown(h, m):\n    {refusal}\n"))
}

/// One call makes the server forget, and the next ones are answered as if nothing were.
fn the_next_call_is_answered(web: &Web) {
    let mut gateway = gateway(&web.url(), "");
    assert_eq!(text(&gateway.call("echo", json!({"forget": true}))), "ok");
    for _ in 0..3 {
        assert_eq!(text(&gateway.call("echo", json!({}))), "ok", "{}", gateway.log());
    }
    assert_eq!(web.count("initialize"), 2, "{:?}", web.told());
    assert_eq!(web.count("tools/call"), 5, "the one that was not looked at was sent twice");
    gateway.end();
    web.await_request("the end of the second session", |line| line["verb"] == "DELETE");
}

#[test]
fn call_lost_with_the_session() {
    the_next_call_is_answered(&forgetful(r#"h.error(404, "Session not found")"#));
}

#[test]
fn lost_session_is_400() {
    the_next_call_is_answered(&forgetful(r#"h.error(400, "Bad Request: No valid session ID provided")"#));
}

#[test]
fn a_lost_session_in_other_words() {
    for refusal in [
        r#"h.error(400, "Bad Request: Server not initialized")"#,
        r#"h.error(401, "Unauthorized: Session not found")"#,
        r#"h.reply(400, b"Invalid or missing session ID")"#,
        r#"h.reply(404, b"<html>no such thing</html>", Content_Type="text/html")"#,
        r#"h.error(410, "gone")"#,
        r#"h.error(404, "Session not found", m.get("id"), -32001)"#,
        r#"h.reply(400, b'event: message\ndata: {"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}\n\n', Content_Type="text/event-stream")"#,
    ] {
        the_next_call_is_answered(&forgetful(refusal));
    }
}

#[test]
fn a_400_that_says_nothing_of_the_session_is_asked_about() {
    // The call that meets it is not sent again: it may have been looked at. The next one is answered.
    let web = forgetful(r#"h.error(400, "bad request")"#);
    let mut gateway = gateway(&web.url(), "circuit_breaker_threshold = 0");
    gateway.call("echo", json!({"forget": true}));
    let refused = gateway.call("echo", json!({}));
    assert_eq!(refused["error"]["data"]["status"], 400, "{refused}");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    assert_eq!(web.count("tools/call"), 3);
}

#[test]
fn a_5xx_that_speaks_of_the_session_is_asked_about() {
    // Such words may also be about what a tool did, so the call is not sent again.
    let web = forgetful(r#"h.error(503, "Unknown session")"#);
    let mut gateway = gateway(&web.url(), "circuit_breaker_threshold = 0");
    gateway.call("echo", json!({"forget": true}));
    assert_eq!(gateway.call("echo", json!({}))["error"]["data"]["status"], 503);
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    assert_eq!((web.count("tools/call"), web.count("initialize")), (3, 2));
}

#[test]
fn an_empty_session_id_is_none() {
    let web = Web::start(
        "def initialize(h, m):\n    sessions.add(None)\n    h.result(m, {'protocolVersion': '2025-06-18', 'capabilities': {}, \
         'serverInfo': {'name': 's', 'version': '1'}}, Mcp_Session_Id='')",
    );
    let mut gateway = gateway(&web.url(), "");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    assert!(web.told().iter().all(|line| line["session"].is_null()), "{:?}", web.told());
}

#[test]
fn connections_of_ones_own_end_their_sessions_and_find_new_ones() {
    let web = Web::start(FORGETFUL);
    let setup = Setup::new().http("up", &web.url(), "idle_timeout_secs = 1");
    let mut gateway = Gateway::spawn(setup);
    gateway.hello("2025-11-25", &json!({"roots": {}}));
    gateway.await_tool("echo");
    for _ in 0..2 {
        assert_eq!(text(&gateway.call("echo", json!({"forget": true}))), "ok");
        assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    }
    let opened = web.count("initialize");
    gateway.end();
    eventually("the end of what was open", || {
        (web.told().iter().filter(|line| line["verb"] == "DELETE").count() >= 1).then_some(())
    });
    assert!(opened >= 3, "{opened}");
}

#[test]
fn a_400_about_the_arguments_leaves_the_session_alone() {
    let web = Web::start("def call(h, m):\n    h.error(400, 'limit must be at most 50')");
    let mut gateway = gateway(&web.url(), "circuit_breaker_threshold = 0");
    for _ in 0..4 {
        let refused = gateway.call("echo", json!({}));
        assert!(refused["error"]["message"].as_str().unwrap().contains("at most 50"), "{refused}");
    }
    assert_eq!((web.count("initialize"), web.count("tools/call")), (1, 4), "{:?}", web.told());
    // It is asked about at most once in a second.
    assert!((1..4).contains(&web.count("ping")), "{:?}", web.told());
}

#[test]
fn calls_under_way_outlive_the_session_and_are_never_sent_twice() {
    let web = Web::start(
        r#"
go = threading.Event()

def call(h, m):
    arguments = m["params"]["arguments"]
    if arguments.get("slow"):
        go.wait(30)
    elif arguments.get("go"):
        go.set()
    elif arguments.get("forget"):
        sessions.clear()
    h.result(m, {"content": [{"type": "text", "text": "ok"}]})
"#,
    );
    let mut gateway = gateway(&web.url(), "");
    let slow = gateway.begin("echo", json!({"slow": true}));
    web.await_request("the slow call", |line| line["message"]["params"]["arguments"]["slow"] == true);
    gateway.call("echo", json!({"forget": true}));
    let many: Vec<u64> = (0..20).map(|number| gateway.begin("echo", json!({"number": number}))).collect();
    for id in many {
        assert_eq!(text(&gateway.answer(id)), "ok");
    }
    gateway.call("echo", json!({"go": true}));
    assert_eq!(text(&gateway.answer(slow)), "ok");
    assert_eq!(web.count("initialize"), 2, "twenty calls open one session");
    let slow =
        web.told().iter().filter(|line| line["message"]["params"]["arguments"]["slow"] == true).count();
    assert_eq!(slow, 1);
}

#[test]
fn a_server_that_forgets_every_session_at_once_is_not_asked_without_end() {
    let web = Web::start(
        r#"
def call(h, m):
    sessions.clear()
    h.error(404, "Session not found")
"#,
    );
    let mut gateway = gateway(&web.url(), "circuit_breaker_threshold = 0");
    let failed = gateway.call("echo", json!({}));
    assert_eq!(failed["error"]["data"]["reason"], "backend_unreachable", "{failed}");
    assert_eq!(web.count("tools/call"), 2, "{:?}", web.told());
    gateway.await_log("forgets a session as soon as it has given it out", 1);
}

#[test]
fn what_the_server_offers_in_the_next_session_is_read_again() {
    let web = Web::start(&format!(
        r#"{FORGETFUL}
def tools():
    names = ["echo"] if len(seen) < 2 else ["echo", "new"]
    return [{{"name": name, "inputSchema": {{"type": "object"}}}} for name in names]

seen = []
first = initialize

def initialize(h, m):
    seen.append(1)
    first(h, m)
"#
    ));
    let mut gateway = gateway(&web.url(), "");
    gateway.call("echo", json!({"forget": true}));
    gateway.call("echo", json!({}));
    gateway.await_tool("new");
}

#[test]
fn what_belongs_to_the_session_is_said_again_in_the_next() {
    let web = Web::start(&format!(
        r#"{FORGETFUL}
plain = post

def initialize(h, m):
    sessions.add(new := uuid.uuid4().hex)
    abilities = {{"tools": {{}}, "logging": {{}}, "resources": {{"subscribe": True}}}}
    value = {{"protocolVersion": "2025-06-18", "capabilities": abilities, "serverInfo": {{"name": "web", "version": "1"}}}}
    h.result(m, value, Mcp_Session_Id=new)

def post(h, m):
    if h.session not in sessions or m.get("method") not in ("resources/list", "resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
        plain(h, m)
    elif m["method"] == "resources/list":
        h.result(m, {{"resources": [{{"uri": "a://1", "name": "one"}}, {{"uri": "a://2", "name": "two"}}]}})
    else:
        h.result(m, {{}})
"#
    ));
    let mut gateway = gateway(&web.url(), "");
    for (method, params) in [
        ("resources/subscribe", json!({"uri": "a://1"})),
        ("resources/subscribe", json!({"uri": "a://2"})),
        ("resources/unsubscribe", json!({"uri": "a://2"})),
        ("logging/setLevel", json!({"level": "warning"})),
    ] {
        assert!(gateway.request(method, &params)["error"].is_null(), "{method}");
    }
    gateway.call("echo", json!({"forget": true}));
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
    let second =
        web.told().into_iter().rfind(|line| line["message"]["method"] == "tools/call").unwrap()["session"]
            .clone();
    let said = |method: &str, key: &str| {
        let (method, second) = (method.to_owned(), second.clone());
        let line = web.await_request("what was said before", move |line| {
            line["session"] == second && line["message"]["method"] == method
        });
        line["message"]["params"][key].clone()
    };
    assert_eq!(said("resources/subscribe", "uri"), "a://1");
    assert_eq!(said("logging/setLevel", "level"), "warning");
    web.await_request("the lists of the next session", |line| {
        line["session"] == second && line["message"]["method"] == "resources/list"
    });
    let told = web.told();
    let again =
        told.iter().filter(|line| line["session"] == second && line["message"]["params"]["uri"] == "a://2");
    assert_eq!(again.count(), 0);
}

#[test]
fn a_server_without_a_get_route_keeps_its_session() {
    // 404 is what frameworks answer where there is no route; it is no word about the session.
    for status in [404, 400] {
        let web = Web::start(&format!("def get(h):\n    h.reply({status})"));
        let mut gateway = gateway(&web.url(), "");
        web.await_request("a ping", |line| line["message"]["method"] == "ping");
        assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
        assert_eq!(web.count("initialize"), 1, "{:?}", web.told());
        assert_eq!(web.told().iter().filter(|line| line["verb"] == "GET").count(), 1);
    }
}

#[test]
fn the_standing_stream_begins_anew_in_the_next_session() {
    let web = Web::start(&format!(
        r#"{FORGETFUL}
def get(h):
    if h.session not in sessions:
        return h.error(404, "Session not found")
    h.stream()
    while h.session in sessions:
        time.sleep(0.02)
"#
    ));
    let mut gateway = gateway(&web.url(), "");
    web.await_request("a stream", |line| line["verb"] == "GET");
    gateway.call("echo", json!({"forget": true}));
    eventually("a stream in the second session", || {
        let told = web.told();
        let mut sessions: Vec<_> = told
            .iter()
            .filter(|line| line["verb"] == "GET")
            .map(|line| line["session"].to_string())
            .collect();
        sessions.dedup();
        (sessions.len() == 2 && web.count("initialize") == 2).then_some(())
    });
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
}

#[test]
fn every_session_is_deleted_when_the_gateway_leaves() {
    // The second server gives a session with every first answer, that to the gateway's first question included.
    for code in [
        "",
        "plain = post\n\ndef post(h, m):\n    if m['method'] == 'server/discover':\n        \
         sessions.add('stray')\n        h.reply(200, {'jsonrpc': '2.0', 'id': m['id'], 'error': {'code': -32601, 'message': 'no'}}, Mcp_Session_Id='stray')\n    \
         else:\n        plain(h, m)",
        "",
    ] {
        let web = Web::start(code);
        let mut gateway = gateway(&web.url(), "");
        // A connection of one's own has a session of its own.
        gateway.call("echo", json!({}));
        gateway.end();
        eventually("the end of all sessions", || {
            let told = web.told();
            let opened = 1 + usize::from(!code.is_empty());
            let deleted = told.iter().filter(|line| line["verb"] == "DELETE").count();
            (deleted == opened).then_some(())
        });
    }
}

#[test]
fn a_session_whose_handshake_failed_is_deleted_too() {
    let web = Web::start(
        r#"
def initialize(h, m):
    sessions.add("half")
    h.result(m, {"protocolVersion": "1999-01-01", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}, Mcp_Session_Id="half")
"#,
    );
    let _gateway = Gateway::start(Setup::new().http("up", &web.url(), ""));
    web.await_request("its end", |line| line["verb"] == "DELETE" && line["session"] == "half");
}

/// The reference server of the TypeScript SDK and a server of the Python SDK, each started anew at the same address: what
/// they say of a session they do not know is their own.
#[test]
fn servers_of_the_official_sdks_that_were_deployed_anew() {
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
server.run(transport="streamable-http", host="127.0.0.1", port=int(os.environ["PORT"]))
"#,
    )
    .unwrap();
    for python in [false, true] {
        let port = port();
        let start = || {
            if python { Foreign::python(&file, port) } else { Foreign::everything("streamableHttp", port) }
        };
        let mut server = start();
        let mut gateway = gateway(&server.at("/mcp"), "era = \"handshake\"");
        let before = gateway.call("echo", json!({"message": "before"}));
        assert!(text(&before).contains("before"));
        server.kill();
        let _server = start();
        let answer = gateway.call("echo", json!({"message": "after"}));
        assert!(text(&answer).contains("after"), "{}", gateway.log());
        gateway.end();
    }
}
