//! What an agent over stdio sees.

use serde_json::json;

use super::{LEA, approve, asking, done, list, pending, ran, ready, run, setup, text, to, waiting, waits};
use crate::support::reason;

#[test]
fn a_call_waits_a_person_approves_it_and_the_record_shows_who_what_and_when() {
    let mut gateway = ready(setup());
    let call = gateway.begin("deploy", to("prod"));
    let request = pending(&gateway.setup);
    assert!(ran(&gateway.setup).is_empty() && !gateway.has_answer(call), "nothing runs before");
    // What needs nobody goes on meanwhile.
    assert_eq!(text(&gateway.call("look", json!({}))), "deployed");
    let said = approve(&gateway.setup, LEA, &request);
    assert!(said.contains("may run once") || said.contains("the call was made"), "{said}");
    assert_eq!(text(&gateway.answer(call)), "deployed");
    assert_eq!(ran(&gateway.setup), ["look {}", "deploy {\"to\": \"prod\"}"]);
    gateway.end();
    let rows = gateway.audit();
    let row = |tool: &str| {
        rows.iter().find(|row| row["tool"] == tool).unwrap_or_else(|| panic!("{tool}: {rows:?}"))
    };
    let made = row("deploy");
    assert_eq!((&made["status"], &made["subject"]), (&json!("success"), &json!("ann")), "{made}");
    let notes = made["notes"].to_string();
    for part in [request.0.as_str(), request.1.as_str(), "lea"] {
        assert!(notes.contains(part), "{part}: {made}");
    }
    let decided = row("approvals.approve");
    assert_eq!(
        (&decided["subject"], &decided["role"], &decided["kind"], &decided["status"]),
        (&json!("lea"), &json!("lead"), &json!("control"), &json!("success"))
    );
    assert_eq!(decided["arguments"]["id"], request.0, "{decided}");
    assert_eq!(decided["arguments"]["digest"], request.1, "{decided}");
    assert!(!rows.iter().any(|row| row.to_string().contains("eyJ")), "no token is on record");
}

#[test]
fn a_second_use_is_another_request_and_naming_the_first_is_refused() {
    let mut gateway = ready(waiting(0));
    waits(&gateway.call("deploy", to("prod")));
    let request = pending(&gateway.setup);
    approve(&gateway.setup, LEA, &request);
    let named = |id: &str| json!({"name": "deploy", "arguments": to("prod"), "_meta": {"sentinel-gateway/approval": id}});
    assert_eq!(text(&gateway.request("tools/call", &named(&request.0))), "deployed");
    let again = gateway.request("tools/call", &named(&request.0));
    assert_eq!(reason(&again), "consumed", "{again}");
    let anew = gateway.call("deploy", to("prod"));
    assert_ne!(waits(&anew)["approval_id"], request.0);
    assert_eq!(ran(&gateway.setup).len(), 1);
    gateway.end();
    let rows = gateway.audit();
    let statuses: Vec<_> = rows
        .iter()
        .filter(|row| row["tool"] == "deploy")
        .map(|row| row["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["awaiting_approval", "success", "denied", "awaiting_approval"], "each has its row");
}

#[test]
fn a_call_that_waited_long_enough_is_told_how_to_continue_and_the_same_call_does() {
    let mut gateway = ready(waiting(1));
    let first = gateway.call("deploy", to("prod"));
    let facts = waits(&first).clone();
    let (id, digest) = pending(&gateway.setup);
    assert_eq!((&facts["approval_id"], &facts["action_digest"]), (&json!(id), &json!(digest)));
    assert!(facts["decide_by"].as_str().unwrap().ends_with('Z'), "{facts}");
    assert!(text(&first).contains(&id) && text(&first).contains("same call again"), "{first}");
    // The same call is the same request, however it is spelled and whatever else it brings.
    let second = gateway.request(
        "tools/call",
        &json!({"_meta": {"progressToken": 5}, "arguments": to("prod"), "name": "deploy"}),
    );
    assert_eq!(waits(&second)["approval_id"], id.as_str());
    // Edited arguments are another one.
    let edited = gateway.call("deploy", to("test"));
    assert_ne!(waits(&edited)["approval_id"], id.as_str());
    let named =
        json!({"name": "deploy", "arguments": to("test"), "_meta": {"sentinel-gateway/approval": id}});
    assert_eq!(reason(&gateway.request("tools/call", &named)), "changed");
    approve(&gateway.setup, LEA, &(id.clone(), digest));
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    assert_eq!(ran(&gateway.setup), ["deploy {\"to\": \"prod\"}"]);
    let states: Vec<_> = list(&gateway.setup, LEA).iter().map(|approval| approval["state"].clone()).collect();
    assert_eq!(states, ["pending", "consumed"]);
}

#[test]
fn a_client_that_wants_to_hear_of_progress_hears_what_its_call_waits_for() {
    let mut gateway = ready(setup());
    let call = gateway.send(
        "tools/call",
        &json!({"name": "deploy", "arguments": to("prod"), "_meta": {"progressToken": "p-1"}}),
    );
    let heard = gateway.heard("notifications/progress")["params"].clone();
    let request = pending(&gateway.setup);
    assert_eq!(heard["progressToken"], "p-1");
    assert!(heard["progress"].as_f64().unwrap() < 0.0, "below all that the server says: {heard}");
    assert!(heard["message"].as_str().unwrap().contains(&request.0), "{heard}");
    approve(&gateway.setup, LEA, &request);
    assert_eq!(text(&gateway.answer(call)), "deployed");
}

#[test]
fn a_rejection_ends_the_call_and_holds() {
    let mut gateway = ready(setup());
    let call = gateway.begin("deploy", to("prod"));
    let (id, digest) = pending(&gateway.setup);
    done(&gateway.setup, LEA, &["reject", &id, "--digest", &digest, "--reason", "not on a Friday"]);
    let refused = gateway.answer(call);
    assert_eq!(reason(&refused), "rejected");
    let words = refused["error"]["message"].as_str().unwrap();
    assert!(words.contains("\"lea\": not on a Friday"), "{refused}");
    assert_eq!(refused["error"]["data"]["approval_id"], id.as_str());
    assert_eq!(reason(&gateway.call("deploy", to("prod"))), "rejected", "nobody is asked again at once");
    assert!(ran(&gateway.setup).is_empty());
}

#[test]
fn a_request_ends_with_its_time_and_an_approval_that_is_not_used_with_its_own() {
    let times = "[approvals]\nwait_secs = 0\ndecide_secs = 2\nrun_secs = 1.0";
    let mut gateway = ready(setup().more(times));
    let first = waits(&gateway.call("deploy", to("prod")))["approval_id"].as_str().unwrap().to_owned();
    let state = |id: &str| {
        let list = list(&gateway.setup, LEA);
        let found = list.iter().find(|approval| approval["id"] == id).unwrap();
        found["state"].as_str().unwrap().to_owned()
    };
    crate::support::eventually("the end of its time", || (state(&first) == "expired").then_some(()));
    let late = super::reason(&gateway.setup, LEA, &["approve", &first, "--digest", &"0".repeat(64)]);
    assert_eq!(late, "changed", "first of all it has to be what was seen");
    let named = |id: &str| json!({"name": "deploy", "arguments": to("prod"), "_meta": {"sentinel-gateway/approval": id}});
    assert_eq!(reason(&gateway.request("tools/call", &named(&first))), "expired");
    let second = waits(&gateway.call("deploy", to("prod")))["approval_id"].as_str().unwrap().to_owned();
    assert_ne!(second, first);
    let request = pending(&gateway.setup);
    approve(&gateway.setup, LEA, &request);
    crate::support::eventually("the end of the approval", || {
        let list = list(&gateway.setup, LEA);
        let found = list.iter().find(|approval| approval["id"] == second.as_str()).unwrap();
        (found["state"] == "expired").then_some(())
    });
    assert_eq!(reason(&gateway.request("tools/call", &named(&second))), "expired");
    assert!(ran(&gateway.setup).is_empty());
}

#[test]
fn one_agent_cannot_flood_the_people_who_decide() {
    let caps = "[approvals]\nwait_secs = 0\nmax_pending_per_caller = 4\nmax_pending_per_target = 3";
    let mut gateway = ready(asking("[[rbac.approvals]]\ntools = [\"deploy\", \"look\"]\n").more(caps));
    for number in 0..3 {
        waits(&gateway.call("deploy", to(&number.to_string())));
    }
    let full = gateway.call("deploy", to("more"));
    assert_eq!(reason(&full), "too_many_pending", "{full}");
    waits(&gateway.call("look", json!({})));
    assert_eq!(reason(&gateway.call("look", json!({"x": 1}))), "too_many_pending");
    assert_eq!(list(&gateway.setup, LEA).len(), 4);
    // One that is taken back makes room.
    let (id, _) = pending(&gateway.setup);
    done(&gateway.setup, Some(("oskar", "ops")), &["cancel", &id, "--reason", "a test"]);
    waits(&gateway.call("look", json!({"x": 1})));
    assert!(ran(&gateway.setup).is_empty());
}

#[test]
fn what_cannot_be_shown_exactly_or_is_too_long_is_not_approved() {
    let mut gateway = ready(waiting(0));
    for (arguments, word) in
        [(json!({"to": "x", "n": 1e300}), "not_exact"), (json!({"to": "x".repeat(300 << 10)}), "too_large")]
    {
        assert_eq!(reason(&gateway.call("deploy", arguments)), word);
    }
    // Whole numbers beyond 2^53 are told apart, and shown as they are.
    let one = gateway
        .request("tools/call", &json!({"name": "deploy", "arguments": {"n": 9_007_199_254_740_993_u64}}));
    let other = gateway
        .request("tools/call", &json!({"name": "deploy", "arguments": {"n": 9_007_199_254_740_992_u64}}));
    assert_ne!(waits(&one)["action_digest"], waits(&other)["action_digest"]);
    let id = waits(&one)["approval_id"].as_str().unwrap();
    let shown = run(&gateway.setup, LEA, &["show", id]).out;
    assert!(shown.contains("9007199254740993"), "{shown}");
}
