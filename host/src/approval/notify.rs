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

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) use self::deliver::client;
use self::deliver::{Disabled, Sender};
use super::notes::{Event, Note, lost, next};
use super::{Approvals, State};
use crate::config::Webhook;

/// Messages that are being delivered, with the pauses between two attempts.
const MESSAGES: usize = 256;
/// Between two looks for approvals that ended by themselves.
const LOOK: Duration = Duration::from_secs(15);
/// So many of those that wait are told of once more after a start.
const AGAIN: u32 = 200;

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
