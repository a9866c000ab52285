//! The rules of roles, by name; and the promise that a list shows exactly what may be called.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn roles(json: &str) -> Roles {
    serde_json::from_str::<Config>(json).unwrap().check().unwrap()
}

fn may(roles: &Roles, role: &str, kind: TargetKind, name: &str) -> bool {
    match roles.check(role, kind, name, "files") {
        Ok(()) => true,
        Err(refusal) => {
            assert_eq!(refusal.reason, "permission_denied");
            false
        }
    }
}

fn sees(roles: &Roles, role: &str, kind: TargetKind, name: &str) -> bool {
    let entry = Entry { kind, name: name.to_owned(), backend: "files".to_owned() };
    roles.visible(role, &[entry]) == [true]
}

const ALL: [TargetKind; 4] = [TargetKind::Tool, TargetKind::Resource, TargetKind::Prompt, TargetKind::Other];

#[test]
fn a_star_may_do_everything() {
    let roles = roles(r#"{"roles":{"admin":{"permissions":["*"]}}}"#);
    for kind in ALL {
        assert!(may(&roles, "admin", kind, "x") && sees(&roles, "admin", kind, "x"), "{kind:?}");
    }
}

#[test]
fn an_unknown_role_may_do_nothing() {
    let roles = roles(r#"{"roles":{"admin":{"permissions":["*"]}}}"#);
    for role in ["", "Admin", "admin ", "*", "root"] {
        for kind in ALL {
            assert!(!may(&roles, role, kind, "x") && !sees(&roles, role, kind, "x"), "{role} {kind:?}");
        }
    }
}

#[test]
fn a_role_without_permissions_may_do_nothing() {
    let roles = roles(r#"{"roles":{"guest":{}}}"#);
    for kind in ALL {
        assert!(!may(&roles, "guest", kind, "x") && !sees(&roles, "guest", kind, "x"), "{kind:?}");
    }
}

#[test]
fn each_permission_opens_its_own_kind_only() {
    let words = [
        ("tools.execute", TargetKind::Tool),
        ("resources.read", TargetKind::Resource),
        ("prompts.read", TargetKind::Prompt),
    ];
    for (word, opened) in words {
        let roles = roles(&format!(r#"{{"roles":{{"r":{{"permissions":["{word}"]}}}}}}"#));
        for kind in [TargetKind::Tool, TargetKind::Resource, TargetKind::Prompt] {
            assert_eq!(may(&roles, "r", kind, "x"), kind == opened, "{word} {kind:?}");
            assert_eq!(sees(&roles, "r", kind, "x"), kind == opened, "{word} {kind:?}");
        }
        assert!(may(&roles, "r", TargetKind::Other, "completion/complete"));
    }
}

#[test]
fn reading_tools_shows_them_and_calls_none() {
    let roles = roles(r#"{"roles":{"viewer":{"permissions":["tools.read"],"denied_tools":["drop"]}}}"#);
    assert!(sees(&roles, "viewer", TargetKind::Tool, "list"));
    assert!(!sees(&roles, "viewer", TargetKind::Tool, "drop"));
    assert!(!may(&roles, "viewer", TargetKind::Tool, "list"));
}

#[test]
fn a_denial_beats_the_star_and_an_allowance() {
    let roles = roles(
        r#"{"roles":{"admin":{"permissions":["*"],"denied_tools":["drop","delete_*"],"allowed_tools":["drop","list"]}}}"#,
    );
    for (tool, allowed) in [("drop", false), ("delete_all", false), ("list", true), ("copy", false)] {
        assert_eq!(may(&roles, "admin", TargetKind::Tool, tool), allowed, "{tool}");
        assert_eq!(sees(&roles, "admin", TargetKind::Tool, tool), allowed, "{tool}");
    }
    // The lists speak of tools only.
    assert!(
        may(&roles, "admin", TargetKind::Resource, "drop")
            && may(&roles, "admin", TargetKind::Prompt, "drop")
    );
}

#[test]
fn a_denial_survives_a_name_collision() {
    let roles = roles(r#"{"roles":{"admin":{"permissions":["*"],"denied_tools":["drop"]}}}"#);
    assert!(!may(&roles, "admin", TargetKind::Tool, "files_drop"));
    assert!(!sees(&roles, "admin", TargetKind::Tool, "files_drop"));
    assert!(may(&roles, "admin", TargetKind::Tool, "rain_drop"));
}

#[test]
fn an_empty_allowance_allows_no_tool() {
    let roles = roles(r#"{"roles":{"r":{"permissions":["*"],"allowed_tools":[]}}}"#);
    assert!(!may(&roles, "r", TargetKind::Tool, "list"));
}

#[test]
fn a_refusal_names_the_role_and_the_tool() {
    let roles = roles(
        r#"{"roles":{"admin":{"permissions":["*"],"denied_tools":["drop"]},"viewer":{"permissions":["tools.read"]}}}"#,
    );
    for role in ["admin", "viewer", "nobody"] {
        let refusal = roles.check(role, TargetKind::Tool, "drop", "files").unwrap_err();
        assert!(refusal.message.contains(role) && refusal.message.contains("drop"), "{}", refusal.message);
    }
}

#[test]
fn a_name_cannot_forge_a_line_of_the_message() {
    let roles = roles(r#"{"roles":{}}"#);
    let refusal = roles.check("x\n\u{1b}[2J", TargetKind::Tool, "a\r\nb", "files").unwrap_err();
    assert!(!refusal.message.chars().any(char::is_control), "{}", refusal.message);
}

#[test]
fn every_mistake_is_reported_at_once_with_a_hint() {
    let json = r#"{"roles":{"a/b":{"permissions":["tools.exceute","sudo"]},"c":{"denied_tools":[""],"allowed_tools":["ok"," x"]}}}"#;
    let errors = serde_json::from_str::<Config>(json).unwrap().check().unwrap_err();
    let seen: Vec<_> = errors.iter().map(|error| (error.path.as_str(), error.hint.as_deref())).collect();
    assert_eq!(
        seen,
        [
            ("/roles/a~1b/permissions/0", Some(r#"did you mean "tools.execute"?"#)),
            (
                "/roles/a~1b/permissions/1",
                Some("one of: *, tools.read, tools.execute, resources.read, prompts.read")
            ),
            ("/roles/c/denied_tools/0", None),
            ("/roles/c/allowed_tools/1", None),
        ]
    );
}

#[test]
fn unknown_keys_are_refused() {
    for json in [
        "{}",
        r#"{"roles":{},"x":1}"#,
        r#"{"roles":{"r":{"denied":[]}}}"#,
        r#"{"roles":{"r":{"permissions":"*"}}}"#,
    ] {
        assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn whoever_may_execute_sees_exactly_what_it_may_call(
        denied in proptest::collection::vec("[ab_*]{1,4}", 0..4),
        allowed in proptest::option::of(proptest::collection::vec("[ab_*]{1,4}", 0..4)),
        tools in proptest::collection::vec("[ab_]{1,5}", 1..8),
        backend in "[ab]{1,2}",
    ) {
        let role = RoleConfig { permissions: vec!["tools.execute".to_owned()], denied_tools: denied, allowed_tools: allowed };
        let roles = Config { roles: [("r".to_owned(), role)].into() }.check().unwrap();
        let entry = |name: &String| Entry { kind: TargetKind::Tool, name: name.clone(), backend: backend.clone() };
        let entries: Vec<_> = tools.iter().map(entry).collect();
        let callable: Vec<_> =
            tools.iter().map(|tool| roles.check("r", TargetKind::Tool, tool, &backend).is_ok()).collect();
        prop_assert_eq!(roles.visible("r", &entries), callable);
    }
}
