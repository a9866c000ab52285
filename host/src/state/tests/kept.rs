//! The promises of a state that is kept: it answers as if the gateway had never stopped, whatever becomes of its file.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::epoch::{Machine, Mark};
use super::super::record::{MAGIC, Records, replay};
use super::*;
use crate::files::Trust;

const MINUTE: u64 = 60 * SECOND;

/// What a plugin does with a key of the store. Each key has one rate, one window and one time to live, as in real plugins.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Take(u8, u32),
    Count(u8, u32),
    Move(u8, i64),
    Swap(u8, u8),
}

fn deeds() -> impl Strategy<Value = Vec<(u64, Deed, u8)>> {
    let deed = prop_oneof![
        (0u8..3, 0u32..4).prop_map(|(key, cost)| Deed::Take(key, cost)),
        (0u8..3, 0u32..3).prop_map(|(key, delta)| Deed::Count(key, delta)),
        (0u8..3, -2i64..3).prop_map(|(key, delta)| Deed::Move(key, delta)),
        (0u8..3, 0u8..9).prop_map(|(key, value)| Deed::Swap(key, value)),
    ];
    // Mostly at once or soon, sometimes much later.
    let step = prop_oneof![Just(0), 0u64..3_000, 0u64..120_000];
    proptest::collection::vec((step, deed, 0u8..6), 0..60)
}

/// Does it, and says what the plugin sees of it. Versions of cells are numbers without a meaning, so they are not compared.
fn act(space: &Namespace, deed: Deed, now: u64) -> String {
    match deed {
        Deed::Take(key, cost) => {
            let key_rate = Rate { limit: 3 + u32::from(key), window_ms: 20_000, burst: 2 + u32::from(key) };
            format!("{:?}", space.acquire(&key.to_string(), cost, key_rate, now))
        }
        Deed::Count(key, delta) => format!("{:?}", space.window_add(&key.to_string(), delta, 30_000, now)),
        Deed::Move(key, delta) => format!("{:?}", space.gauge_add(&key.to_string(), delta, 25_000, now)),
        Deed::Swap(key, value) => {
            let key = key.to_string();
            let before = space.cell_get(&key, now).unwrap();
            let version = before.as_ref().map_or(0, |(_, version)| *version);
            let after = space.cell_swap(&key, version, &[value; 3], 40_000, now).unwrap();
            assert!(after > version);
            format!("{:?}", before.map(|(value, _)| value))
        }
    }
}

fn mark(now_ns: u64) -> Mark {
    Mark { now_ns, machine: Machine { boot: 1, boot_ns: now_ns, unix_ns: now_ns } }
}

/// A file as the writer makes it, in memory.
#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    records: Records,
    /// Where batches end.
    ends: Vec<usize>,
}

impl File {
    fn append(&mut self, store: &Store, now: u64) {
        if self.bytes.is_empty() {
            return self.whole(store, now);
        }
        self.records.begin();
        store.spaces.write_changes(&mut self.records);
        self.bytes.extend_from_slice(self.records.finish(mark(now)));
        self.ends.push(self.bytes.len());
    }

    fn whole(&mut self, store: &Store, now: u64) {
        self.bytes = MAGIC.to_vec();
        self.ends = vec![self.bytes.len()];
        let (bytes, ends) = (&mut self.bytes, &mut self.ends);
        let written: Result<(), ()> = store.spaces.write_all(now, &mut self.records, |records| {
            bytes.extend_from_slice(records.finish(mark(now)));
            ends.push(bytes.len());
            Ok(())
        });
        written.unwrap();
    }
}

fn known() -> HashSet<String> {
    HashSet::from(["p".to_owned()])
}

/// What a gateway that starts at this time makes of a file.
fn load(bytes: &[u8], now: u64) -> Store {
    let store = Store::new();
    store.spaces.restore(&replay(bytes), &known(), false, now);
    store
}

proptest! {
    /// A gateway that was stopped at any moment and for any time answers like one that was never stopped.
    #[test]
    fn a_restart_changes_no_answer(before in deeds(), down in 0u64..90_000, after in deeds()) {
        let (store, mut file, mut now) = (Store::new(), File::default(), 1_000 * MINUTE);
        let space = store.namespace("p", ROOM);
        for (step, deed, writes) in before {
            now += step * MS;
            act(&space, deed, now);
            match writes {
                0 => file.append(&store, now),
                1 => file.whole(&store, now),
                _ => {}
            }
        }
        file.append(&store, now);
        now += down * MS;
        let restarted = load(&file.bytes, now).namespace("p", ROOM);
        for (step, deed, _) in after {
            now += step * MS;
            prop_assert_eq!(act(&restarted, deed, now), act(&space, deed, now), "{:?} at {}", deed, now);
        }
    }

    /// Values that were made up make nothing panic, now or when they are used, and keep nobody out for ever.
    #[test]
    fn values_that_were_made_up_do_no_harm(
        bodies in proptest::collection::vec((1u8..5, proptest::collection::vec(any::<u8>(), 0..60), any::<u64>()), 0..8),
        owed: u128, interval: u128, shift in 0u32..128, window: u64, head: u64, now in 0u64..2_000 * MINUTE,
    ) {
        struct Made<const KIND: u8>(Vec<u8>);
        macro_rules! made {
            ($number:literal, $kind:ident) => {
                impl Keep for Made<$number> {
                    const KIND: Kind = Kind::$kind;
                    fn write(&self, out: &mut Vec<u8>) {
                        out.extend(&self.0);
                    }
                    fn read(_: &mut Reader<'_>, _: u64) -> Option<Self> {
                        None
                    }
                    fn stricter(one: (Self, u64), _: (Self, u64), _: u64) -> (Self, u64) {
                        one
                    }
                }
            };
        }
        made!(1, Spent);
        made!(2, Window);
        made!(3, Gauge);
        made!(4, Cell);
        let mut records = Records::default();
        records.begin();
        records.space("p");
        for (at, (kind, body, expires)) in bodies.into_iter().enumerate() {
            let key = at.to_string();
            match kind {
                1 => records.set(&key, expires, &Made::<1>(body)),
                2 => records.set(&key, expires, &Made::<2>(body)),
                3 => records.set(&key, expires, &Made::<3>(body)),
                _ => records.set(&key, expires, &Made::<4>(body)),
            }
        }
        // The right shape, with any numbers.
        let mut body = (owed >> shift).to_le_bytes().to_vec();
        body.extend((interval >> shift).to_le_bytes());
        let mut ring = (window >> (shift % 64)).to_le_bytes().to_vec();
        ring.extend((head >> (shift % 64)).to_le_bytes());
        ring.extend([2, 3, 255, 255, 255, 255, 4, 1, 0, 0, 0]);
        body.extend(&ring);
        records.set("0", u64::MAX, &Made::<1>(body));
        records.set("0", u64::MAX, &Made::<2>(ring));
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(records.finish(mark(now)));
        let space = load(&bytes, now).namespace("p", ROOM);
        for rate in [Rate { limit: 3, window_ms: 1_000, burst: 2 }, Rate { limit: u32::MAX, window_ms: u32::MAX, burst: u32::MAX }] {
            for key in 0..9u8 {
                let key = key.to_string();
                for later in [0, SECOND, 1_000 * MINUTE] {
                    let _ = space.acquire(&key, 1, rate, now + later).unwrap();
                    let _ = space.window_add(&key, 1, rate.window_ms, now + later).unwrap();
                    let _ = space.gauge_add(&key, i64::MAX, 1_000, now + later).unwrap();
                    let version = space.cell_get(&key, now + later).unwrap().map_or(0, |(_, version)| version);
                    space.cell_swap(&key, version, b"", 1_000, now + later).unwrap();
                }
            }
        }
    }
}

proptest! {
    // Each case reads the file once for every byte of it.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Cut off at any byte, a file gives what was true when one of its batches was written: never more than was left then,
    /// and nobody waits for longer than then.
    #[test]
    fn a_file_that_is_cut_off_gives_an_earlier_state(takes in proptest::collection::vec((0u64..5_000, 0u8..4), 1..12)) {
        let (store, mut file, mut now) = (Store::new(), File::default(), 1_000 * MINUTE);
        let space = store.namespace("p", ROOM);
        let rate = Rate { limit: 30, window_ms: 60_000, burst: 30 };
        for (step, number) in takes {
            now += step * MS;
            space.acquire(&number.to_string(), 2, rate, now).unwrap();
            file.append(&store, now);
        }
        let left = |bytes: &[u8]| {
            let space = load(bytes, now).namespace("p", ROOM);
            [0, 1, 2, 3].map(|number: u8| space.acquire(&number.to_string(), 0, rate, now).unwrap().remaining)
        };
        let at_end: Vec<[u32; 4]> = file.ends.iter().map(|end| left(&file.bytes[..*end])).collect();
        for pair in at_end.windows(2) {
            prop_assert!(pair[0].iter().zip(pair[1]).all(|(earlier, later)| *earlier >= later), "{:?}", at_end);
        }
        for cut in 0..file.bytes.len() {
            let batch = file.ends.iter().rposition(|end| *end <= cut);
            prop_assert_eq!(left(&file.bytes[..cut]), batch.map_or([30; 4], |batch| at_end[batch]));
        }
    }
}

#[test]
fn what_expired_while_the_gateway_was_down_is_not_taken_over() {
    let (store, mut file) = (Store::new(), File::default());
    let space = store.namespace("p", ROOM);
    space.gauge_add("short", 1, 1_000, MINUTE).unwrap();
    space.gauge_add("long", 1, 120_000, MINUTE).unwrap();
    space.gauge_add("undone", 1, 120_000, MINUTE).unwrap();
    file.append(&store, MINUTE);
    // Removed before its time: that has to be known.
    space.gauge_add("undone", -1, 120_000, MINUTE).unwrap();
    file.append(&store, MINUTE);
    let space = load(&file.bytes, 2 * MINUTE).namespace("p", ROOM);
    assert_eq!(space.held().keys, 1);
    assert_eq!(space.gauge_add("long", 0, 1, 2 * MINUTE), Ok(1));
}

#[test]
fn what_no_plugin_owns_is_dropped_and_a_smaller_quota_forgets_nothing() {
    let (store, mut file) = (Store::new(), File::default());
    for key in 0..20 {
        store.namespace("p", ROOM).gauge_add(&key.to_string(), 1, 60_000, 0).unwrap();
    }
    store.namespace("gone", ROOM).gauge_add("k", 1, 60_000, 0).unwrap();
    store.within("/mcp/dev").namespace("p", ROOM).gauge_add("k", 1, 60_000, 0).unwrap();
    store.passing_namespace("p", "{}", ROOM).gauge_add("k", 1, 60_000, 0).unwrap();
    file.append(&store, 0);
    let read = replay(&file.bytes);
    assert_eq!(read.values.len(), 22, "what is passing is not written");
    let store = Store::new();
    let taken = store.spaces.restore(&read, &known(), false, 0);
    assert_eq!((taken.kept, taken.strangers, taken.unsound), (20, 2, 0));
    let space = store.namespace("p", Quota { keys: 3, bytes: 100 });
    assert_eq!(space.held().keys, 20);
    assert_eq!(space.gauge_add("new", 1, 60_000, 1), Err(Failure::QuotaExceeded));
    assert_eq!(store.namespace("gone", ROOM).held().keys, 0);
}

#[test]
fn of_two_gateways_the_stricter_counts() {
    let (mut files, rate) = ([File::default(), File::default()], per_minute(10));
    let now = 10 * MINUTE;
    for (turn, file) in files.iter_mut().enumerate() {
        let store = Store::new();
        let space = store.namespace("p", ROOM);
        let units = [7, 2][turn];
        // The one that spent less spent it last.
        let at = now + u64::try_from(turn).unwrap() * SECOND;
        assert!(space.acquire("k", units, rate, at).unwrap().allowed);
        space.window_add("w", units, 60_000, at).unwrap();
        space.gauge_add("g", i64::from(units), 60_000, at).unwrap();
        space.cell_swap("c", 0, &[u8::try_from(turn).unwrap()], 60_000, at).unwrap();
        file.append(&store, at);
    }
    for order in [[0, 1], [1, 0]] {
        let store = Store::new();
        for turn in order {
            // The second one still runs.
            store.spaces.restore(&replay(&files[turn].bytes), &known(), turn == 1, now + 2 * SECOND);
        }
        let space = store.namespace("p", ROOM);
        let later = now + 2 * SECOND;
        // Each counted in its own second, so both are in the sum.
        assert_eq!(space.acquire("k", 0, rate, later).unwrap().remaining, 1);
        assert_eq!(space.window_add("w", 0, 60_000, later), Ok(9));
        assert_eq!(space.gauge_add("g", 0, 60_000, later), Ok(7));
        assert_eq!(space.cell_get("c", later).unwrap().unwrap().0, [1]);
        // Both are forgotten when the later of them is.
        assert_eq!(space.acquire("k", 0, rate, later + 2 * MINUTE).unwrap().remaining, 10);
    }
}

fn settings(dir: &Path) -> Settings {
    Settings {
        folder: Some(dir.join("state")),
        config: dir.join("sentinel.toml"),
        trust: Trust::default(),
        plugins: vec![(String::new(), "p".to_owned()), ("/mcp/dev".to_owned(), "p".to_owned())],
    }
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("state")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

/// Units that are left of ten an hour.
fn left(kept: &Kept, cost: u32) -> u32 {
    let rate = Rate { limit: 10, window_ms: 3_600_000, burst: 10 };
    kept.store.namespace("p", ROOM).acquire("k", cost, rate, kept.clock.now_ns()).unwrap().remaining
}

fn write_is_awaited(path: &Path, length: u64) {
    for _ in 0..2_000 {
        if path.metadata().is_ok_and(|meta| meta.len() > length) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("nothing was written to {}", path.display());
}

#[test]
fn a_state_that_was_closed_or_left_behind_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let first = Kept::open(&settings);
    assert_eq!(left(&first, 4), 6);
    let before = first.clock.now_ns();
    first.close();
    let second = Kept::open(&settings);
    assert!(second.clock.now_ns() > before);
    assert_eq!((left(&second, 0), files(dir.path(), ".state").len()), (6, 1));
    // Another one beside it begins with what the first has kept, and they agree on the time.
    let path = files(dir.path(), ".state").remove(0);
    let length = path.metadata().unwrap().len();
    assert_eq!(left(&second, 1), 5);
    write_is_awaited(&path, length);
    let beside = Kept::open(&settings);
    assert_eq!((left(&beside, 0), files(dir.path(), ".state").len()), (5, 2));
    let (one, other) = (second.clock.now_ns(), beside.clock.now_ns());
    assert!(other >= one && other - one < 10 * SECOND);
    // Each goes on by itself; the next one knows the stricter of both, in one file.
    assert_eq!((left(&beside, 3), left(&second, 1)), (2, 4));
    beside.close();
    second.close();
    let last = Kept::open(&settings);
    assert_eq!((left(&last, 0), files(dir.path(), ".state").len()), (2, 1));
    // A mount has its own.
    let dev = last.store.within("/mcp/dev").namespace("p", ROOM);
    assert_eq!(dev.gauge_add("k", 1, 60_000, last.clock.now_ns()), Ok(1));
}

/// Threads change the state while it is written: nothing that changed is missing in the file soon after, though nobody closed
/// it. A change that the writer does not hear of would never get there.
#[test]
fn no_change_is_forgotten_whenever_it_comes() {
    const THREADS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let kept = Kept::open(&settings(dir.path()));
    let space = kept.store.namespace("p", ROOM);
    let now = || kept.clock.now_ns();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (space, now) = (&space, &now);
            scope.spawn(move || {
                for turn in 0..40 {
                    // In crowds, with pauses about as long as those of the writer.
                    for _ in 0..50 {
                        space.gauge_add(&format!("{}", (thread + turn) % 7), 1, 3_600_000, now()).unwrap();
                    }
                    std::thread::sleep(std::time::Duration::from_millis(7 * (thread as u64 + 1)));
                }
                // The last of them is alone: no other change wakes the writer for it.
                space.gauge_add("last", 1, 3_600_000, now()).unwrap();
            });
        }
    });
    let path = files(dir.path(), ".state").remove(0);
    let sums = || {
        let bytes = fs::read(&path).unwrap();
        let values = replay(&bytes).values;
        let number = |body: &[u8]| i64::from_le_bytes(body.try_into().unwrap());
        values.values().map(|value| number(value.body)).sum::<i64>()
    };
    let all = i64::try_from(THREADS * (40 * 50 + 1)).unwrap();
    for _ in 0..1_000 {
        if sums() == all {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} of {all} changes were written", sums());
}

#[test]
fn a_damaged_file_is_set_aside_and_what_can_be_read_of_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let kept = Kept::open(&settings);
    assert_eq!(left(&kept, 4), 6);
    kept.close();
    let path = files(dir.path(), ".state").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"what is this?");
    fs::write(&path, &bytes).unwrap();
    let kept = Kept::open(&settings);
    assert_eq!(left(&kept, 1), 5);
    assert_eq!(fs::read(files(dir.path(), ".damaged").remove(0)).unwrap(), bytes);
    kept.close();
    fs::write(&path, "no such thing").unwrap();
    assert_eq!(left(&Kept::open(&settings), 0), 10);
    assert_eq!(fs::read(files(dir.path(), ".damaged").remove(0)).unwrap(), b"no such thing");
}

#[test]
fn without_a_folder_or_a_place_in_it_the_state_ends_with_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = Settings { folder: None, ..settings(dir.path()) };
    fs::write(dir.path().join("state"), "a file").unwrap();
    for settings in [nowhere, settings(dir.path())] {
        let kept = Kept::open(&settings);
        assert_eq!(left(&kept, 4), 6);
        kept.close();
        assert_eq!(left(&Kept::open(&settings), 0), 10);
    }
}

#[test]
fn a_file_does_not_grow_without_bound() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let kept = Kept::open(&settings);
    let space = kept.store.namespace("p", ROOM);
    let path = files(dir.path(), ".state").remove(0);
    let (mut highest, mut shrank) = (0, false);
    let mut version = 0;
    for turn in 0..400u64 {
        // 64 KiB of another value for each write.
        let value = vec![u8::try_from(turn % 251).unwrap(); 64 << 10];
        version = space.cell_swap("k", version, &value, 60_000, kept.clock.now_ns()).unwrap();
        let length = path.metadata().map_or(0, |meta| meta.len());
        shrank |= length < highest;
        highest = highest.max(length);
        if shrank {
            break;
        }
        write_is_awaited_or_rewritten(&path, length);
    }
    assert!(shrank && highest < 2 << 20, "{highest} bytes");
    kept.close();
    let kept = Kept::open(&settings);
    let found = kept.store.namespace("p", ROOM).cell_get("k", kept.clock.now_ns()).unwrap();
    assert_eq!(found.unwrap().0.len(), 64 << 10);
}

/// Another length than this.
fn write_is_awaited_or_rewritten(path: &Path, length: u64) {
    for _ in 0..2_000 {
        if path.metadata().is_ok_and(|meta| meta.len() != length) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("nothing was written to {}", path.display());
}
