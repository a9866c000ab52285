//! The things behind the gateway: MCP servers that are child processes or spoken to over HTTP.
//!
//! A [`Backend`] is one of them with its supervisor: it starts, is listed, answers, dies and comes back. All of
//! them together are the [`Registry`], which merges what they offer. A backend does nothing but what comes with a
//! [`crate::policy::Permitted`].

#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod registry;

mod arguments;
mod dedicated;
mod eras;
mod errand;
mod fleet;
mod http;
mod items;
mod listing;
mod memory;
mod negotiate;
mod open;
mod peer;
mod process;
mod refresh;
mod reply;
mod restart;
#[cfg(test)]
mod scripted;
mod spool;
mod sse;
mod stdio;
mod subscribe;
mod supervisor;
mod told;
mod translate;
mod transport;
mod wanted;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use fleet::{Fleet, Lineup};
pub use memory::Memory;
pub use open::Common;
pub use peer::PeerError;
pub use process::keeper::serve_if_asked as serve_as_keeper_if_asked;
pub use process::kin::settle;
pub use registry::{ListChanged, Registry};
pub use reply::Reply;
pub use spool::{Spool, whole};
pub use wanted::History;

use self::dedicated::DedicatedConnections;
use self::errand::Errand;
use self::memory::Remembered;
use self::negotiate::Progress;
use self::open::Opener;
use self::peer::{Peer, Request};
use self::refresh::Refreshing;
use self::subscribe::Subscriptions;
use self::transport::TransportError;
use self::wanted::{Story, Wanted};
use crate::call::shares::{Full, Shares};
use crate::call::{Call, Json, Share};
use crate::config;
use crate::mcp::client::ClientNotice;
use crate::mcp::client::{Affinity, Answered, Client};
use crate::mcp::header::Mirrored;
use crate::mcp::payload::{Payload, Unkept};
use crate::mcp::{Era, message, method, splice};
use crate::policy::Permitted;
use crate::redact::Words;

/// A call for a name that nobody offers yet waits this long while a backend is starting that may offer it.
pub const START_PATIENCE: Duration = Duration::from_secs(10);
/// A call on a backend that is starting waits this long for it, and no longer than for its answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// A server that is down is waited for as well if it is started again within this time of a call's arrival.
const PAUSE_PATIENCE: Duration = Duration::from_secs(1);
/// The pause before a first retry; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// `subscriptions/listen` is answered when it ends, and its stream may be silent for as long as nothing changes; that
/// its server has vanished is noticed by TCP's own probes.
const STANDING: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a backend gave no answer. This is what operators read, in the log and in the record; what a client hears of it is
/// said in `door::respond`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    #[error("backend \"{backend}\" is not available: {reason}{}", tried_again(*.again))]
    Unreachable {
        backend: Arc<str>,
        reason: Words,
        /// Whether this says something new about the server: it was asked, and of the calls that are lost with one
        /// connection this is the first.
        counts: bool,
        /// In how long it is tried again, if it is down and that is known.
        again: Option<Duration>,
    },
    #[error(
        "backend \"{backend}\" did not answer within {} s{}",
        .after.as_secs(),
        if *.endless { ", though it reported progress: a call may take no longer" } else { "" }
    )]
    Timeout {
        backend: Arc<str>,
        after: Duration,
        /// The server said something else meanwhile: it is there.
        alive: bool,
        /// It reported progress until the end.
        endless: bool,
    },
    #[error("backend \"{backend}\" did not answer in the protocol: {reason}")]
    Protocol { backend: Arc<str>, reason: Words },
    #[error(
        "backend \"{backend}\" did not answer in the protocol: the answer is over the limit of {limit} bytes"
    )]
    TooLarge { backend: Arc<str>, limit: usize },
    #[error("the call was made, but the long answer of backend \"{backend}\" was not kept: {}", if *.own {
        "too many of your other long answers are not read yet"
    } else {
        "too many long answers of other callers are not read yet"
    })]
    Unkept {
        backend: Arc<str>,
        /// It is the caller's own share that is used up.
        own: bool,
    },
    #[error("backend \"{backend}\" answered with HTTP status {status}{}{said}", if .said.is_empty() { "" } else { ": " })]
    Status {
        backend: Arc<str>,
        status: u16,
        retry_after: Option<Duration>,
        /// What it said about it.
        said: Words,
    },
    #[error("backend \"{backend}\" already works on {limit} calls")]
    Busy { backend: Arc<str>, limit: usize },
    #[error("backend \"{backend}\" was stopped by the operator, and stays so until the operator starts it")]
    Stopped { backend: Arc<str> },
    #[error("too many of your {what} at backend \"{backend}\": wait for one of them to end")]
    Share { backend: Arc<str>, what: &'static str },
}

/// When a backend that is down is tried again, as the end of a sentence.
#[must_use]
pub fn tried_again(again: Option<Duration>) -> String {
    again.map_or_else(String::new, |again| format!("; it is tried again within {} s", again.as_secs() + 1))
}

/// Where a backend is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Starting,
    Ready,
    /// Not there.
    Down {
        reason: Words,
        /// When it is tried again; `None`: never.
        again: Option<Instant>,
    },
    Stopped,
}

/// One server behind the gateway.
#[derive(Debug)]
pub struct Backend {
    pub(self) name: Arc<str>,
    pub(self) settings: config::Backend,
    pub(self) peer: ArcSwapOption<Peer>,
    /// What it has said of itself and of what it offers.
    pub(self) said: Mutex<registry::Said>,
    /// Ends it.
    pub(self) stop: CancellationToken,
    /// It has been in a generation; if it is in none any more, it is ended.
    pub(self) adopted: AtomicBool,
    pub(self) status: watch::Sender<Status>,
    /// How far it has come while it starts.
    pub(self) progress: Progress,
    /// What an operator wants of it.
    pub(self) wanted: Wanted,
    /// What happened to it so far.
    pub(self) story: Story,
    /// When a call may have a server tried again that is down.
    pub(self) soonest: Mutex<Instant>,
    /// Calls under way, by caller.
    pub(self) slots: Arc<Shares>,
    pub(self) opener: Arc<Opener>,
    /// What is known of it from earlier starts.
    pub(self) remembered: Remembered,
    /// Connections that are not shared.
    pub(self) dedicated: DedicatedConnections,
    pub(self) subscriptions: Subscriptions,
    /// It knows both eras; a session that needs a connection of its own gets one of its own era.
    pub(self) shakes_hands: AtomicBool,
    /// Which lists are to be read again.
    pub(self) refreshing: Refreshing,
    /// Held while its lists are read.
    pub(self) reading: tokio::sync::Mutex<()>,
    /// Held while they are asked for again, after the server had forgotten the session.
    pub(self) rereading: tokio::sync::Mutex<()>,
    /// What has been said of its lists.
    pub(self) told: items::Told,
    /// Tools whose arguments are repeated in headers, by the server's name for them.
    pub(self) mirrored: ArcSwap<HashMap<String, Vec<Mirrored>>>,
}

impl Backend {
    fn new(settings: config::Backend, opener: Arc<Opener>, stop: CancellationToken) -> Self {
        Self {
            remembered: opener.remembered(&settings),
            opener,
            dedicated: DedicatedConnections::new(settings.max_connections),
            subscriptions: Subscriptions::default(),
            shakes_hands: AtomicBool::new(false),
            refreshing: Refreshing::default(),
            reading: tokio::sync::Mutex::default(),
            rereading: tokio::sync::Mutex::default(),
            told: items::Told::default(),
            mirrored: ArcSwap::default(),
            name: settings.name.as_str().into(),
            peer: ArcSwapOption::empty(),
            said: Mutex::default(),
            adopted: AtomicBool::new(false),
            stop,
            status: watch::Sender::new(Status::Starting),
            progress: Progress::default(),
            wanted: Wanted::default(),
            story: Story::default(),
            soonest: Mutex::new(Instant::now()),
            slots: Shares::new(settings.max_in_flight),
            settings,
        }
    }

    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The host and the port where it is spoken to over HTTP; none if it is a process of ours.
    #[must_use]
    pub fn reached(&self) -> Option<(&str, Option<u16>)> {
        let config::TransportSettings::Http { url, .. } = &self.settings.transport else { return None };
        Some(host_and_port(url.expose()))
    }

    /// Whether the gateway is said not to be ready without it.
    #[must_use]
    pub fn required(&self) -> bool {
        self.settings.required
    }

    /// Whether the operator said that JSON-RPC errors of this server are failures of the server.
    #[must_use]
    pub fn errors_count(&self) -> bool {
        self.settings.errors_count
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Ends when it has to stop: with the gateway, or with the last generation that has it.
    pub(self) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// What it does while it starts.
    #[must_use]
    pub fn starting(&self) -> String {
        match self.progress.stage().waited_for() {
            Some(what) => format!("starting, waiting for {what}"),
            None => "starting".to_owned(),
        }
    }

    /// The connection, if there is one.
    #[must_use]
    fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.load_full()
    }

    /// Does what was permitted. `params` are those of the call unless a rewriter changed them; names are turned
    /// into the backend's own here. Dropping the future cancels the request at the backend. What wants no answer, a
    /// notification that is not MCP's, is passed on, and the answer is the gateway's own.
    ///
    /// # Errors
    /// There is no answer; a JSON-RPC error is an answer.
    pub async fn call(
        self: &Arc<Self>,
        permitted: &Permitted,
        params: Option<&Json>,
        headers: Vec<(String, String)>,
        client: &Arc<dyn Client>,
        answered: bool,
    ) -> Result<Reply, BackendError> {
        let call = permitted.call();
        let share = share_of(call);
        let slot = self.slots.take(share, 1);
        let _slot = slot.map_err(|full| self.full(full, self.settings.max_in_flight, "calls"))?;
        let peer = self.connected().await?;
        let params = params.unwrap_or(&call.params).get();
        let renamed = translate::own_names(call, params);
        let params = renamed.as_deref().unwrap_or(params);
        // To a stateless server a connection is no session: everybody shares it.
        let alone = match peer.era() {
            Era::Handshake => true,
            Era::Stateless => {
                client.client_info().era() == Era::Handshake && self.shakes_hands.load(Ordering::Relaxed)
            }
        };
        let (peer, lease) = match client.affinity() {
            Affinity::Shared => (peer, None),
            _ if !alone => (peer, None),
            affinity => {
                let (peer, lease) = self.connection_for(&affinity, share, client).await?;
                (peer, Some(lease))
            }
        };
        let reply = if answered {
            translate::exchange(self, &peer, permitted, params, headers, client).await
        } else {
            translate::pass(self, &peer, permitted, params, headers, client)
        };
        if reply.is_ok() {
            peer.has_served();
        }
        if let (Some(lease), Ok(reply)) = (&lease, &reply)
            && !reply.is_error()
        {
            lease.heard(&call.method, params);
        }
        let reply = reply.map_err(|error| {
            let lost = matches!(
                error,
                PeerError::Transport(TransportError::Closed(_) | TransportError::SessionLost)
            );
            let more = lost && !peer.is_first_lost();
            match self.failed(error) {
                BackendError::Unreachable { backend, reason, again, .. } if more => {
                    BackendError::Unreachable { backend, reason, counts: false, again }
                }
                error => error,
            }
        })?;
        // Clients refuse the whole message for it, and wait for another.
        if !reply.is_error() && !reply.text().starts_with('{') && !crate::mcp::is_custom(&call.method) {
            let reason = self.words(&format!("its result for {} is no object", call.method));
            return Err(BackendError::Protocol { backend: self.name.clone(), reason });
        }
        if let Some(long) = reply.payload().source() {
            // From here on it waits for this caller to read it.
            let kept = long.keep_for(share);
            kept.map_err(|why| BackendError::Unkept {
                backend: self.name.clone(),
                own: why == Unkept::Share,
            })?;
        }
        Ok(reply)
    }

    /// The error when there is no place for a caller; it is not the server's fault.
    fn full(&self, full: Full, limit: usize, what: &'static str) -> BackendError {
        let backend = self.name.clone();
        if full.own { BackendError::Share { backend, what } } else { BackendError::Busy { backend, limit } }
    }

    /// Sends a client's notification: over its own connection, or over the shared one if it is the only client. The
    /// stateless era has no such notifications.
    pub fn notify(&self, session: Option<&Arc<str>>, notice: &ClientNotice) {
        let peer = match session {
            None => self.peer(),
            Some(session) => self.dedicated.of(session),
        };
        if let Some(peer) = peer.filter(|peer| peer.era() == Era::Handshake) {
            peer.notify(notice);
        }
    }

    /// The session is over: a connection of its own is not needed any more.
    pub fn forget(&self, session: &Arc<str>) {
        self.dedicated.end(&Affinity::Session(session.clone()));
        self.subscriptions.forget(session);
    }

    /// Which arguments of a tool are repeated in headers.
    #[must_use]
    pub fn mirrored(&self, tool: &str) -> Vec<Mirrored> {
        self.mirrored.load().get(tool).cloned().unwrap_or_default()
    }

    /// Sends the request, again if the server certainly did not see it (no connection came to be). Whatever it may
    /// have seen is never sent twice: a tool has effects.
    async fn request(
        &self,
        peer: &Peer,
        permitted: &Permitted,
        params: &str,
        headers: Vec<(String, String)>,
        client: &Arc<dyn Client>,
    ) -> Result<Reply, PeerError> {
        let patience = self.settings.patience(permitted.call());
        let begun = Instant::now();
        let mut left_of_it = patience.silence;
        let mut pause = RETRY_PAUSE;
        let mut left = self.settings.retries;
        loop {
            let sent = peer.request(Request {
                errand: Errand::Call(permitted),
                params: Some(params),
                headers: headers.clone(),
                client: client.clone(),
                patience: left_of_it,
                longest: patience.longest,
            });
            let sent = sent.await;
            let unseen = matches!(sent, Err(PeerError::Transport(TransportError::Unreachable(_))));
            if !unseen || left == 0 || left_of_it <= pause {
                return sent;
            }
            left -= 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
            left_of_it = patience.silence.saturating_sub(begun.elapsed());
        }
    }

    /// Whether it may be there in a moment, and is not there yet.
    fn is_coming(&self, soon: Instant) -> bool {
        self.is_on_its_way(&self.status.borrow(), soon)
    }

    fn is_on_its_way(&self, status: &Status, soon: Instant) -> bool {
        match status {
            Status::Starting => true,
            Status::Down { again, .. } => again.is_some_and(|again| again < soon),
            // It was lost a moment ago, and what follows is not known yet.
            Status::Ready => self.peer.load().is_none(),
            Status::Stopped => false,
        }
    }

    /// A call needs it: if it is down, it is tried again as soon as its last attempt is long enough ago.
    pub fn want(&self) {
        if matches!(*self.status.borrow(), Status::Down { .. }) {
            self.try_again(*self.soonest.lock());
        }
    }

    /// If it is down, it is tried again at this time at the latest. The supervisor follows what stands in the status.
    pub(self) fn try_again(&self, at: Instant) {
        self.status.send_if_modified(|status| match status {
            Status::Down { again: Some(again), .. } if *again > at => {
                *again = at;
                true
            }
            Status::Down { .. } | Status::Starting | Status::Ready | Status::Stopped => false,
        });
    }

    /// The connection, waiting a while for one that is being made.
    async fn connected(&self) -> Result<Arc<Peer>, BackendError> {
        if self.wanted.is_stopped() {
            return Err(BackendError::Stopped { backend: self.name.clone() });
        }
        if let Some(peer) = self.peer() {
            return Ok(peer);
        }
        self.want();
        let mut status = self.status.subscribe();
        let soon = Instant::now() + PAUSE_PATIENCE;
        // A caller who is refused asks again, and every refusal looks like a failure to a circuit breaker.
        let settled = tokio::time::timeout(
            CONNECT_PATIENCE.min(self.settings.timeout),
            status.wait_for(|status| !self.is_on_its_way(status, soon)),
        );
        let (reason, again) = match settled.await {
            Ok(Ok(status)) => match &*status {
                Status::Down { reason, again } => {
                    let left = |again: &Instant| again.saturating_duration_since(Instant::now());
                    (reason.clone(), again.as_ref().map(left))
                }
                Status::Stopped => ("the gateway is shutting down".into(), None),
                Status::Starting | Status::Ready => (Words::default(), None),
            },
            Ok(Err(_)) => ("the gateway is shutting down".into(), None),
            Err(_) => (self.words(&format!("it is still {}", self.starting())), None),
        };
        self.peer().ok_or_else(|| BackendError::Unreachable {
            backend: self.name.clone(),
            reason,
            counts: false,
            again,
        })
    }

    /// The server's text about a failed call, without the secrets of the configuration; `None` if it holds none. Many
    /// servers repeat the key they were given.
    #[must_use]
    pub fn without_secrets(&self, failed: &Payload) -> Option<Payload> {
        self.opener.redaction().without_known(failed.json()).map(|text| failed.reworded(text))
    }

    /// Words of the server or about it, so that they can be shown.
    pub(self) fn words(&self, said: &str) -> Words {
        self.opener.words(said)
    }

    fn failed(&self, error: PeerError) -> BackendError {
        let backend = self.name.clone();
        match error {
            PeerError::Timeout { after, alive } => {
                BackendError::Timeout { backend, after, alive, endless: false }
            }
            PeerError::Endless(after) => BackendError::Timeout { backend, after, alive: true, endless: true },
            PeerError::Garbage(reason) => BackendError::Protocol { backend, reason: self.words(&reason) },
            PeerError::Transport(error) => match error {
                TransportError::Status { status, retry_after, said } => {
                    BackendError::Status { backend, status, retry_after, said }
                }
                TransportError::TooLarge { limit } => BackendError::TooLarge { backend, limit },
                TransportError::Protocol(_) => {
                    BackendError::Protocol { backend, reason: self.words(&error.to_string()) }
                }
                TransportError::Busy => BackendError::Busy { backend, limit: transport::OUTGOING_QUEUE },
                TransportError::Unreachable(_) | TransportError::SessionLost | TransportError::Closed(_)
                    if self.wanted.is_stopped() =>
                {
                    BackendError::Stopped { backend }
                }
                TransportError::Unreachable(_) | TransportError::SessionLost | TransportError::Closed(_) => {
                    let reason = self.words(&error.to_string());
                    BackendError::Unreachable { backend, reason, counts: true, again: None }
                }
            },
        }
    }
}

/// The share that a call counts to. On stdio there is one client, which shares with nobody.
fn share_of(call: &Call) -> Share {
    if call.door == "stdio" { Share::SOLE } else { call.principal.share() }
}

/// A message of a backend's own accord.
#[derive(Clone, Debug)]
pub enum Spontaneous {
    Notification {
        method: String,
        message: Bytes,
    },
    /// To be answered with this id.
    Request {
        id: Box<RawValue>,
        method: String,
        params: Option<Box<RawValue>>,
    },
}

/// The host and the port of a URL.
fn host_and_port(url: &str) -> (&str, Option<u16>) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let usual = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, Some(usual)),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// Whether a server says that what it offers has changed.
fn is_list_change(message: &Spontaneous) -> bool {
    matches!(message, Spontaneous::Notification { method, .. } if method.ends_with("/list_changed"))
}

/// Hands what a server said on to the client it is for.
fn pass_on(backend: &Arc<str>, peer: &Arc<Peer>, client: Option<Arc<dyn Client>>, message: Spontaneous) {
    match (message, client) {
        (Spontaneous::Request { id, method, .. }, _) if method == "ping" => {
            peer.answer(&id, &Answered::Result(message::raw("{}".to_owned())));
        }
        (Spontaneous::Notification { method, message }, Some(client)) if method == method::CANCELLED => {
            let text = std::str::from_utf8(&message).unwrap_or("{}");
            let id = splice::get(text, "/params/requestId").unwrap_or("null");
            client.withdraw(&peer.question_key(id), splice::get(text, "/params"));
        }
        (Spontaneous::Notification { message, .. }, Some(client)) => client.notify(message),
        (Spontaneous::Notification { method, .. }, None) => {
            tracing::debug!(%backend, method, "a notification that is for nobody was dropped");
        }
        (Spontaneous::Request { id, method, params }, client) => {
            let question = peer.question(&id, method, params);
            match client {
                Some(client) if client.client_info().answers(&question.method) => client.ask(question),
                Some(_) => {
                    question.refuse(crate::mcp::code::METHOD_NOT_FOUND, "the client does not support this");
                }
                None => question.refuse(crate::mcp::code::INTERNAL_ERROR, "no client is connected"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_names_host_and_port() {
        for (url, expected) in [
            ("https://h.example/mcp?key=x", ("h.example", Some(443))),
            ("HTTP://h.example", ("h.example", Some(80))),
            ("http://127.0.0.1:8080/mcp", ("127.0.0.1", Some(8080))),
            ("http://[::1]:8080/mcp", ("::1", Some(8080))),
            ("https://[2001:db8::1]/", ("2001:db8::1", Some(443))),
        ] {
            assert_eq!(host_and_port(url), expected, "{url}");
        }
    }
}
