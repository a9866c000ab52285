//! MCP servers: child processes, or spoken to over HTTP.
//!
//! A [`Server`] is one of them with its supervisor: it starts, is listed, answers, dies and comes back. All of
//! them together are the [`Registry`], which merges what they offer.

#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod registry;

mod arguments;
mod calling;
mod complaint;
mod dedicated;
mod eras;
mod errand;
mod fixed;
mod fleet;
mod forward;
pub(super) mod http;
mod items;
mod lineup;
mod listing;
mod memory;
mod negotiate;
mod open;
mod peer;
mod progress;
mod pump;
mod reach;
mod reading;
mod refresh;
mod reply;
mod restart;
#[cfg(test)]
pub(super) mod scripted;
mod server_info;
mod settings;
mod spontaneous;
mod sse;
mod standing;
mod stdio;
mod subscribe;
mod supervisor;
mod told;
mod translate;
mod transport;
mod wanted;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use fixed::Fixed;
pub use fleet::{ListChanged, ServerFleet};
pub use lineup::Lineup;
pub use memory::Memory;
pub use open::Common;
pub use peer::PeerError;
pub use registry::Registry;
pub use wanted::History;

use self::dedicated::DedicatedConnections;
use self::memory::Remembered;
use self::open::Opener;
use self::peer::Peer;
use self::progress::Progress;
use self::refresh::Refreshing;
use self::settings::Settings;
use self::subscribe::Subscriptions;
use self::wanted::{Story, Wanted};
use super::{BackendError, Status, whole};
use crate::call::shares::Shares;
use crate::call::{Call, Share};
use crate::config;
use crate::mcp::Era;
use crate::mcp::client::{Affinity, ClientNotice};
use crate::mcp::header::Mirrored;
use crate::mcp::payload::Payload;
use crate::redact::Words;

/// A call for a name that nobody offers yet waits this long while a backend is starting that may offer it.
pub const START_PATIENCE: Duration = Duration::from_secs(10);
/// A server that is down is waited for as well if it is started again within this time of a call's arrival.
const PAUSE_PATIENCE: Duration = Duration::from_secs(1);

/// `subscriptions/listen` is answered when it ends, and its stream may be silent for as long as nothing changes; that
/// its server has vanished is noticed by TCP's own probes.
const STANDING: Duration = Duration::from_secs(365 * 24 * 3600);

/// One server behind the gateway.
#[derive(Debug)]
pub struct Server {
    pub(self) name: Arc<str>,
    /// The host and the port where it is spoken to over HTTP; none if it is a process of ours.
    pub(self) reached: Option<(String, Option<u16>)>,
    pub(self) settings: Settings,
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
    /// Nothing that it says of its own accord reaches a client, because it is switched off.
    pub(self) muted: AtomicBool,
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

impl Server {
    fn new(settings: Arc<config::Backend>, opener: Arc<Opener>, stop: CancellationToken) -> Self {
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
            muted: AtomicBool::new(false),
            slots: Shares::new(settings.max_in_flight),
            reached: reached(&settings.transport),
            settings: Settings::new(settings),
        }
    }

    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The host and the port where it is spoken to over HTTP; none if it is a process of ours.
    #[must_use]
    pub fn reached(&self) -> Option<(&str, Option<u16>)> {
        self.reached.as_ref().map(|(host, port)| (host.as_str(), *port))
    }

    /// Whether the gateway is said not to be ready without it.
    #[must_use]
    pub fn required(&self) -> bool {
        self.settings.load().required
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
    pub(crate) fn mirrored(&self, tool: &str) -> Vec<Mirrored> {
        self.mirrored.load().get(tool).cloned().unwrap_or_default()
    }

    /// The server's text about a failed call, without the secrets of the configuration; `None` if it holds none. Many
    /// servers repeat the key they were given.
    #[must_use]
    pub(crate) fn without_secrets(&self, failed: &Payload) -> Option<Payload> {
        self.opener.redaction().without_known(failed.json()).map(|text| failed.reworded(text))
    }

    /// Words of the server or about it, so that they can be shown.
    pub(self) fn words(&self, said: &str) -> Words {
        self.opener.words(said)
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

fn reached(transport: &config::TransportSettings) -> Option<(String, Option<u16>)> {
    let config::TransportSettings::Http { url, .. } = transport else { return None };
    let (host, port) = host_and_port(url.expose());
    Some((host.to_owned(), port))
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
