//! A rewriter's edits are a transaction: what the contract forbids, or a trap, changes nothing.

use bytes::Bytes;
use sentinel_gateway::mcp::catalog::{List, Offer};
use sentinel_gateway::plugin::{BackendResponse, Hooks};
use sentinel_gateway::policy::Permitted;
use sentinel_gateway::rewrite::{Prepared, Rewriters};
use serde_json::value::RawValue;

use super::*;

/// What each deed on a request must be refused for.
const FORBIDDEN: [(&str, &str); 6] = [
    ("set-name", "`/name` is pinned"),
    ("bad-pointer", "no/leading/slash"),
    ("bad-header", "`content-length` is the gateway's"),
    ("huge", "more than 1048576 bytes"),
    ("ok-then-trap", "it crashed; see the gateway's log"),
    ("bad-json", "is not JSON"),
];

fn rewriters(deed: &str, hook: &str, on_failure: OnFailure) -> Rewriters {
    let mut settings = settings("patch", Stage::Rewrite, json!({ "do": deed, "in": hook }));
    settings.on_failure = on_failure;
    // Making the 4 MiB of `huge` must not be what fails, but handing them over.
    settings.limits.fuel = 100_000_000;
    settings.limits.memory_bytes = 64 << 20;
    Rewriters::new(&[load(&settings, &Store::new())], ["shop"]).unwrap()
}

fn permitted() -> Permitted {
    policy(Vec::new()).decide(&call("order"), None).unwrap()
}

#[test]
fn no_forbidden_edit_of_a_request_is_made() {
    for (deed, why) in FORBIDDEN {
        let denial = rewriters(deed, "request", OnFailure::Deny).request(&permitted()).unwrap_err();
        assert_eq!(
            (denial.kind, denial.reason.as_str()),
            (DenialKind::Unavailable, "plugin_failed"),
            "{deed}"
        );
        assert!(
            denial.message.contains("`patch`") && denial.message.contains(why),
            "{deed}: {}",
            denial.message
        );

        let prepared = rewriters(deed, "request", OnFailure::Allow).request(&permitted()).unwrap();
        assert!(prepared.params.is_none(), "{deed} changed the request: {:?}", prepared.params);
        assert!(prepared.headers.is_empty() && prepared.notes.is_empty(), "{deed}: {prepared:?}");
    }
}

#[test]
fn no_forbidden_edit_of_a_response_is_made() {
    let answer = BackendResponse {
        is_error: false,
        error_code: None,
        result: Bytes::from_static(br#"{"content":[{"type":"text","text":"1.50"}]}"#),
    };
    // A response has no name that is pinned, and headers only a request can have.
    for (deed, why) in FORBIDDEN.into_iter().filter(|(deed, _)| !["set-name", "bad-header"].contains(deed)) {
        let denial = rewriters(deed, "response", OnFailure::Deny)
            .response(&permitted(), &mut Prepared::default(), &answer)
            .unwrap_err();
        assert_eq!(
            (denial.kind, denial.reason.as_str()),
            (DenialKind::Unavailable, "plugin_failed"),
            "{deed}"
        );
        assert!(
            denial.message.contains("`patch`") && denial.message.contains(why),
            "{deed}: {}",
            denial.message
        );

        let changed = rewriters(deed, "response", OnFailure::Allow)
            .response(&permitted(), &mut Prepared::default(), &answer)
            .unwrap();
        assert!(changed.is_none(), "{deed} changed the response: {changed:?}");
    }
}

#[test]
fn a_list_whose_edits_are_forbidden_hides_what_they_were_about() {
    let backend: Arc<str> = "shop".into();
    let offers = || {
        ["order", "refund"].map(|name| Offer {
            name: name.to_owned(),
            upstream: name.to_owned(),
            item: RawValue::from_string(format!(r#"{{"name":"{name}","description":"as it was"}}"#)).unwrap(),
        })
    };
    let names = |deed: &str, on_failure| -> Vec<String> {
        let shown = rewriters(deed, "catalog", on_failure).catalog(&backend, List::Tools, offers().to_vec());
        for offer in &shown {
            assert!(offer.item.get().contains("as it was"), "{deed} changed {}", offer.item);
        }
        shown.into_iter().map(|offer| offer.name).collect()
    };
    for deed in ["set-name", "bad-pointer", "bad-json"] {
        assert_eq!(
            names(deed, OnFailure::Deny),
            ["refund"],
            "{deed}: the entry must be hidden, the other not"
        );
    }
    for deed in ["huge", "ok-then-trap"] {
        assert!(names(deed, OnFailure::Deny).is_empty(), "{deed}: what it would have hidden is not known");
        assert_eq!(names(deed, OnFailure::Allow), ["order", "refund"], "{deed}: a trap commits nothing");
    }
    // Hiding an entry that does not exist hides no other.
    assert_eq!(names("bad-header", OnFailure::Deny), ["order", "refund"]);
}

#[test]
fn a_hook_that_has_nothing_to_do_is_not_called() {
    let none = Hooks { request: false, response: false, catalog: false, sieve: false };
    let header = json!({ "headers": { "X-Team": "blue" } });
    let result = json!({ "results": [{ "remove": "/structuredContent" }] });
    let tool = json!({ "tools": [{ "tool": "order", "hide": true }] });
    let rules = json!({ "backends": { "a": header, "b": result, "c": tool } });
    let rules = shipped("rewrite-rules", Stage::Rewrite, rules);
    let wanted = ["a", "b", "c", "shop"].map(|backend| rules.hooks(backend).unwrap());
    let only_for_a = Hooks { request: true, ..none };
    let only_for_b = Hooks { response: true, ..none };
    assert_eq!(wanted, [only_for_a, only_for_b, Hooks { catalog: true, ..none }, none]);
    // One that does not say is asked for everything; so is every one about a backend that came later.
    let other = load(&settings("patch", Stage::Rewrite, json!({ "do": "set-name" })), &Store::new());
    assert_eq!(other.hooks("a").unwrap(), Hooks::ALL);
    let rewriters = Rewriters::new(&[rules], ["b", "shop"]).unwrap();
    let answers = ["b", "shop", "later"].map(|backend| rewriters.see_responses(backend));
    assert_eq!(answers, [true, false, true]);
}
