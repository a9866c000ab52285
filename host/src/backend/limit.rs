//! How much of one message of a server may be in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The longest message in memory, in bytes: one for all servers of an endpoint, which a reload changes in place. A message
/// that is arriving keeps the limit that it began with.
#[derive(Clone, Debug)]
pub(crate) struct MessageLimit(Arc<AtomicUsize>);

impl From<usize> for MessageLimit {
    fn from(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }
}

impl MessageLimit {
    /// As it is now.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// It holds for all messages that begin to arrive from now on.
    pub(super) fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}
