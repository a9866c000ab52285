//! Waiting for a server that is starting, or that is down and may be back in a moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{BackendError, PAUSE_PATIENCE, Server, Status};
use crate::redact::Words;

/// A call on a backend that is starting waits this long for it, and no longer than for its answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    /// Whether it may be there in a moment, and is not there yet.
    pub(super) fn is_coming(&self, soon: Instant) -> bool {
        self.is_on_its_way(&self.status.borrow(), soon)
    }

    fn is_on_its_way(&self, status: &Status, soon: Instant) -> bool {
        match status {
            Status::Starting => true,
            Status::Down { again, .. } => again.is_some_and(|again| again < soon),
            // It was lost a moment ago, and what follows is not known yet.
            Status::Ready => self.peer.load().is_none(),
            Status::Stopped => false,
        }
    }

    /// A call needs it: if it is down, it is tried again as soon as its last attempt is long enough ago.
    pub fn want(&self) {
        if matches!(*self.status.borrow(), Status::Down { .. }) {
            self.try_again(*self.soonest.lock());
        }
    }

    /// If it is down, it is tried again at this time at the latest. The supervisor follows what stands in the status.
    pub(super) fn try_again(&self, at: Instant) {
        self.status.send_if_modified(|status| match status {
            Status::Down { again: Some(again), .. } if *again > at => {
                *again = at;
                true
            }
            Status::Down { .. } | Status::Starting | Status::Ready | Status::Stopped => false,
        });
    }

    /// The connection, waiting a while for one that is being made.
    pub(super) async fn connected(&self) -> Result<Arc<Peer>, BackendError> {
        if self.wanted.is_stopped() {
            return Err(BackendError::Stopped { backend: self.name.clone() });
        }
        if let Some(peer) = self.peer() {
            return Ok(peer);
        }
        self.want();
        let mut status = self.status.subscribe();
        let soon = Instant::now() + PAUSE_PATIENCE;
        // A caller who is refused asks again, and every refusal looks like a failure to a circuit breaker.
        let patience = CONNECT_PATIENCE.min(self.settings.load().timeout);
        let settled =
            tokio::time::timeout(patience, status.wait_for(|status| !self.is_on_its_way(status, soon)));
        let (reason, again) = match settled.await {
            Ok(Ok(status)) => match &*status {
                Status::Down { reason, again } => {
                    let left = |again: &Instant| again.saturating_duration_since(Instant::now());
                    (reason.clone(), again.as_ref().map(left))
                }
                Status::Stopped => ("the gateway is shutting down".into(), None),
                Status::Starting | Status::Ready => (Words::default(), None),
            },
            Ok(Err(_)) => ("the gateway is shutting down".into(), None),
            Err(_) => (self.words(&format!("it is still {}", self.starting())), None),
        };
        self.peer().ok_or_else(|| BackendError::Unreachable {
            backend: self.name.clone(),
            reason,
            counts: false,
            again,
        })
    }
}
