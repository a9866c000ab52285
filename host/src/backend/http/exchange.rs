//! One message and what comes back: the rules by which a POST ends in exactly one answer or one failure.
//!
//! Rule: MCP, "Transports", streamable HTTP, sending messages; resumability and redelivery.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::STANDING;
use super::super::spool::{Gather, TooLong};
use super::super::sse::{Item, Parser};
use super::super::wire::{Incoming, Outgoing, WireError};
use super::{Link, explain, headers, session_is_over};
use crate::mcp::payload::Payload;
use crate::mcp::{envelope, mend, message, said};
use crate::queue;

/// Attempts to resume a broken stream that bring no new event.
const RESUMPTIONS: u32 = 3;
/// Bounds for the wait before a resumption, whatever the server's `retry` says.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
/// After the answer the server ends the stream; waiting this long for it lets the connection be used again.
const EPILOGUE: Duration = Duration::from_millis(250);
/// A body that says it is no longer than this is read in one piece, in bytes.
const LITTLE: u64 = 64 << 10;
/// Bytes of a body nobody will read that are read so that the connection can be used again.
const REMNANT: usize = 64 * 1024;

/// Sends a message, delivers all that comes back, or the failure.
pub(super) async fn run(link: &Link, incoming: &queue::Sender<Incoming>, message: &Outgoing) {
    let Err(error) = post(link, incoming, message).await else { return };
    let lost = error == WireError::SessionLost;
    match message.id {
        // Whoever abandoned the request in this moment does not want to hear of it.
        Some(id) if link.flights.land(id) => deliver(incoming, Incoming::Failed { id, error }).await,
        Some(_) => {}
        None => tracing::warn!(backend = link.name, method = message.method, %error, "a notification failed"),
    }
    if lost {
        link.lose_session();
    }
}

async fn post(link: &Link, incoming: &queue::Sender<Incoming>, message: &Outgoing) -> Result<(), WireError> {
    let (request, in_session) = link.request(Method::POST, &message.headers)?;
    let request = request
        .header(ACCEPT, "application/json, text/event-stream")
        .header(CONTENT_TYPE, "application/json")
        .body(message.body.clone());
    // Whoever waits for the answer to a request has a clock of its own, and gives it up in time.
    let patience = if message.id.is_some() { link.longest } else { link.timeout };
    let response =
        timeout(patience, request.send()).await.map_err(|_| silent(patience))?.map_err(transport)?;
    let status = response.status();
    if session_is_over(status, in_session) {
        return Err(WireError::SessionLost);
    }
    if status.is_success() && message.method == "initialize" {
        remember_session(link, response.headers());
    }
    let Some(id) = message.id else {
        if status.is_success() {
            // 202 without a body; whatever else there is answers nothing.
            let _ = read(response, REMNANT, link.timeout).await;
            return Ok(());
        }
        return Err(refused(link, response).await.0);
    };
    if !status.is_success() {
        // A server may say what is wrong as the JSON-RPC error of this request: more exact than a status.
        let (error, body) = refused(link, response).await;
        if !answers(&body, id) {
            return Err(error);
        }
        deliver_answer(link, incoming, id, body.into()).await;
        return Ok(());
    }
    if is_event_stream(response.headers()) {
        let standing = message.method == "subscriptions/listen";
        return follow(link, incoming, response, id, standing).await;
    }
    let mut body = gather(link, response).await?;
    if !is_answer(&mut body, id) {
        let text = link.redaction.words(&said::in_body(body.text()));
        return Err(WireError::Protocol(format!(
            "status {status} without the answer to the request: {text}"
        )));
    }
    deliver_answer(link, incoming, id, body).await;
    Ok(())
}

fn remember_session(link: &Link, headers: &HeaderMap) {
    if let Some(session) = headers.get(headers::SESSION) {
        let mut session = session.clone();
        session.set_sensitive(true);
        *link.session.write() = Some(session);
    }
}

/// Reads an answer that streams, and resumes it where it broke off, until it contains the response.
async fn follow(
    link: &Link,
    incoming: &queue::Sender<Incoming>,
    response: Response,
    id: u64,
    standing: bool,
) -> Result<(), WireError> {
    let mut parser = Parser::new(link.max_body, link.spool.clone());
    let mut stream = Some(response);
    let mut fruitless = 0;
    let mut broken = String::new();
    loop {
        let position = parser.last_id().map(str::to_owned);
        if let Some(response) = stream.take() {
            match pump(link, incoming, response, &mut parser, id, standing).await? {
                Pumped::Answered => return Ok(()),
                Pumped::Ended(why) => broken = why,
            }
        }
        let Some(last) = parser.last_id().map(str::to_owned) else {
            return Err(WireError::Protocol(format!("the event stream ended before the answer: {broken}")));
        };
        // A server may hang up and be polled as often as it likes, if only it gets on.
        fruitless = if position.as_ref() == Some(&last) { fruitless } else { 0 };
        if fruitless == RESUMPTIONS {
            let times = "resumed 3 times in vain";
            return Err(WireError::Protocol(format!(
                "the event stream ended before the answer, {times}: {broken}"
            )));
        }
        fruitless += 1;
        sleep(parser.retry().unwrap_or(DEFAULT_RETRY).clamp(SHORTEST_RETRY, LONGEST_RETRY)).await;
        parser.restart();
        match resume(link, &last).await {
            Ok(response) => stream = Some(response),
            Err(WireError::SessionLost) => return Err(WireError::SessionLost),
            Err(error) => broken = error.to_string(),
        }
    }
}

async fn resume(link: &Link, last: &str) -> Result<Response, WireError> {
    let (response, in_session) =
        timeout(link.timeout, get(link, Some(last))).await.map_err(|_| silent(link.timeout))??;
    let status = response.status();
    if session_is_over(status, in_session) {
        return Err(WireError::SessionLost);
    }
    if status == StatusCode::OK && is_event_stream(response.headers()) {
        return Ok(response);
    }
    Err(refused(link, response).await.0)
}

/// Asks for an event stream, after the event `last` if there is one; with whether the request named a session.
pub(super) async fn get(link: &Link, last: Option<&str>) -> Result<(Response, bool), WireError> {
    let (mut request, in_session) = link.request(Method::GET, &[])?;
    // An id with bytes that no header can carry is as good as none.
    if let Some(last) = last.and_then(|last| HeaderValue::from_bytes(last.as_bytes()).ok()) {
        request = request.header(headers::LAST_EVENT_ID, last);
    }
    Ok((request.header(ACCEPT, "text/event-stream").send().await.map_err(transport)?, in_session))
}

enum Pumped {
    Answered,
    Ended(String),
}

/// Delivers the messages of one stream in order, until it ends.
async fn pump(
    link: &Link,
    incoming: &queue::Sender<Incoming>,
    mut response: Response,
    parser: &mut Parser,
    id: u64,
    standing: bool,
) -> Result<Pumped, WireError> {
    let mut answered: Option<Instant> = None;
    let silence_allowed = if standing { STANDING } else { link.longest };
    loop {
        let deadline = answered.map_or_else(|| Instant::now() + silence_allowed, |at| at + EPILOGUE);
        let chunk = match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            _ if answered.is_some() => return Ok(Pumped::Answered),
            Ok(Ok(None)) => return Ok(Pumped::Ended("the server closed it".to_owned())),
            Ok(Err(error)) => return Ok(Pumped::Ended(explain(error))),
            Err(_) => return Ok(Pumped::Ended(silence(silence_allowed))),
        };
        let items = parser.push(&chunk);
        parser.settle().await;
        for item in items {
            match event_message(item, link.max_body).await {
                // Event types MCP does not define.
                None => {}
                Some(Ok(mut message)) => {
                    if answered.is_none() && is_answer(&mut message, id) {
                        answered = Some(Instant::now());
                        deliver_answer(link, incoming, id, message).await;
                    } else {
                        deliver(incoming, Incoming::About { id, message }).await;
                    }
                }
                // It may have been the answer; waiting for another would be waiting in vain.
                Some(Err(TooLong { limit })) if answered.is_none() => {
                    return Err(WireError::TooLarge { limit });
                }
                Some(Err(TooLong { limit })) => {
                    deliver(incoming, Incoming::Oversized { limit, answers: None }).await
                }
            }
        }
    }
}

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
async fn deliver_answer(link: &Link, incoming: &queue::Sender<Incoming>, id: u64, body: Payload) {
    if link.flights.land(id) {
        deliver(incoming, Incoming::Message(body)).await;
    }
}

/// A full queue is waited for: the server's bytes then wait in the kernel. Without a receiver nobody minds.
pub(super) async fn deliver(incoming: &queue::Sender<Incoming>, item: Incoming) {
    let _ = incoming.send(item).await;
}

/// The failure that a status stands for, and the body.
async fn refused(link: &Link, response: Response) -> (WireError, Bytes) {
    let status = response.status().as_u16();
    let retry_after = headers::retry_after(response.headers(), Timestamp::now());
    // A body that breaks off or is too large does not hide the status.
    let body = read(response, link.max_body, link.timeout).await.unwrap_or_default();
    let said = link.redaction.words(&said::in_body(&body));
    (WireError::Status { status, retry_after, said }, body)
}

/// An answer of any length.
async fn gather(link: &Link, mut response: Response) -> Result<Payload, WireError> {
    let short = response.content_length().is_some_and(|length| length <= LITTLE);
    if short || link.spool.is_none() {
        return Ok(read(response, link.max_body, link.longest).await?.into());
    }
    let mut body = Gather::new(link.spool.clone(), link.max_body);
    while let Some(chunk) =
        timeout(link.longest, response.chunk()).await.map_err(|_| silent(link.longest))?.map_err(transport)?
    {
        body.push(&chunk);
        body.settle().await;
        if body.has_failed() {
            break;
        }
    }
    body.finish().await.map_err(|TooLong { limit }| WireError::TooLarge { limit })
}

async fn read(mut response: Response, limit: usize, patience: Duration) -> Result<Bytes, WireError> {
    let too_large = WireError::TooLarge { limit };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let chunk =
            timeout(patience, response.chunk()).await.map_err(|_| silent(patience))?.map_err(transport)?;
        let Some(chunk) = chunk else { break };
        if first.len() + all.len() + chunk.len() > limit {
            return Err(too_large);
        }
        if first.is_empty() && all.is_empty() {
            // Most bodies come in one piece, which is not copied.
            first = chunk;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A message as far as it says whose answer it is; members are skipped.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<IgnoredAny>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Head<'_> {
    fn answers(&self, id: u64) -> bool {
        self.method.is_none() && self.id.is_some_and(|found| envelope::number(found.get()) == Some(id))
    }
}

/// True if the JSON is a response to this id, or a batch with one.
fn answers(body: &[u8], id: u64) -> bool {
    if body.trim_ascii_start().first() == Some(&b'[') {
        serde_json::from_slice::<Vec<Head<'_>>>(body)
            .is_ok_and(|batch| batch.iter().any(|head| head.answers(id)))
    } else {
        serde_json::from_slice::<Head<'_>>(body).is_ok_and(|head| head.answers(id))
    }
}

/// The same for what a server sent with success, where more is certain: an error that names no request is about the one it
/// came with, and gets its id; and what is not quite JSON may be read all the same.
fn is_answer(body: &mut Payload, id: u64) -> bool {
    let text = body.text().clone();
    if let Ok(head) = serde_json::from_slice::<Head<'_>>(&text) {
        let nameless = head.method.is_none() && head.id.is_none();
        let Some(error) = head.error.filter(|_| nameless) else { return head.answers(id) };
        *body = body.reworded(message::error_object(&id.to_string(), error.get()));
        return true;
    }
    // Whoever reads it says what is wrong with it.
    answers(&text, id)
        || mend::mend(&text).is_some_and(|mended| mended.texts.iter().any(|text| answers(text, id)))
}

/// Only a connection that never was is [`WireError::Unreachable`]; after that the server may have acted.
fn transport(error: reqwest::Error) -> WireError {
    if error.is_connect() || error.is_builder() {
        WireError::Unreachable(explain(error))
    } else {
        WireError::Protocol(format!("the connection broke off: {}", explain(error)))
    }
}

fn silent(time: Duration) -> WireError {
    WireError::Protocol(silence(time))
}

fn silence(time: Duration) -> String {
    format!("no byte from the server for {time:?}")
}
