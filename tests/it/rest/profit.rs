//! The sidecar that is replaced: its twenty endpoints from `config/profit-sentinel.toml`, in front of the example engine.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::stage::Caller;
use crate::support::{Gateway, Setup, eventually, free_address, mint};

/// Method, endpoint, authentication, and the status without and with a token, as the check prints them. What may change something is
/// asked with a body that no route takes (415); what needs an analysis says that there is none (404).
const TABLE: [(&str, &str, &str, u16, u16); 20] = [
    ("POST", "/uploads/presign", "jwt", 401, 415),
    ("POST", "/uploads/suggest-mapping", "jwt", 401, 415),
    ("POST", "/analysis/analyze", "jwt", 401, 415),
    ("GET", "/analysis/primitives", "none", 200, 200),
    ("GET", "/analysis/supported-pos", "none", 200, 200),
    ("GET", "/api/v1/digest", "jwt", 401, 404),
    ("GET", "/api/v1/digest/{store_id}", "jwt", 401, 404),
    ("GET", "/api/v1/explain/{issue_id}", "jwt", 401, 404),
    ("GET", "/api/v1/explain/{issue_id}/why", "jwt", 401, 404),
    ("GET", "/api/v1/vendor-call/{issue_id}", "jwt", 401, 404),
    ("GET", "/api/v1/coop/{store_id}", "jwt", 401, 404),
    ("POST", "/api/v1/delegate", "jwt", 401, 415),
    ("GET", "/api/v1/tasks", "jwt", 401, 200),
    ("PATCH", "/api/v1/tasks/{task_id}", "jwt", 401, 415),
    ("POST", "/api/v1/diagnostic/start", "jwt", 401, 415),
    ("GET", "/api/v1/diagnostic/{id}/question", "jwt", 401, 404),
    ("POST", "/api/v1/diagnostic/{id}/answer", "jwt", 401, 415),
    ("GET", "/api/v1/diagnostic/{id}/summary", "jwt", 401, 404),
    ("GET", "/api/v1/diagnostic/{id}/report", "jwt", 401, 404),
    ("GET", "/health", "none", 200, 200),
];

fn engine() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "tests/fixtures/engine"]
        .iter()
        .collect::<PathBuf>()
        .canonicalize()
        .unwrap()
}

/// The file as it is shipped, at an address of the test's own, with the engine's memory in the folder of the test.
fn start() -> (Gateway, Caller) {
    let address = free_address();
    let setup = Setup::new();
    let shipped = include_str!("../../../config/profit-sentinel.toml");
    let changed = [
        ("listen = \"127.0.0.1:9300\"".to_owned(), format!("listen = {address:?}")),
        ("health_listen = \"127.0.0.1:9301\"".to_owned(), "health_listen = \"off\"".to_owned()),
        (
            "cwd = \"../tests/fixtures/engine\"".to_owned(),
            format!("cwd = {:?}\nenv = {{ ENGINE_DATA = {:?} }}", engine(), setup.path("data")),
        ),
    ];
    let mut text = shipped.to_owned();
    for (old, new) in changed {
        assert_eq!(text.matches(&old).count(), 1, "{old}");
        text = text.replace(&old, &new);
    }
    let token = mint("ann", "analyst", 3_600);
    let gateway = Gateway::spawn(setup.whole(&text).env("SENTINEL_TOKEN", &token));
    eventually("the HTTP door", || gateway.log().contains("listening on http://").then_some(()));
    let caller = Caller { address, headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))] };
    (gateway, caller)
}

fn printed(gateway: &Gateway, args: &[&str]) -> (Option<i32>, String, String) {
    let output = gateway.setup.run(args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn twenty_endpoints_answer_with_and_without_a_token_as_the_table_says() {
    let (gateway, caller) = start();
    let (code, table, said) = printed(&gateway, &["routes", "--check"]);
    assert_eq!(code, Some(0), "{table}{said}");
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), TABLE.len(), "{table}");
    for (row, (method, path, auth, bare, with)) in rows.iter().zip(TABLE) {
        let (bare, with) = (bare.to_string(), with.to_string());
        assert_eq!(row[..5], [method, path, auth, &bare, &with], "{table}");
    }
    // Nothing was done by being asked.
    assert_eq!(caller.ask("GET", "/api/v1/tasks").json(), json!({"tasks": []}));
    assert_eq!(caller.ask("GET", "/api/v1/digest").status, 404);
    let (_, listed, _) = printed(&gateway, &["routes"]);
    assert!(listed.contains("20 routes, 3 of them need no credentials"), "{listed}");
}

#[test]
fn a_csv_becomes_issues_tasks_and_a_report() {
    let (_gateway, caller) = start();
    let csv = std::fs::read_to_string(engine().join("sample.csv")).unwrap();
    let result = caller.json("POST", "/analysis/analyze", &json!({"csv": csv, "store_id": "7"}).to_string());
    assert_eq!(result.status, 200, "{result:?}");
    let result = result.json();
    let found: Vec<&Value> = result["by_primitive"].as_object().unwrap().values().collect();
    assert!(found.len() == 11 && found.iter().all(|count| count.as_u64().unwrap() > 0), "{result}");
    let issue =
        result["issues"].as_array().unwrap().iter().find(|issue| issue["primitive"] == "dead_item").unwrap();
    let id = issue["id"].as_str().unwrap();
    let get = |path: &str| {
        let reply = caller.ask("GET", path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    };
    assert_eq!(get("/api/v1/digest/7?limit=1")["top"], json!([result["issues"][0]]));
    assert!(get(&format!("/api/v1/explain/{id}"))["explanation"].as_str().unwrap().contains("345.00"));
    assert_eq!(get(&format!("/api/v1/vendor-call/{id}"))["vendor"], "Acme");
    let task = caller
        .json("POST", "/api/v1/delegate", &json!({"issue_id": id, "assignee": "bob"}).to_string())
        .json();
    assert_eq!(task["by"], "ann", "the subject of the token, not of the body");
    let path = format!("/api/v1/tasks/{}", task["id"].as_str().unwrap());
    assert_eq!(caller.json("PATCH", &path, r#"{"status": "done"}"#).json()["status"], "done");
    assert_eq!(get("/api/v1/tasks?status=open"), json!({"tasks": []}));
    let session = caller.json("POST", "/api/v1/diagnostic/start", r#"{"store_id": "7"}"#).json();
    let session = format!("/api/v1/diagnostic/{}", session["id"].as_str().unwrap());
    assert_eq!(caller.json("POST", &format!("{session}/answer"), r#"{"answer": "yes"}"#).json()["of"], 11);
    assert_eq!(get(&format!("{session}/report"))["findings"][0]["answer"], "yes");

    // What does not fit never reaches the engine, and what the engine cannot do has its own status.
    for (method, path, body, status) in [
        ("POST", "/analysis/analyze", json!({"csv": 7}), 400),
        ("POST", "/analysis/analyze", json!({"csv": "no,such\ncolumns,1\n"}), 400),
        ("PATCH", "/api/v1/tasks/none", json!({"status": "done"}), 404),
        ("PATCH", "/api/v1/tasks/none", json!({"status": "lost"}), 400),
        ("POST", "/uploads/presign", json!({"filename": "a.csv"}), 502),
    ] {
        let reply = caller.json(method, path, &body.to_string());
        assert_eq!(reply.status, status, "{method} {path} {body}: {reply:?}");
    }
    assert_eq!(caller.ask("GET", "/api/v1/digest?limit=many").status, 400);
    assert_eq!(caller.ask("GET", "/api/v1/explain/..%2f..%2fetc").status, 400);
}

#[test]
fn the_document_lists_exactly_the_routes_with_their_security() {
    let (gateway, caller) = start();
    let open = caller.clone().without("Authorization");
    let reply = open.ask("GET", "/openapi.json");
    assert_eq!(reply.status, 200, "{reply:?}");
    let document = reply.json();
    let mut listed: Vec<(String, String, bool)> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            listed.push((method.to_uppercase(), path.clone(), operation["security"] != json!([])));
            assert!(operation["responses"]["404"]["$ref"].is_string(), "{operation}");
        }
    }
    let mut expected: Vec<_> = TABLE
        .iter()
        .map(|(method, path, auth, ..)| ((*method).to_owned(), (*path).to_owned(), *auth == "jwt"))
        .collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let tag = reply.header("etag").unwrap().to_owned();
    assert_eq!(open.with("If-None-Match", &tag).ask("GET", "/openapi.json").status, 304);
    let (code, text, _) = printed(&gateway, &["routes", "--openapi"]);
    assert_eq!((code, serde_json::from_str::<Value>(&text).unwrap()), (Some(0), document));
}
