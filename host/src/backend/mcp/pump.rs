//! Moves what a server sends to those it is for.

use std::sync::Arc;

use super::fleet::ServerFleet;
use super::peer::Peer;
use super::transport::{Incoming, Receiver};
use super::{Server, reading, spontaneous};
use crate::mcp::payload::Payload;
use crate::redact::Words;

/// Moves messages from the transport to their recipients, until the transport ends.
pub(super) struct Pump<'a> {
    pub(super) backend: &'a Arc<Server>,
    pub(super) fleet: &'a Arc<ServerFleet>,
    pub(super) peer: Arc<Peer>,
    pub(super) receiver: Receiver,
}

impl Pump<'_> {
    fn hear(&self, raw: &Payload, about: Option<u64>) {
        self.peer.receive(raw, about, |message, client| {
            spontaneous::take(self.fleet, self.backend, &self.peer, message, client);
        });
    }

    /// Until the transport ends; returns why it did.
    pub(super) async fn run(&mut self) -> Words {
        loop {
            match self.receiver.recv().await {
                Incoming::Message(raw) => self.hear(&raw, None),
                Incoming::About { id, message } => self.hear(&message, Some(id)),
                Incoming::Failed { id, error } => self.peer.fail(id, error),
                // On its own: reading lists needs this very pump.
                Incoming::Renewed => {
                    let (backend, fleet) = (self.backend.clone(), self.fleet.clone());
                    let (peer, patience) = (self.peer.clone(), backend.settings.load().timeout);
                    tokio::spawn(async move {
                        peer.say_again(patience).await;
                        reading::read_again(&backend, &fleet).await;
                    });
                }
                Incoming::Oversized { limit, answers } => {
                    tracing::warn!(backend = %self.backend.name, limit, "a message over the limit was discarded");
                    self.peer.oversized(limit, answers);
                }
                Incoming::Closed(reason) => return self.backend.words(&reason),
            }
        }
    }
}
