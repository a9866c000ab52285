//! The policies, each a plugin, as a client meets them.

use serde_json::json;

use crate::support::{Gateway, Setup, code, eventually, reason, target};

#[test]
fn rbac_hides_and_denies() {
    let setup = Setup::echo()
        .roles("[rbac.roles.clerk]\npermissions = [\"*\"]\ndenied_tools = [\"crash\", \"s*\"]")
        .role("clerk");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let tools = gateway.tools();
    assert!(!tools.iter().any(|tool| tool == "crash" || tool.starts_with('s')), "{tools:?}");
    let denied = gateway.call("crash", json!({}));
    assert_eq!((code(&denied), reason(&denied)), (-32003, "permission_denied"));
    assert_eq!(code(&gateway.call("slow", json!({"ms": "not even checked"}))), -32003);
    assert_eq!(gateway.ask("echo")["name"], "echo");
}

#[test]
fn reading_is_not_executing_and_an_unknown_role_may_do_nothing() {
    let roles = "[rbac.roles.reader]\npermissions = [\"tools.read\"]";
    let mut gateway = Gateway::start(Setup::echo().roles(roles).role("reader"));
    gateway.await_tool("echo");
    assert_eq!(code(&gateway.call("echo", json!({}))), -32003);
    let mut gateway = Gateway::start(Setup::echo().roles(roles).role("stranger"));
    assert_eq!(gateway.tools(), Vec::<String>::new());
    assert_eq!(code(&gateway.call("echo", json!({}))), -32003);
    gateway.end();
    let rows = gateway.audit();
    assert_eq!((&rows[0]["status"], &rows[0]["role"]), (&json!("denied"), &json!("stranger")));
}

#[test]
fn a_denial_survives_a_collision_of_names() {
    let setup = Setup::new()
        .backend("one", &[], "")
        .backend("two", &[], "")
        .role("clerk")
        .roles("[rbac.roles.clerk]\npermissions = [\"*\"]\ndenied_tools = [\"crash\"]");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("two_echo");
    assert!(!gateway.tools().iter().any(|tool| tool.ends_with("crash")));
    assert_eq!(code(&gateway.call("two_crash", json!({}))), -32003);
}

/// On stdio there is no status and no header: the refusal says which scope to get.
#[test]
fn a_missing_scope_is_named() {
    let rules = "[[rbac.scopes]]\ntools = [\"echo\"]\nscope = \"mcp:admin\"";
    let mut gateway = Gateway::start(Setup::echo().more(rules));
    gateway.await_tool("echo");
    let refused = gateway.call("echo", json!({}));
    assert_eq!((code(&refused), reason(&refused)), (-32003, "insufficient_scope"));
    assert_eq!(refused["error"]["data"]["scope"], "mcp:admin", "{refused}");
    assert!(gateway.call("slow", json!({"ms": 1}))["result"].is_object(), "another tool needs none");
}

#[test]
fn a_rate_limit_says_when_to_try_again() {
    let setup = Setup::echo().rate_limits("per_tool = { echo = { rpm = 6, burst = 1 }, whoami = 0 }");
    let mut gateway = Gateway::start(setup);
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    let refused = gateway.call("echo", json!({}));
    assert_eq!((code(&refused), reason(&refused)), (-32004, "rate_limited"));
    let after = refused["error"]["data"]["retryAfter"].as_u64().unwrap();
    assert!((1..=10).contains(&after), "{refused}");
    assert_eq!(code(&gateway.call("whoami", json!({}))), -32004);
    // Another tool has a limit of its own.
    assert!(gateway.call("fail", json!({}))["result"].is_object());
}

#[test]
fn a_breaker_trips_and_recovers() {
    let setup = Setup::new();
    let flag = setup.text("ill");
    let setup = setup
        .backend(
            "weather",
            &["--profile", "weather", "--flag-file", &flag],
            "circuit_breaker_threshold = 3\ncircuit_breaker_recovery_secs = 0.3\ncircuit_breaker_count_errors = true",
        )
        .backend("echo", &[], "");
    let mut gateway = Gateway::start(setup);
    std::fs::write(gateway.setup.path("ill"), "").unwrap();
    for _ in 0..3 {
        assert_eq!(code(&gateway.call("flaky", json!({}))), -32603);
    }
    let refused = gateway.call("forecast", json!({"city": "Oslo"}));
    assert_eq!((code(&refused), reason(&refused)), (-32007, "circuit_open"));
    assert!(refused["error"]["data"]["retryAfter"].as_u64().is_some(), "{refused}");
    assert_eq!(gateway.ask("echo")["name"], "echo", "other backends are not concerned");
    std::fs::remove_file(gateway.setup.path("ill")).unwrap();
    eventually("recovery", || gateway.call("flaky", json!({}))["result"].is_object().then_some(()));
    assert!(gateway.call("forecast", json!({"city": "Oslo"}))["result"].is_object());
}

#[test]
fn what_a_tool_or_a_caller_gets_wrong_does_not_trip_the_breaker() {
    let mut gateway = Gateway::start(Setup::new().backend("echo", &[], "circuit_breaker_threshold = 2"));
    for _ in 0..4 {
        assert_eq!(gateway.call("fail", json!({}))["result"]["isError"], true);
        assert_eq!(code(&gateway.call("badparams", json!({}))), -32602);
    }
    assert_eq!(gateway.ask("echo")["name"], "echo");
}

#[test]
fn rewrite_rules_reshape_calls_results_and_lists() {
    let rules = r#"[backends.rewrite]
arguments = [{ tool = "echo", default = "/text", value = "by default" }, { tool = "echo", rename = "/old", to = "new" }]
results = [{ tool = "echo", remove = "/content" }]
tools = [
  { tool = "echo", rename = "say", description = "Says it." },
  { tool = "crash", hide = true },
]"#;
    let mut gateway = Gateway::start(Setup::new().backend("echo", &[], rules));
    gateway.await_tool("say");
    let tools = gateway.tools();
    assert!(!tools.iter().any(|tool| tool == "echo" || tool == "crash"), "{tools:?}");
    let result = gateway.call("say", json!({"old": 1.0}))["result"].clone();
    assert!(result.get("content").is_none(), "{result}");
    let expected = json!({"name": "echo", "arguments": {"text": "by default", "new": 1.0}});
    assert_eq!(result["structuredContent"], expected);
    assert_eq!(
        gateway.call("say", json!({"text": "mine"}))["result"]["structuredContent"]["arguments"]["text"],
        "mine"
    );
    for gone in ["echo", "crash"] {
        assert_eq!(code(&gateway.call(gone, json!({}))), -32602, "{gone}");
    }
}

#[test]
fn a_guard_of_ones_own_decides_too() {
    let tag = target().join("guests/tag.wasm");
    let mut gateway = Gateway::start(Setup::echo().more(&format!(
        "[[plugins]]\nname = \"tag\"\nstage = \"guard\"\nwasm = {:?}\nconfig = {{ deny_tools = [\"slow\"] }}\nlimits = {{ deadline_ms = 10000 }}\n",
        tag.to_str().unwrap()
    )));
    gateway.await_tool("echo");
    assert!(!gateway.tools().contains(&"slow".to_owned()));
    let denied = gateway.call("slow", json!({"ms": 1}));
    assert_eq!((code(&denied), reason(&denied)), (-32003, "tagged"));
    assert_eq!(gateway.ask("echo")["name"], "echo");
}

#[test]
fn a_backend_that_is_switched_off_is_hidden_and_refused() {
    let setup = Setup::new().backend("echo", &[], "").backend("weather", &["--profile", "weather"], "");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("forecast");
    gateway.reload(|setup| setup.set_kill_switch("disabled_backends = [\"weather\"]"));
    gateway.heard("notifications/tools/list_changed");
    eventually("the switch", || (!gateway.tools().contains(&"forecast".to_owned())).then_some(()));
    let refused = gateway.call("forecast", json!({"city": "Oslo"}));
    assert_eq!((code(&refused), reason(&refused)), (-32005, "killed"));
    assert_eq!(gateway.ask("echo")["name"], "echo");
}
