//! When the key set is fetched, by whom, and what happens meanwhile; pure, with the time handed in.
//!
//! All instances of the plugin share one [`State`], in a cell of the gateway. The instance that swaps in a state that is
//! `pending` is the one that fetches: the swap is atomic, so there is only one.

use serde::{Deserialize, Serialize};

/// An attempt without a result is given up after this time; no request may take as long.
const ATTEMPT_MS: u64 = 8_000;
/// Without any usable key, nobody can come in: then the next attempt is made after this time at the latest.
const URGENT_MS: u64 = 5_000;
/// The shortest age at which keys are fetched again, whatever the server says, and the longest.
pub const AGES_S: std::ops::RangeInclusive<u64> = 60..=86_400;
/// Longest reason of a failure that is kept.
const MAX_FAILURE: usize = 300;

/// The operator's times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How old keys may get.
    pub max_age: u64,
    /// The least time between two attempts.
    pub refetch: u64,
    /// How long keys are used past their age while they cannot be fetched.
    pub stale: u64,
}

/// What all instances know of the key set. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The number of the last set that was fetched; 0 for none.
    pub set: u64,
    /// When it was fetched.
    pub fetched: u64,
    /// How old it may get.
    pub max_age: u64,
    /// When the last attempt began; 0 for none.
    pub tried: u64,
    /// Whether that attempt has no result yet.
    pub pending: bool,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// The keys that a token needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any keys; it has not been checked yet whether its own is among them.
    Any,
    /// A key that is not among those at hand.
    Another,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Judge by the keys at hand; there will be no others for now.
    Judge,
    /// Swap this state in and fetch.
    Fetch(State),
    /// Another instance fetches already: look again soon.
    Wait,
}

impl State {
    /// Whether tokens may be judged by the set.
    #[must_use]
    pub fn usable(&self, now: u64, times: Times) -> bool {
        // A clock that went back says nothing about age, so the distance counts.
        self.set > 0 && now.abs_diff(self.fetched) < self.max_age.saturating_add(times.stale)
    }

    /// The step of an instance whose token has this need.
    #[must_use]
    pub fn step(&self, need: Need, now: u64, times: Times) -> Step {
        let usable = self.usable(now, times);
        let due = self.set == 0 || now.abs_diff(self.fetched) >= self.max_age;
        if need == Need::Any && !due {
            return Step::Judge;
        }
        let since = now.abs_diff(self.tried);
        if self.pending && since < ATTEMPT_MS {
            // Keys that may still be used are used; nobody who is known waits for a server.
            return if usable && need == Need::Any { Step::Judge } else { Step::Wait };
        }
        let pause = if usable { times.refetch } else { times.refetch.min(URGENT_MS) };
        if self.tried > 0 && since < pause {
            return Step::Judge;
        }
        Step::Fetch(Self { tried: now, pending: true, ..self.clone() })
    }

    /// After a fetch: a new set, that may get this old (seconds) if the server said so.
    #[must_use]
    pub fn succeeded(&self, now: u64, server_max_age_s: Option<u64>, times: Times) -> Self {
        let said =
            server_max_age_s.map_or(times.max_age, |age| age.max(*AGES_S.start()).saturating_mul(1000));
        Self {
            // Never a number that was used before, even if the cell was lost meanwhile.
            set: self.tried.max(self.set + 1),
            // Not `now`: the keys are as old as the question.
            fetched: self.tried.min(now),
            max_age: said.min(times.max_age),
            tried: self.tried,
            pending: false,
            failure: None,
        }
    }

    /// After an attempt that failed.
    #[must_use]
    pub fn failed(&self, why: &str) -> Self {
        Self { pending: false, failure: Some(why.chars().take(MAX_FAILURE).collect()), ..self.clone() }
    }

    /// When the next attempt may be made, in milliseconds from now; at least 1 s, for clients that obey it.
    #[must_use]
    pub fn next_attempt_in(&self, now: u64, times: Times) -> u64 {
        let pause = if self.usable(now, times) { times.refetch } else { times.refetch.min(URGENT_MS) };
        pause.saturating_sub(now.abs_diff(self.tried)).max(1000)
    }

    /// How long an answer that hangs on these keys may be remembered: until they have to be looked at again.
    #[must_use]
    pub fn good_until(&self, now: u64, times: Times) -> u64 {
        self.fetched.saturating_add(self.max_age).max(now.saturating_add(times.refetch))
    }
}

/// `max-age` of a `Cache-Control` header; 0 for one that forbids keeping.
#[must_use]
pub fn server_max_age(cache_control: &str) -> Option<u64> {
    let directives = cache_control.split(',').map(str::trim);
    let mut age = None;
    for directive in directives {
        let lower = directive.to_ascii_lowercase();
        if lower == "no-store" || lower == "no-cache" {
            return Some(0);
        }
        if let Some(seconds) = lower.strip_prefix("max-age=") {
            age = seconds.trim_matches('"').parse().ok();
        }
    }
    age
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { max_age: 600_000, refetch: 30_000, stale: 3_600_000 };
    const T: u64 = 1_800_000_000_000;

    fn claimed(step: Step) -> State {
        match step {
            Step::Fetch(state) => state,
            other => panic!("no fetch: {other:?}"),
        }
    }

    /// A set that was fetched at [`T`].
    fn fetched() -> State {
        claimed(State::default().step(Need::Any, T, TIMES)).succeeded(T + 50, None, TIMES)
    }

    #[test]
    fn the_first_need_fetches_once_and_the_others_wait() {
        let claim = claimed(State::default().step(Need::Any, T, TIMES));
        assert!(claim.pending && claim.tried == T);
        assert_eq!(claim.step(Need::Any, T + 10, TIMES), Step::Wait);
        assert_eq!(claim.step(Need::Another, T + 10, TIMES), Step::Wait);
        let done = claim.succeeded(T + 50, None, TIMES);
        assert_eq!((done.set, done.fetched, done.pending), (T, T, false));
        assert_eq!(done.step(Need::Any, T + 60, TIMES), Step::Judge);
    }

    #[test]
    fn an_attempt_whose_instance_died_is_given_up() {
        let claim = claimed(State::default().step(Need::Any, T, TIMES));
        assert_eq!(claim.step(Need::Any, T + ATTEMPT_MS - 1, TIMES), Step::Wait);
        assert!(matches!(claim.step(Need::Any, T + ATTEMPT_MS, TIMES), Step::Fetch(_)));
    }

    #[test]
    fn unknown_keys_are_looked_for_once_in_an_interval() {
        let state = fetched();
        assert_eq!(state.step(Need::Another, T + 29_999, TIMES), Step::Judge);
        let claim = claimed(state.step(Need::Another, T + 30_000, TIMES));
        // Meanwhile tokens of known keys go on, and tokens whose key may be in the new set wait for it.
        assert_eq!(claim.step(Need::Any, T + 30_001, TIMES), Step::Judge);
        assert_eq!(claim.step(Need::Another, T + 30_001, TIMES), Step::Wait);
        let rotated = claim.succeeded(T + 30_100, None, TIMES);
        assert_eq!(rotated.set, T + 30_000);
        assert_eq!(rotated.step(Need::Another, T + 31_000, TIMES), Step::Judge);
    }

    #[test]
    fn keys_that_are_too_old_are_fetched_again_by_one_and_used_by_the_others() {
        let state = fetched();
        assert_eq!(state.step(Need::Any, T + 599_999, TIMES), Step::Judge);
        let claim = claimed(state.step(Need::Any, T + 600_000, TIMES));
        assert_eq!(claim.step(Need::Any, T + 600_001, TIMES), Step::Judge);
        assert!(claim.usable(T + 600_001, TIMES));
    }

    #[test]
    fn the_last_keys_serve_while_the_server_is_away_and_no_longer() {
        let failed = claimed(fetched().step(Need::Any, T + 600_000, TIMES)).failed("no answer");
        assert_eq!(failed.failure.as_deref(), Some("no answer"));
        assert!(failed.usable(T + 600_000, TIMES));
        // One attempt in an interval, and nobody waits in between.
        assert_eq!(failed.step(Need::Any, T + 601_000, TIMES), Step::Judge);
        assert_eq!(failed.step(Need::Another, T + 601_000, TIMES), Step::Judge);
        assert!(matches!(failed.step(Need::Any, T + 630_000, TIMES), Step::Fetch(_)));
        assert!(failed.usable(T + 4_199_999, TIMES) && !failed.usable(T + 4_200_000, TIMES));
    }

    #[test]
    fn without_keys_attempts_are_made_sooner_and_still_bounded() {
        let failed = claimed(State::default().step(Need::Any, T, TIMES)).failed("refused");
        assert!(!failed.usable(T, TIMES));
        assert_eq!(failed.step(Need::Any, T + URGENT_MS - 1, TIMES), Step::Judge);
        assert!(matches!(failed.step(Need::Any, T + URGENT_MS, TIMES), Step::Fetch(_)));
        assert_eq!(failed.next_attempt_in(T + 1_000, TIMES), 4_000);
        assert_eq!(failed.next_attempt_in(T + 60_000, TIMES), 1_000);
    }

    #[test]
    fn the_servers_age_shortens_and_never_lengthens() {
        let claim = claimed(State::default().step(Need::Any, T, TIMES));
        for (said, age) in [
            (None, 600_000),
            (Some(300), 300_000),
            (Some(5), 60_000),
            (Some(0), 60_000),
            (Some(u64::MAX), 600_000),
        ] {
            assert_eq!(claim.succeeded(T, said, TIMES).max_age, age, "{said:?}");
        }
        assert_eq!(server_max_age("public, max-age=3600, must-revalidate"), Some(3600));
        assert_eq!(server_max_age("Max-Age=\"60\""), Some(60));
        assert_eq!(server_max_age("max-age=60, no-store"), Some(0));
        assert_eq!(server_max_age("public, max-age=soon"), None);
        assert_eq!(server_max_age("s-maxage=1"), None);
    }

    #[test]
    fn a_clock_that_jumps_back_makes_keys_old_not_young() {
        let state = fetched();
        assert!(matches!(state.step(Need::Any, T - 700_000, TIMES), Step::Fetch(_)));
        assert!(!state.usable(T - 5_000_000, TIMES));
    }

    #[test]
    fn an_answer_is_remembered_until_the_keys_are_due() {
        let state = fetched();
        assert_eq!(state.good_until(T + 1_000, TIMES), T + 600_000);
        assert_eq!(state.good_until(T + 700_000, TIMES), T + 730_000);
    }
}
