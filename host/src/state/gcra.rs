//! A rate that is one: a GCRA cell spaces the calls, and a count over the window keeps the ceiling.
//!
//! GCRA alone admits `burst + rate * t` in a time `t`, which for `t` = window is up to twice the limit.

use super::record::{Keep, Kind, Reader};
use super::ring::Ring;
use super::{Rate, Take};

/// Nanoseconds in a millisecond.
pub(super) const MS: u64 = 1_000_000;

/// Bits behind the point: intervals are kept in 2^-32 ns, so that no rate is rounded noticeably.
const POINT: u32 = 32;

/// The amount that one key has spent.
#[derive(Clone, Debug)]
pub(super) struct Spent {
    /// The theoretical arrival time of the next unit (ns, fixed point): units are owed until then.
    owed_until: u128,
    /// The emission interval that `owed_until` was reckoned with.
    interval: u128,
    ring: Ring,
}

/// The answer, and how long the state behind it matters.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    pub(super) remaining: u32,
    /// When the same cost can be taken (ns of the shard's time); only for a refusal.
    pub(super) free_at: u64,
    /// When the state will equal a fresh one.
    pub(super) fresh_at: u64,
    /// The state is another one than before, beyond what passing time alone makes of it.
    pub(super) changed: bool,
}

/// Whether `cost` can ever be taken at this rate.
pub(super) fn possible(cost: u32, rate: Rate) -> bool {
    rate.limit > 0 && rate.window_ms > 0 && cost <= rate.limit.min(rate.burst)
}

/// The answer to a cost that can never be taken: the caller is told to wait a whole window.
pub(super) fn never(rate: Rate) -> Take {
    Take { allowed: false, remaining: 0, retry_after_ms: u64::from(rate.window_ms).max(1) }
}

impl Spent {
    /// Nothing is spent.
    pub(super) fn fresh(rate: Rate, now: u64) -> Self {
        Self { owed_until: 0, interval: interval(rate), ring: Ring::new(window_ns(rate), now) }
    }

    /// Takes `cost` units or nothing. The rate must make that [`possible`].
    pub(super) fn take(&mut self, cost: u32, rate: Rate, now: u64) -> Verdict {
        let resized = self.ring.advance(window_ns(rate), now);
        let now_fixed = fixed(now);
        let rescaled = self.rescale(interval(rate), now_fixed);
        let tolerance = self.interval * u128::from(rate.burst);
        let after = self.owed_until.max(now_fixed) + self.interval * u128::from(cost);
        let fits = self.ring.total() + u64::from(cost) <= u64::from(rate.limit);
        let allowed = after <= now_fixed + tolerance && fits;
        let mut free_at = now;
        if allowed {
            // A cost of 0 is a question: it leaves no trace.
            if cost > 0 {
                self.owed_until = after;
                self.ring.add(cost);
            }
        } else {
            let spaced = ceil_ns(after.saturating_sub(tolerance));
            let below = u64::from(rate.limit).saturating_sub(u64::from(cost));
            free_at = spaced.max(self.ring.falls_to(below));
        }
        Verdict {
            allowed,
            changed: allowed && cost > 0 || resized || rescaled,
            remaining: self.remaining(rate, now_fixed),
            free_at,
            fresh_at: ceil_ns(self.owed_until).max(if self.ring.total() > 0 {
                self.ring.empty_at()
            } else {
                now
            }),
        }
    }

    /// A changed rate keeps the number of units owed, not the time: raising a limit must not leave
    /// anybody waiting for what the old one demanded.
    fn rescale(&mut self, interval: u128, now_fixed: u128) -> bool {
        if interval == self.interval {
            return false;
        }
        let owed = self.owed_until.saturating_sub(now_fixed);
        self.owed_until = now_fixed + owed.div_ceil(self.interval) * interval;
        self.interval = interval;
        true
    }

    fn remaining(&self, rate: Rate, now_fixed: u128) -> u32 {
        let tolerance = self.interval * u128::from(rate.burst);
        let room = (now_fixed + tolerance).saturating_sub(self.owed_until.max(now_fixed));
        let spaced = u32::try_from(room / self.interval).unwrap_or(u32::MAX);
        let counted = u64::from(rate.limit).saturating_sub(self.ring.total());
        spaced.min(u32::try_from(counted).unwrap_or(u32::MAX))
    }
}

impl Keep for Box<Spent> {
    const KIND: Kind = Kind::Spent;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.owed_until.to_le_bytes());
        out.extend_from_slice(&self.interval.to_le_bytes());
        self.ring.write(out);
    }

    fn read(from: &mut Reader<'_>, now: u64) -> Option<Self> {
        let (owed_until, interval) = (from.u128()?, from.u128()?);
        let ring = Ring::read(from, now)?;
        // No rate has a longer interval, and none lets anybody owe more units than it has bits for.
        let longest = fixed(u64::from(u32::MAX) * MS);
        let sound = (1..=longest).contains(&interval)
            && owed_until.saturating_sub(fixed(now)) / interval <= u128::from(u32::MAX);
        sound.then(|| Box::new(Spent { owed_until, interval, ring }))
    }

    fn stricter(one: (Self, u64), other: (Self, u64), now: u64) -> (Self, u64) {
        let ((mut spent, expires), (second, until)) = (one, other);
        if spent.interval == second.interval && spent.ring.same_window(&second.ring) {
            spent.owed_until = spent.owed_until.max(second.owed_until);
            spent.ring.join(second.ring, now);
            return (spent, expires.max(until));
        }
        // Made under two rates, they cannot be compared: the one that is remembered for longer.
        if until > expires { (second, until) } else { (spent, expires) }
    }
}

fn window_ns(rate: Rate) -> u64 {
    u64::from(rate.window_ms) * MS
}

/// The emission interval, rounded up: too slow by less than 2^-32 ns, never too fast.
fn interval(rate: Rate) -> u128 {
    fixed(window_ns(rate)).div_ceil(u128::from(rate.limit.max(1))).max(1)
}

fn fixed(ns: u64) -> u128 {
    u128::from(ns) << POINT
}

fn ceil_ns(fixed: u128) -> u64 {
    u64::try_from(fixed.div_ceil(1 << POINT)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates() -> impl Strategy<Value = Rate> {
        (1u32..40, 1u32..2_000, 1u32..60).prop_map(|(limit, window_ms, burst)| Rate {
            limit,
            window_ms,
            burst,
        })
    }

    proptest! {
        /// R1 and the ceiling, over every interval that begins and ends with an admission.
        #[test]
        fn no_sliding_interval_holds_too_much(
            rate in rates(),
            calls in proptest::collection::vec((0u64..400_000_000, 1u32..4), 1..120),
        ) {
            let (mut now, mut spent) = (0, Spent::fresh(rate, 0));
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (step, cost) in calls {
                // Many calls at one instant, and some pauses.
                now += if step % 3 == 0 { step } else { step % 5_000 };
                if possible(cost, rate) && spent.take(cost, rate, now).allowed {
                    admitted.push((now, u64::from(cost)));
                }
            }
            for (first, (from, _)) in admitted.iter().enumerate() {
                let mut sum: u128 = 0;
                for (to, cost) in &admitted[first..] {
                    sum += u128::from(*cost);
                    let elapsed = to - from;
                    if elapsed <= window_ns(rate) {
                        prop_assert!(sum <= u128::from(rate.limit), "{} units in {} ns", sum, elapsed);
                    }
                    // sum <= burst + limit * elapsed / window, without division
                    let window = u128::from(window_ns(rate));
                    prop_assert!(sum * window <= u128::from(rate.burst) * window
                        + u128::from(rate.limit) * u128::from(elapsed));
                }
            }
        }

        /// R2: after the time named, and not one nanosecond of the shard earlier, the same cost is admitted.
        #[test]
        fn the_time_named_is_exact(
            rate in rates(), cost in 1u32..4,
            calls in proptest::collection::vec(0u64..30_000_000, 1..80),
        ) {
            prop_assume!(possible(cost, rate));
            let (mut now, mut spent) = (0, Spent::fresh(rate, 0));
            for step in calls {
                now += step;
                let verdict = spent.clone().take(cost, rate, now);
                if verdict.allowed {
                    spent.take(cost, rate, now);
                } else {
                    prop_assert!(verdict.free_at > now);
                    prop_assert!(!spent.clone().take(cost, rate, verdict.free_at - 1).allowed);
                    prop_assert!(spent.clone().take(cost, rate, verdict.free_at).allowed);
                    // Consumes nothing: asking first changes neither of the two.
                    spent.take(cost, rate, now);
                    prop_assert!(spent.clone().take(cost, rate, verdict.free_at).allowed);
                }
            }
        }

        /// What is dropped at `fresh_at` could not have been told from a fresh state.
        #[test]
        fn fresh_means_fresh(rate in rates(), steps in proptest::collection::vec(0u64..9_000_000, 1..60)) {
            let (mut now, mut spent) = (0, Spent::fresh(rate, 0));
            let mut fresh_at = 0;
            for step in steps {
                now += step;
                fresh_at = spent.take(1, rate, now).fresh_at.max(now);
            }
            let old = spent.take(1, rate, fresh_at);
            let new = Spent::fresh(rate, fresh_at).take(1, rate, fresh_at);
            prop_assert_eq!((old.allowed, old.remaining), (new.allowed, new.remaining));
        }

        /// R3: units spent under one rate stay spent under the next.
        #[test]
        fn a_new_limit_refills_nothing(limit in 2u32..50, spend in 1u32..50, new in 1u32..100) {
            let spend = spend.min(limit);
            let old = Rate { limit, window_ms: 60_000, burst: limit };
            let mut spent = Spent::fresh(old, 0);
            prop_assert!(spent.take(spend, old, 0).allowed);
            let changed = Rate { limit: new, window_ms: 60_000, burst: new };
            prop_assert_eq!(spent.take(0, changed, 0).remaining, new.saturating_sub(spend));
        }
    }

    #[test]
    fn a_raised_limit_does_not_leave_old_waits_behind() {
        let slow = Rate { limit: 1, window_ms: 60_000, burst: 1 };
        let quick = Rate { limit: 1_000, window_ms: 60_000, burst: 1 };
        let mut spent = Spent::fresh(slow, 0);
        assert!(spent.take(1, slow, 0).allowed);
        let verdict = spent.take(1, quick, 0);
        assert_eq!((verdict.allowed, verdict.free_at), (false, 60 * MS));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let top = Rate { limit: u32::MAX, window_ms: u32::MAX, burst: u32::MAX };
        let mut spent = Spent::fresh(top, u64::MAX);
        assert!(spent.take(u32::MAX, top, u64::MAX).allowed);
        assert!(!spent.take(u32::MAX, top, u64::MAX).allowed);
        let rare = Rate { limit: 1, burst: u32::MAX, ..top };
        assert!(!spent.take(1, rare, u64::MAX).allowed);
    }
}
