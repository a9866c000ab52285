//! The way back to a client: the stream of one request, and where it is gone, the session's standing one.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::call::shares::Place;
use crate::mcp::payload::Payload;
use crate::pipeline::Caller;
use crate::queue::{self, Weight};
use crate::session::{InFlight, Said};
use crate::telemetry::context::Carried;

/// Messages waiting for a client to read them.
const OUT_QUEUE: usize = 256;

/// A message to a client.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// More will follow on the way this one takes.
    Part(Bytes),
    /// The answer. HTTP has a status for it.
    Last { message: Payload, status: u16 },
}

impl Outbound {
    /// The answer to a request; the message itself says whether it is an error.
    pub(super) fn last(message: impl Into<Payload>) -> Self {
        Self::with(message, 200)
    }

    /// The answer, with its HTTP status.
    pub(super) fn with(message: impl Into<Payload>, status: u16) -> Self {
        Self::Last { message: message.into(), status }
    }

    /// The message itself.
    #[must_use]
    pub fn into_message(self) -> Payload {
        match self {
            Self::Part(message) => message.into(),
            Self::Last { message, .. } => message,
        }
    }
}

impl Weight for Outbound {
    /// An answer counts as nothing: its sender waits for room and holds it meanwhile, and calls under way are bounded.
    fn weight(&self) -> usize {
        match self {
            Self::Part(message) => message.len(),
            Self::Last { .. } => 0,
        }
    }
}

/// Messages on their way to a client.
pub type Stream = queue::Sender<Outbound>;

/// Where they come out.
pub type Outbox = queue::Receiver<Outbound>;

/// A way to this caller. What waits on all of a caller's ways together is bounded in bytes: a caller who does not read
/// loses notifications, and nobody else does.
#[must_use]
pub fn stream(caller: &Caller) -> (Stream, Outbox) {
    queue::bounded(OUT_QUEUE, caller.unread().clone())
}

/// Where messages for one request go, and who sent it: in one session every request brings its own token.
#[derive(Clone, Debug)]
pub struct Out {
    pub(super) stream: Stream,
    pub(super) caller: Arc<Caller>,
    /// Of the request that was taken up, once it was.
    said: Said,
    /// The trace context of its HTTP request.
    pub(super) trace: Option<Arc<Carried>>,
    /// The room that its message takes until everything about it is done.
    _room: Option<Arc<Place>>,
}

impl Out {
    #[must_use]
    pub fn new(stream: Stream, caller: Arc<Caller>) -> Self {
        Self { stream, caller, said: Said::default(), trace: None, _room: None }
    }

    /// The same for a request that belongs to this trace.
    pub(super) fn within(self, trace: Option<Arc<Carried>>) -> Self {
        Self { trace, ..self }
    }

    /// The same for a message that takes this room.
    pub(super) fn holding(self, room: Option<Arc<Place>>) -> Self {
        Self { _room: room, ..self }
    }

    /// The same for a request that was taken up.
    pub(super) fn of(&self, in_flight: &InFlight) -> Self {
        Self { said: in_flight.said.clone(), ..self.clone() }
    }

    /// What the client said when it cancelled the request.
    pub(super) fn cancel_reason(&self) -> Option<Box<RawValue>> {
        self.said.get().cloned()
    }
}

impl std::ops::Deref for Out {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}
