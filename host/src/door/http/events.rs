//! The answer to a POST: one JSON message where nothing precedes it, an event stream where something does.
//!
//! Rule: MCP "Transports", streamable HTTP; the WHATWG's server-sent events.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use tokio_util::sync::CancellationToken;

use super::super::conversation::Conversation;
use super::super::line::{Outbound, Outbox};
use super::super::pour::Pour;
use super::super::respond;
use super::reply;
use super::work::Work;
use crate::mcp::payload::Payload;

/// How often a stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Cancels what a request began, if its answer is not wanted any more.
#[derive(Debug)]
pub(super) struct CancelOnDrop(pub(super) Arc<Conversation>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.session().cancel_all();
    }
}

/// Noted at a response: the scopes its caller lacks.
#[derive(Clone, Debug)]
pub(super) struct Lacking(pub(super) String);

/// Waits for the first message and answers in the form it asks for.
pub(super) async fn respond(
    mut queue: Outbox,
    guard: Option<CancelOnDrop>,
    work: Option<Work>,
    stopping: &CancellationToken,
) -> Response {
    let first = match work {
        Some(mut work) => tokio::select! {
            biased;
            first = queue.recv() => first,
            // It ended with its answer in the queue, or without one.
            () = &mut work => queue.recv().await,
        },
        None => queue.recv().await,
    };
    match first {
        Some(Outbound::Last { message, status }) => {
            let lacking = (status == respond::FORBIDDEN).then(|| respond::lacking(message.text())).flatten();
            let mut response = whole(status, message);
            if let Some(scopes) = lacking {
                response.extensions_mut().insert(Lacking(scopes));
            }
            response
        }
        Some(first @ Outbound::Part(_)) => stream(Some(first), queue, guard, stopping),
        // Cancelled by its client: there is no answer.
        None => StatusCode::ACCEPTED.into_response(),
    }
}

/// One JSON message as the body.
fn whole(status: u16, message: Payload) -> Response {
    if message.is_whole() {
        return reply(status, message.text().clone());
    }
    let length = message.length();
    let pieces = futures_util::stream::unfold(Pour::new(message, false), |mut pour| async {
        Some((pour.next().await?, pour))
    });
    let mut response = reply(status, Bytes::new());
    *response.body_mut() = Body::from_stream(pieces);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

struct Events {
    first: Option<Outbound>,
    queue: Outbox,
    stopping: CancellationToken,
    /// The standing stream ends with the gateway; a request's with its answer.
    standing: bool,
    /// The message that is being written, and whether it was the answer.
    pouring: Option<Pour>,
    ended: bool,
    _guard: Option<CancelOnDrop>,
}

/// An event stream that ends with the answer.
pub(super) fn stream(
    first: Option<Outbound>,
    queue: Outbox,
    guard: Option<CancelOnDrop>,
    stopping: &CancellationToken,
) -> Response {
    let standing = first.is_none();
    let events = Events {
        first,
        queue,
        stopping: stopping.clone(),
        standing,
        pouring: None,
        ended: false,
        _guard: guard,
    };
    let body = Body::from_stream(futures_util::stream::unfold(events, next));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Proxies in front would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

async fn next(mut events: Events) -> Option<(io::Result<Bytes>, Events)> {
    if let Some(pouring) = &mut events.pouring {
        let piece = pouring.next().await;
        if piece.is_none() {
            events.pouring = None;
        }
        return Some((piece.unwrap_or(Ok(Bytes::from_static(END))), events));
    }
    if events.ended {
        return None;
    }
    let message = match events.first.take() {
        Some(first) => Some(first),
        None => tokio::select! {
            message = events.queue.recv() => Some(message?),
            () = tokio::time::sleep(KEEP_ALIVE) => None,
            () = events.stopping.cancelled(), if events.standing => return None,
        },
    };
    let bytes = match message {
        None => Bytes::from_static(b": keep-alive\n\n"),
        Some(message) => {
            events.ended = matches!(message, Outbound::Last { .. });
            let message = message.into_message();
            if message.is_whole() {
                framed(message.text())
            } else {
                events.pouring = Some(Pour::new(message, true));
                Bytes::from_static(BEGIN)
            }
        }
    };
    Some((Ok(bytes), events))
}

const BEGIN: &[u8] = b"event: message\ndata: ";
const END: &[u8] = b"\n\n";

/// One event. A message may hold line ends between its tokens; within an event they would end the data.
fn framed(message: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(message.len() + 32);
    event.put_slice(BEGIN);
    for line in message.split(|byte| matches!(byte, b'\n' | b'\r')) {
        event.put_slice(line);
    }
    event.put_slice(END);
    event.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_data() {
        assert_eq!(&framed(b"{\"a\":\n 1}\r\n")[..], b"event: message\ndata: {\"a\": 1}\n\n");
    }
}
