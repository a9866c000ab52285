//! The record: nothing is lost, nothing secret is in it.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{Gateway, SECRET, Setup, code};

#[test]
fn no_audit_row_is_lost_under_load() {
    const CALLS: usize = 1_500;
    let mut gateway = Gateway::start(
        Setup::new().backend("echo", &[], "max_in_flight = 2000").gateway("max_in_flight = 2000"),
    );
    gateway.await_tool("echo");
    let ids: Vec<u64> = (0..CALLS)
        .map(|number| {
            gateway.begin(
                if number % 10 == 9 { "nonsense" } else { "echo" },
                json!({"text": number.to_string()}),
            )
        })
        .collect();
    let answered: Vec<Value> = ids.iter().map(|id| gateway.answer(*id)).collect();
    let busy = answered.iter().filter(|answer| answer["error"]["data"]["reason"] == "backend_busy").count();
    gateway.end();
    let rows = gateway.audit();
    assert_eq!(rows.len(), CALLS);
    let ids: HashSet<&str> = rows.iter().map(|row| row["rpc_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), CALLS, "every call has a row of its own");
    let count = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
    assert_eq!(count("invalid_args"), CALLS / 10);
    assert_eq!((count("success"), count("error")), (CALLS - CALLS / 10 - busy, busy));
}

#[test]
fn a_row_says_who_did_what_and_how_it_ended() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.call("echo", json!({"text": "hello"}));
    gateway.call("fail", json!({}));
    gateway.end();
    let rows = gateway.audit();
    let [done, failed] = rows.as_slice() else { panic!("{rows:?}") };
    for (key, value) in [("subject", "ann"), ("role", "admin"), ("method", "tools/call"), ("tool", "echo")] {
        assert_eq!(done[key], value, "{done}");
    }
    assert_eq!((&done["backend"], &done["status"]), (&json!("echo"), &json!("success")));
    assert_eq!(done["arguments"], json!({"text": "hello"}));
    assert!(done["latency_ms"].as_f64().unwrap() > 0.0, "{done}");
    assert!(done["time"].as_str().unwrap().ends_with('Z'), "{done}");
    assert_eq!(failed["status"], "error");
}

#[test]
fn secrets_are_redacted() {
    let mut gateway = Gateway::start(
        Setup::new()
            .backend("echo", &[], "env = { API_KEY = \"${BACKEND_KEY}\" }")
            .env("BACKEND_KEY", "sk-live-4711-0815")
            .more("[audit]\nredact_keys = [\"pin\"]"),
    );
    let token = gateway.setup.env_value("SENTINEL_TOKEN");
    let secrets = ["hunter2-and-more", "99-77-55", "sk-live-4711-0815", SECRET, &token];
    let arguments = json!({
        "text": format!("the key is {} and {SECRET}", secrets[2]),
        "password": secrets[0],
        "deep": {"list": [{"pin": secrets[1]}, token]},
        "harmless": "to be seen",
    });
    assert!(gateway.call("echo", arguments)["result"].is_object());
    // What is refused is recorded too.
    assert_eq!(code(&gateway.call("echo", json!({"text": 5, "password": secrets[0]}))), -32602);
    gateway.end();
    let rows = gateway.audit();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].to_string().contains("to be seen"), "{}", rows[0]);
    for secret in secrets {
        for file in gateway.setup.files("sentinel-gateway") {
            let bytes = std::fs::read(&file).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds {secret}", file.display());
        }
        assert!(!gateway.log().contains(secret), "the log holds {secret}");
    }
}

#[test]
fn without_the_record_nothing_is_called() {
    let setup = Setup::echo();
    let dir = setup.path("record");
    std::fs::write(&dir, "a file where the folder belongs").unwrap();
    // Operators' orders would be in the same folder, and are missed first.
    let setup = setup.gateway("control_dir = \"off\"").more(&format!("[audit]\ndir = {dir:?}"));
    let (status, errors) = setup.refused(&[]);
    assert_eq!(status, Some(1), "{errors}");
    assert!(errors.contains("audit"), "{errors}");
}
