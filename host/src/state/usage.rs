//! How much one plugin holds, and its quota.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Quota;

/// The plugin holds as many keys or bytes as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Shared by all shards of a plugin, so that the quota is one number and not a share per shard.
#[derive(Debug, Default)]
pub(super) struct Usage {
    keys: AtomicUsize,
    bytes: AtomicUsize,
    max_keys: AtomicUsize,
    max_bytes: AtomicUsize,
}

impl Usage {
    /// A reload may change the quota; what is held already stays.
    pub(super) fn set_quota(&self, quota: Quota) {
        self.max_keys.store(quota.keys, Ordering::Relaxed);
        self.max_bytes.store(quota.bytes, Ordering::Relaxed);
    }

    /// Books one key of this many bytes, or nothing.
    pub(super) fn add_key(&self, bytes: usize) -> Result<(), Full> {
        book(&self.keys, 1, self.max_keys.load(Ordering::Relaxed))?;
        self.grow(bytes).inspect_err(|_| {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        })
    }

    pub(super) fn remove_key(&self, bytes: usize) {
        self.keys.fetch_sub(1, Ordering::Relaxed);
        self.shrink(bytes);
    }

    pub(super) fn grow(&self, bytes: usize) -> Result<(), Full> {
        book(&self.bytes, bytes, self.max_bytes.load(Ordering::Relaxed))
    }

    pub(super) fn shrink(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Keys and bytes held, expired ones that are not swept yet included.
    pub(super) fn held(&self) -> Quota {
        Quota { keys: self.keys.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

fn book(held: &AtomicUsize, more: usize, most: usize) -> Result<(), Full> {
    held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        now.checked_add(more).filter(|sum| *sum <= most)
    })
    .map(drop)
    .map_err(|_| Full)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_booking_is_made_whole_or_not_at_all() {
        let usage = Usage::default();
        usage.set_quota(Quota { keys: 2, bytes: 10 });
        usage.add_key(6).unwrap();
        assert_eq!(usage.add_key(5), Err(Full));
        assert_eq!(usage.held(), Quota { keys: 1, bytes: 6 });
        usage.add_key(4).unwrap();
        assert_eq!(usage.add_key(0), Err(Full));
        assert_eq!(usage.grow(usize::MAX), Err(Full));
        usage.remove_key(6);
        assert_eq!(usage.held(), Quota { keys: 1, bytes: 4 });
    }
}
