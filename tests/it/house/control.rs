//! Commands of an operator to a gateway that runs: what they do, to whom they answer, and what they leave behind.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, Setup, code, eventually, reason};

mod backends;
mod door;
mod kills;
mod timed;

/// What a command came to.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(setup: &Setup, args: &[&str]) -> Said {
    let output = setup.run(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A command that is done, and what it says.
pub(super) fn done(setup: &Setup, args: &[&str]) -> String {
    let Said { code, out, err } = command(setup, args);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}: {out}");
    out
}

/// A command that is not done, and why.
pub(super) fn refused(setup: &Setup, args: &[&str]) -> String {
    let Said { code, out, err } = command(setup, args);
    assert_eq!(code, Some(1), "{args:?}: {out}{err}");
    err
}

/// What `status --json` says of the only gateway.
pub(super) fn status(setup: &Setup) -> Value {
    let line: Value = serde_json::from_str(&done(setup, &["status", "--json"])).unwrap();
    line["answer"]["ok"]["status"].clone()
}

/// The folder of the sockets, once there is one.
fn sockets(setup: &Setup) -> Vec<PathBuf> {
    let all = setup.files("sentinel-gateway/control");
    all.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "sock")).collect()
}

fn orders(setup: &Setup) -> PathBuf {
    let all = setup.files("sentinel-gateway/control");
    all.into_iter().find(|path| path.ends_with("orders.json")).unwrap()
}

fn user() -> String {
    let output = Command::new("id").arg("-un").stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn status_says_what_is_up_off_and_refused_last() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"fail\"]"));
    gateway.await_log("configuration reloaded", 1);
    assert_eq!(reason(&gateway.call("fail", json!({}))), "killed");
    let text = done(&gateway.setup, &["status", "--utc"]);
    let pid = gateway.pid();
    assert!(
        text.starts_with(&format!("Sentinel Gateway {}, process {pid}, up for ", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    for part in [
        "door        stdio, mode jwt, 1 client",
        "record      is written",
        "echo     ready",
        "tool \"fail\"",
        "the file",
        "killed: tool",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let status = status(&gateway.setup);
    let backend = &status["endpoints"][0]["backends"][0];
    assert_eq!((&backend["state"], &backend["starts"]), (&json!("ready"), &json!(1)), "{status}");
    assert!(crate::support::alive(i32::try_from(backend["pid"].as_i64().unwrap()).unwrap()), "{status}");
    let last = &status["refused"][0];
    assert_eq!(
        (&last["subject"], &last["status"], &last["asked"]),
        (&json!("ann"), &json!("killed"), &json!("tools/call fail"))
    );
    assert_eq!(status["switched_off"][0]["origin"], "file", "{status}");
}

#[test]
fn calls_under_way_are_shown_until_they_end() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("slow");
    let slow = gateway.begin("slow", json!({"ms": 60_000}));
    let shown = eventually("the call", || {
        let status = status(&gateway.setup);
        (status["in_flight"] == 1).then(|| status["calls"][0].clone())
    });
    assert_eq!(
        (&shown["name"], &shown["subject"], &shown["backend"]),
        (&json!("slow"), &json!("ann"), &json!("echo"))
    );
    gateway.notify("notifications/cancelled", &json!({"requestId": slow}));
    eventually("its end", || (status(&gateway.setup)["in_flight"] == 0).then_some(()));
}

#[test]
fn every_command_is_on_record_with_who_and_why() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    done(&gateway.setup, &["kill", "tool", "echo", "--reason", "it leaks"]);
    refused(&gateway.setup, &["revive", "tool", "fail", "--reason", "a mistake"]);
    done(&gateway.setup, &["status"]);
    gateway.end();
    let rows = gateway.audit();
    let row = |name: &str| {
        rows.iter().find(|row| row["tool"] == name).unwrap_or_else(|| panic!("{name}: {rows:?}"))
    };
    let kill = row("kill");
    assert_eq!(
        (&kill["kind"], &kill["method"], &kill["subject"], &kill["role"], &kill["status"]),
        (&json!("control"), &json!("control/kill"), &json!(user()), &json!("operator"), &json!("success"))
    );
    assert_eq!(
        (&kill["arguments"]["what"]["tool"], &kill["arguments"]["reason"]),
        (&json!("echo"), &json!("it leaks"))
    );
    assert_eq!(row("revive")["status"], "error");
    assert!(row("revive")["error"].as_str().unwrap().contains("no order says"), "{rows:?}");
    assert_eq!(row("status")["status"], "success");
}

#[test]
fn roles_and_limits_hold_for_operators_as_well() {
    let reader =
        "[rbac.roles.admin]\npermissions = [\"*\"]\n[rbac.roles.reader]\npermissions = [\"tools.read\"]";
    let mut gateway = Gateway::start(Setup::echo().auth("operator_role = \"reader\"").roles(reader));
    let said = refused(&gateway.setup, &["kill", "all"]);
    assert!(said.contains("\"reader\"") && said.contains("control"), "{said}");
    gateway.await_tool("echo");
    assert!(gateway.call("echo", json!({}))["result"].is_object(), "nothing is off");
    gateway.end();
    let rows = gateway.audit();
    let kill = rows.iter().find(|row| row["tool"] == "kill").unwrap();
    assert_eq!(
        (&kill["status"], &kill["subject"], &kill["role"]),
        (&json!("denied"), &json!(user()), &json!("reader"))
    );

    let gateway = Gateway::start(Setup::echo().rate_limits("default_rpm = 2"));
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(command(&gateway.setup, &["status"]));
    }
    assert_eq!(said.iter().map(|said| said.code).collect::<Vec<_>>(), [Some(0), Some(0), Some(1)]);

    // An admin of the tokens is none of the machine, and the other way round.
    let named = Setup::echo().auth("mode = \"local\"\nrole = \"admin\"\noperator_role = \"admin\"");
    let gateway = Gateway::start(named);
    done(&gateway.setup, &["kill", "all"]);
    assert_eq!(status(&gateway.setup)["mode"], "local");
}

#[test]
fn a_file_is_compared_and_applied_and_a_broken_one_changes_nothing() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    assert_eq!(done(&gateway.setup, &["config", "diff"]), "nothing: the file says what is in force\n");
    gateway.setup.set_kill_switch("disabled_tools = [\"echo\"]");
    let said = done(&gateway.setup, &["config", "diff"]);
    assert_eq!(said, "kill_switch.disabled_tools: applies at once\n");
    assert!(gateway.call("echo", json!({}))["result"].is_object(), "only looked at");
    let said = done(&gateway.setup, &["config", "apply", "--reason", "a drill"]);
    assert!(said.contains("kill_switch.disabled_tools: applied\n"), "{said}");
    assert_eq!(reason(&gateway.call("echo", json!({}))), "killed");
    gateway.setup.set_kill_switch("disabled_tols = []\ndisabled_backends = [\"nobody\"]");
    for args in [["config", "diff"], ["config", "apply"]] {
        let said = refused(&gateway.setup, &args);
        assert!(said.contains("disabled_tols") && said.contains("nobody"), "every reason: {said}");
    }
    assert_eq!(reason(&gateway.call("echo", json!({}))), "killed");
    // Whatever the file says by now, the gateway is found.
    gateway.setup.set_whole("this is no TOML");
    done(&gateway.setup, &["kill", "tool", "fail"]);
    gateway.setup.set_pieces();
}

#[test]
fn several_gateways_of_one_file_are_all_told() {
    let mut first = Gateway::start(Setup::echo());
    first.await_tool("echo");
    let mut second = first
        .setup
        .command(&[])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pids = eventually("two gateways", || {
        let said = done(&first.setup, &["status", "--json"]);
        let pids: Vec<u64> = said
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["pid"].as_u64().unwrap())
            .collect();
        (pids.len() == 2).then_some(pids)
    });
    let own = u64::try_from(first.pid()).unwrap();
    assert!(pids.contains(&own) && pids.contains(&u64::from(second.id())), "{pids:?}");
    let said = done(&first.setup, &["kill", "tool", "echo", "--even-unknown"]);
    assert_eq!(said.lines().filter(|line| line.contains("is switched off")).count(), 2, "{said}");
    assert!(said.contains(&format!("gateway {own}: ")), "{said}");
    assert_eq!(reason(&first.call("echo", json!({}))), "killed");
    let only = done(&first.setup, &["status", "--json", "--pid", &second.id().to_string()]);
    let only: Value = serde_json::from_str(only.trim()).unwrap();
    assert_eq!(only["answer"]["ok"]["status"]["switched_off"][0]["what"]["tool"], "echo", "{only}");
    let nobody = refused(&first.setup, &["status", "--pid", "1"]);
    assert!(nobody.contains("process id 1"), "{nobody}");
    // One that was killed leaves a socket on which nobody listens; it is passed over, and swept by the next one.
    second.kill().and_then(|()| second.wait()).unwrap();
    done(&first.setup, &["revive", "tool", "echo"]);
    assert!(first.call("echo", json!({}))["result"].is_object());
    assert_eq!(sockets(&first.setup).len(), 2);
    let first = first.crash_and_restart();
    let left = sockets(&first.setup);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].ends_with(format!("{}.sock", first.pid())), "{left:?}");
}

#[test]
fn without_a_gateway_or_with_the_door_shut_that_is_said() {
    let setup = Setup::echo();
    let said = refused(&setup, &["status"]);
    assert!(said.contains("no gateway runs with this configuration file"), "{said}");
    let mut gateway = Gateway::start(setup.gateway("control_dir = \"off\""));
    let said = refused(&gateway.setup, &["kill", "all"]);
    assert!(said.contains("control_dir") && said.contains("off"), "{said}");
    gateway.await_tool("echo");
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    let said = gateway.call("nothing", json!({}));
    assert_eq!(code(&said), -32602);
}

#[test]
fn the_help_tells_how() {
    let setup = Setup::new();
    for (args, words) in [
        (vec!["kill", "--help"], "calls under way are ended"),
        (vec!["revive", "--help"], "`kill all`"),
        (vec!["backend", "stop", "--help"], "refuse its calls until `start`"),
        (vec!["status", "--help"], "if several run with the same"),
        (vec!["config", "apply", "--help"], "as SIGHUP does"),
    ] {
        let (code, out, _) = setup.bare(&args);
        assert_eq!(code, Some(0));
        assert!(out.contains(words), "{args:?}: {out}");
    }
    let (_, page, _) = setup.bare(&["man"]);
    let (_, script, _) = setup.bare(&["completions", "bash"]);
    for name in ["status", "kill", "revive", "backend"] {
        assert!(page.contains(name) && script.contains(name), "{name}");
    }
}
