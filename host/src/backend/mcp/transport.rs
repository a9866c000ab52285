//! The transport to one MCP server, in one form for pipes and HTTP, so that pending calls, handshake and supervision
//! are written once and do not depend on how the bytes travel.
//!
//! A [`Transport`] is three parts with three owners: a [`Sender`] anyone may clone, the one [`Receiver`], and a
//! [`Control`] that ends it. Dropping the [`Control`] ends the transport at once; [`Control::stop`] ends it in order.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::mcp::payload::Payload;
use crate::queue::{self, Budget, Weight};
use crate::redact::Words;

/// Messages waiting to leave; a full queue is [`TransportError::Busy`], never growth.
pub(super) const OUTGOING_QUEUE: usize = 1024;
/// Bytes of them. A server that does not read keeps no more than this and one message in memory.
const OUTGOING_BYTES: u32 = 16 << 20;
/// Messages waiting to be read by the peer; when full, nothing more is read from the server.
const INCOMING_QUEUE: usize = 256;
/// Bytes of them.
const INCOMING_BYTES: u32 = 16 << 20;

/// One JSON-RPC message on its way to the server.
#[derive(Clone)]
pub(crate) struct Outgoing {
    /// The id of a request; `None` for notifications and responses.
    pub id: Option<u64>,
    /// The method of a request or notification; empty for responses.
    pub method: String,
    /// One JSON message.
    pub body: Bytes,
    /// Extra headers; only HTTP has a place for them.
    pub headers: Vec<(String, String)>,
}

// Bodies and header values hold what callers and operators keep secret; a log line shows neither.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Outgoing")
            .field("id", &self.id)
            .field("method", &self.method)
            .field("bytes", &self.body.len())
            .field("headers", &names)
            .finish()
    }
}

impl Weight for Outgoing {
    fn weight(&self) -> usize {
        self.body.len()
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) enum Incoming {
    /// One JSON message: an answer, a request or a notification of the server. Only an answer may be in parts.
    Message(Payload),
    /// HTTP only: a message on the stream of this request.
    About { id: u64, message: Payload },
    /// HTTP only: this request will get no JSON-RPC answer. Sent once, and never for an abandoned request.
    Failed {
        /// The id of the request.
        id: u64,
        /// Why.
        error: TransportError,
    },
    /// HTTP only: the server had forgotten the session, and knows another one now, which begins with nothing but the
    /// handshake. Requests need not care.
    Renewed,
    /// A message over the limit was discarded.
    Oversized {
        /// The limit in bytes.
        limit: usize,
        /// The request it answers, if that could be read.
        answers: Option<u64>,
    },
    /// The transport has ended, and why, for people. Always the last item; every pending request has failed with it.
    Closed(String),
}

impl Weight for Incoming {
    /// What is in memory; large strings wait on the disk, and have a bound of their own there.
    fn weight(&self) -> usize {
        match self {
            Self::Message(message) | Self::About { message, .. } => message.text().len(),
            Self::Failed { .. } | Self::Renewed | Self::Oversized { .. } | Self::Closed(_) => 0,
        }
    }
}

/// Messages on their way to a server.
pub(super) fn outgoing() -> (queue::Sender<Outgoing>, queue::Receiver<Outgoing>) {
    queue::bounded(OUTGOING_QUEUE, Budget::new(OUTGOING_BYTES))
}

/// Messages that a server sent.
pub(super) fn incoming() -> (queue::Sender<Incoming>, queue::Receiver<Incoming>) {
    queue::bounded(INCOMING_QUEUE, Budget::new(INCOMING_BYTES))
}

/// Why a message could not be sent, or a request not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransportError {
    /// No connection or no process came to be: the server certainly did not see the message.
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    /// The server refused on the HTTP level.
    #[error("the server answered with HTTP status {status}: {said}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What its `Retry-After` asked for.
        retry_after: Option<Duration>,
        /// What it said about it.
        said: Words,
    },
    /// The server may have seen the message, but its answer broke off, was late or is not JSON-RPC.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The answer is over the limit.
    #[error("the answer is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The server no longer knows the session; a new transport needs a new handshake.
    #[error("the server no longer knows the session")]
    SessionLost,
    /// The transport has ended.
    #[error("the connection to the server is closed: {0}")]
    Closed(String),
    /// Too many messages wait to be sent.
    #[error("too many messages wait for the server")]
    Busy,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct OpenError {
    pub(super) error: TransportError,
    /// It stays so until a person changes something.
    pub(super) lasting: bool,
}

impl From<TransportError> for OpenError {
    fn from(error: TransportError) -> Self {
        Self { error, lasting: false }
    }
}

/// The open way to one server.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Takes messages to the server.
    pub sender: Sender,
    /// Yields what the server sends.
    pub receiver: Receiver,
    /// Ends the transport.
    pub control: Control,
}

/// Takes messages to the server, through a bounded queue that one writer empties in order.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    queue: queue::Sender<Outgoing>,
    end: Arc<End>,
    in_flight: Option<Arc<InFlight>>,
}

impl Sender {
    pub(super) fn new(
        queue: queue::Sender<Outgoing>,
        end: Arc<End>,
        in_flight: Option<Arc<InFlight>>,
    ) -> Self {
        Self { queue, end, in_flight }
    }

    /// Queues a message without waiting.
    ///
    /// # Errors
    /// [`TransportError::Busy`] if the queue is full, [`TransportError::Closed`] if the transport has ended.
    pub(crate) fn try_send(&self, message: Outgoing) -> Result<(), TransportError> {
        let place = self.queue.try_reserve(message.weight()).map_err(|error| match error {
            TrySendError::Full(()) => TransportError::Busy,
            TrySendError::Closed(()) => TransportError::Closed(self.end.reason()),
        })?;
        self.enter(&message);
        place.send(message);
        Ok(())
    }

    /// Queues a message, waiting for a place: for tests, which send more than anybody waits for.
    #[cfg(test)]
    pub(crate) async fn send(&self, message: Outgoing) -> Result<(), TransportError> {
        self.enter(&message);
        self.queue.send(message).await.map_err(|_| TransportError::Closed(self.end.reason()))
    }

    /// Forgets a request that is no longer waited for: unsent it is not sent, under way its HTTP exchange is dropped,
    /// and no [`Incoming::Failed`] follows. Over stdio there is nothing to drop. Telling the server
    /// (`notifications/cancelled`) is the peer's part.
    pub(crate) fn abandon(&self, id: u64) {
        if let Some(in_flight) = &self.in_flight {
            in_flight.abandon(id);
        }
    }

    /// Called before the message is in the queue, so that the task that takes it out finds it here.
    fn enter(&self, message: &Outgoing) {
        if let (Some(in_flight), Some(id)) = (&self.in_flight, message.id) {
            in_flight.enter(id);
        }
    }
}

/// Yields what the server sends.
#[derive(Debug)]
pub(crate) struct Receiver {
    queue: queue::Receiver<Incoming>,
    end: Arc<End>,
}

impl Receiver {
    pub(super) fn new(queue: queue::Receiver<Incoming>, end: Arc<End>) -> Self {
        Self { queue, end }
    }

    /// The next item; after [`Incoming::Closed`], `Closed` again. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Incoming {
        match self.queue.recv().await {
            Some(item) => item,
            None => Incoming::Closed(self.end.reason()),
        }
    }
}

/// Ends a transport. Dropped without [`stop`](Self::stop) it ends the transport at once: the child's process group is killed,
/// HTTP exchanges are dropped.
#[derive(Debug)]
pub(crate) struct Control(Box<dyn Driver>);

impl Control {
    pub(super) fn new(driver: impl Driver + 'static) -> Self {
        Self(Box::new(driver))
    }

    /// Ends the transport in order, and within `grace` plus a few seconds in any case.
    ///
    /// A child: what is queued is written and stdin closed, after `grace / 2` SIGTERM, after `grace` SIGKILL, each
    /// to the whole group. HTTP: exchanges get `grace / 2` to finish, then the session is deleted.
    pub(crate) async fn stop(self, grace: Duration) {
        self.0.stop(grace).await;
    }

    /// The child's process id, which is also its group's; `None` over HTTP.
    #[must_use]
    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    /// The last 64 KiB the child wrote to stderr, secrets replaced; empty over HTTP.
    #[must_use]
    pub(crate) fn stderr_tail(&self) -> String {
        self.0.stderr_tail()
    }

    /// The last lines the child wrote to stderr, short and on one line; empty if there are none, and over HTTP.
    #[must_use]
    pub(crate) fn last_words(&self) -> String {
        self.0.last_words()
    }

    /// HTTP: sends `MCP-Protocol-Version` from now on and opens the standing stream for the server's own messages.
    /// Nothing over stdio. Once per transport, after the handshake.
    pub(crate) fn set_protocol_version(&self, version: &str) {
        self.0.set_protocol_version(version);
    }
}

/// The part of a [`Control`] that knows how the bytes travel. Dropped, it ends the transport at once.
pub(super) trait Driver: fmt::Debug + Send + Sync {
    fn stop(self: Box<Self>, grace: Duration) -> BoxFuture<'static, ()>;

    fn pid(&self) -> Option<u32> {
        None
    }

    fn stderr_tail(&self) -> String {
        String::new()
    }

    fn last_words(&self) -> String {
        String::new()
    }

    fn set_protocol_version(&self, _version: &str) {}
}

/// Why a transport ended; the first reason given stays.
#[derive(Debug, Default)]
pub(super) struct End(OnceLock<String>);

impl End {
    pub(super) fn set(&self, reason: String) {
        // A later reason is only the echo of the first.
        let _ = self.0.set(reason);
    }

    pub(super) fn reason(&self) -> String {
        self.0.get().cloned().unwrap_or_else(|| "it is shutting down".to_owned())
    }
}

/// The requests between [`Sender::send`] and their answer, so that each can be abandoned at any point. Bounded by
/// the queues a request passes through.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashMap<u64, CancellationToken>>);

impl InFlight {
    fn enter(&self, id: u64) {
        self.0.lock().insert(id, CancellationToken::new());
    }

    /// The request's cancellation; `None` if it was abandoned.
    pub(super) fn get(&self, id: u64) -> Option<CancellationToken> {
        self.0.lock().get(&id).cloned()
    }

    /// Removes a request; false if it had been abandoned or answered before.
    pub(super) fn land(&self, id: u64) -> bool {
        self.0.lock().remove(&id).is_some()
    }

    fn abandon(&self, id: u64) {
        if let Some(token) = self.0.lock().remove(&id) {
            token.cancel();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn message(id: Option<u64>) -> Outgoing {
        let secret = ("authorization".to_owned(), "Bearer hush".to_owned());
        Outgoing {
            id,
            method: "ping".to_owned(),
            body: Bytes::from_static(b"{\"pw\":1}"),
            headers: vec![secret],
        }
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_and_an_ended_wire_says_why() {
        let (queue, mut rest) = queue::bounded(1, Budget::new(64));
        let end = Arc::new(End::default());
        let sender = Sender::new(queue, Arc::clone(&end), None);
        sender.try_send(message(Some(1))).unwrap();
        assert_eq!(sender.try_send(message(Some(2))), Err(TransportError::Busy));
        assert_eq!(rest.recv().await.unwrap().id, Some(1));
        end.set("exited with code 9".to_owned());
        end.set("an echo".to_owned());
        drop(rest);
        let closed = Err(TransportError::Closed("exited with code 9".to_owned()));
        assert_eq!(sender.try_send(message(None)), closed);
    }

    #[tokio::test]
    async fn closed_is_last_and_stays() {
        let (queue, items) = queue::bounded(4, Budget::new(64));
        let end = Arc::new(End::default());
        let mut receiver = Receiver::new(items, Arc::clone(&end));
        queue.send(Incoming::Oversized { limit: 3, answers: None }).await.unwrap();
        end.set("gone".to_owned());
        drop(queue);
        assert!(matches!(receiver.recv().await, Incoming::Oversized { limit: 3, .. }));
        for _ in 0..2 {
            assert!(matches!(receiver.recv().await, Incoming::Closed(why) if why == "gone"));
        }
    }

    #[test]
    fn an_abandoned_request_is_cancelled_and_forgotten() {
        let in_flight = InFlight::default();
        in_flight.enter(7);
        let token = in_flight.get(7).unwrap();
        in_flight.abandon(7);
        assert!(token.is_cancelled());
        assert!(in_flight.get(7).is_none());
        assert!(!in_flight.land(7));
    }

    #[test]
    fn debug_output_keeps_secrets() {
        let shown = format!("{:?}", message(Some(3)));
        assert!(
            shown.contains("authorization") && !shown.contains("hush") && !shown.contains("pw"),
            "{shown}"
        );
    }
}
