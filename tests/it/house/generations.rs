//! Every change of the file applies live, as a whole, and to the next call of everybody.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests::guest;
use crate::http_door::client::{Client, Door, NEWEST, request, tool};
use crate::support::{Gateway, Setup, alive, code, eventually, free_address, get, mint, reason, said};

/// A server that says which process it is and what its variable `V` is. A call with `wait` is answered when that file exists.
const TELLS: &str = "import threading\n\
    tools = [{\"name\": os.environ[\"NAME\"] + \"_tell\", \"inputSchema\": {\"type\": \"object\"}}]\n\
    def call(id, params):\n    threading.Thread(target=answer, args=(id, params.get(\"arguments\") or {})).start()\n\
    def answer(id, arguments):\n    if \"wait\" in arguments:\n        note(\"waits\", os.environ[\"V\"])\n\
    \x20   while \"wait\" in arguments and not os.path.exists(arguments[\"wait\"]):\n        time.sleep(0.01)\n\
    \x20   text(id, os.environ[\"V\"] + \" \" + str(os.getpid()))\n";

fn tells(setup: Setup, name: &str) -> Setup {
    setup.scripted(name, TELLS, &format!("env = {{ NAME = {name:?}, V = \"1\" }}"))
}

/// The lines in which a gateway says what came of a reload.
fn reports(log: &str) -> Vec<&str> {
    let ends = ["configuration reloaded: ", "the old configuration stays in force"];
    log.lines().filter(|line| ends.iter().any(|end| line.contains(end))).collect()
}

/// Changes the text of the file, lets the gateway read it, and waits for what it says of that.
fn reload(gateway: &mut Gateway, change: impl FnOnce(String) -> String) -> String {
    let text = change(fs::read_to_string(gateway.setup.path("sentinel.toml")).unwrap());
    let before = reports(&gateway.log()).len();
    gateway.reload(|setup| setup.set_whole(&text));
    eventually("what came of a reload", || {
        let log = gateway.log();
        // What is not in force, and why, is said after it.
        reports(&log).get(before).map(|line| (*line).to_owned())
    })
}

/// The same, which must be applied.
fn applied(gateway: &mut Gateway, change: impl FnOnce(String) -> String) -> String {
    let line = reload(gateway, change);
    assert!(line.contains("in force now: "), "{line}\n{}", gateway.log());
    line
}

/// The same, which must be refused; the causes.
fn refused(gateway: &mut Gateway, change: impl FnOnce(String) -> String) -> String {
    let before = gateway.log().len();
    let line = reload(gateway, change);
    assert!(line.contains("stays in force"), "{line}");
    // The causes follow line by line.
    eventually("the causes", || {
        let log = gateway.log();
        log[before..].split_once("stays in force").filter(|(_, causes)| causes.contains("ERROR")).map(drop)
    });
    gateway.log()[before..].to_owned()
}

/// The file without one of its backends.
fn without(text: &str, backend: &str) -> String {
    let begin = text.find(&format!("[[backends]]\nname = {backend:?}")).unwrap();
    let rest = &text[begin + 1..];
    let end = rest.find("\n[[").or_else(|| rest.find("\n[http]")).map_or(text.len(), |end| begin + 1 + end);
    format!("{}{}", &text[..begin], &text[end..])
}

fn roles(permissions: &str) -> String {
    format!(
        "[rbac.roles.admin]\npermissions = [\"*\"]\n[rbac.roles.user]\npermissions = [\"*\"]\n{permissions}"
    )
}

#[test]
fn what_a_role_lost_is_refused_with_the_very_next_call_of_an_open_session() {
    let Door { mut gateway, address } =
        Door::open(Setup::echo().roles(&roles("denied_tools = [\"fail\"]")), "");
    let bob = Client::of(&address).bearer(&mint("bob", "user", 3600)).hello(NEWEST);
    assert!(bob.call("echo", json!({}))["result"].is_object());
    let line =
        applied(&mut gateway, |text| text.replace("denied_tools = [\"fail\"]", "denied_tools = [\"echo\"]"));
    assert!(line.contains("rbac.roles.user.denied_tools"), "{line}");
    let denied = bob.request("tools/call", &tool("echo", json!({}))).value();
    assert_eq!(reason(&denied), "permission_denied", "{denied}");
    assert!(bob.call("fail", json!({}))["result"].is_object(), "and what it gained is there");
    assert!(!bob.tools().contains(&"echo".to_owned()));
    // Without the role he may do nothing.
    applied(&mut gateway, |text| text.replace("[rbac.roles.user]", "[rbac.roles.others]"));
    let denied = bob.request("tools/call", &tool("fail", json!({}))).value();
    assert_eq!(code(&denied), -32003, "{denied}");
    assert_eq!(bob.tools(), [""; 0]);
    gateway.signal(rustix::process::Signal::TERM);
    gateway.wait_exit();
    let rows = gateway.audit();
    let generations: Vec<i64> = rows.iter().filter_map(|row| row["generation"].as_i64()).collect();
    assert_eq!(generations.len(), rows.len(), "every row says by which generation it was judged");
    assert_eq!(generations.iter().max(), Some(&3));
    let of_denied = rows.iter().find(|row| row["status"] == "denied").unwrap();
    assert!(of_denied["generation"].as_i64() >= Some(2), "{of_denied}");
}

#[test]
fn a_server_comes_and_goes_and_the_others_serve_on() {
    let mut gateway = Gateway::start(tells(tells(Setup::new(), "one"), "two"));
    let whole = fs::read_to_string(gateway.setup.path("sentinel.toml")).unwrap();
    assert_eq!(gateway.tools(), ["one_tell", "two_tell"]);
    let one = said(&gateway.call("one_tell", json!({}))).to_owned();
    let two = said(&gateway.call("two_tell", json!({}))).to_owned();
    let pid_of = |said: &str| -> i32 { said.split_once(' ').unwrap().1.parse().unwrap() };
    let line = applied(&mut gateway, |text| without(&text, "two"));
    assert!(line.contains("backends \"two\" (taken out)") && line.contains("servers_kept=1"), "{line}");
    let unknown = gateway.call("two_tell", json!({}));
    assert_eq!(code(&unknown), -32602, "{unknown}");
    gateway.heard("notifications/tools/list_changed");
    assert_eq!(gateway.tools(), ["one_tell"]);
    assert_eq!(said(&gateway.call("one_tell", json!({}))), one, "the same process");
    eventually("the end of a server that is in no generation", || (!alive(pid_of(&two))).then_some(()));
    assert!(alive(pid_of(&one)));
    let line = applied(&mut gateway, |_| whole);
    assert!(line.contains("backends \"two\" (new)") && line.contains("servers_started=1"), "{line}");
    // It is there with its lists from the first moment: nobody waits for it.
    assert_eq!(gateway.tools(), ["one_tell", "two_tell"]);
    let again = said(&gateway.call("two_tell", json!({}))).to_owned();
    assert_ne!(pid_of(&again), pid_of(&two));
    assert_eq!(said(&gateway.call("one_tell", json!({}))), one, "still the same process");
    gateway.end();
}

#[test]
fn a_changed_server_is_replaced_while_a_call_ends_on_the_old_one() {
    let mut gateway = Gateway::start(tells(tells(Setup::new(), "one"), "two"));
    let two = said(&gateway.call("two_tell", json!({}))).to_owned();
    let old = said(&gateway.call("one_tell", json!({}))).to_owned();
    let slow = gateway.begin("one_tell", json!({"wait": "go"}));
    eventually("the slow call", || gateway.setup.path("waits").exists().then_some(()));
    let line =
        applied(&mut gateway, |text| text.replace("NAME = \"one\", V = \"1\"", "NAME = \"one\", V = \"2\""));
    assert!(line.contains("backends \"one\".env.V"), "{line}");
    let new = said(&gateway.call("one_tell", json!({}))).to_owned();
    assert!(new.starts_with("2 "), "{new}");
    assert!(!gateway.has_answer(slow));
    fs::write(gateway.setup.path("go"), "").unwrap();
    assert_eq!(said(&gateway.answer(slow)), old, "the call has ended where it began");
    let pid: i32 = old.split_once(' ').unwrap().1.parse().unwrap();
    eventually("the end of the old server", || (!alive(pid)).then_some(()));
    assert_eq!(said(&gateway.call("two_tell", json!({}))), two, "the other one was not touched");
    gateway.await_log("the last call of this generation has ended", 1);
    gateway.end();
    // The row of the slow call is that of the generation it began with.
    let rows = gateway.audit();
    let of = |arguments: &Value| -> Vec<i64> {
        let its = rows.iter().filter(|row| row["arguments"] == *arguments && row["backend"] == "one");
        its.filter_map(|row| row["generation"].as_i64()).collect()
    };
    assert_eq!(of(&json!({"wait": "go"})), [1]);
    assert_eq!(of(&json!({})).into_iter().max(), Some(2));
}

#[test]
fn four_generations_live_at_once_and_the_oldest_makes_room() {
    let mut gateway = Gateway::start(tells(Setup::new(), "one"));
    let mut calls = Vec::new();
    for generation in 1..=5_usize {
        if generation > 1 {
            let (from, to) = (format!("V = \"{}\"", generation - 1), format!("V = \"{generation}\""));
            applied(&mut gateway, |text| text.replace(&from, &to));
        }
        if generation == 5 {
            break;
        }
        calls.push(gateway.begin("one_tell", json!({"wait": "go"})));
        eventually("the call", || {
            let waits = fs::read_to_string(gateway.setup.path("waits")).unwrap_or_default();
            (waits.lines().count() == generation).then_some(())
        });
    }
    let given_up = gateway.answer(calls[0]);
    assert_eq!(reason(&given_up), "generation_ended", "{given_up}");
    assert!(calls[1..].iter().all(|call| !gateway.has_answer(*call)));
    fs::write(gateway.setup.path("go"), "").unwrap();
    for (call, generation) in calls[1..].iter().zip(2..) {
        let answer = gateway.answer(*call);
        assert!(said(&answer).starts_with(&format!("{generation} ")), "{answer}");
    }
    assert!(said(&gateway.call("one_tell", json!({}))).starts_with("5 "));
    gateway.await_log("the last call of this generation has ended", 4);
    gateway.end();
}

#[test]
fn a_bad_file_changes_nothing_and_says_all_that_is_wrong() {
    let setup = tells(Setup::new(), "one").gateway(&format!("health_listen = \"{}\"", free_address()));
    let mut gateway = Gateway::start(setup);
    let whole = fs::read_to_string(gateway.setup.path("sentinel.toml")).unwrap();
    let address = whole.split_once("health_listen = \"").unwrap().1.split_once('"').unwrap().0.to_owned();
    let generation = || get(&address, "/health", None).unwrap().json()["generation"].clone();
    let before = said(&gateway.call("one_tell", json!({}))).to_owned();
    let causes = refused(&mut gateway, |text| format!("{text}\n[[["));
    assert!(causes.contains("line"), "{causes}");
    let causes = refused(&mut gateway, |_| {
        whole
            .replace("permissions = [\"*\"]", "permisions = [\"*\"]")
            .replace("[auth]", "max_in_flight = -1\n[auth]")
    });
    assert!(causes.contains("permisions") && causes.contains("max_in_flight"), "{causes}");
    // Plugins and servers are found out before anything changes, too. What is started for nothing ends again.
    let text = whole.clone();
    let causes = refused(&mut gateway, |_| {
        let plugin = "[[plugins]]\nname = \"gone\"\nstage = \"guard\"\nwasm = \"gone.wasm\"\n";
        format!("{}{plugin}", text.replace("permissions = [\"*\"]", "permissions = [\"tools.read\"]"))
    });
    assert!(causes.contains("plugins.gone"), "{causes}");
    let script = "echo $$ > started.pid; exec sleep 60";
    let causes = refused(&mut gateway, |_| {
        let server = |name: &str, script: &str| {
            format!(
                "[[backends]]\nname = {name:?}\ntype = \"stdio\"\ncommand = \"/bin/sh\"\ncwd = \".\"\nargs = [\"-c\", {script:?}]\n"
            )
        };
        let nothing = server("dead", "exit 3") + &server("missing", "exec /nowhere/at/all");
        format!(
            "{}{nothing}{}",
            whole.replace("V = \"1\"", "V = \"2\""),
            server("mute", &format!("{script} & exit 4"))
        )
    });
    assert!(causes.contains("backends \"dead\"") && causes.contains("backends \"missing\""), "{causes}");
    assert_eq!(said(&gateway.call("one_tell", json!({}))), before, "the old one serves on");
    assert_eq!((generation(), gateway.tools()), (json!(1), vec!["one_tell".to_owned()]));
    let line = reload(&mut gateway, |_| whole.clone());
    assert!(line.contains("nothing in it has changed"), "{line}");
    assert_eq!(generation(), 1, "so there is no new generation");
    applied(&mut gateway, |text| {
        text.replace("permissions = [\"*\"]", "permissions = [\"*\"]\ndenied_tools = [\"x\"]")
    });
    assert_eq!(generation(), 2);
    assert_eq!(said(&gateway.call("one_tell", json!({}))), before, "the same process through all of it");
    gateway.end();
}

#[test]
fn a_plugin_comes_and_goes_with_the_next_call() {
    let mut gateway = Gateway::start(Setup::echo());
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    let plugin = format!(
        "[[plugins]]\nname = \"tag\"\nstage = \"guard\"\nwasm = {:?}\nconfig = {{ deny_tools = [\"echo\"] }}\n",
        guest("tag").to_str().unwrap()
    );
    let line = reload(&mut gateway, |text| format!("{text}{plugin}"));
    if line.contains("stays in force") {
        panic!("{}", gateway.log());
    }
    let denied = gateway.call("echo", json!({}));
    assert!(denied["error"].is_object(), "{denied}");
    applied(&mut gateway, |text| text.replace(&plugin, ""));
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    gateway.end();
}

#[test]
fn counters_and_connections_outlive_a_generation() {
    let setup = tells(Setup::new(), "one").rate_limits("default_rpm = 1000000\nper_tool = { one_tell = 4 }");
    let mut gateway = Gateway::start(setup);
    let first = said(&gateway.call("one_tell", json!({}))).to_owned();
    gateway.call("one_tell", json!({}));
    applied(&mut gateway, |text| {
        text.replace("permissions = [\"*\"]", "permissions = [\"*\"]\ndenied_tools = [\"x\"]")
    });
    assert_eq!(said(&gateway.call("one_tell", json!({}))), first);
    applied(&mut gateway, |text| text.replace("default_rpm = 1000000", "default_rpm = 999999"));
    assert_eq!(said(&gateway.call("one_tell", json!({}))), first);
    let limited = gateway.call("one_tell", json!({}));
    assert_eq!(reason(&limited), "rate_limited", "four calls were made in three generations: {limited}");
    gateway.end();
}

#[test]
fn a_mount_comes_changes_and_goes_live() {
    let mut setup = Setup::echo();
    let file = |setup: &Setup, denied: &str| {
        let path = setup.path("dev.toml");
        let fixture = crate::support::fixture();
        let text = format!(
            "[auth]\n[rbac.roles.admin]\npermissions = [\"*\"]\ndenied_tools = [{denied}]\n[rate_limits]\ndefault_rpm = 100000\n\
             [[backends]]\nname = \"dev\"\ntype = \"stdio\"\ncommand = {:?}\nargs = [\"stdio\"]\nprefix = true\n",
            fixture.to_str().unwrap()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    file(&setup, "\"dev_fail\"");
    setup = setup.unawaited();
    let mut door = Door::open(setup, "");
    let mount = "\n[[http.mounts]]\npath = \"/mcp/dev\"\nconfig = \"dev.toml\"\n";
    let dev = |door: &Door| door.client("ann").at("/mcp/dev");
    assert_eq!(dev(&door).request("tools/list", &json!({})).status, 404);
    let line = applied(&mut door.gateway, |text| text + mount);
    assert!(line.contains("http.mounts"), "{line}");
    let session = dev(&door).hello(NEWEST);
    assert!(session.call("dev_echo", json!({}))["result"].is_object());
    file(&door.gateway.setup, "\"dev_echo\"");
    let line = applied(&mut door.gateway, |text| text);
    assert!(line.contains("rbac.roles.admin.denied_tools of /mcp/dev"), "{line}");
    let denied = session.request("tools/call", &tool("dev_echo", json!({}))).value();
    assert_eq!(reason(&denied), "permission_denied", "{denied}");
    let main = door.client("ann").hello(NEWEST);
    assert!(main.call("echo", json!({}))["result"].is_object(), "the main endpoint was not touched");
    applied(&mut door.gateway, |text| text.replace(mount, ""));
    let gone = session.request("tools/call", &tool("dev_fail", json!({})));
    assert_eq!(gone.status, 404, "{gone:?}");
    door.gateway.await_log("the servers of a mount that was taken out have ended", 1);
    assert!(main.call("echo", json!({}))["result"].is_object());
}

/// What somebody is known by is looked at again when other authenticators judge it.
#[test]
fn whoever_was_let_in_is_judged_anew_by_other_authenticators() {
    let mut door = Door::open(Setup::echo(), "");
    let ann = door.client("ann").hello(NEWEST);
    assert!(ann.call("echo", json!({}))["result"].is_object());
    let mut stream = ann.listen();
    applied(&mut door.gateway, |text| text.replace("[auth]\n", "[auth]\njwt_issuer = \"somebody-else\"\n"));
    // What listens is not known to the new ones either: it comes again with what it brings.
    while stream.next().is_some() {}
    let refused = ann.request("tools/call", &tool("echo", json!({})));
    assert_eq!(refused.status, 401, "{refused:?}");
    let (modern, body) = door.client("ann").modern("tools/call", &tool("echo", json!({})));
    assert_eq!(modern.post(&body).status, 401);
    applied(&mut door.gateway, |text| text.replace("jwt_issuer = \"somebody-else\"\n", ""));
    assert!(ann.call("echo", json!({}))["result"].is_object(), "the session is still there");
}

/// On stdio the file says what the client brings, too.
#[test]
fn the_client_on_stdio_is_who_the_file_says_from_the_next_call_on() {
    let setup = Setup::echo()
        .roles(&roles("denied_tools = [\"echo\"]"))
        .env("OTHER_TOKEN", &mint("bob", "user", 3600));
    let mut gateway = Gateway::start(setup);
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    applied(&mut gateway, |text| text.replace("[auth]\n", "[auth]\ntoken_env = \"OTHER_TOKEN\"\n"));
    assert_eq!(reason(&gateway.call("echo", json!({}))), "permission_denied");
    gateway.end();
    let subjects: Vec<String> =
        gateway.audit().iter().map(|row| row["subject"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(subjects.contains(&"ann".to_owned()) && subjects.contains(&"bob".to_owned()), "{subjects:?}");
}

#[test]
fn what_needs_a_restart_is_named_for_as_long_as_it_waits() {
    let mut gateway = Gateway::start(Setup::echo());
    for times in 1..=2 {
        let text = fs::read_to_string(gateway.setup.path("sentinel.toml")).unwrap();
        let text = text.replace("\"off\"", "\"127.0.0.1:0\"");
        reload(&mut gateway, |_| text);
        gateway.await_log("not in force before the gateway is started anew", times);
        let log = gateway.log();
        let line = log.lines().rfind(|line| line.contains("not in force before")).unwrap();
        assert!(line.contains("refused: needs restart") && line.contains("gateway.health_listen"), "{line}");
    }
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    gateway.end();
}

#[test]
fn twenty_servers_serve_on_when_a_role_changes() {
    let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    let setup = names.iter().fold(Setup::new(), |setup, name| setup.backend(name, &[], "prefix = true"));
    let mut gateway = Gateway::start(setup);
    let pid = gateway.pid();
    let servers = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let before = servers();
    let denied = "permissions = [\"*\"]\ndenied_tools = [\"s7_echo\"]";
    let line = applied(&mut gateway, |text| text.replace("permissions = [\"*\"]", denied));
    assert!(line.contains("servers_kept=20") && line.contains("servers_started=0"), "{line}");
    assert_eq!(reason(&gateway.call("s7_echo", json!({}))), "permission_denied");
    assert!(gateway.call("s8_echo", json!({}))["result"].is_object());
    assert_eq!(servers(), before, "the same processes");
    gateway.end();
}

/// What bounds the record, the log and the door is no reason for a restart.
#[test]
fn bounds_apply_to_what_comes_next() {
    let setup = Setup::echo().more("[audit]\nmax_arguments_bytes = 4096");
    let mut gateway = Gateway::start(setup);
    let long = json!({"text": "x".repeat(2_000)});
    gateway.call("echo", long.clone());
    let line = applied(&mut gateway, |text| {
        text.replace("max_arguments_bytes = 4096", "max_arguments_bytes = 256")
            .replace("[auth]\n", "log_level = \"debug\"\nmax_message_bytes = 100000\n[auth]\n")
    });
    for key in ["audit.max_arguments_bytes", "gateway.log_level", "gateway.max_message_bytes"] {
        assert!(line.contains(key), "no {key} in {line}");
    }
    gateway.call("echo", long);
    let id = gateway.begin("echo", json!({"text": "x".repeat(200_000)}));
    let refused = gateway.answer(id);
    assert_eq!(reason(&refused), "message_too_large", "{refused}");
    // Each plugin of the next generation is named at that level.
    applied(&mut gateway, |text| text.replace("default_rpm = 1000000", "default_rpm = 999999"));
    gateway.await_log("DEBUG", 1);
    gateway.end();
    let rows = gateway.audit();
    let lengths: Vec<usize> = rows
        .iter()
        .filter(|row| row["tool"] == "echo" && row["status"] == "success")
        .map(|row| row["arguments"].to_string().len())
        .collect();
    let (longest, shortest) = (lengths.iter().max().unwrap(), lengths.iter().min().unwrap());
    assert!(*longest > 2_000 && *shortest < 1_000, "{lengths:?}");
}

/// Somebody who calls again and again, and what they were answered otherwise than well.
struct Caller {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Vec<Value>>,
}

impl Caller {
    fn begin(client: Client, name: &'static str) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), calls.clone());
        let thread = std::thread::spawn(move || {
            let mut failed = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let answer = client.post(&request("tools/call", &tool(name, json!({}))));
                let good = answer.status == 200 && answer.value()["result"]["content"].is_array();
                if !good {
                    failed.push(json!({"status": answer.status, "text": answer.text}));
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            failed
        });
        Self { stop, calls, thread }
    }

    fn end(self) -> (u64, Vec<Value>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.thread.join().unwrap();
        (self.calls.load(Ordering::Relaxed), failed)
    }
}

/// One of many ways to change the file, none of which concerns the answers to calls of `one_tell` by an admin; whether it must
/// be refused.
fn mutated(whole: &str, number: usize) -> (String, bool) {
    const KINDS: usize = 18;
    let some = number / KINDS;
    let server =
        |name: &str, more: &str| format!("[[backends]]\nname = {name:?}\ntype = \"stdio\"\n{more}\n");
    let good = match number % KINDS {
        0 => whole
            .replace("[\"*\"]\n", &format!("[\"*\"]\n[rbac.roles.r{some}]\npermissions = [\"tools.read\"]\ndenied_tools = [\"x{some}\"]\n")),
        1 => whole.replace("default_rpm = 1000000", &format!("default_rpm = {}", 900_000 + number)),
        2 => whole.replace("[kill_switch]", &format!("[kill_switch]\ndisabled_tools = [\"never_{some}\"]")),
        3 => whole.replace("[http]\n", &format!("[http]\nmax_sessions = {}\n", 500 + some)),
        4 => whole.replace("[auth]", &format!("max_in_flight = {}\n[auth]", 200 + some)),
        5 => whole.replace("[auth]\n", &format!("[auth]\nleeway_secs = {}\n", 20 + some % 30)),
        6 => whole.replace("[http]\n", &format!("[http]\nkeep_alive_secs = {}\n", 10 + some)),
        7 => format!("{whole}\n# {number}\n"),
        // The other server is another process every time.
        8 if some.is_multiple_of(5) => {
            whole.replace("NAME = \"two\", V = \"1\"", &format!("NAME = \"two\", V = \"{number}\""))
        }
        // What the called server does not see.
        9 => whole.replace("name = \"one\"", &format!("name = \"one\"\ntimeout_secs = {}", 40 + some)),
        10 => whole.replace(
            "name = \"one\"",
            &format!("name = \"one\"\nmax_in_flight = {}\nhealth_interval_secs = {}", 64 + some, 1 + some % 9),
        ),
        11 => whole.replace("name = \"two\"", "name = \"two\"\nprefix = true\narguments = \"off\""),
        12 => whole.replace("[auth]", &format!("max_result_bytes = {}\n[auth]", 100_000_000 + some)),
        // A plugin and a server that come and go.
        13 => format!(
            "{whole}\n[[plugins]]\nname = \"tag\"\nstage = \"guard\"\nwasm = {:?}\nconfig = {{ deny_tools = [\"x{some}\"] }}\n",
            guest("tag").to_str().unwrap()
        ),
        14 if some.is_multiple_of(3) => without(whole, "two"),
        8 => return (format!("{whole}\n[[[ {number}"), true),
        14 => return (whole.replace("[auth]", &format!("mode_{some} = 1\n[auth]")), true),
        15 => {
            let missing = format!("[[plugins]]\nname = \"gone\"\nstage = \"guard\"\nwasm = \"gone-{some}.wasm\"\n");
            return (format!("{whole}\n{missing}"), true);
        }
        16 => {
            let dead = server("dead", &format!("command = \"/bin/sh\"\nargs = [\"-c\", \"exit {}\"]", 1 + some % 9));
            return (format!("{whole}\n{dead}"), true);
        }
        _ => whole.to_owned(),
    };
    (good, false)
}

/// Changes the file again and again while two callers call: so many changes, or as many as there is time for. Says how many
/// there were.
fn changes_under_load(most: usize, time: Duration) -> usize {
    let mut door = Door::open(tells(tells(Setup::new(), "one"), "two"), "");
    let whole = fs::read_to_string(door.gateway.setup.path("sentinel.toml")).unwrap();
    let before = said(&door.client("ann").hello(NEWEST).call("one_tell", json!({}))).to_owned();
    let callers: Vec<Caller> = ["ann", "bob"]
        .into_iter()
        .map(|name| Caller::begin(door.client(name).hello(NEWEST), "one_tell"))
        .collect();
    let begun = Instant::now();
    let (mut changes, mut refused) = (0, 0);
    while changes < most && begun.elapsed() < time {
        let (text, is_bad) = mutated(&whole, changes);
        let line = reload(&mut door.gateway, |_| text);
        assert_eq!(line.contains("stays in force"), is_bad, "{changes}: {line}\n{}", door.gateway.log());
        refused += usize::from(is_bad);
        changes += 1;
    }
    let took = begun.elapsed();
    let (mut calls, mut failed) = (0, Vec::new());
    for caller in callers {
        let (own, bad) = caller.end();
        calls += own;
        failed.extend(bad);
    }
    assert_eq!(failed, [Value::Null; 0], "of {calls} calls with {changes} changes in {took:?}");
    assert!(refused > 0 && calls > 100, "{changes} changes, {refused} refused, {calls} calls in {took:?}");
    let after = said(&door.client("ann").hello(NEWEST).call("one_tell", json!({}))).to_owned();
    assert_eq!(after, before, "one process through all of them");
    fs::create_dir_all(crate::support::target().join("tmp")).unwrap();
    fs::write(
        crate::support::target().join("tmp/changes-under-load.txt"),
        format!(
            "{changes} changes ({refused} of them refused) and {calls} calls in {took:?}; 0 calls failed\n"
        ),
    )
    .unwrap();
    changes
}

/// `cargo xtask reloads` asks for five hundred; otherwise there are as many as there is time for.
#[test]
fn hundreds_of_changes_under_load_and_no_call_fails() {
    let wanted = std::env::var("SENTINEL_RELOADS").ok().map(|number| number.parse::<usize>().unwrap());
    match wanted {
        Some(wanted) => assert_eq!(changes_under_load(wanted, Duration::from_secs(1_800)), wanted),
        None => {
            let changes = changes_under_load(500, Duration::from_secs(45));
            assert!(changes >= 100, "{changes} changes");
        }
    }
}
