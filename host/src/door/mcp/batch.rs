//! JSON-RPC batches: only where the revision has them (2025-03-26 "Batching"; removed in 2025-06-18).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::conversation::{Conversation, complaint, say};
use super::line::{Out, Outbound};
use crate::call::Json;
use crate::mcp::envelope::{self, Message};
use crate::mcp::payload::Payload;
use crate::mcp::{BATCH_REVISION, code, era, message, splice};
use crate::pipeline::whole;
use crate::queue;

/// Most messages in one batch.
const MAX_BATCH: usize = 100;

impl Conversation {
    pub(super) async fn receive_batch(self: &Arc<Self>, text: &[u8], out: &Out) {
        let refuse =
            |code: i64, text: &str| Outbound::with(message::error("null", code, text, &Value::Null), 400);
        let allowed = self.client_info().is_some_and(|client_info| client_info.version == BATCH_REVISION);
        let parts: Vec<&RawValue> = match serde_json::from_slice(text) {
            Ok(parts) => parts,
            Err(error) => return say(out, refuse(code::PARSE_ERROR, &format!("not JSON: {error}"))).await,
        };
        if !allowed {
            let text = format!("batches exist only in protocol version {BATCH_REVISION}");
            return say(out, refuse(code::INVALID_REQUEST, &text)).await;
        }
        if parts.is_empty() || parts.len() > MAX_BATCH {
            let text = format!("a batch holds 1 to {MAX_BATCH} messages");
            return say(out, refuse(code::INVALID_REQUEST, &text)).await;
        }
        let (collect, mut collected) = queue::bounded(MAX_BATCH, out.caller.unread().clone());
        let collect = Out::new(collect, out.caller.clone());
        // Messages about a request of the batch that are not its answer are sent at once, apart from the batch.
        let parts: Vec<Box<RawValue>> = parts.into_iter().map(ToOwned::to_owned).collect();
        let (this, out) = (self.clone(), out.clone());
        self.tasks().spawn(async move {
            let at_once: Vec<Bytes> =
                parts.iter().filter_map(|part| this.receive_part(part, &collect)).collect();
            drop(collect);
            let mut batch: Vec<u8> = vec![b'['];
            batch.extend_from_slice(&at_once.join(&b","[..]));
            while let Some(reply) = collected.recv().await {
                match reply {
                    Outbound::Part(_) => say(&out, reply).await,
                    Outbound::Last { message, .. } => {
                        if batch.len() > 1 {
                            batch.push(b',');
                        }
                        // Several answers make one message, and that one is made in memory.
                        batch.extend_from_slice(&in_memory(&message).await);
                    }
                }
            }
            // A batch of notifications gets no answer at all.
            if batch.len() > 1 {
                batch.push(b']');
                say(&out, Outbound::last(Bytes::from(batch))).await;
            }
        });
    }

    /// Takes one message of a batch. Its answer, if it has one at once; a later one comes out of `collect`.
    fn receive_part(self: &Arc<Self>, part: &RawValue, collect: &Out) -> Option<Bytes> {
        let refused = |id: &RawValue, text: &str| {
            Some(message::error(id.get(), code::INVALID_REQUEST, text, &Value::Null))
        };
        match envelope::parse(part.get().as_bytes()) {
            Ok(Message::Request { id, method, .. }) if method == "initialize" => {
                refused(id, "initialize must not be part of a batch")
            }
            Ok(Message::Request { id, params, .. }) if era::is_stateless(params.map(RawValue::get)) => {
                // Its headers could not be compared with it, and that revision has no batches.
                refused(id, "a request of revision 2026-07-28 must not be part of a batch")
            }
            Ok(Message::Request { id, method, params }) => {
                let reply = self.request(id, &method, params.map(Json::from), collect);
                reply.map(|reply| reply.into_message().text().clone())
            }
            Ok(Message::Notification { method, params }) => {
                self.notification(&method, params, &collect.caller);
                None
            }
            Ok(Message::Response { id, body }) => {
                self.response(id, body);
                None
            }
            Err(error) => Some(complaint(&error)),
        }
    }
}

/// An answer as a part of a batch, or the error in its place if it cannot be read whole.
async fn in_memory(message: &Payload) -> Bytes {
    let error = match whole(message.clone()).await {
        Ok(whole) => return whole,
        Err(error) => error,
    };
    let id = splice::get(message.json(), "/id").unwrap_or("null");
    let text = format!("{error}; send the request by itself");
    message::error(id, code::INTERNAL_ERROR, &text, &serde_json::json!({ "reason": "message_too_large" }))
}
