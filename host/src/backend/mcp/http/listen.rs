//! The standing stream: where a server sends its own requests and notifications when no call is under way. It is an
//! offer of the server, so its absence is no failure and its end never ends the transport.
//!
//! Rule: MCP, "Transports", streamable HTTP, listening for messages from the server.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::super::sse::Parser;
use super::super::transport::Incoming;
use super::Link;
use super::body::is_event_stream;
use super::deliver::{deliver, event_message};
use super::send::{Sending, send};
use super::session::{self, Named};
use crate::backend::spool::TooLong;
use crate::queue;

/// The wait before the first reconnection; it doubles while the stream brings nothing.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Listens from the end of the handshake to the end of the transport, in every session of it.
pub(super) async fn run(
    link: Arc<Link>,
    incoming: queue::Sender<Incoming>,
    start: CancellationToken,
    closing: CancellationToken,
) {
    tokio::select! {
        () = link.closed.cancelled() => {}
        () = closing.cancelled() => {}
        () = async {
            start.cancelled().await;
            // A server of 2024-11-05 has one stream for everything, which is open already.
            if link.legacy.get().is_some() {
                link.stream_answered.cancel();
            }
            while link.legacy.get().is_none() {
                tokio::select! {
                    () = listen(&link, &incoming) => {
                        if link.session.current().is_none() {
                            return;
                        }
                        link.session.renewed.notified().await;
                    }
                    () = link.session.renewed.notified() => {}
                }
            }
        } => {}
    }
}

async fn listen(link: &Link, incoming: &queue::Sender<Incoming>) {
    let mut parser = Parser::new(link.max_body.get(), link.spool.clone());
    let mut wait = FIRST_WAIT;
    loop {
        let position = parser.last_id().map(str::to_owned);
        let session = link.session.current();
        let answer =
            send(link, &Sending::get(position.as_deref()).within(session.as_ref().map(Named::value))).await;
        link.stream_answered.cancel();
        match answer {
            Ok(response) => match judge(&response, session.is_some(), position.is_some()) {
                Verdict::Stream => {
                    parser.restart();
                    if receive(incoming, response, &mut parser, link.max_body.get()).await {
                        wait = FIRST_WAIT;
                    }
                }
                Verdict::Later => {}
                Verdict::Forget => parser.forget_position(),
                Verdict::None => {
                    tracing::debug!(backend = link.name, status = %response.status(), "the server offers no stream");
                    return;
                }
                Verdict::NoneOrOver => {
                    let Some(session) = session else { return };
                    match session::ask(link, incoming, &session).await {
                        // The next session has the next stream.
                        Ok(true) => return,
                        Ok(false) => {
                            tracing::debug!(backend = link.name, status = %response.status(), "the server offers no stream");
                            return;
                        }
                        Err(_) => return link.lose_session(),
                    }
                }
            },
            Err(error) => {
                tracing::debug!(backend = link.name, %error, "the standing stream cannot be opened")
            }
        }
        sleep(wait.max(parser.retry().unwrap_or_default()).min(LONGEST_WAIT)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stream,
    /// The server is busy or broken.
    Later,
    /// The server cannot resume there: listen from now on.
    Forget,
    /// There is no stream, 405 for example.
    None,
    /// The session is over, or there is no such route: servers answer both with 404.
    NoneOrOver,
}

fn judge(response: &Response, in_session: bool, resuming: bool) -> Verdict {
    let status = response.status();
    let patience = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    let unknown = [StatusCode::NOT_FOUND, StatusCode::GONE, StatusCode::BAD_REQUEST].contains(&status);
    if in_session && unknown && !(resuming && status == StatusCode::BAD_REQUEST) {
        Verdict::NoneOrOver
    } else if status == StatusCode::OK && is_event_stream(response.headers()) {
        Verdict::Stream
    } else if status == StatusCode::NOT_IMPLEMENTED {
        Verdict::None
    } else if status.is_server_error() || patience.contains(&status) {
        Verdict::Later
    } else if resuming && status != StatusCode::METHOD_NOT_ALLOWED {
        Verdict::Forget
    } else {
        Verdict::None
    }
}

/// Delivers the messages of one stream until it ends; true if there was any.
async fn receive(
    incoming: &queue::Sender<Incoming>,
    mut response: Response,
    parser: &mut Parser,
    limit: usize,
) -> bool {
    let mut any = false;
    // Its silence is no failure; TCP keep-alive notices a server that has vanished.
    while let Ok(Some(chunk)) = response.chunk().await {
        let items = parser.push(&chunk);
        parser.settle().await;
        for item in items {
            any = true;
            let item = match event_message(item, limit).await {
                Some(Ok(message)) => Incoming::Message(message),
                Some(Err(TooLong { limit })) => Incoming::Oversized { limit, answers: None },
                None => continue,
            };
            deliver(incoming, item).await;
        }
    }
    any
}
