//! The client of a conversation, as the pipeline and the backends see it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc::error::TrySendError;

use super::super::line::{Out, Outbound};
use super::Conversation;
use crate::mcp::client::{Affinity, Client, Hello, Question};
use crate::mcp::{REVISIONS, message};

/// One call of a session.
#[derive(Debug)]
pub(super) struct CallLine {
    pub(super) conversation: Arc<Conversation>,
    pub(super) hello: Arc<Hello>,
    pub(super) out: Out,
    /// Its place among the requests of the session.
    pub(super) number: u64,
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
                TrySendError::Closed(Outbound::Part(message)) => self.conversation.tell(message),
                _ => tracing::debug!("a client does not read; a notification was dropped"),
            }
        }
    }

    fn ask(&self, question: Arc<Question>) {
        self.conversation.ask(&question, Some(&self.out.stream));
    }

    fn take_back(&self, key: &str, said: Option<&str>) {
        self.conversation.take_back(key, said);
    }

    fn has_asked_before(&self) -> bool {
        self.conversation.session().has_earlier(self.number)
    }

    fn parting(&self) -> Option<Box<RawValue>> {
        self.out.parting()
    }
}

/// On stdio the client of the shared connections: what it hears belongs to no request in particular, and what it
/// can answer is known after `initialize`.
#[derive(Debug)]
pub(in crate::door) struct Sole(Arc<Conversation>, Hello);

impl Sole {
    pub(in crate::door) fn new(conversation: Arc<Conversation>) -> Arc<Self> {
        let all = message::raw(r#"{"sampling":{},"elicitation":{},"roots":{}}"#.to_owned());
        let hello = Hello { version: REVISIONS[0], capabilities: all, info: None, log_level: None };
        Arc::new(Self(conversation, hello))
    }
}

impl Client for Sole {
    fn hello(&self) -> &Hello {
        &self.1
    }
    fn affinity(&self) -> Affinity {
        Affinity::Shared
    }
    fn tell(&self, message: Bytes) {
        self.0.tell(message);
    }
    fn ask(&self, question: Arc<Question>) {
        self.0.ask(&question, None);
    }
    fn take_back(&self, key: &str, said: Option<&str>) {
        self.0.take_back(key, said);
    }
}
