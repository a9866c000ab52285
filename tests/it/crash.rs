//! Killed at any moment, the gateway loses no record: what a client was told is on record after the next start.

use std::collections::{HashMap, HashSet};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Gateway, Setup, eventually};

const ROUNDS: u64 = 20;
const CALLS: u64 = 120;

/// Starts a gateway, pours calls into it, kills it after some answers; the texts of the calls it answered.
fn round(setup: Setup, number: u64, acknowledged: &mut HashSet<String>) -> Setup {
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
    let done = answers.iter().filter(|answer| answer["result"].is_object());
    acknowledged.extend(done.filter_map(|answer| ids.get(&answer["id"].as_u64()?).cloned()));
    gateway.into_setup()
}

#[test]
fn every_acknowledged_call_is_on_record_after_twenty_kills() {
    let (mut setup, mut acknowledged) = (Setup::echo(), HashSet::new());
    for number in 0..ROUNDS {
        setup = round(setup, number, &mut acknowledged);
    }
    assert!(acknowledged.len() as u64 > ROUNDS * 5, "only {} calls were answered", acknowledged.len());
    // The next start replays what the killed ones left.
    let mut gateway = Gateway::start(setup);
    eventually("the replay", || {
        let rows = gateway.audit();
        let pending = rows.iter().filter(|row| row["status"] == "pending").count();
        let known: HashSet<&str> = rows.iter().filter_map(|row| row["arguments"]["text"].as_str()).collect();
        (pending == 0 && acknowledged.iter().all(|text| known.contains(text.as_str()))).then_some(())
    });
    gateway.end();
    let rows = gateway.audit();
    let mut statuses: HashMap<&str, Vec<&str>> = HashMap::new();
    for row in &rows {
        let text = row["arguments"]["text"].as_str().unwrap();
        statuses.entry(text).or_default().push(row["status"].as_str().unwrap());
    }
    for (text, statuses) in &statuses {
        let expected = if acknowledged.contains(*text) { &["success"][..] } else { &["success", "unknown"] };
        assert_eq!(statuses.len(), 1, "{text} has {statuses:?}");
        assert!(expected.contains(&statuses[0]), "{text} was acknowledged, and is on record as {statuses:?}");
    }
}
