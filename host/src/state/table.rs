//! Keys that expire. Each access sweeps a few of them: this needs no thread, and no access pauses for long.
//!
//! Each entry knows whether it has changed since it was last written down (`state::writer`), so that a use of a key costs no
//! more than setting a flag beside it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::clock::Steady;
use super::record::{Keep, Records};
use super::usage::{Full, Usage};

/// How many due keys one operation removes: more than the one it may add, so a backlog shrinks.
const SWEEP: usize = 4;

/// The memory of a key beside its text and its value: two map slots, a queue slot, the text's header.
const OVERHEAD: usize = 160;

/// How many bytes a value takes beside its place in the table.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    expires: u64,
    /// The time of its one valid place in the queue; never later than `expires`.
    queued: u64,
    /// It has changed since it was last written down.
    changed: bool,
    /// It has been written down, so its end has to be written down, too.
    written: bool,
}

/// One shard of one kind of state.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: HashMap<Arc<str>, Entry<T>>,
    /// When to look at which key. A key whose expiry moved on is put back when its turn comes, so that a
    /// use of a key costs nothing here.
    queue: BinaryHeap<Reverse<(u64, Arc<str>)>>,
    pub(super) steady: Steady,
    serial: u64,
    /// Something in it has changed since it was last written down.
    changed: bool,
    /// Keys that were written down and have been removed before their time.
    gone: Vec<Arc<str>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            queue: BinaryHeap::new(),
            steady: Steady::default(),
            serial: 0,
            changed: false,
            gone: Vec::new(),
        }
    }
}

impl<T: Weigh> Table<T> {
    /// Begins an operation: the shard's own time, after a bit of sweeping.
    pub(super) fn begin(&mut self, now_ns: u64, usage: &Usage) -> u64 {
        let now = self.steady.observe(now_ns);
        self.sweep(now, SWEEP, usage);
        now
    }

    /// Removes everything that is due.
    pub(super) fn sweep_all(&mut self, now_ns: u64, usage: &Usage) {
        let now = self.steady.observe(now_ns);
        self.sweep(now, usize::MAX, usage);
    }

    fn sweep(&mut self, now: u64, at_most: usize, usage: &Usage) {
        for _ in 0..at_most {
            let Some(Reverse((due, _))) = self.queue.peek() else {
                return;
            };
            if *due > now {
                return;
            }
            let Some(Reverse((due, key))) = self.queue.pop() else {
                return;
            };
            let Some(entry) = self.entries.get_mut(&*key) else {
                continue;
            };
            if entry.queued != due {
                continue;
            }
            if entry.expires <= now {
                self.remove(&key, usage);
            } else {
                entry.queued = entry.expires;
                let place = Reverse((entry.expires, key));
                self.queue.push(place);
            }
        }
    }

    /// The value of a key that has not expired.
    pub(super) fn get(&mut self, key: &str, now: u64) -> Option<&mut T> {
        let entry = self.entries.get_mut(key)?;
        (entry.expires > now).then_some(&mut entry.value)
    }

    /// Writes the value of a new key, over an expired one if there is one.
    pub(super) fn insert(&mut self, key: &str, value: T, expires: u64, usage: &Usage) -> Result<(), Full> {
        self.remove(key, usage);
        usage.add_key(Self::weight(key, &value))?;
        let key: Arc<str> = key.into();
        let entry = Entry { value, expires, queued: expires, changed: true, written: false };
        self.changed = true;
        self.entries.insert(Arc::clone(&key), entry);
        self.enqueue(expires, key);
        Ok(())
    }

    /// A number that this table has not given before; from 1.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The same for a table that goes on from a state that was kept: all further numbers are larger than this one.
    pub(super) fn serials_after(&mut self, serial: u64) {
        self.serial = self.serial.max(serial);
    }

    /// Moves the expiry of a key whose value has changed.
    pub(super) fn changed_until(&mut self, key: &str, expires: u64) {
        self.move_expiry(key, expires, true);
    }

    /// Moves the expiry of a key whose value says the same as before.
    pub(super) fn expire_at(&mut self, key: &str, expires: u64) {
        self.move_expiry(key, expires, false);
    }

    fn move_expiry(&mut self, key: &str, expires: u64, changed: bool) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.changed |= changed;
        self.changed |= changed;
        entry.expires = expires;
        if expires < entry.queued {
            entry.queued = expires;
            self.enqueue(expires, key.into());
        }
    }

    /// Forgets a key, expired or not.
    pub(super) fn remove(&mut self, key: &str, usage: &Usage) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            usage.remove_key(Self::weight(&key, &entry.value));
            // What has expired is known to have by its time.
            if entry.written && entry.expires > self.steady.latest() {
                self.gone.push(key);
                self.changed = true;
            }
        }
    }

    fn weight(key: &str, value: &T) -> usize {
        OVERHEAD + size_of::<T>() + key.len() + value.weight()
    }

    /// Invalid places stay in the queue until their time comes; when they outnumber the keys, it is
    /// built anew, so that it is never longer than about twice the number of keys.
    fn enqueue(&mut self, due: u64, key: Arc<str>) {
        self.queue.push(Reverse((due, key)));
        if self.queue.len() > 2 * self.entries.len() + 64 {
            self.queue =
                self.entries.iter().map(|(key, entry)| Reverse((entry.queued, Arc::clone(key)))).collect();
        }
    }
}

impl<T: Weigh + Keep> Table<T> {
    /// Writes down what has changed since the last time.
    pub(super) fn write_changes(&mut self, records: &mut Records) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        records.reached(self.steady.latest());
        // Before the values: a key may have come back.
        for key in self.gone.drain(..) {
            records.gone::<T>(&key);
        }
        for (key, entry) in &mut self.entries {
            if std::mem::take(&mut entry.changed) {
                entry.written = true;
                records.set(key, entry.expires, &entry.value);
            }
        }
    }

    /// Writes everything down that has not expired.
    pub(super) fn write_all(&mut self, now_ns: u64, records: &mut Records) {
        let now = self.steady.observe(now_ns);
        self.changed = false;
        self.gone.clear();
        records.reached(now);
        for (key, entry) in &mut self.entries {
            entry.changed = false;
            entry.written = entry.expires > now;
            if entry.written {
                records.set(key, entry.expires, &entry.value);
            }
        }
    }

    /// Takes over what was written down, at a time that is not before any in it. If the key is there already, from the
    /// file of another gateway, the stricter of both counts. A quota does not hold here: what is kept beyond it stays
    /// until it expires, as after a reload.
    pub(super) fn restore(&mut self, key: &str, mut value: T, expires: u64, now: u64, usage: &Usage) {
        let now = self.steady.observe(now);
        if expires <= now {
            return;
        }
        let mut expires = expires;
        if let Some(entry) = self.entries.remove(key) {
            usage.remove_key(Self::weight(key, &entry.value));
            (value, expires) = T::stricter((entry.value, entry.expires), (value, expires), now);
        }
        // Without a bound nothing is refused.
        let _unbounded = self.insert(key, value, expires, usage);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::Quota;
    use super::*;
    use proptest::prelude::*;

    impl Weigh for u8 {
        fn weight(&self) -> usize {
            0
        }
    }

    fn usage() -> Usage {
        let usage = Usage::default();
        usage.set_quota(Quota { keys: usize::MAX, bytes: usize::MAX });
        usage
    }

    proptest! {
        /// Whatever is inserted, moved and removed: what lives is there, what is due goes, the queue stays
        /// short and the books are right.
        #[test]
        fn only_the_due_go(ops in proptest::collection::vec((0u8..4, 0u8..6, 0u64..50), 1..300)) {
            let (usage, mut table, mut now) = (usage(), Table::default(), 0);
            let mut model: HashMap<u8, u64> = HashMap::new();
            for (op, key, time) in ops {
                let name = format!("k{key}");
                now = table.begin(now, &usage);
                match op {
                    0 => {
                        table.insert(&name, key, now + time, &usage).unwrap();
                        model.insert(key, now + time);
                    }
                    1 if model.contains_key(&key) => {
                        table.expire_at(&name, now + time);
                        model.insert(key, now + time);
                    }
                    2 => {
                        table.remove(&name, &usage);
                        model.remove(&key);
                    }
                    _ => now += time,
                }
                now = table.begin(now, &usage);
                model.retain(|_, expires| *expires > now);
                for key in 0..6 {
                    let found = table.get(&format!("k{key}"), now).copied();
                    prop_assert_eq!(found, model.contains_key(&key).then_some(key));
                }
                prop_assert!(table.queue.len() <= 2 * table.entries.len() + 65);
                prop_assert_eq!(usage.held().keys, table.entries.len());
            }
            table.sweep_all(now, &usage);
            prop_assert_eq!(table.entries.len(), model.len());
            table.sweep_all(u64::MAX, &usage);
            prop_assert_eq!(usage.held(), Quota { keys: 0, bytes: 0 });
            prop_assert!(table.queue.is_empty());
        }
    }

    #[test]
    fn one_operation_sweeps_a_few_and_the_next_goes_on() {
        let (usage, mut table) = (usage(), Table::default());
        for key in 0..10 {
            table.insert(&format!("k{key}"), 0u8, 5, &usage).unwrap();
        }
        let held = |table: &mut Table<u8>| {
            table.begin(5, &usage);
            table.entries.len()
        };
        assert_eq!([held(&mut table), held(&mut table), held(&mut table)], [6, 2, 0]);
    }
}
