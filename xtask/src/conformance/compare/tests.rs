//! Small invented runs, each with one thing that the gateway did to it.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;

fn check(id: &str, status: Status, details: Value) -> Check {
    Check { id: id.to_owned(), status, message: Some(format!("about {id}")), details }
}

fn report(scenarios: &[(&str, &[Check])]) -> Report {
    let scenario = |(name, checks): &(&str, &[Check])| Scenario {
        name: (*name).to_owned(),
        scored: true,
        checks: Some(checks.to_vec()),
        broke: None,
    };
    Report { scenarios: scenarios.iter().map(scenario).collect() }
}

/// The places where the details of one check differ.
fn places(alone: Value, through: Value, lists: Lists) -> Vec<String> {
    let alone = report(&[("a", &[check("x", Status::Success, alone)])]);
    let through = report(&[("a", &[check("x", Status::Success, through)])]);
    let found = compare(&alone, &through, lists);
    assert!(found.lost.is_empty() && found.worse.is_empty(), "{found:?}");
    found.different.into_iter().map(|d| d.at).collect()
}

#[test]
fn a_run_is_equal_to_itself() {
    let run = report(&[
        ("a", &[check("x", Status::Success, json!({"toolCount": 3, "tools": ["p", "q"]}))]),
        ("b", &[check("y", Status::Failure, Value::Null)]),
    ]);
    assert_eq!(compare(&run, &run, Lists::Equal), Comparison::default());
    assert_eq!(compare(&run, &run, Lists::Contained), Comparison::default());
}

#[test]
fn a_scenario_that_fails_through_the_gateway_only_is_lost_with_its_reason() {
    let alone = report(&[
        ("a", &[check("x", Status::Success, Value::Null)]),
        ("b", &[check("y", Status::Failure, Value::Null)]),
        ("c", &[check("z", Status::Success, Value::Null)]),
    ]);
    let through = report(&[
        ("a", &[check("x", Status::Failure, Value::Null)]),
        ("b", &[check("y", Status::Failure, Value::Null)]),
    ]);
    let found = compare(&alone, &through, Lists::Equal);
    let lost: Vec<_> = found.lost.iter().map(|l| (l.scenario.as_str(), l.reasons[0].as_str())).collect();
    assert_eq!(lost, [("a", "x: about x"), ("c", "it was not run")]);
    assert!(found.worse.is_empty() && found.different.is_empty(), "{found:?}");
}

#[test]
fn a_check_that_ends_worse_in_a_passed_scenario_is_named() {
    let alone = report(&[(
        "a",
        &[
            check("x", Status::Success, Value::Null),
            check("x", Status::Success, Value::Null),
            check("y", Status::Success, Value::Null),
            check("z", Status::Warning, Value::Null),
            check("note", Status::Info, Value::Null),
        ],
    )]);
    let through = report(&[(
        "a",
        &[
            check("x", Status::Success, Value::Null),
            check("x", Status::Warning, Value::Null),
            check("z", Status::Success, Value::Null),
        ],
    )]);
    let found = compare(&alone, &through, Lists::Equal);
    let worse: Vec<_> = found.worse.iter().map(|w| (w.reason.as_str(), w.alone, w.through)).collect();
    assert_eq!(
        worse,
        [("x: about x", Status::Success, Some(Status::Warning)), ("y", Status::Success, None)],
        "the second of two checks with one id, and the missing one"
    );
}

#[test]
fn hollow_passes_show_in_the_details() {
    assert_eq!(places(json!({"toolCount": 24}), json!({"toolCount": 0}), Lists::Equal), ["/toolCount"]);
    assert_eq!(
        places(
            json!({"result": {"content": []}}),
            json!({"result": {"content": [], "isError": true}}),
            Lists::Equal
        ),
        ["/result/isError"]
    );
    let listed = |names: &[&str]| json!({"tools": names});
    assert_eq!(places(listed(&["p", "q"]), listed(&["p"]), Lists::Equal), ["/tools/q"]);
    assert_eq!(places(listed(&["p"]), listed(&["p", "q"]), Lists::Equal), ["/tools/q"]);
    assert_eq!(places(listed(&["p", "q", "r"]), listed(&["q", "r", "p"]), Lists::Equal), ["/tools"], "once");
    assert_eq!(places(listed(&["p", "p"]), listed(&["p"]), Lists::Equal), ["/tools"]);
    assert_eq!(places(json!({"a/b": 1}), json!({}), Lists::Equal), ["/a~1b"]);
}

#[test]
fn what_varies_from_run_to_run_is_no_difference() {
    let run = |port: u16, id: &str| {
        json!({
            "serverUrl": format!("http://127.0.0.1:{port}/mcp"),
            "hostHeader": format!("localhost:{port}"),
            "sessionId": id,
            "nested": [{"io.modelcontextprotocol/subscriptionId": id, "requestState": id}],
        })
    };
    assert!(places(run(1, "a"), run(65_535, "b"), Lists::Equal).is_empty());
    let event = |id: i64| json!({"event": {"id": format!("0/{id}"), "data": {"id": 1}}});
    assert!(places(event(0), event(2), Lists::Equal).is_empty());
    assert_eq!(places(json!({"id": 1}), json!({"id": "1"}), Lists::Equal), ["/id"], "the id of an answer");
    assert_eq!(places(json!({"sessionId": "a"}), json!({}), Lists::Equal), ["/sessionId"]);
    assert_eq!(places(json!({"sessionId": "a"}), json!({"sessionId": null}), Lists::Equal), ["/sessionId"]);
    assert_eq!(
        places(json!({"h": "localhost:1"}), json!({"h": "example.org:1"}), Lists::Equal),
        ["/h"],
        "only the port varies"
    );
}

#[test]
fn other_backends_may_add_to_lists_but_take_nothing_away() {
    let alone =
        json!({"toolCount": 2, "tools": [{"name": "p", "n": 1}, {"name": "q"}], "results": {"p": "ok"}});
    let more = json!({
        "toolCount": 3,
        "tools": [{"name": "p", "n": 1}, {"name": "z"}, {"name": "q"}],
        "results": {"p": "ok", "z": "ok"},
    });
    assert!(places(alone.clone(), more.clone(), Lists::Contained).is_empty());
    assert_eq!(places(alone.clone(), more, Lists::Equal), ["/toolCount", "/tools/z", "/results/z"]);
    let changed = json!({
        "toolCount": 1,
        "tools": [{"name": "x"}, {"name": "z"}, {"name": "p", "n": 2}],
        "results": {"p": "ok"},
    });
    assert_eq!(places(alone, changed, Lists::Contained), ["/toolCount", "/tools/p/n", "/tools/q"]);
}

#[test]
fn differences_are_few_and_short() {
    let many: Vec<usize> = (0..100).collect();
    let other: Vec<usize> = (100..200).collect();
    assert_eq!(places(json!({"a": many}), json!({"a": other}), Lists::Equal).len(), PER_CHECK);
    let (a, b) = apart("the same beginning and one end", "the same beginning and another");
    assert_eq!((a.as_str(), b.as_str()), ("…ginning and one end", "…ginning and another"));
    assert_eq!(apart("a", "b"), ("a".to_owned(), "b".to_owned()));
    assert_eq!(clip("a\n b", 9), "a b");
    assert_eq!(clip("ééééé", 3), "éé…");
}

#[test]
fn every_port_of_this_machine_is_hidden() {
    assert_eq!(without_port("127.0.0.1:80 and localhost:8080/x"), "127.0.0.1:PORT and localhost:PORT/x");
    assert_eq!(without_port("none"), "none");
}
