//! Results of any size pass through with the memory of a small one, whatever the transport, and a client that does
//! not read its own delays nobody else.

use reqwest::Method;
use serde_json::{Value, json};

use crate::http_door::client::{Client, Door, NEWEST, request, tool};
use crate::support::{Gateway, HttpServer, Setup};

/// What the memory may grow by for one result, in KiB: the window before cutting, the pieces under way, and what
/// the allocator keeps; the largest payload is more than twice as much.
const GROWTH: u64 = 40 << 10;
const SIZES: [usize; 3] = [1 << 20, 10 << 20, 100 << 20];

fn is_large(message: &Value, size: usize) {
    let text = message["result"]["content"][0]["text"].as_str();
    let text = text.unwrap_or_else(|| panic!("no text: {:.300}", message.to_string()));
    assert_eq!(text.len(), size);
    assert!(text.bytes().all(|byte| byte == b'x'));
}

fn slim(gateway: &Gateway, before: u64) {
    let grown = gateway.peak_memory().saturating_sub(before);
    assert!(grown < GROWTH, "the gateway grew by {} MiB", grown >> 10);
}

#[test]
fn over_stdio_the_memory_is_the_windows() {
    let mut gateway = Gateway::start(Setup::echo());
    gateway.call("big", json!({"bytes": 10}));
    let before = gateway.peak_memory();
    for size in SIZES {
        is_large(&gateway.call("big", json!({"bytes": size})), size);
    }
    slim(&gateway, before);
}

#[test]
fn a_rewriter_that_has_no_rule_for_results_holds_none() {
    let rule = "[[backends.rewrite.arguments]]\ndefault = \"/bytes\"\nvalue = 10";
    let mut gateway = Gateway::start(Setup::new().backend("echo", &[], rule));
    is_large(&gateway.call("big", json!({})), 10);
    let before = gateway.peak_memory();
    is_large(&gateway.call("big", json!({"bytes": SIZES[2]})), SIZES[2]);
    slim(&gateway, before);
}

/// Both forms of an answer and both eras of a client, before this backend.
fn over_http(setup: Setup) {
    let door = Door::open(setup, "");
    let ada = door.client("ada");
    let session = ada.hello(NEWEST);
    session.call("big", json!({"bytes": 10}));
    let before = door.gateway.peak_memory();
    for size in SIZES {
        let arguments = json!({"bytes": size});
        is_large(&session.call("big", arguments.clone()), size);
        is_large(&ada.ask("tools/call", &tool("big", arguments)).value(), size);
    }
    slim(&door.gateway, before);
}

#[test]
fn from_http_to_stdio_the_memory_is_the_windows() {
    over_http(Setup::echo());
}

#[test]
fn from_http_to_http_the_memory_is_the_windows() {
    let server = HttpServer::start(&["--profile", "echo"]);
    over_http(Setup::new().http("web", &server.url(), ""));
}

#[test]
fn from_http_to_events_the_memory_is_the_windows() {
    let server = HttpServer::start(&["--profile", "echo", "--sse"]);
    over_http(Setup::new().http("web", &server.url(), ""));
}

fn unread(client: &Client, size: usize) -> impl Sized {
    let body = request("tools/call", &tool("big", json!({"bytes": size})));
    client.begin(Method::POST, Some(body.to_string()))
}

#[test]
fn whoever_does_not_read_a_large_result_delays_nobody() {
    let door = Door::open(Setup::echo(), "");
    let (ada, eve) = (door.client("ada").hello(NEWEST), door.client("eve").hello(NEWEST));
    ada.call("echo", json!({"text": "warm"}));
    let before = door.gateway.peak_memory();
    let held: Vec<_> = (0..4).map(|_| unread(&eve, 60 << 20)).collect();
    for number in 0..50 {
        let text = number.to_string();
        assert_eq!(
            ada.call("echo", json!({"text": text}))["result"]["structuredContent"]["arguments"]["text"],
            text
        );
    }
    is_large(&ada.call("big", json!({"bytes": 5 << 20})), 5 << 20);
    slim(&door.gateway, before);
    drop(held);
}

#[test]
fn over_the_limit_the_call_says_so_and_the_backend_stays() {
    let limits = "max_message_bytes = 2000000\nmax_result_bytes = 5000000";
    let mut gateway = Gateway::start(Setup::echo().gateway(limits));
    is_large(&gateway.call("big", json!({"bytes": 4 << 20})), 4 << 20);
    let refused = gateway.call("big", json!({"bytes": 6 << 20}));
    let error =
        refused["error"]["message"].as_str().unwrap_or_else(|| panic!("{:.300}", refused.to_string()));
    assert!(error.contains("over the limit of 5000000 bytes"), "{error}");
    is_large(&gateway.call("big", json!({"bytes": 9})), 9);
}
