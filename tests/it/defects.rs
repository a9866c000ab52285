//! The defects of the gateway that this one replaces: what stays alive, and what a breaker and a limit mean.

use serde_json::json;

use crate::support::{
    Gateway, HttpServer, Setup, alive, code, eventually, free_address, get, mint, pid_in, reason,
};

#[test]
fn crashed_stdio_backend_comes_back_and_ready_tells_the_truth() {
    let health = free_address();
    let keys = "max_restarts = 50\ncircuit_breaker_threshold = 0";
    let setup = Setup::new().gateway(&format!("health_listen = {health:?}")).gated("echo", &[], keys);
    let setup = setup.env("HEALTH_TOKEN", "let-me-see");
    std::fs::write(setup.path("echo.up"), "").unwrap();
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let ready =
        || get(&health, "/ready", Some("let-me-see")).map(|response| (response.status, response.body));
    eventually("ready", || ready().filter(|(status, _)| *status == 200));

    std::fs::remove_file(gateway.setup.path("echo.up")).unwrap();
    assert_eq!(code(&gateway.call("crash", json!({}))), -32603);
    let (_, body) = eventually("not ready", || ready().filter(|(status, _)| *status == 503));
    assert!(body.contains("backend echo"), "{body}");

    std::fs::write(gateway.setup.path("echo.up"), "").unwrap();
    eventually("ready again", || ready().filter(|(status, _)| *status == 200));
    assert_eq!(gateway.ask("echo")["name"], "echo");
}

#[test]
fn a_server_that_comes_back_in_a_moment_is_waited_for() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("echo");
    // Each death is followed by a longer pause. Only the calls that died with it may fail: five in a row would open the circuit.
    for _ in 0..4 {
        assert_eq!(reason(&gateway.call("crash", json!({}))), "backend_unreachable");
        for _ in 0..3 {
            assert_eq!(gateway.ask("echo")["name"], "echo");
        }
    }
}

#[test]
fn chatty_stderr_does_not_kill_a_server() {
    let setup = Setup::new();
    let pid = setup.text("pid");
    let setup = setup.backend("echo", &["--stderr-flood", "--pid-file", &pid], "");
    let mut gateway = Gateway::start(setup);
    let before = pid_in(gateway.setup.path("pid").as_path());
    for _ in 0..10 {
        assert_eq!(gateway.ask("echo")["name"], "echo");
    }
    assert_eq!(pid_in(gateway.setup.path("pid").as_path()), before);
    assert!(alive(before));
}

#[test]
fn a_slow_call_blocks_nobody_and_ping_answers_at_once() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.await_tool("slow");
    let slow = gateway.begin("slow", json!({"ms": 1500}));
    assert_eq!(gateway.request("ping", &json!({}))["result"], json!({}));
    assert_eq!(gateway.ask("echo")["name"], "echo");
    assert!(!gateway.has_answer(slow), "the slow call was answered before the quick ones");
    assert!(gateway.answer(slow)["result"].is_object());
}

#[test]
fn half_open_admits_one_probe() {
    let keys = "circuit_breaker_threshold = 2\ncircuit_breaker_recovery_secs = 0.3\ncircuit_breaker_count_errors = true";
    let mut gateway = Gateway::start(Setup::new().backend("echo", &[], keys));
    for _ in 0..2 {
        assert_eq!(code(&gateway.call("internal", json!({}))), -32603);
    }
    let admitted = eventually("a probe", || {
        let ids: Vec<u64> = (0..10).map(|_| gateway.begin("slow", json!({"ms": 1500}))).collect();
        let answers: Vec<_> = ids.into_iter().map(|id| gateway.answer(id)).collect();
        let admitted = answers.iter().filter(|answer| answer["result"].is_object()).count();
        assert!(
            answers.iter().filter(|answer| answer["error"].is_object()).all(|answer| code(answer) == -32007)
        );
        (admitted > 0).then_some(admitted)
    });
    assert_eq!(admitted, 1);
    assert_eq!(gateway.counted("", "slow"), 1);
}

#[test]
fn a_late_success_does_not_close_an_open_breaker() {
    let keys = "circuit_breaker_threshold = 2\ncircuit_breaker_count_errors = true";
    let mut gateway = Gateway::start(Setup::new().backend("echo", &[], keys));
    gateway.await_tool("slow");
    let slow = gateway.begin("slow", json!({"ms": 3000}));
    eventually("the call under way", || (gateway.counted("", "slow") == 1).then_some(()));
    for _ in 0..2 {
        assert_eq!(code(&gateway.call("internal", json!({}))), -32603);
    }
    assert_eq!(code(&gateway.call("echo", json!({}))), -32007);
    assert!(gateway.answer(slow)["result"].is_object());
    assert_eq!(code(&gateway.call("echo", json!({}))), -32007);
}

#[test]
fn garbage_counts_as_failure() {
    let server = HttpServer::start(&[]);
    let keys = "circuit_breaker_threshold = 2\ntimeout_secs = 1\nprefix = true";
    let setup = Setup::new().backend("pipe", &[], keys).http("web", &server.url(), keys);
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("web_garbage");
    // A line that is no JSON says nothing about any call, so over a pipe the call waits for its time to be up.
    for (tool, why) in [("pipe_garbage", "backend_timeout"), ("web_garbage", "backend_protocol_error")] {
        for _ in 0..2 {
            let refused = gateway.call(tool, json!({}));
            assert_eq!((code(&refused), reason(&refused)), (-32603, why), "{tool}");
        }
        let refused = gateway.call(tool, json!({}));
        assert_eq!((code(&refused), reason(&refused)), (-32007, "circuit_open"), "{tool}");
    }
}

#[test]
fn a_limit_holds_in_every_sliding_window_and_a_reload_refills_nothing() {
    let mut gateway = Gateway::start(Setup::echo().rate_limits("per_tool = { echo = 5 }"));
    let round = |gateway: &mut Gateway| {
        let answers: Vec<_> = (0..8).map(|_| gateway.call("echo", json!({}))).collect();
        let passed = answers.iter().filter(|answer| answer["result"].is_object()).count();
        (passed, answers.last().unwrap().clone())
    };
    let (passed, refused) = round(&mut gateway);
    assert_eq!((passed, code(&refused)), (5, -32004));
    // All five fell into one moment, so no window of a minute has room before they leave it together: a bucket
    // that trickles would have room in 12 s, a fixed window at the next full minute. They are counted by slots,
    // which adds up to one slot to the minute.
    let after = refused["error"]["data"]["retryAfter"].as_u64().unwrap();
    assert!((40..=62).contains(&after), "{refused}");
    gateway.reload(|setup| setup.set_rate_limits("per_tool = { echo = 5, slow = 7 }"));
    gateway.await_log("configuration reloaded", 1);
    assert_eq!(round(&mut gateway).0, 0);
}

#[test]
fn no_secret_no_start() {
    for (name, value) in [("JWT_SECRET_KEY", ""), ("SENTINEL_TOKEN", ""), ("JWT_SECRET_KEY", "short")] {
        let (status, errors) = Setup::echo().env(name, value).refused(&[]);
        assert_eq!(status, Some(2), "{name}={value:?}: {errors}");
        assert!(errors.contains(name), "{errors}");
    }
}

#[test]
fn an_expired_token_stops_working() {
    let setup = Setup::echo().auth("leeway_secs = 0").env("SENTINEL_TOKEN", &mint("ann", "admin", 6));
    let mut gateway = Gateway::start(setup);
    assert_eq!(gateway.ask("echo")["name"], "echo");
    let refused = eventually("a refusal", || {
        let answer = gateway.call("echo", json!({}));
        answer["error"].is_object().then_some(answer)
    });
    assert_eq!(code(&refused), -32001);
    assert_eq!(code(&gateway.request("tools/list", &json!({}))), -32001);
}

#[test]
fn a_token_that_is_none_lets_nobody_in() {
    for token in
        ["nonsense".to_owned(), mint("ann", "admin", -3600), format!("{}x", mint("ann", "admin", 60))]
    {
        let mut gateway = Gateway::spawn(Setup::echo().env("SENTINEL_TOKEN", &token));
        let info = json!({"name": "it", "version": "1"});
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
        assert_eq!(code(&gateway.request("initialize", &hello)), -32001);
        assert_eq!(code(&gateway.call("echo", json!({}))), -32002);
    }
}
