//! One connection to one MCP server: which request waits for which answer.
//!
//! Requests get ids of the gateway's own, so callers never collide. To stop waiting (a timeout, a client's cancel, a
//! kill) is to drop the future; the server then hears `notifications/cancelled`.

mod hear;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use memchr::memmem::Finder;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::errand::{Errand, Own};
use super::reply::Reply;
use super::told::Told;
use super::transport::{Outgoing, Sender, TransportError};
use crate::mcp::client::ClientNotice;
use crate::mcp::client::{Answered, Client, Nobody, ServerRequest};
use crate::mcp::payload::PayloadError;
use crate::mcp::seldom::Seldom;
use crate::mcp::splice::{self, Edit};
use crate::mcp::{Era, era, message, method};
use crate::policy::Permitted;

#[derive(Debug)]
struct Pending {
    reply: oneshot::Sender<Result<Reply, PeerError>>,
    /// Whom the server's messages about this request are for.
    client: Arc<dyn Client>,
    /// The client's own progress token, if it wants progress.
    token: Option<Box<RawValue>>,
    /// A subscription: what the server says of its own accord is not about it.
    standing: bool,
    /// When the server was last heard about it: its clock begins there.
    heard: Instant,
    /// How long the server may be silent about it.
    patience: Duration,
    /// It is one of those that a connection begins with.
    first_words: bool,
}

/// Why a request on one connection got no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    #[error("no answer within {} s", .after.as_secs())]
    Timeout {
        after: Duration,
        /// The server said something else meanwhile.
        alive: bool,
    },
    /// It says that it works on it, and has done so for too long.
    #[error("no answer within {} s, the most that it may take", .0.as_secs())]
    Endless(Duration),
    #[error("{0}")]
    Garbage(String),
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl From<PayloadError> for PeerError {
    fn from(error: PayloadError) -> Self {
        match error {
            PayloadError::TooLarge { limit } => TransportError::TooLarge { limit }.into(),
            PayloadError::Source(_) => Self::Garbage(error.to_string()),
        }
    }
}

/// One request to a server.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    pub(super) errand: Errand<'a>,
    pub(super) params: Option<&'a str>,
    pub(super) headers: Vec<(String, String)>,
    /// Who hears what the server says about it.
    pub(super) client: Arc<dyn Client>,
    /// How long to wait for the answer, and again after each sign that the server works on it.
    pub(super) patience: Duration,
    /// How long to wait at most, whatever the server says meanwhile.
    pub(super) longest: Duration,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// The backend, for log lines.
    name: Arc<str>,
    sender: Sender,
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
    /// Why it ended; set before the pending calls are failed.
    ended: Mutex<Option<TransportError>>,
    /// How the server speaks; known after the first words.
    era: OnceLock<Era>,
    /// How often the server said something that is no message.
    garbage: AtomicU64,
    /// Tells questions of one connection from those of another.
    serial: u64,
    /// Requests that must be sent again in the next session.
    told: Mutex<Told>,
    /// It has been logged that the server says things that can be read in two ways.
    ambiguous: AtomicBool,
    /// The faults of its messages that have been logged: [`Oddities`].
    odd: AtomicU32,
    /// Questions of the server without an answer yet. While a person thinks, no call's time runs out.
    asking: AtomicU32,
    born: Instant,
    /// When the server was last heard at all, in milliseconds since `born`.
    heard: AtomicU64,
    /// A call was answered.
    served: AtomicBool,
    /// A call was lost with it.
    lost: AtomicBool,
}

impl Peer {
    pub(super) fn new(name: Arc<str>, sender: Sender) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        Self {
            name,
            sender,
            next: AtomicU64::new(1),
            pending: Mutex::default(),
            ended: Mutex::default(),
            era: OnceLock::new(),
            garbage: AtomicU64::new(0),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            told: Mutex::default(),
            ambiguous: AtomicBool::new(false),
            odd: AtomicU32::new(0),
            asking: AtomicU32::new(0),
            born: Instant::now(),
            heard: AtomicU64::new(0),
            served: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        }
    }

    /// The backend it is a connection to.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// A call was answered, by this connection's server.
    pub(super) fn has_served(&self) {
        // All callers share it; only the first of them writes.
        if !self.served.load(Ordering::Relaxed) {
            self.served.store(true, Ordering::Relaxed);
        }
    }

    /// True once: for the first call that is lost with this connection. A server that dies fails once, however many calls
    /// were under way.
    pub(super) fn is_first_lost(&self) -> bool {
        !self.lost.swap(true, Ordering::Relaxed)
    }

    /// Whether a call was ever answered.
    #[must_use]
    pub(super) fn served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// How the server speaks.
    #[must_use]
    pub(super) fn era(&self) -> Era {
        self.era.get().copied().unwrap_or(Era::Handshake)
    }

    pub(super) fn speaks(&self, era: Era) {
        // Settled once per connection.
        let _ = self.era.set(era);
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// No answer came: see [`PeerError`].
    pub(super) async fn request(&self, request: Request<'_>) -> Result<Reply, PeerError> {
        let Request { errand, params, headers, client, patience, longest } = request;
        let method = errand.method();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        static TOKEN: Seldom = Seldom::new(|| Finder::new("progressToken"));
        let token = params.filter(|params| !TOKEN.is_missing(params));
        let token = token.and_then(|params| splice::get(params, "/_meta/progressToken"));
        // Tokens are unique per client only; the upstream one is the gateway's id.
        let replaced = token.zip(params).and_then(|(_, params)| {
            let edit = Edit::Set { pointer: "/_meta/progressToken".to_owned(), json: id.to_string() };
            splice::apply(params, &[edit]).ok()
        });
        let token = token.map(|token| message::raw(token.to_owned()));
        let body = message::request(id, method, replaced.as_deref().or(params));
        let (reply, mut answer) = oneshot::channel();
        let standing = method == Own::Listen.method();
        let begun = Instant::now();
        let first_words = are_first_words(method);
        let entry = Pending { reply, client, token, standing, heard: begun, patience, first_words };
        self.pending.lock().insert(id, entry);
        // From here on the entry is removed whatever happens, and the server told if it still works on it.
        let mut waiting = Waiting { peer: self, id, sent: false };
        if let Some(error) = self.ended.lock().clone() {
            return Err(error.into());
        }
        self.sender.try_send(Outgoing { id: Some(id), method: method.to_owned(), body, headers })?;
        waiting.sent = true;
        let end = begun + longest.max(patience);
        let mut deadline = begun + patience;
        loop {
            match tokio::time::timeout_at(deadline.into(), &mut answer).await {
                Ok(Ok(answered)) => {
                    waiting.sent = false;
                    if Told::concerns(method) && answered.as_ref().is_ok_and(|reply| !reply.is_error()) {
                        self.told.lock().note(method, params.unwrap_or("{}"));
                    }
                    return answered;
                }
                Ok(Err(_)) => return Err(TransportError::Closed("the connection ended".to_owned()).into()),
                Err(_) if deadline >= end && longest > patience => return Err(PeerError::Endless(longest)),
                Err(_) => match self.later(id, patience).map(|later| later.min(end)) {
                    // MCP "Timeouts": a sign that the server works on it starts the clock again, up to a bound.
                    Some(later) if later > deadline => deadline = later,
                    _ => return Err(PeerError::Timeout { after: patience, alive: self.heard_since(begun) }),
                },
            }
        }
    }

    /// Says again what belongs to the session: the server had forgotten the session it was said in.
    pub(super) async fn say_again(&self, patience: Duration) {
        let all = self.told.lock().again();
        for (own, params) in all {
            let client = Nobody::new();
            let (errand, params, headers) = (Errand::Own(own), Some(params.as_str()), Vec::new());
            let again = Request { errand, params, headers, client, patience, longest: patience };
            if let Err(error) = self.request(again).await {
                tracing::debug!(
                    method = own.method(),
                    "the next session does not know what the last did: {error}"
                );
            }
        }
    }

    /// When the patience with a request is over, by what was heard about it so far.
    fn later(&self, id: u64, patience: Duration) -> Option<Instant> {
        if self.asking.load(Ordering::Acquire) > 0 {
            return Some(Instant::now() + patience);
        }
        Some(self.pending.lock().get(&id)?.heard + patience)
    }

    /// Notes a sign of life of the server; about a request, if that is known.
    fn hears(&self, about: Option<u64>) {
        let now = Instant::now();
        let since = u64::try_from(now.duration_since(self.born).as_millis()).unwrap_or(u64::MAX);
        self.heard.store(since, Ordering::Relaxed);
        if let Some(id) = about
            && let Some(pending) = self.pending.lock().get_mut(&id)
        {
            pending.heard = now;
        }
    }

    /// Whether the server said anything since then.
    fn heard_since(&self, then: Instant) -> bool {
        self.born + Duration::from_millis(self.heard.load(Ordering::Relaxed)) > then
    }

    /// Whether the server may be silent now: not for longer than the most patient request under way, and than what asks.
    /// Many servers do one thing at a time, and say nothing while they do it.
    pub(super) fn may_be_silent(&self, patience: Duration) -> bool {
        let pending = self.pending.lock();
        let working = pending.values().filter(|pending| !pending.standing).map(|pending| pending.patience);
        let most = working.max().unwrap_or(patience).max(patience);
        drop(pending);
        Instant::now().checked_sub(most).is_some_and(|then| self.heard_since(then))
    }

    /// Sends what a client may say of its own accord.
    pub(super) fn notify(&self, notice: &ClientNotice) {
        self.say(notice.method(), notice.message());
    }

    /// Sends a notification that is not MCP's, which was permitted as a call is.
    ///
    /// # Errors
    /// It cannot be sent.
    pub(super) fn pass(
        &self,
        permitted: &Permitted,
        params: &str,
        headers: Vec<(String, String)>,
    ) -> Result<(), TransportError> {
        let method = permitted.call().method.clone();
        let body = message::notification(&method, Some(params));
        self.sender.try_send(Outgoing { id: None, method, body, headers })
    }

    /// Says that the handshake is over.
    pub(super) fn initialized(&self) {
        self.say(method::INITIALIZED, message::notification(method::INITIALIZED, None));
    }

    /// Answers a request of the server: with what a question was answered with.
    pub(super) fn answer(&self, id: &RawValue, answered: &Answered) {
        self.say(
            "",
            match answered {
                Answered::Result(result) => message::result(id.get(), result.get()),
                Answered::Error(error) => message::error_object(id.get(), error.get()),
            },
        );
    }

    /// Sends a message that has no answer, without waiting: if the queue is full, the message is dropped.
    fn say(&self, method: &'static str, body: Bytes) {
        let message = Outgoing { id: None, method: method.to_owned(), body, headers: Vec::new() };
        if let Err(error) = self.sender.try_send(message) {
            tracing::warn!(method, "a notification or an answer was not sent to the server: {error}");
        }
    }

    /// The client of the newest request under way. For a connection that one client has for itself: which of its requests
    /// the server speaks of does not matter then.
    pub(super) fn newest(&self) -> Option<Arc<dyn Client>> {
        let pending = self.pending.lock();
        let calls = pending.iter().filter(|(_, pending)| !pending.standing);
        calls.max_by_key(|(id, _)| **id).map(|(_, pending)| pending.client.clone())
    }

    /// The client of the only request under way.
    pub(super) fn only(&self) -> Option<Arc<dyn Client>> {
        let pending = self.pending.lock();
        let mut calls = pending.values().filter(|pending| !pending.standing);
        let client = calls.next()?.client.clone();
        calls.next().is_none().then_some(client)
    }

    /// A question of the server, answered through this connection.
    pub(super) fn question(
        self: &Arc<Self>,
        id: &RawValue,
        method: String,
        params: Option<Box<RawValue>>,
    ) -> Arc<ServerRequest> {
        let (peer, own) = (Arc::downgrade(self), id.to_owned());
        let hearing = peer.clone();
        self.asking.fetch_add(1, Ordering::AcqRel);
        // It is called once, when the question is answered or dropped.
        let reply = move |answered| {
            if let Some(peer) = peer.upgrade() {
                peer.answer(&own, &answered);
                peer.asking.fetch_sub(1, Ordering::AcqRel);
                peer.pending.lock().values_mut().for_each(|pending| pending.heard = Instant::now());
            }
        };
        ServerRequest::heard(self.question_key(id.get()), method, params, reply, move |notice| {
            if let Some(peer) = hearing.upgrade() {
                peer.notify(notice);
            }
        })
    }

    /// By what a question of this connection is taken back.
    pub(super) fn question_key(&self, id: &str) -> String {
        format!("{}:{id}", self.serial)
    }

    /// A message was too long. If it does not say whose answer it was, only a request that is alone can be meant.
    pub(super) fn oversized(&self, limit: usize, answers: Option<u64>) {
        let mut pending = self.pending.lock();
        let alone = || pending.keys().next().copied().filter(|_| pending.len() == 1);
        let id = answers.or_else(alone);
        if let Some(pending) = id.and_then(|id| pending.remove(&id)) {
            let _ = pending.reply.send(Err(TransportError::TooLarge { limit }.into()));
        }
    }

    pub(super) fn fail(&self, id: u64, error: TransportError) {
        if let Some(pending) = self.pending.lock().remove(&id) {
            let _ = pending.reply.send(Err(error.into()));
        }
    }

    /// The connection has ended: everybody who waits is told why.
    pub(super) fn end(&self, reason: &str) {
        let error = TransportError::Closed(reason.to_owned());
        *self.ended.lock() = Some(error.clone());
        for (_, pending) in self.pending.lock().drain() {
            let _ = pending.reply.send(Err(error.clone().into()));
        }
    }
}

/// Whether a method is one of those that a connection begins with.
fn are_first_words(method: &str) -> bool {
    [Own::Initialize, Own::Discover].iter().any(|own| own.method() == method)
}

/// A request somebody waits for.
struct Waiting<'a> {
    peer: &'a Peer,
    id: u64,
    sent: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let unanswered = self.peer.pending.lock().remove(&self.id);
        // MCP "Cancellation": `initialize` must not be cancelled. A server that did not answer whether it knows the
        // stateless era may take a notification before the handshake for the end of everything; rmcp does.
        if let Some(pending) = unanswered.filter(|pending| self.sent && !pending.first_words) {
            let params = self.cancel_reason(&pending);
            self.peer.say(method::CANCELLED, message::notification(method::CANCELLED, Some(&params)));
            self.peer.sender.abandon(self.id);
        }
    }
}

impl Waiting<'_> {
    /// What the client said when it cancelled, with the gateway's id; in the gateway's own words where the client did
    /// not cancel: a timeout, a kill, a connection that is gone.
    fn cancel_reason(&self, pending: &Pending) -> String {
        let said = pending.client.cancel_reason().map(|said| match self.peer.era() {
            Era::Handshake => era::request_to_handshake(said.get()),
            Era::Stateless => said.get().to_owned(),
        });
        let set = Edit::Set { pointer: "/requestId".to_owned(), json: self.id.to_string() };
        let own = || format!("{{\"requestId\":{},\"reason\":\"the caller no longer waits\"}}", self.id);
        said.and_then(|said| splice::apply(&said, &[set]).ok()).unwrap_or_else(own)
    }
}
