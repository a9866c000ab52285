//! What is counted for OTLP: each number can be changed by any thread at any time, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One of them. Clones are the same number.
#[derive(Clone)]
pub(super) enum Number {
    Count(Arc<AtomicU64>),
    /// The bits of an `f64`.
    Level(Arc<AtomicU64>),
    Spread(Arc<Spread>),
}

/// How often which values came.
pub(super) struct Spread {
    bounds: &'static [f64],
    /// One more than bounds: what is above all of them.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

/// The same at one moment.
pub(super) struct Snapshot {
    pub(super) bounds: &'static [f64],
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
}

impl Spread {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0.0_f64.to_bits()) }
    }

    /// A value that is a bound belongs to what is below it.
    pub(super) fn add(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        change(&self.sum, |sum| sum + value);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: f64::from_bits(self.sum.load(Ordering::Relaxed)),
        }
    }
}

/// Changes a number that is kept as the bits of an `f64`.
pub(super) fn change(bits: &AtomicU64, new: impl Fn(f64) -> f64) {
    let next = |bits| Some(new(f64::from_bits(bits)).to_bits());
    // It never says no.
    let _ = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
}
