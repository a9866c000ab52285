//! One message and what comes back: the rules by which a POST ends in exactly one answer or one failure.
//!
//! Rule: MCP, "Transports", streamable HTTP, sending messages; resumability and redelivery.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::STANDING;
use super::super::sse::Parser;
use super::super::transport::{Incoming, Outgoing, TransportError};
use super::body::{answers, gather, is_answer, is_event_stream, read, refused, unknown_coding};
use super::deliver::{deliver, deliver_answer, event_message};
use super::send::{Sending, send};
use super::session::{self, Named, Verdict};
use super::{Link, legacy, silence, silent_for};
use crate::backend::spool::TooLong;
use crate::mcp::{method, said};
use crate::outbound::explain;
use crate::queue;

/// Attempts to resume a broken stream that bring no new event.
const RESUMPTIONS: u32 = 3;
/// Bounds for the wait before a resumption, whatever the server's `retry` says.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
/// After the answer the server ends the stream; waiting this long for it lets the connection be used again.
const EPILOGUE: Duration = Duration::from_millis(250);
/// How many bytes of an unwanted body are read, so that the connection can be used again.
const REMNANT: usize = 64 * 1024;

/// Sends a message, delivers all that comes back, or the failure.
pub(super) async fn run(link: &Arc<Link>, incoming: &queue::Sender<Incoming>, message: &Outgoing) {
    let Err(error) = post(link, incoming, message).await else { return };
    let lost = error == TransportError::SessionLost;
    match message.id {
        // If the request was abandoned in this moment, the failure is dropped.
        Some(id) if link.in_flight.land(id) => deliver(incoming, Incoming::Failed { id, error }).await,
        Some(_) => {}
        None => {
            tracing::warn!(backend = link.name, method = message.method, %error, "a notification did not reach the server")
        }
    }
    if lost {
        link.lose_session();
    }
}

/// The result of one attempt to send a message.
enum Attempt {
    /// It is done: the answer, if there is one, has been delivered.
    Done,
    /// The server did not look at it, because it does not know this session.
    Lost(Named),
    /// The server takes no POST: it may be one of 2024-11-05.
    NoPost(TransportError),
}

async fn post(
    link: &Arc<Link>,
    incoming: &queue::Sender<Incoming>,
    message: &Outgoing,
) -> Result<(), TransportError> {
    if legacy::is_to_be_looked_for(link) {
        Box::pin(legacy::look(link, incoming)).await;
    }
    if let Some(legacy) = link.legacy.get() {
        return legacy.post(link, incoming, message).await;
    }
    // The rest happens rarely. It is boxed, because this future is as large as the largest one it waits for.
    match attempt(link, incoming, message).await? {
        Attempt::Done => Ok(()),
        Attempt::Lost(session) => Box::pin(again(link, incoming, message, &session)).await,
        Attempt::NoPost(refused) => Box::pin(legacy::fall_back(link, incoming, message, refused)).await,
    }
}

/// Opens the next session and sends the message once more.
async fn again(
    link: &Arc<Link>,
    incoming: &queue::Sender<Incoming>,
    message: &Outgoing,
    lost: &Named,
) -> Result<(), TransportError> {
    if let Err(error) = session::renew(link, incoming, lost).await {
        tracing::debug!(backend = link.name, %error, "the server gave no new session");
        return Err(TransportError::SessionLost);
    }
    // An answer or a cancellation is about a request of the old session, which the new one does not know.
    if message.method.is_empty() || message.method == method::CANCELLED {
        return Ok(());
    }
    match attempt(link, incoming, message).await? {
        Attempt::Done => Ok(()),
        Attempt::Lost(_) => {
            tracing::warn!(
                backend = link.name,
                "the server forgets a session as soon as it has given it out; if several servers answer at one address, \
                 each client must come to the same one always"
            );
            Err(TransportError::SessionLost)
        }
        Attempt::NoPost(error) => Err(error),
    }
}

async fn attempt(
    link: &Arc<Link>,
    incoming: &queue::Sender<Incoming>,
    message: &Outgoing,
) -> Result<Attempt, TransportError> {
    let session = link.session.current();
    let request =
        Sending::post(message.body.clone(), &message.headers).within(session.as_ref().map(Named::value));
    // The caller that waits for the answer to a request has a timer of its own, and gives it up in time.
    let patience = if message.id.is_some() { link.times.longest() } else { link.times.timeout() };
    let response = timeout(patience, send(link, &request)).await.map_err(|_| silent_for(patience))??;
    let status = response.status();
    let opens = message.method == "initialize";
    if status.is_success() && session.is_none() {
        if opens {
            link.session.opened(response.headers(), message);
        } else {
            link.session.stray(response.headers());
        }
    }
    if !status.is_success() {
        let (error, body) = refused(link, response).await;
        let answers = message.id.is_some_and(|id| answers(&body, id));
        if let Some(session) = session {
            match session::judge(status, &body, answers) {
                Verdict::Over => return Ok(Attempt::Lost(session)),
                Verdict::Doubtful => Box::pin(session::ask(link, incoming, &session)).await.map(drop)?,
                Verdict::Alive => {}
            }
        }
        return match message.id {
            // A server may say what is wrong as the JSON-RPC error of this request: more exact than a status.
            Some(id) if answers => {
                deliver_answer(link, incoming, id, body.into()).await;
                Ok(Attempt::Done)
            }
            _ if opens && legacy::is_likely(status) => Ok(Attempt::NoPost(error)),
            _ => Err(error),
        };
    }
    let Some(id) = message.id else {
        // 202 without a body; whatever else there is answers nothing.
        let _ = read(response, REMNANT, link.times.timeout()).await;
        return Ok(Attempt::Done);
    };
    let coding = unknown_coding(response.headers());
    if let Some(coding) = coding {
        return Err(TransportError::Protocol(format!(
            "its answer is compressed as \"{coding}\", which the gateway did not ask for and cannot undo"
        )));
    }
    if is_event_stream(response.headers()) {
        let standing = message.method == "subscriptions/listen";
        follow(link, incoming, response, session.as_ref(), id, standing).await?;
        return Ok(Attempt::Done);
    }
    let mut body = gather(link, response).await?;
    if !is_answer(&mut body, id) {
        let text = link.redaction.words(&said::in_body(body.text()));
        return Err(TransportError::Protocol(format!(
            "status {status} without the answer to the request: {text}"
        )));
    }
    deliver_answer(link, incoming, id, body).await;
    Ok(Attempt::Done)
}

/// Reads an answer that streams, and resumes it where it broke off, until it contains the response.
async fn follow(
    link: &Link,
    incoming: &queue::Sender<Incoming>,
    response: Response,
    session: Option<&Named>,
    id: u64,
    standing: bool,
) -> Result<(), TransportError> {
    let mut parser = Parser::new(link.max_body.get(), link.spool.clone());
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
            return Err(TransportError::Protocol(format!(
                "the event stream ended before the answer: {broken}"
            )));
        };
        // A server may hang up and have the stream resumed as often as it likes, as long as new events come.
        fruitless = if position.as_ref() == Some(&last) { fruitless } else { 0 };
        if fruitless == RESUMPTIONS {
            let times = "resumed 3 times in vain";
            return Err(TransportError::Protocol(format!(
                "the event stream ended before the answer, {times}: {broken}"
            )));
        }
        fruitless += 1;
        sleep(parser.retry().unwrap_or(DEFAULT_RETRY).clamp(SHORTEST_RETRY, LONGEST_RETRY)).await;
        parser.restart();
        match resume(link, session, &last).await {
            Ok(response) => stream = Some(response),
            Err(Unresumed::Over(error)) => {
                // This request is lost: the server has looked at it. Those after it need not be.
                if let Some(session) = session {
                    let _ = Box::pin(session::ask(link, incoming, session)).await;
                }
                return Err(TransportError::Protocol(format!(
                    "the event stream ended before the answer, and cannot be resumed ({error}): {broken}"
                )));
            }
            Err(Unresumed::Perhaps(error)) => broken = error.to_string(),
        }
    }
}

enum Unresumed {
    /// Nothing will come any more.
    Over(TransportError),
    Perhaps(TransportError),
}

async fn resume(link: &Link, session: Option<&Named>, last: &str) -> Result<Response, Unresumed> {
    let request = Sending::get(Some(last)).within(session.map(Named::value));
    let response = timeout(link.times.timeout(), send(link, &request)).await;
    let response = response.map_err(|_| Unresumed::Perhaps(link.silent()))?.map_err(Unresumed::Perhaps)?;
    let status = response.status();
    if status == StatusCode::OK && is_event_stream(response.headers()) {
        return Ok(response);
    }
    let over = session.is_some() && status == StatusCode::NOT_FOUND;
    let (error, _) = refused(link, response).await;
    Err(if over { Unresumed::Over(error) } else { Unresumed::Perhaps(error) })
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
) -> Result<Pumped, TransportError> {
    let mut answered: Option<Instant> = None;
    let silence_allowed = if standing { STANDING } else { link.times.longest() };
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
            match event_message(item, link.max_body.get()).await {
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
                // It may have been the answer, and then no other would come.
                Some(Err(TooLong { limit })) if answered.is_none() => {
                    return Err(TransportError::TooLarge { limit });
                }
                Some(Err(TooLong { limit })) => {
                    deliver(incoming, Incoming::Oversized { limit, answers: None }).await
                }
            }
        }
    }
}
