//! The transport to an MCP server behind a URL: streamable HTTP as the client sees it, revisions 2025-03-26 to 2025-11-25
//! (and the plain POST of 2026-07-28, which brings its headers with each message).
//!
//! Every message is one POST in a task of its own, so one slow call delays no other. The rules of one exchange stand
//! in `exchange`, how one request is sent in `send`, the standing stream for the server's own messages in `listen`, a
//! session and its successor in `session`, and how servers of 2024-11-05 are spoken to in `legacy`.

mod body;
pub(in crate::backend) mod client;
mod deliver;
mod exchange;
mod headers;
mod legacy;
mod listen;
mod send;
mod session;
mod times;
mod trust;

pub(in crate::backend) use send::was_not_looked_at;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use reqwest::header::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::client::Clients;
use self::legacy::Legacy;
use self::send::Target;
use self::session::Session;
pub(crate) use self::times::Times;
use super::transport::{
    self, Control, Driver, End, InFlight, Incoming, OUTGOING_QUEUE, Outgoing, Receiver, Sender, Transport,
    TransportError,
};
use crate::backend::limit::MessageLimit;
use crate::backend::spool::Spool;
use crate::config::Route;
use crate::queue::{self, Held};
use crate::redact::Redaction;

/// Requests under way per server; more wait in a queue of [`OUTGOING_QUEUE`].
const REQUESTS: usize = 256;
/// Notifications and responses under way per server. They have places of their own, so that a cancellation reaches a
/// server whose every request hangs.
const NOTES: usize = 64;
/// The least time the DELETE of a session gets.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long the first request waits for an answer to the one for the standing stream. Servers that keep the headers back
/// until there is a message cost it this once.
const STREAM_PATIENCE: Duration = Duration::from_millis(250);

/// The server to talk to.
#[derive(Clone)]
pub(crate) struct HttpSpec {
    /// The backend, for log lines.
    pub name: String,
    /// The MCP endpoint.
    pub url: String,
    /// Headers of every request. Hop-by-hop headers and those of the transport itself are left out.
    pub headers: Vec<(String, String)>,
    /// How it is reached.
    pub route: Route,
    /// The largest JSON body or event accepted, in bytes; with a spool, what of it stays in memory.
    pub max_body: MessageLimit,
    /// What takes secrets out of the server's words.
    pub redaction: Redaction,
    /// Where longer answers go.
    pub spool: Option<Arc<Spool>>,
    /// How long it is waited for.
    pub times: Arc<Times>,
}

// Header values are credentials, and a URL may hold one.
impl fmt::Debug for HttpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let mut out = f.debug_struct("HttpSpec");
        out.field("name", &self.name).field("headers", &names).field("max_body", &self.max_body);
        out.field("times", &self.times).finish_non_exhaustive()
    }
}

/// Opens a transport; nothing is sent before the first message. A URL or header that cannot be used fails every request.
/// Needs a Tokio runtime.
pub(crate) fn open(spec: &HttpSpec, client: reqwest::Client) -> Transport {
    let link = Arc::new(Link::new(spec, client));
    let (end, in_flight) = (Arc::clone(&link.end), Arc::clone(&link.in_flight));
    let (sender, outgoing) = transport::outgoing();
    let (incoming, receiver) = transport::incoming();
    let handle = Handle {
        link: Arc::clone(&link),
        closing: CancellationToken::new(),
        listening: CancellationToken::new(),
        tracker: TaskTracker::new(),
    };
    tokio::spawn(listen::run(
        Arc::clone(&link),
        incoming.clone(),
        handle.listening.clone(),
        handle.closing.clone(),
    ));
    let dispatcher = Dispatcher {
        link,
        incoming,
        tracker: handle.tracker.clone(),
        requests: Arc::new(Semaphore::new(REQUESTS)),
        notes: Arc::new(Semaphore::new(NOTES)),
        waiting: VecDeque::new(),
    };
    handle.tracker.spawn(dispatcher.run(outgoing, handle.closing.clone()));
    Transport {
        sender: Sender::new(sender, Arc::clone(&end), Some(in_flight)),
        receiver: Receiver::new(receiver, end),
        control: Control::new(handle),
    }
}

/// What all tasks of one transport share.
#[derive(Debug)]
struct Link {
    name: String,
    target: Result<Target, TransportError>,
    client: reqwest::Client,
    max_body: MessageLimit,
    redaction: Redaction,
    spool: Option<Arc<Spool>>,
    times: Arc<Times>,
    session: Session,
    version: RwLock<Option<HeaderValue>>,
    /// The server speaks as those of 2024-11-05 do.
    legacy: OnceLock<Legacy>,
    /// Whether that was looked at.
    looked: AtomicBool,
    in_flight: Arc<InFlight>,
    end: Arc<End>,
    /// The server has answered the first request for its standing stream, whatever it said.
    stream_answered: CancellationToken,
    /// Ends every task of the transport.
    closed: CancellationToken,
}

impl Link {
    fn new(spec: &HttpSpec, client: reqwest::Client) -> Self {
        Self {
            name: spec.name.clone(),
            target: Target::new(spec),
            client,
            max_body: spec.max_body.clone(),
            redaction: spec.redaction.clone(),
            spool: spec.spool.clone(),
            times: spec.times.clone(),
            session: Session::default(),
            version: RwLock::new(None),
            legacy: OnceLock::new(),
            looked: AtomicBool::new(false),
            in_flight: Arc::new(InFlight::default()),
            end: Arc::new(End::default()),
            stream_answered: CancellationToken::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Ends the transport, once.
    fn close(&self, reason: &str) {
        self.end.set(reason.to_owned());
        self.closed.cancel();
    }

    fn lose_session(&self) {
        self.close("the server no longer knows the session");
    }

    fn silent(&self) -> TransportError {
        silent_for(self.times.timeout())
    }
}

fn silent_for(patience: Duration) -> TransportError {
    TransportError::Protocol(silence(patience))
}

fn silence(patience: Duration) -> String {
    format!("no byte from the server for {patience:?}")
}

/// The part of [`Control`] that ends an HTTP transport.
#[derive(Debug)]
struct Handle {
    link: Arc<Link>,
    /// No further messages: finish what is queued.
    closing: CancellationToken,
    /// The handshake is done: open the standing stream.
    listening: CancellationToken,
    tracker: TaskTracker,
}

impl Driver for Handle {
    fn stop(self: Box<Self>, grace: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.closing.cancel();
            self.tracker.close();
            let half = grace / 2;
            // Late exchanges are dropped below.
            let _ = timeout(half, self.tracker.wait()).await;
            self.link.close("stopped");
            if timeout(half.max(FAREWELL), session::delete(&self.link)).await.is_err() {
                tracing::debug!(backend = self.link.name, "sessions were not deleted in time");
            }
        })
    }

    fn set_protocol_version(&self, version: &str) {
        match HeaderValue::from_str(version) {
            Ok(value) => *self.link.version.write() = Some(value),
            Err(_) => tracing::warn!(backend = self.link.name, "the protocol version is not a header value"),
        }
        self.listening.cancel();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.link.close("it was dropped");
    }
}

/// Gives every queued message its task, within the limits.
struct Dispatcher {
    link: Arc<Link>,
    incoming: queue::Sender<Incoming>,
    tracker: TaskTracker,
    requests: Arc<Semaphore>,
    notes: Arc<Semaphore>,
    /// Requests without a place; what follows them in the queue may pass.
    waiting: VecDeque<Held<Outgoing>>,
}

impl Dispatcher {
    async fn run(mut self, mut queue: queue::Receiver<Outgoing>, closing: CancellationToken) {
        let (mut open, mut ended) = (true, false);
        while !(ended && self.waiting.is_empty()) {
            tokio::select! {
                biased;
                () = self.link.closed.cancelled() => return,
                () = closing.cancelled(), if open => {
                    open = false;
                    queue.close();
                }
                Ok(place) = Arc::clone(&self.requests).acquire_owned(), if !self.waiting.is_empty() => {
                    if let Some(message) = self.waiting.pop_front() {
                        self.start(message.release(), place);
                    }
                }
                next = queue.held(), if !ended && self.waiting.len() < OUTGOING_QUEUE => match next {
                    None => ended = true,
                    Some(message) if message.item.id.is_some() => self.waiting.push_back(message),
                    Some(message) => self.note(message.release()).await,
                }
            }
        }
    }

    async fn note(&self, message: Outgoing) {
        // A server may refuse whatever overtakes this one; nothing of weight precedes it, so waiting delays nobody.
        let first = message.method == "notifications/initialized";
        tokio::select! {
            () = self.link.closed.cancelled() => {}
            Ok(place) = Arc::clone(&self.notes).acquire_owned() => {
                let done = self.start(message, place);
                if first {
                    // An error is a panic in the task; the transport goes on.
                    let _ = done.await;
                    // What a server says during the first call is lost if its standing stream is not open by then.
                    let _ = timeout(STREAM_PATIENCE, self.link.stream_answered.cancelled()).await;
                }
            }
        }
    }

    fn start(&self, message: Outgoing, place: OwnedSemaphorePermit) -> tokio::task::JoinHandle<()> {
        let (link, incoming) = (Arc::clone(&self.link), self.incoming.clone());
        self.tracker.spawn(async move {
            let _place = place;
            let Some(id) = message.id else {
                tokio::select! {
                    () = link.closed.cancelled() => {}
                    () = exchange::run(&link, &incoming, &message) => {}
                }
                return;
            };
            let Some(abandoned) = link.in_flight.get(id) else { return };
            tokio::select! {
                () = link.closed.cancelled() => {}
                () = abandoned.cancelled() => {}
                () = exchange::run(&link, &incoming, &message) => {}
            }
            link.in_flight.land(id);
        })
    }
}

#[cfg(test)]
mod tests;
