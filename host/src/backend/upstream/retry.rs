//! Whether a request may be sent again: never one that may have had an effect, and never so many that a server that is
//! overloaded gets more to do for it.

use std::time::{Duration, Instant};

use http::Method;
use parking_lot::Mutex;

/// The share of requests that may be sent again.
const SHARE: f64 = 0.2;
/// So many may be sent again however few there are …
const LEAST: f64 = 3.0;
/// … and no more than this at once.
const MOST: f64 = 20.0;
/// How many seconds it takes until one more may be, if there are no other requests.
const EACH: f64 = 10.0;

/// What is left to be sent again.
#[derive(Debug)]
pub(super) struct Budget(Mutex<(f64, Instant)>);

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new((LEAST, now)))
    }

    /// Counts a request.
    pub(super) fn request(&self, now: Instant) {
        let mut state = self.0.lock();
        refill(&mut state, now);
        state.0 = (state.0 + SHARE).min(MOST);
    }

    /// Takes one, if there is one.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        refill(&mut state, now);
        let there = state.0 >= 1.0;
        if there {
            state.0 -= 1.0;
        }
        there
    }
}

fn refill(state: &mut (f64, Instant), now: Instant) {
    let passed = now.saturating_duration_since(state.1).as_secs_f64();
    if state.0 < LEAST {
        state.0 = (state.0 + passed / EACH).min(LEAST);
    }
    state.1 = state.1.max(now);
}

/// What went wrong with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// There was no connection, or the server said that it did not look at the request.
    Unseen,
    /// The connection broke before the head of an answer.
    Broken,
    /// The server answered 502, 503 or 504 and named no time to come back.
    Unwell,
}

/// Whether an attempt may be followed by another.
pub(super) fn may(method: &Method, miss: Miss) -> bool {
    // RFC 9110, section 9.2.1. PUT and DELETE are idempotent, but sent twice around another caller's they undo that one.
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    miss == Miss::Unseen || safe
}

/// How long to wait before the attempt of this number, the first of which is 1. `chance` is between 0 and 1.
pub(super) fn pause(attempt: u32, chance: f64) -> Duration {
    let most = 25.0 * f64::from(1_u32 << attempt.clamp(1, 8));
    Duration::from_secs_f64(most.min(250.0) * chance.clamp(0.0, 1.0) / 1000.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_had_no_effect_is_sent_again() {
        for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE] {
            assert!(may(&method, Miss::Unseen));
            assert!(!may(&method, Miss::Broken) && !may(&method, Miss::Unwell));
        }
        assert!(may(&Method::GET, Miss::Unwell) && may(&Method::HEAD, Miss::Broken));
        assert!(pause(1, 1.0) == Duration::from_millis(50) && pause(30, 1.0) == Duration::from_millis(250));
    }

    proptest! {
        /// However requests and failures come, those that are sent again are a fifth of all and a few.
        #[test]
        fn the_budget_holds(steps in prop::collection::vec((any::<bool>(), 0..2_000_u64), 1..400)) {
            let mut now = Instant::now();
            let start = now;
            let budget = Budget::new(now);
            let (mut requests, mut again) = (0.0, 0.0);
            for (is_request, ms) in steps {
                now += Duration::from_millis(ms);
                if is_request {
                    budget.request(now);
                    requests += 1.0;
                } else if budget.take(now) {
                    again += 1.0;
                }
            }
            let seconds = (now - start).as_secs_f64();
            prop_assert!(again <= LEAST + requests * SHARE + seconds / EACH + 1e-6, "{again} of {requests} in {seconds} s");
        }
    }
}
