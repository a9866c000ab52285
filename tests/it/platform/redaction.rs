//! Personal data leaves by none of the ways on which a server says something: `config/examples/redact-pii.toml` with the real
//! binary, and a server that puts a canary's address into all of them.

use serde_json::{Value, json};

use super::cel::{example, with_server};
use crate::attacks::secrets::refusing;
use crate::support::{Gateway, Setup, reason};

const CANARIES: &str = r#"
def canary(where):
    return where + " canary@bird.example"
tools = [{"name": "echo", "title": canary("title"), "description": canary("list"), "inputSchema": {"type": "object", "properties": {"to": {"type": "string", "description": canary("schema")}}}},
         {"name": "canary@bird.example", "inputSchema": {"type": "object"}}]
asked = {}
def initialize(id, params):
    abilities = {"tools": {}, "resources": {}, "prompts": {}, "logging": {}}
    result(id, {"protocolVersion": "2025-06-18", "capabilities": abilities, "serverInfo": {"name": "birds", "version": "1"}, "instructions": canary("instructions")})
def call(id, params):
    how = params["arguments"].get("how")
    token = params.get("_meta", {}).get("progressToken")
    if how == "error":
        send({"jsonrpc": "2.0", "id": id, "error": {"code": -32050, "message": canary("error"), "data": {"who": canary("data")}}})
    elif how == "progress":
        send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "message": canary("progress")}})
        text(id, "went on")
    elif how == "ask":
        asked["id"] = id
        send({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": canary("question"), "requestedSchema": {"type": "object", "properties": {}}}})
    elif how == "failed":
        result(id, {"isError": True, "content": [{"type": "text", "text": canary("failed")}]})
    elif how == "key":
        text(id, "AKIAIOSFODNN7EXAMPLE")
    else:
        out = {"content": [{"type": "text", "text": canary("text")}, {"type": "resource", "resource": {"uri": "x://1", "text": canary("embedded")}}],
               "structuredContent": {"canary@bird.example": "\u0063anary@bird.example", "phone": "+49 30 901820", "card": 4111111111111111, "iban": "DE89 3704 0044 0532 0130 00", "ours": "team@example.com"}}
        result(id, out)
def other(message):
    id, method = message.get("id"), message.get("method")
    if method == "resources/list":
        result(id, {"resources": [{"uri": "x://1", "name": "one", "description": canary("resource")}]})
    elif method == "resources/templates/list":
        result(id, {"resourceTemplates": [{"uriTemplate": "x://{id}", "name": "t", "description": canary("template")}]})
    elif method == "prompts/list":
        result(id, {"prompts": [{"name": "p", "description": canary("prompt")}]})
    elif method == "resources/read":
        result(id, {"contents": [{"uri": "x://1", "text": canary("contents")}]})
    elif method == "prompts/get":
        result(id, {"messages": [{"role": "user", "content": {"type": "text", "text": canary("message")}}]})
    elif method == "logging/setLevel":
        result(id, {})
    elif "result" in message:
        text(asked["id"], "asked " + canary("after"))
    elif id is not None:
        error(id, -32601, "Method not found")
"#;

/// Fails if the canary can be read in a message, however it is spelled.
fn quiet(what: &str, message: &Value) {
    assert!(!message.to_string().contains("canary"), "{what}: {message}");
}

#[test]
fn no_canary_leaves_by_any_way_that_belongs_to_a_call() {
    let setup = Setup::new().scripted("birds", CANARIES, "");
    let mut gateway = Gateway::spawn(with_server(setup, "birds", &example("redact-pii.toml")));
    // Instructions come with the handshake.
    let hello = gateway.hello("2025-06-18", &json!({"elicitation": {}}));
    quiet("instructions", &hello);
    // Results, with what is embedded in them, keys and numbers.
    let answer = gateway.call("echo", json!({}));
    quiet("result", &answer);
    let told = &answer["result"]["structuredContent"];
    assert_eq!(told["[email]"], "[email]", "{answer}");
    assert_eq!(
        (&told["phone"], &told["card"], &told["iban"]),
        (&json!("[phone]"), &json!("[card]"), &json!("[iban]"))
    );
    assert_eq!(told["ours"], "team@example.com", "an exception of the file");
    // Errors: a result that says so, and JSON-RPC's own.
    for how in ["failed", "error"] {
        let answer = gateway.call("echo", json!({"how": how}));
        quiet(how, &answer);
        assert!(answer.to_string().contains("[email]"), "{answer}");
    }
    // Progress.
    let meta = json!({"name": "echo", "arguments": {"how": "progress"}, "_meta": {"progressToken": "t"}});
    let id = gateway.send("tools/call", &meta);
    let progress = gateway.heard("notifications/progress");
    quiet("progress", &progress);
    assert!(progress.to_string().contains("[email]"), "{progress}");
    quiet("progress", &gateway.answer(id));
    // A question; the answer finds its way back.
    let id = gateway.begin("echo", json!({"how": "ask"}));
    let question = gateway.heard("elicitation/create");
    quiet("question", &question);
    assert!(question.to_string().contains("[email]"), "{question}");
    gateway.send_raw(
        &json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}).to_string(),
    );
    let answer = gateway.answer(id);
    quiet("after the question", &answer);
    assert!(answer.to_string().contains("asked"), "{answer}");
    // Lists; the entry whose name is an address is in none.
    for method in ["tools/list", "resources/list", "resources/templates/list", "prompts/list"] {
        let list = gateway.request(method, &json!({}));
        quiet(method, &list);
        assert!(list.to_string().contains("[email]"), "{method}: {list}");
    }
    // Resources and prompts.
    quiet("resource", &gateway.request("resources/read", &json!({"uri": "x://1"})));
    quiet("prompt", &gateway.request("prompts/get", &json!({"name": "p"})));
    // A key refuses the whole.
    assert_eq!(reason(&gateway.call("echo", json!({"how": "key"}))), "personal_data");
    for message in gateway.rest() {
        quiet("anything else", &message.value);
    }
}

#[test]
fn no_canary_leaves_with_an_http_status() {
    let url = refusing(&[
        (422, r#"{"title":"t","detail":"ask canary@bird.example"}"#),
        (422, r#"{"detail":"at most 50"}"#),
    ]);
    let redact =
        "[[plugins]]\nname = \"redact-pii\"\nconfig = { backends = { \"*\" = { email = \"mask\" } } }\n";
    let keys = "circuit_breaker_threshold = 0\nera = \"handshake\"";
    let mut gateway = Gateway::start(Setup::new().http("up", &url, keys).more(redact));
    gateway.await_tool("echo");
    let answer = gateway.call("echo", json!({}));
    assert_eq!(reason(&answer), "backend_http_status", "{answer}");
    quiet("status", &answer);
    assert!(gateway.call("echo", json!({})).to_string().contains("at most 50"));
}
