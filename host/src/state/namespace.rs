//! The operations of a plugin on its keys.

use std::sync::Arc;

use super::gcra::{self, MS, Spent};
use super::ring::Ring;
use super::table::Table;
use super::{Cell, CellFailure, Failure, Quota, Rate, Space, Take};

/// One plugin's view of the [`Store`]. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Namespace {
    pub(super) space: Arc<Space>,
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
        let take = self.space.with_room(
            now_ns,
            || self.acquire_in(&mut shard.lock(), key, cost, rate, now_ns),
            &Failure::QuotaExceeded,
        )?;
        if take.allowed && cost > 0 {
            self.space.signal.changed();
        }
        Ok(take)
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
            if verdict.changed {
                table.changed_until(key, verdict.fresh_at);
            } else {
                table.expire_at(key, verdict.fresh_at);
            }
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
    pub(crate) fn window_add(
        &self,
        key: &str,
        delta: u32,
        window_ms: u32,
        now_ns: u64,
    ) -> Result<u64, Failure> {
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
                    table.changed_until(key, empty_at);
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
        let sum = self.space.with_room(now_ns, attempt, &Failure::QuotaExceeded)?;
        if delta > 0 {
            self.space.signal.changed();
        }
        Ok(sum)
    }

    /// Adds to a number that lives `ttl_ms` past its last change, and returns it; a delta of 0 reads and
    /// prolongs nothing. The number stops at the ends of its range; one that reaches 0 is forgotten.
    ///
    /// # Errors
    /// [`Failure::QuotaExceeded`] if the key is new and there is no room for it.
    pub(crate) fn gauge_add(&self, key: &str, delta: i64, ttl_ms: u32, now_ns: u64) -> Result<i64, Failure> {
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
                table.changed_until(key, expires);
            }
            Ok(sum)
        };
        let sum = self.space.with_room(now_ns, attempt, &Failure::QuotaExceeded)?;
        if delta != 0 {
            self.space.signal.changed();
        }
        Ok(sum)
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
        let version = self.space.with_room(
            now_ns,
            || self.swap_in(&mut shard.lock(), key, expect, value, ttl_ms, now_ns),
            &CellFailure::QuotaExceeded,
        )?;
        self.space.signal.changed();
        Ok(version)
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
        table.changed_until(key, expires);
        Ok(version)
    }

    /// The keys and bytes held now, including expired keys that have not been swept yet.
    #[must_use]
    pub fn held(&self) -> Quota {
        self.space.usage.held()
    }
}
