//! The suite's own shapes, cut down to what is read of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;

const CHECKS: &str = r#"[
  {"id": "tools-list", "name": "ToolsList", "description": "…", "status": "SUCCESS",
   "timestamp": "2026-11-21T05:26:55.123Z", "details": {"toolCount": 2}},
  {"id": "tools-name-format", "name": "N", "description": "…", "status": "FAILURE",
   "timestamp": "2026-11-21T05:26:55.124Z", "errorMessage": "a space in a name"},
  {"id": "wire-schema-valid", "name": "W", "description": "…", "status": "INFO", "timestamp": ""}
]"#;

const YAML: &str = "\
# words: about it
server:
  - ping
  - tools-list

client:
  - initialize

not_scored:
  - scenario: auth/dpop
    leg: client
    reason: extension
  - scenario: tasks-lifecycle
    leg: server
    reason: extension
    note: >-
      leg: server in a sentence adds nothing
";

#[test]
fn a_check_keeps_what_a_comparison_needs() {
    let checks = Check::parse(CHECKS).unwrap();
    assert_eq!(checks.len(), 3);
    assert_eq!(checks[0].details, json!({"toolCount": 2}));
    assert_eq!(why(&checks[1]), "tools-name-format: a space in a name");
    assert_eq!(checks[2].details, Value::Null);
}

#[test]
fn a_status_nobody_knows_is_no_success() {
    let error = Check::parse(&CHECKS.replace("INFO", "FLAKY")).unwrap_err();
    assert!(error.to_string().contains("FLAKY"), "{error}");
    assert!(Check::parse("{}").is_err());
    assert!(Check::parse(r#"[{"status": "SUCCESS"}]"#).is_err());
}

#[test]
fn the_folder_names_the_scenario() {
    assert_eq!(scenario_of("server-ping-2026-11-21T05-26-55-123Z"), Some("ping"));
    assert_eq!(
        scenario_of("server-sep-2164-resource-not-found-2026-11-21T05-26-55-123Z"),
        Some("sep-2164-resource-not-found")
    );
    for other in ["server-ping", "ping-2026-11-21T05-26-55-123Z", "server--2026-11-21T05-26-55-123Z", "", "é"]
    {
        assert_eq!(scenario_of(other), None, "{other}");
    }
}

#[test]
fn requirements_are_those_of_servers_only() {
    let requirements = Requirements::parse(YAML).unwrap();
    assert_eq!(requirements.scored, ["ping", "tools-list"]);
    assert_eq!(requirements.others, ["tasks-lifecycle"]);
    assert!(Requirements::parse("client:\n  - a\n").is_err());
}

#[test]
fn a_run_is_read_with_what_it_did_not_finish() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = |name: &str, checks: Option<&str>| {
        let folder = dir.path().join(format!("server-{name}-2026-11-21T05-26-55-123Z"));
        fs::create_dir(&folder).unwrap();
        if let Some(checks) = checks {
            fs::write(folder.join("checks.json"), checks).unwrap();
        }
    };
    scenario("tools-list", Some(CHECKS));
    scenario("ping", None);
    let requirements = Requirements::parse(YAML).unwrap();
    let log = "=== Running scenario: ping ===\nFailed to run scenario ping: Error: gone away\n    at x\n";
    let report = Report::read(dir.path(), log, &requirements).unwrap();

    let names: Vec<_> = report.scenarios.iter().map(|s| (s.name.as_str(), s.scored)).collect();
    assert_eq!(names, [("ping", true), ("tools-list", true), ("tasks-lifecycle", false)]);
    assert_eq!(report.scenarios[0].reasons(), ["Error: gone away"]);
    assert_eq!(report.scenarios[1].reasons(), ["tools-name-format: a space in a name"]);
    assert_eq!(report.scenarios[2].reasons(), ["it was not reached"]);
    assert!(report.scenarios.iter().all(|scenario| !scenario.passed()));
    assert_eq!(
        report.tally(),
        Tally { passed: 0, required: 2, checks_passed: 1, checks_failed: 3 },
        "a scenario that did not come to its end counts as a failed check"
    );

    let hung = Report::read(dir.path(), "", &requirements).unwrap();
    assert_eq!(hung.scenarios[0].reasons(), ["it hung"]);

    scenario("stranger", Some("[]"));
    assert!(Report::read(dir.path(), log, &requirements).is_err());
}

#[test]
fn a_run_that_left_nothing_is_an_error_with_the_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = "one\ntwo\nthree\n";
    let error = Report::read(dir.path(), log, &Requirements::parse(YAML).unwrap()).unwrap_err();
    assert!(error.to_string().ends_with("one\ntwo\nthree"), "{error}");
    assert_eq!(tail(log, 1), "three");
}

#[test]
fn a_scenario_that_checked_nothing_proves_nothing() {
    let empty = Scenario { name: "a".to_owned(), scored: true, checks: Some(Vec::new()), broke: None };
    assert!(!empty.passed());
    assert_eq!(empty.reasons(), ["it checked nothing"]);
}
