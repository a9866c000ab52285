//! Connections for one client each, because in the handshake era capabilities, log level and subscriptions belong to a
//! connection, and a server's question does not say which request caused it. They are opened on demand, bounded in
//! number, and closed when they have been unused for a while. When there are too many, the one that has been idle
//! longest makes room; its session gets another with its next call. A connection over which its client has subscribed
//! to something is not idle, because the server may report a change at any time.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::errand::{Errand, Own};
use super::peer::{Peer, Request};
use super::transport::{Control, Incoming, Receiver, Transport, TransportError};
use super::{BackendError, PeerError, Server, negotiate};
use crate::call::Share;
use crate::call::shares::{Full, Place, Shares};
use crate::mcp::client::{Affinity, Client};
use crate::mcp::payload::Payload;
use crate::mcp::splice;

/// The error of a call that waited too long for a connection.
const STILL_STARTING: &str = "the session's own connection to it is still starting";
/// How long a stopped server may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// The connections of one backend that are not shared.
#[derive(Debug)]
pub(super) struct DedicatedConnections {
    held: Mutex<HashMap<Affinity, Vec<Arc<Slot>>>>,
    /// How many each caller has.
    places: Arc<Shares>,
    tasks: TaskTracker,
}

/// One connection, or the place of one that is being made.
#[derive(Debug)]
pub(super) struct Slot {
    peer: OnceCell<Arc<Peer>>,
    /// The caller who needed it, and the place that it occupies.
    whose: Share,
    place: Mutex<Option<Place>>,
    /// Calls that use it. A leased one has one at a time.
    calls: AtomicUsize,
    /// What its client has subscribed to.
    subscribed: Mutex<HashSet<String>>,
    /// The attempt to open it for a session, shared by all of the session's calls that wait for it.
    opening: OnceLock<Opening>,
    used: Mutex<Instant>,
    /// The client of this connection, for what the server says between calls.
    owner: Mutex<Option<Arc<dyn Client>>>,
    end: CancellationToken,
}

/// A connection, or why there is none; no error if its place was given up before.
type Opened = Result<Arc<Peer>, Option<PeerError>>;

/// A connection that is being opened, for all who wait for it.
struct Opening(Shared<BoxFuture<'static, Opened>>);

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening")
    }
}

/// A connection in use by a call.
#[derive(Debug)]
pub(super) struct Lease(Arc<Slot>);

impl Drop for Lease {
    fn drop(&mut self) {
        *self.0.used.lock() = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lease {
    /// A request went over it and was answered well.
    pub(super) fn heard(&self, method: &str, params: &str) {
        if !matches!(method, "resources/subscribe" | "resources/unsubscribe") {
            return;
        }
        let uri = splice::get(params, "/uri").unwrap_or_default().to_owned();
        let mut subscribed = self.0.subscribed.lock();
        if method == "resources/subscribe" {
            subscribed.insert(uri);
        } else {
            subscribed.remove(&uri);
        }
    }
}

/// A connection in the making. Unless it is kept it ends, and so does its process: when something fails, and when
/// the caller gives up half-way.
struct Attempt<'a> {
    dedicated: &'a DedicatedConnections,
    slot: &'a Arc<Slot>,
    kept: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // In this order: a call that waits for the place and finds it ended is given another.
            self.dedicated.forget(self.slot);
            self.slot.end.cancel();
        }
    }
}

impl Slot {
    fn new(whose: Share, place: Place) -> Arc<Self> {
        Arc::new(Self {
            peer: OnceCell::new(),
            whose,
            place: Mutex::new(Some(place)),
            calls: AtomicUsize::new(1),
            subscribed: Mutex::default(),
            opening: OnceLock::new(),
            used: Mutex::new(Instant::now()),
            owner: Mutex::default(),
            end: CancellationToken::new(),
        })
    }

    /// Ends the connection; its place is free at once.
    fn give_up(&self) {
        self.place.lock().take();
        self.end.cancel();
    }

    /// One call more. A leased one takes none beside another.
    fn taken(&self, lease: bool) -> bool {
        let alone = || self.calls.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if lease {
            return alone();
        }
        self.calls.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// How long it has been idle; `None` while it is in use.
    fn idle_for(&self) -> Option<Duration> {
        let working = self.calls.load(Ordering::Acquire) > 0
            || self.peer.get().is_some_and(|peer| peer.newest().is_some())
            || !self.subscribed.lock().is_empty();
        (!working).then(|| self.used.lock().elapsed())
    }
}

impl DedicatedConnections {
    pub(super) fn new(limit: usize) -> Self {
        Self { held: Mutex::default(), places: Shares::new(limit), tasks: TaskTracker::new() }
    }

    /// How many connections there may be.
    pub(super) fn most(&self) -> usize {
        self.places.most()
    }

    /// From now on there may be so many. Those that are open stay.
    pub(super) fn resize(&self, most: usize) {
        self.places.resize(most);
    }

    /// A place for a call: the session's own, or a free one for callers alike. None if there are too many.
    fn place(&self, affinity: &Affinity, whose: Share) -> Result<Lease, Full> {
        let mut held = self.held.lock();
        let lease = matches!(affinity, Affinity::Lease(_));
        let found = held.get(affinity).and_then(|slots| slots.iter().find(|slot| slot.taken(lease)).cloned());
        if let Some(found) = found {
            return Ok(Lease(found));
        }
        let place = match self.places.take(whose, 1) {
            Ok(place) => place,
            Err(full) => {
                let idle = self.longest_idle(&held, whose, full).ok_or(full)?;
                idle.give_up();
                held.values_mut().for_each(|slots| slots.retain(|slot| !Arc::ptr_eq(slot, &idle)));
                held.retain(|_, slots| !slots.is_empty());
                self.places.take(whose, 1)?
            }
        };
        let slot = Slot::new(whose, place);
        held.entry(affinity.clone()).or_default().push(slot.clone());
        Ok(Lease(slot))
    }

    /// The one that makes room: of the caller's own if it is their share that is used up, else of those who have more of
    /// them than the caller. A leased one holds nothing that its next call would miss, so it may be anybody's.
    fn longest_idle(
        &self,
        held: &HashMap<Affinity, Vec<Arc<Slot>>>,
        whose: Share,
        full: Full,
    ) -> Option<Arc<Slot>> {
        let own = self.places.held(whose);
        let all = held.iter().flat_map(|(affinity, slots)| slots.iter().map(move |slot| (affinity, slot)));
        let may_go = |(affinity, slot): &(&Affinity, &Arc<Slot>)| {
            let leased = matches!(affinity, Affinity::Lease(_));
            if full.own { slot.whose == whose } else { leased || self.places.held(slot.whose) > own }
        };
        let idle = all.filter(may_go).filter_map(|(_, slot)| Some((slot.idle_for()?, slot)));
        idle.max_by_key(|(idle, _)| *idle).map(|(_, slot)| slot.clone())
    }

    fn forget(&self, gone: &Arc<Slot>) {
        gone.place.lock().take();
        let mut held = self.held.lock();
        held.values_mut().for_each(|slots| slots.retain(|slot| !Arc::ptr_eq(slot, gone)));
        held.retain(|_, slots| !slots.is_empty());
    }

    /// The connection of a session, if it has one.
    pub(super) fn of(&self, session: &Arc<str>) -> Option<Arc<Peer>> {
        let held = self.held.lock();
        held.get(&Affinity::Session(session.clone()))?.first()?.peer.get().cloned()
    }

    /// A session's connection, over which it subscribed to this (as JSON) and is not to hear of it any more.
    pub(super) fn unsubscribed(&self, session: &Arc<str>, uri: &str) -> Option<Arc<Peer>> {
        let held = self.held.lock();
        let slots = held.get(&Affinity::Session(session.clone()))?;
        let slot = slots.iter().find(|slot| slot.subscribed.lock().remove(uri))?;
        slot.peer.get().cloned()
    }

    /// Runs something that ends with the backend.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends a session's connection.
    pub(super) fn end(&self, affinity: &Affinity) {
        if let Some(slots) = self.held.lock().remove(affinity) {
            slots.iter().for_each(|slot| slot.give_up());
        }
    }

    /// Ends all.
    pub(super) fn end_all(&self) {
        let all: Vec<_> = self.held.lock().drain().flat_map(|(_, slots)| slots).collect();
        all.iter().for_each(|slot| slot.give_up());
    }

    /// The same, and waits for their processes to be gone.
    pub(super) async fn stop(&self) {
        self.end_all();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Server {
    /// The connection this call needs to a server that shook hands.
    pub(super) async fn connection_for(
        self: &Arc<Self>,
        affinity: &Affinity,
        whose: Share,
        client: &Arc<dyn Client>,
    ) -> Result<(Arc<Peer>, Lease), BackendError> {
        loop {
            let place = self.dedicated.place(affinity, whose);
            let held =
                place.map_err(|full| self.full(full, self.dedicated.most(), "connections of your own"))?;
            let slot = held.0.clone();
            *slot.used.lock() = Instant::now();
            if matches!(affinity, Affinity::Session(_)) {
                *slot.owner.lock() = Some(client.clone());
            }
            // One opens, the others wait for it; after its failure they take another place.
            match self.opened(&slot, client, matches!(affinity, Affinity::Session(_))).await {
                Ok(peer) => return Ok((peer, held)),
                Err(Some(error)) => return Err(self.failed(error)),
                Err(None) => {}
            }
        }
    }

    /// The connection of a place, which may have to be opened. What is opened for a session goes on when this call gives up,
    /// because the session will call again: a server that needs longer to start than a caller waits would never be up.
    async fn opened(self: &Arc<Self>, slot: &Arc<Slot>, client: &Arc<dyn Client>, stays: bool) -> Opened {
        if let Some(peer) = slot.peer.get() {
            return Ok(peer.clone());
        }
        let opening = async {
            if !stays {
                return slot.peer.get_or_try_init(|| self.connect(slot, client)).await.cloned();
            }
            let mut first = false;
            let opening = slot.opening.get_or_init(|| {
                first = true;
                Opening(self.open_behind(slot.clone(), client.clone()).boxed().shared())
            });
            let opened = opening.0.clone().await;
            // Those who waited for another's attempt make one of their own.
            opened.map_err(|error| error.filter(|_| first))
        };
        // As long as two answers may take: to the greeting and to the level of logging.
        let patience = 2 * self.settings.load().timeout;
        match tokio::time::timeout(patience, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Some(TransportError::Unreachable(STILL_STARTING.to_owned()).into())),
        }
    }

    /// Opens the connection of a place, whether anybody goes on waiting for it or not.
    fn open_behind(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        client: Arc<dyn Client>,
    ) -> impl Future<Output = Opened> + Send + 'static + use<> {
        let backend = self.clone();
        let open =
            async move { slot.peer.get_or_try_init(|| backend.connect(&slot, &client)).await.cloned() };
        let opening = self.dedicated.tasks.spawn(open);
        // An error is a panic, or the runtime ends.
        async move { opening.await.unwrap_or_else(|error| Err(Some(PeerError::Garbage(error.to_string())))) }
    }

    /// Opens the connection of a place; no error if the place was given up before.
    async fn connect(self: &Arc<Self>, slot: &Arc<Slot>, client: &Arc<dyn Client>) -> Opened {
        if slot.end.is_cancelled() {
            return Err(None);
        }
        let mut attempt = Attempt { dedicated: &self.dedicated, slot, kept: false };
        let peer = self.shake_hands(slot, client).await?;
        attempt.kept = true;
        Ok(peer)
    }

    async fn shake_hands(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        client: &Arc<dyn Client>,
    ) -> Result<Arc<Peer>, PeerError> {
        let Transport { sender, receiver, control } = self.opener.open(&self.settings).await?;
        let peer = Arc::new(Peer::new(self.name.clone(), sender));
        let (initialized, version) = tokio::sync::oneshot::channel();
        let care = care(self.clone(), slot.clone(), peer.clone(), receiver, control, version);
        self.dedicated.tasks.spawn(care);
        let client_info = client.client_info();
        let (patience, start) = {
            let settings = self.settings.load();
            (settings.timeout, settings.start_timeout)
        };
        let info = negotiate::greet(&peer, client_info.capabilities.get(), start).await?;
        // The task that looks after the connection is there as long as its slot.
        let _ = initialized.send(info.version.clone());
        if let Some(level) = client_info.log_level.as_ref().filter(|_| info.has("logging")) {
            let params = format!("{{\"level\":{}}}", level.get());
            let set = Request {
                errand: Errand::Own(Own::SetLevel),
                params: Some(&params),
                headers: Vec::new(),
                client: client.clone(),
                patience,
                longest: patience,
            };
            peer.request(set).await?;
        }
        tracing::debug!(backend = %self.name, "a session gets a connection of its own");
        Ok(peer)
    }
}

/// Looks after one connection until it breaks, is ended, or has been unused for long enough.
async fn care(
    backend: Arc<Server>,
    slot: Arc<Slot>,
    peer: Arc<Peer>,
    mut receiver: Receiver,
    control: Control,
    version: tokio::sync::oneshot::Receiver<String>,
) {
    let mut settings = backend.settings.changes();
    let mut idle = backend.settings.load().idle_timeout;
    let mut beat = looks(idle);
    tokio::pin!(version);
    let mut initialized = false;
    let reason = loop {
        tokio::select! {
            () = slot.end.cancelled() => break "the session ended".to_owned(),
            version = &mut version, if !initialized => {
                initialized = true;
                if let Ok(version) = version {
                    control.set_protocol_version(&version);
                }
            }
            // The other end is ours.
            _ = settings.changed() => {
                idle = backend.settings.load().idle_timeout;
                beat = looks(idle);
            }
            _ = beat.tick() => {
                if slot.idle_for().is_some_and(|time| time > idle) {
                    break "nobody used it".to_owned();
                }
            }
            incoming = receiver.recv() => match incoming {
                Incoming::Message(raw) => hear(&backend, &slot, &peer, &raw, None),
                Incoming::About { id, message } => hear(&backend, &slot, &peer, &message, Some(id)),
                Incoming::Failed { id, error } => peer.fail(id, error),
                Incoming::Renewed => {
                    // On its own: the answer comes through this very loop.
                    let (peer, patience) = (peer.clone(), backend.settings.load().timeout);
                    tokio::spawn(async move { peer.say_again(patience).await });
                }
                Incoming::Oversized { limit, answers } => peer.oversized(limit, answers),
                Incoming::Closed(reason) => break reason,
            }
        }
    };
    backend.dedicated.forget(&slot);
    slot.owner.lock().take();
    peer.end(&reason);
    tracing::debug!(backend = %backend.name, "a connection of its own ended: {reason}");
    control.stop(STOP_GRACE).await;
}

/// When it is looked whether a connection is idle for so long.
fn looks(idle: Duration) -> tokio::time::Interval {
    tokio::time::interval((idle / 2).max(Duration::from_millis(100)))
}

fn hear(backend: &Arc<Server>, slot: &Slot, peer: &Arc<Peer>, raw: &Payload, about: Option<u64>) {
    peer.receive(raw, about, |message, client| {
        let client = client.or_else(|| peer.newest()).or_else(|| slot.owner.lock().clone());
        let client = client.filter(|_| !backend.is_muted());
        // What is offered is read over the shared connection, which hears of it too.
        if !super::forward::is_list_change(&message) {
            super::forward::pass_on(&backend.name, peer, client, message);
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::backend::mcp::scripted::{self, GREET, LONG};
    use crate::mcp::client::{ClientInfo, ServerRequest};
    use crate::mcp::{REVISIONS, message};

    /// A client that wants log messages, so that a connection of its own begins with `logging/setLevel`.
    #[derive(Debug)]
    struct Ann(ClientInfo);

    impl Ann {
        fn arrives() -> Arc<dyn Client> {
            let level = Some(message::raw("\"info\"".to_owned()));
            let capabilities = message::raw("{}".to_owned());
            Arc::new(Self(ClientInfo { version: REVISIONS[0], capabilities, info: None, log_level: level }))
        }
    }

    impl Client for Ann {
        fn client_info(&self) -> &ClientInfo {
            &self.0
        }
        fn affinity(&self) -> Affinity {
            Affinity::Lease("ann".into())
        }
        fn notify(&self, _: Bytes) {}
        fn ask(&self, _: Arc<ServerRequest>) {}
        fn withdraw(&self, _: &str, _: Option<&str>) {}
    }

    /// A script that tells by a file that it was asked for the level, and stays.
    fn silent(heard: &std::path::Path) -> String {
        format!("{GREET}; read -r line; echo heard > '{}'; while read -r line; do :; done", heard.display())
    }

    /// Every process is looked after by a task that ends with it.
    async fn nothing_is_left(backend: &Server) {
        assert!(backend.dedicated.held.lock().is_empty(), "the place is free");
        backend.dedicated.tasks.close();
        tokio::time::timeout(LONG, backend.dedicated.tasks.wait()).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_fails_after_the_handshake_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let backend = scripted::backend(&silent(&dir.path().join("heard")), Duration::from_millis(500));
        let client = Ann::arrives();
        let failed = backend.connection_for(&client.affinity(), Share::SOLE, &client).await.unwrap_err();
        assert!(matches!(failed, BackendError::Timeout { .. }), "{failed}");
        nothing_is_left(&backend).await;
    }

    #[tokio::test]
    async fn a_caller_who_gives_up_half_way_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let heard = dir.path().join("heard");
        let backend = scripted::backend(&silent(&heard), LONG);
        let client = Ann::arrives();
        let affinity = client.affinity();
        let half_way = async {
            while !heard.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = backend.connection_for(&affinity, Share::SOLE, &client) => panic!("nobody answered: {done:?}"),
            reached = tokio::time::timeout(LONG, half_way) => reached.unwrap(),
        }
        nothing_is_left(&backend).await;
    }

    #[tokio::test]
    async fn who_waited_for_a_connection_that_failed_gets_one_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("first");
        // Only the first of them is silent.
        let script = format!(
            "{GREET}; read -r line; if mkdir '{}' 2> /dev/null; then while read -r line; do :; done; fi; \
             echo '{{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{{}}}}'; while read -r line; do :; done",
            first.display()
        );
        let backend = scripted::backend(&script, Duration::from_secs(2));
        let client = Ann::arrives();
        let affinity = Affinity::Session("s".into());
        let (one, other) = tokio::join!(
            backend.connection_for(&affinity, Share::SOLE, &client),
            backend.connection_for(&affinity, Share::SOLE, &client)
        );
        assert!(matches!(one, Err(BackendError::Timeout { .. })), "{one:?}");
        let (peer, held) = other.unwrap();
        let session: Arc<str> = "s".into();
        assert!(Arc::ptr_eq(&backend.dedicated.of(&session).unwrap(), &peer), "found again by its session");
        drop(held);
        backend.dedicated.end(&affinity);
        nothing_is_left(&backend).await;
    }
}
