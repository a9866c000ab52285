//! What backends say unasked, in words a door understands.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::backend::{Event, Peer};
use crate::mcp::catalog::List;
use crate::mcp::envelope::Body;
use crate::mcp::{message, splice};

/// Something a client should hear of.
#[derive(Debug)]
pub enum News {
    /// A merged list is not what it was.
    ListChanged(List),
    /// A whole message, for one session or for all.
    Message { session: Option<Arc<str>>, message: Bytes },
    /// A backend asks the client something.
    Request(ClientRequest),
    /// It no longer wants the answer; `reason` is a JSON text.
    Taken { request: ClientRequest, reason: Option<String> },
}

/// A backend's question to the client. It is answered through its own connection only.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    peer: Arc<Peer>,
    id: Box<RawValue>,
    method: String,
    params: Option<Box<RawValue>>,
}

impl ClientRequest {
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    #[must_use]
    pub fn params(&self) -> Option<&str> {
        self.params.as_deref().map(RawValue::get)
    }

    /// Whether this is the same question of the same backend.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.peer, &other.peer) && self.id.get() == other.id.get()
    }

    /// Hands the client's answer to the backend that asked.
    pub fn answer(&self, body: Body<'_>) {
        self.peer.answer(&self.id, body);
    }

    /// Answers with an error of the gateway's.
    pub fn refuse(&self, code: i64, text: &str) {
        let error = message::raw(serde_json::json!({ "code": code, "message": text }).to_string());
        self.peer.answer(&self.id, Body::Error(&error));
    }
}

impl From<Event> for News {
    fn from(event: Event) -> Self {
        match event {
            Event::ListChanged(list) => Self::ListChanged(list),
            Event::Progress { session, message } => Self::Message { session: Some(session), message },
            Event::Request { peer, id, method, params, .. } => {
                Self::Request(ClientRequest { peer, id, method, params })
            }
            Event::Notification { peer, method, message, .. } if method == "notifications/cancelled" => {
                let text = std::str::from_utf8(&message).unwrap_or("{}");
                let id = splice::get(text, "/params/requestId").unwrap_or("null").to_owned();
                let reason = splice::get(text, "/params/reason").map(str::to_owned);
                let request = ClientRequest { peer, id: crate::mcp::message::raw(id), method, params: None };
                Self::Taken { request, reason }
            }
            Event::Notification { message, .. } => Self::Message { session: None, message },
        }
    }
}
