//! Nothing of a client reaches a server but through the pipeline, or as one of the few things a client may say of its own
//! accord.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http_door::client::{Client, Door, NEWEST, STATELESS, request};
use crate::support::{Gateway, Setup, eventually};

/// A server that does what it is asked for, with or without an id, and writes down every message it hears.
const OPEN: &str = r#"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("danger", "ask", "fence")]
hear_any = hear
asking = None

def hear(message):
    note("heard.txt", json.dumps(message))
    hear_any(message)

def call(id, params):
    global asking
    note("ran.txt", params["name"])
    if params["name"] == "ask" and id is not None:
        asking = id
        send({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {
            "message": "", "requestedSchema": {"type": "object", "properties": {}}, "_meta": {"progressToken": "theirs"}}})
    elif id is not None:
        text(id, "done")

def other(message):
    if "method" not in message:
        text(asking, json.dumps(message))
    elif message.get("id") is not None:
        result(message["id"], {})
"#;

const ALL: &str = "[rbac.roles.admin]\npermissions = [\"*\"]\nallowed_methods = [\"*\"]";

/// Names of requests, of notifications that servers send, and what reads like them.
const NOT_FOR_CLIENTS: [&str; 16] = [
    "tools/call",
    "Tools/Call",
    "tool\u{17f}/call",
    "tools/call\0",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "completion/complete",
    "logging/setLevel",
    "initialize",
    "sampling/createMessage",
    "tasks/cancel",
    "notifications/message",
    "notifications/tools/list_changed",
    "notifications/elicitation/complete",
    "rpc.run",
];

fn lines(setup: &Setup, file: &str) -> Vec<String> {
    std::fs::read_to_string(setup.path(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The methods of what the server heard, but for the gateway's own.
fn heard(setup: &Setup) -> Vec<String> {
    let own = ["initialize", "notifications/initialized", "tools/list", "ping", "server/discover"];
    let methods = lines(setup, "heard.txt").into_iter().map(|line| {
        let message: Value = serde_json::from_str(&line).unwrap();
        message["method"].as_str().unwrap_or("an answer").to_owned()
    });
    methods.filter(|method| !own.contains(&method.as_str())).collect()
}

fn note(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

fn danger() -> Value {
    json!({"name": "danger", "arguments": {}})
}

/// The role may do nothing, and the server is switched off.
#[test]
fn call_without_an_id() {
    let mut setup = Setup::new().scripted("srv", OPEN, "").roles("[rbac.roles.admin]\npermissions = []");
    setup.set_kill_switch("disabled_backends = [\"srv\"]");
    let mut gateway = Gateway::start(setup);
    gateway.send_raw(&note("tools/call", &danger()));
    gateway.send_raw(&note("acme/wipe", &json!({"all": true})));
    gateway.end();
    assert_eq!(lines(&gateway.setup, "ran.txt"), [""; 0]);
    assert_eq!(heard(&gateway.setup), [""; 0]);
    let rows = gateway.audit();
    let wiped = rows.iter().find(|row| row["method"] == "acme/wipe");
    assert_eq!(wiped.unwrap_or_else(|| panic!("{rows:?}"))["status"], "killed", "it was judged as a call is");
}

/// Not even who may do everything can do it without an id. The log names each once.
#[test]
fn a_request_needs_an_id_whoever_sends_it() {
    let mut gateway = Gateway::start(Setup::new().scripted("srv", OPEN, "").roles(ALL));
    for _ in 0..3 {
        for method in NOT_FOR_CLIENTS {
            gateway.send_raw(&note(method, &danger()));
        }
    }
    assert!(gateway.call("fence", json!({}))["result"].is_object());
    gateway.end();
    assert_eq!(heard(&gateway.setup), ["tools/call"]);
    assert_eq!(lines(&gateway.setup, "ran.txt"), ["fence"]);
    let log = gateway.log();
    assert_eq!(
        log.matches("a notification of the client was dropped").count(),
        NOT_FOR_CLIENTS.len(),
        "{log}"
    );
}

#[test]
fn neither_over_http_nor_in_a_batch_nor_without_a_session() {
    let door = Door::open(Setup::new().scripted("srv", OPEN, "").roles(ALL), "");
    let ann = door.client("ann");
    let (session, old) = (ann.hello(NEWEST), ann.hello("2025-03-26"));
    let mut batch = Vec::new();
    for method in NOT_FOR_CLIENTS {
        let message: Value = serde_json::from_str(&note(method, &danger())).unwrap();
        assert_eq!(session.post(&message).status, 202, "{method:?}");
        batch.push(message);
        // No session has a log of its own there, so the sender is told.
        let modern = ann.with("mcp-protocol-version", STATELESS);
        if method.is_ascii() && !method.contains('\0') {
            let modern = modern.with("mcp-method", method).with("mcp-name", "danger");
            let bare = modern.without("mcp-name");
            let answers =
                [modern.post_text(note(method, &danger())), bare.post_text(note(method, &danger()))];
            assert!(answers.iter().all(|answer| answer.status == 400), "{method:?}: {answers:?}");
        }
    }
    batch.push(request("tools/call", &json!({"name": "fence", "arguments": {}})));
    let answer = old.post(&Value::Array(batch));
    assert_eq!(answer.value()[0]["result"]["content"][0]["text"], "done", "{answer:?}");
    assert_eq!(heard(&door.gateway.setup), ["tools/call"]);
    assert_eq!(lines(&door.gateway.setup, "ran.txt"), ["fence"]);
}

/// What is not MCP's is a call like any other, but for the answer.
#[test]
fn a_notification_that_is_not_mcps_passes_the_policies() {
    let roles = "[rbac.roles.admin]\npermissions = [\"*\"]\ndenied_tools = [\"danger\"]\n\
                 allowed_methods = [\"acme/*\", \"notifications/acme/*\"]";
    let mut gateway = Gateway::start(Setup::new().scripted("srv", OPEN, "").roles(roles));
    gateway.send_raw(r#"{"jsonrpc":"2.0","method":"notifications/acme/ready","params":{ "x" : 1.0}}"#);
    gateway.send_raw(&note("acme/look", &json!({"name": "fence"})));
    for (method, params) in [
        ("notifications/vendor/ready", json!({})),
        ("vendor/run", json!({})),
        ("acme/run", danger()),
        ("acme/run", json!({"ref": {"name": "danger"}})),
        ("acme/run", json!({"name": "fence", "ref": {"name": "danger"}})),
        ("acme/run", json!({"Name": "danger"})),
        ("acme/run", json!({"taskId": "another's"})),
    ] {
        gateway.send_raw(&note(method, &params));
    }
    gateway.send_raw(r#"{"jsonrpc":"2.0","method":"acme/run","params":{"name":"fence","name":"danger"}}"#);
    let (passed, setup) = (["acme/look", "notifications/acme/ready"], &gateway.setup);
    eventually("what the role may say", || (heard(setup).len() == passed.len()).then_some(()));
    assert_eq!(gateway.request("ping", &json!({}))["result"], json!({}));
    gateway.end();
    let answers = gateway.rest().into_iter().filter(|message| message.value.get("id").is_some());
    assert_eq!(answers.count(), 0, "nothing is answered");
    let mut said = heard(&gateway.setup);
    said.sort();
    assert_eq!(said, passed);
    assert_eq!(lines(&gateway.setup, "ran.txt"), [""; 0]);
    let rows = gateway.audit();
    let of = |method: &str| -> Vec<String> {
        let rows = rows.iter().filter(|row| row["method"] == method);
        rows.map(|row| row["status"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of("notifications/acme/ready"), ["success"]);
    assert_eq!(of("notifications/vendor/ready"), ["denied"]);
    assert_eq!(of("vendor/run"), ["denied"]);
    assert_eq!(of("acme/run").iter().filter(|status| *status == "denied").count(), 3, "{rows:?}");
}

#[test]
fn it_passes_in_both_eras_over_http_and_limits_hold() {
    let setup = Setup::new().scripted("srv", OPEN, "").roles(ALL).rate_limits("default_rpm = 3");
    let mut door = Door::open(setup, "");
    let ann = door.client("ann");
    let session = ann.hello(NEWEST);
    let message: Value = serde_json::from_str(&note("acme/one", &json!({}))).unwrap();
    assert_eq!(session.post(&message).status, 202);
    let (modern, mut body) = ann.modern("acme/two", &json!({}));
    body.as_object_mut().unwrap().remove("id");
    assert_eq!(modern.post(&body).status, 202);
    eventually("both", || (heard(&door.gateway.setup).len() == 2).then_some(()));
    // A method has three a minute, as a tool has.
    for _ in 0..5 {
        assert_eq!(modern.post(&body).status, 202);
    }
    // The answer to a notification does not wait for the server, and what it has not read at the end is lost.
    let all = ["acme/one", "acme/two", "acme/two", "acme/two"];
    eventually("three of each", || (heard(&door.gateway.setup).len() >= all.len()).then_some(()));
    session.call("fence", json!({}));
    door.gateway.signal(Signal::TERM);
    door.gateway.wait_exit();
    let mut said = heard(&door.gateway.setup);
    said.retain(|method| method != "tools/call");
    said.sort();
    assert_eq!(said, all);
}

#[test]
fn roots_have_changed_only_for_who_declared_that_it_has_some() {
    let changed = "notifications/roots/list_changed";
    let say = |gateway: &mut Gateway| {
        gateway
            .send_raw(&format!(r#"{{"jsonrpc":"2.0","method":"{changed}","params":{{"bad":1,"bad":2}}}}"#));
        gateway.send_raw(&note(changed, &json!({"_Meta": {}})));
        gateway.send_raw(&note(changed, &json!({})));
    };
    let mut without = Gateway::start(Setup::new().scripted("srv", OPEN, "").roles(ALL));
    say(&mut without);
    assert!(without.call("fence", json!({}))["result"].is_object());
    assert_eq!(heard(&without.setup), ["tools/call"]);
    let mut with = Gateway::spawn(Setup::new().scripted("srv", OPEN, "").roles(ALL));
    with.hello(NEWEST, &json!({"roots": {"listChanged": true}}));
    // What is said while the server is connected anew for this client is lost.
    eventually("the change", || {
        say(&mut with);
        (!heard(&with.setup).is_empty()).then_some(())
    });
    with.end();
    assert!(heard(&with.setup).iter().all(|method| method == changed));
    let said = lines(&with.setup, "heard.txt").join("\n");
    assert!(!said.contains("bad") && !said.contains("_Meta"), "{said}");
}

/// A session of somebody who can be asked.
fn asked(door: &Door, subject: &str) -> Client {
    let client = door.client(subject);
    let info = json!({"name": "it", "version": "1"});
    let capabilities = json!({"elicitation": {}});
    let params = json!({"protocolVersion": NEWEST, "capabilities": capabilities, "clientInfo": info});
    let opened = client.post(&request("initialize", &params));
    client.with("mcp-session-id", opened.header("mcp-session-id").unwrap())
}

/// Who was not asked has nothing to say of it, and who was asked answers once.
#[test]
fn a_question_is_for_one_session_and_answered_once() {
    let door = Door::open(Setup::new().scripted("srv", OPEN, "").roles(ALL), "");
    let (ann, eve) = (asked(&door, "ann"), asked(&door, "eve"));
    let mut stream = ann.follow(&request("tools/call", &json!({"name": "ask", "arguments": {}})));
    let question = stream.next().unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    let (id, token) = (&question["id"], &question["params"]["_meta"]["progressToken"]);
    assert_eq!(token, id, "the client's token is the gateway's");
    let progress = |token: &Value| json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
    let answer = |id: &Value, who: &str| json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": {"who": who}}});
    for (client, message) in [
        (&eve, progress(id)),
        (&eve, answer(id, "eve")),
        (&ann, progress(&json!("theirs"))),
        (&ann, progress(&json!(999))),
        (&ann, answer(&json!("q"), "by the server's id")),
        (&ann, answer(&json!(999), "never asked")),
        (&ann, progress(id)),
        (&ann, answer(id, "ann")),
        (&ann, answer(id, "again")),
        (&ann, progress(id)),
    ] {
        assert_eq!(client.post(&message).status, 202, "{message}");
    }
    let done = stream.next().unwrap();
    let told: Value = serde_json::from_str(done["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!((&told["id"], &told["result"]["content"]["who"]), (&json!("q"), &json!("ann")), "{done}");
    assert_eq!(heard(&door.gateway.setup), ["tools/call", "notifications/progress", "an answer"]);
    let progress = lines(&door.gateway.setup, "heard.txt");
    let progress =
        progress.iter().find(|line| line.contains(r#""method": "notifications/progress""#)).unwrap();
    assert!(progress.contains(r#""progressToken": "theirs""#), "{progress}");
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_an_error_for_the_server() {
    for twice in [
        r#"{"action":"decline","action":"accept"}"#,
        r#"{"action":"decline","Action":"accept"}"#,
        r#"{"action":"accept","content":{"n":1,"n":2}}"#,
    ] {
        let mut gateway = Gateway::spawn(Setup::new().scripted("srv", OPEN, "").roles(ALL));
        gateway.hello(NEWEST, &json!({"elicitation": {}}));
        let call = gateway.begin("ask", json!({}));
        let question = gateway.heard("elicitation/create");
        gateway.send_raw(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{twice}}}"#, question["id"]));
        let done = gateway.answer(call);
        let told = done["result"]["content"][0]["text"].as_str().unwrap();
        assert!(told.contains("\"error\"") && !told.contains("accept"), "{told}");
    }
}
