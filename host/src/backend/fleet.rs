//! All servers behind one endpoint, for as long as the gateway lives: which of them run, and who is told what they say.
//!
//! Generations come and go, and a server whose settings stay the same lives on: same process, same connection, same
//! counters. What a generation makes of the servers, their lists and names, is in its [`Registry`]. A supervisor tells the
//! fleet what became of its server, and the fleet tells every registry that has the server among its own. A server that is
//! in no registry any more is stopped in order.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::negotiate::{ServerInfo, Stage};
use super::open::{Common, Opener};
use super::peer::Peer;
use super::registry::{ListChanged, Registry};
use super::{Backend, Spontaneous, Status, refresh, supervisor};
use crate::config;
use crate::mcp::Era;
use crate::mcp::catalog::{List, Offers};
use crate::mcp::client::Client;
use crate::redact::Words;

/// All servers of one endpoint.
pub struct Fleet {
    /// What the client declared; none until it said hello.
    pub(super) client: watch::Sender<Option<Arc<str>>>,
    /// The one client of a gateway on stdio: what servers say over the shared connections is for it.
    sole: OnceLock<Arc<dyn Client>>,
    changes: mpsc::Sender<ListChanged>,
    stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Those that are told what becomes of servers, oldest first.
    registries: Mutex<Vec<Weak<Registry>>>,
    /// Every server that has not ended.
    running: Mutex<Vec<Arc<Backend>>>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("running", &self.running.lock().len()).finish_non_exhaustive()
    }
}

/// The servers of a generation that is being prepared: those that stay, and those that were started for it. The latter are
/// stopped if nothing comes of it.
#[derive(Debug)]
pub struct Lineup {
    pub(super) fleet: Arc<Fleet>,
    pub(super) backends: Vec<Arc<Backend>>,
    pub(super) common: Common,
    pub(super) opener: Arc<Opener>,
    started: Vec<Arc<Backend>>,
}

impl Fleet {
    pub(super) fn new(changes: mpsc::Sender<ListChanged>) -> Arc<Self> {
        Arc::new(Self {
            client: watch::Sender::new(None),
            sole: OnceLock::new(),
            changes,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            registries: Mutex::default(),
            running: Mutex::default(),
        })
    }

    /// A server that is not running yet.
    pub(super) fn enlist(self: &Arc<Self>, settings: &config::Backend, opener: &Arc<Opener>) -> Arc<Backend> {
        let backend = Arc::new(Backend::new(settings.clone(), opener.clone(), self.stop.child_token()));
        self.running.lock().push(backend.clone());
        backend
    }

    /// Starts it; returns at once.
    pub(super) fn launch(self: &Arc<Self>, backend: &Arc<Backend>) {
        let task = supervisor::run(backend.clone(), self.clone(), self.client.subscribe());
        self.tasks.spawn(task);
    }

    /// From now on this registry is told what becomes of its servers.
    pub(super) fn attach(&self, registry: &Arc<Registry>) {
        for backend in registry.backends() {
            backend.adopted.store(true, Ordering::Release);
        }
        let mut registries = self.registries.lock();
        registries.retain(|registry| registry.strong_count() > 0);
        registries.push(Arc::downgrade(registry));
    }

    /// Those that have a server among their own, oldest first.
    fn of(&self, backend: &Backend) -> Vec<Arc<Registry>> {
        let alive: Vec<_> = self.registries.lock().iter().filter_map(Weak::upgrade).collect();
        alive.into_iter().filter(|registry| registry.place(backend).is_some()).collect()
    }

    /// Whether a server is in the newest registry, so that it is the one that its name means.
    fn is_current(&self, backend: &Backend) -> bool {
        let newest = self.registries.lock().iter().rev().find_map(Weak::upgrade);
        newest.is_some_and(|registry| registry.place(backend).is_some())
    }

    /// A server came, went or changed its lists.
    pub(super) fn changed(&self, backend: &Backend) {
        backend.note_failure();
        if self.is_current(backend) {
            let up = backend.status() == Status::Ready;
            metrics::gauge!("sentinel_backend_healthy", "backend" => backend.name.to_string())
                .set(f64::from(u8::from(up)));
        }
        self.of(backend).iter().for_each(|registry| registry.changed());
    }

    pub(super) fn introduced_itself(&self, backend: &Arc<Backend>, info: ServerInfo) {
        backend.said.lock().info = Some(info);
        backend.refreshing.reset();
        self.remember(backend);
    }

    /// Takes what a server offers, through the rewriters of every generation. Reading it takes as long as the server makes
    /// it, so it is not done where calls are served.
    pub(super) async fn offer(&self, backend: &Arc<Backend>, offers: Offers) {
        // One list after the other, so that an older one never takes the place of a newer one.
        let _turn = backend.reading.lock().await;
        if backend.confirmed(&offers) {
            return;
        }
        let offers = Arc::new(offers);
        for registry in self.of(backend) {
            let Some(shaped) = registry.read(backend, &offers).await else { return };
            registry.put(backend, Arc::new(shaped));
        }
        // Only now is it listed, so that an earlier merge shows nothing of a list that is half there.
        backend.has_said(offers, false);
    }

    /// A message a server sent over its shared connection of its own accord.
    pub(super) fn spontaneous(
        self: &Arc<Self>,
        backend: &Arc<Backend>,
        peer: &Arc<Peer>,
        message: Spontaneous,
        client: Option<Arc<dyn Client>>,
    ) {
        if let Spontaneous::Notification { method, .. } = &message {
            let lists = refresh::lists_of(method);
            if !lists.is_empty() {
                // The cache first, then the clients: each hears of it whose list has changed.
                refresh::ask_again(backend, self, lists);
                return;
            }
        }
        // Among several clients nobody can know whose request caused it. A stateless server speaks about requests
        // under way only, so if there is one, it is that.
        let only = || (peer.era() == Era::Stateless).then(|| peer.only()).flatten();
        let client = client.or_else(only).or_else(|| self.sole.get().cloned());
        super::pass_on(&backend.name, peer, client, message);
    }

    /// Where clients hear that lists have changed; for code that has another reason to say so.
    #[must_use]
    pub fn changes(&self) -> mpsc::Sender<ListChanged> {
        self.changes.clone()
    }

    /// Says that lists have changed.
    pub(super) fn announce(&self, lists: &[List]) {
        for list in lists {
            // Full means that a change is being announced already.
            let _ = self.changes.try_send(ListChanged(*list));
        }
    }

    /// There is one client only; the shared connections are its own.
    pub fn sole_client(&self, client: Arc<dyn Client>) {
        // A second one would be a second stdin.
        let _ = self.sole.set(client);
    }

    /// A session is over.
    pub fn forget(&self, session: &Arc<str>) {
        let running = self.running.lock().clone();
        running.iter().for_each(|backend| backend.forget(session));
    }

    /// Tells the servers what the client can do. One that was told otherwise is connected anew.
    pub fn client_declares(&self, capabilities: &str) {
        self.client.send_if_modified(|known| {
            let changed = known.as_deref() != Some(capabilities);
            if changed {
                *known = Some(capabilities.into());
            }
            changed
        });
    }

    /// The client is there, and declares nothing for the whole connection. What one has declared stays.
    pub fn client_declares_nothing(&self) {
        if self.client.borrow().is_none() {
            self.client.send_if_modified(|known| {
                let first = known.is_none();
                if first {
                    *known = Some("{}".into());
                }
                first
            });
        }
    }

    /// Stops the servers that were in a generation and are in none any more, and waits for their processes to be gone. Says
    /// which they were.
    pub async fn retire(&self) -> Vec<Arc<str>> {
        let alive: Vec<_> = self.registries.lock().iter().filter_map(Weak::upgrade).collect();
        let needed = |backend: &Backend| alive.iter().any(|registry| registry.place(backend).is_some());
        let running = self.running.lock().clone();
        let gone: Vec<_> = running
            .into_iter()
            .filter(|backend| backend.adopted.load(Ordering::Acquire) && !needed(backend))
            .collect();
        let current = alive.last().cloned();
        drop(alive);
        let names = gone.iter().map(|backend| backend.name.clone()).collect();
        for backend in &gone {
            let namesake = current.as_ref().is_some_and(|registry| registry.find(&backend.name).is_some());
            if !namesake {
                metrics::gauge!("sentinel_backend_healthy", "backend" => backend.name.to_string()).set(0.0);
            }
        }
        self.end(&gone).await;
        names
    }

    /// Stops these servers in order.
    async fn end(&self, gone: &[Arc<Backend>]) {
        gone.iter().for_each(|backend| backend.stop.cancel());
        let ends = gone.iter().map(|backend| async {
            backend.dedicated.stop().await;
            let mut status = backend.status.subscribe();
            // The sender is a part of the server, so it is there.
            let _ = status.wait_for(|status| *status == Status::Stopped).await;
        });
        futures_util::future::join_all(ends).await;
        self.running.lock().retain(|backend| gone.iter().all(|other| !Arc::ptr_eq(backend, other)));
    }

    /// Stops all servers and waits for their processes to be gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let running = self.running.lock().clone();
        futures_util::future::join_all(running.iter().map(|backend| backend.dedicated.stop())).await;
    }

    pub(super) async fn stopping(&self) {
        self.stop.cancelled().await;
    }
}

impl Lineup {
    /// What is wanted next: of the servers of `registry` those whose settings are the same, and new ones for the rest, which
    /// are started at once.
    #[must_use]
    pub fn new(registry: &Registry, settings: &[config::Backend], common: Common) -> Self {
        let fleet = registry.fleet().clone();
        let same = registry.opener().opens_as(&common);
        let opener = if same { registry.opener().clone() } else { Arc::new(Opener::new(common.clone())) };
        let mut started = Vec::new();
        let wanted = |settings: &config::Backend| {
            let stays = registry.find(&settings.name).filter(|backend| same && backend.settings == *settings);
            stays.cloned().unwrap_or_else(|| {
                let backend = fleet.enlist(settings, &opener);
                started.push(backend.clone());
                backend
            })
        };
        let backends = settings.iter().map(wanted).collect();
        started.iter().for_each(|backend| fleet.launch(backend));
        Self { fleet, backends, common, opener, started }
    }

    /// The names of those that were started for it.
    #[must_use]
    pub fn started(&self) -> Vec<Arc<str>> {
        self.started.iter().map(|backend| backend.name.clone()).collect()
    }

    /// How many serve on as they were.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.backends.len() - self.started.len()
    }

    /// Waits until those that were started are up and have said what they offer. Says of every one that is not why not. One
    /// that waits for the client to introduce itself is not waited for, and neither is one that the file lets stay away.
    pub async fn up(&self, patience: Duration) -> Vec<(Arc<str>, Words)> {
        /// A server that is silent is given up by its supervisor first, which knows what was waited for.
        const SLACK: Duration = Duration::from_secs(2);
        let waits =
            self.started.iter().filter(|backend| backend.settings.absent.is_none()).map(|backend| async {
                let patience = patience.min(backend.settings.start_timeout + SLACK);
                let tried = tokio::time::timeout(patience, backend.came_up()).await;
                match tried {
                    Ok(Ok(())) => None,
                    Ok(Err(reason)) => Some((backend.name.clone(), reason)),
                    Err(_) => {
                        let text =
                            format!("it is still {} after {} s", backend.starting(), patience.as_secs());
                        Some((backend.name.clone(), backend.words(&text)))
                    }
                }
            });
        futures_util::future::join_all(waits).await.into_iter().flatten().collect()
    }

    /// Stops what was started for it, in order.
    pub async fn abandon(mut self) {
        let started = std::mem::take(&mut self.started);
        self.fleet.end(&started).await;
    }

    /// It became a generation.
    pub(super) fn settled(mut self) -> Vec<Arc<Backend>> {
        self.started.clear();
        std::mem::take(&mut self.backends)
    }
}

impl Drop for Lineup {
    fn drop(&mut self) {
        // If this was abandoned half way, the servers still end, but nothing waits for their end.
        self.started.iter().for_each(|backend| backend.stop.cancel());
    }
}

impl Backend {
    /// Waits until it is up, or there is a reason why not.
    async fn came_up(&self) -> Result<(), Words> {
        /// How often it is looked whether it waits for a client.
        const LOOK: Duration = Duration::from_millis(50);
        let mut status = self.status.subscribe();
        loop {
            match &*status.borrow_and_update() {
                Status::Ready => return Ok(()),
                Status::Down { reason, .. } => return Err(reason.clone()),
                Status::Stopped => return Err("it was stopped".into()),
                Status::Starting if self.progress.stage() == Stage::Client => return Ok(()),
                Status::Starting => {}
            }
            let _ = tokio::time::timeout(LOOK, status.changed()).await;
        }
    }
}
