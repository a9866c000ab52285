//! What is counted for OTLP: each number can be changed by any thread at any time, without a lock.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::telemetry::counted::Buckets;

/// One of them. Clones are the same number.
#[derive(Clone)]
pub(super) enum Number {
    Count(Arc<AtomicU64>),
    /// The bits of an `f64`.
    Level(Arc<AtomicU64>),
    Buckets(Arc<Buckets>),
}
