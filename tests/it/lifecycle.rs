//! How the gateway starts, is watched, is told to change, and ends.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Gateway, Setup, alive, code, eventually, free_address, get, pid_in, said};

/// Whatever tells it to: calls under way are finished, no process is left, and it says so.
fn ends_in_order(how: impl FnOnce(&mut Gateway)) {
    let setup = Setup::new();
    let (child, grandchild) = (setup.text("child"), setup.text("grandchild"));
    let stubborn = setup.text("stubborn");
    let setup = setup
        .backend("echo", &["--pid-file", &child, "--spawn-grandchild", &grandchild], "")
        .backend("stubborn", &["--ignore-sigterm", "--pid-file", &stubborn], "");
    let mut gateway = Gateway::start(setup);
    let pids = ["child", "grandchild", "stubborn"].map(|name| pid_in(&gateway.setup.path(name)));
    gateway.await_tool("stubborn_echo");
    let slow = gateway.begin("slow", json!({"ms": 700}));
    eventually("the call under way", || (gateway.counted("", "slow") == 1).then_some(()));
    how(&mut gateway);
    let status = gateway.wait_exit();
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(said(&gateway.answer(slow)), "waited 700 ms");
    gateway.await_log("Shutdown complete", 1);
    for pid in pids {
        assert!(!alive(pid), "process {pid} is left over");
    }
    assert!(gateway.audit().iter().any(|row| row["tool"] == "slow" && row["status"] == "success"));
}

#[test]
fn closing_stdin_ends_it_in_order() {
    ends_in_order(Gateway::hang_up);
}

#[test]
fn sigterm_ends_it_in_order() {
    ends_in_order(|gateway| gateway.signal(Signal::TERM));
}

#[test]
fn sigint_ends_it_in_order() {
    ends_in_order(|gateway| gateway.signal(Signal::INT));
}

#[test]
fn a_call_that_outlives_the_grace_is_cancelled_and_on_record() {
    let mut gateway = Gateway::start(Setup::echo().gateway("shutdown_grace_secs = 0.3"));
    gateway.begin("slow", json!({"ms": 60_000}));
    eventually("the call under way", || (gateway.counted("", "slow") == 1).then_some(()));
    gateway.end();
    let rows = gateway.audit();
    assert!(rows.iter().any(|row| row["tool"] == "slow" && row["status"] == "cancelled"), "{rows:?}");
}

#[test]
fn a_bad_file_keeps_the_old_configuration() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    for (number, bad) in ["nonsense = [", "[gateway]\nlistn = \"x\"\n", ""].into_iter().enumerate() {
        gateway.reload(|setup| setup.set_whole(bad));
        gateway.await_log("the old configuration stays in force", number + 1);
        assert_eq!(gateway.ask("echo")["name"], "echo", "{bad:?}");
    }
    assert!(gateway.log().contains("gateway.listn: unknown key"), "the log says why");
    gateway.reload(|setup| {
        setup.set_pieces();
        setup.set_kill_switch("disabled_tools = [\"echo\"]");
    });
    // It has the list, so it is told of another one.
    gateway.heard("notifications/tools/list_changed");
    eventually("the switch", || (gateway.call("echo", json!({}))["error"]["code"] == -32005).then_some(()));
    gateway.reload(|setup| setup.set_kill_switch("disabled_tools = []"));
    eventually("the switch back", || (gateway.ask("echo")["name"] == "echo").then_some(()));
}

#[test]
fn health_ready_and_metrics_say_how_it_is() {
    let health = free_address();
    let setup = Setup::new()
        .gateway(&format!("health_listen = {health:?}"))
        .backend("echo", &[], "")
        .gated("dead", &[], "required = true")
        .rate_limits("per_tool = { whoami = 0 }")
        .env("HEALTH_TOKEN", "let-me-see");
    let mut gateway = Gateway::start(setup);
    let answer = eventually("health", || get(&health, "/health", None));
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok", "generation": 1})));
    // Only a caller with the token is told why it is not ready.
    let answer = eventually("the reason", || {
        let answer = get(&health, "/ready", Some("let-me-see"))?;
        let echo = answer.json()["backends"]
            .as_array()?
            .iter()
            .any(|one| one["name"] == "echo" && one["up"] == true);
        (answer.status == 503 && echo).then_some(answer)
    });
    let reasons = answer.json()["reasons"].to_string();
    assert!(reasons.contains("backend dead") && !reasons.contains("echo"), "{}", answer.body);
    for bearer in [None, Some("let-me-se")] {
        let answer = get(&health, "/ready", bearer).unwrap();
        assert_eq!((answer.status, answer.json()), (503, json!({"ready": false})));
    }

    assert!(gateway.call("echo", json!({}))["result"].is_object());
    assert_eq!(code(&gateway.call("internal", json!({}))), -32603);
    assert_eq!(code(&gateway.call("whoami", json!({}))), -32004);
    assert_eq!(code(&gateway.call("invented_by_a_client", json!({}))), -32602);
    assert_eq!(get(&health, "/metrics", None).unwrap().status, 401);
    assert_eq!(get(&health, "/metrics", Some("let-me-se")).unwrap().status, 401);
    let metrics = get(&health, "/metrics", Some("let-me-see")).unwrap();
    assert_eq!(metrics.status, 200);
    for line in [
        "sentinel_requests_total{tool=\"echo\",status=\"success\"} 1",
        "sentinel_requests_total{tool=\"whoami\",status=\"rate_limited\"} 1",
        "sentinel_request_duration_seconds_bucket{tool=\"echo\"",
        "sentinel_errors_total{tool=\"whoami\",error_type=\"rate_limited\"} 1",
        "sentinel_errors_total{tool=\"internal\"",
        "sentinel_backend_healthy{backend=\"echo\"} 1",
        "sentinel_backend_healthy{backend=\"dead\"} 0",
        "sentinel_rate_limit_hits_total{tool=\"whoami\"} 1",
    ] {
        assert!(metrics.body.contains(line), "{line} is not in:\n{}", metrics.body);
    }
    assert!(!metrics.body.contains("invented"), "a client cannot grow the metrics");
}

#[test]
fn metrics_are_closed_without_a_token() {
    let health = free_address();
    let _gateway = Gateway::start(Setup::echo().gateway(&format!("health_listen = {health:?}")));
    let answer = eventually("an answer", || get(&health, "/metrics", Some("")));
    assert_eq!(answer.status, 403);
}

#[test]
fn a_second_gateway_serves_its_client_though_the_health_port_is_taken() {
    let health = free_address();
    let setup = || Setup::echo().gateway(&format!("health_listen = {health:?}"));
    let _first = Gateway::start(setup());
    eventually("the first", || get(&health, "/health", None));
    let mut second = Gateway::start(setup());
    assert_eq!(second.ask("echo")["name"], "echo");
    second.await_log("no health server", 1);
}

#[test]
fn slow_hanging_and_dead_backends_delay_nobody_and_appear_when_they_are_up() {
    let setup = Setup::new()
        .backend("hanging", &["--never-start"], "")
        .gated("dead", &[], "")
        .http("nobody", &format!("http://{}/mcp", free_address()), "")
        .backend("late", &["--profile", "weather", "--start-delay-ms", "4000"], "")
        .backend("good", &[], "")
        .gateway("first_list_wait_secs = 1.5");
    let mut gateway = Gateway::start(setup);
    assert_eq!(gateway.ask("echo")["name"], "echo");
    let tools = gateway.tools();
    assert!(tools.contains(&"echo".to_owned()) && !tools.contains(&"forecast".to_owned()), "{tools:?}");
    eventually("the late backend", || {
        gateway.heard("notifications/tools/list_changed");
        gateway.tools().contains(&"forecast".to_owned()).then_some(())
    });
    assert!(gateway.call("forecast", json!({"city": "Oslo"}))["result"].is_object());
}
