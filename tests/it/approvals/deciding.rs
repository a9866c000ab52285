//! Who may decide, what they see, and that four rights are four.

use serde_json::{Value, json};

use super::on_a_terminal;
use super::{
    LEA, approve, asking, done, list, pending, ran, ready, reason, run, setup, text, to, waiting, waits,
};

#[test]
fn nobody_decides_on_a_request_of_their_own() {
    let mut gateway = ready(waiting(0).role("both"));
    waits(&gateway.call("deploy", to("prod")));
    let (id, digest) = pending(&gateway.setup);
    for role in ["both", "lead"] {
        let word = reason(&gateway.setup, Some(("ann", role)), &["approve", &id, "--digest", &digest]);
        assert_eq!(word, "self_approval", "also as {role}");
    }
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "pending");
    assert!(ran(&gateway.setup).is_empty());
    gateway.end();
    let rows = gateway.audit();
    let refused: Vec<&Value> = rows.iter().filter(|row| row["tool"] == "approvals.approve").collect();
    assert_eq!(refused.len(), 2, "each try has its row");
    assert!(refused.iter().all(|row| row["status"] == "error" && row["subject"] == "ann"), "{refused:?}");
}

/// On one machine for one person the agent and the person would be one.
#[test]
fn the_local_user_does_not_approve_what_the_local_user_asked_for() {
    let local =
        |subject: &str| super::waiting(0).auth(&format!("mode = \"local\"\nrole = \"agent\"\n{subject}"));
    let mut gateway = ready(local(""));
    waits(&gateway.call("deploy", to("prod")));
    let open = list(&gateway.setup, None);
    let (id, digest) = (open[0]["id"].as_str().unwrap(), open[0]["digest"].as_str().unwrap());
    let (code, seen) =
        on_a_terminal(&gateway.setup, &["approvals", "approve", id, "--digest", digest], "{last}");
    assert_eq!(code, 1);
    assert!(seen.contains("[auth] subject"), "what to do about it: {seen}");
    drop(gateway);
    let mut gateway = ready(local("subject = \"agent\""));
    waits(&gateway.call("deploy", to("prod")));
    let open = list(&gateway.setup, None);
    let (id, digest) = (open[0]["id"].as_str().unwrap(), open[0]["digest"].as_str().unwrap());
    assert!(!digest.is_empty());
    let (code, seen) = on_a_terminal(&gateway.setup, &["approvals", "approve", id], "{last}");
    assert_eq!(code, 0, "{seen}");
    assert!(seen.contains("/arguments/to = \"prod\""), "all of it is shown first: {seen}");
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    // A token is worth nothing there, and its bearer is not the user.
    let said = run(&gateway.setup, LEA, &["list"]);
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn to_ask_to_see_to_decide_and_to_operate_are_four_rights() {
    let mut gateway = ready(waiting(0));
    waits(&gateway.call("deploy", to("prod")));
    let (id, digest) = pending(&gateway.setup);
    let may = |who: (&str, &str), args: &[&str]| run(&gateway.setup, Some(who), args).code == Some(0);
    let people = [("vic", "viewer"), ("ada", "agent"), ("oskar", "ops"), ("mallory", "nobody")];
    for (who, sees) in people.into_iter().zip([true, false, false, false]) {
        assert_eq!(may(who, &["list"]), sees, "{who:?}");
        assert_eq!(may(who, &["show", &id]), sees, "{who:?}");
        for vote in ["approve", "reject"] {
            assert!(!may(who, &[vote, &id, "--digest", &digest]), "{who:?}");
        }
    }
    assert!(!may(("vic", "viewer"), &["cancel", &id]) && !may(("lea", "lead"), &["cancel", &id]));
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "pending");
    approve(&gateway.setup, LEA, &(id, digest));
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    // The user who runs the gateway, without a role in the file, may do all of it but ask.
    assert_eq!(run(&gateway.setup, None, &["list"]).code, Some(0));
}

#[test]
fn a_role_for_the_operator_holds_for_approvals_as_well() {
    let mut gateway = ready(waiting(0).auth("operator_role = \"ops\""));
    waits(&gateway.call("deploy", to("prod")));
    let (id, digest) = pending(&gateway.setup);
    assert_eq!(run(&gateway.setup, None, &["list"]).code, Some(1));
    assert_eq!(run(&gateway.setup, None, &["approve", &id, "--digest", &digest]).code, Some(1));
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "pending");
}

#[test]
fn two_of_three_leads_decide_and_one_rejection_is_enough() {
    let rule =
        "[[rbac.approvals]]\ntools = [\"deploy\"]\nrisk = \"high\"\napprovers = [\"lead\"]\napprove = 2\n";
    let mut gateway = ready(asking(rule).more("[approvals]\nwait_secs = 0"));
    waits(&gateway.call("deploy", to("prod")));
    let request = pending(&gateway.setup);
    let said = approve(&gateway.setup, LEA, &request);
    assert!(said.contains("waits for others"), "{said}");
    approve(&gateway.setup, LEA, &request);
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "pending", "the same person twice is one");
    let word = reason(&gateway.setup, Some(("bo", "both")), &["approve", &request.0, "--digest", &request.1]);
    assert_eq!(word, "not_reviewer", "may decide, but not about this");
    waits(&gateway.call("deploy", to("prod")));
    approve(&gateway.setup, Some(("leo", "lead")), &request);
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
    waits(&gateway.call("deploy", to("test")));
    let request = pending(&gateway.setup);
    approve(&gateway.setup, LEA, &request);
    done(&gateway.setup, Some(("leo", "lead")), &["reject", &request.0, "--digest", &request.1]);
    let word =
        reason(&gateway.setup, Some(("lin", "lead")), &["approve", &request.0, "--digest", &request.1]);
    assert_eq!(word, "already_decided");
    assert_eq!(crate::support::reason(&gateway.call("deploy", to("test"))), "rejected");
    assert_eq!(ran(&gateway.setup).len(), 1);
}

#[test]
fn what_is_shown_is_all_of_it_a_token_a_line_and_hides_nothing() {
    let mut gateway = ready(waiting(0));
    let hidden = "rm\u{202e}\u{200b} -rf\n\t/\u{1b}[2K";
    let long = "x".repeat(1_000);
    waits(
        &gateway.call("deploy", json!({"to": hidden, "list": ["a b", "c"], "long": long, "\u{2066}k": 1.5})),
    );
    let (id, digest) = pending(&gateway.setup);
    let shown = done(&gateway.setup, LEA, &["show", &id]);
    let lines = [
        "/arguments/to = \"rm⟦U+202E⟧⟦U+200B⟧ -rf\\n\\t/⟦U+001B⟧[2K\"",
        "/arguments/list/0 = \"a b\"",
        "/arguments/list/1 = \"c\"",
        "/arguments/⟦U+2066⟧k = 1.5",
        "[1000 bytes, sha256:",
        "asked by    \"ann\" (role \"agent\") over stdio",
        "runs        tools/call \"deploy\"",
        "backend     \"prod\"",
        "ran before  0 times",
    ];
    for line in lines {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains(&digest), "{shown}");
    assert!(shown.chars().all(|character| character == '\n' || !character.is_control()), "{shown:?}");
    let table = done(&gateway.setup, LEA, &["list"]);
    assert!(table.contains(&id) && table.contains("ann") && table.contains(&digest[7..19]), "{table}");
}

#[test]
fn without_a_terminal_the_digest_has_to_be_repeated_and_to_approve_a_token_is_needed() {
    let mut gateway = ready(waiting(0));
    waits(&gateway.call("deploy", to("prod")));
    let (id, digest) = pending(&gateway.setup);
    for (who, args) in [
        (LEA, vec!["approve", &id]),
        (LEA, vec!["reject", &id]),
        (None, vec!["approve", &id]),
        (None, vec!["approve", &id, "--digest", &digest]),
    ] {
        let said = run(&gateway.setup, who, &args);
        assert_eq!(said.code, Some(1), "{args:?}");
        assert!(said.err.contains("--digest") && said.err.contains("token"), "{said:?}");
    }
    let other = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(reason(&gateway.setup, LEA, &["approve", &id, "--digest", &other]), "changed");
    let none = "appr_0123456789abcdef0123456789abcdef";
    assert_eq!(reason(&gateway.setup, LEA, &["approve", none, "--digest", &other]), "unknown_approval");
    assert_eq!(reason(&gateway.setup, LEA, &["show", "../../etc/passwd"]), "unknown_approval");
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "pending");
}

#[test]
fn on_a_terminal_the_last_digits_are_typed_and_anything_else_leaves_it_as_it_is() {
    let mut gateway = ready(waiting(0));
    waits(&gateway.call("deploy", to("prod")));
    let (id, _) = pending(&gateway.setup);
    for typed in ["", "y", "yes", "{last}0", "0"] {
        let (code, seen) = on_a_terminal(&gateway.setup, &["approvals", "approve", &id], typed);
        assert_eq!(code, 1, "{seen}");
        assert!(seen.contains("nothing was decided"), "{seen}");
    }
    let other = "ab".repeat(32);
    let (code, seen) =
        on_a_terminal(&gateway.setup, &["approvals", "approve", &id, "--digest", &other], "{last}");
    assert_eq!(code, 1, "{seen}");
    assert_eq!(list(&gateway.setup, LEA)[0]["state"], "pending");
    let (code, seen) = on_a_terminal(&gateway.setup, &["approvals", "approve", &id], "{last}");
    assert_eq!(code, 0, "{seen}");
    assert_eq!(text(&gateway.call("deploy", to("prod"))), "deployed");
}

/// Clients on stdio start a gateway each, and people decide for all of them.
#[test]
fn a_decision_reaches_the_gateway_in_which_the_call_waits() {
    let mut first = ready(setup());
    let null = std::process::Stdio::null;
    let mut second = first.setup.command(&[]);
    let mut second =
        second.stdin(std::process::Stdio::piped()).stdout(null()).stderr(null()).spawn().unwrap();
    crate::support::eventually("two gateways", || {
        let out = first.setup.run(&["status", "--json"]).stdout;
        (String::from_utf8(out).unwrap().lines().count() == 2).then_some(())
    });
    let call = first.begin("deploy", to("prod"));
    let request = pending(&first.setup);
    let said = approve(&first.setup, LEA, &request);
    assert_eq!(said.lines().count(), 2, "both answer, and the decision is one: {said}");
    assert_eq!(text(&first.answer(call)), "deployed");
    assert_eq!(ran(&first.setup).len(), 1);
    second.kill().and_then(|()| second.wait()).unwrap();
}

#[test]
fn the_help_tells_how() {
    let setup = setup();
    for (args, words) in [
        (vec!["approvals", "--help"], "Nobody decides on a request of their own"),
        (vec!["approvals", "approve", "--help"], "first 12 digits"),
        (vec!["approvals", "list", "--help"], "newest first"),
    ] {
        let (code, out, _) = setup.bare(&args);
        assert_eq!(code, Some(0));
        assert!(out.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{args:?}: {out}");
    }
}
