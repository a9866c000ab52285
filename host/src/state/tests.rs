//! The promises of the whole store: quotas, strangers, races, clocks.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::gcra::MS;
use super::*;

mod kept;

const ROOM: Quota = Quota { keys: 1_000, bytes: 1 << 20 };
const SECOND: u64 = 1_000 * MS;

fn per_minute(limit: u32) -> Rate {
    Rate { limit, window_ms: 60_000, burst: limit }
}

fn space() -> Namespace {
    Store::new().namespace("p", ROOM)
}

proptest! {
    /// Waiting as long as was said is enough, whatever came before; the ceiling holds across the store.
    #[test]
    fn waiting_as_told_is_enough(
        limit in 1u32..20, burst in 1u32..25, window_ms in 1u32..500, cost in 1u32..4,
        steps in proptest::collection::vec(0u64..50_000_000, 1..100),
    ) {
        let (space, rate) = (space(), Rate { limit, window_ms, burst });
        prop_assume!(cost <= limit.min(burst));
        let (mut now, mut admitted) = (0, Vec::new());
        for (turn, step) in steps.into_iter().enumerate() {
            now += step;
            let mut take = space.acquire("k", cost, rate, now).unwrap();
            if !take.allowed && turn % 3 == 0 {
                prop_assert!(take.retry_after_ms > 0);
                now += take.retry_after_ms * MS;
                take = space.acquire("k", cost, rate, now).unwrap();
                prop_assert!(take.allowed);
            }
            if take.allowed {
                prop_assert_eq!(take.retry_after_ms, 0);
                admitted.push(now);
                let from = now.saturating_sub(u64::from(window_ms) * MS);
                let recent = admitted.iter().filter(|at| **at >= from).count() as u64;
                prop_assert!(recent * u64::from(cost) <= u64::from(limit));
            }
        }
    }

    /// Each write names the version it saw: no write is lost, and versions only grow.
    #[test]
    fn swaps_of_one_cell_form_one_line(
        ops in proptest::collection::vec((0usize..3, 0u8..4, 0u64..40), 1..150),
    ) {
        let (space, mut now) = (space(), 0);
        // What the cell holds: value, version, expiry; and the version that each of three writers saw last.
        let mut truth: Option<(Vec<u8>, u64, u64)> = None;
        let (mut seen, mut highest) = ([0u64; 3], 0);
        for (writer, op, step) in ops {
            now += step * MS;
            truth = truth.filter(|(_, _, expires)| *expires > now);
            if op == 0 {
                let cell = space.cell_get("k", now).unwrap();
                prop_assert_eq!(&cell, &truth.as_ref().map(|(value, version, _)| (value.clone(), *version)));
                seen[writer] = cell.map_or(0, |(_, version)| version);
                continue;
            }
            let value = vec![op; usize::from(op) * 7];
            let current = truth.as_ref().map_or(0, |(_, version, _)| *version);
            match space.cell_swap("k", seen[writer], &value, 100, now) {
                Ok(version) => {
                    prop_assert_eq!(seen[writer], current);
                    prop_assert!(version > highest);
                    highest = version;
                    truth = Some((value, version, now + 100 * MS));
                }
                Err(failure) => {
                    prop_assert_eq!(failure, CellFailure::Stale);
                    prop_assert_ne!(seen[writer], current);
                }
            }
        }
    }

    /// Two plugins may use any keys they like: neither notices the other.
    #[test]
    fn namespaces_never_meet(keys in proptest::collection::vec((".{0,6}", any::<bool>()), 1..40)) {
        let store = Store::new();
        let spaces = [store.namespace("a", ROOM), store.namespace("ab", ROOM)];
        let mut counts: HashMap<(bool, String), i64> = HashMap::new();
        for (key, which) in keys {
            let count = counts.entry((which, key.clone())).or_default();
            *count += 1;
            let space = &spaces[usize::from(which)];
            prop_assert_eq!(space.gauge_add(&key, 1, 1_000, 0), Ok(*count));
            prop_assert_eq!(space.window_add(&key, 1, 1_000, 0), Ok(u64::try_from(*count).unwrap()));
        }
    }
}

#[test]
fn a_rate_is_kept_to_and_says_when() {
    let (space, rate) = (space(), per_minute(2));
    let take = |now| space.acquire("k", 1, rate, now).unwrap();
    assert_eq!((take(0).remaining, take(0).allowed), (1, true));
    let refused = take(SECOND);
    assert_eq!((refused.allowed, refused.remaining), (false, 0));
    assert!((59_000..=60_000).contains(&refused.retry_after_ms));
    assert!(take(SECOND + refused.retry_after_ms * MS).allowed);
}

#[test]
fn what_can_never_be_taken_is_refused_without_a_trace() {
    let space = space();
    let zero = space.acquire("k", 1, per_minute(0), 0).unwrap();
    assert_eq!((zero.allowed, zero.retry_after_ms), (false, 60_000));
    assert!(!space.acquire("k", 3, per_minute(2), 0).unwrap().allowed);
    assert!(space.acquire("k", 0, per_minute(2), 0).unwrap().allowed);
    assert_eq!(space.held().keys, 0);
}

#[test]
fn a_reload_keeps_what_was_spent() {
    let store = Store::new();
    let before = store.namespace("p", ROOM);
    assert!(before.acquire("k", 2, per_minute(2), 0).unwrap().allowed);
    drop(before);
    let after = store.namespace("p", ROOM);
    assert!(!after.acquire("k", 1, per_minute(2), 0).unwrap().allowed);
}

#[test]
fn endpoints_share_a_store_and_nothing_in_it() {
    let store = Store::new();
    let spaces = [
        store.namespace("p", ROOM),
        store.within("/mcp/dev").namespace("p", ROOM),
        store.within("/mcp").namespace("p", ROOM),
        store.passing_namespace("p", "{}", ROOM),
        store.passing_namespace("p", "{\"url\":1}", ROOM),
    ];
    for space in &spaces {
        assert_eq!(space.gauge_add("k", 1, 1_000, 0), Ok(1));
    }
    assert_eq!(store.within("").namespace("p", ROOM).gauge_add("k", 0, 1_000, 0), Ok(1));
    // The same configuration finds again what it left, as long as a plugin has it; nobody finds it afterwards.
    assert_eq!(store.passing_namespace("p", "{}", ROOM).gauge_add("k", 1, 1_000, 0), Ok(2));
    drop(spaces);
    let _other = store.passing_namespace("p", "{\"url\":2}", ROOM);
    assert_eq!(store.passing_namespace("p", "{}", ROOM).gauge_add("k", 0, 1_000, 0), Ok(0));
    // What is kept is not forgotten so.
    assert_eq!(store.namespace("p", ROOM).gauge_add("k", 0, 1_000, 0), Ok(1));
    // A plugin and an endpoint may be called what they like.
    let _passing = store.within("/mcp").namespace("passing", ROOM);
    assert_eq!(store.spaces.all().len(), 4);
}

#[test]
fn a_clock_set_back_neither_refills_nor_bans() {
    let (space, rate) = (space(), per_minute(2));
    let take = |now| space.acquire("k", 1, rate, now).unwrap();
    let noon = 3_600 * SECOND;
    assert!(take(noon).allowed && take(noon).allowed);
    let refused = take(0);
    assert!(!refused.allowed);
    assert!(refused.retry_after_ms <= 62_000, "{refused:?}");
    assert!(take(refused.retry_after_ms * MS).allowed);
}

#[test]
fn a_full_plugin_loses_expired_keys_first_and_others_nothing() {
    let store = Store::new();
    let small = store.namespace("small", Quota { keys: 40, bytes: 1 << 20 });
    for key in 0..20 {
        small.gauge_add(&format!("g{key}"), 1, 10, 0).unwrap();
        small.cell_swap(&format!("c{key}"), 0, b"x", 1_000, 0).unwrap();
    }
    assert_eq!(small.acquire("new", 1, per_minute(1), 0), Err(Failure::QuotaExceeded));
    assert_eq!(small.gauge_add("g0", 1, 10, 0), Ok(2));
    // The gauges are due now; they make room for twenty windows, and for no more.
    for key in 0..20 {
        assert_eq!(small.window_add(&format!("w{key}"), 1, 1_000, 11 * MS), Ok(1));
    }
    assert_eq!(small.window_add("more", 1, 1_000, 11 * MS), Err(Failure::QuotaExceeded));
    assert!(small.cell_get("c7", 11 * MS).unwrap().is_some());
    assert_eq!(store.namespace("other", ROOM).gauge_add("g", 1, 10, 0), Ok(1));
}

#[test]
fn bytes_are_counted_when_values_grow_and_shrink() {
    let store = Store::new();
    let space = store.namespace("p", Quota { keys: 9, bytes: 2_000 });
    let version = space.cell_swap("k", 0, &[1; 1_000], 1_000, 0).unwrap();
    let held = space.held().bytes;
    assert_eq!(space.cell_swap("k", version, &[2; 5_000], 1_000, 0), Err(CellFailure::QuotaExceeded));
    assert_eq!(space.cell_get("k", 0).unwrap(), Some((vec![1; 1_000], version)));
    space.cell_swap("k", version, &[3; 100], 1_000, 0).unwrap();
    assert_eq!(space.held().bytes, held - 900);
    assert_eq!(space.cell_get("k", 1_000 * MS).unwrap(), None);
    assert_eq!(space.held(), Quota { keys: 0, bytes: 0 });
}

#[test]
fn a_gauge_outlives_reading_only_by_its_time() {
    let space = space();
    assert_eq!(space.gauge_add("k", 5, 100, 0), Ok(5));
    assert_eq!(space.gauge_add("k", 0, 100, 99 * MS), Ok(5));
    assert_eq!(space.gauge_add("k", 0, 100, 100 * MS), Ok(0));
    assert_eq!(space.gauge_add("k", i64::MAX, 100, 0), Ok(i64::MAX));
    assert_eq!(space.gauge_add("k", 1, 100, 0), Ok(i64::MAX));
    assert_eq!(space.gauge_add("k", -i64::MAX, 100, 0), Ok(0));
    assert_eq!(space.held().keys, 0);
}

#[test]
fn threads_together_take_no_more_than_one_could() {
    let (space, rate) = (space(), per_minute(100));
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..200).filter(|_| space.acquire("k", 1, rate, SECOND).unwrap().allowed).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 100);
}
