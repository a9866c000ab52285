//! Rules that change while somebody thinks: judged again, and the stricter wins. A guard of one's own asks as well.

use serde_json::json;

use super::{LEA, approve, asking, list, pending, ran, ready, text, to, waiting, waits};
use crate::guests::guest;
use crate::support::{Setup, reason};

const TWO: &str =
    "[[rbac.approvals]]\ntools = [\"deploy\"]\nrisk = \"high\"\napprovers = [\"lead\"]\napprove = 2\n";
const ONE: &str = "[[rbac.approvals]]\ntools = [\"deploy\"]\n";

fn rules(setup: &mut Setup, text: &str) {
    let old = std::mem::replace(setup, Setup::new());
    *setup = old.roles(&format!("{}{text}", super::ROLES));
}

#[test]
fn an_approval_from_before_stricter_rules_is_worth_nothing() {
    let mut gateway = ready(waiting(0));
    waits(&gateway.call("deploy", to("prod")));
    let request = pending(&gateway.setup);
    approve(&gateway.setup, LEA, &request);
    gateway.reload(|setup| rules(setup, TWO));
    gateway.await_log("configuration reloaded", 1);
    let stale = gateway.call("deploy", to("prod"));
    assert_eq!(reason(&stale), "stale_policy", "{stale}");
    assert!(ran(&gateway.setup).is_empty());
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "cancelled");
    // The same call asks anew, by the new rules.
    assert_ne!(waits(&gateway.call("deploy", to("prod")))["approval_id"], request.0.as_str());
    let request = pending(&gateway.setup);
    for who in ["lea", "leo"] {
        approve(&gateway.setup, Some((who, "lead")), &request);
    }
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    // Weaker rules do not take away what people approved.
    waits(&gateway.call("deploy", to("test")));
    let request = pending(&gateway.setup);
    for who in ["lea", "leo"] {
        approve(&gateway.setup, Some((who, "lead")), &request);
    }
    gateway.reload(|setup| rules(setup, ONE));
    gateway.await_log("configuration reloaded", 2);
    assert_eq!(text(&gateway.call("deploy", to("test"))), "deployed");
}

#[test]
fn a_call_that_waits_is_judged_again_by_the_rules_of_the_moment() {
    let mut gateway = ready(waiting(50));
    let call = gateway.begin("deploy", to("prod"));
    let request = pending(&gateway.setup);
    gateway.reload(|setup| rules(setup, TWO));
    gateway.await_log("configuration reloaded", 1);
    approve(&gateway.setup, LEA, &request);
    assert_eq!(reason(&gateway.answer(call)), "stale_policy");
    // Forbidden meanwhile.
    let call = gateway.begin("deploy", to("prod"));
    let request = pending(&gateway.setup);
    gateway.reload(|setup| {
        let old = std::mem::replace(setup, Setup::new());
        let none = super::ROLES
            .replace("[\"tools.execute\"]\n", "[\"tools.execute\"]\ndenied_tools = [\"deploy\"]\n");
        *setup = old.roles(&format!("{none}{TWO}"));
    });
    gateway.await_log("configuration reloaded", 2);
    for who in ["lea", "leo"] {
        approve(&gateway.setup, Some((who, "lead")), &request);
    }
    let refused = gateway.answer(call);
    assert_eq!(reason(&refused), "stale_policy", "{refused}");
    // And what is switched off is off at once.
    gateway.reload(|setup| rules(setup, ONE));
    gateway.await_log("configuration reloaded", 3);
    let call = gateway.begin("deploy", to("prod"));
    pending(&gateway.setup);
    let output = gateway.setup.run(&["kill", "tool", "deploy"]);
    assert!(output.status.success());
    assert_eq!(reason(&gateway.answer(call)), "killed");
    assert!(ran(&gateway.setup).is_empty());
}

#[test]
fn a_plugin_of_ones_own_asks_and_rewritten_arguments_are_what_is_approved() {
    let wasm = guest("approval");
    let entry = |name: &str, stage: &str, config: &str| {
        format!(
            "[[plugins]]\nname = {name:?}\nstage = {stage:?}\nwasm = {:?}\nlimits = {{ deadline_ms = 10000 }}\nconfig = {config}\n",
            wasm.to_str().unwrap()
        )
    };
    let roles = "[rbac.roles.owner]\npermissions = [\"approvals.decide\"]\n";
    let setup = asking(roles)
        .more(&entry("careful", "guard", "{ ask_for = [\"deploy\"] }"))
        .more(&entry("marks", "rewrite", "{ mark = \"rewriter\" }"))
        .more("[approvals]\nwait_secs = 0");
    let mut gateway = ready(setup);
    waits(&gateway.call("deploy", to("prod")));
    let request = pending(&gateway.setup);
    let shown = super::done(&gateway.setup, LEA, &["show", &request.0]);
    for line in [
        "/arguments/mark = \"rewriter\"",
        "ticket = \"SG-11\"",
        "risk        high",
        "1 of owner, lead (owners)",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let said =
        super::run(&gateway.setup, Some(("bo", "both")), &["approve", &request.0, "--digest", &request.1]);
    assert!(said.err.contains("lead, owner"), "who decides: {said:?}");
    approve(&gateway.setup, Some(("olga", "owner")), &request);
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    assert_eq!(ran(&gateway.setup), ["deploy {\"mark\": \"rewriter\", \"to\": \"prod\"}"]);
    gateway.end();
    let rows = gateway.audit();
    let made = rows.iter().find(|row| row["tool"] == "deploy" && row["status"] == "success").unwrap();
    assert_eq!(made["sent"], json!({"to": "prod", "mark": "rewriter"}), "{made}");
}

#[test]
fn rules_that_would_ask_nobody_are_mistakes_of_the_file() {
    let mistakes = [
        ("[[rbac.approvals]]\ntools = []\n", "names no tool"),
        ("[[rbac.approvals]]\ntools = [\"deploy\"]\napprovers = [\"leed\"]\n", "did you mean lead?"),
        ("[[rbac.approvals]]\ntools = [\"deploy\"]\nroles = [\"robot\"]\n", "no role \"robot\""),
        ("[[rbac.approvals]]\ntools = [\"deploy\"]\napprove = 0\n", "approve"),
        ("[[rbac.approvals]]\ntools = [\"deploy\"]\nrisk = \"huge\"\n", "risk"),
        ("[approvals]\napprovers = [\"leed\"]\n", "did you mean lead?"),
        ("[approvals]\nwait_secs = -1\n", "wait_secs"),
        ("[approvals]\non_timeout = \"allow\"\n", "on_timeout"),
    ];
    for (rule, words) in mistakes {
        let (code, said) = asking(rule).refused(&["check"]);
        assert_eq!(code, Some(2), "{rule}: {said}");
        assert!(said.contains(words), "{rule}: {said}");
    }
}

#[test]
fn an_unusable_store_refuses_what_needs_an_approval_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let setup = waiting(0);
    let folder = setup.path("approvals");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let file = folder.join("open.db");
    let setup = setup.more(&format!("path = {:?}", file.to_str().unwrap()));
    let open = || {
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    };
    // One that others can change when the gateway starts is a reason not to start.
    open();
    let (code, said) = setup.refused(&["check"]);
    assert_ne!(code, Some(0));
    assert!(said.contains("approvals.path") && said.contains("chmod 600"), "{said}");
    std::fs::remove_file(&file).unwrap();
    let mut gateway = ready(setup);
    open();
    assert_eq!(reason(&gateway.call("deploy", to("prod"))), "approvals_unavailable");
    assert!(gateway.log().contains("chmod 600"), "the log says what to type: {}", gateway.log());
    assert_eq!(text(&gateway.call("look", json!({}))), "deployed");
    // It is looked at again, so no restart is needed.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    waits(&gateway.call("deploy", to("prod")));
    assert_eq!(ran(&gateway.setup), ["look {}"]);
}
