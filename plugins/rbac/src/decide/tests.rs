//! The rules of roles, by name; and the promise that a list shows exactly what may be called.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn roles(json: &str) -> Roles {
    serde_json::from_str::<Config>(json).unwrap().check().unwrap()
}

/// The request that is made about each kind. A tool that is shown with its backend before it has the rest as its own name.
fn asked<'text>(kind: TargetKind, name: &'text str, backend: &'text str) -> Asked<'text> {
    let method = match kind {
        TargetKind::Tool => "tools/call",
        TargetKind::Resource => "resources/read",
        TargetKind::Prompt => "prompts/get",
        TargetKind::Route => "GET",
        TargetKind::Command => "run",
        TargetKind::Control => "kill",
        TargetKind::Other => "logging/setLevel",
    };
    Asked { method, kind, names: named(name, backend) }
}

fn named<'text>(shown: &'text str, backend: &'text str) -> Names<'text> {
    let own = shown.strip_prefix(backend).and_then(|rest| rest.strip_prefix('_')).unwrap_or(shown);
    Names { shown, own, backend }
}

fn row(kind: TargetKind, names: Names<'_>) -> Entry {
    let Names { shown, own, backend } = names;
    Entry { kind, name: shown.to_owned(), backend: backend.to_owned(), upstream_name: own.to_owned() }
}

fn may(roles: &Roles, role: &str, kind: TargetKind, name: &str) -> bool {
    match roles.check(role, asked(kind, name, "files"), || None) {
        Ok(()) => true,
        Err(refusal) => {
            assert_eq!(refusal.reason, "permission_denied");
            false
        }
    }
}

fn sees(roles: &Roles, role: &str, kind: TargetKind, name: &str) -> bool {
    roles.visible(role, &[row(kind, named(name, "files"))]) == [true]
}

const ALL: [TargetKind; 7] = [
    TargetKind::Tool,
    TargetKind::Resource,
    TargetKind::Prompt,
    TargetKind::Route,
    TargetKind::Command,
    TargetKind::Control,
    TargetKind::Other,
];

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
        ("routes.call", TargetKind::Route),
        ("commands.execute", TargetKind::Command),
        ("control", TargetKind::Control),
    ];
    for (word, opened) in words {
        let roles = roles(&format!(r#"{{"roles":{{"r":{{"permissions":["{word}"]}}}}}}"#));
        for kind in ALL.into_iter().filter(|kind| *kind != TargetKind::Other) {
            assert_eq!(may(&roles, "r", kind, "x"), kind == opened, "{word} {kind:?}");
            assert_eq!(sees(&roles, "r", kind, "x"), kind == opened, "{word} {kind:?}");
        }
        assert!(may(&roles, "r", TargetKind::Other, "completion/complete"));
    }
}

#[test]
fn an_operators_actions_can_be_granted_one_by_one() {
    let roles = roles(
        r#"{"roles":{"watch":{"allowed_methods":["status","vendor/*"]},"user":{"permissions":["tools.execute"]}}}"#,
    );
    let act = |role: &str, kind: TargetKind, method: &'static str| {
        let asked = Asked { method, kind, names: named("gateway", "") };
        roles.check(role, asked, || None).map_err(|refusal| refusal.reason)
    };
    let denied = || Err("permission_denied".to_owned());
    assert_eq!(act("watch", TargetKind::Control, "status"), Ok(()));
    assert_eq!(act("watch", TargetKind::Control, "kill"), denied());
    // A word of one door is no permission at another.
    assert_eq!(act("watch", TargetKind::Command, "status"), denied());
    assert_eq!(act("watch", TargetKind::Route, "status"), denied());
    for method in ["status", "kill", "tools/call"] {
        assert_eq!(act("user", TargetKind::Control, method), denied());
        assert_eq!(act("nobody", TargetKind::Control, method), denied());
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
fn the_servers_own_name_denies_and_asks_for_scopes_but_allows_nobody_elses() {
    let roles = roles(
        r#"{"roles":{"a":{"permissions":["*"],"denied_tools":["files.delete"]},
            "b":{"permissions":["*"],"allowed_tools":["read_file"]},
            "c":{"permissions":["*"],"allowed_tools":["sandbox/read_file","files.*"]},
            "d":{"permissions":["*"]}},
            "scopes":[{"tools":["files.delete"],"scope":"mcp:write"}]}"#,
    );
    let delete = Names { shown: "files_delete", own: "files.delete", backend: "srv" };
    let both = |role: &str, names: Names<'_>| {
        let asked = Asked { method: "tools/call", kind: TargetKind::Tool, names };
        let may = roles.check(role, asked, || Some("mcp:write".to_owned())).is_ok();
        assert_eq!(roles.visible(role, &[row(TargetKind::Tool, names)]), [may], "{role} {names:?}");
        may
    };
    assert!(!both("a", delete) && both("a", Names { shown: "files_read", own: "files.read", ..delete }));
    let mine = Names { shown: "read_file", own: "read_file", backend: "sandbox" };
    let namesake = Names { shown: "commander_read_file", own: "read_file", backend: "commander" };
    assert!(both("b", mine) && !both("b", namesake));
    assert!(
        both("c", mine) && !both("c", namesake) && both("c", delete),
        "its own name, shown in other letters"
    );
    let asked = Asked { method: "tools/call", kind: TargetKind::Tool, names: delete };
    let refusal = roles.check("d", asked, || None).unwrap_err();
    assert_eq!(refusal.reason, "insufficient_scope");
}

#[test]
fn an_empty_allowance_allows_no_tool() {
    let roles = roles(r#"{"roles":{"r":{"permissions":["*"],"allowed_tools":[]}}}"#);
    assert!(!may(&roles, "r", TargetKind::Tool, "list"));
}

#[test]
fn a_method_that_is_not_mcps_needs_a_rule_that_names_it() {
    let roles = roles(
        r#"{"roles":{"admin":{"permissions":["*"]},"vendor":{"permissions":["tools.execute"],"denied_tools":["drop"],"allowed_methods":["acme/*"]}}}"#,
    );
    let reason = |role: &str, method: &str, kind: TargetKind, name: &str| {
        let asked = Asked { method, kind, names: named(name, "files") };
        roles.check(role, asked, || None).err().map(|refusal| refusal.reason)
    };
    let unknown = Some("unknown_method".to_owned());
    assert_eq!(reason("admin", "acme/run", TargetKind::Other, "files"), unknown, "no permission includes it");
    assert_eq!(reason("admin", "acme/run", TargetKind::Tool, "list"), unknown);
    assert_eq!(reason("nobody", "acme/run", TargetKind::Other, "files"), unknown);
    assert_eq!(reason("vendor", "acme/run", TargetKind::Other, "files"), None);
    assert_eq!(reason("vendor", "acme", TargetKind::Other, "files"), unknown);
    assert_eq!(reason("vendor", "tools/Call", TargetKind::Tool, "list"), unknown);
    // What it is about is judged as well.
    assert_eq!(reason("vendor", "acme/run", TargetKind::Tool, "list"), None);
    let denied = Some("permission_denied".to_owned());
    assert_eq!(reason("vendor", "acme/run", TargetKind::Tool, "drop"), denied);
    assert_eq!(reason("vendor", "acme/run", TargetKind::Prompt, "greet"), denied);
    // And no method of MCP is opened by it.
    assert_eq!(reason("vendor", "prompts/get", TargetKind::Prompt, "greet"), denied);
}

#[test]
fn a_tool_may_need_a_scope_besides_the_role() {
    let roles = roles(
        r#"{"roles":{"admin":{"permissions":["*"]},"viewer":{"permissions":["tools.read"]}},
            "scopes":[{"tools":["delete_*"],"scope":"mcp:write"},{"tools":["delete_all","drop"],"scope":"mcp:admin"}]}"#,
    );
    let needs = |role: &str, tool: &str, granted: Option<&str>| {
        let refusal =
            roles.check(role, asked(TargetKind::Tool, tool, "files"), || granted.map(str::to_owned)).err()?;
        let details = refusal.details.into_iter().map(|field| format!("{} {}", field.name, field.value));
        Some(std::iter::once(refusal.reason).chain(details).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(needs("admin", "list", None), None, "no rule, no scope");
    let write = "insufficient_scope scope mcp:write";
    let both = "insufficient_scope scope mcp:write mcp:admin";
    for granted in [None, Some(""), Some("mcp:writer"), Some("MCP:WRITE"), Some("a mcp:admin")] {
        assert_eq!(needs("admin", "delete_one", granted).as_deref(), Some(write), "{granted:?}");
    }
    assert_eq!(needs("admin", "delete_one", Some("a mcp:write")), None);
    assert_eq!(
        needs("admin", "delete_all", Some("mcp:write")).as_deref(),
        Some(both),
        "all that the call needs"
    );
    assert_eq!(needs("admin", "delete_all", Some("mcp:admin mcp:write")), None);
    assert_eq!(needs("admin", "files_drop", None).as_deref(), Some("insufficient_scope scope mcp:admin"));
    assert_eq!(needs("viewer", "drop", None).as_deref(), Some("permission_denied"), "no scope would help");
    assert!(may(&roles, "admin", TargetKind::Resource, "drop"), "the rules speak of tools only");
    assert!(sees(&roles, "admin", TargetKind::Tool, "drop"), "who sees it can ask for the scope");
}

#[test]
fn a_refusal_names_the_role_and_the_tool() {
    let roles = roles(
        r#"{"roles":{"admin":{"permissions":["*"],"denied_tools":["drop"]},"viewer":{"permissions":["tools.read"]}}}"#,
    );
    for role in ["admin", "viewer", "nobody"] {
        let refusal = roles.check(role, asked(TargetKind::Tool, "drop", "files"), || None).unwrap_err();
        assert!(refusal.message.contains(role) && refusal.message.contains("drop"), "{}", refusal.message);
    }
}

#[test]
fn a_name_cannot_forge_a_line_of_the_message() {
    let roles = roles(r#"{"roles":{}}"#);
    let forged = asked(TargetKind::Tool, "a\r\nb", "files");
    let act = Asked { kind: TargetKind::Control, method: "a\r\nb", ..forged };
    for forged in [forged, Asked { method: "a\r\nb", ..forged }, act] {
        let refusal = roles.check("x\n\u{1b}[2J", forged, || None).unwrap_err();
        assert!(!refusal.message.chars().any(char::is_control), "{}", refusal.message);
    }
}

#[test]
fn every_mistake_is_reported_at_once_with_a_hint() {
    let json = r#"{"roles":{"a/b":{"permissions":["tools.exceute","sudo"]},"c":{"denied_tools":[""],"allowed_tools":["ok"," x"],"allowed_methods":["x "]}},"scopes":[{"tools":[],"scope":"a b"},{"tools":[""],"scope":"a"}]}"#;
    let errors = serde_json::from_str::<Config>(json).unwrap().check().unwrap_err();
    let seen: Vec<_> = errors.iter().map(|error| (error.path.as_str(), error.hint.as_deref())).collect();
    assert_eq!(
        seen,
        [
            ("/roles/a~1b/permissions/0", Some(r#"did you mean "tools.execute"?"#)),
            (
                "/roles/a~1b/permissions/1",
                Some(
                    "one of: *, tools.read, tools.execute, resources.read, prompts.read, routes.call, commands.execute, control",
                ),
            ),
            ("/roles/c/denied_tools/0", None),
            ("/roles/c/allowed_tools/1", None),
            ("/roles/c/allowed_methods/0", None),
            ("/scopes/0/scope", Some("mcp:admin")),
            ("/scopes/0/tools", None),
            ("/scopes/1/tools/0", None),
        ]
    );
}

#[test]
fn the_operator_needs_the_role_and_the_door() {
    let roles =
        roles(r#"{"roles":{"admin":{"permissions":["*"]}},"operator":{"role":"operator","door":"control"}}"#);
    let at = |door: &str| Some(door.to_owned());
    assert!(roles.operates("operator", || at("control")));
    assert!(!roles.operates("operator", || at("http")) && !roles.operates("operator", || None));
    assert!(!roles.operates("admin", || panic!("the door of another role does not matter")));
    assert!(!may(&roles, "operator", TargetKind::Tool, "delete"), "it is good for nothing else");
    let empty = r#"{"roles":{},"operator":{"role":" ","door":""}}"#;
    let errors = serde_json::from_str::<Config>(empty).unwrap().check().unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["/operator/role", "/operator/door"]);
}

#[test]
fn routes_are_open_only_where_the_file_says_so() {
    let roles = roles(
        r#"{"roles":{"r":{"permissions":["routes.call"],"denied_tools":["secret"]},"t":{"permissions":["tools.execute"]}},
            "routes":{"open":{"public":true},"pets":{"scopes":["pets:read","a"]}}}"#,
    );
    for role in ["r", "t", "anonymous", ""] {
        assert!(may(&roles, role, TargetKind::Route, "open"), "{role}");
        assert!(role == "r" || !may(&roles, role, TargetKind::Route, "closed"), "{role}");
    }
    assert!(may(&roles, "r", TargetKind::Route, "closed") && !may(&roles, "r", TargetKind::Route, "secret"));
    assert!(!may(&roles, "anonymous", TargetKind::Tool, "open"), "a tool of that name is another matter");
    let with = |scope: &str| {
        roles
            .check("r", asked(TargetKind::Route, "pets", "api"), || Some(scope.to_owned()))
            .map_err(|refusal| refusal.reason)
    };
    assert_eq!((with("a pets:read x"), with("pets:read")), (Ok(()), Err("insufficient_scope".to_owned())));
    assert!(
        sees(&roles, "anonymous", TargetKind::Route, "open")
            && !sees(&roles, "anonymous", TargetKind::Route, "pets")
    );
    let both = r#"{"roles":{},"routes":{"x":{"public":true,"scopes":["a"]}}}"#;
    assert_eq!(serde_json::from_str::<Config>(both).unwrap().check().unwrap_err()[0].path, "/routes/x");
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
        let permissions = vec!["tools.execute".to_owned()];
        let role =
            RoleConfig { permissions, denied_tools: denied, allowed_tools: allowed, allowed_methods: Vec::new() };
        let roles = Config { roles: [("r".to_owned(), role)].into(), scopes: Vec::new(), operator: None, routes: BTreeMap::new() }.check().unwrap();
        let entry = |name: &String| row(TargetKind::Tool, named(name, &backend));
        let entries: Vec<_> = tools.iter().map(entry).collect();
        let callable: Vec<_> =
            tools.iter().map(|tool| roles.check("r", asked(TargetKind::Tool, tool, &backend), || None).is_ok()).collect();
        prop_assert_eq!(roles.visible("r", &entries), callable);
    }
}
