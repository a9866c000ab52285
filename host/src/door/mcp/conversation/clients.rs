//! The client of a conversation, as the pipeline and the backends see it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc::error::TrySendError;

use super::super::line::{Out, Outbound};
use super::Conversation;
use crate::mcp::client::{Affinity, Client, ClientInfo, ServerRequest};
use crate::mcp::{REVISIONS, message};

/// One call of a session.
#[derive(Debug)]
pub(super) struct SessionClient {
    pub(super) conversation: Arc<Conversation>,
    pub(super) client_info: Arc<ClientInfo>,
    pub(super) out: Out,
    /// Its place among the requests of the session.
    pub(super) number: u64,
}

impl Client for SessionClient {
    fn client_info(&self) -> &ClientInfo {
        &self.client_info
    }

    fn affinity(&self) -> Affinity {
        self.conversation.affinity()
    }

    fn notify(&self, message: Bytes) {
        if self.conversation.hushes(&message) {
            return;
        }
        if let Err(error) = self.out.try_send(Outbound::Part(message)) {
            match error {
                TrySendError::Closed(Outbound::Part(message)) => self.conversation.notify(message),
                _ => tracing::debug!("a client does not read; a notification was dropped"),
            }
        }
    }

    fn ask(&self, question: Arc<ServerRequest>) {
        self.conversation.ask(&question, Some(&self.out.stream));
    }

    fn withdraw(&self, key: &str, said: Option<&str>) {
        self.conversation.withdraw(key, said);
    }

    fn has_asked_before(&self) -> bool {
        self.conversation.session().has_earlier(self.number)
    }

    fn cancel_reason(&self) -> Option<Box<RawValue>> {
        self.out.cancel_reason()
    }
}

/// On stdio the client of the shared connections: what it hears belongs to no request in particular, and what it
/// can answer is known after `initialize`.
#[derive(Debug)]
pub(in crate::door) struct StdioClient(Arc<Conversation>, ClientInfo);

impl StdioClient {
    pub(in crate::door) fn new(conversation: Arc<Conversation>) -> Arc<Self> {
        let all = message::raw(r#"{"sampling":{},"elicitation":{},"roots":{}}"#.to_owned());
        let client_info =
            ClientInfo { version: REVISIONS[0], capabilities: all, info: None, log_level: None };
        Arc::new(Self(conversation, client_info))
    }
}

impl Client for StdioClient {
    fn client_info(&self) -> &ClientInfo {
        &self.1
    }
    fn affinity(&self) -> Affinity {
        Affinity::Shared
    }
    fn notify(&self, message: Bytes) {
        self.0.notify(message);
    }
    fn ask(&self, question: Arc<ServerRequest>) {
        self.0.ask(&question, None);
    }
    fn withdraw(&self, key: &str, said: Option<&str>) {
        self.0.withdraw(key, said);
    }
}
