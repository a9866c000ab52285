//! Stopping, starting and restarting a backend; and that one command waits for no other unnoticed.

use serde_json::{Value, json};

use super::{done, refused, status};
use crate::support::{Gateway, Setup, alive, eventually, reason};

fn backend(setup: &Setup) -> Value {
    status(setup)["endpoints"][0]["backends"][0].clone()
}

fn pid(backend: &Value) -> i32 {
    i32::try_from(backend["pid"].as_i64().unwrap_or_else(|| panic!("{backend}"))).unwrap()
}

#[test]
fn a_stopped_backend_stays_so_until_it_is_started() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    let first = pid(&backend(&gateway.setup));
    let slow = gateway.begin("slow", json!({"ms": 60_000}));
    eventually("the call", || (status(&gateway.setup)["in_flight"] == 1).then_some(()));
    let said = done(&gateway.setup, &["backend", "stop", "echo", "--reason", "it is being moved"]);
    assert!(said.contains("backend \"echo\" is stopped, until it is started"), "{said}");
    let answer = gateway.answer(slow);
    assert_eq!(reason(&answer), "backend_stopped", "{answer}");
    eventually("its end", || (!alive(first)).then_some(()));
    let answer = gateway.call("echo", json!({}));
    assert!(answer["error"]["message"].as_str().unwrap().contains("stopped by the operator"), "{answer}");
    // Neither a call nor a reload brings it back.
    gateway.reload(|setup| setup.set_rate_limits("default_rpm = 999999"));
    gateway.await_log("configuration reloaded", 1);
    assert_eq!(reason(&gateway.call("echo", json!({}))), "backend_stopped");
    assert_eq!(backend(&gateway.setup)["state"], "stopped");
    assert!(done(&gateway.setup, &["backend", "stop", "echo"]).contains("stopped already"));
    let said = done(&gateway.setup, &["backend", "start", "echo"]);
    assert!(said.contains("is up with the process"), "{said}");
    assert_eq!(gateway.ask("echo")["name"], "echo");
    let again = backend(&gateway.setup);
    assert_eq!((&again["state"], &again["starts"]), (&json!("ready"), &json!(2)), "{again}");
    assert!(done(&gateway.setup, &["backend", "start", "echo"]).contains("up already"));
}

#[test]
fn a_restarted_backend_is_another_process() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    let first = pid(&backend(&gateway.setup));
    done(&gateway.setup, &["backend", "restart", "echo"]);
    assert_eq!(gateway.ask("echo")["name"], "echo");
    let second = pid(&backend(&gateway.setup));
    assert!(first != second && !alive(first), "{first} {second}");
    let said = refused(&gateway.setup, &["backend", "restart", "ecko"]);
    assert!(said.contains("did you mean \"echo\"?"), "{said}");
}

#[test]
fn one_that_is_down_is_started_at_once_and_what_keeps_it_down_is_said() {
    let mut gateway = Gateway::start(Setup::new().gated("late", &[], ""));
    let said = refused(&gateway.setup, &["backend", "start", "late"]);
    assert!(said.contains("did not come up"), "{said}");
    let down = backend(&gateway.setup);
    assert_eq!(down["state"], "down", "{down}");
    assert!(down["why"].as_str().unwrap().contains("tried again"), "{down}");
    std::fs::write(gateway.setup.path("late.up"), "").unwrap();
    done(&gateway.setup, &["backend", "start", "late"]);
    gateway.await_tool("echo");
    assert_eq!(gateway.ask("echo")["name"], "echo");
}

#[test]
fn a_second_command_is_refused_with_who_runs_the_first_and_a_kill_never_is() {
    let setup = Setup::echo().backend("silent", &["--never-start"], "");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let mut first = gateway.setup.command(&["backend", "restart", "silent"]);
    let mut first =
        first.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let running = eventually("the command", || {
        let running = status(&gateway.setup)["running"].clone();
        running.is_object().then_some(running)
    });
    assert_eq!((&running["what"], &running["who"]), (&json!("backend.restart"), &json!(super::user())));
    let said = refused(&gateway.setup, &["backend", "stop", "echo"]);
    assert!(said.contains(&format!("{} is at it: backend.restart", super::user())), "{said}");
    done(&gateway.setup, &["kill", "tool", "echo"]);
    assert_eq!(reason(&gateway.call("echo", json!({}))), "killed");
    let _ = first.kill().and_then(|()| first.wait());
}
