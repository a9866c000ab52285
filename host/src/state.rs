//! The memory of guards between calls. The gateway keeps it, so that it outlives every instance, every reload and, on
//! the disk, the process.
//!
//! Each plugin has a [`Namespace`]: keys of its own, under a quota of keys and bytes, every one of which
//! expires. The meaning of the operations is that of the interfaces `counters` and `cells` of the plugin
//! contract. All of them take the time (`now_ns`, see [`Clock`]), are atomic, lock one of sixteen shards
//! and never wait for anything else; a key that exists is used without an allocation.
//!
//! [`Kept`] is a store that survives the process: `writer` writes down what changes, in a thread of its own, as `record` lays it
//! out, into the files of `folder`; `epoch` says what time it is afterwards. [`Document`] is the other way to keep something:
//! one small value, on the disk before anybody relies on it.

mod bytes;
pub mod clock;

mod document;
mod epoch;
mod folder;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gcra;
mod kept;
mod namespace;
pub mod once;
mod record;
mod ring;
mod signal;
mod table;
mod usage;
mod writer;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::Mutex;

use self::bytes::Reader;
pub use self::clock::Clock;
pub(crate) use self::clock::ManualClock;
pub use self::document::{Document, DocumentError, Stamp};
use self::gcra::Spent;
pub use self::kept::{Kept, Settings};
pub use self::namespace::Namespace;
use self::record::{Keep, Kind};
use self::ring::Ring;
use self::signal::Signal;
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
    /// The cell has another version than expected: another call was faster.
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

/// The state of all plugins of one endpoint. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Store {
    spaces: Arc<Spaces>,
    /// The path of the endpoint; empty for the main one.
    endpoint: Arc<str>,
}

/// The state of all plugins of all endpoints, by their names.
#[derive(Debug, Default)]
struct Spaces {
    by_name: Mutex<HashMap<Arc<str>, Arc<Space>>>,
    signal: Arc<Signal>,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The part of another endpoint: none of its plugins shares anything with those of this one. The main endpoint is
    /// called "", the others by their path.
    #[must_use]
    pub fn within(&self, endpoint: &str) -> Self {
        Self { spaces: Arc::clone(&self.spaces), endpoint: endpoint.into() }
    }

    /// The namespace of a plugin. Asking again gives the same state under the new quota: a reload keeps
    /// what was spent, and what is held beyond a smaller quota stays until it expires.
    #[must_use]
    pub fn namespace(&self, plugin: &str, quota: Quota) -> Namespace {
        self.named(&space_name(&self.endpoint, plugin), quota)
    }

    /// A namespace for as long as the plugin is configured like this, which is never written down. It is for what a plugin
    /// trusts, such as keys that it fetched: no other configuration and no other start may find them.
    #[must_use]
    pub(crate) fn passing_namespace(&self, plugin: &str, config: &str, quota: Quota) -> Namespace {
        let digest = blake3::hash(config.as_bytes()).to_hex();
        let namespace =
            self.named(&format!("{} {digest}{PASSING}", space_name(&self.endpoint, plugin)), quota);
        self.spaces.forget_passing();
        namespace
    }

    fn named(&self, name: &str, quota: Quota) -> Namespace {
        let space = self.spaces.get(name);
        space.usage.set_quota(quota);
        Namespace { space }
    }
}

/// How the names of spaces end that are not written down. No name in a configuration has such a character.
const PASSING: &str = "\0";

/// The name of a plugin's space; names of plugins have no blank, and those of endpoints begin with a slash.
fn space_name(endpoint: &str, plugin: &str) -> String {
    if endpoint.is_empty() { plugin.to_owned() } else { format!("{endpoint} {plugin}") }
}

impl Spaces {
    fn get(&self, name: &str) -> Arc<Space> {
        let mut spaces = self.by_name.lock();
        if let Some(space) = spaces.get(name) {
            return Arc::clone(space);
        }
        let space = Arc::new(Space { signal: Arc::clone(&self.signal), ..Space::default() });
        spaces.insert(name.into(), Arc::clone(&space));
        space
    }

    /// Forgets what belonged to configurations that no plugin has any more.
    fn forget_passing(&self) {
        self.by_name.lock().retain(|name, space| !name.ends_with(PASSING) || Arc::strong_count(space) > 1);
    }

    /// The spaces that are written down.
    fn all(&self) -> Vec<(Arc<str>, Arc<Space>)> {
        let spaces = self.by_name.lock();
        let kept = spaces.iter().filter(|(name, _)| !name.ends_with(PASSING));
        kept.map(|(name, space)| (Arc::clone(name), Arc::clone(space))).collect()
    }

    fn hold_something(&self) -> bool {
        self.all().iter().any(|(_, space)| space.usage.held().keys > 0)
    }
}

/// One plugin's keys. The four kinds do not meet: a counter and a cell may bear the same key.
#[derive(Debug, Default)]
struct Space {
    usage: Usage,
    hasher: RandomState,
    signal: Arc<Signal>,
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

impl Keep for i64 {
    const KIND: Kind = Kind::Gauge;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(from: &mut Reader<'_>, _: u64) -> Option<Self> {
        from.i64()
    }

    fn stricter(one: (Self, u64), other: (Self, u64), _: u64) -> (Self, u64) {
        (one.0.max(other.0), one.1.max(other.1))
    }
}

impl Keep for Cell {
    const KIND: Kind = Kind::Cell;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.value);
    }

    fn read(from: &mut Reader<'_>, _: u64) -> Option<Self> {
        // There are more numbers than anybody can use up; beyond the half of them one was made up.
        let version = from.u64().filter(|version| *version < u64::MAX / 2)?;
        Some(Self { version, value: from.rest().to_vec() })
    }

    /// Only its plugin knows what a value means: the one that was written last, by the time that it still counts.
    fn stricter(one: (Self, u64), other: (Self, u64), _: u64) -> (Self, u64) {
        if other.1 > one.1 { other } else { one }
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
        self.sweep(now_ns);
        attempt()
    }

    /// Removes everything that has expired.
    fn sweep(&self, now_ns: u64) {
        sweep(&self.spent, now_ns, &self.usage);
        sweep(&self.windows, now_ns, &self.usage);
        sweep(&self.gauges, now_ns, &self.usage);
        sweep(&self.cells, now_ns, &self.usage);
    }
}

fn sweep<T: Weigh>(shards: &[Mutex<Table<T>>], now_ns: u64, usage: &Usage) {
    for shard in shards {
        shard.lock().sweep_all(now_ns, usage);
    }
}

#[cfg(test)]
mod tests;
