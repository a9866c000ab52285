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
use crate::door::guard::Form;
use crate::mcp::payload::Payload;

/// The settings that decide how an answer is sent, besides the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways<'a> {
    /// What the client can read.
    pub(super) form: Form,
    pub(super) stopping: &'a CancellationToken,
    /// The longest silence: a proxy on the way, or the client itself, takes a silent connection for dead.
    pub(super) keep_alive: Duration,
}

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

/// Waits for the first message. If that is the answer, it is sent as one JSON message; otherwise an event stream
/// begins. If the first message takes long to come, the stream begins without it, and shows at intervals that the
/// gateway is alive. A client that reads JSON alone gets the answer only; messages before it go to the stream of its
/// session.
pub(super) async fn respond(
    mut queue: Outbox,
    conversation: &Arc<Conversation>,
    guard: Option<CancelOnDrop>,
    work: Option<Work>,
    ways: Ways<'_>,
) -> Response {
    if ways.form == Form::Events {
        return stream(Start::Empty, queue, guard, ways);
    }
    let late = tokio::time::sleep(ways.keep_alive);
    tokio::pin!(late);
    let mut work = work;
    let first = loop {
        let next = match &mut work {
            Some(under_way) => tokio::select! {
                biased;
                next = queue.recv() => next,
                // It ended with its answer in the queue, or without one.
                () = under_way => {
                    work = None;
                    queue.recv().await
                }
                // What is left of the work goes on as a task of its own.
                () = &mut late, if ways.form == Form::Either => return stream(Start::Late, queue, guard, ways),
            },
            None => tokio::select! {
                biased;
                next = queue.recv() => next,
                () = &mut late, if ways.form == Form::Either => return stream(Start::Late, queue, guard, ways),
            },
        };
        match next {
            Some(Outbound::Part(message)) if ways.form == Form::Json => conversation.notify(message),
            next => break next,
        }
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
        Some(first @ Outbound::Part(_)) => stream(Start::With(first), queue, guard, ways),
        // Cancelled by its client: there is no answer.
        None => StatusCode::ACCEPTED.into_response(),
    }
}

/// The stream of a session, for what belongs to no request.
pub(super) fn standing(queue: Outbox, ways: Ways<'_>) -> Response {
    stream(Start::Standing, queue, None, ways)
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

/// An answer that is there at once.
pub(super) fn at_once(form: Form, message: Bytes) -> Response {
    if form != Form::Events {
        return reply(200, message);
    }
    let mut response = Body::from(framed(&message)).into_response();
    head(&mut response);
    response
}

/// How a stream begins.
enum Start {
    /// With the message that made it one.
    With(Outbound),
    /// With a sign of life, because the answer takes long.
    Late,
    /// With whatever comes before the answer, or with that.
    Empty,
    /// With whatever comes; it ends with the gateway.
    Standing,
}

struct Events {
    first: Option<Outbound>,
    /// A sign of life is due.
    late: bool,
    queue: Outbox,
    stopping: CancellationToken,
    keep_alive: Duration,
    /// The standing stream ends with the gateway; a request's with its answer.
    standing: bool,
    /// The message that is being written, and whether it was the answer.
    pouring: Option<Pour>,
    ended: bool,
    _guard: Option<CancelOnDrop>,
}

/// An event stream that ends with the answer.
fn stream(start: Start, queue: Outbox, guard: Option<CancelOnDrop>, ways: Ways<'_>) -> Response {
    let (late, standing) = (matches!(start, Start::Late), matches!(start, Start::Standing));
    let first = match start {
        Start::With(first) => Some(first),
        Start::Late | Start::Empty | Start::Standing => None,
    };
    let events = Events {
        first,
        late,
        queue,
        stopping: ways.stopping.clone(),
        keep_alive: ways.keep_alive,
        standing,
        pouring: None,
        ended: false,
        _guard: guard,
    };
    let body = Body::from_stream(futures_util::stream::unfold(events, next));
    let mut response = body.into_response();
    head(&mut response);
    response
}

fn head(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Proxies in front would hold events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
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
        None if std::mem::take(&mut events.late) => None,
        None => tokio::select! {
            message = events.queue.recv() => Some(message?),
            () = tokio::time::sleep(events.keep_alive) => None,
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
