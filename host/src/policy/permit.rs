//! The proof that a call passed every decision, and the promise to tell the guards how it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call::{Call, Outcome};
use crate::plugin::Plugin;

/// Permits collected so far. Dropped without being settled, they are settled as cancelled.
#[derive(Debug)]
pub(super) struct Permits {
    call: Arc<Call>,
    given: Vec<(Arc<Plugin>, u64)>,
    since: Instant,
}

impl Permits {
    pub(super) fn new(call: Arc<Call>) -> Self {
        Self { call, given: Vec::new(), since: Instant::now() }
    }

    pub(super) fn push(&mut self, plugin: &Arc<Plugin>, permit: u64) {
        self.given.push((plugin.clone(), permit));
    }

    pub(super) fn call(&self) -> &Arc<Call> {
        &self.call
    }

    fn settle(&mut self, outcome: Outcome, latency: Duration) {
        // In reverse: the guard asked last is told first.
        while let Some((plugin, permit)) = self.given.pop() {
            if let Err(error) = plugin.settle(&self.call, permit, outcome, latency) {
                tracing::error!(call = %self.call.id, "a guard could not be told how the call ended: {error}");
            }
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        let latency = self.since.elapsed();
        self.settle(Outcome::Cancelled, latency);
    }
}

/// A call that may be done. Only [`super::Policy::decide`] makes one, and a backend takes nothing else.
#[derive(Debug)]
pub struct Permitted {
    permits: Permits,
    /// Those for what else the call names.
    others: Vec<Permits>,
}

impl Permitted {
    pub(super) fn new(permits: Permits, others: Vec<Permits>) -> Self {
        Self { permits, others }
    }

    /// The call that was permitted.
    #[must_use]
    pub fn call(&self) -> &Arc<Call> {
        &self.permits.call
    }

    /// Tells the guards how it ended. Exactly once: it takes the permit away.
    pub fn settle(mut self, outcome: Outcome, latency: Duration) {
        self.permits.settle(outcome, latency);
        self.others.iter_mut().for_each(|permits| permits.settle(outcome, latency));
    }
}
