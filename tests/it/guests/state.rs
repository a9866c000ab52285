//! What guests keep is counted exactly, survives them, and stays within their own quota.

use super::*;

/// What the guest `counting` has counted: `<checks>/<settles>`.
pub(super) fn counts(plugin: &Plugin) -> String {
    plugin.check(&call("settles")).unwrap().unwrap_err().message
}

#[test]
fn eight_threads_count_exactly() {
    const THREADS: usize = 8;
    const CALLS: usize = 2_000;
    let plugin = load(&guard_settings("counting"), &Store::new());
    let policy = policy(vec![plugin.clone()]);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for turn in 0..CALLS {
                    let permitted = policy.decide(&call("order"), None).unwrap();
                    // Dropped without a word, a permit is settled as cancelled; neither way may lose one.
                    if turn % 2 == 0 {
                        permitted.settle(Outcome::Success, Duration::ZERO);
                    }
                }
            });
        }
    });
    let all = THREADS * CALLS;
    assert_eq!(counts(&plugin), format!("{all}/{all}"));
}

#[test]
fn an_instance_for_each_call_counts_as_exactly_as_a_shared_one() {
    let mut settings = guard_settings("counting");
    settings.isolation = Isolation::Call;
    let plugin = load(&settings, &Store::new());
    for _ in 0..50 {
        plugin.check(&call("order")).unwrap().unwrap();
    }
    assert_eq!(counts(&plugin), "50/0");
}

#[test]
fn a_reload_keeps_the_counters_and_a_permit_settles_with_the_old_plugin() {
    let store = Store::new();
    let old = load(&guard_settings("counting"), &store);
    let first = policy(vec![old.clone()]);
    let under_way = first.decide(&call("order"), None).unwrap();
    let new = load(&guard_settings("counting"), &store);
    let next = first.following(Chain { guards: vec![new.clone()], ..Chain::default() });
    drop((old, first));
    next.decide(&call("order"), None).unwrap().settle(Outcome::Success, Duration::ZERO);
    assert_eq!(counts(&new), "2/1");
    under_way.settle(Outcome::Success, Duration::ZERO);
    assert_eq!(counts(&new), "2/2");
    // Another plugin of the same code has a state of its own.
    let mut other = guard_settings("counting");
    other.name = "counting-too".to_owned();
    let other = load_from(&guest("counting"), &other, &store).unwrap();
    assert_eq!(counts(&other), "0/0");
}

#[test]
fn a_hoarder_fills_its_own_quota_and_nobody_elses() {
    for kind in ["counters", "cells"] {
        let store = Store::new();
        let neighbour = load(&guard_settings("counting"), &store);
        let mut settings = settings("hoarder", Stage::Guard, json!({ "in": kind, "per_call": 20 }));
        settings.limits.state_keys = 100;
        let plugin = load(&settings, &store);
        let refusal = hoard(&plugin);
        assert_eq!(detail(&refusal, "failure"), "quota-exceeded");
        // One of the hundred keys is the guest's own count.
        assert_eq!(detail(&refusal, "keys"), "99");
        neighbour.check(&call("order")).unwrap().unwrap();
        assert_eq!(counts(&neighbour), "1/0");
        // Full is full: the next call gains nothing.
        assert_eq!(detail(&hoard(&plugin), "keys"), "99");
    }
}

#[test]
fn bytes_of_state_are_limited_as_well_as_keys() {
    let mut settings =
        settings("hoarder", Stage::Guard, json!({ "in": "cells", "per_call": 4, "bytes": 10_000 }));
    settings.limits.state_bytes = 100_000;
    let refusal = hoard(&load(&settings, &Store::new()));
    assert_eq!(detail(&refusal, "failure"), "quota-exceeded");
    let keys: u32 = detail(&refusal, "keys").parse().unwrap();
    assert!((5..10).contains(&keys), "{keys} cells of 10 kB in 100 kB");
}

/// Calls until the guest reports that there is no room.
fn hoard(plugin: &Plugin) -> sentinel_gateway::plugin::Refusal {
    let refused = (0..100).find_map(|_| plugin.check(&call("order")).unwrap().err());
    let refusal = refused.expect("no quota was met in 100 calls");
    assert_eq!(refusal.reason, "quota", "{}", refusal.message);
    refusal
}

fn detail<'a>(refusal: &'a sentinel_gateway::plugin::Refusal, name: &str) -> &'a str {
    &refusal.details.iter().find(|(key, _)| key == name).unwrap().1
}
