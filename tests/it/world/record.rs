//! What an operator learns from the record and from the log, and when.

use serde_json::{Value, json};

use crate::http_door::client::{Door, NEWEST};
use crate::support::{Gateway, Setup, code, mint, target};

/// Tools that fail, each in its own way.
const FAILING: &str = r#"
tools = [{"name": name, "inputSchema": {"type": "object"}} for name in (
    "as_result", "as_error", "as_structure", "at_length", "with_a_secret", "silently")]

def call(id, params):
    name = params["name"]
    if name == "as_result":
        result(id, {"isError": True, "content": [{"type": "text", "text": "no such customer"}]})
    elif name == "as_error":
        error(id, -32603, "no such customer")
    elif name == "as_structure":
        result(id, {"isError": True, "structuredContent": {"why": "no such customer"}, "content": []})
    elif name == "at_length":
        result(id, {"isError": True, "content": [{"type": "text", "text": "no such customer " * 10000}]})
    elif name == "with_a_secret":
        error(id, -32000, "no such customer for sk-live-4711-0815, password=hunter2-and-more")
    else:
        os._exit(3)
"#;

fn row<'a>(rows: &'a [Value], tool: &str) -> &'a Value {
    rows.iter().find(|row| row["tool"] == tool).unwrap_or_else(|| panic!("no row of {tool}: {rows:#?}"))
}

#[test]
fn failed_and_nobody_knows_why() {
    let keys = "env = { API_KEY = \"${BACKEND_KEY}\" }";
    let setup = Setup::new().scripted("srv", FAILING, keys).env("BACKEND_KEY", "sk-live-4711-0815");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("as_result");
    for tool in ["as_result", "as_error", "as_structure", "at_length", "with_a_secret", "silently"] {
        gateway.call(tool, json!({"customer": 5}));
    }
    gateway.end();
    let rows = gateway.audit();
    let why = |tool: &str| {
        let row = row(&rows, tool);
        assert_eq!((&row["status"], &row["arguments"]), (&json!("error"), &json!({"customer": 5})), "{row}");
        row["error"].as_str().unwrap_or_else(|| panic!("no reason: {row}")).to_owned()
    };
    assert_eq!(why("as_result"), "no such customer");
    assert_eq!(why("as_error"), "-32603: no such customer");
    assert_eq!(why("as_structure"), r#"{"why": "no such customer"}"#);
    let long = why("at_length");
    assert!(long.starts_with("no such customer no such") && long.len() <= 4_100, "{} bytes", long.len());
    assert_eq!(why("with_a_secret"), "-32000: no such customer for [redacted], password=[redacted]");
    assert!(why("silently").contains("srv"), "{}", why("silently"));
    // A table shows it in the place of the arguments.
    let shown = gateway.setup.run(&["audit", "list", "--status", "error", "--tool", "as_*"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.matches("no such customer").count(), 3, "{shown}");
}

/// A refused call is of use to an operator only if it says what was wanted, and by whom.
#[test]
fn a_refused_call_names_its_target() {
    let roles = "[rbac.roles.user]\npermissions = [\"tools.execute\"]\ndenied_tools = [\"crash\"]\n";
    let setup = Setup::echo().role("user").roles(roles).rate_limits("per_tool = { whoami = 0 }");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"slow\"]"));
    gateway.await_log("configuration reloaded", 1);
    for (tool, arguments) in [
        ("crash", json!({})),
        ("whoami", json!({})),
        ("slow", json!({})),
        ("nope", json!({})),
        ("echo", json!({"text": 5})),
    ] {
        assert!(code(&gateway.call(tool, arguments)) < 0);
    }
    gateway.end();
    let rows = gateway.audit();
    for (tool, status) in [
        ("crash", "denied"),
        ("whoami", "rate_limited"),
        ("slow", "killed"),
        ("nope", "invalid_args"),
        ("echo", "invalid_args"),
    ] {
        let row = row(&rows, tool);
        assert_eq!((&row["status"], &row["subject"]), (&json!(status), &json!("ann")), "{row}");
        assert!(row["error"].as_str().is_some_and(|error| error.len() > 10), "{row}");
    }
}

/// Which servers are up, and why not the others, stands in one line; nobody has to count.
#[test]
fn one_line_says_how_the_start_went() {
    let dead = "[[backends]]\nname = \"broken\"\ntype = \"stdio\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"echo no licence >&2; exit 3\"]";
    let mut gateway = Gateway::start(Setup::echo().more(dead));
    gateway.await_log("started: ", 1);
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("started: ")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let file = gateway.setup.text("sentinel.toml");
    for part in [
        format!("started: sentinel-gateway {version}, {file}, mode jwt, stdio; 1 of 2 servers up, "),
        " tools, ".to_owned(),
        " s; down: broken (".to_owned(),
    ] {
        assert!(line.contains(&part), "no {part:?} in {line}");
    }
    assert!(!log.contains('\u{1b}'), "colours are for terminals: {log}");
    gateway.end();
    let door = Door::echo();
    door.gateway.await_log("started: ", 1);
    let log = door.gateway.log();
    let place = format!("http://{}/mcp; 1 of 1 server up, ", door.address);
    assert!(log.contains(&place), "no {place:?} in {log}");
}

/// A week of one line every minute hides the forty lines that matter.
#[test]
fn one_thing_that_happens_again_and_again_does_not_fill_the_log() {
    let chatty = target().join("guests/chatty.wasm");
    let plugin = format!(
        "[[plugins]]\nname = \"chatty\"\nstage = \"guard\"\nwasm = {:?}\nlimits = {{ deadline_ms = 10000, fuel = 100000000 }}",
        chatty.to_str().unwrap()
    );
    let mut gateway = Gateway::start(Setup::echo().more(&plugin));
    gateway.await_tool("echo");
    for _ in 0..10 {
        assert!(gateway.call("echo", json!({"text": "x"}))["result"].is_object());
    }
    gateway.end();
    let log = gateway.log();
    let said = log.matches("and another thing").count();
    // Ten calls may write 64 lines each.
    assert!((100..=110).contains(&said), "{said} lines:\n{log:.3000}");
    assert!(log.contains("more lines like this were left out: and another thing"), "{log:.3000}");
    assert!(log.contains("backend is ready"), "what happens once is said");
}

#[test]
fn the_record_is_searched_by_every_name_in_it() {
    let setup = Setup::new()
        .backend("echo", &[], "")
        .backend("weather", &["--profile", "weather"], "")
        .more("[rbac.roles.reader]\npermissions = [\"tools.execute\"]");
    let mut door = Door::open(setup, "");
    for (who, role, tool) in [
        ("ada", "admin", "echo"),
        ("ada", "admin", "fail"),
        ("bob", "reader", "forecast"),
        ("bob", "reader", "nope"),
        ("eve", "stranger", "echo"),
    ] {
        let client = door.anyone().bearer(&mint(who, role, 3600)).hello(NEWEST);
        client.call(tool, json!({"text": "x", "city": "Oslo"}));
    }
    door.gateway.signal(rustix::process::Signal::TERM);
    assert!(door.gateway.wait_exit().success());
    let setup = &door.gateway.setup;
    let list = |filters: &[&str]| {
        let all = [&["audit", "list", "--json"], filters].concat();
        let output = setup.run(&all);
        assert!(output.status.success(), "{filters:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let names = |filters: &[&str]| {
        list(filters)
            .iter()
            .map(|row| format!("{}:{}", row["subject"].as_str().unwrap(), row["tool"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["--backend", "weather"]), ["bob:forecast"]);
    assert_eq!(names(&["--backend", "e*", "--subject", "ada"]), ["ada:echo", "ada:fail"]);
    assert_eq!(names(&["--role", "read*"]), ["bob:forecast", "bob:nope"]);
    assert_eq!(names(&["--tool", "*o*", "--subject", "b*"]), ["bob:forecast", "bob:nope"]);
    assert_eq!(names(&["--status", "error,invalid_args", "--subject", "*"]), ["ada:fail", "bob:nope"]);
    assert_eq!(names(&["--status", "error", "--status", "invalid_args"]), ["ada:fail", "bob:nope"]);
    assert!(names(&["--pending"]).is_empty());
    assert!(names(&["--tool", "ECHO"]).is_empty(), "the case counts");
    assert!(names(&["--until", "1h"]).is_empty());
    assert_eq!(names(&["--since", "1h", "--tool", "echo", "--role", "admin"]), ["ada:echo"]);
    // What matches nothing says so, and a word that means nothing is refused with those that do.
    let (status, said) = setup.refused(&["audit", "list", "--backend", "wether"]);
    assert!(status == Some(0) && said.contains("no call on record"), "{status:?} {said}");
    for wrong in [&["--status", "eror"][..], &["--since", "yesterday"], &["--pending", "--status", "error"]] {
        let (status, said) = setup.refused(&[&["audit", "list"], wrong].concat());
        assert_eq!(status, Some(2), "{wrong:?} {said}");
        assert!(
            !wrong.contains(&"eror") || (said.contains("rate_limited") && said.contains("pending")),
            "{said}"
        );
    }
    let (status, said) = setup.refused(&["audit", "tail", "--status", "pending"]);
    assert!(status == Some(1) && said.contains("--pending"), "{status:?} {said}");
}

/// Times are shown in the reader's time zone, with its distance from UTC, and in UTC if that is wanted.
#[test]
fn the_record_is_read_by_the_local_clock() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.call("echo", json!({"text": "x"}));
    gateway.end();
    let time = gateway.audit()[0]["time"].as_str().unwrap().to_owned();
    // Nine hours before UTC, as POSIX writes it: no file of zones is needed.
    let table = |zone: &str, flags: &[&str]| {
        let mut command = gateway.setup.command(&[&["audit", "list"], flags].concat());
        String::from_utf8(command.env("TZ", zone).output().unwrap().stdout).unwrap()
    };
    let utc = table("XYZ9", &["--utc"]);
    assert!(utc.contains(&format!("{}Z", &time[..23])), "{time} in {utc}");
    let local = table("XYZ9", &[]);
    assert!(local.contains("-09:00") && !local.contains(&time[..16]), "{time} in {local}");
    assert!(local.contains(&time[14..23]), "the same minute: {time} in {local}");
    // A time of day is one of the same clock: all of it lies in a day that begins 24 hours ago.
    assert_eq!(table("XYZ9", &["--since", &time]).lines().count(), 2);
    let later = format!("{}T23:59:59", &time[..10]);
    assert_eq!(table("XYZ-14", &["--utc", "--until", &later]).lines().count(), 2);
    assert!(!local.contains('\u{1b}'), "colours are for terminals");
}

/// "Reloaded" is a promise. What was changed and did not change is named.
#[test]
fn a_reload_says_what_it_did_not_take_over() {
    let setup = Setup::echo().rate_limits("default_rpm = 1000").more("[audit]\nredact_keys = [\"pin\"]");
    let mut gateway = Gateway::start(setup);
    gateway.reload(|_| {});
    gateway.await_log("configuration reloaded: nothing in it has changed", 1);
    gateway.reload(|setup| {
        setup.set_rate_limits("default_rpm = 2000");
        setup.set_kill_switch("disabled_tools = [\"slow\"]");
    });
    gateway.await_log("configuration reloaded: in force now: ", 1);
    let log = gateway.log();
    assert!(log.contains("rate_limits.default_rpm") && log.contains("kill_switch.disabled_tools"), "{log}");
    assert!(!log.contains("not in force"), "{log}");
    let text = std::fs::read_to_string(gateway.setup.path("sentinel.toml")).unwrap();
    let text = text
        .replace("name = \"echo\"", "name = \"echo\"\ntimeout_secs = 7")
        .replace("\"off\"", "\"127.0.0.1:0\"")
        .replace("redact_keys", "keep_days = 7\nmode = \"strict\"\nredact_keys");
    gateway.reload(|setup| setup.set_whole(&text));
    gateway.await_log("not in force before the gateway is started anew", 1);
    let log = gateway.log();
    let made = log.lines().rfind(|line| line.contains("in force now: ")).unwrap();
    for key in ["backends \"echo\".timeout_secs", "audit.keep_days"] {
        assert!(made.contains(key), "no {key} in {made}");
    }
    let line = log.lines().find(|line| line.contains("not in force")).unwrap();
    for key in ["gateway.health_listen", "audit.mode"] {
        assert!(line.contains(key), "no {key} in {line}");
    }
    // It is so for as long as the file and the gateway differ.
    gateway.reload(|_| {});
    gateway.await_log("not in force before the gateway is started anew", 2);
    assert!(gateway.call("slow", json!({}))["error"]["data"]["reason"] == "killed");
}

/// A secret that comes with a reload is hidden from then on, and what was hidden stays so.
#[test]
fn a_reload_hides_new_secrets() {
    let setup = Setup::new()
        .backend("echo", &[], "env = { API_KEY = \"${file:key}\" }")
        .more("[audit]\nredact_keys = [\"pin\"]");
    let write = |setup: &Setup, key: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = setup.path("key");
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&setup, "the-first-key-4711");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    write(&gateway.setup, "the-second-key-0815");
    let whole = std::fs::read_to_string(gateway.setup.path("sentinel.toml")).unwrap();
    gateway.reload(|setup| setup.set_whole(&whole.replace("[\"pin\"]", "[\"pin\", \"tan\"]")));
    gateway.await_log("configuration reloaded: in force now: audit.redact_keys", 1);
    gateway.await_log("the values of secrets", 1);
    let arguments =
        json!({"text": "the-first-key-4711 the-second-key-0815", "pin": "12345-6", "tan": "98765-4"});
    assert!(gateway.call("echo", arguments)["result"].is_object());
    gateway.end();
    let row = gateway.audit().remove(0);
    let hidden = json!({"text": "[redacted] [redacted]", "pin": "[redacted]", "tan": "[redacted]"});
    assert_eq!(row["arguments"], hidden);
}

/// What the backend was given is what happened; what the caller wanted stands beside it.
#[test]
fn the_record_holds_what_was_sent() {
    let rules = r#"[backends.rewrite]
arguments = [{ tool = "echo", default = "/text", value = "by default" }]"#;
    let mut gateway = Gateway::start(Setup::new().backend("echo", &[], rules));
    gateway.await_tool("echo");
    gateway.call("echo", json!({"n": 1.0}));
    gateway.call("echo", json!({"text": "mine"}));
    gateway.end();
    let rows = gateway.audit();
    assert_eq!(
        (&rows[0]["arguments"], &rows[0]["sent"]),
        (&json!({"n": 1.0}), &json!({"n": 1.0, "text": "by default"}))
    );
    assert_eq!((&rows[1]["arguments"], &rows[1]["sent"]), (&json!({"text": "mine"}), &Value::Null));
    let shown = String::from_utf8(gateway.setup.run(&["audit", "list"]).stdout).unwrap();
    assert!(shown.contains(r#"{"n":1.0} sent as {"#), "{shown}");
}

/// Half a gigabyte in an afternoon, of which nobody reads more than the beginning.
#[test]
fn of_long_arguments_the_record_keeps_what_somebody_reads() {
    const CALLS: usize = 300;
    let mut gateway = Gateway::start(Setup::echo());
    let text = (0..2_500).map(|number| format!("line {number} of a long text\n")).collect::<String>();
    for _ in 0..CALLS {
        assert!(gateway.call("echo", json!({"text": text}))["result"].is_object());
    }
    gateway.end();
    let size = gateway.setup.path("sentinel-gateway/audit.db").metadata().unwrap().len();
    assert!(size < 3 << 20, "{size} bytes for {CALLS} calls of {} bytes", text.len());
    let row = gateway.audit().remove(0);
    let kept = &row["arguments"];
    assert!(
        kept["prefix"].as_str().unwrap().starts_with(r#"{"text":"line 0 of a long text\nline 1 "#),
        "{kept}"
    );
    assert_eq!((&kept["truncated"], kept["blake3"].as_str().unwrap().len()), (&json!(true), 64));
    // The operator can ask for all of it.
    let mut gateway = Gateway::start(Setup::echo().more("[audit]\nmax_arguments_bytes = 1048576"));
    gateway.call("echo", json!({"text": text}));
    gateway.end();
    assert_eq!(gateway.audit()[0]["arguments"]["text"], text);
}

/// With a record of any size an orderly stop is one: what is on record is in the database, and that is said by code 0.
#[test]
fn an_orderly_stop_under_load_is_one() {
    let mut door = Door::open(Setup::echo().more("[audit]\nmax_arguments_bytes = 1048576"), "");
    let text = "A".repeat(50_000);
    let workers: Vec<_> = (0..4)
        .map(|number| {
            let client = door.client(&format!("worker-{number}")).hello(NEWEST);
            let text = text.clone();
            std::thread::spawn(move || {
                for round in 0..100 {
                    client.call(if round % 3 == 0 { "nope" } else { "echo" }, json!({"text": text}));
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    door.gateway.signal(rustix::process::Signal::TERM);
    let status = door.gateway.wait_exit();
    let log = door.gateway.log();
    assert!(status.success() && log.contains("Shutdown complete"), "{status}: {log}");
    assert!(!log.contains("not in the database yet"), "{log}");
    assert_eq!(door.gateway.audit().len(), 400);
}

/// Runs a command on a terminal of its own and returns what it showed there; `typed` is typed into it.
fn on_a_terminal(setup: &Setup, args: &[&str], env: &[(&str, &str)], typed: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let inner = setup.command(args);
    let mut command = Command::new("python3");
    command.args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"]);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(setup.path(""));
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm").envs(env.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

#[test]
fn terminals_are_shown_colours_and_nobody_else_is() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.call("echo", json!({"text": "x"}));
    gateway.call("fail", json!({}));
    gateway.end();
    let setup = gateway.into_setup();
    let shown = on_a_terminal(&setup, &["audit", "list"], &[], "");
    assert!(shown.contains("\u{1b}[32msuccess\u{1b}[0m"), "{shown:?}");
    assert!(shown.contains("\u{1b}[31merror  \u{1b}[0m"), "aligned: {shown:?}");
    for without in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_a_terminal(&setup, &["audit", "list"], &[without], "");
        assert!(shown.contains("success") && !shown.contains('\u{1b}'), "{without:?}: {shown:?}");
    }
    // Control-D is the end of what a terminal types: the gateway's client hangs up.
    let log = on_a_terminal(&setup, &[], &[], "\u{4}");
    assert!(log.contains("\u{1b}[32m INFO\u{1b}[0m") && log.contains("Shutdown complete"), "{log:?}");
    let log = on_a_terminal(&setup, &[], &[("NO_COLOR", "1")], "\u{4}");
    assert!(log.contains(" INFO ") && !log.contains('\u{1b}'), "{log:?}");
}

/// What the HTTP door records of strangers, the other door does, too: with the name of what was asked for.
#[test]
fn a_stranger_on_stdio_leaves_a_row_too() {
    let setup = Setup::echo().env("SENTINEL_TOKEN", &mint("ann", "admin", -3600)).unawaited();
    let mut gateway = Gateway::spawn(setup);
    let info = json!({"name": "it", "version": "1"});
    let hello = json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": info});
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": info,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    for (method, params) in [
        ("initialize", hello),
        ("tools/call", json!({"name": "echo", "arguments": {"text": "x"}, "_meta": meta})),
        ("tools/list", json!({"_meta": meta})),
        ("server/discover", json!({"_meta": meta})),
    ] {
        let answer = gateway.request(method, &params);
        assert!(code(&answer) < 0, "{method}: {answer}");
    }
    gateway.end();
    let rows = gateway.audit();
    let mut seen: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["method"].as_str().unwrap(), row["tool"].as_str().unwrap())).collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [("initialize", ""), ("server/discover", ""), ("tools/call", "echo"), ("tools/list", "")]
    );
    assert!(
        rows.iter().all(|row| row["status"] == "unauthenticated" && row["error"].is_string()),
        "{rows:#?}"
    );
}
