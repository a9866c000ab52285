//! One connection to one MCP server: which request waits for which answer.
//!
//! Requests get ids of the gateway's own, so callers never collide. Whoever stops waiting (a timeout, a client's
//! cancel, a kill) drops the future, and the server hears `notifications/cancelled`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::wire::{Outgoing, Sender, WireError};
use super::{PeerError, Spontaneous};
use crate::mcp::client::{Answered, Client, Question};
use crate::mcp::envelope::{self, Body, Message};
use crate::mcp::payload::{Payload, PayloadError};
use crate::mcp::splice::{self, Edit};
use crate::mcp::{Era, era, message};

/// An answer: a result or a JSON-RPC error, still in the bytes it came in.
#[derive(Clone, Debug)]
pub struct Reply {
    payload: Payload,
    is_error: bool,
}

impl Reply {
    /// An answer of the gateway's own.
    pub(super) fn own(text: String, is_error: bool) -> Self {
        Self { payload: text.into(), is_error }
    }

    /// This answer, rewritten for the client's era.
    pub(super) fn rewritten(&self, text: String, is_error: bool) -> Self {
        Self { payload: self.payload.reworded(text), is_error }
    }

    /// The result's or the error's JSON text; large strings may be missing from it.
    #[must_use]
    pub fn text(&self) -> &str {
        self.payload.json()
    }

    /// The same with everything that belongs to it.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The answer with nothing missing, for whoever must see all of it.
    ///
    /// # Errors
    /// It is too long for that.
    pub async fn whole(self) -> Result<Self, PayloadError> {
        let Self { payload, is_error } = self;
        Ok(Self { payload: super::whole(payload).await?.into(), is_error })
    }

    /// Whether this is a JSON-RPC error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }

    /// The JSON-RPC error code.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        self.is_error.then(|| splice::get(self.text(), "/code")?.parse().ok()).flatten()
    }
}

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
}

/// One request to a server.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) params: Option<&'a str>,
    pub(super) headers: Vec<(String, String)>,
    /// Who hears what the server says about it.
    pub(super) client: Arc<dyn Client>,
    /// How long to wait for the answer.
    pub(super) patience: Duration,
}

/// One connection.
#[derive(Debug)]
pub struct Peer {
    sender: Sender,
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
    /// Why it ended; set before the pending calls are failed.
    ended: Mutex<Option<WireError>>,
    /// How the server speaks; known after the first words.
    era: OnceLock<Era>,
    /// Tells questions of one connection from those of another.
    serial: u64,
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
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// How the server speaks.
    #[must_use]
    pub fn era(&self) -> Era {
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
        let Request { method, params, headers, client, patience } = request;
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
        self.pending
            .lock()
            .insert(id, Pending { reply, client, token, standing: method == "subscriptions/listen" });
        // From here on the entry is removed whatever happens, and the server told if it still works on it.
        let mut waiting = Waiting { peer: self, id, method, sent: false };
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

    /// Sends a notification; a full queue drops it with a warning, for nobody waits for it.
    pub fn notify(&self, method: &str, params: Option<&str>) {
        let body = message::notification(method, params);
        let sent =
            self.sender.try_send(Outgoing { id: None, method: method.to_owned(), body, headers: Vec::new() });
        if let Err(error) = sent {
            tracing::debug!(method, "notification not sent: {error}");
        }
    }

    /// Answers a request of the server.
    pub fn answer(&self, id: &RawValue, body: Body<'_>) {
        let body = match body {
            Body::Result(result) => message::result(id.get(), result.get()),
            Body::Error(error) => message::error_object(id.get(), error.get()),
        };
        let sent =
            self.sender.try_send(Outgoing { id: None, method: String::new(), body, headers: Vec::new() });
        if let Err(error) = sent {
            tracing::warn!("an answer to the backend was not sent: {error}");
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
                    Body::Result(result) => (result.get(), false),
                    Body::Error(error) => (error.get(), true),
                };
                let payload = raw.reworded(raw.text().slice_ref(text.as_bytes()));
                let reply = Reply { payload, is_error };
                match id.get().parse().ok().and_then(|id: u64| self.pending.lock().remove(&id)) {
                    // Nobody listens any more if the caller gave up at this moment.
                    Some(pending) => drop(pending.reply.send(Ok(reply))),
                    None => tracing::debug!("an answer nobody waits for was dropped"),
                }
                None
            }
            Ok(Message::Notification { method, params }) if method == "notifications/progress" => {
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
            Ok(Message::Notification { method, .. }) => {
                Some(Spontaneous::Notification { method: method.into_owned(), message: raw.text().clone() })
            }
            Ok(Message::Request { id, method, params }) => Some(Spontaneous::Request {
                id: id.to_owned(),
                method: method.into_owned(),
                params: params.map(ToOwned::to_owned),
            }),
            Err(error) => {
                self.garbage(&error);
                None
            }
        }
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
        Question::new(self.question_key(id.get()), method, params, move |answered| {
            let Some(peer) = peer.upgrade() else { return };
            match &answered {
                Answered::Result(result) => peer.answer(&own, Body::Result(result)),
                Answered::Error(error) => peer.answer(&own, Body::Error(error)),
            }
        })
    }

    /// By what a question of this connection is taken back.
    pub(super) fn question_key(&self, id: &str) -> String {
        format!("{}:{id}", self.serial)
    }

    /// A line that is JSON-like but no message: if it names a waiting request, that one failed.
    fn garbage(&self, error: &envelope::EnvelopeError<'_>) {
        tracing::warn!("the backend sent something that is no message: {error}");
        if let envelope::EnvelopeError::Shape { id: Some(id), .. } = error
            && let Some(pending) = id.get().parse().ok().and_then(|id: u64| self.pending.lock().remove(&id))
        {
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

/// A request somebody waits for.
struct Waiting<'a> {
    peer: &'a Peer,
    id: u64,
    method: &'a str,
    sent: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let unanswered = self.peer.pending.lock().remove(&self.id);
        // MCP "Cancellation": `initialize` must not be cancelled. A server that did not answer whether it knows the
        // stateless era may take a notification before the handshake for the end of everything; rmcp does.
        let first_words = matches!(self.method, "initialize" | "server/discover");
        if let Some(pending) = unanswered.filter(|_| self.sent && !first_words) {
            let params = self.parting(&pending);
            self.peer.notify("notifications/cancelled", Some(&params));
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
