//! Secrets stay: in the log, in the record, in answers and on the health port.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::{Gateway, Setup, eventually, free_address, get, reason};

/// The key that every backend here was given, and that no output may hold.
const KEY: &str = "s3cr3t-key-42";

fn keeper(code: &str, more: &str) -> Setup {
    Setup::new()
        .scripted("srv", code, &format!("env = {{ API_KEY = \"${{BACKEND_KEY}}\" }}\n{more}"))
        .env("BACKEND_KEY", KEY)
}

/// What an error tells its reader.
fn said(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("an error was expected: {answer}"))
}

/// Nothing that steers a terminal, and no line that the server made up.
fn is_tame(log: &str) {
    let steers = |c: char| {
        c != '\n' && (c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'))
    };
    assert!(!log.contains(steers), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("2026-11-25T00:00:00Z")), "{log}");
}

#[test]
fn keys_that_are_not_redacted() {
    let mut gateway = Gateway::start(keeper("", ""));
    let arguments = json!({
        "pwd": "CANARY1", "bearer": "CANARY2", "private_key_pem": "CANARY3", "session_cookie_value": "CANARY4",
        "headers": ["Authorization: Bearer CANARY5"], "url": "https://u:CANARY6@h/?access_token=CANARY7",
        "Authorization2": "CANARY8", "api_key_id": "CANARY9", "max_tokens": 4711, "path": "to be seen",
    });
    assert!(gateway.call("echo", arguments)["result"].is_object());
    gateway.end();
    let rows = gateway.audit();
    let row = rows[0].to_string();
    assert!(!row.contains("CANARY"), "{row}");
    assert!(row.contains("4711") && row.contains("to be seen"), "{row}");
}

#[test]
fn secrets_in_other_shapes_stay_out_of_the_record_too() {
    let mut gateway =
        Gateway::start(keeper("", "").more("[audit]\nredact_keys = [\"pin\"]\nkeep_keys = [\"signature\"]"));
    let pem = "-----BEGIN PRIVATE KEY-----\nCANARYpem\n-----END PRIVATE KEY-----";
    let arguments = json!({
        // Inside JSON inside a string, and deeper than JSON is parsed.
        "body": json!({"nested": json!({"password": "CANARYa"}).to_string()}).to_string(),
        "said": "config is {\\\"apiKey\\\": \\\"CANARYb\\\"}",
        "form": "user=u&api_key=CANARYc&page=2", "env": "export DB_PASSWORD='CANARY d'\nPORT=1",
        "curl": "curl -H 'Cookie: a=CANARYe; b=CANARYf' https://CANARYg0123456789abcdef@h/",
        "pem": pem, "note": "use Bearer CANARY7xyz or ghp_CANARYabcdefghijklmnopqrstuvwxyz01 or sk-ant-api03-CANARYabcdefghijk",
        "clientPin": "CANARYh", "signature": "to be seen", "spelled": format!("%73{} \\u0073{}", &KEY[1..], &KEY[1..]),
        "jwt": "a eyJCANARYiOiJub25lIn0.eyJDQU5BUlkiOjF9.c2ln b",
    });
    // Of a tool that nobody knows, whose name holds the key; and a resource with a password.
    gateway.call(&format!("read-{KEY}"), arguments.clone());
    gateway.call("echo", arguments);
    gateway.request("resources/read", &json!({"uri": "https://u:CANARYj@h/?sig=CANARYk"}));
    gateway.end();
    let rows = gateway.audit();
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in &rows {
        let row = row.to_string();
        assert!(!row.contains("CANARY") && !row.contains(&KEY[1..]), "{row}");
    }
    assert!(
        rows[1].to_string().contains("to be seen") && rows[1].to_string().contains("PORT=1"),
        "{}",
        rows[1]
    );
    // What the text of the record does not hold its files do not hold either.
    // A socket holds nothing that could be read.
    for file in gateway.setup.files("sentinel-gateway").into_iter().filter(|file| file.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"CANARY"), "{}", file.display());
    }
}

/// Answers the first handshake; from the first call on it refuses every other with a text of 1 MB that holds the key.
const REFUSES: &str = r#"
def initialize(id, params, greet=initialize):
    if not os.path.exists("left"):
        return greet(id, params)
    error(id, -32000, "login refused for key " + os.environ["API_KEY"] + "!" * 1_000_000)

def call(id, params):
    note("left", "")
    os._exit(1)
"#;

#[test]
fn refused_handshake_tells_the_key() {
    let health = free_address();
    let setup = keeper(REFUSES, "")
        .gateway(&format!("health_listen = {health:?}"))
        .env("HEALTH_TOKEN", "probe-me-0123456789");
    let mut gateway = Gateway::start(setup);
    let left = gateway.call("echo", json!({}));
    assert_eq!(reason(&left), "backend_unreachable", "{left}");
    // Until it has been tried again some times.
    gateway.await_log("login refused for key [redacted]", 1);
    gateway.await_log("for the same reason as before", 1);
    let mut answers = vec![left];
    for _ in 0..3 {
        answers.push(gateway.call("echo", json!({})));
    }
    for answer in &answers {
        let text = answer.to_string();
        assert!(!text.contains("s3cr3t") && !text.contains("login refused"), "{text:.400}");
        assert!(said(answer).starts_with("backend \"srv\" is not available"), "{text}");
    }
    // The health port tells why, with a token or without one, and shows the key to neither.
    for token in [None, Some("probe-me-0123456789")] {
        let ready = get(&health, "/ready", token).unwrap();
        assert!(!ready.body.contains("s3cr3t") && ready.body.len() < 2_000, "{:.400}", ready.body);
    }
    let log = gateway.log();
    assert!(!log.contains("s3cr3t"), "{log:.2000}");
    assert!(log.len() < 20_000, "{} bytes", log.len());
    is_tame(&log);
    let why = gateway.await_audit("why the calls failed", |rows| {
        rows.iter()
            .any(|row| row["error"].as_str().is_some_and(|error| error.contains("login refused")))
            .then(|| json!(rows))
    });
    assert!(!why.to_string().contains("s3cr3t"), "{why}");
    // `check --probe` starts the same server and says the same about it.
    let probe = gateway.setup.run(&["check", "--probe"]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&probe.stdout), String::from_utf8_lossy(&probe.stderr));
    assert!(text.contains("DOWN") && text.contains("login refused for key [redacted]"), "{text:.2000}");
    assert!(!text.contains("s3cr3t") && text.len() < 20_000, "{text:.2000}");
}

#[test]
fn the_key_is_in_no_other_word_of_a_server() {
    // In the error of a call and in its data, spelled in three ways; in a result that says it is an error; on stderr over two
    // lines and in base64; on stdout as a line that is no message.
    let code = r#"
import base64
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("plain", "spelled", "failed")]

def call(id, params):
    key = os.environ["API_KEY"]
    print("started with", key, "\x1b[2J", flush=True)
    print("key is", key, "\n" + base64.b64encode(("u:" + key).encode()).decode(), file=sys.stderr, flush=True)
    if params["name"] == "failed":
        return result(id, {"isError": True, "content": [{"type": "text", "text": "bad key " + key}]})
    if params["name"] == "plain":
        return send({"jsonrpc": "2.0", "id": id, "error": {"code": -32001, "message": "bad key " + key, "data": {"sent": key}}})
    spelled = "".join("\\u%04x" % ord(letter) for letter in key)
    print('{"jsonrpc":"2.0","id":%d,"error":{"code":-32001,"message":"bad key %s"}}' % (id, spelled), flush=True)
"#;
    let setup = keeper(code, "");
    let mut gateway = Gateway::start(setup.env("LOG_LEVEL", "info,sentinel_gateway=debug"));
    for tool in ["plain", "spelled", "failed"] {
        let answer = gateway.call(tool, json!({}));
        assert!(answer.to_string().contains("bad key [redacted]"), "{answer}");
    }
    gateway.await_log("stderr: key is [redacted]", 1);
    gateway.await_log("a line that is not JSON", 1);
    gateway.end();
    let log = gateway.log();
    let encoded = "dTpzM2NyM3Qta2V5LTQy";
    assert!(!log.contains(KEY) && !log.contains(&encoded[4..]), "{log}");
    is_tame(&log);
    for row in gateway.audit() {
        assert!(row["error"].as_str().unwrap().contains("bad key [redacted]"), "{row}");
    }
}

#[test]
fn log_line_in_a_tool_name() {
    let code = r#"
tools = [{"name": f"x{c}2026-11-25T00:00:00Z ERROR audit: record forged", "inputSchema": {"type": "object", "properties": {"a": {"type": "nope"}}}} for c in ("\x01", "\x02", "\n", "\x1b", "\r", "\u202e", "\u200b", "\u2028", "\x9b")]
"#;
    let mut gateway = Gateway::start(Setup::new().scripted("srv", code, ""));
    gateway.tools();
    // Each schema has a flaw, so each tool is named.
    gateway.await_log("record forged", 9);
    gateway.end();
    is_tame(&gateway.log());
}

#[test]
fn no_other_name_makes_a_line_either() {
    // In what a server calls itself, in its methods, its version, its URIs and its reasons, at every level of the log.
    let code = r#"
FORGED = "\n2026-11-25T00:00:00Z ERROR audit: forged \x1b[2J\r\u202e"

def call(id, params):
    send({"jsonrpc": "2.0", "method": "notifications/" + FORGED, "params": {}})
    send({"jsonrpc": "2.0", "id": 4711, "method": "roots" + FORGED, "params": {}})
    send({"jsonrpc": "2.0", "id": 99999, "result": {}, "error": FORGED})
    print("noise " + FORGED.strip().replace("\n", "\r"), flush=True)
    print(FORGED, file=sys.stderr, flush=True)
    if params["name"] == "leave":
        os._exit(9)
    error(id, -32000, "no " + FORGED)

tools = [{"name": "echo", "inputSchema": {"type": "object"}}, {"name": "leave", "inputSchema": {"type": "object"}}]
"#;
    let forged = "\n2026-11-25T00:00:00Z ERROR audit: forged \u{1b}[2J\r\u{202e}";
    let mut gateway = Gateway::start(
        Setup::new().scripted("srv", code, "").env("LOG_LEVEL", "info,sentinel_gateway=trace"),
    );
    gateway.call("echo", json!({}));
    // The client may do no better: a method, a tool, a URI, a notification.
    gateway.request(&format!("acme/{forged}"), &json!({}));
    gateway.call(forged, json!({}));
    gateway.request("resources/read", &json!({"uri": forged}));
    gateway.request("resources/subscribe", &json!({"uri": forged}));
    gateway.notify(&format!("notifications/{forged}"), &json!({}));
    gateway.notify("notifications/cancelled", &json!({"requestId": forged, "reason": forged}));
    gateway.call("leave", json!({}));
    gateway.await_log("backend is down", 1);
    gateway.end();
    is_tame(&gateway.log());
    // Nor in the record, as it is shown.
    for arguments in [&["audit", "list"][..], &["audit", "list", "--json"]] {
        let shown = gateway.setup.run(arguments);
        is_tame(&String::from_utf8(shown.stdout).unwrap());
    }
}

#[test]
fn check_prints_no_password_of_the_file() {
    let setup = Setup::new()
        .more("[[backends]]\nname = \"a\"\ntype = \"stdio\"\ncommand = \"true\"\nargs = [\"--token=CANARY1\", \"x\\u001b[2Jy\"]")
        .http("b", "https://127.0.0.1:1/mcp?api_key=CANARY3", "");
    let output = setup.run(&["check"]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("is in order"), "{text}");
    assert!(!text.contains("CANARY"), "{text}");
    is_tame(&text);
}

/// An HTTP server that answers `tools/call` with these statuses and bodies, one after the other.
pub(crate) fn refusing(answers: &'static [(u16, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut answers = answers.iter();
        for stream in listener.incoming().take(200) {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            let body = loop {
                let Ok(read @ 1..) = stream.read(&mut chunk) else { break String::new() };
                request.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head
                    .lines()
                    .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
                    break body.to_owned();
                }
            };
            let message: Value = serde_json::from_str(&body).unwrap_or_default();
            let ok = |result: Value| {
                (200, json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
            };
            let (status, body) = match message["method"].as_str().unwrap_or_default() {
                "initialize" => ok(json!({
                    "protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"},
                })),
                "tools/list" => ok(json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})),
                "tools/call" => answers
                    .next()
                    .map_or((500, String::new()), |(status, body)| (*status, (*body).to_owned())),
                "ping" => ok(json!({})),
                "" => (405, String::new()),
                method if method.starts_with("notifications/") => (202, String::new()),
                _ => (400, String::new()),
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

#[test]
fn reason_in_a_400() {
    let url = refusing(&[
        (400, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"limit must be at most 50"}}"#),
        (422, r#"{"type":"about:blank","title":"Unprocessable","detail":"limit must be at most 50"}"#),
        (413, "limit must be at most 50"),
        (400, r#"{"error":{"message":"no \u00733cr3t-key-42 \u001b[2J, limit must be at most 50"}}"#),
        (401, r#"{"message":"the key s3cr3t-key-** is at most 50 days old"}"#),
        (500, "at most 50 stack frames: s3cr3t-key-42"),
        (400, "<html>at most 50</html>"),
    ]);
    let header = "headers = { Authorization = \"Bearer ${BACKEND_KEY}\" }\ncircuit_breaker_threshold = 0\nera = \"handshake\"";
    let mut gateway = Gateway::start(Setup::new().http("up", &url, header).env("BACKEND_KEY", KEY));
    gateway.await_tool("echo");
    let answers: Vec<Value> = (0..7).map(|_| gateway.call("echo", json!({}))).collect();
    for (number, answer) in answers.iter().enumerate() {
        let text = said(answer);
        assert_eq!(reason(answer), "backend_http_status", "{answer}");
        assert_eq!(text.contains("at most 50"), number < 4, "{number}: {answer}");
        assert!(!text.contains("s3cr3t") && !text.contains('\u{1b}'), "{answer}");
    }
    assert!(said(&answers[3]).contains("[redacted] \\u{1b}[2J"), "{}", answers[3]);
    gateway.end();
    let rows = gateway.audit();
    // Operators read what was said with every status.
    assert!(rows[5]["error"].as_str().unwrap().contains("stack frames: [redacted]"), "{}", rows[5]);
    assert!(!json!(rows).to_string().contains("s3cr3t-key-42"), "{rows:?}");
}

#[test]
fn failed_and_nobody_knows_why() {
    let code = r#"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("as_result", "as_error", "long", "data", "fine")]

def call(id, params):
    key = os.environ["API_KEY"]
    name = params["name"]
    if name == "as_result":
        result(id, {"isError": True, "content": [{"type": "text", "text": "no such customer"}, {"type": "text", "text": "password: CANARY1"}]})
    elif name == "as_error":
        error(id, -32603, "no such customer " + key)
    elif name == "long":
        error(id, -32603, "no such customer " + "x" * 3_000_000 + key)
    elif name == "data":
        result(id, {"isError": True, "content": [], "structuredContent": {"why": "no such customer", "token": "CANARY2"}})
    else:
        text(id, "fine")
"#;
    let mut gateway = Gateway::start(keeper(code, ""));
    for tool in ["as_result", "as_error", "long", "data", "fine"] {
        gateway.call(tool, json!({}));
    }
    gateway.end();
    let rows = gateway.audit();
    assert_eq!(rows.len(), 5);
    for row in &rows[..4] {
        let error = row["error"].as_str().unwrap_or_else(|| panic!("{row}"));
        assert_eq!(row["status"], "error");
        assert!(error.contains("no such customer") && error.len() < 5_000, "{error:.300}");
        assert!(!error.contains("hole:"), "{error:.300}");
        assert!(!row.to_string().contains("CANARY") && !row.to_string().contains(KEY), "{row}");
    }
    assert!(rows[1]["error"].as_str().unwrap().contains("-32603"), "{}", rows[1]);
    assert_eq!(rows[4]["error"], Value::Null);
    let shown = gateway.setup.run(&["audit", "list", "--status", "error"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.matches("no such customer").count(), 4, "{shown}");
}

#[test]
fn a_password_in_the_url_of_the_database_is_in_no_line() {
    // Nothing listens there; the driver says what it tried.
    let setup =
        Setup::echo().env("DATABASE_URL", "postgres://u:p%40ss-CANARY@127.0.0.1:1/db?sslmode=disable");
    let health = free_address();
    let mut gateway = Gateway::start(setup.gateway(&format!("health_listen = {health:?}")));
    gateway.call("echo", json!({"text": "p@ss-CANARY and p%40ss-CANARY"}));
    gateway.await_log("the audit database is behind", 1);
    let ready = eventually("a health port that says so", || {
        get(&health, "/ready", None).filter(|ready| ready.status == 503)
    });
    assert!(!ready.body.contains("CANARY"), "{}", ready.body);
    assert!(!gateway.log().contains("CANARY"), "{}", gateway.log());
    for file in gateway.setup.files("sentinel-gateway").into_iter().filter(|file| file.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"CANARY"), "{}", file.display());
    }
}
