//! What guards remember between calls, kept by the gateway so that it outlives every instance and reload.
//!
//! Each plugin has a [`Namespace`]: keys of its own, under a quota of keys and bytes, every one of which
//! expires. The meaning of the operations is that of the interfaces `counters` and `cells` of the plugin
//! contract. All of them take the time (`now_ns`, see [`Clock`]), are atomic, lock one of sixteen shards
//! and never wait for anything else; a key that exists is used without an allocation.

pub mod clock;

mod gcra;
mod ring;
mod table;
mod usage;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::clock::{Clock, ManualClock};
use self::gcra::{MS, Spent};
use self::ring::Ring;
use self::table::{Table, Weigh};
use self::usage::{Full, Usage};

const SHARDS: usize = 16;

/// How many keys and bytes a plugin may hold; a key counts with its text, its value and what keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The number of keys of all kinds together.
    pub keys: usize,
    /// Bytes of memory, about.
    pub bytes: usize,
}

/// At most `limit` units in any sliding window, and at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units in a window; 0 refuses everything.
    pub limit: u32,
    /// Milliseconds; 0 refuses everything.
    pub window_ms: u32,
    /// Units at one instant; 0 refuses everything but a cost of 0.
    pub burst: u32,
}

/// The answer to [`Namespace::acquire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// Whether the units were taken.
    pub allowed: bool,
    /// Units that could be taken right now.
    pub remaining: u32,
    /// When the same cost can be taken, rounded up; 0 if it was. A cost that can never be taken says a window.
    pub retry_after_ms: u64,
}

/// Why a number is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The plugin holds as many keys or bytes as it may, none of them expired.
    #[error("the plugin holds as many keys or bytes as it may")]
    QuotaExceeded,
    /// The store does not answer; the store in memory always does.
    #[error("the state store does not answer")]
    Unavailable,
}

/// Why a cell was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CellFailure {
    /// As [`Failure::QuotaExceeded`].
    #[error("the plugin holds as many keys or bytes as it may")]
    QuotaExceeded,
    /// As [`Failure::Unavailable`].
    #[error("the state store does not answer")]
    Unavailable,
    /// The cell has another version than expected: somebody else was faster.
    #[error("the cell was changed by somebody else")]
    Stale,
}

impl From<Full> for Failure {
    fn from(Full: Full) -> Self {
        Self::QuotaExceeded
    }
}

impl From<Full> for CellFailure {
    fn from(Full: Full) -> Self {
        Self::QuotaExceeded
    }
}

/// The state of all plugins, in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Store {
    spaces: Arc<Mutex<HashMap<String, Arc<Space>>>>,
    /// Which endpoint's plugins it is for; empty for the main one.
    endpoint: Arc<str>,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same store for the plugins of a further endpoint: those of one name share nothing with each other.
    #[must_use]
    pub fn within(&self, endpoint: &str) -> Self {
        Self { spaces: self.spaces.clone(), endpoint: endpoint.into() }
    }

    /// The namespace of a plugin. Asking again gives the same state under the new quota: a reload keeps
    /// what was spent, and what is held beyond a smaller quota stays until it expires.
    #[must_use]
    pub fn namespace(&self, plugin: &str, quota: Quota) -> Namespace {
        let mut spaces = self.spaces.lock();
        // No plugin has a `#` in its name.
        let name =
            if self.endpoint.is_empty() { plugin.to_owned() } else { format!("{}#{plugin}", self.endpoint) };
        let space = spaces.entry(name).or_default();
        space.usage.set_quota(quota);
        Namespace { space: Arc::clone(space) }
    }
}

/// One plugin's keys. The four kinds do not meet: a counter and a cell may bear the same key.
#[derive(Debug, Default)]
struct Space {
    usage: Usage,
    hasher: RandomState,
    spent: [Mutex<Table<Box<Spent>>>; SHARDS],
    windows: [Mutex<Table<Box<Ring>>>; SHARDS],
    gauges: [Mutex<Table<i64>>; SHARDS],
    cells: [Mutex<Table<Cell>>; SHARDS],
}

#[derive(Debug)]
struct Cell {
    value: Vec<u8>,
    version: u64,
}

impl Weigh for Box<Spent> {
    fn weight(&self) -> usize {
        size_of::<Spent>()
    }
}

impl Weigh for Box<Ring> {
    fn weight(&self) -> usize {
        size_of::<Ring>()
    }
}

impl Weigh for i64 {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Cell {
    fn weight(&self) -> usize {
        self.value.len()
    }
}

impl Space {
    fn shard<'a, T>(&self, shards: &'a [Mutex<Table<T>>; SHARDS], key: &str) -> &'a Mutex<Table<T>> {
        &shards[(self.hasher.hash_one(key) % SHARDS as u64) as usize]
    }

    /// Does something that may need room; if there is none, makes some of what has expired, and tries again.
    fn with_room<R, E>(
        &self,
        now_ns: u64,
        mut attempt: impl FnMut() -> Result<R, E>,
        full: &E,
    ) -> Result<R, E>
    where
        E: PartialEq,
    {
        let first = attempt();
        if first.as_ref().err() != Some(full) {
            return first;
        }
        sweep(&self.spent, now_ns, &self.usage);
        sweep(&self.windows, now_ns, &self.usage);
        sweep(&self.gauges, now_ns, &self.usage);
        sweep(&self.cells, now_ns, &self.usage);
        attempt()
    }
}

fn sweep<T: Weigh>(shards: &[Mutex<Table<T>>], now_ns: u64, usage: &Usage) {
    for shard in shards {
        shard.lock().sweep_all(now_ns, usage);
    }
}

/// One plugin's view of the [`Store`]. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Namespace {
    space: Arc<Space>,
}

impl Namespace {
    /// Takes `cost` units, or nothing. A cost of 0 asks and leaves no trace.
    ///
    /// # Errors
    /// [`Failure::QuotaExceeded`] if the key is new and there is no room for it.
    pub fn acquire(&self, key: &str, cost: u32, rate: Rate, now_ns: u64) -> Result<Take, Failure> {
        if !gcra::possible(cost, rate) {
            return Ok(gcra::never(rate));
        }
        let shard = self.space.shard(&self.space.spent, key);
        self.space.with_room(
            now_ns,
            || self.acquire_in(&mut shard.lock(), key, cost, rate, now_ns),
            &Failure::QuotaExceeded,
        )
    }

    fn acquire_in(
        &self,
        table: &mut Table<Box<Spent>>,
        key: &str,
        cost: u32,
        rate: Rate,
        now_ns: u64,
    ) -> Result<Take, Failure> {
        let now = table.begin(now_ns, &self.space.usage);
        let verdict = if let Some(spent) = table.get(key, now) {
            let verdict = spent.take(cost, rate, now);
            table.expire_at(key, verdict.fresh_at);
            verdict
        } else {
            let mut spent = Spent::fresh(rate, now);
            let verdict = spent.take(cost, rate, now);
            if cost > 0 {
                table.insert(key, Box::new(spent), verdict.fresh_at, &self.space.usage)?;
            }
            verdict
        };
        let wait_ns = verdict.free_at.saturating_sub(now) + table.steady.lead_ns(now_ns);
        Ok(Take {
            allowed: verdict.allowed,
            remaining: verdict.remaining,
            retry_after_ms: if verdict.allowed { 0 } else { wait_ns.div_ceil(MS).max(1) },
        })
    }

    /// Adds to a sliding window and returns its sum; a delta of 0 reads. The sum may contain what is up to
    /// 1/99 of the window too old, and misses nothing. A window of 0 is taken for one of 1 ms.
    ///
    /// # Errors
    /// [`Failure::QuotaExceeded`] if the key is new and there is no room for it.
    pub fn window_add(&self, key: &str, delta: u32, window_ms: u32, now_ns: u64) -> Result<u64, Failure> {
        let usage = &self.space.usage;
        let window = u64::from(window_ms.max(1)) * MS;
        let shard = self.space.shard(&self.space.windows, key);
        let attempt = || {
            let mut table = shard.lock();
            let now = table.begin(now_ns, usage);
            if let Some(ring) = table.get(key, now) {
                ring.advance(window, now);
                ring.add(delta);
                let (total, empty_at) = (ring.total(), ring.empty_at());
                if delta > 0 {
                    table.expire_at(key, empty_at);
                }
                return Ok(total);
            }
            if delta > 0 {
                let mut ring = Ring::new(window, now);
                ring.add(delta);
                let empty_at = ring.empty_at();
                table.insert(key, Box::new(ring), empty_at, usage)?;
            }
            Ok(u64::from(delta))
        };
        self.space.with_room(now_ns, attempt, &Failure::QuotaExceeded)
    }

    /// Adds to a number that lives `ttl_ms` past its last change, and returns it; a delta of 0 reads and
    /// prolongs nothing. The number stops at the ends of its range; one that reaches 0 is forgotten.
    ///
    /// # Errors
    /// [`Failure::QuotaExceeded`] if the key is new and there is no room for it.
    pub fn gauge_add(&self, key: &str, delta: i64, ttl_ms: u32, now_ns: u64) -> Result<i64, Failure> {
        let usage = &self.space.usage;
        let shard = self.space.shard(&self.space.gauges, key);
        let attempt = || {
            let mut table = shard.lock();
            let now = table.begin(now_ns, usage);
            let expires = now.saturating_add(u64::from(ttl_ms) * MS);
            let Some(number) = table.get(key, now) else {
                if delta != 0 {
                    table.insert(key, delta, expires, usage)?;
                }
                return Ok(delta);
            };
            *number = number.saturating_add(delta);
            let sum = *number;
            if sum == 0 {
                table.remove(key, usage);
            } else if delta != 0 {
                table.expire_at(key, expires);
            }
            Ok(sum)
        };
        self.space.with_room(now_ns, attempt, &Failure::QuotaExceeded)
    }

    /// The value of a cell with its version, which is never 0 and never used twice for the same key.
    ///
    /// # Errors
    /// None from the store in memory.
    pub fn cell_get(&self, key: &str, now_ns: u64) -> Result<Option<(Vec<u8>, u64)>, Failure> {
        let mut table = self.space.shard(&self.space.cells, key).lock();
        let now = table.begin(now_ns, &self.space.usage);
        Ok(table.get(key, now).map(|cell| (cell.value.clone(), cell.version)))
    }

    /// Writes a cell if it still has the version `expect` (0: does not exist or has expired), for `ttl_ms`
    /// from now, and returns the new version.
    ///
    /// # Errors
    /// [`CellFailure::Stale`] if it has another version; [`CellFailure::QuotaExceeded`] if there is no room
    /// for the key or the longer value. In both cases the cell stays as it was.
    pub fn cell_swap(
        &self,
        key: &str,
        expect: u64,
        value: &[u8],
        ttl_ms: u32,
        now_ns: u64,
    ) -> Result<u64, CellFailure> {
        let shard = self.space.shard(&self.space.cells, key);
        self.space.with_room(
            now_ns,
            || self.swap_in(&mut shard.lock(), key, expect, value, ttl_ms, now_ns),
            &CellFailure::QuotaExceeded,
        )
    }

    fn swap_in(
        &self,
        table: &mut Table<Cell>,
        key: &str,
        expect: u64,
        value: &[u8],
        ttl_ms: u32,
        now_ns: u64,
    ) -> Result<u64, CellFailure> {
        let usage = &self.space.usage;
        let now = table.begin(now_ns, usage);
        let expires = now.saturating_add(u64::from(ttl_ms) * MS);
        // One sequence for the shard: a cell that was lost and made again continues it.
        let version = table.next_serial();
        let Some(cell) = table.get(key, now) else {
            if expect != 0 {
                return Err(CellFailure::Stale);
            }
            let value = value.to_vec();
            table.insert(key, Cell { value, version }, expires, usage)?;
            return Ok(version);
        };
        if cell.version != expect {
            return Err(CellFailure::Stale);
        }
        match value.len().checked_sub(cell.value.len()) {
            Some(more) => usage.grow(more)?,
            None => usage.shrink(cell.value.len() - value.len()),
        }
        cell.value.clear();
        cell.value.extend_from_slice(value);
        // What is booked is the length; memory far beyond it would be held for nothing.
        if cell.value.capacity() > 2 * value.len() + 64 {
            cell.value.shrink_to_fit();
        }
        cell.version = version;
        table.expire_at(key, expires);
        Ok(version)
    }

    /// What is held now, expired keys that are not swept yet included.
    #[must_use]
    pub fn held(&self) -> Quota {
        self.space.usage.held()
    }
}

#[cfg(test)]
mod tests;
