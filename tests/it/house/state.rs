//! What guards know outlives the process: limits that are used up, circuits that are open.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http_door::client::Door;
use crate::support::{Gateway, Setup, SmallDisk, code, eventually, fixture, reason, said};

/// One call of `echo` a minute; the others are as good as free.
fn limited() -> Setup {
    Setup::echo().rate_limits("default_rpm = 1000000\nper_tool = { echo = { rpm = 1, burst = 1 } }")
}

fn echo(gateway: &mut Gateway) -> Value {
    gateway.call("echo", json!({"text": "x"}))
}

/// The limit lets this call pass, and says no to the next.
fn spend(gateway: &mut Gateway) {
    assert!(echo(gateway)["result"].is_object(), "{}", gateway.log());
    is_spent(gateway);
}

fn is_spent(gateway: &mut Gateway) {
    let refused = echo(gateway);
    assert_eq!((code(&refused), reason(&refused)), (-32_004, "rate_limited"));
    // Everything else works.
    assert!(gateway.call("whoami", json!({}))["result"].is_object(), "{}", gateway.log());
}

/// The files that are kept for gateways of this setup.
fn files(setup: &Setup) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(setup.path("sentinel-gateway/state")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "state")).collect()
}

/// Does something that guards remember, and waits until it has been written down.
fn written(gateway: &mut Gateway, deed: impl FnOnce(&mut Gateway)) {
    let bytes = |setup: &Setup| files(setup).iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    deed(gateway);
    // What was written last may be the end of the deed or its middle: it is all there when nothing more comes.
    let mut seen = (bytes(&gateway.setup), std::time::Instant::now());
    eventually("a file that rests", || {
        let now = bytes(&gateway.setup);
        if now != seen.0 {
            seen = (now, std::time::Instant::now());
        }
        (seen.1.elapsed().as_millis() > 1_500).then_some(())
    });
}

#[test]
fn a_limit_that_is_used_up_stays_so_over_a_stop_and_a_kill() {
    let mut gateway = Gateway::start(limited());
    spend(&mut gateway);
    gateway.signal(Signal::TERM);
    assert!(gateway.wait_exit().success());
    // What was spent last is written at the stop, however late it came.
    let mut gateway = Gateway::start(gateway.into_setup());
    written(&mut gateway, is_spent);
    let mut gateway = gateway.crash_and_restart();
    is_spent(&mut gateway);
    gateway.end();
    let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert!(files(&gateway.setup).iter().all(|file| mode(file) == 0o600));
    assert_eq!(
        (files(&gateway.setup).len(), mode(&gateway.setup.path("sentinel-gateway/state"))),
        (1, 0o700)
    );
}

#[test]
fn a_limit_goes_on_over_reloads_and_starts_in_any_order() {
    let mut gateway = Gateway::start(limited());
    spend(&mut gateway);
    // Another limit for another tool: a new generation, whose plugin is another instance.
    let limits =
        |more: u32| format!("default_rpm = {more}\nper_tool = {{ echo = {{ rpm = 1, burst = 1 }} }}");
    gateway.reload(|setup| setup.set_rate_limits(&limits(999_999)));
    gateway.await_log("configuration reloaded: in force now: ", 1);
    is_spent(&mut gateway);
    gateway.end();
    let mut gateway = Gateway::start(gateway.into_setup());
    is_spent(&mut gateway);
    gateway.reload(|setup| setup.set_rate_limits(&limits(999_998)));
    gateway.await_log("configuration reloaded: in force now: ", 1);
    is_spent(&mut gateway);
    gateway.end();
    // Changed while nobody ran it, the limit refills nothing either.
    let mut setup = gateway.into_setup();
    setup.set_rate_limits("default_rpm = 999997\nper_tool = { echo = { rpm = 1, burst = 9 } }");
    let mut gateway = Gateway::start(setup);
    is_spent(&mut gateway);
    gateway.end();
}

#[test]
fn what_a_killed_gateway_had_a_second_to_write_is_kept() {
    let mut gateway = Gateway::start(limited());
    written(&mut gateway, spend);
    is_spent(&mut gateway.crash_and_restart());
}

#[test]
fn who_wants_nothing_kept_starts_anew() {
    let mut gateway = Gateway::start(limited().more("[state]\npersist = false"));
    spend(&mut gateway);
    gateway.end();
    let mut gateway = Gateway::start(gateway.into_setup());
    spend(&mut gateway);
    gateway.end();
    assert!(!gateway.setup.path("sentinel-gateway/state").exists());
}

/// A server that breaks its word with one tool.
const FAILING: &str = r##"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ("cut", "fine")]
def call(id, params):
    if params["name"] == "cut": print('{"jsonrpc": "2.0", "id": %d, "result": {' % id, flush=True)
    else: text(id, "called fine")
"##;

/// A gateway whose circuit has opened, after two failures.
fn broken(recovery_secs: u32) -> Gateway {
    let keys = format!("circuit_breaker_threshold = 2\ncircuit_breaker_recovery_secs = {recovery_secs}");
    let mut gateway = Gateway::start(Setup::new().scripted("srv", FAILING, &keys));
    gateway.await_tool("cut");
    for _ in 0..2 {
        assert_eq!(reason(&gateway.call("cut", json!({}))), "backend_protocol_error");
    }
    gateway.await_log("the circuit of the backend \"srv\" is open", 1);
    gateway
}

#[test]
fn a_circuit_that_is_open_stays_open() {
    let mut gateway = broken(200);
    assert_eq!(reason(&gateway.call("fine", json!({}))), "circuit_open");
    gateway.end();
    let mut gateway = Gateway::start(gateway.into_setup());
    gateway.await_tool("fine");
    let refused = gateway.call("fine", json!({}));
    assert_eq!(reason(&refused), "circuit_open");
    // The time that it was down counts, and no more than that: the wait is what is left of the 200 s.
    let wait = refused["error"]["data"]["retryAfter"].as_u64().unwrap();
    assert!((1..=200).contains(&wait), "{refused}");
    gateway.end();
}

#[test]
fn a_circuit_whose_time_came_while_the_gateway_was_down_is_tried_by_one_call() {
    let mut gateway = broken(1);
    written(&mut gateway, |_| {});
    let mut gateway = gateway.crash_and_restart();
    gateway.await_tool("cut");
    // `written` has waited for longer than a second. This call is the probe: it alone is enough to open the circuit again,
    // for which a circuit that nobody remembers needs two.
    assert_eq!(reason(&gateway.call("cut", json!({}))), "backend_protocol_error");
    gateway.await_log("the circuit of the backend \"srv\" stays open", 1);
    assert_eq!(reason(&gateway.call("fine", json!({}))), "circuit_open");
    eventually("the next probe", || {
        let answer = gateway.call("fine", json!({}));
        answer["result"].is_object().then(|| assert_eq!(said(&answer), "called fine"))
    });
    gateway.end();
}

#[test]
fn a_file_that_is_damaged_is_set_aside_and_one_that_was_cut_off_is_not() {
    let mut gateway = Gateway::start(limited());
    written(&mut gateway, spend);
    // Nothing has changed since: what is written last is only what time it is.
    gateway.end();
    let setup = gateway.into_setup();
    let file = files(&setup).remove(0);
    let bytes = std::fs::read(&file).unwrap();
    // Killed in the middle of its last write.
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let mut gateway = Gateway::start(setup);
    is_spent(&mut gateway);
    gateway.end();
    assert!(!gateway.log().contains("set aside"), "{}", gateway.log());
    std::fs::write(&file, "this is no state").unwrap();
    let mut gateway = Gateway::start(gateway.into_setup());
    gateway.await_log("it is no file of this kind; it is set aside as ", 1);
    spend(&mut gateway);
    gateway.end();
    let aside = std::fs::read_to_string(file.with_extension("damaged")).unwrap();
    assert_eq!(aside, "this is no state");
    // Behind what was written there stands something else: what was written counts.
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend_from_slice(&[7; 100]);
    std::fs::write(&file, &bytes).unwrap();
    let mut gateway = Gateway::start(gateway.into_setup());
    gateway.await_log("cannot be read from byte ", 1);
    is_spent(&mut gateway);
    gateway.end();
}

/// A call of another gateway that is started with the same file, as another client of the same user does; it then ends.
fn beside(setup: &Setup, tool: &str) -> Value {
    let mut child = setup
        .command(&[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let info = json!({"name": "it", "version": "1"});
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answer = |id: u64, method: &str, params: Value| {
        writeln!(stdin, "{}", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .unwrap();
        loop {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if line["id"] == id && line.get("method").is_none() {
                return line;
            }
        }
    };
    answer(1, "initialize", hello);
    answer(2, "tools/list", json!({}));
    let answer = answer(3, "tools/call", json!({"name": tool, "arguments": {"text": "x"}}));
    drop(stdin);
    assert!(child.wait().unwrap().success());
    answer
}

#[test]
fn gateways_of_one_file_know_what_the_others_keep_and_write_their_own() {
    let mut gateway = Gateway::start(limited());
    written(&mut gateway, spend);
    // Another one starts while the first one runs: it begins where that one is.
    assert_eq!(reason(&beside(&gateway.setup, "echo")), "rate_limited");
    assert!(beside(&gateway.setup, "whoami")["result"].is_object());
    is_spent(&mut gateway);
    let left = files(&gateway.setup);
    assert_eq!(left.len(), 2, "{left:?}");
    // What both have left is taken over by the next.
    let mut gateway = gateway.crash_and_restart();
    is_spent(&mut gateway);
    assert_eq!(files(&gateway.setup).len(), 1);
    gateway.end();
}

#[test]
fn a_full_disk_is_named_once_and_what_was_not_written_is_when_there_is_room() {
    let setup = limited();
    let Some(disk) = SmallDisk::mount(&setup.path("disk")) else { return };
    let mut gateway = Gateway::start(setup.more(&format!("[state]\ndir = {:?}", disk.0.join("state"))));
    disk.fill();
    spend(&mut gateway);
    const FULL: &str = "limits and circuits are not kept for the next start, until this is mended: ";
    eventually("a write that fails", || {
        assert!(gateway.call("whoami", json!({}))["result"].is_object());
        gateway.log().contains(FULL).then_some(())
    });
    assert!(gateway.log().contains("No space left on device"), "{}", gateway.log());
    disk.empty();
    gateway.await_log("limits and circuits are kept again", 1);
    assert_eq!(gateway.log().matches(FULL).count(), 1);
    let mut gateway = gateway.crash_and_restart();
    is_spent(&mut gateway);
    gateway.end();
    drop(gateway);
    drop(disk);
}

#[test]
fn a_limit_over_http_stays_used_up_for_each_caller_and_each_endpoint() {
    let setup = limited();
    {
        let file = setup.path("dev.toml");
        let backend =
            format!("name = \"echo\"\ntype = \"stdio\"\ncommand = {:?}\nargs = [\"stdio\"]", fixture());
        let limits = "[rate_limits]\nper_tool = { echo = { rpm = 1, burst = 1 } }";
        let roles = "[rbac.roles.admin]\npermissions = [\"*\"]";
        std::fs::write(&file, format!("{roles}\n{limits}\n[[backends]]\n{backend}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let door = Door::open(setup, "[[http.mounts]]\npath = \"/mcp/dev\"\nconfig = \"dev.toml\"");
    let ask = |door: &Door, who: &str, path: &str| {
        let answer =
            door.client(who).at(path).ask("tools/call", &json!({"name": "echo", "arguments": {"text": "x"}}));
        answer.value()["error"]["data"]["reason"].as_str().unwrap_or("passes").to_owned()
    };
    door.gateway.await_log("backend is ready backend=echo ", 2);
    // Ann uses up the one, Bob the other.
    assert_eq!([ask(&door, "ann", "/mcp"), ask(&door, "bob", "/mcp/dev")], ["passes", "passes"]);
    let door = door.again();
    door.gateway.await_log("backend is ready backend=echo ", 2);
    assert_eq!([ask(&door, "ann", "/mcp"), ask(&door, "bob", "/mcp/dev")], ["rate_limited", "rate_limited"]);
    assert_eq!([ask(&door, "bob", "/mcp"), ask(&door, "ann", "/mcp/dev")], ["passes", "passes"]);
    // There is one state, and the main file says where.
    let setup = door.gateway.into_setup();
    let file = setup.path("dev.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("[state]\npersist = false\n{text}")).unwrap();
    let (status, said) = setup.refused(&["check"]);
    assert!(
        status != Some(0) && said.contains("the state of a mount is kept where the main file says"),
        "{said}"
    );
}

#[test]
fn a_folder_that_others_may_write_to_or_that_is_none_is_named() {
    let setup = Setup::echo();
    let folder = setup.path("sentinel-gateway/state");
    std::fs::create_dir_all(&folder).unwrap();
    for path in [folder.parent().unwrap(), &folder] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (status, said) = setup.refused(&[]);
    assert!(status != Some(0) && said.contains("state.dir: ") && said.contains("chmod"), "{said}");
    // A file in its place opens nothing: the gateway starts, and says what it cannot do.
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "a file").unwrap();
    let mut gateway = Gateway::start(setup);
    gateway.await_log("limits and circuits of this gateway end with it, because they cannot be kept: ", 1);
    gateway.end();
}
