//! A guard may want a person to be asked. While nobody can be, such a call goes nowhere: fail closed, and on record.

use sentinel_gateway::plugin::{ApprovalRequest, Risk, Threshold};

use crate::support::{Gateway, Setup, code, reason};

use super::*;

fn asking() -> config::Plugin {
    settings("approval", Stage::Guard, json!({ "ask_for": ["order"] }))
}

#[test]
fn a_guard_says_what_a_person_is_to_be_asked() {
    let plugin = load(&asking(), &Store::new());
    assert_eq!(plugin.check(&call("refund")).unwrap().unwrap(), Verdict::Allow(None));
    let expected = ApprovalRequest {
        reason: "production_write".to_owned(),
        summary: "alice wants to use order.".to_owned(),
        risk: Risk::High,
        thresholds: vec![Threshold {
            name: "owners".to_owned(),
            roles: vec!["owner".to_owned(), "lead".to_owned()],
            // It said 0, which would be reached before anybody was asked.
            approve: 1,
            deny: 1,
        }],
        decide_within: Some(Duration::from_secs(900)),
        run_within: None,
        details: vec![("ticket".to_owned(), "SG-11".to_owned())],
    };
    assert_eq!(plugin.check(&call("order")).unwrap().unwrap(), Verdict::Ask(Box::new(expected)));
}

#[test]
fn a_call_that_somebody_would_have_to_approve_is_refused_whatever_the_operator_says_of_failures() {
    for on_failure in [OnFailure::Deny, OnFailure::Allow] {
        let store = Store::new();
        let counting = load(&guard_settings("counting"), &store);
        let mut settings = asking();
        settings.on_failure = on_failure;
        let policy = policy(vec![counting.clone(), load(&settings, &store)]);
        let refused = policy.decide(&call("order"), None).unwrap_err();
        assert_eq!((refused.kind, refused.reason.as_str()), (DenialKind::Forbidden, "approval_unavailable"));
        for words in ["`approval`", "production_write", "alice wants to use order.", "not available"] {
            assert!(refused.message.contains(words), "{words}: {}", refused.message);
        }
        assert_eq!(state::counts(&counting), "1/1", "what another guard permitted is settled");
        policy.decide(&call("refund"), None).unwrap().settle(Outcome::Success, Duration::ZERO);
    }
}

#[test]
fn a_breaker_and_a_request_for_several_targets_are_held_to_it_as_well() {
    let plugin = load(&asking(), &Store::new());
    let chain = Chain { breakers: vec![plugin.clone()], ..Chain::default() };
    let breaker = Policy::new(chain, KillSwitch::new(&config::KillSwitch::default()), Clock::real());
    assert_eq!(breaker.decide(&call("order"), None).unwrap_err().reason, "approval_unavailable");
    let also = [call("order").target.clone()];
    let refused = policy(vec![plugin]).decide_all(&call("refund"), &also, None).unwrap_err();
    assert_eq!(refused.reason, "approval_unavailable");
}

#[test]
fn the_caller_is_told_and_the_record_says_so() {
    let wasm = guest("approval");
    // One artifact, two roles: each entry is asked in its own stage only.
    let entry = |name: &str, stage: &str, config: &str| {
        format!(
            "[[plugins]]\nname = {name:?}\nstage = {stage:?}\nwasm = {:?}\nlimits = {{ deadline_ms = 10000 }}\nconfig = {config}\n",
            wasm.to_str().unwrap()
        )
    };
    let setup = Setup::echo()
        .more(&entry("approval", "guard", "{ ask_for = [\"whoami\"], mark = \"guard\" }"))
        .more(&entry("marks", "rewrite", "{ ask_for = [\"echo\"], mark = \"rewriter\" }"));
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let refused = gateway.call("whoami", json!({}));
    assert_eq!((code(&refused), reason(&refused)), (-32003, "approval_unavailable"));
    let data = &refused["error"]["data"];
    assert_eq!(
        (&data["approval_reason"], &data["approval_risk"]),
        (&json!("production_write"), &json!("high"))
    );
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("approvals are not available"),
        "{refused}"
    );
    assert_eq!(gateway.ask("echo")["arguments"]["mark"], "rewriter");
    gateway.end();
    let rows = gateway.audit();
    let row = rows.iter().find(|row| row["tool"] == "whoami").unwrap();
    assert_eq!(row["status"], "denied", "{row}");
    assert!(row.to_string().contains("approvals are not available"), "{row}");
}
