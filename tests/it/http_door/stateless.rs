//! The stateless era over HTTP: what a request has to say, in its headers and again in its body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::client::{Answer, Client, Door, NEWEST, STATELESS, names, request, tool};
use super::raw::{Raw, post};
use crate::support::{Setup, code, eventually, fixture, reason};

const MISMATCH: (u16, i64) = (400, -32020);

/// A backend of both eras with a tool that wants its argument in a header, too.
fn conformance() -> Door {
    let program = fixture().with_file_name("conformance-backend");
    assert!(program.exists(), "{} is missing: build the workspace", program.display());
    let backend = format!(
        "[[backends]]\nname = \"conf\"\ntype = \"stdio\"\ncommand = {:?}\nargs = [\"--stdio\"]",
        program.to_str().unwrap()
    );
    let door = Door::open(Setup::new().more(&backend), "");
    door.gateway.await_log("backend is ready backend=conf ", 1);
    door
}

/// A correct call of `echo`.
fn call(client: &Client) -> (Client, Value) {
    client.modern("tools/call", &tool("echo", json!({"text": "hello"})))
}

fn echoed(answer: &Answer) -> bool {
    answer.status == 200 && answer.value()["result"]["structuredContent"]["name"] == "echo"
}

#[test]
fn correct_requests_are_served_without_a_session() {
    let door = Door::echo();
    let ann = door.client("ann");
    let found = ann.ask("server/discover", &json!({}));
    assert_eq!(found.status, 200, "{found:?}");
    let result = &found.value()["result"];
    for revision in [STATELESS, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        assert!(result["supportedVersions"].as_array().unwrap().contains(&json!(revision)), "{result}");
    }
    assert!(result["capabilities"]["tools"].is_object(), "{result}");
    let list = ann.ask("tools/list", &json!({}));
    assert!(names(&list.value()).contains(&"echo".to_owned()));
    for answer in [&found, &list] {
        let result = &answer.value()["result"];
        assert_eq!(result["resultType"], "complete", "{result}");
        assert!(result["ttlMs"].as_u64().is_some(), "{result}");
        // What is seen depends on who asks.
        assert_eq!(result["cacheScope"], "private", "{result}");
        assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string(), "{result}");
    }
    let (client, body) = call(&ann);
    let answer = client.post(&body);
    assert!(echoed(&answer), "{answer:?}");
    assert_eq!(answer.value()["id"], body["id"]);
    assert_eq!(answer.value()["result"]["resultType"], "complete");
    for answer in [found, list, answer] {
        assert!(answer.header("mcp-session-id").is_none(), "{answer:?}");
    }
    assert_eq!(door.sessions(), 0);
    // An id of a session means nothing here, and is not looked at.
    assert!(echoed(&client.with("mcp-session-id", "AAAAAAAAAAAAAAAAAAAAAA").post(&body)));
}

#[test]
fn a_header_that_does_not_say_what_the_body_says_is_refused() {
    let door = Door::echo();
    let ann = door.client("ann");
    let session = ann.hello(NEWEST);
    let (client, body) = call(&ann);
    assert!(echoed(&client.post(&body)));
    for (name, wrong) in [
        ("mcp-method", "tools/list"),
        ("mcp-method", "TOOLS/CALL"),
        ("mcp-method", ""),
        ("mcp-name", "fail"),
        ("mcp-name", "Echo"),
        ("mcp-name", ""),
        ("mcp-name", "=?base64?ZmFpbA==?="),
        ("mcp-name", "=?base64?not base64?="),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-protocol-version", "1999-01-01"),
        ("mcp-protocol-version", ""),
    ] {
        let answer = client.with(name, wrong).post(&body);
        assert_eq!(answer.refusal(), MISMATCH, "{name}: {wrong:?}: {answer:?}");
        assert_eq!(answer.value()["id"], body["id"], "{name}: {wrong:?}");
    }
    for name in ["mcp-method", "mcp-name", "mcp-protocol-version"] {
        let answer = client.without(name).post(&body);
        assert_eq!(answer.refusal(), MISMATCH, "without {name}: {answer:?}");
        let answer = client.twice(name, client.header(name)).post(&body);
        assert_eq!(answer.status, 400, "{name} twice: {answer:?}");
    }
    // A name where the body has none.
    let (client, body) = ann.modern("tools/call", &json!({"arguments": {}}));
    assert_eq!(client.with("mcp-name", "echo").post(&body).refusal(), MISMATCH);
    assert_eq!(session.structured("calls")["echo"], 1, "none of it reached the backend");
}

#[test]
fn a_header_may_be_spelled_in_every_allowed_way() {
    let door = Door::echo();
    let (client, body) = call(&door.client("ann"));
    let encoded = format!("=?base64?{}?=", STANDARD.encode("echo"));
    assert!(echoed(&client.with("mcp-name", &encoded).post(&body)));
    let spelled = client.without("mcp-name").with("MCP-NAME", " \techo \t");
    // Byte by byte, because a library trims.
    let text = post(&spelled.with("connection", "close"), &body.to_string());
    let answer = Raw::sent(&door.address, text.as_bytes()).ending();
    assert_eq!(answer.status(), 200, "{answer:?}");
    // A name that fits no header plainly has to come encoded.
    let name = "écho";
    let (client, body) = door.client("ann").modern("tools/call", &tool(name, json!({})));
    let encoded = client.with("mcp-name", &format!("=?base64?{}?=", STANDARD.encode(name)));
    assert_eq!(code(&encoded.post(&body).value()), -32602, "unknown, but not a mismatch");
}

/// 2026-07-28, "Transports": the headers are on every POST.
#[test]
fn the_headers_of_a_notification_are_compared_too() {
    let door = Door::echo();
    let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    let modern = door.client("ann").with("mcp-protocol-version", STATELESS);
    let right = modern.with("mcp-method", "notifications/cancelled").post(&note);
    assert_eq!((right.status, &*right.text), (202, ""));
    assert_eq!(modern.with("mcp-method", "tools/call").post(&note).status, 400);
    assert_eq!(modern.post(&note).status, 400, "without the header");
}

#[test]
fn an_argument_that_a_tool_wants_in_a_header_must_be_there() {
    let door = conformance();
    let ann = door.client("ann");
    let list = ann.ask("tools/list", &json!({})).value();
    let found = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tool| tool["inputSchema"]["properties"]["value"]["x-mcp-header"] == "Value");
    let name = found.unwrap_or_else(|| panic!("{list}"))["name"].as_str().unwrap();
    let (client, body) = ann.modern("tools/call", &tool(name, json!({"value": "eu"})));
    let right = client.with("mcp-param-value", "eu").post(&body);
    assert!(right.status == 200 && right.value()["result"].is_object(), "{right:?}");
    assert_eq!(client.post(&body).refusal(), MISMATCH, "missing");
    assert_eq!(client.with("mcp-param-value", "us").post(&body).refusal(), MISMATCH, "another");
    let twice = client.with("mcp-param-value", "eu").twice("mcp-param-value", "us");
    assert_eq!(twice.post(&body).status, 400);
    let (client, body) = ann.modern("tools/call", &tool(name, json!({})));
    assert_eq!(client.with("mcp-param-value", "eu").post(&body).refusal(), MISMATCH, "not in the body");
}

#[test]
fn a_request_must_say_its_revision_and_its_capabilities() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    for key in ["protocolVersion", "clientCapabilities"] {
        for (method, params) in [
            ("tools/call", tool("echo", json!({}))),
            ("tools/list", json!({})),
            ("server/discover", json!({})),
        ] {
            let (client, mut body) = door.client("ann").modern(method, &params);
            let name = format!("io.modelcontextprotocol/{key}");
            body["params"]["_meta"].as_object_mut().unwrap().remove(&name);
            let answer = client.post(&body);
            assert_eq!(answer.refusal(), (400, -32602), "{method} without {key}: {answer:?}");
            assert_eq!(answer.value()["id"], body["id"]);
            body["params"]["_meta"][&name] = json!(["nonsense"]);
            assert_eq!(client.post(&body).refusal(), (400, -32602), "{method} with nonsense as {key}");
            body["params"].as_object_mut().unwrap().remove("_meta");
            assert_eq!(client.post(&body).refusal(), (400, -32602), "{method} without _meta");
        }
    }
    assert!(session.structured("calls")["echo"].is_null(), "nothing reached the backend");
}

#[test]
fn a_revision_that_is_not_spoken_is_answered_with_those_that_are() {
    let door = Door::echo();
    for version in ["1999-01-01", "2099-12-31", "DRAFT-2027-v1"] {
        let (client, mut body) = call(&door.client("ann"));
        body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = version.into();
        let answer = client.with("mcp-protocol-version", version).post(&body);
        assert_eq!(answer.refusal(), (400, -32022), "{answer:?}");
        let data = &answer.value()["error"]["data"];
        assert_eq!(data["requested"], version, "{data}");
        assert!(data["supported"].as_array().unwrap().contains(&json!(STATELESS)), "{data}");
    }
}

#[test]
fn a_method_that_is_not_known_is_not_found() {
    let door = Door::echo();
    let ann = door.client("ann");
    for method in [
        "made/up",
        "tools/calls",
        // Removed in this revision.
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/list",
    ] {
        let answer = ann.ask(method, &json!({}));
        assert_eq!(answer.refusal(), (404, -32601), "{method:?}: {answer:?}");
    }
    // In a session the status says nothing of it.
    let answer = ann.hello(NEWEST).request("made/up", &json!({}));
    assert_eq!(answer.refusal(), (200, -32601));
    let unknown = ann.ask("tools/call", &tool("made_up", json!({})));
    assert_eq!(code(&unknown.value()), -32602, "a tool is no method: {unknown:?}");
}

#[test]
fn closing_the_connection_cancels_the_request_at_the_backend() {
    let door = Door::echo();
    let ann = door.client("ann");
    let session = ann.hello(NEWEST);
    let (client, body) = ann.modern("tools/call", &tool("slow", json!({"ms": 60_000})));
    let lost = Raw::sent(&door.address, post(&client, &body.to_string()).as_bytes());
    let mut kept = Raw::sent(&door.address, post(&client, &body.to_string()).as_bytes());
    eventually("the calls", || (session.structured("calls")["slow"] == 2).then_some(()));
    drop(lost);
    eventually("the cancellation", || {
        (session.structured("cancelled")["requestIds"].as_array()?.len() == 1).then_some(())
    });
    let row = door.gateway.await_audit("the cancelled call", |rows| {
        rows.iter().find(|row| row["tool"] == "slow" && row["status"] == "cancelled").cloned()
    });
    assert_eq!(row["subject"], "ann", "{row}");
    assert!(kept.silent(), "the other's request, of the same id, goes on");
    assert_eq!(session.structured("cancelled")["requestIds"].as_array().unwrap().len(), 1);
    // A connection that is left at once is left too.
    drop(kept);
    eventually("the other cancellation", || {
        (session.structured("cancelled")["requestIds"].as_array()?.len() == 2).then_some(())
    });
}

#[test]
fn a_stream_that_is_closed_cancels_as_well() {
    let door = conformance();
    let session = door.client("ann").hello(NEWEST);
    let mut params = tool("test_tool_with_progress", json!({}));
    params["_meta"] = json!({"progressToken": "p"});
    let (client, body) = door.client("ann").modern("tools/call", &params);
    let mut stream = client.follow(&body);
    assert_eq!(stream.next().unwrap()["params"]["progressToken"], "p");
    drop(stream);
    let row = door.gateway.await_audit("the call", |rows| {
        let mut ended = rows.iter().filter(|row| row["status"] != "pending");
        ended.find(|row| row["tool"] == "test_tool_with_progress").cloned()
    });
    assert_eq!(row["status"], "cancelled", "{row}");
    assert!(!session.tools().is_empty());
}

#[test]
fn a_refusal_has_the_code_of_its_era_and_the_same_reason() {
    let roles = "[rbac.roles.admin]\npermissions = [\"*\"]\ndenied_tools = [\"crash\"]";
    let setup = Setup::echo().roles(roles).rate_limits("default_rpm = 1000000\nper_tool = { whoami = 0 }");
    let mut door = Door::open(setup, "");
    door.gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"hang\"]"));
    let ann = door.client("ann");
    let session = ann.hello(NEWEST);
    eventually("the kill switch", || (!session.tools().contains(&"hang".to_owned())).then_some(()));
    for (name, legacy, why) in [
        ("crash", -32003, "permission_denied"),
        ("whoami", -32004, "rate_limited"),
        ("hang", -32005, "killed"),
    ] {
        let refused = session.call(name, json!({}));
        assert_eq!((code(&refused), reason(&refused)), (legacy, why), "{refused}");
        let answer = ann.ask("tools/call", &tool(name, json!({})));
        let refused = answer.value();
        assert_eq!(reason(&refused), why, "{refused}");
        // JSON-RPC reserves these, and the revision forbids a server codes of its own among them.
        assert!(!(-32_768..=-32_000).contains(&code(&refused)), "{refused}");
    }
    let list = ann.ask("tools/list", &json!({})).value();
    assert!(!names(&list).iter().any(|name| name == "crash" || name == "hang"), "{list}");
    // What is the protocol's own has the same code in both.
    let wrong = tool("slow", json!({"ms": "not a number"}));
    assert_eq!(code(&session.request("tools/call", &wrong).value()), -32602);
    assert_eq!(code(&ann.ask("tools/call", &wrong).value()), -32602);
}

#[test]
fn what_is_no_message_is_refused_and_harms_nobody() {
    let door = Door::echo();
    let ann = door.client("ann");
    let session = ann.hello(NEWEST);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let modern = ann.modern("tools/list", &json!({})).0;
    for client in [&session, &modern] {
        for (text, expected) in [
            ("", -32700),
            ("{", -32700),
            ("nonsense", -32700),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"", -32700),
            ("{}", -32600),
            ("7", -32600),
            ("null", -32600),
            ("{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"tools/list\"}", -32600),
            ("{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"tools/list\"}", -32600),
        ] {
            assert_eq!(client.post_text(text.to_owned()).refusal(), (400, expected), "{text}");
        }
        let answer = client.post_text(deep.clone());
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    let answer = request("tools/list", &json!({}));
    assert_eq!(session.post(&answer).status, 200);
}
