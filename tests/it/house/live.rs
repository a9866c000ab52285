//! Settings that neither a server's process nor its address sees: they change while it runs, and it keeps its process, its
//! sessions and everything that was counted.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control::{done, status};
use crate::http_door::client::{Door, NEWEST};
use crate::support::{Gateway, HttpServer, Setup, alive, eventually, reason, said};

/// A server that says in each answer which process it is, how many calls it has had and how often it was greeted. `wait` is
/// answered when that file exists, `long` with so many characters, and every ping is noted.
const COUNTS: &str = "import threading\n\
    number = {\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"number\"}}}\n\
    tools = [{\"name\": \"count\", \"inputSchema\": number}]\n\
    calls, greetings, greet = 0, 0, initialize\n\
    def initialize(id, params):\n    global greetings\n    greetings += 1\n    greet(id, params)\n\
    def call(id, params):\n    global calls\n    calls += 1\n\
    \x20   threading.Thread(target=answer, args=(id, params.get(\"arguments\") or {}, calls)).start()\n\
    def answer(id, arguments, number):\n    if \"wait\" in arguments:\n        note(\"waits\", str(number))\n\
    \x20   while \"wait\" in arguments and not os.path.exists(arguments[\"wait\"]):\n        time.sleep(0.01)\n\
    \x20   text(id, f\"{os.getpid()} {greetings} {number} \" + \"x\" * arguments.get(\"long\", 0))\n\
    plain = hear\n\
    def hear(message):\n    if message.get(\"method\") == \"ping\":\n        note(\"pings\", \"ping\")\n    plain(message)\n";

/// The process, how often it was greeted, and the number of the call.
fn counts(answer: &Value) -> (i32, u32, u32) {
    let words: Vec<&str> = said(answer).split(' ').collect();
    (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].parse().unwrap())
}

/// Puts another text in the place of one in the file, and applies that; what the gateway says of it.
fn apply(setup: &mut Setup, from: &str, to: &str) -> String {
    let text = fs::read_to_string(setup.path("sentinel.toml")).unwrap();
    assert!(text.contains(from), "{from:?} is not in the file");
    setup.set_whole(&text.replacen(from, to, 1));
    done(setup, &["config", "apply"])
}

/// The same for keys that change while servers run: each is applied, and no server is started or ended for it.
fn live(setup: &mut Setup, from: &str, to: &str, keys: &[&str]) {
    let said = apply(setup, from, to);
    for key in keys {
        assert!(said.contains(&format!("{key}: applied\n")), "{key} in {said}");
    }
    let other = ["servers started", "servers ended", "restart", "replaced"];
    assert!(other.iter().all(|word| !said.contains(word)), "{said}");
}

#[test]
fn what_the_process_of_a_server_does_not_see_changes_while_it_runs() {
    let key = |name: &str| format!("backends \"one\".{name}");
    let mut gateway =
        Gateway::start(Setup::new().scripted("one", COUNTS, "timeout_secs = 60 # here\nmax_in_flight = 64"));
    let (pid, greetings, mut last) = counts(&gateway.call("count", json!({})));
    // The same process, which was greeted once and has counted on.
    let mut next = |gateway: &mut Gateway, tool: &str, arguments: Value| {
        let (now, greeted, number) = counts(&gateway.call(tool, arguments));
        assert_eq!((now, greeted, number > last), (pid, greetings, true), "{number} after {last}");
        last = number;
    };
    next(&mut gateway, "count", json!({}));

    // How many calls at once.
    live(&mut gateway.setup, "max_in_flight = 64", "max_in_flight = 1", &[&key("max_in_flight")]);
    let slow = gateway.begin("count", json!({"wait": "go"}));
    eventually("the slow call", || gateway.setup.path("waits").exists().then_some(()));
    let busy = gateway.call("count", json!({}));
    assert!(busy["error"]["message"].as_str().unwrap().contains("1 calls"), "{busy}");
    live(&mut gateway.setup, "max_in_flight = 1", "max_in_flight = 2", &[&key("max_in_flight")]);
    next(&mut gateway, "count", json!({}));
    fs::write(gateway.setup.path("go"), "").unwrap();
    assert_eq!(counts(&gateway.answer(slow)).0, pid);

    // What becomes of arguments.
    let wrong = json!({"n": "one"});
    assert_eq!(reason(&gateway.call("count", wrong.clone())), "invalid_arguments");
    live(&mut gateway.setup, "# here", "\narguments = \"off\" # here", &[&key("arguments")]);
    next(&mut gateway, "count", wrong.clone());
    live(
        &mut gateway.setup,
        "arguments = \"off\"",
        "arguments = \"refuse\"\nargument_check = \"strict\"",
        &[&key("arguments"), &key("argument_check")],
    );
    assert_eq!(reason(&gateway.call("count", wrong)), "invalid_arguments");

    // How long a call may take; one that is under way has the time that it was given.
    let patient = gateway.begin("count", json!({"wait": "later"}));
    eventually("the patient call", || {
        let waits = fs::read_to_string(gateway.setup.path("waits")).unwrap_or_default();
        (waits.lines().count() == 2).then_some(())
    });
    live(&mut gateway.setup, "timeout_secs = 60", "timeout_secs = 0.5", &[&key("timeout_secs")]);
    let (begun, late) = (Instant::now(), gateway.call("count", json!({"wait": "never"})));
    assert_eq!(reason(&late), "backend_timeout", "{late}");
    assert!(begun.elapsed() >= Duration::from_millis(500) && !gateway.has_answer(patient));
    fs::write(gateway.setup.path("later"), "").unwrap();
    assert_eq!(counts(&gateway.answer(patient)).0, pid);
    fs::write(gateway.setup.path("never"), "").unwrap();
    live(&mut gateway.setup, "timeout_secs = 0.5", "timeout_secs = 30", &[&key("timeout_secs")]);
    next(&mut gateway, "count", json!({}));

    // How often its health is probed.
    assert!(!gateway.setup.path("pings").exists());
    live(
        &mut gateway.setup,
        "# here",
        "\nhealth_interval_secs = 0.1 # here",
        &[&key("health_interval_secs")],
    );
    eventually("a probe", || gateway.setup.path("pings").exists().then_some(()));

    // How its tools are called, and what opens its circuit.
    live(
        &mut gateway.setup,
        "# here",
        "\nprefix = true\ncircuit_breaker_threshold = 9\nretries = 1 # here",
        &[&key("prefix"), &key("circuit_breaker_threshold"), &key("retries")],
    );
    assert_eq!(gateway.tools(), ["one_count"]);
    next(&mut gateway, "one_count", json!({}));

    // How long its answers may be.
    next(&mut gateway, "one_count", json!({"long": 3_000_000}));
    let bounds = "max_message_bytes = 20000\nmax_result_bytes = 2000000\n[auth]";
    live(&mut gateway.setup, "[auth]", bounds, &["gateway.max_message_bytes", "gateway.max_result_bytes"]);
    let long = gateway.call("one_count", json!({"long": 3_000_000}));
    assert!(long["error"].to_string().contains("2000000"), "{long}");
    next(&mut gateway, "one_count", json!({"long": 1_000_000}));

    // What it does see replaces it, beside a key that it does not see.
    let said = apply(&mut gateway.setup, "cwd = \".\"", "cwd = \".\"\nenv = { A = \"1\" }\nmax_restarts = 3");
    assert!(said.contains("backends \"one\".env") && said.contains("servers started: one"), "{said}");
    assert!(said.contains("backends \"one\".max_restarts: applied\n"), "{said}");
    let (other, ..) = counts(&gateway.call("one_count", json!({})));
    assert_ne!(other, pid);
    eventually("the end of the old process", || (!alive(pid)).then_some(()));
    gateway.end();
}

#[test]
fn a_server_that_was_to_stay_down_comes_back_when_the_file_says_so() {
    let mut gateway = Gateway::start(Setup::new().scripted("one", COUNTS, "restart_on_exit = false"));
    let (pid, ..) = counts(&gateway.call("count", json!({})));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let down = eventually("a refusal", || {
        let answer = gateway.call("count", json!({}));
        answer["error"].is_object().then_some(answer)
    });
    assert_eq!(reason(&down), "backend_unreachable", "{down}");
    let said = apply(&mut gateway.setup, "restart_on_exit = false", "restart_on_exit = true");
    assert!(
        said.contains("backends \"one\".restart_on_exit: applied\n") && !said.contains("started"),
        "{said}"
    );
    let (again, ..) = eventually("the server again", || {
        let answer = gateway.call("count", json!({}));
        answer["result"].is_object().then(|| counts(&answer))
    });
    assert_ne!(again, pid);
    gateway.end();
}

#[test]
fn a_server_over_http_keeps_its_session() {
    let server = HttpServer::start(&[]);
    let mut door = Door::open(Setup::new().http("far", &server.url(), "timeout_secs = 30"), "");
    door.gateway.await_log("backend is ready", 1);
    let ann = door.client("ann").hello(NEWEST);
    let served = |client: &crate::http_door::client::Client| client.structured("whoami");
    let before = served(&ann);
    assert!(before.is_object(), "{before}");
    live(
        &mut door.gateway.setup,
        "timeout_secs = 30",
        "timeout_secs = 1\nmax_in_flight = 3",
        &["backends \"far\".timeout_secs", "backends \"far\".max_in_flight"],
    );
    assert_eq!(served(&ann), before);
    let (begun, late) = (Instant::now(), ann.call("slow", json!({"ms": 60_000})));
    assert_eq!(reason(&late), "backend_timeout", "{late}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(served(&ann), before, "the session is still known");
    let backend = &status(&door.gateway.setup)["endpoints"][0]["backends"][0];
    assert_eq!((&backend["state"], &backend["starts"]), (&json!("ready"), &json!(1)), "{backend}");
    assert_eq!(door.gateway.log().matches("backend is ready").count(), 1, "it was connected to once");
}
