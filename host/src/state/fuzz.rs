//! A file that a death left behind, for `tests/fuzz`: whatever stands in it, a gateway starts, and keeps what it took over.

use std::collections::{HashMap, HashSet};

use super::epoch::{Machine, Mark};
use super::record::{Kind, MAGIC, Records, Replay, replay};
use super::{Quota, Rate, Store};

/// A gateway starts with a file of these bytes, and with one that has them behind good checksums.
///
/// # Panics
/// Something was taken over that is lost when it is written again.
pub fn recovery(data: &[u8]) {
    start(data);
    let mut records = Records::default();
    records.begin();
    records.append_raw(data);
    let mut sealed = MAGIC.to_vec();
    let machine = Machine { boot: 1, boot_ns: 1 << 40, unix_ns: 1 << 60 };
    sealed.extend_from_slice(records.finish(Mark { now_ns: 1 << 60, machine }));
    start(&sealed);
}

fn start(bytes: &[u8]) {
    let read = replay(bytes);
    assert!(read.sound <= bytes.len(), "more was read than there is");
    let Some(mark) = read.mark else { return };
    let once = written(&taken_over(&read, mark.now_ns), mark);
    let again = replay(&once);
    let twice = written(&taken_over(&again, mark.now_ns), mark);
    let values = |bytes| -> HashMap<(String, Kind, String), (u64, Vec<u8>)> {
        let own = |((space, kind, key), value): (&(&str, Kind, &str), &super::record::Value<'_>)| {
            (((*space).to_owned(), *kind, (*key).to_owned()), (value.expires, value.body.to_vec()))
        };
        replay(bytes).values.iter().map(own).collect()
    };
    assert_eq!(values(&once), values(&twice), "what was taken over is not what was written");
    use_it(&taken_over(&read, mark.now_ns), mark.now_ns);
}

fn taken_over(read: &Replay<'_>, now: u64) -> Store {
    let store = Store::new();
    let known: HashSet<String> = ["p", "/mcp p", ""].map(str::to_owned).into();
    let taken = store.spaces.restore(read, &known, false, now);
    assert!(taken.kept + taken.strangers + taken.unsound <= read.values.len(), "a value was counted twice");
    store
}

fn written(store: &Store, mark: Mark) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let mut records = Records::default();
    let written: Result<(), ()> = store.spaces.write_all(mark.now_ns, &mut records, |records| {
        bytes.extend_from_slice(records.finish(mark));
        Ok(())
    });
    assert!(written.is_ok(), "nothing can fail in memory");
    bytes
}

fn use_it(store: &Store, now: u64) {
    let space = store.namespace("p", Quota { keys: 100, bytes: 1 << 20 });
    for rate in [
        Rate { limit: 3, window_ms: 1_000, burst: 2 },
        Rate { limit: u32::MAX, window_ms: u32::MAX, burst: u32::MAX },
    ] {
        for later in [0, 1 << 30, 1 << 50] {
            let now = now.saturating_add(later);
            // Full or not: nothing panics.
            let _ = space.acquire("k", 1, rate, now);
            let _ = space.window_add("k", 1, rate.window_ms, now);
            let _ = space.gauge_add("k", i64::MAX, 1_000, now);
            let version = space.cell_get("k", now).ok().flatten().map_or(0, |(_, version)| version);
            let _ = space.cell_swap("k", version, b"", 1_000, now);
        }
    }
}
