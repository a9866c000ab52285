//! An answer is given again where nothing it depends on has changed, and nowhere else.

use sentinel_gateway::plugin::PluginResult;

use super::*;

/// What one that depends on the target reads of a call of its own.
const MORE: [&str; 10] =
    ["subject", "claim", "id", "arguments", "body", "session", "time", "counter", "cell", "log"];

fn once(stage: Stage, also: &str, change: impl FnOnce(&mut config::Plugin)) -> Arc<Plugin> {
    let mut settings = settings("once", stage, json!({ "also": also }));
    change(&mut settings);
    load(&settings, &Store::new())
}

fn asked<T>(answer: PluginResult<T>) -> bool {
    match answer.unwrap() {
        Ok(_) => false,
        Err(refusal) => {
            assert_eq!(refusal.reason, "asked_again");
            true
        }
    }
}

fn another(call: &Call) -> Arc<Call> {
    let principal = Principal { subject: "bob".to_owned(), ..Principal::clone(&call.principal) };
    let params = json!({ "name": "order", "arguments": { "untouched": 2 } }).to_string().into();
    Arc::new(Call { id: "test-2".to_owned(), principal: Arc::new(principal), params, ..call.clone() })
}

#[test]
fn whoever_depends_on_the_target_is_asked_once_for_each() {
    let order = call("order");
    let guard = once(Stage::Guard, "nothing", |_| {});
    let first = guard.check(&order).unwrap().unwrap();
    assert_eq!(first, Verdict::Allow(None));
    // For any caller, with any arguments.
    assert!(!asked(guard.check(&another(&order))));
    assert!(asked(guard.check(&call("refund"))), "another target");
    // A refusal is not kept, nor does it replace what is.
    assert!(asked(guard.check(&call("refund"))));
    assert!(!asked(guard.check(&order)));
    let listed = Call { method: "tools/other".to_owned(), ..Call::clone(&order) };
    assert!(asked(guard.check(&Arc::new(listed))), "another method");

    let rewriter = once(Stage::Rewrite, "nothing", |_| {});
    let note = [("asked".to_owned(), "once".to_owned())];
    for call in [&order, &another(&order)] {
        assert_eq!(rewriter.on_request(call).unwrap().unwrap().notes, note);
    }
    assert!(asked(rewriter.on_request(&call("refund"))));
    // What is known of one question is no answer to another.
    assert!(asked(rewriter.check(&order)));
}

#[test]
fn an_answer_that_depends_on_more_than_was_said_is_for_its_call_only() {
    for also in MORE {
        let guard = once(Stage::Guard, also, |_| {});
        assert!(!asked(guard.check(&call("order"))), "{also}");
        assert!(asked(guard.check(&call("order"))), "{also}");
        let rewriter = once(Stage::Rewrite, also, |_| {});
        assert!(!asked(rewriter.on_request(&call("order"))), "{also}");
        assert!(asked(rewriter.on_request(&call("order"))), "{also}");
    }
    let guard = once(Stage::Guard, "permit", |_| {});
    assert_eq!(guard.check(&call("order")).unwrap().unwrap(), Verdict::Allow(Some(1)));
    assert!(asked(guard.check(&call("order"))), "a permit is for one call");
}

#[test]
fn an_instance_for_one_call_remembers_nothing() {
    let guard = once(Stage::Guard, "nothing", |settings| settings.isolation = Isolation::Call);
    // Each of these is a new one, and is asked its first question.
    for _ in 0..2 {
        assert!(!asked(guard.check(&call("order"))));
    }
    // What an instance knew goes with it.
    let guard = once(Stage::Guard, "nothing", |settings| settings.limits.max_calls = 2);
    for tool in ["order", "order", "refund", "order"] {
        let again = asked(guard.check(&call(tool)));
        assert_eq!(again, tool == "refund", "{tool}");
    }
}

#[test]
fn a_role_is_judged_anew_for_everybody_and_every_tool() {
    let roles = json!({ "roles": {
        "admin": { "permissions": ["*"], "denied_tools": ["refund"] },
        "reader": { "permissions": ["tools.read"] },
    } });
    let rbac = shipped("rbac", Stage::Guard, roles);
    let (order, refund) = (call("order"), call("refund"));
    let principal = Principal { role: "reader".to_owned(), ..Principal::clone(&order.principal) };
    let reader = Arc::new(Call { principal: Arc::new(principal), ..Call::clone(&order) });
    for _ in 0..3 {
        assert!(rbac.check(&order).unwrap().is_ok());
        assert_eq!(rbac.check(&refund).unwrap().unwrap_err().reason, "permission_denied");
        assert_eq!(rbac.check(&reader).unwrap().unwrap_err().reason, "permission_denied");
    }
}
