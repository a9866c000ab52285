//! What waits for a server or a client that does not read is bounded in bytes, and costs only who caused it.

use reqwest::Method;
use serde_json::json;

use crate::http_door::client::{Door, NEWEST, request, tool};
use crate::support::{Gateway, PATIENCE, Setup, eventually, within};

/// What the gateway may grow by, in KiB, while somebody does not read.
const GROWTH: u64 = 120 << 10;

/// A server that never reads again once its tool `sleep` is called.
const DEAF: &str = r#"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ["sleep", "echo"]]

def call(id, params):
    if params["name"] == "sleep":
        note("asleep.txt", "now")
        time.sleep(3600)
    text(id, "awake")
"#;

/// A server that sends so many notifications of a megabyte whenever it is asked to.
const SHOUTING: &str = r#"
tools = [{"name": n, "inputSchema": {"type": "object"}} for n in ["shout", "echo"]]

def call(id, params):
    if params["name"] == "shout":
        for number in range(300):
            send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "A" * 1_000_000}})
        note("shouted.txt", "all")
    text(id, "done")
"#;

#[test]
fn letters_for_a_deaf_server() {
    let door = Door::open(Setup::new().scripted("srv", DEAF, ""), "");
    let eve = door.client("eve").greeting(NEWEST, &json!({"roots": {}}));
    let asleep = eve.begin_post(&request("tools/call", &tool("sleep", json!({}))));
    eventually("the server to sleep", || door.gateway.setup.path("asleep.txt").exists().then_some(()));
    let before = door.gateway.peak_memory();
    let data = "A".repeat(4_000_000);
    for _ in 0..60 {
        let letter =
            json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed", "params": {"d": data}});
        eve.post(&letter);
    }
    let grown = door.gateway.peak_memory() - before;
    assert!(grown < GROWTH, "{grown} KiB more");
    // Everybody else's server is another process, and answers.
    let bob = door.client("bob").hello(NEWEST);
    assert_eq!(bob.call("echo", json!({}))["result"]["content"][0]["text"], "awake");
    drop(asleep);
}

#[test]
fn a_client_that_does_not_read_loses_notifications_and_nobody_elses() {
    let setup = Setup::new().scripted("srv", SHOUTING, "");
    let mut gateway = Gateway::start(setup);
    let before = gateway.peak_memory();
    gateway.deafen(|gateway| {
        gateway.begin("shout", json!({}));
        eventually("all of it said", || gateway.setup.path("shouted.txt").exists().then_some(()));
    });
    let grown = gateway.peak_memory() - before;
    assert!(grown < GROWTH, "{grown} KiB more");
    assert_eq!(gateway.call("echo", json!({}))["result"]["content"][0]["text"], "done");
}

#[test]
fn a_session_without_a_stream_keeps_little_for_later() {
    let door = Door::open(Setup::new().scripted("srv", SHOUTING, ""), "");
    let eve = door.client("eve").greeting(NEWEST, &json!({"roots": {}}));
    let before = door.gateway.peak_memory();
    // Each stream is opened and left: what comes meanwhile has nowhere to go.
    for _ in 0..3 {
        drop(eve.begin(Method::POST, Some(request("tools/call", &tool("shout", json!({}))).to_string())));
    }
    // 900 MB: on a busy machine they take longer than a state that is only waited for.
    let all = within(PATIENCE * 6, || {
        let said = std::fs::read_to_string(door.gateway.setup.path("shouted.txt")).unwrap_or_default();
        (said.lines().count() == 3).then_some(())
    });
    assert!(all.is_some(), "not all of it was said: {}", door.gateway.log());
    let grown = door.gateway.peak_memory() - before;
    assert!(grown < GROWTH, "{grown} KiB more");
    assert_eq!(eve.call("echo", json!({}))["result"]["content"][0]["text"], "done");
}
