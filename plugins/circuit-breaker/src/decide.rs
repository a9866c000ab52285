//! The circuit of one backend as a pure state machine: closed, open, or half-open, when one call probes it.
//!
//! Every change of state begins a new generation of the circuit, and a result counts only for the generation that let
//! its call through: a call from before the circuit opened can neither close it nor open it again.

use sentinel_plugin_sdk::{Field, Outcome, Refusal};

use crate::config::Rules;

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

/// Into how many buckets the window of the failure rate is cut.
pub(crate) const BUCKETS: usize = 10;

/// While a probe is under way its end is not known; the others are told to ask again after this time.
const ASK_AGAIN_MS: u64 = 1_000;

/// The circuit of one backend. The default is that of a backend nothing is known about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Circuit {
    /// Grows with every change of state.
    pub(crate) generation: u64,
    pub(crate) state: State,
}

/// Times are nanoseconds of the store's clock, which goes on over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Calls pass.
    Closed { consecutive: u32, recent: Recent },
    /// No call passes before `until`; `trips` counts how often in a row the circuit has opened.
    Open { until: u64, trips: u32 },
    /// One call has been let through to try the backend, at `since`.
    HalfOpen { since: u64, trips: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { consecutive: 0, recent: Recent::default() }
    }
}

/// Successes and failures of the recent past, in buckets of a tenth of the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recent {
    /// The width of a bucket; when the configuration changes it, the counts begin anew.
    pub(crate) width_ms: u64,
    /// The bucket last written to.
    pub(crate) head: u64,
    /// Successes and failures.
    pub(crate) buckets: [(u32, u32); BUCKETS],
}

impl Recent {
    fn record(&mut self, failed: bool, rules: &Rules, now: u64) {
        let width_ms = (rules.window_ms / BUCKETS as u64).max(1);
        let head = now / (width_ms * MS);
        // A head in the future is of another width, or of a store that was lost.
        if self.width_ms != width_ms || self.head > head {
            *self = Self { width_ms, head, buckets: Default::default() };
        }
        let passed = (head - self.head).min(BUCKETS as u64);
        for step in 1..=passed {
            self.buckets[place(self.head + step)] = (0, 0);
        }
        // After a longer pause every bucket has been emptied, wherever the loop began.
        self.head = head;
        let bucket = &mut self.buckets[place(head)];
        let count = if failed { &mut bucket.1 } else { &mut bucket.0 };
        *count = count.saturating_add(1);
    }

    fn too_many_failed(&self, rules: &Rules) -> bool {
        let (mut calls, mut failures) = (0u64, 0u64);
        for (ok, failed) in self.buckets {
            calls += u64::from(ok) + u64::from(failed);
            failures += u64::from(failed);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let share = failures as f64 / calls.max(1) as f64;
        calls >= u64::from(rules.min_calls) && share >= rules.failure_rate
    }
}

fn place(bucket: u64) -> usize {
    usize::try_from(bucket % BUCKETS as u64).unwrap_or(0)
}

/// What a result says about the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    Ill,
    /// Nothing: the call did not reach it, or it only asked for patience.
    Unknown,
}

/// A tool that reports a problem and a caller's mistake both show a backend that works.
pub(crate) fn health(outcome: Outcome) -> Health {
    match outcome {
        Outcome::Success | Outcome::ToolError | Outcome::InvalidRequest => Health::Well,
        Outcome::ServerError | Outcome::Timeout | Outcome::Unreachable | Outcome::ProtocolError => {
            Health::Ill
        }
        Outcome::Throttled | Outcome::Cancelled => Health::Unknown,
    }
}

/// The answer to a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It passes with this permit.
    Pass(u64),
    /// It passes as the probe, if the circuit can be changed to this one.
    Probe(Circuit, u64),
    /// It does not pass.
    Refuse { retry_after_ms: u64, probing: bool },
}

impl Circuit {
    /// Whether a call may pass now. A closed circuit does not ask for the time.
    pub(crate) fn check(&self, rules: &Rules, now: impl FnOnce() -> u64) -> Check {
        match self.state {
            State::Closed { .. } => Check::Pass(self.generation << 1),
            State::Open { until, trips } => {
                let now = now();
                let wait = until.saturating_sub(now);
                // No circuit is open for longer than the cap: such a time is an old rule's, or of a store that was lost.
                if wait == 0 || wait > rules.max_recovery_ms.saturating_mul(MS) {
                    return self.probe(trips, now);
                }
                Check::Refuse { retry_after_ms: wait.div_ceil(MS), probing: false }
            }
            State::HalfOpen { since, trips } => {
                let now = now();
                let patience = rules.probe_timeout_ms.saturating_mul(MS);
                match now.checked_sub(since).map(|age| patience.saturating_sub(age)) {
                    Some(left) if left > 0 => {
                        Check::Refuse { retry_after_ms: left.div_ceil(MS).min(ASK_AGAIN_MS), probing: true }
                    }
                    _ => self.probe(trips, now),
                }
            }
        }
    }

    fn probe(&self, trips: u32, now: u64) -> Check {
        let next = self.next(State::HalfOpen { since: now, trips });
        let permit = next.generation << 1 | 1;
        Check::Probe(next, permit)
    }

    /// What the circuit becomes when the call with this permit has ended; none if it stays as it is.
    pub(crate) fn settle(&self, rules: &Rules, permit: u64, health: Health, now: u64) -> Option<Self> {
        if permit >> 1 != self.generation & (u64::MAX >> 1) {
            return None;
        }
        match &self.state {
            State::Closed { consecutive, recent } => {
                self.settle_closed(rules, *consecutive, recent, health, now)
            }
            // An open circuit lets no call through, so no result belongs to it.
            State::Open { .. } => None,
            State::HalfOpen { trips, .. } => Some(match health {
                // The backoff begins anew: a backend that has answered is trusted like any other.
                Health::Well => self.next(State::default()),
                Health::Ill => self.open(rules, *trips, now),
                Health::Unknown => self.next(State::Open { until: now, trips: *trips }),
            }),
        }
    }

    /// A success never opens the circuit, even if it is the result that makes a bad share count.
    fn settle_closed(
        &self,
        rules: &Rules,
        consecutive: u32,
        recent: &Recent,
        health: Health,
        now: u64,
    ) -> Option<Self> {
        let failed = match health {
            Health::Unknown => return None,
            Health::Well => false,
            Health::Ill => true,
        };
        let by_rate = rules.failure_rate > 0.0;
        if !failed && consecutive == 0 && !by_rate {
            return None;
        }
        let consecutive = if failed { consecutive.saturating_add(1) } else { 0 };
        let mut recent = recent.clone();
        if by_rate {
            recent.record(failed, rules, now);
        }
        let in_a_row = rules.consecutive_failures > 0 && consecutive >= rules.consecutive_failures;
        if failed && (in_a_row || by_rate && recent.too_many_failed(rules)) {
            return Some(self.open(rules, 0, now));
        }
        Some(Self { generation: self.generation, state: State::Closed { consecutive, recent } })
    }

    fn open(&self, rules: &Rules, trips: u32, now: u64) -> Self {
        let factor = 1u64.checked_shl(trips).unwrap_or(u64::MAX);
        let pause_ms = rules.recovery_ms.saturating_mul(factor).min(rules.max_recovery_ms);
        let until = now.saturating_add(pause_ms.saturating_mul(MS));
        self.next(State::Open { until, trips: trips.saturating_add(1) })
    }

    fn next(&self, state: State) -> Self {
        Self { generation: self.generation.wrapping_add(1), state }
    }
}

/// The log line about a change: that a circuit opens, why, and that it is closed again. Callers are only told that it
/// is open.
pub(crate) fn news(
    backend: &str,
    before: &Circuit,
    after: &Circuit,
    rules: &Rules,
    outcome: Outcome,
) -> Option<String> {
    let why = match outcome {
        Outcome::Timeout => "it did not answer in time",
        Outcome::Unreachable => "it could not be reached, or died",
        Outcome::ProtocolError => "it did not answer in the protocol",
        _ => "it answered with an error of its own",
    };
    match (&before.state, &after.state) {
        (State::Closed { .. }, State::Open { .. }) => Some(format!(
            "the circuit of the backend {backend:?} is open, because it failed too often (the last time {why}); its calls are refused, and in {} s one may try it",
            rules.recovery_ms.div_ceil(1_000)
        )),
        (State::HalfOpen { .. }, State::Open { trips, .. }) if health(outcome) == Health::Ill => {
            Some(format!(
                "the circuit of the backend {backend:?} stays open, for longer than before: the call that tried it failed ({why}); it opened {trips} times in a row"
            ))
        }
        (State::HalfOpen { .. }, State::Closed { .. }) => Some(format!(
            "the circuit of the backend {backend:?} is closed: the call that tried it was answered"
        )),
        _ => None,
    }
}

/// The refusal while the circuit is open.
pub(crate) fn refused(backend: &str, retry_after_ms: u64, probing: bool) -> Refusal {
    let seconds = retry_after_ms.div_ceil(1_000);
    let why = if probing {
        "is being tried out by one call after failing"
    } else {
        "failed too often and is left alone"
    };
    Refusal {
        retry_after_ms: Some(retry_after_ms),
        details: vec![Field { name: "backend".to_owned(), value: backend.to_owned() }],
        ..Refusal::new("circuit_open", format!("The backend {backend:?} {why}; try again in {seconds} s."))
    }
}

/// The refusal while the circuit cannot be read or changed.
pub(crate) fn unavailable(backend: &str) -> Refusal {
    let message =
        format!("The state of the backend {backend:?} could not be checked, so the call was refused.");
    Refusal::new("state_unavailable", message)
}

#[cfg(test)]
mod tests;
