//! What one call of a plugin may use: the operator's limits, and more of them for a long message.
//!
//! A rewriter that looks at every byte of an answer needs steps, time and memory for every byte. With fixed limits the
//! longest message would decide what the operator allows for the shortest. So the limits are those of a message of up to 4 KiB,
//! and each further byte of the message at hand (the params of a call, the result of an answer, the items of a list) adds to
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::MAX_MEMORY;
use crate::config::Limits;

/// What the operator's limits are for: a message of up to so many bytes adds nothing.
const SHORT: usize = 4 << 10;
/// Steps that each byte beyond that adds: enough to parse it, to search it for a few dozen patterns, and to write it anew.
const FUEL_A_BYTE: u64 = 256;
/// Bytes across the border that each adds: it can be read twice and written twice.
const EXCHANGED_A_BYTE: usize = 4;
/// Bytes of memory that each adds: the message, and what is made of it.
const MEMORY_A_BYTE: usize = 4;
/// So many bytes of the message add a millisecond.
const BYTES_A_MS: usize = 4 << 10;

/// The limits of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) fuel: u64,
    pub(super) deadline_ms: u64,
    pub(super) host_bytes: usize,
    pub(super) memory_bytes: usize,
}

impl Allowance {
    /// The limits for a message of so many bytes.
    pub(super) fn new(limits: &Limits, message: usize) -> Self {
        let message = message.saturating_sub(SHORT);
        let bytes = message as u64;
        let memory = limits.memory_bytes.saturating_add(message.saturating_mul(MEMORY_A_BYTE));
        Self {
            fuel: limits.fuel.saturating_add(bytes.saturating_mul(FUEL_A_BYTE)),
            deadline_ms: limits.deadline_ms.max(1).saturating_add((message / BYTES_A_MS) as u64),
            host_bytes: limits.host_bytes.saturating_add(message.saturating_mul(EXCHANGED_A_BYTE)),
            memory_bytes: memory.min(MAX_MEMORY.max(limits.memory_bytes)),
        }
    }
}

/// Counts the steps of a plugin, for tools that say how many a call took.
#[derive(Clone, Debug, Default)]
pub struct Fuel(Arc<AtomicU64>);

impl Fuel {
    pub(super) fn add(&self, steps: u64) {
        self.0.fetch_add(steps, Ordering::Relaxed);
    }

    /// The steps since this was last asked.
    #[must_use]
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_message_has_the_operators_limits_and_a_long_one_more() {
        let limits = Limits::default();
        let short = Allowance::new(&limits, SHORT);
        assert_eq!(short.fuel, limits.fuel);
        assert_eq!(short.deadline_ms, limits.deadline_ms);
        assert_eq!((short.host_bytes, short.memory_bytes), (limits.host_bytes, limits.memory_bytes));
        let long = Allowance::new(&limits, SHORT + (1 << 20));
        assert_eq!(long.fuel, limits.fuel + (256 << 20));
        assert_eq!(long.deadline_ms, limits.deadline_ms + 256);
        assert_eq!(long.host_bytes, limits.host_bytes + (4 << 20));
        assert_eq!(long.memory_bytes, limits.memory_bytes + (4 << 20));
    }

    #[test]
    fn no_message_is_so_long_that_a_limit_wraps_or_passes_the_engines() {
        let endless = Allowance::new(&Limits::default(), usize::MAX);
        assert_eq!(endless.memory_bytes, MAX_MEMORY);
        assert_eq!((endless.fuel, endless.host_bytes), (u64::MAX, usize::MAX));
    }
}
