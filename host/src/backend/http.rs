//! The wire to an MCP server behind a URL: streamable HTTP as the client sees it, revisions 2025-03-26 to 2025-11-25
//! (and the plain POST of 2026-07-28, which brings its headers with each message).
//!
//! Every message is one POST in a task of its own, so one slow call delays no other. The rules of one exchange stand
//! in `exchange`, the standing stream for the server's own messages in `listen`.

mod exchange;
mod headers;
mod listen;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::spool::Spool;
use super::wire::{
    self, Control, End, Flights, Incoming, OUTGOING_QUEUE, Outgoing, Receiver, Sender, Wire, WireError,
};
use crate::queue::{self, Held};
use crate::redact::Redaction;

/// Requests under way per server; more wait in a queue of [`OUTGOING_QUEUE`].
const REQUESTS: usize = 256;
/// Notifications and responses under way per server. They have places of their own, so that a cancellation reaches a
/// server whose every request hangs.
const NOTES: usize = 64;
/// The least time the DELETE of a session gets.
const FAREWELL: Duration = Duration::from_millis(500);

/// The server to talk to.
#[derive(Clone)]
pub(crate) struct HttpSpec {
    /// The backend, for log lines.
    pub name: String,
    /// The MCP endpoint.
    pub url: String,
    /// Headers of every request. Hop-by-hop headers and those of the transport itself are left out.
    pub headers: Vec<(String, String)>,
    /// The largest JSON body or event accepted, in bytes; with a spool, what of it stays in memory.
    pub max_body: usize,
    /// What takes secrets out of the server's words.
    pub redaction: Redaction,
    /// Where longer answers go.
    pub spool: Option<Arc<Spool>>,
    /// The longest silence within an exchange: until the headers of the answer, then between its bytes.
    pub timeout: Duration,
    /// The same within an exchange that brings an answer: the most patient call's.
    pub longest: Duration,
}

// Header values are credentials, and a URL may hold one.
impl fmt::Debug for HttpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let mut out = f.debug_struct("HttpSpec");
        out.field("name", &self.name).field("headers", &names).field("max_body", &self.max_body);
        out.field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The client all HTTP wires share: no redirects (they would carry credentials to other hosts), no proxy from the
/// environment, no delay for small writes, five seconds to connect.
///
/// Without a certificate store on the system (a bare container) plain HTTP works and every HTTPS server is refused.
///
/// # Errors
/// [`WireError::Unreachable`] if no client can be made at all.
pub(crate) fn client() -> Result<reqwest::Client, WireError> {
    // An error means that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusting_the_system = builder().build();
    let client = trusting_the_system.or_else(|error| {
        tracing::warn!(
            error = explain(error),
            "no usable system certificates: HTTPS servers will be refused"
        );
        builder().tls_certs_only([]).build()
    });
    client.map_err(|error| WireError::Unreachable(format!("no HTTP client: {}", explain(error))))
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("sentinel-gateway/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .tcp_nodelay(true)
        // The standing stream may be silent for hours; only this notices that its server has vanished.
        .tcp_keepalive(Duration::from_secs(30))
        .connect_timeout(Duration::from_secs(5))
        // Node and uvicorn close idle connections after 5 s. Being earlier than the server avoids sending a message
        // into a connection that is just being closed.
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_max_idle_per_host(REQUESTS)
}

/// Opens a wire; nothing is sent before the first message. A URL or header that cannot be used fails every request.
/// Needs a Tokio runtime.
pub(crate) fn open(spec: &HttpSpec, client: reqwest::Client) -> Wire {
    let link = Arc::new(Link::new(spec, client));
    let (end, flights) = (Arc::clone(&link.end), Arc::clone(&link.flights));
    let (sender, outgoing) = wire::outgoing();
    let (incoming, receiver) = wire::incoming();
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
    Wire {
        sender: Sender::new(sender, Arc::clone(&end), Some(flights)),
        receiver: Receiver::new(receiver, end),
        control: Control::http(handle),
    }
}

/// Where every request goes, and the headers it always has.
#[derive(Debug)]
struct Target {
    url: Url,
    headers: HeaderMap,
}

fn target(spec: &HttpSpec) -> Result<Target, WireError> {
    // The URL may hold a credential: the error names the problem, not the text.
    let url = Url::parse(&spec.url)
        .map_err(|error| WireError::Unreachable(format!("its URL is not one: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(WireError::Unreachable("its URL is neither http nor https".to_owned()));
    }
    let mut headers = HeaderMap::new();
    headers::extend(&mut headers, &spec.headers)?;
    Ok(Target { url, headers })
}

/// What all tasks of one wire share.
#[derive(Debug)]
struct Link {
    name: String,
    target: Result<Target, WireError>,
    client: reqwest::Client,
    max_body: usize,
    redaction: Redaction,
    spool: Option<Arc<Spool>>,
    timeout: Duration,
    longest: Duration,
    session: RwLock<Option<HeaderValue>>,
    version: RwLock<Option<HeaderValue>>,
    flights: Arc<Flights>,
    end: Arc<End>,
    /// Ends every task of the wire.
    closed: CancellationToken,
}

impl Link {
    fn new(spec: &HttpSpec, client: reqwest::Client) -> Self {
        Self {
            name: spec.name.clone(),
            target: target(spec),
            client,
            max_body: spec.max_body,
            redaction: spec.redaction.clone(),
            spool: spec.spool.clone(),
            timeout: spec.timeout,
            longest: spec.longest,
            session: RwLock::new(None),
            version: RwLock::new(None),
            flights: Arc::new(Flights::default()),
            end: Arc::new(End::default()),
            closed: CancellationToken::new(),
        }
    }

    /// A request with every header of this wire; true if it names a session.
    fn request(
        &self,
        method: Method,
        extra: &[(String, String)],
    ) -> Result<(RequestBuilder, bool), WireError> {
        let target = self.target.as_ref().map_err(Clone::clone)?;
        let mut headers = target.headers.clone();
        if let Some(version) = self.version.read().clone() {
            headers.insert(headers::PROTOCOL_VERSION, version);
        }
        headers::extend(&mut headers, extra)?;
        let session = self.session.read().clone();
        let in_session = session.is_some();
        if let Some(session) = session {
            headers.insert(headers::SESSION, session);
        }
        Ok((self.client.request(method, target.url.clone()).headers(headers), in_session))
    }

    /// Ends the wire, once.
    fn close(&self, reason: &str) {
        self.end.set(reason.to_owned());
        self.closed.cancel();
    }

    fn lose_session(&self) {
        self.close("the server no longer knows the session");
    }
}

/// The part of [`Control`] that ends an HTTP wire.
#[derive(Debug)]
pub(super) struct Handle {
    link: Arc<Link>,
    /// No further messages: finish what is queued.
    closing: CancellationToken,
    /// The handshake is done: open the standing stream.
    listening: CancellationToken,
    tracker: TaskTracker,
}

impl Handle {
    pub(super) async fn stop(self, grace: Duration) {
        self.closing.cancel();
        self.tracker.close();
        let half = grace / 2;
        // Late exchanges are dropped below.
        let _ = timeout(half, self.tracker.wait()).await;
        self.link.close("stopped");
        if self.link.session.read().is_none() {
            return;
        }
        let Ok((request, _)) = self.link.request(Method::DELETE, &[]) else { return };
        // 405 means that the server ends sessions by itself; any other answer changes nothing either.
        match timeout(half.max(FAREWELL), request.send()).await {
            Ok(Ok(answer)) => {
                tracing::debug!(backend = self.link.name, status = %answer.status(), "session deleted")
            }
            Ok(Err(error)) => {
                tracing::debug!(backend = self.link.name, error = explain(error), "session not deleted")
            }
            Err(_) => tracing::debug!(backend = self.link.name, "session not deleted in time"),
        }
    }

    pub(super) fn set_protocol_version(&self, version: &str) {
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
                    // An error is a panic in the task; the wire goes on.
                    let _ = done.await;
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
            let Some(abandoned) = link.flights.get(id) else { return };
            tokio::select! {
                () = link.closed.cancelled() => {}
                () = abandoned.cancelled() => {}
                () = exchange::run(&link, &incoming, &message) => {}
            }
            link.flights.land(id);
        })
    }
}

/// An error with its causes on one line, without the URL: it may hold a credential.
fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let part = error.to_string();
        // Many errors repeat their cause.
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

/// True for 404 to a request that named a session: the one way a server says that the session is over.
fn session_is_over(status: StatusCode, in_session: bool) -> bool {
    in_session && status == StatusCode::NOT_FOUND
}

#[cfg(test)]
mod tests;
