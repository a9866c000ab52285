//! The operator's order about one backend (run or stop), and the history of its server.
//!
//! A backend that was stopped stays so until an operator starts it: no call, no reload and no pause brings it back. The
//! supervisor follows the word that stands here, wherever in the life of the server it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Server, Status};
use crate::redact::Words;

/// Why a backend is down that an operator stopped.
pub(super) const STOPPED: &str = "an operator has stopped it";

/// The operator's word.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The same as in the word, for calls: asking costs nothing.
    stopped: AtomicBool,
    word: watch::Sender<Word>,
    /// The last order that the supervisor has carried out, or begun to, if it is one to start.
    obeyed: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Word {
    stopped: bool,
    /// Counts what was ordered.
    turn: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        let word = watch::Sender::new(Word::default());
        Self { stopped: AtomicBool::new(false), word, obeyed: watch::Sender::new(0) }
    }
}

impl Wanted {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The last order by its number, and whether it was to stop.
    pub(super) fn last(&self) -> (u64, bool) {
        let word = *self.word.borrow();
        (word.turn, word.stopped)
    }

    /// The supervisor has got so far.
    pub(super) fn obeys(&self, turn: u64) {
        self.obeyed.send_replace(turn);
    }

    /// Ends when something was ordered after that.
    pub(super) async fn turned(&self, turn: u64) {
        let mut word = self.word.subscribe();
        // The other end is ours, so it does not go away.
        let _ = word.wait_for(|word| word.turn != turn).await;
    }

    fn order(&self, stopped: bool) -> u64 {
        self.stopped.store(stopped, Ordering::Release);
        self.word.send_modify(|word| *word = Word { stopped, turn: word.turn + 1 });
        self.last().0
    }
}

/// What happened to a backend so far.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Since when it is as it is.
    pub since: Instant,
    /// Of its process, if it has one.
    pub pid: Option<u32>,
    /// How often it came up.
    pub starts: u64,
    /// Why a connection to it ended or could not be made, and when.
    pub last_error: Option<(Words, Instant)>,
}

/// The same while it goes on.
#[derive(Debug)]
pub(super) struct Story(Mutex<History>);

impl Default for Story {
    fn default() -> Self {
        Self(Mutex::new(History { since: Instant::now(), pid: None, starts: 0, last_error: None }))
    }
}

impl Story {
    /// It is started, or connected to.
    pub(super) fn begins(&self) {
        let mut history = self.0.lock();
        (history.since, history.pid) = (Instant::now(), None);
    }

    /// It is up.
    pub(super) fn is_up(&self, pid: Option<u32>) {
        let mut history = self.0.lock();
        (history.since, history.pid, history.starts) = (Instant::now(), pid, history.starts + 1);
    }

    /// It is gone; without a reason if that was wanted.
    pub(super) fn is_gone(&self, reason: Option<&Words>) {
        let mut history = self.0.lock();
        (history.since, history.pid) = (Instant::now(), None);
        if let Some(reason) = reason {
            history.last_error = Some((reason.clone(), history.since));
        }
    }
}

impl Server {
    /// Stops it until [`Server::start`]: calls under way end with an error, and further ones are refused at once. Returns
    /// the number of the order.
    pub fn stop(&self) -> u64 {
        let turn = self.wanted.order(true);
        self.dedicated.end_all();
        turn
    }

    /// Ends it, if it runs, and starts it at once: also one that was stopped, and one that is down and would be tried again
    /// later, or never. Returns the number of the order.
    pub fn restart(&self) -> u64 {
        let turn = self.wanted.order(false);
        self.dedicated.end_all();
        turn
    }

    /// Whether it is there for calls.
    #[must_use]
    pub(crate) fn is_up(&self) -> bool {
        self.status() == Status::Ready && !self.is_stopped()
    }

    /// Whether an operator has stopped it.
    #[must_use]
    pub(crate) fn is_stopped(&self) -> bool {
        self.wanted.is_stopped()
    }

    /// What happened to it so far.
    #[must_use]
    pub(crate) fn history(&self) -> History {
        self.story.0.lock().clone()
    }

    /// Calls under way.
    #[must_use]
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.taken()
    }

    /// Waits until an order to stop has been carried out, so that no process is left, or one to start has been begun.
    pub(crate) async fn obeyed(&self, turn: u64) {
        let mut obeyed = self.wanted.obeyed.subscribe();
        // The other end is ours.
        let _ = obeyed.wait_for(|obeyed| *obeyed >= turn).await;
    }

    /// Waits until it is up after an order to start it.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) async fn up_after(&self, turn: u64) -> Result<History, Words> {
        self.obeyed(turn).await;
        let mut status = self.status.subscribe();
        let settled =
            status.wait_for(|status| *status != Status::Starting).await.map(|status| status.clone());
        match settled {
            Ok(Status::Ready) => Ok(self.history()),
            Ok(Status::Down { reason, .. }) => Err(reason),
            Ok(Status::Starting | Status::Stopped) | Err(_) => Err("the gateway is shutting down".into()),
        }
    }
}
