//! The strictest rule decides, and production always asks.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn policy(rules: &Value) -> Policy {
    let config = json!({
        "executors": { "exec": "dev", "live": "prd", "lab": "test" },
        "allowed_environments": ["dev", "prd"],
        "rules": rules,
    });
    serde_json::from_value::<Config>(config).unwrap().check().unwrap()
}

fn asked<'a>(environment: &'a str, command: &'a str) -> Asked<'a> {
    Asked { environment, command, subject: "ann", role: "ops" }
}

/// `allow`, the risk that is asked about, or the reason of the refusal.
fn outcome(policy: &Policy, asked: Asked<'_>, arguments: &Value) -> String {
    let slots = |slot: &str| arguments.get(slot).map(Value::to_string);
    match policy.decide(asked, &slots) {
        Ok(Decision::Allow) => "allow".to_owned(),
        Ok(Decision::Ask(request)) => format!("ask {:?} {}", request.risk, request.reason),
        Err(refusal) => refusal.reason,
    }
}

#[test]
fn only_what_runs_commands_is_judged() {
    let policy = policy(&json!([]));
    assert_eq!(policy.environment("exec"), Some("dev"));
    assert_eq!(policy.environment("files"), None);
}

#[test]
fn without_a_rule_a_person_is_asked_and_elsewhere_nothing_is_run() {
    let policy = policy(&json!([]));
    assert_eq!(outcome(&policy, asked("dev", "restart"), &json!({})), "ask Risk::Medium command");
    assert_eq!(outcome(&policy, asked("prd", "restart"), &json!({})), "ask Risk::High production_command");
    assert_eq!(outcome(&policy, asked("test", "restart"), &json!({})), "wrong_environment");
    let none = json!({ "executors": { "exec": "dev" }, "allowed_environments": [] });
    let none = serde_json::from_value::<Config>(none).unwrap().check().unwrap();
    assert_eq!(outcome(&none, asked("dev", "restart"), &json!({})), "wrong_environment");
}

#[test]
fn production_always_asks_with_the_highest_risk() {
    let policy = policy(&json!([
        { "decision": "allow" },
        { "decision": "ask", "commands": ["restart"], "risk": "LOW", "approvers": ["lead"], "approvals": 2 },
        { "decision": "deny", "commands": ["wipe"] },
    ]));
    assert_eq!(outcome(&policy, asked("dev", "list"), &json!({})), "allow");
    assert_eq!(outcome(&policy, asked("prd", "list"), &json!({})), "ask Risk::High production_command");
    assert_eq!(outcome(&policy, asked("dev", "restart"), &json!({})), "ask Risk::Low command");
    assert_eq!(outcome(&policy, asked("prd", "restart"), &json!({})), "ask Risk::High production_command");
    assert_eq!(outcome(&policy, asked("prd", "wipe"), &json!({})), "command_denied");
    let Ok(Decision::Ask(request)) = policy.decide(asked("prd", "restart"), &|_| None) else {
        panic!("not asked")
    };
    assert_eq!((request.thresholds[0].approve, request.thresholds[0].deny), (2, 1));
    assert_eq!(request.thresholds[0].roles, ["lead"]);
}

#[test]
fn an_allowance_needs_all_values_and_a_denial_one() {
    let policy = policy(&json!([
        { "decision": "allow", "commands": ["restart"], "slots": { "unit": ["web", "5"] } },
        { "decision": "deny", "commands": ["restart"], "slots": { "unit": ["db"] }, "reason": "not_the_database" },
    ]));
    for (unit, expected) in [
        (json!("web"), "allow"),
        (json!(5), "allow"),
        (json!(["web", 5]), "allow"),
        (json!(["web", "other"]), "ask Risk::Medium command"),
        (json!(["web", "db"]), "not_the_database"),
        (json!("db"), "not_the_database"),
        (json!("Web"), "ask Risk::Medium command"),
        (json!([]), "ask Risk::Medium command"),
        // What cannot be read as a value may be the one that is denied.
        (json!({ "a": "web" }), "not_the_database"),
        (json!(["web", ["db"]]), "not_the_database"),
        (json!(1.5), "not_the_database"),
        (json!(null), "not_the_database"),
    ] {
        assert_eq!(outcome(&policy, asked("dev", "restart"), &json!({ "unit": unit })), expected, "{unit}");
    }
    assert_eq!(outcome(&policy, asked("dev", "restart"), &json!({})), "ask Risk::Medium command");
}

#[test]
fn a_rule_is_about_whom_it_names() {
    let policy = policy(
        &json!([{ "decision": "allow", "subjects": ["ann"], "roles": ["ops"], "environments": ["dev"] }]),
    );
    assert_eq!(outcome(&policy, asked("dev", "x"), &json!({})), "allow");
    for other in [Asked { subject: "ann2", ..asked("dev", "x") }, Asked { role: "op", ..asked("dev", "x") }] {
        assert_eq!(outcome(&policy, other, &json!({})), "ask Risk::Medium command");
    }
}

#[test]
fn mistakes_are_told_together() {
    let config = json!({
        "executors": { "exec": "dev" }, "allowed_environments": ["dev"],
        "rules": [{ "decision": "allow", "commands": [], "environments": ["stage"], "slots": { "a": [] }, "approvals": 0 }],
    });
    let errors = serde_json::from_value::<Config>(config).unwrap().check().unwrap_err();
    let places: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        places,
        ["/rules/0/commands", "/rules/0/slots/a", "/rules/0/environments", "/rules/0/approvals"]
    );
}

proptest! {
    /// Another rule can make a decision stricter, never laxer; and production never runs anything unasked.
    #[test]
    fn a_further_rule_never_opens_what_a_rule_closes(
        words in proptest::collection::vec((0..3_u8, 0..2_u8), 1..6), live in any::<bool>(),
    ) {
        let rule = |(word, command): &(u8, u8)| json!({
            "decision": (["allow", "ask", "deny"][usize::from(*word)]),
            "commands": ([["restart", "other"][usize::from(*command)]]),
        });
        let strictness = |count: usize| {
            let rules: Vec<Value> = words[..count].iter().map(rule).collect();
            let environment = if live { "prd" } else { "dev" };
            let outcome = outcome(&policy(&json!(rules)), asked(environment, "restart"), &json!({}));
            if outcome == "allow" { 0 } else if outcome.starts_with("ask") { 1 } else { 2 }
        };
        let about = |count: usize| words[..count].iter().any(|(_, command)| *command == 0);
        for count in 1..words.len() {
            // The first rule about a command takes the place of the default.
            if about(count) {
                prop_assert!(strictness(count + 1) >= strictness(count));
            }
        }
        prop_assert!(!live || strictness(words.len()) >= 1);
    }
}
