//! Hands on what a server sent, in whichever exchange it came.

use reqwest::Response;
use tokio::time::timeout;

use super::super::sse::{Item, Parser};
use super::super::transport::{Incoming, TransportError};
use super::Link;
use super::body::{answers, is_event_stream, read, transport};
use crate::backend::spool::TooLong;
use crate::mcp::payload::Payload;
use crate::queue;

/// The message of an event; `None` for event types MCP does not define.
pub(super) async fn event_message(item: Item, limit: usize) -> Option<Result<Payload, TooLong>> {
    match item {
        Item::Event { name, data } if name == "message" => Some(Ok(data.into())),
        Item::Long { name, data } if name == "message" => Some(data.finish().await),
        Item::Event { .. } | Item::Long { .. } => None,
        Item::Oversized => Some(Err(TooLong { limit })),
    }
}

/// Delivers the answer. From here on the request cannot be abandoned, so that the answer is not lost half-way.
pub(super) async fn deliver_answer(link: &Link, incoming: &queue::Sender<Incoming>, id: u64, body: Payload) {
    if link.in_flight.land(id) {
        deliver(incoming, Incoming::Message(body)).await;
    }
}

/// Waits while the queue is full; the server's bytes then wait in the kernel. Without a receiver the item is dropped.
pub(super) async fn deliver(incoming: &queue::Sender<Incoming>, item: Incoming) {
    let _ = incoming.send(item).await;
}

/// The answer to a request of the transport's own, which is delivered to no caller.
pub(super) async fn answer_of(
    link: &Link,
    mut response: Response,
    id: u64,
) -> Result<Payload, TransportError> {
    if !is_event_stream(response.headers()) {
        let body: Payload = read(response, link.max_body.get(), link.times.timeout()).await?.into();
        return if answers(body.text(), id) { Ok(body) } else { Err(no_answer()) };
    }
    let mut parser = Parser::new(link.max_body.get(), None);
    while let Some(chunk) = timeout(link.times.timeout(), response.chunk())
        .await
        .map_err(|_| link.silent())?
        .map_err(transport)?
    {
        for item in parser.push(&chunk) {
            if let Some(Ok(data)) = event_message(item, link.max_body.get()).await
                && answers(data.text(), id)
            {
                return Ok(data);
            }
        }
    }
    Err(no_answer())
}

fn no_answer() -> TransportError {
    TransportError::Protocol("success without the answer to the request".to_owned())
}
