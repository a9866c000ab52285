//! The harness works: every kind of measurement is made once, in a moment, and none is void. What it measures here
//! is the debug build, so the figures mean nothing, and the program says so.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn tool() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sentinel-bench"))
}

/// Beside the tool, or, for folders, beside the profile.
fn built(name: &str) -> PathBuf {
    let folder = tool().parent().unwrap();
    let path =
        [folder.join(name), folder.parent().unwrap().join(name)].into_iter().find(|path| path.exists());
    path.unwrap_or_else(|| panic!("{name} is missing: run `cargo xtask build --guests`"))
}

fn run(json: &Path, args: &[&str]) -> Output {
    Command::new(tool())
        .arg("run")
        .args(args)
        .args(["--quick", "--seconds", "0.05"])
        .arg("--gateway")
        .arg(built("sentinel-gateway"))
        .arg("--guests")
        .arg(built("guests"))
        .args(["--peers", "none"])
        .arg("--json")
        .arg(json)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_variant_is_measured_on_every_route_and_its_record_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    let output = run(&json, &["whole"]);
    assert!(output.status.success(), "{}", said(&output));
    let results: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let rows = results["fields"]["whole"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 15, "five contestants on three routes");
    for row in rows {
        assert_eq!(row["void"], Value::Null, "{row}");
        let cells = row["cells"].as_array().unwrap();
        assert!(cells.len() >= 6 && cells.iter().all(|cell| cell["calls"].as_u64() > Some(0)), "{row}");
        let recorded = row["name"].as_str().unwrap().contains("audit");
        assert_eq!(recorded, row["record"].is_object(), "{row}");
        if recorded {
            assert_eq!(row["record"]["calls"], row["record"]["rows"], "{row}");
        }
    }
    // A quick run is no report.
    let page = folder.path().join("page.md");
    let report = Command::new(tool())
        .args(["report", "--json"])
        .arg(&json)
        .arg("--page")
        .arg(&page)
        .arg("--chart")
        .arg(folder.path().join("chart.svg"))
        .output()
        .unwrap();
    assert!(!report.status.success() && !page.exists(), "{}", said(&report));
    assert!(said(&report).contains("a quick run"), "{}", said(&report));
}

#[test]
fn every_curve_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    let output = run(&json, &["growth"]);
    assert!(output.status.success(), "{}", said(&output));
    let results: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let curves = results["growth"]["curves"].as_array().unwrap();
    assert_eq!(curves.len(), 9);
    for curve in curves {
        let points = curve["points"].as_array().unwrap();
        assert!(
            points.len() > 1 && points.iter().all(|point| point["one"]["calls"].as_u64() > Some(0)),
            "{curve}"
        );
    }
}

#[test]
fn a_wrong_answer_voids_the_row_and_fails_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    // Behind this name stands a gateway that answers nothing.
    let output = Command::new(tool())
        .args(["run", "whole", "--quick", "--route", "stdio-stdio", "--guests", "none", "--peers", "none"])
        .args(["--gateway", "/bin/true", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        said(&output).contains("void: stdio → stdio, ours, fewest policies: it did not start"),
        "{}",
        said(&output)
    );
}

#[test]
fn good_calls_are_answered_beside_hostile_clients() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    let output = run(&json, &["hostile"]);
    assert!(output.status.success(), "{}", said(&output));
    let results: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let hostile = &results["hostile"];
    for load in ["alone", "beside"] {
        assert!(hostile[load]["calls"].as_u64() > Some(0) && hostile[load]["void"].is_null(), "{hostile}");
    }
    assert!(hostile["requests"].as_u64() > Some(0) && hostile["connections"].as_u64() > Some(0), "{hostile}");
}

#[test]
fn a_change_is_applied_under_load_and_no_call_fails() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    let output = run(&json, &["reload"]);
    assert!(output.status.success(), "{}", said(&output));
    let results: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let reload = &results["reload"];
    for load in ["alone", "during"] {
        assert!(reload[load]["calls"].as_u64() > Some(0) && reload[load]["void"].is_null(), "{reload}");
    }
    assert_eq!(reload["backends"], 20, "{reload}");
    assert!(reload["took_ms"].as_array().is_some_and(|took| !took.is_empty()), "{reload}");
}
