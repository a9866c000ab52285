//! A gateway that is killed at any moment runs nothing twice, and forgets no decision.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::{LEA, approve, list, pending, ran, ready, setup, text, to, waiting, waits};
use crate::support::{Gateway, Setup, eventually, reason};

fn kill(mut gateway: Gateway) -> Setup {
    gateway.signal(Signal::KILL);
    gateway.wait_exit();
    gateway.into_setup()
}

#[test]
fn a_restart_in_the_middle_forgets_nothing() {
    let mut gateway = ready(waiting(0));
    waits(&gateway.call("deploy", to("prod")));
    let request = pending(&gateway.setup);
    // While it waits.
    let gateway = ready(kill(gateway));
    assert_eq!(pending(&gateway.setup), request);
    approve(&gateway.setup, LEA, &request);
    // After the decision.
    let mut gateway = ready(kill(gateway));
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    // After the use.
    let mut gateway = ready(kill(gateway));
    let named =
        json!({"name": "deploy", "arguments": to("prod"), "_meta": {"sentinel-gateway/approval": request.0}});
    assert_eq!(reason(&gateway.request("tools/call", &named)), "consumed");
    assert_eq!(ran(&gateway.setup).len(), 1);
}

#[test]
fn killed_while_the_call_is_made_it_is_not_made_again() {
    let gateway = {
        let mut gateway = ready(setup());
        std::fs::write(gateway.setup.path("hold"), "").unwrap();
        gateway.begin("deploy", to("prod"));
        let request = pending(&gateway.setup);
        approve(&gateway.setup, LEA, &request);
        eventually("the server at work", || (ran(&gateway.setup).len() == 1).then_some(()));
        gateway
    };
    let setup = kill(gateway);
    std::fs::remove_file(setup.path("hold")).unwrap();
    let gateway = ready(setup);
    let states = list(&gateway.setup, LEA);
    assert_eq!(states[0]["state"], "consumed", "{states:?}");
    gateway.await_audit("a call of which nobody knows how it ended", |rows| {
        rows.iter().any(|row| row["tool"] == "deploy" && row["status"] == "unknown").then_some(())
    });
    assert_eq!(ran(&gateway.setup).len(), 1);
}

/// At another moment after the decision in every round: whatever the kill hits, the call is made at most once, and if it was
/// made, its intent is on record.
#[test]
fn killed_at_any_moment_after_the_decision_it_runs_at_most_once() {
    const ROUNDS: u32 = 12;
    let mut setup = setup();
    for round in 0..ROUNDS {
        let place = format!("round-{round}");
        let mut gateway = ready(setup);
        gateway.begin("deploy", to(&place));
        let request = pending(&gateway.setup);
        let mut command =
            gateway.setup.command(&["approvals", "approve", &request.0, "--digest", &request.1]);
        command.env("SENTINEL_APPROVER_TOKEN", crate::support::mint("lea", "lead", 3600));
        let null = std::process::Stdio::null;
        let mut person = command.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
        // The moment is what the test is about, so it is chosen by time.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 4));
        setup = kill(gateway);
        person.wait().unwrap();
        let mut gateway = ready(setup);
        let before = ran(&gateway.setup).iter().filter(|line| line.contains(&place)).count();
        assert!(before <= 1, "{:?}", ran(&gateway.setup));
        let named = json!({"name": "deploy", "arguments": to(&place), "_meta": {"sentinel-gateway/approval": request.0}});
        let state = list(&gateway.setup, LEA)[0]["state"].as_str().unwrap().to_owned();
        match state.as_str() {
            "consumed" => assert_eq!(reason(&gateway.request("tools/call", &named)), "consumed"),
            "approved" => {
                assert_eq!(before, 0, "it ran without being used up");
                assert_eq!(text(&gateway.request("tools/call", &named)), "deployed");
            }
            "pending" => {
                assert_eq!(before, 0, "it ran without a decision");
                super::done(&gateway.setup, LEA, &["reject", &request.0, "--digest", &request.1]);
            }
            other => panic!("{other}"),
        }
        let runs = ran(&gateway.setup).iter().filter(|line| line.contains(&place)).count();
        assert!(runs <= 1, "{:?}", ran(&gateway.setup));
        if runs == 1 {
            gateway.await_audit("the intent of what ran", |rows| {
                rows.iter()
                    .any(|row| row["arguments"]["to"] == place && row["status"] != "awaiting_approval")
                    .then_some(())
            });
        }
        setup = kill(gateway);
    }
}
