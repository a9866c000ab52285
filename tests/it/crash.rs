//! Killed at any moment, the gateway loses no record: what a client was told is on record after the next start.

use std::collections::HashMap;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Gateway, Setup};

const ROUNDS: u64 = 20;
const CALLS: u64 = 120;

/// The calls that were answered, by their text, and whether by a result.
type Acknowledged = HashMap<String, bool>;

/// Starts a gateway, pours calls into it, and kills it after some answers.
fn round(setup: Setup, number: u64, acknowledged: &mut Acknowledged) -> Setup {
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let text = |call: u64| format!("round {number} call {call}");
    let ids: HashMap<u64, String> =
        (0..CALLS).map(|call| (gateway.begin("echo", json!({"text": text(call)})), text(call))).collect();
    // Another moment in every round, from before the first answer to nearly the last.
    let first = ids.keys().min().unwrap();
    let mut answers: Vec<Value> = (0..number * 5).map(|call| gateway.answer(first + call)).collect();
    gateway.signal(Signal::KILL);
    gateway.wait_exit();
    answers.extend(gateway.rest().into_iter().map(|message| message.value));
    for answer in answers {
        if let Some(text) = answer["id"].as_u64().and_then(|id| ids.get(&id)) {
            acknowledged.insert(text.clone(), answer["result"].is_object());
        }
    }
    gateway.into_setup()
}

#[test]
fn every_acknowledged_call_is_on_record_after_twenty_kills() {
    let (mut setup, mut acknowledged) = (Setup::echo(), Acknowledged::new());
    for number in 0..ROUNDS {
        setup = round(setup, number, &mut acknowledged);
    }
    assert!(acknowledged.len() as u64 > ROUNDS * 5, "only {} calls were answered", acknowledged.len());
    // The next start replays what the killed ones left.
    let mut gateway = Gateway::start(setup);
    gateway.await_audit("what was acknowledged", |rows| {
        let pending = rows.iter().filter(|row| row["status"] == "pending").count();
        let known = |text: &String| rows.iter().any(|row| row["arguments"]["text"] == **text);
        (pending == 0 && acknowledged.keys().all(known)).then_some(())
    });
    gateway.end();
    let rows = gateway.audit();
    let mut statuses: HashMap<&str, Vec<&str>> = HashMap::new();
    for row in &rows {
        let text = row["arguments"]["text"].as_str().unwrap();
        statuses.entry(text).or_default().push(row["status"].as_str().unwrap());
    }
    for (text, statuses) in &statuses {
        let [status] = statuses.as_slice() else { panic!("{text} is on record as {statuses:?}") };
        match acknowledged.get(*text) {
            Some(true) => assert_eq!(*status, "success", "{text} was answered with a result"),
            Some(false) => assert_eq!(*status, "error", "{text} was answered with an error"),
            // Done and recorded, but killed before the answer was out; or killed before it was done.
            None => assert!(["success", "error", "unknown"].contains(status), "{text} is {status}"),
        }
    }
}
