//! The settings of a server as they are now. What neither its process nor its address sees (time-outs, limits, what is done
//! with arguments) can change while it runs: the next call finds it, and the server keeps its process, its sessions and
//! everything that was counted.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::Server;
use super::http::Times;
use crate::config;

/// How much longer the HTTP layer waits for a silent server than a call does. The peer's own clock runs out first: it
/// knows that this is a time-out, and of which call.
const HTTP_SLACK: Duration = Duration::from_secs(2);

/// The settings of one server.
#[derive(Debug)]
pub(super) struct Settings {
    now: ArcSwap<config::Backend>,
    /// The part that the HTTP layer waits by.
    times: Arc<Times>,
    /// Counts the changes, to wake those who wait for as long as a setting says.
    changes: watch::Sender<u64>,
}

impl Settings {
    pub(super) fn new(settings: Arc<config::Backend>) -> Self {
        let (timeout, longest) = times(&settings);
        let times = Arc::new(Times::new(timeout, longest));
        Self { now: ArcSwap::new(settings), times, changes: watch::Sender::new(0) }
    }

    /// As they are now. Not to be held while something is waited for.
    pub(super) fn load(&self) -> Guard<Arc<config::Backend>> {
        self.now.load()
    }

    /// The same, to be held for as long as is needed.
    pub(super) fn load_full(&self) -> Arc<config::Backend> {
        self.now.load_full()
    }

    /// How long the HTTP layer waits; follows every change.
    pub(super) fn times(&self) -> &Arc<Times> {
        &self.times
    }

    /// Hears of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn set(&self, next: &Arc<config::Backend>) -> bool {
        if *self.load() == *next {
            return false;
        }
        let (timeout, longest) = times(next);
        self.times.set(timeout, longest);
        self.now.store(next.clone());
        self.changes.send_modify(|changes| *changes += 1);
        true
    }
}

impl Server {
    /// From now on it has these settings, under which it is spoken to over the connections that it has. Calls under way
    /// keep the time that they were given.
    pub(super) fn renew(&self, next: &Arc<config::Backend>) {
        if self.settings.set(next) {
            self.slots.resize(next.max_in_flight);
            self.dedicated.resize(next.max_connections);
        }
    }
}

/// How long the HTTP layer waits for an answer that is short, and for one of the most patient call.
fn times(backend: &config::Backend) -> (Duration, Duration) {
    let timeout = backend.timeout.max(backend.start_timeout) + HTTP_SLACK;
    (timeout, backend.most_patient().max(backend.start_timeout) + HTTP_SLACK)
}

#[cfg(test)]
mod tests {
    use super::super::scripted;
    use super::*;

    #[tokio::test]
    async fn a_server_takes_other_settings_as_it_is() {
        let server = scripted::backend("exec cat", Duration::from_secs(5));
        let mut changes = server.settings.changes();
        let before = server.settings.load_full();
        server.renew(&before);
        server.renew(&Arc::new(config::Backend::clone(&before)));
        assert!(!changes.has_changed().is_ok_and(|changed| changed), "nothing is different");
        let next = config::Backend {
            timeout: Duration::from_secs(7),
            longest: Duration::from_secs(9),
            max_in_flight: 3,
            max_connections: 2,
            ..config::Backend::clone(&before)
        };
        server.renew(&Arc::new(next));
        assert!(changes.has_changed().is_ok_and(|changed| changed));
        changes.mark_unchanged();
        assert_eq!((server.slots.most(), server.dedicated.most()), (3, 2));
        let times = server.settings.times();
        assert_eq!(
            (times.timeout(), times.longest()),
            (Duration::from_secs(7) + HTTP_SLACK, Duration::from_secs(9) + HTTP_SLACK)
        );
        assert_eq!(server.settings.load().timeout, Duration::from_secs(7));
    }
}
