//! Whose answer is whose, when everybody numbers their requests alike and shares one backend.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::client::{Client, Door, NEWEST, tool};
use crate::support::eventually;

const CALLS: u64 = 1_000;
const AT_ONCE: usize = 16;

/// A client, and whether it is in a session.
type Caller<'a> = (&'a str, &'a Client, bool);

/// Makes the call with this number as this client, and checks that all that comes back is its own.
fn check((name, client, session): Caller<'_>, tells: bool, number: u64) {
    // Numbers and texts, because both are allowed and must come back as they were.
    let token = if number.is_multiple_of(2) { json!(number) } else { json!(number.to_string()) };
    let owner = format!("{name} {number}");
    let mut params = tool(if tells { "progress" } else { "echo" }, json!({"text": owner}));
    params["_meta"] = json!({"progressToken": token});
    let (client, mut body) = if session {
        (client.clone(), json!({"jsonrpc": "2.0", "method": "tools/call", "params": params}))
    } else {
        client.modern("tools/call", &params)
    };
    body["id"] = token.clone();
    let answer = client.post(&body);
    assert_eq!(answer.status, 200, "{owner}: {answer:?}");
    let mut messages = answer.messages();
    let last = messages.pop().unwrap();
    assert_eq!(last["id"], token, "{owner}: {answer:?}");
    let steps: Vec<u64> = messages
        .iter()
        .map(|message| {
            assert_eq!(message["method"], "notifications/progress", "{owner}: {message}");
            assert_eq!(message["params"]["progressToken"], token, "{owner}: {message}");
            message["params"]["progress"].as_u64().unwrap()
        })
        .collect();
    if tells {
        assert_eq!(steps, [1, 2, 3], "{owner}: {answer:?}");
        assert_eq!(last["result"]["content"][0]["text"], "done", "{owner}: {last}");
    } else {
        assert_eq!(steps, [0; 0], "{owner} was told of another's progress: {answer:?}");
        assert_eq!(last["result"]["structuredContent"]["arguments"]["text"], *owner, "{last}");
    }
}

#[test]
fn a_thousand_calls_with_the_same_ids_and_tokens_all_reach_their_own() {
    let mut door = Door::echo();
    let (ann, bob) = (door.client("ann"), door.client("bob"));
    let (ann_inside, bob_inside) = (ann.hello(NEWEST), bob.hello("2025-06-18"));
    let mut standing = [ann_inside.listen(), bob_inside.listen()];
    // A client that has a list is told when the list changes.
    let has = [&ann_inside, &bob_inside].map(|session| session.tools().contains(&"whoami".to_owned()));
    assert_eq!(has, [true, true]);
    let callers: [Caller<'_>; 4] = [
        ("ann in her session", &ann_inside, true),
        ("bob in his session", &bob_inside, true),
        ("ann without", &ann, false),
        ("bob without", &bob, false),
    ];
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= CALLS {
                        return;
                    }
                    // The four take the same number one after the other, so it is under way four times at once. Who
                    // of them asks for progress changes with the number, so that what goes astray is seen.
                    let (who, number) = (usize::try_from(turn % 4).unwrap(), turn / 4);
                    check(callers[who], number >> who & 1 == 1, number);
                }
            });
        }
    });
    let calls = ann_inside.structured("calls");
    let made = |name: &str| calls[name].as_u64().unwrap();
    assert_eq!(made("echo") + made("progress"), CALLS, "each was made once, and all at one backend: {calls}");
    // Nothing of it was said on the standing streams: the first thing there is the change that is made now.
    door.gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"whoami\"]"));
    for stream in &mut standing {
        let message: Value = stream.next().unwrap();
        assert_eq!(message["method"], "notifications/tools/list_changed", "{message}");
    }
}

#[test]
fn an_id_that_is_under_way_in_one_session_is_free_in_another() {
    let door = Door::echo();
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    let call = |name: &str, ms: u64| json!({"jsonrpc": "2.0", "id": "the same", "method": "tools/call", "params": tool(name, json!({"ms": ms}))});
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ann.post(&call("slow", 60_000)));
        eventually("the call", || (bob.structured("calls")["slow"] == 1).then_some(()));
        assert_eq!(bob.post(&call("slow", 1)).value()["result"]["content"][0]["text"], "waited 1 ms");
        // Neither can one cancel the other's, nor the other one's doubling end the first.
        let cancel = |client: &Client| {
            let params = json!({"requestId": "the same"});
            client.post(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))
        };
        assert_eq!(cancel(&bob).status, 202);
        let doubled = ann.post(&call("echo", 1)).value();
        assert_eq!(doubled["error"]["code"], -32600, "{doubled}");
        assert_eq!(bob.structured("cancelled")["requestIds"], json!([]));
        assert!(!waiting.is_finished());
        assert_eq!(cancel(&ann).status, 202);
        assert_eq!(waiting.join().unwrap().text, "", "who cancels is not answered");
    });
    assert_eq!(bob.structured("cancelled")["requestIds"].as_array().unwrap().len(), 1);
}
