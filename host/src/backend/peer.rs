//! One connection to one MCP server: which request waits for which answer.
//!
//! Requests get ids of the gateway's own, so callers never collide. Whoever stops waiting (a timeout, a client's
//! cancel, a kill) drops the future, and the server hears `notifications/cancelled`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::errand::{Errand, Own};
use super::process::stderr::Cap;
use super::reply::Reply;
use super::wire::{Outgoing, Sender, WireError};
use super::{PeerError, Spontaneous};
use crate::mcp::client::{Answered, Client, Question};
use crate::mcp::envelope::{self, Message};
use crate::mcp::notice::ClientNotice;
use crate::mcp::payload::Payload;
use crate::mcp::splice::{self, Edit};
use crate::mcp::{Era, code, era, message, method, params};
use crate::policy::Permitted;

/// Messages that are none and are logged, per second.
const GARBAGE_PER_SECOND: u32 = 10;

/// Where a stateless notification says which subscription it belongs to.
const SUBSCRIPTION: &str = "/params/_meta/io.modelcontextprotocol~1subscriptionId";

#[derive(Debug)]
struct Pending {
    reply: oneshot::Sender<Result<Reply, PeerError>>,
    /// Whom the server's messages about this request are for.
    client: Arc<dyn Client>,
    /// The client's own progress token, if it wants progress.
    token: Option<Box<RawValue>>,
    /// A subscription: what the server says of its own accord is not about it.
    standing: bool,
    /// It is one of those that a connection begins with.
    first_words: bool,
}

/// One request to a server.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    pub(super) errand: Errand<'a>,
    pub(super) params: Option<&'a str>,
    pub(super) headers: Vec<(String, String)>,
    /// Who hears what the server says about it.
    pub(super) client: Arc<dyn Client>,
    /// How long to wait for the answer.
    pub(super) patience: Duration,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    sender: Sender,
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
    /// Why it ended; set before the pending calls are failed.
    ended: Mutex<Option<WireError>>,
    /// How the server speaks; known after the first words.
    era: OnceLock<Era>,
    /// How often it is logged that the server said something that is no message.
    garbage: Mutex<Cap>,
    /// Tells questions of one connection from those of another.
    serial: u64,
    /// It has been logged that the server says things that can be read in two ways.
    ambiguous: AtomicBool,
    /// A call was answered.
    served: AtomicBool,
}

impl Peer {
    pub(super) fn new(sender: Sender) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        Self {
            sender,
            next: AtomicU64::new(1),
            pending: Mutex::default(),
            ended: Mutex::default(),
            era: OnceLock::new(),
            garbage: Mutex::new(Cap::new(Instant::now(), GARBAGE_PER_SECOND)),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            ambiguous: AtomicBool::new(false),
            served: AtomicBool::new(false),
        }
    }

    /// A call was answered, by this connection's server.
    pub(super) fn has_served(&self) {
        // All callers share it; only the first of them writes.
        if !self.served.load(Ordering::Relaxed) {
            self.served.store(true, Ordering::Relaxed);
        }
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
        let Request { errand, params, headers, client, patience } = request;
        let method = errand.method();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let token = params.and_then(|params| splice::get(params, "/_meta/progressToken"));
        // Tokens are unique per client only; the upstream one is the gateway's id.
        let replaced = token.zip(params).and_then(|(_, params)| {
            let edit = Edit::Set { pointer: "/_meta/progressToken".to_owned(), json: id.to_string() };
            splice::apply(params, &[edit]).ok()
        });
        let token = token.map(|token| message::raw(token.to_owned()));
        let body = message::request(id, method, replaced.as_deref().or(params));
        let (reply, answer) = oneshot::channel();
        let standing = method == Own::Listen.method();
        let first_words = are_first_words(method);
        self.pending.lock().insert(id, Pending { reply, client, token, standing, first_words });
        // From here on the entry is removed whatever happens, and the server told if it still works on it.
        let mut waiting = Waiting { peer: self, id, sent: false };
        if let Some(error) = self.ended.lock().clone() {
            return Err(error.into());
        }
        self.sender.try_send(Outgoing { id: Some(id), method: method.to_owned(), body, headers })?;
        waiting.sent = true;
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answered)) => {
                waiting.sent = false;
                answered
            }
            Ok(Err(_)) => Err(WireError::Closed("the connection ended".to_owned()).into()),
            Err(_) => Err(PeerError::Timeout(patience)),
        }
    }

    /// Sends what a client may say of its own accord.
    pub(super) fn tell(&self, notice: &ClientNotice) {
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
    ) -> Result<(), WireError> {
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

    /// Sends a message that has no answer. Nobody waits for it: a queue that is full drops it.
    fn say(&self, method: &'static str, body: Bytes) {
        let message = Outgoing { id: None, method: method.to_owned(), body, headers: Vec::new() };
        if let Err(error) = self.sender.try_send(message) {
            tracing::warn!(method, "a notification or an answer was not sent to the server: {error}");
        }
    }

    /// Takes in one message; what is not an answer is handed back, with the client it is for if that is known.
    /// `about` is the request on whose stream it came.
    pub(super) fn receive(
        &self,
        raw: &Payload,
        about: Option<u64>,
    ) -> Option<(Spontaneous, Option<Arc<dyn Client>>)> {
        let spontaneous = self.read(raw)?;
        let about = about.or_else(|| match &spontaneous {
            Spontaneous::Notification { message, .. } => {
                let text = std::str::from_utf8(message).ok()?;
                splice::get(text, SUBSCRIPTION)?.trim_matches('"').parse().ok()
            }
            Spontaneous::Request { .. } => None,
        });
        let client = about.and_then(|id| Some(self.pending.lock().get(&id)?.client.clone()));
        Some((spontaneous, client))
    }

    fn read(&self, raw: &Payload) -> Option<Spontaneous> {
        match envelope::parse(raw.text()) {
            Ok(Message::Response { id, body }) => {
                let (text, is_error) = match body {
                    envelope::Body::Result(result) => (result.get(), false),
                    envelope::Body::Error(error) => (error.get(), true),
                };
                let payload = raw.reworded(raw.text().slice_ref(text.as_bytes()));
                let reply = Reply::new(payload, is_error);
                match self.asked(id.get(), is_error) {
                    // Nobody listens any more if the caller gave up at this moment.
                    Some(pending) => drop(pending.reply.send(Ok(reply))),
                    None => tracing::debug!("an answer nobody waits for was dropped"),
                }
                None
            }
            Ok(Message::Notification { method, params }) if method == method::PROGRESS => {
                if !self.has_one_meaning(&method, params) {
                    return None;
                }
                let params = params?.get();
                let id: u64 = splice::get(params, "/progressToken")?.parse().ok()?;
                let (client, token) = {
                    let pending = self.pending.lock();
                    let pending = pending.get(&id)?;
                    (pending.client.clone(), pending.token.clone()?)
                };
                let edit = Edit::Set { pointer: "/progressToken".to_owned(), json: token.get().to_owned() };
                let params = splice::apply(params, &[edit]).ok()?;
                client.tell(message::notification(&method, Some(&params)));
                None
            }
            // It is passed on as it is, and members that nobody here knows were not looked into.
            Ok(Message::Notification { method, .. }) if std::str::from_utf8(raw.text()).is_err() => {
                tracing::warn!(%method, "the backend sent a notification that is not UTF-8; it was dropped");
                None
            }
            Ok(Message::Notification { method, params }) => {
                self.has_one_meaning(&method, params).then(|| Spontaneous::Notification {
                    method: method.into_owned(),
                    message: raw.text().clone(),
                })
            }
            Ok(Message::Request { id, method, params }) if !self.has_one_meaning(&method, params) => {
                let text =
                    "the params can be read in two ways: each key must stand once, in its own spelling";
                let error = serde_json::json!({ "code": code::INVALID_PARAMS, "message": text });
                self.answer(id, &Answered::Error(message::raw(error.to_string())));
                None
            }
            Ok(Message::Request { id, method, params }) => Some(Spontaneous::Request {
                id: id.to_owned(),
                method: method.into_owned(),
                params: params.map(ToOwned::to_owned),
            }),
            Err(error) => {
                self.garbage(raw, &error);
                None
            }
        }
    }

    /// The request that a response answers. A server that refuses the first words may do so without having read as far as
    /// their id; later such an error may be about anything, a notification for instance.
    fn asked(&self, id: &str, is_error: bool) -> Option<Pending> {
        let mut pending = self.pending.lock();
        let id = id.parse().ok().or_else(|| {
            let mut first_words = pending.iter().filter(|_| is_error && id == "null");
            let (alone, _) = first_words.next().filter(|(_, pending)| pending.first_words)?;
            first_words.next().is_none().then_some(*alone)
        });
        pending.remove(&id?)
    }

    /// Whether the params of what a server says by itself can be read in one way only. Logged once for a connection.
    fn has_one_meaning(&self, method: &str, params: Option<&RawValue>) -> bool {
        let Err(ambiguous) = params.map_or(Ok(()), |params| params::check(method, params.get())) else {
            return true;
        };
        if !self.ambiguous.swap(true, Ordering::Relaxed) {
            let method: String = method.escape_debug().take(64).collect();
            tracing::warn!(
                method,
                "a message of a server was not passed on, and none like it will be: {ambiguous}"
            );
        }
        false
    }

    /// The client of the newest request under way: on a connection that one client has for itself, whoever caused
    /// what the server says now.
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
    ) -> Arc<Question> {
        let (peer, own) = (Arc::downgrade(self), id.to_owned());
        let hearing = peer.clone();
        let reply = move |answered| {
            if let Some(peer) = peer.upgrade() {
                peer.answer(&own, &answered);
            }
        };
        Question::heard(self.question_key(id.get()), method, params, reply, move |notice| {
            if let Some(peer) = hearing.upgrade() {
                peer.tell(notice);
            }
        })
    }

    /// By what a question of this connection is taken back.
    pub(super) fn question_key(&self, id: &str) -> String {
        format!("{}:{id}", self.serial)
    }

    /// A line that is JSON-like but no message: if it names a waiting request, that one failed.
    fn garbage(&self, raw: &Payload, error: &envelope::EnvelopeError<'_>) {
        if let Some(suppressed) = self.garbage.lock().admit(Instant::now()) {
            tracing::warn!(suppressed, "the backend sent something that is no message: {error}");
        }
        let envelope::EnvelopeError::Shape { id, .. } = error else { return };
        // A member that stands twice is noticed before the id is, perhaps.
        let id = id.map_or_else(|| splice::get(raw.json(), "/id"), |id| Some(id.get()));
        let waiting = id.and_then(|id| id.parse().ok()).and_then(|id: u64| self.pending.lock().remove(&id));
        if let Some(pending) = waiting {
            let _ = pending.reply.send(Err(PeerError::Garbage(error.to_string())));
        }
    }

    /// A message was too long. If it does not say whose answer it was, only a request that is alone can be meant.
    pub(super) fn oversized(&self, limit: usize, answers: Option<u64>) {
        let mut pending = self.pending.lock();
        let alone = || pending.keys().next().copied().filter(|_| pending.len() == 1);
        let id = answers.or_else(alone);
        if let Some(pending) = id.and_then(|id| pending.remove(&id)) {
            let _ = pending.reply.send(Err(WireError::TooLarge { limit }.into()));
        }
    }

    pub(super) fn fail(&self, id: u64, error: WireError) {
        if let Some(pending) = self.pending.lock().remove(&id) {
            let _ = pending.reply.send(Err(error.into()));
        }
    }

    /// The connection has ended: everybody who waits is told why.
    pub(super) fn end(&self, reason: &str) {
        let error = WireError::Closed(reason.to_owned());
        *self.ended.lock() = Some(error.clone());
        for (_, pending) in self.pending.lock().drain() {
            let _ = pending.reply.send(Err(error.clone().into()));
        }
    }
}

/// What a connection begins with.
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
            let params = self.parting(&pending);
            self.peer.say(method::CANCELLED, message::notification(method::CANCELLED, Some(&params)));
            self.peer.sender.abandon(self.id);
        }
    }
}

impl Waiting<'_> {
    /// What the client said when it cancelled, with the gateway's id; in the gateway's own words where the client did
    /// not cancel: a timeout, a kill, a connection that is gone.
    fn parting(&self, pending: &Pending) -> String {
        let said = pending.client.parting().map(|said| match self.peer.era() {
            Era::Handshake => era::request_to_handshake(said.get()),
            Era::Stateless => said.get().to_owned(),
        });
        let set = Edit::Set { pointer: "/requestId".to_owned(), json: self.id.to_string() };
        let own = || format!("{{\"requestId\":{},\"reason\":\"the caller no longer waits\"}}", self.id);
        said.and_then(|said| splice::apply(&said, &[set]).ok()).unwrap_or_else(own)
    }
}
