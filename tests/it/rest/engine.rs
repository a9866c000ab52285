//! A program that answers routes, and what becomes of a call when it does not.

use serde_json::json;

use super::stage::{Caller, Reply, stop};
use crate::http_door::client::Door;
use crate::support::{Setup, eventually};

/// What an engine does, by its operation.
const CODE: &str = r#"
import json, os, sys, time, subprocess
def do(op, call):
    body = call.get("body")
    if op == "echo": return {"op": op, "path": call["path"], "query": call["query"], "body": body, "subject": call["subject"], "pid": os.getpid()}
    if op == "none": raise LookupError("NO_DATA")
    if op == "pipeline": raise LookupError("PIPELINE_ERROR")
    if op == "internal": raise LookupError("INTERNAL_ERROR")
    if op == "own": raise LookupError("STORE_CLOSED")
    if op == "new": raise LookupError("SOMETHING_ELSE")
    if op == "crash": os.abort()
    if op == "quiet": sys.exit(9)
    if op == "hang": subprocess.Popen(["sleep", "1000"]); time.sleep(1000)
    if op == "half": sys.stdout.write('{"half": '); sys.stdout.write("\n" * (len(sys.argv) > 1 and sys.argv[1] == "serve")); sys.stdout.flush(); sys.exit(0)
    if op == "flood":
        while True: print("x" * 70000)
if sys.argv[1] == "serve":
    for line in sys.stdin:
        call = json.loads(line)
        try: print(json.dumps({"id": call["id"], "status": "ok", "body": do(call["operation"], call)}), flush=True)
        except LookupError as error: print(json.dumps({"id": call["id"], "error": {"code": str(error), "message": "the store is not there: /secret/path"}}), flush=True)
else:
    call = json.load(sys.stdin)
    try: print(json.dumps(do(call["operation"], call)))
    except LookupError as error:
        print(json.dumps({"error": {"code": str(error), "message": "the store is not there: /secret/path"}}))
        sys.exit(4)
"#;

const OPERATIONS: [&str; 11] =
    ["echo", "none", "pipeline", "internal", "own", "new", "crash", "quiet", "hang", "half", "flood"];

fn gateway(mode: &str, http: &str) -> Door {
    let setup = Setup::echo();
    let file = setup.path("engine.py");
    std::fs::write(&file, CODE).unwrap();
    let word = if mode == "pool" { "serve" } else { "call" };
    let mut text = format!(
        "[[engines]]\nname = \"engine\"\ncommand = \"python3\"\nargs = [{:?}, {word:?}]\nmode = {mode:?}\ntimeout_secs = 20\n\
         max_output_bytes = 65536\npool_size = 2\nexits = {{ 9 = 503 }}\nerrors = {{ STORE_CLOSED = 409 }}\n",
        file.to_str().unwrap()
    );
    for operation in OPERATIONS {
        let timeout = if operation == "hang" { "timeout_secs = 2\n" } else { "" };
        text += &format!(
            "[[routes]]\nid = {operation:?}\nmethod = \"POST\"\npath = \"/{operation}/{{id}}\"\n{timeout}\
             target = {{ engine = \"engine\", operation = {operation:?} }}\n"
        );
    }
    let more = "[[engines]]\nname = \"gone\"\ncommand = \"/no/such/engine\"\n\
        [[routes]]\nid = \"gone\"\nmethod = \"GET\"\npath = \"/gone\"\ntarget = { engine = \"gone\", operation = \"x\" }\n";
    Door::open(setup, &format!("{http}\n{text}{more}"))
}

fn is(reply: &Reply, status: u16, reason: &str) {
    assert_eq!(reply.refusal(), (status, reason.to_owned()), "{}", String::from_utf8_lossy(&reply.body));
}

fn every_end_of_an_engine(mode: &str) {
    let mut door = gateway(mode, "");
    let ann = Caller::token(&door, "ann", "admin");
    let post = |operation: &str| ann.json("POST", &format!("/{operation}/7%20b?limit=5"), "{\"n\": 1}");
    let fine = || {
        let reply = post("echo");
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some("application/json")),
            "{reply:?}"
        );
        reply.json()
    };
    let said = fine();
    assert_eq!((&said["path"], &said["query"]), (&json!({"id": "7 b"}), &json!({"limit": "5"})));
    assert_eq!((&said["body"], &said["subject"]), (&json!({"n": 1}), &json!("ann")));
    assert_eq!(fine()["pid"] == said["pid"], mode == "pool", "a warm process answers again");
    for (operation, status, reason) in [
        ("none", 404, "no_data"),
        ("pipeline", 502, "pipeline_error"),
        ("internal", 500, "internal_error"),
        ("own", 409, "store_closed"),
        ("new", 502, "engine_failed"),
        ("crash", 502, "backend_protocol_error"),
        ("hang", 504, "backend_timeout"),
        ("half", 502, "backend_protocol_error"),
        ("flood", 502, "backend_protocol_error"),
    ] {
        let reply = post(operation);
        is(&reply, status, reason);
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            !text.contains("/secret/path"),
            "{operation}: what an engine says of itself is not for callers: {text}"
        );
        // Whatever it was, the next call is served.
        fine();
    }
    if mode == "call" {
        is(&post("quiet"), 503, "engine_exit_9");
    }
    is(&ann.ask("GET", "/gone"), 502, "backend_unreachable");
    let health = Caller::of(&door).ask("GET", "/health");
    assert_eq!((health.status, &health.json()["binary_found"]), (503, &json!(false)), "{health:?}");
    assert_eq!(health.json()["missing"], json!(["gone"]));
    assert_eq!(Caller::of(&door).ask("GET", "/health/shallow").json(), json!({"status": "ok"}));
    stop(&mut door);
    let rows = door.gateway.audit();
    let row = |tool: &str| {
        rows.iter().find(|row| row["tool"] == tool).unwrap_or_else(|| panic!("{tool}: {rows:?}"))
    };
    assert_eq!((&row("echo")["status"], &row("none")["status"]), (&json!("success"), &json!("error")));
    for (tool, words) in [("crash", ""), ("hang", "within 2 s"), ("half", ""), ("flood", "65536 bytes")] {
        let row = row(tool);
        assert_eq!(row["status"], "error", "{row}");
        assert!(
            row["error"].as_str().is_some_and(|error| error.contains(words)),
            "operators read why: {row}"
        );
    }
}

#[test]
fn a_process_for_each_call_ends_in_every_way() {
    every_end_of_an_engine("call");
}

#[test]
fn a_warm_process_ends_in_every_way() {
    every_end_of_an_engine("pool");
}

#[test]
fn nothing_of_an_engine_is_left_when_the_gateway_ends() {
    let mut door = gateway("pool", "");
    let ann = Caller::token(&door, "ann", "admin");
    let pid = ann.json("POST", "/echo/1", "{}").json()["pid"].as_i64().unwrap();
    let pid = i32::try_from(pid).unwrap();
    assert!(crate::support::alive(pid));
    stop(&mut door);
    eventually("the end of the engine", || (!crate::support::alive(pid)).then_some(()));
}

#[test]
fn developers_see_more_and_only_on_a_machine_of_their_own() {
    let door = gateway("call", "dev_mode = true");
    let reply = Caller::token(&door, "ann", "admin").json("POST", "/none/1", "{}");
    is(&reply, 404, "no_data");
    assert!(String::from_utf8_lossy(&reply.body).contains("/secret/path"), "{reply:?}");
    assert_eq!(Caller::of(&door).ask("GET", "/health").json()["dev_mode"], true);
    let dev = || Setup::echo().more("[http]\ndev_mode = true\nallowed_hosts = [\"x.example\"]");
    let (code, said) = dev().env("K_SERVICE", "api").refused(&["check"]);
    assert!(code != Some(0) && said.contains("K_SERVICE is set"), "{said}");
    let (code, said) = dev().gateway("listen = \"0.0.0.0:9200\"").refused(&["check"]);
    assert!(code != Some(0) && said.contains("can be reached from other machines"), "{said}");
}
