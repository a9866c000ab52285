//! The life of a server: slow ones, late ones, those that end at a question they do not know, those that die and come back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::http_door::client::{Door, NEWEST};
use crate::support::{Gateway, HttpServer, Setup, alive, code, eventually, free_address, reason, said};

/// Writes down each start and each message, so that both can be counted.
const NOTES: &str = r#"
note("starts", "start")
_hear = hear
def hear(message):
    note("heard", message.get("method", "?"))
    _hear(message)
"#;

/// The era of 2026-07-28: what it answers to the two eras' first messages, and its lists.
const STATELESS: &str = r#"
def hear(message):
    note("heard", message.get("method", "?"))
    id, method = message.get("id"), message.get("method")
    common = {"ttlMs": 0, "cacheScope": "private", "resultType": "complete"}
    if method == "server/discover":
        result(id, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}, **common})
    elif method == "tools/list":
        result(id, {"tools": tools, **common})
    elif method == "tools/call":
        result(id, {"content": [{"type": "text", "text": "called"}], "resultType": "complete"})
    elif method == "initialize":
        send({"jsonrpc": "2.0", "id": id, "error": {"code": -32022, "message": "not in this era", "data": {"supported": ["2026-07-28"]}}})
    elif id is not None:
        error(id, -32601, "Method not found")
"#;

/// Many servers take nothing but `ping` before `initialize`.
const EXITS: &str = r#"
first = True
_later = hear
def hear(message):
    global first
    method = message.get("method")
    if first and method not in ("initialize", "ping"):
        note("heard", method)
        sys.exit("expected the initialize request")
    first = False
    _later(message)
"#;

/// The lines that a server wrote into a file.
fn lines(gateway: &Gateway, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(gateway.setup.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn starts(gateway: &Gateway) -> usize {
    lines(gateway, "starts").len()
}

/// What it was asked first, at each start.
fn forget(gateway: &Gateway) {
    for file in ["starts", "heard"] {
        let _ = std::fs::remove_file(gateway.setup.path(file));
    }
}

/// Ends it and starts another with the same files, which remembers.
fn anew(mut gateway: Gateway) -> Gateway {
    gateway.end();
    forget(&gateway);
    Gateway::start(gateway.into_setup())
}

#[test]
fn called_while_it_starts() {
    let setup = Setup::new().scripted("srv", "time.sleep(5)", "").unawaited();
    let mut gateway = Gateway::start(setup);
    // The client knows the tool from its last visit.
    let called = gateway.call("echo", json!({}));
    assert_eq!(said(&called), "called echo", "{called}");
}

#[test]
fn a_call_for_a_server_that_will_not_be_up_in_time_is_told_so() {
    let setup = Setup::new().backend("slow", &["--never-start"], "timeout_secs = 1").unawaited();
    let mut gateway = Gateway::start(setup);
    let called = gateway.call("slow_echo", json!({}));
    assert_eq!(reason(&called), "backend_not_listed", "{called}");
    assert!(called["error"]["data"]["retryAfter"].is_u64(), "{called}");
}

#[test]
fn exits_on_first_unknown_request() {
    let code = format!("{NOTES}{EXITS}");
    let mut gateway = Gateway::start(Setup::new().scripted("srv", &code, ""));
    assert_eq!(gateway.tools(), ["echo"]);
    assert_eq!(said(&gateway.call("echo", json!({}))), "called echo");
    assert_eq!(starts(&gateway), 2, "it ended at the first question, and was started once more");
    assert!(gateway.log().contains("it is started once more and greeted with `initialize`"));
    assert!(!gateway.log().contains("backend is down"));
    // The next gateway remembers, and so does this one when the server is started again.
    let mut gateway = anew(gateway);
    assert_eq!(said(&gateway.call("echo", json!({}))), "called echo");
    assert_eq!((starts(&gateway), lines(&gateway, "heard")[0].as_str()), (1, "initialize"));
}

#[test]
fn good_servant_punished() {
    let code = format!(
        "{NOTES}
def call(id, params):
    if params['name'] == 'die':
        os._exit(1)
    text(id, 'done')
tools = [{{'name': n, 'inputSchema': {{'type': 'object'}}}} for n in ('work', 'die')]"
    );
    let mut gateway = Gateway::start(Setup::new().scripted("srv", &code, "circuit_breaker_threshold = 0"));
    for death in 1..=8 {
        let calls: Vec<u64> = (0..20).map(|_| gateway.begin("work", json!({}))).collect();
        for call in calls {
            let answer = gateway.answer(call);
            assert_eq!(said(&answer), "done", "before death {death}: {answer}");
        }
        assert_eq!(reason(&gateway.call("die", json!({}))), "backend_unreachable");
    }
    let answer = gateway.call("work", json!({}));
    assert_eq!(said(&answer), "done", "{answer}");
    assert_eq!(starts(&gateway), 9);
}

#[test]
fn a_threshold_of_zero_is_no_circuit() {
    let code = "def call(id, params):\n    error(id, -32603, 'it failed')";
    let mut gateway = Gateway::start(Setup::new().scripted("srv", code, "circuit_breaker_threshold = 0"));
    for number in 0..40 {
        assert_eq!(self::code(&gateway.call("echo", json!({}))), -32603, "call {number}");
    }
}

#[test]
fn late_answer_to_discover() {
    let code = format!("note('starts', 'start')\ntime.sleep(12)\n{STATELESS}");
    let mut gateway = Gateway::start(Setup::new().scripted("late", &code, ""));
    assert_eq!(gateway.tools(), ["echo"]);
    assert_eq!(said(&gateway.call("echo", json!({}))), "called");
    assert_eq!(starts(&gateway), 1, "{}", gateway.log());
    let heard = lines(&gateway, "heard");
    assert_eq!(heard[..2], ["server/discover", "initialize"], "the second one was refused");
    assert!(gateway.log().contains("backend is still starting, waiting for its answer to `server/discover`"));
}

#[test]
fn a_probe_that_is_never_answered_costs_no_start_and_is_remembered() {
    let code = format!("{NOTES}\ndef other(message):\n    pass");
    let gateway = Gateway::start(Setup::new().scripted("deaf", &code, ""));
    assert_eq!(starts(&gateway), 1);
    assert_eq!(lines(&gateway, "heard")[..2], ["server/discover", "initialize"]);
    let mut gateway = anew(gateway);
    assert_eq!(gateway.tools(), ["echo"]);
    assert_eq!((starts(&gateway), lines(&gateway, "heard")[0].as_str()), (1, "initialize"));
}

#[test]
fn a_refusal_that_names_versions_is_taken_up_by_the_same_process() {
    let refusing = |code: i64, data: &str| {
        format!(
            "{NOTES}
def initialize(id, params):
    if params['protocolVersion'] != '2024-11-05':
        send({{'jsonrpc': '2.0', 'id': id, 'error': {{'code': {code}, 'message': 'Unsupported protocol version', 'data': {data}}}}})
    else:
        result(id, {{'protocolVersion': '2024-11-05', 'capabilities': {{'tools': {{}}}}, 'serverInfo': {{'name': 's', 'version': '1'}}}})"
        )
    };
    for (code, data) in [
        (-32602, "{'supported': ['2024-11-05'], 'requested': params['protocolVersion']}"),
        (-32022, "{'supportedVersions': ['1999-01-01', '2024-11-05']}"),
    ] {
        let gateway = Gateway::start(Setup::new().scripted("old", &refusing(code, data), ""));
        assert_eq!(starts(&gateway), 1);
        gateway.await_log("backend is ready backend=old version=2024-11-05", 1);
    }
}

#[test]
fn a_refusal_to_discover_that_names_versions_is_taken_up_by_the_same_process() {
    let code = format!(
        "{NOTES}
def other(message):
    if message.get('method') == 'server/discover':
        send({{'jsonrpc': '2.0', 'id': message['id'], 'error': {{'code': -32022, 'message': 'no', 'data': {{'supported': ['2025-03-26']}}}}}})
def initialize(id, params):
    if params['protocolVersion'] != '2025-03-26':
        sys.exit('told you')
    result(id, {{'protocolVersion': '2025-03-26', 'capabilities': {{'tools': {{}}}}, 'serverInfo': {{'name': 's', 'version': '1'}}}})"
    );
    let mut gateway = Gateway::start(Setup::new().scripted("srv", &code, ""));
    assert_eq!((starts(&gateway), gateway.tools()), (1, vec!["echo".to_owned()]));
}

#[test]
fn a_wrong_memory_corrects_itself() {
    // It shook hands, and is stateless now; then it is one that ends at what it does not know.
    let handshake = NOTES.to_owned();
    let stateless = format!("note('starts', 'start')\n{STATELESS}");
    let exits = format!("{NOTES}{EXITS}");
    let mut gateway = Gateway::start(Setup::new().scripted("srv", &handshake, ""));
    let program = gateway.setup.path("srv.py");
    let original = std::fs::read_to_string(&program).unwrap();
    for (code, most) in [(&stateless, 1), (&exits, 2), (&handshake, 1), (&stateless, 1), (&handshake, 1)] {
        gateway.end();
        forget(&gateway);
        std::fs::write(&program, original.replace(&handshake, code)).unwrap();
        gateway = Gateway::start(gateway.into_setup());
        assert_eq!(gateway.tools(), ["echo"], "{}", gateway.log());
        assert_eq!(starts(&gateway), most, "{:?}\n{}", lines(&gateway, "heard"), gateway.log());
        assert!(!gateway.log().contains("backend is down"), "{}", gateway.log());
    }
}

#[test]
fn a_damaged_memory_is_none() {
    let code = format!("{NOTES}{EXITS}");
    let mut gateway = Gateway::start(Setup::new().scripted("srv", &code, ""));
    gateway.end();
    forget(&gateway);
    let memory = gateway.setup.files("sentinel-gateway/servers");
    let era = memory.iter().find(|path| path.to_string_lossy().ends_with(".era.json")).unwrap();
    std::fs::write(era, "{\"format\":1,").unwrap();
    let mut gateway = Gateway::start(gateway.into_setup());
    assert_eq!(gateway.tools(), ["echo"]);
    assert_eq!(starts(&gateway), 2);
    assert_eq!(gateway.log().matches("what was remembered of the server is ignored").count(), 1);
}

#[test]
fn nothing_is_remembered_if_that_is_said() {
    let setup = Setup::new().gateway("memory_dir = \"off\"").scripted("srv", NOTES, "");
    let mut gateway = Gateway::start(setup);
    assert_eq!(gateway.tools(), ["echo"]);
    gateway.end();
    assert!(!gateway.setup.path("sentinel-gateway/servers").exists());
}

#[test]
fn a_process_that_lives_is_not_killed_for_being_slow() {
    // Its first answer and its first list take far longer than a call may.
    let code = format!(
        "{NOTES}
def initialize(id, params, before=initialize):
    time.sleep(2)
    print('Downloading 3 of 7', file=sys.stderr, flush=True)
    time.sleep(9)
    before(id, params)
_patient = hear
def hear(message):
    if message.get('method') == 'tools/list':
        time.sleep(2)
    _patient(message)"
    );
    let more = "era = \"handshake\"\ntimeout_secs = 1";
    let mut gateway = Gateway::start(Setup::new().scripted("slow", &code, more));
    assert_eq!(said(&gateway.call("echo", json!({}))), "called echo");
    assert_eq!(starts(&gateway), 1);
    assert!(!gateway.log().contains("backend is down"));
    let told =
        "backend is still starting, waiting for its answer to `initialize`; last stderr: Downloading 3 of 7";
    assert!(gateway.log().contains(told), "{}", gateway.log());
}

#[test]
fn what_does_not_start_in_its_own_time_is_started_again() {
    let setup = Setup::new();
    let code = format!("{NOTES}\nif len(open('starts').readlines()) == 1:\n    time.sleep(600)");
    let setup = setup.scripted("srv", &code, "era = \"handshake\"\nstart_timeout_secs = 1.5");
    let mut gateway = Gateway::start(setup);
    assert_eq!(gateway.tools(), ["echo"]);
    assert!(gateway.log().contains("backend is down"), "{}", gateway.log());
    assert_eq!(starts(&gateway), 2);
}

#[test]
fn nothing_is_started_twice_because_the_client_came_late() {
    let code = format!(
        "{NOTES}
def initialize(id, params, before=initialize):
    note('declared', json.dumps(params['capabilities']))
    before(id, params)"
    );
    let mut gateway = Gateway::spawn(Setup::new().scripted("srv", &code, ""));
    // It is started, and asked what needs no client, while the client takes its time.
    eventually("the question", || {
        (lines(&gateway, "heard").first().map(String::as_str) == Some("server/discover")).then_some(())
    });
    gateway.hello("2025-11-25", &json!({"roots": {}}));
    assert_eq!(gateway.tools(), ["echo"]);
    assert_eq!((starts(&gateway), lines(&gateway, "declared")), (1, vec!["{\"roots\": {}}".to_owned()]));
}

#[test]
fn a_client_that_never_shakes_hands_is_not_waited_for() {
    let mut gateway = Gateway::spawn(Setup::new().scripted("srv", NOTES, ""));
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "it", "version": "1"},
    });
    let params = json!({"name": "echo", "arguments": {}, "_meta": meta});
    let called = gateway.request("tools/call", &params);
    assert_eq!(said(&called), "called echo", "{called}");
}

#[test]
fn server_comes_after_the_gateway() {
    let address = free_address();
    let (_, port) = address.rsplit_once(':').unwrap();
    let setup = Setup::new().http("up", &format!("http://{address}/mcp"), "");
    let mut gateway = Gateway::start(setup);
    // It has been away for three attempts.
    gateway.await_log("deaths=2", 1);
    let _server = HttpServer::start(&["--port", port]);
    gateway.await_tool("echo");
}

#[test]
fn a_call_starts_an_attempt() {
    let address = free_address();
    let (_, port) = address.rsplit_once(':').unwrap();
    let setup = Setup::new().http("up", &format!("http://{address}/mcp"), "");
    let mut gateway = Gateway::start(setup);
    gateway.await_log("deaths=4", 1);
    // Nobody would try for eight seconds now. Its name is not known yet, so every server that may have it is tried.
    let _server = HttpServer::start(&["--port", port]);
    assert_eq!(gateway.ask("echo")["name"], "echo");
}

#[test]
fn a_call_for_a_known_server_that_is_away_starts_an_attempt() {
    let setup = Setup::new().gated("echo", &[], "");
    std::fs::write(setup.path("echo.up"), "").unwrap();
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    std::fs::remove_file(gateway.setup.path("echo.up")).unwrap();
    assert_eq!(reason(&gateway.call("crash", json!({}))), "backend_unreachable");
    gateway.await_log("deaths=4", 1);
    std::fs::write(gateway.setup.path("echo.up"), "").unwrap();
    // At the latest the second call finds it: the last attempt may have been a moment ago.
    eventually("the server", || (gateway.ask("echo")["name"] == "echo").then_some(()));
}

#[test]
fn what_only_a_person_can_mend_is_not_hammered_and_a_command_tries_it_at_once() {
    let setup = Setup::new();
    let program = setup.text("tool.sh");
    let more = format!("[[backends]]\nname = \"absent\"\ntype = \"stdio\"\ncommand = {program:?}\n");
    let mut gateway = Gateway::start(setup.more(&more));
    gateway.await_log("this needs somebody to mend it", 1);
    let called = gateway.call("absent_echo", json!({}));
    assert_eq!(reason(&called), "backend_not_listed", "{called}");
    let script = format!("#!/bin/sh\nexec '{}' stdio\n", crate::support::fixture().display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    gateway.reload(|_| {});
    gateway.await_log("backend is ready backend=absent", 1);
    assert_eq!(gateway.log().matches("backend is down").count(), 1);
}

/// Answers every request with this status, and counts them.
fn refusing(status: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (count, status) = (Arc::new(AtomicUsize::new(0)), status.to_owned());
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut head = [0; 16 << 10];
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        }
    });
    (address, count)
}

/// Reads one request and returns its body.
fn body(stream: &mut TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[test]
fn a_status_that_names_revisions_is_taken_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(message) = body(&mut stream) else { continue };
            let asked = message["params"]["protocolVersion"].as_str();
            let result = match message["method"].as_str() {
                Some("initialize") if asked == Some("2025-06-18") => Some(json!({
                    "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "s", "version": "1"},
                })),
                Some("tools/list") => {
                    Some(json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}))
                }
                _ => None,
            };
            let (status, kind, body) = match result {
                Some(result) => {
                    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
                    ("200 OK", "application/json", answer.to_string())
                }
                None if message.get("id").is_none() => ("202 Accepted", "text/plain", String::new()),
                None => (
                    "400 Bad Request",
                    "text/plain",
                    "Bad Request: Unsupported protocol version (supported versions: 2025-06-18, 2025-03-26)"
                        .to_owned(),
                ),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    let mut gateway = Gateway::start(Setup::new().http("strict", &url, ""));
    gateway.await_log("backend is ready backend=strict version=2025-06-18", 1);
    assert_eq!(gateway.tools(), ["echo"]);
}

#[test]
fn a_key_that_is_refused_is_not_tried_again_and_again() {
    let (address, count) = refusing("401 Unauthorized");
    let setup = Setup::new().http("locked", &format!("http://{address}/mcp"), "").backend("echo", &[], "");
    let mut gateway = Gateway::start(setup);
    gateway.await_log("this needs somebody to mend it", 1);
    for _ in 0..20 {
        assert_eq!(code(&gateway.call("locked_echo", json!({}))), -32602);
        assert_eq!(gateway.ask("echo")["name"], "echo");
    }
    assert_eq!(count.load(Ordering::Relaxed), 1, "one request for all of it");
}

#[test]
fn a_server_that_is_busy_is_not_taken_for_dead() {
    // It does one thing at a time, and a question whether it is there waits like all others.
    let code = format!("{NOTES}\ndef call(id, params):\n    time.sleep(3.2)\n    text(id, 'done')");
    let more = "timeout_secs = 2\nhealth_interval_secs = 0.3\ncircuit_breaker_threshold = 0";
    let mut gateway = Gateway::start(Setup::new().scripted("srv", &code, more));
    assert_eq!(reason(&gateway.call("echo", json!({}))), "backend_timeout");
    // It has answered again, and it is the same process.
    eventually("the pings", || {
        // One that was silent about a ping is asked for its tools from then on; they are listed once before.
        let asked = |what: &&String| matches!(what.as_str(), "ping" | "tools/list");
        (lines(&gateway, "heard").iter().filter(asked).count() > 5).then_some(())
    });
    assert_eq!(starts(&gateway), 1, "{}", gateway.log());
}

#[test]
fn a_server_that_is_killed_again_and_again_under_load_is_hardly_away() {
    let setup = Setup::new();
    let code = format!("{NOTES}\nnote('pid', str(os.getpid()))\ndef call(id, params):\n    text(id, 'done')");
    // With the circuit breaker as it comes: a death is one failure, however many calls it takes along.
    let mut gateway = Gateway::start(setup.scripted("srv", &code, ""));
    let (mut failed, mut served) = (Vec::new(), 0);
    for death in 0..12 {
        // It is there, or will be in a moment.
        eventually("an answer", || gateway.call("echo", json!({}))["result"].is_object().then_some(()));
        let calls: Vec<u64> = (0..40).map(|_| gateway.begin("echo", json!({}))).collect();
        for answer in calls.into_iter().map(|call| gateway.answer(call)).collect::<Vec<_>>() {
            assert_eq!(said(&answer), "done", "{answer}");
            served += 1;
        }
        let pid: i32 = lines(&gateway, "pid").last().unwrap().parse().unwrap();
        let under_way: Vec<u64> = (0..10).map(|_| gateway.begin("echo", json!({}))).collect();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        eventually("its end", || (!alive(pid)).then_some(()));
        let answers: Vec<Value> = under_way.into_iter().map(|call| gateway.answer(call)).collect();
        failed.extend(
            answers.into_iter().filter(|answer| answer["result"].is_null()).map(|answer| (death, answer)),
        );
    }
    // What was under way is lost with it; nothing is refused because of pauses or circuits.
    for (death, answer) in &failed {
        assert_eq!(reason(answer), "backend_unreachable", "after {death}: {answer}");
        assert!(answer["error"]["data"]["retryAfter"].as_u64().unwrap_or(0) <= 2, "after {death}: {answer}");
    }
    assert!(served == 480 && starts(&gateway) <= 13, "{served} calls, {} starts", starts(&gateway));
}

#[test]
fn a_sessions_own_connection_goes_on_being_opened_when_its_call_gives_up() {
    // A client that can be asked something needs a process of its own, and that takes longer than its calls may.
    let code = format!("{NOTES}\ntime.sleep(3.5)");
    let more = "era = \"handshake\"\ntimeout_secs = 0.5\ncircuit_breaker_threshold = 0";
    let door = Door::open(Setup::new().scripted("srv", &code, more), "");
    let client = door.client("ann").greeting(NEWEST, &json!({"elicitation": {}}));
    let mut given_up = 0;
    eventually("its own connection", || {
        let answer = client.call("echo", json!({}));
        if answer["result"].is_object() {
            return Some(());
        }
        assert_eq!(reason(&answer), "backend_unreachable", "{answer}");
        given_up += 1;
        None
    });
    assert!(given_up > 0, "the first call cannot have waited so long");
    assert_eq!(starts(&door.gateway), 2, "one for all, and one for this session");
}

#[test]
fn refusals_in_a_sentence_without_an_id_and_with_a_status_are_understood() {
    // -32602 with the revision in the message only, as many small servers have it.
    let sentence = format!(
        "{NOTES}
def initialize(id, params, before=initialize):
    if params['protocolVersion'] != '2024-11-05':
        error(id, -32602, 'Unsupported protocol version: ' + params['protocolVersion'] + '. Supported: 2024-11-05')
    else:
        before(id, params)"
    );
    // The same without a word about which.
    let silent = sentence.replace(" + '. Supported: 2024-11-05'", "");
    assert_ne!(sentence, silent);
    // An error whose id is null: the server did not read as far as that. It answers notifications in the same way.
    let nameless = format!(
        "{NOTES}
def other(message):
    send({{'jsonrpc': '2.0', 'id': None, 'error': {{'code': -32000, 'message': 'Bad Request: Server not initialized'}}}})"
    );
    let setup = Setup::new().scripted("sentence", &sentence, "").scripted("silent", &silent, "");
    let mut gateway = Gateway::start(setup.scripted("nameless", &nameless, ""));
    let mut tools = gateway.tools();
    tools.sort();
    assert_eq!(tools, ["echo", "nameless_echo", "silent_echo"]);
    assert_eq!(starts(&gateway), 3);
    assert!(!gateway.log().contains("still starting"), "no answer was waited for: {}", gateway.log());
}
