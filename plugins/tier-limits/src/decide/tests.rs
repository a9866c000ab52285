//! The promises, over all sequences of calls and times.

use proptest::prelude::*;

use super::*;
use crate::config::Window;
use crate::said;

fn tier(limits: &[(u32, u32)], concurrent: Option<u32>) -> Tier {
    let window =
        |(at, &(limit, seconds)): (usize, &(u32, u32))| Window { name: format!("w{at}"), limit, seconds };
    Tier {
        name: "free".to_owned(),
        windows: limits.iter().enumerate().map(window).collect(),
        concurrent,
        lease_ms: 60_000,
    }
}

#[test]
fn a_refused_call_costs_nothing() {
    let tier = tier(&[(2, 10), (3, 100)], None);
    let mut usage = Usage::default();
    assert!(usage.take(&tier, 0).is_ok() && usage.take(&tier, 0).is_ok());
    for _ in 0..50 {
        assert_eq!(usage.take(&tier, 1).unwrap_err().windows, [0]);
    }
    assert!(usage.take(&tier, 11_000).is_ok(), "the long window has counted two, not fifty-two");
    let full = usage.take(&tier, 11_000).unwrap_err();
    assert_eq!(full.windows, [1]);
}

#[test]
fn a_lease_ends_with_its_call_or_by_itself() {
    let tier = tier(&[], Some(2));
    let mut usage = Usage::default();
    let first = usage.take(&tier, 0).unwrap();
    let second = usage.take(&tier, 1_000).unwrap();
    assert!(usage.take(&tier, 2_000).unwrap_err().concurrent);
    assert!(usage.give_back(first) && !usage.give_back(first), "once");
    assert!(usage.take(&tier, 3_000).is_ok());
    assert!(usage.take(&tier, 60_999).unwrap_err().concurrent);
    assert!(usage.take(&tier, 61_000).is_ok(), "the second was lost with its gateway");
    assert!(!usage.give_back(second));
}

#[test]
fn nothing_is_never_reached_by_waiting() {
    let full = Usage::default().take(&tier(&[(0, 10)], None), 5).unwrap_err();
    assert_eq!(full.retry_after_ms, None);
    assert_eq!(Usage::default().take(&tier(&[], Some(0)), 5).unwrap_err().retry_after_ms, None);
}

#[test]
fn a_change_of_tier_is_no_new_allowance() {
    let (free, pro) = (tier(&[(3, 10)], None), tier(&[(5, 60)], None));
    let mut usage = Usage::default();
    for _ in 0..3 {
        usage.take(&free, 1_000).unwrap();
    }
    assert!(usage.take(&pro, 1_000).is_ok() && usage.take(&pro, 1_000).is_ok());
    assert!(usage.take(&pro, 1_000).is_err(), "three and two are five");
    assert!(usage.take(&free, 1_000).is_err());
}

/// Steps in milliseconds, some of them long.
fn steps() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![4 => 0u64..50, 2 => 0u64..2_000, 1 => 0u64..30_000], 1..400)
}

proptest! {
    /// In no sliding window are there more calls than the limit, whenever they come.
    #[test]
    fn a_limit_holds_in_every_sliding_window(start in 0u64..1_000_000, steps in steps(), one in 1u32..8, two in 1u32..20) {
        let tier = tier(&[(one, 1), (two, 7)], None);
        let (mut usage, mut now, mut passed) = (Usage::default(), start, Vec::new());
        for step in steps {
            now += step;
            if usage.take(&tier, now).is_ok() {
                passed.push(now);
            }
        }
        for (limit, length) in [(one, 1_000), (two, 7_000)] {
            for &first in &passed {
                let inside = passed.iter().filter(|&&at| at >= first && at < first + length).count();
                prop_assert!(inside <= limit as usize, "{inside} of {limit} in {length} ms");
            }
        }
    }

    /// What is said is never better than the truth: so many calls do pass now, and after the time that is named one more does.
    #[test]
    fn nothing_that_is_said_is_better_than_the_truth(start in 0u64..1_000_000, steps in steps(), one in 1u32..8, two in 1u32..20) {
        let tier = tier(&[(one, 1), (two, 7)], None);
        let (mut usage, mut now) = (Usage::default(), start);
        for step in steps {
            now += step;
            match usage.take(&tier, now) {
                Ok(_) => {
                    let promised = (0..2).map(|at| usage.left(&tier, at, now).0).min().unwrap_or(0);
                    let mut other = usage.clone();
                    for call in 0..promised {
                        prop_assert!(other.take(&tier, now).is_ok(), "call {call} of {promised}");
                    }
                    for at in 0..2 {
                        let (left, more) = usage.left(&tier, at, now);
                        let seconds = said::seconds(more.unwrap_or(1));
                        let mut later = usage.clone();
                        later.fit(&tier, now + seconds * 1_000);
                        prop_assert!(later.left(&tier, at, now + seconds * 1_000).0 > left);
                    }
                }
                Err(full) => {
                    let wait = said::seconds(full.retry_after_ms.unwrap_or(0)) * 1_000;
                    prop_assert!(wait > 0);
                    prop_assert!(usage.clone().take(&tier, now + wait).is_ok(), "after {wait} ms");
                }
            }
        }
    }

    /// No more calls are under way than the limit, and every place is free again in the end.
    #[test]
    fn no_more_are_under_way_than_may_be(moves in prop::collection::vec((any::<bool>(), 0u64..500), 1..200), most in 1u32..6) {
        let tier = tier(&[], Some(most));
        let (mut usage, mut now, mut under_way) = (Usage::default(), 0, Vec::new());
        for (begin, step) in moves {
            now += step;
            if begin {
                if let Ok(number) = usage.take(&tier, now) {
                    under_way.push(number);
                }
            } else if let Some(number) = under_way.pop() {
                prop_assert!(usage.give_back(number) || now >= 60_000);
            }
            prop_assert!(under_way.len() <= most as usize || now >= 60_000);
        }
        for number in under_way {
            usage.give_back(number);
        }
        prop_assert!(usage.take(&tier, now).is_ok());
    }

    /// A clock that goes back lets nothing through twice.
    #[test]
    fn time_that_goes_back_is_no_new_allowance(times in prop::collection::vec(0u64..3_000, 1..200), limit in 1u32..6) {
        let tier = tier(&[(limit, 100)], None);
        let mut usage = Usage::default();
        let passed = times.into_iter().filter(|&at| usage.take(&tier, at).is_ok()).count();
        prop_assert!(passed <= limit as usize);
    }
}
