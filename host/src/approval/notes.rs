//! What happens to approvals, for those who tell people of it. No call waits for them: a note is left, and whoever reads too slowly
//! misses some.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::State;

/// Notes that nobody has read yet.
const NOTES: usize = 1_024;

/// What happened to an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Requested,
    Decided,
    Consumed,
    Expired,
    Cancelled,
}

impl Event {
    /// What a change to this state is.
    pub(super) fn of(state: State) -> Self {
        match state {
            State::Pending => Self::Requested,
            State::Approved | State::Rejected => Self::Decided,
            State::Consumed => Self::Consumed,
            State::Expired => Self::Expired,
            State::Cancelled => Self::Cancelled,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Decided => "decided",
            Self::Consumed => "consumed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// That something happened to this approval.
#[derive(Clone, Debug)]
pub struct Note {
    pub event: Event,
    /// The approval.
    pub id: String,
}

/// Where notes are left.
#[derive(Debug)]
pub(super) struct Notes(broadcast::Sender<Note>);

impl Default for Notes {
    fn default() -> Self {
        Self(broadcast::Sender::new(NOTES))
    }
}

impl Notes {
    /// Leaves a note, for whoever reads them.
    pub(super) fn leave(&self, event: Event, id: &str) {
        // Nobody may.
        let _ = self.0.send(Note { event, id: id.to_owned() });
    }

    pub(super) fn read(&self) -> broadcast::Receiver<Note> {
        self.0.subscribe()
    }
}

/// The next note; none when there will be no more. What came faster than it was read is lost, which is counted and logged.
pub async fn next(notes: &mut broadcast::Receiver<Note>) -> Option<Note> {
    loop {
        match notes.recv().await {
            Ok(note) => return Some(note),
            Err(RecvError::Lagged(_)) => lost("too many approvals change at once"),
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Notifications that nobody gets.
pub(super) fn lost(why: &str) {
    metrics::counter!("sentinel_notifications_total", "result" => "lost").increment(1);
    tracing::warn!("a notification about an approval is lost: {why}");
}
