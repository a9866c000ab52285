//! The promises of a circuit breaker, under random interleavings of calls that start, end late and vanish.

use proptest::prelude::*;

use super::*;
use crate::codec;

const ALL: [Outcome; 9] = [
    Outcome::Success,
    Outcome::ToolError,
    Outcome::InvalidRequest,
    Outcome::Throttled,
    Outcome::ServerError,
    Outcome::Timeout,
    Outcome::Unreachable,
    Outcome::ProtocolError,
    Outcome::Cancelled,
];

fn rules() -> Rules {
    Rules {
        consecutive_failures: 3,
        recovery_ms: 100,
        max_recovery_ms: 500,
        failure_rate: 0.0,
        min_calls: 6,
        window_ms: 1_000,
        probe_timeout_ms: 300,
    }
}

#[derive(Clone, Debug)]
enum Event {
    Call,
    /// The in-flight call of this rank ends so.
    End(usize, usize),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Call),
        // Failures often enough that circuits open.
        3 => (0usize..8, 4usize..8).prop_map(|(call, outcome)| Event::End(call, outcome)),
        2 => (0usize..8, 0usize..9).prop_map(|(call, outcome)| Event::End(call, outcome)),
        2 => (0u64..250).prop_map(Event::Wait),
    ];
    proptest::collection::vec(event, 1..250)
}

struct InFlight {
    permit: u64,
    generation: u64,
    started: u64,
}

/// What an observer outside of the machine knows.
#[derive(Default)]
struct Witness {
    /// Results that count, of the present closed generation: when, and whether they failed.
    results: Vec<(u64, bool)>,
    /// The pause of the last opening since the circuit was last closed.
    last_pause: u64,
    opened: Option<(u64, u64)>,
}

fn run(rules: &Rules, events: Vec<Event>) -> Result<(), TestCaseError> {
    let (mut circuit, mut now) = (Circuit::default(), 0);
    let mut calls: Vec<InFlight> = Vec::new();
    let mut witness = Witness::default();
    for event in events {
        match event {
            Event::Wait(ms) => now += ms * MS,
            Event::Call => match circuit.check(rules, || now) {
                Check::Refuse { retry_after_ms, .. } => {
                    // A refusal is never for ever: after the wait it names a call passes, whatever became of a probe.
                    prop_assert!(retry_after_ms > 0);
                    let late = now + (rules.max_recovery_ms + rules.probe_timeout_ms) * MS;
                    let is_probe = matches!(circuit.check(rules, || late), Check::Probe(..));
                    prop_assert!(is_probe);
                }
                Check::Pass(permit) => {
                    let closed = matches!(circuit.state, State::Closed { .. });
                    prop_assert!(closed);
                    prop_assert_eq!(permit & 1, 0);
                    calls.push(InFlight { permit, generation: circuit.generation, started: now });
                }
                Check::Probe(next, permit) => {
                    // Nothing passes before the time; an unknown end of a probe lets the next one try at once.
                    if let Some((_, until)) = witness.opened {
                        prop_assert!(now >= until);
                    }
                    // One probe at a time, unless the other was given up.
                    let out = calls.iter().filter(|call| {
                        call.generation == circuit.generation
                            && call.permit & 1 == 1
                            && now - call.started < rules.probe_timeout_ms * MS
                    });
                    prop_assert_eq!(out.count(), 0);
                    let half_open = matches!(next.state, State::HalfOpen { .. });
                    prop_assert!(half_open);
                    prop_assert_eq!(permit & 1, 1);
                    prop_assert_eq!(next.generation, circuit.generation + 1);
                    circuit = next;
                    witness.opened = None;
                    calls.push(InFlight { permit, generation: circuit.generation, started: now });
                }
            },
            Event::End(rank, outcome) if !calls.is_empty() => {
                let call = calls.remove(rank % calls.len());
                let health = health(ALL[outcome]);
                let next = circuit.settle(rules, call.permit, health, now);
                if call.generation != circuit.generation {
                    // P4
                    prop_assert_eq!(next, None);
                    continue;
                }
                judge(rules, &circuit, next.as_ref(), health, now, &mut witness)?;
                circuit = next.unwrap_or(circuit);
            }
            Event::End(..) => {}
        }
        prop_assert_eq!(codec::decode(&codec::encode(&circuit)), Some(circuit.clone()));
    }
    Ok(())
}

fn judge(
    rules: &Rules,
    before: &Circuit,
    after: Option<&Circuit>,
    health: Health,
    now: u64,
    witness: &mut Witness,
) -> Result<(), TestCaseError> {
    let closed = matches!(before.state, State::Closed { .. });
    if closed && health != Health::Unknown {
        witness.results.push((now, health == Health::Ill));
    }
    let opened = match after.map(|circuit| &circuit.state) {
        Some(State::Open { until, .. }) => Some(*until),
        _ => None,
    };
    if closed {
        // The circuit opens exactly when enough calls failed, in a row or in the window; both counted from the plain list.
        let row = witness.results.iter().rev().take_while(|(_, failed)| *failed).count();
        let by_row = rules.consecutive_failures > 0 && row >= rules.consecutive_failures as usize;
        let bucket = rules.window_ms / 10 * MS;
        let recent = witness.results.iter().filter(|(at, _)| at / bucket + 9 >= now / bucket);
        let (all, failed) =
            recent.fold((0u32, 0u32), |(all, failed), (_, ill)| (all + 1, failed + u32::from(*ill)));
        let by_rate = rules.failure_rate > 0.0
            && all >= rules.min_calls
            && f64::from(failed) >= rules.failure_rate * f64::from(all);
        let expected = health == Health::Ill && (by_row || by_rate);
        prop_assert_eq!(opened.is_some(), expected, "{:?} {:?}", before, after);
        if expected {
            witness.last_pause = 0;
        }
    } else {
        // What the probe found decides; a cancelled or throttled one found nothing.
        let now_closed = matches!(after.map(|circuit| &circuit.state), Some(State::Closed { .. }));
        prop_assert_eq!(now_closed, health == Health::Well);
        prop_assert_eq!(opened.is_some(), health != Health::Well);
    }
    if let Some(until) = opened {
        witness.results.clear();
        witness.opened = Some((now, until));
        let pause = until - now;
        if health == Health::Unknown {
            prop_assert_eq!(pause, 0);
        } else {
            // The pause doubles up to the cap, and never shrinks before the backend has answered.
            let due = (witness.last_pause * 2).clamp(rules.recovery_ms * MS, rules.max_recovery_ms * MS);
            prop_assert_eq!(pause, due);
            witness.last_pause = pause;
        }
    }
    if let Some(after) = after {
        let same = std::mem::discriminant(&before.state) == std::mem::discriminant(&after.state);
        prop_assert_eq!(after.generation, before.generation + u64::from(!same));
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_promises_hold_when_counting_in_a_row(events in events()) {
        run(&rules(), events)?;
    }

    #[test]
    fn the_promises_hold_when_counting_shares(events in events()) {
        run(&Rules { consecutive_failures: 0, failure_rate: 0.5, ..rules() }, events)?;
    }

    #[test]
    fn the_promises_hold_with_both(events in events()) {
        run(&Rules { failure_rate: 0.4, ..rules() }, events)?;
    }
}

#[test]
fn every_outcome_is_judged_as_documented() {
    let ill = [Outcome::ServerError, Outcome::Timeout, Outcome::Unreachable, Outcome::ProtocolError];
    let unknown = [Outcome::Throttled, Outcome::Cancelled];
    for outcome in ALL {
        let expected = if ill.contains(&outcome) {
            Health::Ill
        } else if unknown.contains(&outcome) {
            Health::Unknown
        } else {
            Health::Well
        };
        assert_eq!(health(outcome), expected);
    }
}

#[test]
fn a_success_changes_nothing_where_nothing_counts_it() {
    let circuit = Circuit::default();
    assert_eq!(circuit.settle(&rules(), 0, Health::Well, 5), None);
    let by_rate = Rules { failure_rate: 0.5, ..rules() };
    assert!(circuit.settle(&by_rate, 0, Health::Well, 5).is_some());
}

#[test]
fn a_state_from_another_clock_does_not_lock_anybody_out() {
    let far = u64::MAX / 2;
    for state in [State::Open { until: far, trips: 1 }, State::HalfOpen { since: far, trips: 1 }] {
        let circuit = Circuit { generation: 7, state };
        assert!(matches!(circuit.check(&rules(), || 10), Check::Probe(next, 17) if next.generation == 8));
    }
    let old = Recent { width_ms: 100, head: far, buckets: [(9, 9); BUCKETS] };
    let circuit = Circuit { generation: 0, state: State::Closed { consecutive: 0, recent: old } };
    let by_rate = Rules { failure_rate: 0.5, ..rules() };
    let next = circuit.settle(&by_rate, 0, Health::Ill, 10);
    assert!(matches!(next, Some(Circuit { state: State::Closed { consecutive: 1, .. }, .. })));
}

#[test]
fn the_refusal_names_the_backend_and_the_time() {
    let refusal = refused("files", 29_001, false);
    assert_eq!(
        refusal.message,
        r#"The backend "files" failed too often and is left alone; try again in 30 s."#
    );
    assert_eq!((refusal.reason.as_str(), refusal.retry_after_ms), ("circuit_open", Some(29_001)));
    assert_eq!(refused("files", 1_000, true).reason, "circuit_open");
}
