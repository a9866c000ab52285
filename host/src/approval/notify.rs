//! Tells people outside what happens to approvals, by webhooks.
//!
//! No call waits for this: whoever changes an approval leaves a note in a bounded list, and a task of its own makes messages of
//! the notes and delivers them. Rule: "Standard Webhooks" (the headers `webhook-id`, `webhook-timestamp`, `webhook-signature`;
//! HMAC-SHA256 over `id.timestamp.body`; a redirect is a failure, 410 ends it). A message holds the text that people see on every
//! other channel, from which the secrets of the configuration are taken out.

mod deliver;
mod message;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

pub(crate) use self::deliver::client;
use self::deliver::{Disabled, Sender};
use super::{Approvals, State};
use crate::config::Webhook;

/// Notes that are not messages yet.
const NOTES: usize = 1_024;
/// Messages that are being delivered, with the pauses between two attempts.
const MESSAGES: usize = 256;
/// Between two looks for approvals that ended by themselves.
const LOOK: Duration = Duration::from_secs(15);
/// So many of those that wait are told of once more after a start.
const AGAIN: u32 = 200;

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

    fn word(self) -> &'static str {
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
fn lost(why: &str) {
    metrics::counter!("sentinel_notifications_total", "result" => "lost").increment(1);
    tracing::warn!("a notification about an approval is lost: {why}");
}

/// Notifies for as long as there is something to stop it: those that wait at the start first.
pub async fn run(approvals: Arc<Approvals>, stop: CancellationToken) {
    let mut notes = approvals.notes();
    let room = Arc::new(Semaphore::new(MESSAGES));
    let (sender, disabled) = (Sender::new(), Arc::new(Disabled::default()));
    let deliver = |webhooks: &[Webhook], note: Note| {
        for webhook in webhooks {
            let Ok(place) = room.clone().try_acquire_owned() else {
                lost("too many messages could not be delivered yet");
                continue;
            };
            let (approvals, sender, disabled) = (approvals.clone(), sender.clone(), disabled.clone());
            let (webhook, note, stop) = (webhook.clone(), note.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = sender.deliver(&approvals, &webhook, &note, &disabled) => {}
                    () = stop.cancelled() => {}
                }
                drop(place);
            });
        }
    };
    let webhooks = approvals.settings().webhooks.clone();
    if !webhooks.is_empty() {
        // Who was not told before the gateway ended last is told now; the message has the same id.
        let open = approvals.list(false, AGAIN).await.unwrap_or_default();
        for summary in open.into_iter().filter(|summary| summary.state == State::Pending) {
            deliver(&webhooks, Note { event: Event::Requested, id: summary.id });
        }
    }
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let note = tokio::select! {
            () = stop.cancelled() => return,
            note = next(&mut notes) => note,
            _ = look.tick() => {
                if !approvals.settings().webhooks.is_empty() {
                    // Those that ended leave notes themselves.
                    let _unavailable = approvals.end_overdue().await;
                }
                continue;
            }
        };
        let Some(note) = note else { return };
        deliver(&approvals.settings().webhooks, note);
    }
}
