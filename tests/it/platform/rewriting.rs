//! Rewriting that holds: each defect that the walk of an author found (A1, A3, A5, A6) is a test here.

use serde_json::json;

use super::made::built;
use crate::support::{Gateway, Setup, reason};

/// The message of an error.
fn words(answer: &serde_json::Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// A server whose tool says what it was sent, and has a field that nobody should see.
const TELLS: &str = r#"
tools = [{"name": "echo", "inputSchema": {"type": "object", "properties": {"limit": {"type": "integer", "minimum": 60}}}}]
def call(id, params):
    result(id, {"content": [], "structuredContent": {"got": params.get("arguments"), "internal": "shard 7"}})
"#;

/// The rewriter that `plugin new` makes, under this name, with this cap.
fn capper(name: &str, most: u32) -> String {
    let wasm = built("rewriter");
    format!(
        "[[plugins]]\nname = {name:?}\nwasm = {:?}\nstage = \"rewrite\"\nlimits = {{ deadline_ms = 2000 }}\nconfig = {{ argument = \"limit\", most = {most}, hide = [\"/structuredContent/internal\"] }}\n",
        wasm.to_str().unwrap()
    )
}

#[test]
fn a1_a_later_rewriter_sees_what_the_earlier_one_left() {
    // If the second saw the client's 1000, it would set 150 and undo the first.
    let setup =
        Setup::new().scripted("tells", TELLS, "").more(&capper("first", 100)).more(&capper("second", 150));
    let mut gateway = Gateway::start(setup);
    let answer = gateway.call("echo", json!({"limit": 1000}));
    assert_eq!(answer["result"]["structuredContent"]["got"], json!({"limit": 100}), "{answer}");
}

#[test]
fn a3_arguments_that_a_rewriter_made_are_checked_like_a_clients() {
    let setup = Setup::new().scripted("tells", TELLS, "").more(&capper("stingy", 50));
    let mut gateway = Gateway::start(setup);
    // The server wants 60 at least: what the rewriter makes of it would not fit.
    let answer = gateway.call("echo", json!({"limit": 1000}));
    assert_eq!(reason(&answer), "plugin_failed", "{answer}");
    assert!(words(&answer).contains("rewriter plugin `stingy` made arguments that do not fit"), "{answer}");
    // A client's own mistake stays the client's.
    let answer = gateway.call("echo", json!({"limit": 10}));
    assert_eq!(reason(&answer), "invalid_arguments", "{answer}");
}

#[test]
fn a5_remarks_of_both_directions_reach_the_record() {
    let setup = Setup::new().scripted("tells", TELLS, "").more(&capper("capper", 100));
    let mut gateway = Gateway::start(setup);
    let answer = gateway.call("echo", json!({"limit": 1000}));
    assert_eq!(answer["result"]["structuredContent"], json!({"got": {"limit": 100}}), "{answer}");
    gateway.end();
    let rows = gateway.audit();
    let row = rows.iter().find(|row| row["tool"] == "echo").unwrap().to_string();
    assert!(row.contains("capped") && row.contains("hidden"), "{row}");
}

#[test]
fn a6_limits_grow_with_the_message_and_a_message_beyond_them_is_the_plugins() {
    let long = r#"
def call(id, params):
    text(id, "word " * params["arguments"]["words"] + "ann@canary.example")
"#;
    let redact = "[[plugins]]\nname = \"redact-pii\"\nconfig = { backends = { \"*\" = { email = \"mask\" } } }\nlimits = { deadline_ms = 5000 }\n";
    let setup = Setup::new()
        .scripted("long", long, "")
        .gateway("max_message_bytes = 2000000\nmax_result_bytes = 64000000\n")
        .more(redact);
    let mut gateway = Gateway::start(setup);
    // A megabyte is far more than a million steps can look at.
    let answer = gateway.call("echo", json!({"words": 200_000}));
    let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(text.ends_with("word [email]") && text.len() == 1_000_007, "{}", text.len());
    let answer = gateway.call("echo", json!({"words": 1_000_000}));
    assert_eq!(reason(&answer), "too_long_to_rewrite", "{answer}");
    assert!(words(&answer).contains("the rewriter plugin `redact-pii` can be shown"), "{answer}");
}

#[test]
fn a10_the_record_says_which_plugin_refused() {
    let mut gateway = Gateway::start(Setup::echo().more(
        "[[plugins]]\nname = \"cel-policy\"\nconfig = { otherwise = \"deny\", rules = [{ name = \"none\", when = \"false\", then = \"allow\" }] }\n",
    ));
    assert_eq!(reason(&gateway.call("echo", json!({}))), "no_rule");
    gateway.end();
    let rows = gateway.audit();
    let row = rows.iter().find(|row| row["status"] == "denied").unwrap();
    let decided = row["notes"]["plugin"].as_str().unwrap_or_else(|| panic!("{row}"));
    let (name, rest) = decided.split_once(" sha256 ").unwrap();
    assert_eq!(name, "cel-policy 0.1.0");
    let (digest, verdict) = rest.split_once(": ").unwrap();
    assert!(digest.len() == 64 && verdict == "deny no_rule", "{decided}");
}
