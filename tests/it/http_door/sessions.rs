//! Sessions of the handshake era: opened, bound to the caller who opened them, bounded, ended.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::client::{Client, Door, NEWEST, fresh, request, tool};
use super::raw::{Raw, post};
use crate::support::{Setup, code, eventually, said};

fn opening(version: &str) -> Value {
    request("initialize", &json!({"protocolVersion": version, "capabilities": {}}))
}

fn notification(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// Every way of using a session, by status.
fn used(client: &Client) -> [u16; 4] {
    [
        client.request("tools/list", &json!({})).status,
        client.post(&notification("notifications/initialized", &json!({}))).status,
        client.with("accept", "text/event-stream").get().status,
        client.delete().status,
    ]
}

#[test]
fn initialize_opens_a_session_that_nobody_can_guess() {
    let door = Door::echo();
    let ann = door.client("ann");
    let mut seen = HashSet::new();
    for (asked, settled) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        // It has no `initialize`.
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let answer = ann.post(&opening(asked));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        assert_eq!(answer.value()["result"]["protocolVersion"], settled, "{asked}");
        let id = answer.header("mcp-session-id").unwrap().to_owned();
        // 128 bits take 22 characters of base64.
        assert!(id.len() >= 22 && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
        assert!(!door.gateway.log().contains(&id), "an id in the log is as good as a key");
        assert!(seen.insert(id));
    }
    assert_eq!(door.sessions(), 6);
    let refused = ann.post(&request("initialize", &json!({"capabilities": {}})));
    assert_eq!(code(&refused.value()), -32602);
    assert!(refused.header("mcp-session-id").is_none());
    assert_eq!(door.sessions(), 6, "what failed opens none");
}

#[test]
fn without_a_session_400_and_with_an_unknown_one_404() {
    let door = Door::echo();
    let ann = door.client("ann");
    assert_eq!(used(&ann), [400; 4]);
    for unknown in ["AAAAAAAAAAAAAAAAAAAAAA", "x", "../../etc", "%00"] {
        assert_eq!(used(&ann.with("mcp-session-id", unknown)), [404; 4], "{unknown}");
    }
    let again = ann.with("mcp-session-id", "AAAAAAAAAAAAAAAAAAAAAA").post(&opening(NEWEST));
    assert_eq!(again.status, 404, "a client does not choose its id");
    let session = ann.hello(NEWEST);
    let twice = session.twice("mcp-session-id", session.header("mcp-session-id"));
    assert_eq!(used(&twice), [400; 4]);
    assert_eq!(session.structured("echo")["name"], "echo");
}

#[test]
fn a_session_is_for_the_one_who_opened_it() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    let bob = door.client("bob").with("mcp-session-id", session.header("mcp-session-id"));
    assert_eq!(used(&bob), [404; 4], "as if there were none");
    let theirs = bob.request("tools/list", &json!({})).value();
    let nobodys = bob.with("mcp-session-id", "AAAAAAAAAAAAAAAAAAAAAA").request("tools/list", &json!({}));
    assert_eq!(theirs["error"], nobodys.value()["error"], "and not told apart by words either");
    assert_eq!(session.structured("echo")["name"], "echo", "bob ended nothing");
}

#[test]
fn delete_ends_a_session_and_what_is_under_way_in_it() {
    let door = Door::echo();
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    let mut standing = ann.listen();
    let slow = request("tools/call", &tool("slow", json!({"ms": 60_000}))).to_string();
    let _waiting = Raw::sent(&door.address, post(&ann, &slow).as_bytes());
    eventually("the call", || (bob.structured("calls")["slow"] == 1).then_some(()));
    let ended = ann.delete();
    assert!(matches!(ended.status, 200 | 202 | 204) && ended.text.is_empty(), "{ended:?}");
    assert_eq!(used(&ann), [404; 4]);
    // It ends with its session, and was told nothing: no list was asked for in it.
    assert_eq!(standing.next(), None);
    eventually("the cancellation", || {
        (bob.structured("cancelled")["requestIds"].as_array()?.len() == 1).then_some(())
    });
    assert_eq!(bob.structured("echo")["name"], "echo", "bob's goes on");
    assert_eq!(door.sessions(), 1);
}

#[test]
fn the_revision_in_the_header_must_be_one_that_is_spoken() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    for wrong in ["1999-01-01", "2025-11-25x", "latest", ""] {
        let client = session.with("mcp-protocol-version", wrong);
        assert_eq!(used(&client), [400; 4], "{wrong:?}");
    }
    let twice = session.twice("mcp-protocol-version", "2025-06-18");
    assert_eq!(used(&twice), [400; 4]);
    // Without the header the negotiated one counts.
    for client in [session.without("mcp-protocol-version"), session.clone()] {
        assert_eq!(client.request("tools/list", &json!({})).status, 200);
    }
}

#[test]
fn what_needs_no_answer_is_accepted_with_202_and_nothing_else() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    for message in [
        notification("notifications/initialized", &json!({})),
        notification("notifications/cancelled", &json!({"requestId": "nothing"})),
        notification("notifications/roots/list_changed", &json!({})),
        notification("notifications/made-up", &json!({})),
        json!({"jsonrpc": "2.0", "id": 77, "result": {}}),
        json!({"jsonrpc": "2.0", "id": "made-up", "error": {"code": -1, "message": "no"}}),
    ] {
        let answer = session.post(&message);
        assert_eq!((answer.status, &*answer.text), (202, ""), "{message}");
    }
    assert_eq!(session.structured("echo")["name"], "echo");
}

#[test]
fn batches_are_for_2025_03_26() {
    let door = Door::echo();
    let old = door.client("ann").hello("2025-03-26");
    let (one, other) = (fresh(), fresh());
    let call = |id: u64, text: &str| {
        let params = tool("echo", json!({"text": text}));
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    };
    let note = notification("notifications/initialized", &json!({}));
    let answer = old.post(&json!([call(one, "one"), note, call(other, "other")]));
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut replies = answer.value().as_array().unwrap().clone();
    replies.sort_by_key(|reply| reply["id"].as_u64());
    let texts = replies.iter().map(|reply| {
        (reply["id"].as_u64().unwrap(), reply["result"]["structuredContent"]["arguments"]["text"].clone())
    });
    assert_eq!(texts.collect::<Vec<_>>(), [(one, json!("one")), (other, json!("other"))]);

    let answer = old.post(&json!([note]));
    assert_eq!((answer.status, &*answer.text), (202, ""));
    let answer = old.post(&json!([opening(NEWEST)])).value();
    assert_eq!(answer[0]["error"]["code"], -32600, "initialize is no part of a batch: {answer}");
    assert_eq!(old.post(&json!([])).refusal(), (400, -32600));
    let many: Vec<Value> = (0..10_000).map(|_| note.clone()).collect();
    assert_eq!(old.post(&Value::from(many)).refusal(), (400, -32600));

    for revision in ["2025-06-18", NEWEST] {
        let session = door.client("ann").hello(revision);
        let calls = session.structured("calls")["echo"].clone();
        assert_eq!(session.post(&json!([call(one, "one")])).refusal(), (400, -32600), "{revision}");
        assert_eq!(session.structured("calls")["echo"], calls, "{revision}: nothing was called");
    }
    assert_eq!(door.client("ann").post(&json!([call(one, "one")])).status, 400, "without a session");
}

/// 2026-07-28 has no batches, and what its requests repeat in headers cannot be said for several at once.
#[test]
fn a_batch_is_no_way_around_the_headers_of_a_stateless_request() {
    let door = Door::echo();
    let old = door.client("ann").hello("2025-03-26");
    let stateless = old.modern("tools/call", &tool("echo", json!({}))).1;
    assert_eq!(old.post(&stateless).refusal(), (400, -32020), "alone it needs them");
    let answer = old.post(&json!([stateless])).value();
    assert!(answer.get("error").is_some() || answer[0].get("error").is_some(), "{answer}");
    assert!(old.structured("calls")["echo"].is_null(), "nothing was called");
}

#[test]
fn a_session_is_initialized_once() {
    let door = Door::echo();
    let session = door.client("ann").hello("2025-06-18");
    let again = session.post(&opening(NEWEST)).value();
    assert_eq!(code(&again), -32600, "{again}");
    assert_eq!(door.sessions(), 1);
    assert_eq!(session.structured("echo")["name"], "echo");
    let batch = session.post(&json!([request("tools/list", &json!({}))]));
    assert_eq!(batch.status, 400, "its revision is the first one's still");
}

#[test]
fn a_session_that_nobody_uses_expires() {
    let door = Door::open(Setup::echo(), "session_idle_secs = 1");
    let (idle, listening) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    let standing = listening.listen();
    let busy = door.client("cat").hello(NEWEST);
    let slow = request("tools/call", &tool("slow", json!({"ms": 4_000}))).to_string();
    let working = Raw::sent(&door.address, post(&busy.with("connection", "close"), &slow).as_bytes());
    assert_eq!(door.sessions(), 3);
    eventually("the idle session's end", || (door.sessions() == 2).then_some(()));
    assert_eq!(used(&idle), [404; 4]);
    // A stream that is listened to and a call under way are use.
    assert_eq!(listening.structured("echo")["name"], "echo");
    let worked = working.ending();
    assert!(worked.text.contains("waited 4000 ms"), "{worked:?}");
    drop(standing);
    eventually("the end of all", || (door.sessions() == 0).then_some(()));
    assert_eq!(used(&listening), [404; 4]);
}

#[test]
fn there_are_only_so_many_sessions() {
    let door = Door::open(Setup::echo(), "max_sessions = 2");
    let first = door.client("ann").hello(NEWEST);
    let second = door.client("ann").hello(NEWEST);
    let refused = door.client("ann").post(&opening(NEWEST));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("mcp-session-id").is_none());
    assert_eq!(door.sessions(), 2);
    for session in [&first, &second] {
        assert_eq!(session.structured("echo")["name"], "echo", "those that are open stay so");
    }
    assert_eq!(door.client("ann").ask("tools/list", &json!({})).status, 200, "and none is needed");
    first.delete();
    let third = door.client("ann").hello(NEWEST);
    assert_eq!(third.structured("echo")["name"], "echo");
}

/// Sessions are capped for each caller too, or one of them shuts the door for all.
#[test]
fn one_person_cannot_take_all_sessions() {
    let door = Door::open(Setup::echo(), "max_sessions = 16");
    for _ in 0..32 {
        door.client("ann").post(&opening(NEWEST));
    }
    let bob = door.client("bob").hello(NEWEST);
    assert_eq!(bob.structured("echo")["name"], "echo");
}

/// Until 2025-11-25 a lost connection cancels nothing; `notifications/cancelled` does.
#[test]
fn hanging_up_is_no_cancellation_but_saying_so_is() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    let slow = |id: u64, ms: u64| {
        let params = tool("slow", json!({"ms": ms}));
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
    };
    let lost = Raw::sent(&door.address, post(&session, &slow(fresh(), 1_000)).as_bytes());
    eventually("the call", || (session.structured("calls")["slow"] == 1).then_some(()));
    drop(lost);
    let row = door.gateway.await_audit("the call", |rows| {
        rows.iter().find(|row| row["tool"] == "slow" && row["status"] != "pending").cloned()
    });
    assert_eq!(row["status"], "success", "{row}");
    assert_eq!(session.structured("cancelled")["requestIds"], json!([]));

    let id = fresh();
    let waiting =
        Raw::sent(&door.address, post(&session.with("connection", "close"), &slow(id, 60_000)).as_bytes());
    eventually("the call", || (session.structured("calls")["slow"] == 2).then_some(()));
    session.post(&notification("notifications/cancelled", &json!({"requestId": id})));
    let ending = waiting.ending();
    assert!(ending.closed && !ending.text.contains("waited"), "{ending:?}");
    eventually("the cancellation", || {
        (session.structured("cancelled")["requestIds"].as_array()?.len() == 1).then_some(())
    });
    assert_eq!(said(&session.call("slow", json!({"ms": 1}))), "waited 1 ms");
}
