//! How long an exchange may be silent. The operator may change it while exchanges are under way; each looks when it begins
//! to wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The times of one server.
#[derive(Debug)]
pub(crate) struct Times {
    timeout_ms: AtomicU64,
    longest_ms: AtomicU64,
}

impl Times {
    pub(crate) fn new(timeout: Duration, longest: Duration) -> Self {
        Self { timeout_ms: AtomicU64::new(ms(timeout)), longest_ms: AtomicU64::new(ms(longest)) }
    }

    /// From now on it is waited so long.
    pub(crate) fn set(&self, timeout: Duration, longest: Duration) {
        self.timeout_ms.store(ms(timeout), Ordering::Relaxed);
        self.longest_ms.store(ms(longest), Ordering::Relaxed);
    }

    /// The longest silence within an exchange: until the headers of the answer, then between its bytes.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.load(Ordering::Relaxed))
    }

    /// The same within an exchange that brings an answer: the most patient call's.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.load(Ordering::Relaxed))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
