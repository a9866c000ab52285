//! The way back to a client: the stream of one request, and where it is gone, the session's standing one.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::conversation::Conversation;
use crate::mcp::client::{Affinity, Client, Hello, Question};

/// Messages waiting for a client to read them.
pub(super) const OUT_QUEUE: usize = 256;

/// A message to a client.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// More will follow on the way this one takes.
    Part(Bytes),
    /// The answer. HTTP has a status for it.
    Last { message: Bytes, status: u16 },
}

impl Outbound {
    /// The answer to a request; whether it is an error stands in the message.
    pub(super) fn last(message: Bytes) -> Self {
        Self::Last { message, status: 200 }
    }

    /// The message itself.
    #[must_use]
    pub fn message(&self) -> &Bytes {
        match self {
            Self::Part(message) | Self::Last { message, .. } => message,
        }
    }
}

/// Where messages for one request go.
pub type Out = mpsc::Sender<Outbound>;

/// One call of a session.
#[derive(Debug)]
pub(super) struct CallLine {
    pub(super) conversation: Arc<Conversation>,
    pub(super) hello: Arc<Hello>,
    pub(super) out: Out,
}

impl Client for CallLine {
    fn hello(&self) -> &Hello {
        &self.hello
    }

    fn affinity(&self) -> Affinity {
        self.conversation.affinity()
    }

    fn tell(&self, message: Bytes) {
        if let Err(error) = self.out.try_send(Outbound::Part(message)) {
            match error {
                mpsc::error::TrySendError::Closed(Outbound::Part(message)) => self.conversation.tell(message),
                _ => tracing::debug!("a client does not read; a notification was dropped"),
            }
        }
    }

    fn ask(&self, question: Arc<Question>) {
        self.conversation.ask(&question, Some(&self.out));
    }

    fn take_back(&self, key: &str, reason: Option<&str>) {
        self.conversation.take_back(key, reason);
    }
}
