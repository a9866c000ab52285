//! Hands what a server said of its own accord on to a client.

use std::sync::Arc;

use super::Spontaneous;
use super::peer::Peer;
use crate::mcp::client::{Answered, Client};
use crate::mcp::{message, method, splice};

/// Whether a server says that what it offers has changed.
pub(super) fn is_list_change(message: &Spontaneous) -> bool {
    matches!(message, Spontaneous::Notification { method, .. } if method.ends_with("/list_changed"))
}

/// Hands what a server said on to the client it is for.
pub(super) fn pass_on(
    backend: &Arc<str>,
    peer: &Arc<Peer>,
    client: Option<Arc<dyn Client>>,
    message: Spontaneous,
) {
    match (message, client) {
        (Spontaneous::Request { id, method, .. }, _) if method == "ping" => {
            peer.answer(&id, &Answered::Result(message::raw("{}".to_owned())));
        }
        (Spontaneous::Notification { method, message }, Some(client)) if method == method::CANCELLED => {
            let text = std::str::from_utf8(&message).unwrap_or("{}");
            let id = splice::get(text, "/params/requestId").unwrap_or("null");
            client.withdraw(&peer.question_key(id), splice::get(text, "/params"));
        }
        (Spontaneous::Notification { message, .. }, Some(client)) => client.notify(message),
        (Spontaneous::Notification { method, .. }, None) => {
            tracing::debug!(%backend, method, "a notification that is for nobody was dropped");
        }
        (Spontaneous::Request { id, method, params }, client) => {
            let question = peer.question(&id, method, params);
            match client {
                Some(client) if client.client_info().answers(&question.method) => client.ask(question),
                Some(_) => {
                    question.refuse(crate::mcp::code::METHOD_NOT_FOUND, "the client does not support this");
                }
                None => question.refuse(crate::mcp::code::INTERNAL_ERROR, "no client is connected"),
            }
        }
    }
}
