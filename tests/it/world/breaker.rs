//! When a server counts as broken, and how long a call may take.

use serde_json::{Value, json};

use crate::http_door::client::{Door, NEWEST};
use crate::support::{Gateway, Setup, code, eventually, reason, said};

fn start(code: &str, more: &str) -> Gateway {
    let mut gateway = Gateway::start(Setup::new().scripted("srv", code, more));
    gateway.await_tool("fine");
    gateway
}

/// Tools that fail in their own ways, and one that is fine.
const FAILING: &str = r##"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("get", "odd", "huge", "hang", "cut", "fine")]
def call(id, params):
    name = params["name"]
    if name == "get": error(id, -32603, "there is no record 17")
    elif name == "odd": error(id, -31999, "no such project")
    elif name == "huge": text(id, "x" * (3 << 20))
    elif name == "cut": print('{"jsonrpc": "2.0", "id": %d, "result": {' % id, flush=True)
    elif name == "hang": pass
    else: text(id, "called fine")
"##;

#[test]
fn callers_mistake_opens_the_circuit() {
    let mut gateway = start(FAILING, "");
    for (tool, number, words) in
        [("get", -32603, "there is no record 17"), ("odd", -31999, "no such project")]
    {
        // Also more than 20, by which a share of failures would count.
        for _ in 0..25 {
            let answer = gateway.call(tool, json!({}));
            assert_eq!((code(&answer), &answer["error"]["message"]), (number, &json!(words)));
        }
    }
    assert_eq!(said(&gateway.call("fine", json!({}))), "called fine");
    gateway.end();
}

#[test]
fn what_one_caller_gets_wrong_is_nothing_to_another() {
    let door = Door::open(Setup::new().scripted("srv", FAILING, "circuit_breaker_threshold = 2"), "");
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    for _ in 0..6 {
        let answer = ann.call("get", json!({}));
        assert_eq!(code(&answer), -32603, "{answer}");
    }
    assert_eq!(said(&bob.call("fine", json!({}))), "called fine");
}

#[test]
fn errors_count_if_the_operator_says_so() {
    let keys = "circuit_breaker_threshold = 3\ncircuit_breaker_count_errors = true";
    let mut gateway = start(FAILING, keys);
    // What is wrong with the request is the caller's mistake in any case.
    for _ in 0..2 {
        assert_eq!(code(&gateway.call("get", json!({}))), -32603);
    }
    assert_eq!(said(&gateway.call("fine", json!({}))), "called fine");
    for tool in ["get", "odd", "get"] {
        assert!(gateway.call(tool, json!({}))["error"].is_object());
    }
    let refused = gateway.call("fine", json!({}));
    assert_eq!((code(&refused), reason(&refused)), (-32007, "circuit_open"));
    gateway.end();
}

#[test]
fn failures_of_the_way_open_the_circuit() {
    let mut gateway = start(FAILING, "circuit_breaker_threshold = 3");
    for _ in 0..3 {
        assert_eq!(reason(&gateway.call("cut", json!({}))), "backend_protocol_error");
    }
    assert_eq!(reason(&gateway.call("fine", json!({}))), "circuit_open");
    gateway.await_log("the circuit of the backend \"srv\" is open", 1);
    gateway.end();
}

#[test]
fn never_is_never() {
    let mut gateway = start(FAILING, "circuit_breaker_threshold = 0");
    for _ in 0..25 {
        assert_eq!(reason(&gateway.call("cut", json!({}))), "backend_protocol_error");
    }
    assert_eq!(said(&gateway.call("fine", json!({}))), "called fine");
    gateway.end();
}

#[test]
fn an_answer_that_is_too_long_is_one() {
    let setup = Setup::new().gateway("max_message_bytes = 1048576\nmax_result_bytes = 1048576");
    let mut gateway = Gateway::start(setup.scripted("srv", FAILING, "circuit_breaker_threshold = 2"));
    gateway.await_tool("fine");
    for _ in 0..4 {
        assert_eq!(reason(&gateway.call("huge", json!({}))), "backend_protocol_error");
    }
    assert_eq!(said(&gateway.call("fine", json!({}))), "called fine");
    gateway.end();
}

#[test]
fn a_call_that_hangs_while_others_are_answered_is_not_the_server() {
    let mut gateway = start(FAILING, "timeout_secs = 1\ncircuit_breaker_threshold = 2");
    for _ in 0..4 {
        let hangs = gateway.begin("hang", json!({}));
        let answer = eventually("its end", || {
            assert_eq!(said(&gateway.call("fine", json!({}))), "called fine");
            gateway.has_answer(hangs).then(|| gateway.answer(hangs))
        });
        assert_eq!(reason(&answer), "backend_timeout");
    }
    assert_eq!(said(&gateway.call("fine", json!({}))), "called fine");
    // One that answers nobody is.
    for _ in 0..2 {
        assert_eq!(reason(&gateway.call("hang", json!({}))), "backend_timeout");
    }
    assert_eq!(reason(&gateway.call("fine", json!({}))), "circuit_open");
    gateway.end();
}

/// A tool that works for some time and says how far it is.
const WORKING: &str = r##"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("work", "silent", "fine")]
def call(id, params):
    name, seconds = params["name"], params.get("arguments", {}).get("seconds", 0)
    token = params.get("_meta", {}).get("progressToken")
    for i in range(int(seconds * 4)):
        time.sleep(0.25)
        if name == "work":
            send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": i + 1}})
    text(id, "done" if name != "fine" else "called fine")
"##;

fn work(gateway: &mut Gateway, name: &str, seconds: f64) -> Value {
    let params = json!({"name": name, "arguments": {"seconds": seconds}, "_meta": {"progressToken": "p"}});
    gateway.request("tools/call", &params)
}

#[test]
fn progress_past_the_timeout() {
    let mut gateway = start(WORKING, "timeout_secs = 2");
    assert_eq!(said(&work(&mut gateway, "work", 5.0)), "done");
    assert_eq!(gateway.heard("notifications/progress")["params"]["progressToken"], "p");
    assert_eq!(reason(&work(&mut gateway, "silent", 5.0)), "backend_timeout", "silence is still cut off");
    gateway.end();
}

#[test]
fn progress_moves_the_deadline_up_to_a_bound() {
    let mut gateway = start(WORKING, "timeout_secs = 1\nmax_timeout_secs = 3\ncircuit_breaker_threshold = 1");
    let answer = work(&mut gateway, "work", 8.0);
    assert_eq!((code(&answer), reason(&answer)), (-32603, "backend_timeout"));
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("3 s") && message.contains("progress"), "{message}");
    // It was there all the time, so nothing is held against it.
    assert_ne!(
        gateway.call("fine", json!({})).get("error").map(|error| error["code"].clone()),
        Some(json!(-32007))
    );
    gateway.end();
}

#[test]
fn a_tool_has_a_time_of_its_own() {
    let keys =
        "timeout_secs = 1\nhealth_interval_secs = 1\n[backends.tools]\n\"sil*\" = { timeout_secs = 8 }";
    let mut gateway = start(WORKING, keys);
    // It does one thing at a time, so it answers no ping meanwhile; that is no reason to end it.
    assert_eq!(said(&work(&mut gateway, "silent", 4.0)), "done");
    assert!(!gateway.log().contains("is down"), "{}", gateway.log());
    gateway.end();
}

#[test]
fn while_a_person_thinks_no_time_runs_out() {
    let server = r##"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("ask", "fine")]
waiting = None
def call(id, params):
    global waiting
    if params["name"] == "fine":
        return text(id, "called fine")
    waiting = id
    send({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "sure?", "requestedSchema": {"type": "object", "properties": {}}}})
def other(message):
    if message.get("id") == "q":
        text(waiting, "answered " + message["result"]["action"])
    elif message.get("id") is not None:
        error(message["id"], -32601, "Method not found")
"##;
    let mut gateway = Gateway::spawn(Setup::new().scripted("srv", server, "timeout_secs = 1"));
    gateway.hello("2025-11-25", &json!({"elicitation": {}}));
    gateway.await_tool("fine");
    let asked = gateway.begin("ask", json!({}));
    let question = gateway.heard("elicitation/create");
    // Somebody thinks for longer than a call may take.
    let hung = std::time::Instant::now();
    eventually("the end of the thought", || {
        (hung.elapsed() > std::time::Duration::from_millis(2500)).then_some(())
    });
    assert!(!gateway.has_answer(asked), "{:?}", gateway.answer(asked));
    let id = question["id"].clone();
    gateway.send_raw(
        &json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": {}}}).to_string(),
    );
    assert_eq!(said(&gateway.answer(asked)), "answered accept");
    gateway.end();
}

#[test]
fn a_server_that_is_silent_about_a_ping_is_not_started_again() {
    let server = r##"
note("starts", "started")
tools = [{"name": "fine", "inputSchema": {"type": "object"}}]
def call(id, params):
    text(id, "called fine")
def hear(message, known=hear):
    if message.get("method") == "ping":
        return note("pings", "ping")
    known(message)
"##;
    let mut gateway = start(server, "health_interval_secs = 0.2\ntimeout_secs = 1");
    gateway.await_log("the server does not answer a ping, but it is alive", 1);
    assert_eq!(said(&gateway.call("fine", json!({}))), "called fine");
    let starts = std::fs::read_to_string(gateway.setup.path("starts")).unwrap();
    assert_eq!(starts.lines().count(), 1, "{}", gateway.log());
    gateway.end();
}

#[test]
fn a_server_that_knows_no_ping_is_there() {
    let server = r##"
tools = [{"name": "fine", "inputSchema": {"type": "object"}}]
def call(id, params):
    text(id, "called fine")
def hear(message, known=hear):
    if message.get("method") == "ping":
        note("pings", "ping")
        return error(message["id"], -32601, "Method not found")
    known(message)
"##;
    let mut gateway = start(server, "health_interval_secs = 0.2\ncircuit_breaker_threshold = 1");
    let pings = gateway.setup.path("pings");
    eventually("some pings", || (std::fs::read_to_string(&pings).ok()?.lines().count() > 5).then_some(()));
    assert_eq!(said(&gateway.call("fine", json!({}))), "called fine");
    assert!(!gateway.log().contains("is down"), "{}", gateway.log());
    gateway.end();
}
