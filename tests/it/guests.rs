//! Promise 2: nothing a plugin does can stop the gateway or another caller's call. Every misbehaving guest of
//! `tests/guests` runs through the library as the gateway runs its policies, and ends as a fault with a name.
#![allow(clippy::unwrap_used, reason = "tests")]

mod approvals;
mod callers;
mod capabilities;
mod edits;
mod logs;
mod network;
mod reuse;
mod state;

pub(crate) use capabilities::{alone, missing};

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sentinel_gateway::call::{About, Call, Denial, DenialKind, Outcome, Principal, Target, TargetKind};
use sentinel_gateway::config::{self, Bounds, Isolation, Limits, OnFailure, Stage};
use sentinel_gateway::plugin::{Engine, Fault, LoadError, Plugin, Row, Verdict};
use sentinel_gateway::policy::{Chain, KillSwitch, Policy};
use sentinel_gateway::state::{Clock, Store};
use sentinel_names::Names;
use serde_json::{Value, json};

/// A day on any machine: for tests in which time must not be the limit that is hit.
const NO_DEADLINE_MS: u64 = 60_000;
/// What no bounded call may take, however slow the machine.
const BOUND: Duration = Duration::from_secs(20);

/// One engine for the whole test binary, as a gateway has one.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().unwrap())
}

/// An artifact that `cargo xtask` builds; missing, it fails the test instead of skipping it.
pub(crate) fn artifact(name: &str, command: &str) -> PathBuf {
    let path = crate::support::target().join("guests").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing: run `{command}`", path.display());
    path
}

pub(crate) fn guest(name: &str) -> PathBuf {
    artifact(name, "cargo xtask build --guests")
}

/// A plugin's settings as the configuration makes them without any [[plugins]] keys, but for the deadline:
/// a test machine with other work to do must not decide which limit is hit.
pub(crate) fn settings(name: &str, stage: Stage, config: Value) -> config::Plugin {
    config::Plugin {
        name: name.to_owned(),
        artifact: "",
        stage,
        wasm: None,
        sha256: None,
        on_failure: OnFailure::Deny,
        secrets: Vec::new(),
        grants: Vec::new(),
        http: None,
        isolation: Isolation::Shared,
        limits: Limits { deadline_ms: NO_DEADLINE_MS, ..Limits::default() },
        config,
        section: "plugins".to_owned(),
    }
}

pub(crate) fn guard_settings(name: &str) -> config::Plugin {
    settings(name, Stage::Guard, json!({}))
}

pub(crate) fn load_from(wasm: &Path, settings: &config::Plugin, store: &Store) -> Result<Plugin, LoadError> {
    Plugin::load(engine(), wasm, settings, store, &Clock::real())
}

/// Loads the guest its settings name.
fn load(settings: &config::Plugin, store: &Store) -> Arc<Plugin> {
    Arc::new(load_from(&guest(&settings.name), settings, store).unwrap())
}

/// One of the plugins that come with the gateway.
fn shipped(name: &str, stage: Stage, config: Value) -> Arc<Plugin> {
    let wasm = crate::support::target().join("debug/plugins").join(name).with_extension("wasm");
    Arc::new(load_from(&wasm, &settings(name, stage, config), &Store::new()).unwrap())
}

/// A call of a tool, by somebody the guests do not care about.
pub(crate) fn call(tool: &str) -> Arc<Call> {
    let params = json!({ "name": tool, "arguments": { "untouched": 1.50 } }).to_string();
    Arc::new(Call {
        id: "test-1".to_owned(),
        method: "tools/call".to_owned(),
        target: Target {
            kind: TargetKind::Tool,
            name: tool.into(),
            backend: "shop".into(),
            upstream: tool.into(),
        },
        principal: Arc::new(Principal {
            subject: "alice".to_owned(),
            role: "admin".to_owned(),
            issuer: None,
            audience: None,
            token_id: None,
            expires_at: None,
            claims: Vec::new(),
        }),
        params: params.into(),
        session: "session".into(),
        door: "stdio",
        about: About::default(),
    })
}

fn policy(guards: Vec<Arc<Plugin>>) -> Policy {
    let chain = Chain { guards, ..Chain::default() };
    Policy::new(chain, KillSwitch::new(&config::KillSwitch::default()), Clock::real())
}

/// The fault of a check that must fail.
fn fault_of(plugin: &Plugin) -> Fault {
    plugin.check(&call("order")).expect_err("the guest came back").fault
}

#[test]
fn a_list_of_ten_thousand_is_judged_within_the_limits_of_one_call() {
    let rules = json!({ "roles": { "admin": { "permissions": ["*"], "denied_tools": ["tool_77*"] } } });
    let rbac = shipped("rbac", Stage::Guard, rules);
    let names: Vec<String> = (0..10_000).map(|number| format!("tool_{number}")).collect();
    let row = |name| Row { kind: TargetKind::Tool, names: Names { shown: name, own: name, backend: "shop" } };
    let rows: Vec<Row<'_>> = names.iter().map(|name| row(name)).collect();
    let visible = rbac.visible(&call("order"), &rows).unwrap();
    let hidden = visible.iter().filter(|shown| !**shown).count();
    assert_eq!((visible.len(), hidden), (10_000, 1 + 10 + 100));
}

#[test]
fn plugins_kept_within_their_memory_by_checks_decide_alike() {
    let engine = Engine::bounded(Bounds::Checked).unwrap();
    let settings = settings("tag", Stage::Guard, json!({ "deny_tools": ["order"] }));
    let tag = Plugin::load(&engine, &guest("tag"), &settings, &Store::new(), &Clock::real()).unwrap();
    assert_eq!(tag.check(&call("refund")).unwrap().unwrap(), Verdict::Allow(None));
    assert_eq!(tag.check(&call("order")).unwrap().unwrap_err().reason, "tagged");
}

#[test]
fn a_loop_ends_when_its_steps_are_used_up() {
    let mut settings = guard_settings("loop");
    settings.limits.fuel = 50_000;
    let plugin = load(&settings, &Store::new());
    let started = Instant::now();
    // Twice: an instance that was stopped halfway could not be entered again, so the second call has another.
    for _ in 0..2 {
        assert_eq!(fault_of(&plugin), Fault::Fuel { limit: 50_000 });
    }
    assert!(started.elapsed() < BOUND);
}

#[test]
fn a_loop_with_steps_to_spare_ends_when_its_time_is_up() {
    let mut settings = guard_settings("loop");
    settings.limits.fuel = u64::MAX / 2;
    settings.limits.deadline_ms = 30;
    let plugin = load(&settings, &Store::new());
    for _ in 0..2 {
        let started = Instant::now();
        assert_eq!(fault_of(&plugin), Fault::Deadline { ms: 30 });
        // One tick may have been under way already.
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(25) && took < BOUND, "took {took:?}");
    }
}

#[test]
fn a_loop_delays_no_other_plugin() {
    let mut settings = guard_settings("loop");
    settings.limits.fuel = u64::MAX / 2;
    settings.limits.deadline_ms = 2_000;
    let store = Store::new();
    let (stuck, free) = (load(&settings, &store), load(&guard_settings("counting"), &store));
    std::thread::scope(|scope| {
        let looping = scope.spawn(|| fault_of(&stuck));
        let mut answered = 0;
        while !looping.is_finished() {
            assert!(free.check(&call("order")).unwrap().is_ok());
            answered += 1;
        }
        assert!(answered > 100, "only {answered} calls were answered beside a loop of two seconds");
        assert_eq!(looping.join().unwrap(), Fault::Deadline { ms: 2_000 });
    });
}

#[test]
fn memory_ends_at_the_plugins_own_limit() {
    for mebibytes in [4, 16] {
        let mut settings = guard_settings("memory");
        settings.limits.memory_bytes = mebibytes << 20;
        let plugin = load(&settings, &Store::new());
        for _ in 0..2 {
            assert_eq!(fault_of(&plugin), Fault::Limit(format!("more than {mebibytes} MiB of memory")));
        }
    }
}

#[test]
fn a_panic_is_told_with_its_text_and_line() {
    let plugin = load(&guard_settings("panic"), &Store::new());
    for _ in 0..2 {
        let Fault::Trap(text) = fault_of(&plugin) else { panic!("not a trap: {:?}", fault_of(&plugin)) };
        assert!(text.contains("guest says boom"), "{text}");
        assert!(text.contains(&format!("panic/src/lib.rs:{}:", boom_line(0))), "{text}");
    }
}

#[test]
fn a_panic_in_settle_harms_neither_the_reply_nor_the_next_call() {
    let settings = settings("panic", Stage::Guard, json!({ "in": "settle" }));
    let plugin = load(&settings, &Store::new());
    for _ in 0..2 {
        assert_eq!(plugin.check(&call("order")).unwrap().unwrap(), Verdict::Allow(Some(1)));
        let error = plugin.settle(&call("order"), 1, Outcome::Success, Duration::ZERO).unwrap_err();
        assert_eq!(&*error.plugin, "panic");
        let text = error.to_string();
        assert!(text.contains("guest says boom"), "{text}");
        assert!(text.contains(&format!("panic/src/lib.rs:{}:", boom_line(1))), "{text}");
    }
    // Through the policy the fault ends in the log: settling is behind the reply.
    let permitted = policy(vec![plugin]).decide(&call("order"), None).unwrap();
    permitted.settle(Outcome::Success, Duration::ZERO);
}

/// The line of the nth panic in the guest's source, so that the test does not break when the guest is edited.
fn boom_line(nth: usize) -> usize {
    let source = include_str!("../guests/panic/src/lib.rs");
    let mut booms = source.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("panic!"));
    booms.nth(nth).unwrap().0 + 1
}

#[test]
fn endless_recursion_ends_at_the_stack() {
    let mut settings = guard_settings("stack");
    // Steps must not be the limit that is hit.
    settings.limits.fuel = u64::MAX / 2;
    let plugin = load(&settings, &Store::new());
    for _ in 0..2 {
        assert_eq!(fault_of(&plugin), Fault::Limit("its stack overflowed".to_owned()));
    }
}

#[test]
fn every_mistake_in_a_plugins_configuration_is_told_at_once() {
    let settings = settings("badconfig", Stage::Guard, json!({ "bad": { "deeper": 1 } }));
    let error = load_from(&guest("badconfig"), &settings, &Store::new()).unwrap_err();
    let LoadError::Config(mistakes) = error else { panic!("another error: {error:?}") };
    let expected = [
        ("/bad", "unknown key", "remove it"),
        ("/bad/deeper", "neither is this one known", "write good instead"),
    ];
    let expected =
        expected.map(|(path, text, hint)| (path.to_owned(), text.to_owned(), Some(hint.to_owned())));
    assert_eq!(mistakes, expected);
    assert!(load_from(&guest("badconfig"), &guard_settings("badconfig"), &Store::new()).is_ok());
}

#[test]
fn a_plugin_that_fails_refuses_the_call_unless_the_operator_chose_otherwise() {
    for name in ["loop", "memory", "panic", "stack"] {
        let mut settings = guard_settings(name);
        settings.limits.fuel = 20_000_000;
        let refused = policy(vec![load(&settings, &Store::new())]).decide(&call("order"), None).unwrap_err();
        assert_eq!((refused.kind, refused.reason.as_str()), (DenialKind::Unavailable, "plugin_failed"));
        assert!(refused.message.contains(&format!("`{name}`")), "{}", refused.message);
        // What the guest says is for the operator's log, not for clients.
        assert!(!refused.message.contains("boom"), "{}", refused.message);

        settings.on_failure = OnFailure::Allow;
        let permitted = policy(vec![load(&settings, &Store::new())]).decide(&call("order"), None).unwrap();
        permitted.settle(Outcome::Success, Duration::ZERO);
    }
}

#[test]
fn a_breaker_is_not_asked_about_what_an_operator_does() {
    let breakers = vec![load(&guard_settings("panic"), &Store::new())];
    let chain = Chain { breakers, ..Chain::default() };
    let policy = Policy::new(chain, KillSwitch::new(&config::KillSwitch::default()), Clock::real());
    assert_eq!(policy.decide(&call("order"), None).unwrap_err().reason, "plugin_failed");
    let restart = Call::clone(&call("order"));
    let target = Target { kind: TargetKind::Control, ..restart.target.clone() };
    let restart = Arc::new(Call { method: "backend/restart".to_owned(), target, ..restart });
    policy.decide(&restart, None).unwrap().settle(Outcome::Success, Duration::ZERO);
}

#[test]
fn a_permit_given_before_another_guard_fails_is_settled() {
    let store = Store::new();
    let counting = load(&guard_settings("counting"), &store);
    let policy = policy(vec![counting.clone(), load(&guard_settings("panic"), &store)]);
    for _ in 0..3 {
        let _refused: Denial = policy.decide(&call("order"), None).unwrap_err();
    }
    assert_eq!(state::counts(&counting), "3/3");
}
