//! All servers behind one endpoint, for as long as the gateway lives: which of them run, and who is told what they say.
//!
//! Generations come and go, and a server whose settings stay the same lives on: same process, same connection, same
//! counters. What a generation makes of the servers, their lists and names, is in its registry ([`Lists`]). A supervisor tells the
//! fleet what became of its server, and the fleet tells every registry that has the server among its own. A server that is
//! in no registry any more is stopped in order.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::open::Opener;
use super::server_info::ServerInfo;
use super::{Server, Status};
use crate::config;
use crate::mcp::catalog::{List, Offers};
use crate::mcp::client::Client;

/// The lists of one generation, as the fleet sees them: they are told what becomes of the servers.
pub(super) trait Lists: Send + Sync {
    /// Whether this very server is one of the generation's.
    fn has(&self, server: &Server) -> bool;
    /// Whether the generation has a server of this name.
    fn has_named(&self, name: &str) -> bool;
    /// A server came, went or changed its lists.
    fn changed(&self);
    /// What a server offers, as the rewriters of the generation leave it.
    fn read<'a>(&'a self, server: &'a Arc<Server>, offers: &'a Arc<Offers>) -> BoxFuture<'a, Option<Offers>>;
    /// A server offers this from now on.
    fn put(&self, server: &Server, shaped: Arc<Offers>);
}

/// A merged list is not what it was, which clients should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListChanged(pub List);

impl ListChanged {
    /// The notification that says so.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self.0 {
            List::Tools => "notifications/tools/list_changed",
            List::Resources | List::Templates => "notifications/resources/list_changed",
            List::Prompts => "notifications/prompts/list_changed",
        }
    }
}

/// All servers of one endpoint.
pub struct ServerFleet {
    /// What the client declared; none until it said hello.
    pub(super) client: watch::Sender<Option<Arc<str>>>,
    /// The one client of a gateway on stdio: what servers say over the shared connections is for it.
    pub(super) sole: OnceLock<Arc<dyn Client>>,
    changes: mpsc::Sender<ListChanged>,
    stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Those that are told what becomes of servers, oldest first.
    registries: Mutex<Vec<Weak<dyn Lists>>>,
    /// Every server that has not ended.
    running: Mutex<Vec<Arc<Server>>>,
}

impl std::fmt::Debug for ServerFleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("running", &self.running.lock().len()).finish_non_exhaustive()
    }
}

impl ServerFleet {
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
    pub(super) fn enlist(
        self: &Arc<Self>,
        settings: &Arc<config::Backend>,
        opener: &Arc<Opener>,
    ) -> Arc<Server> {
        let backend = Arc::new(Server::new(settings.clone(), opener.clone(), self.stop.child_token()));
        self.running.lock().push(backend.clone());
        backend
    }

    /// From now on this registry is told what becomes of its servers.
    pub(super) fn attach(&self, registry: Weak<dyn Lists>, servers: &[Arc<Server>]) {
        for server in servers {
            server.adopted.store(true, Ordering::Release);
        }
        let mut registries = self.registries.lock();
        registries.retain(|registry| registry.strong_count() > 0);
        registries.push(registry);
    }

    /// Those that have a server among their own, oldest first.
    fn of(&self, backend: &Server) -> Vec<Arc<dyn Lists>> {
        let alive: Vec<_> = self.registries.lock().iter().filter_map(Weak::upgrade).collect();
        alive.into_iter().filter(|registry| registry.has(backend)).collect()
    }

    /// Whether a server is in the newest registry, so that it is the one that its name means.
    fn is_current(&self, backend: &Server) -> bool {
        let newest = self.registries.lock().iter().rev().find_map(Weak::upgrade);
        newest.is_some_and(|registry| registry.has(backend))
    }

    /// A server came, went or changed its lists.
    pub(super) fn changed(&self, backend: &Server) {
        backend.note_failure();
        if self.is_current(backend) {
            let up = backend.status() == Status::Ready;
            metrics::gauge!("sentinel_backend_healthy", "backend" => backend.name.to_string())
                .set(f64::from(u8::from(up)));
        }
        self.of(backend).iter().for_each(|registry| registry.changed());
    }

    pub(super) fn introduced_itself(&self, backend: &Arc<Server>, info: ServerInfo) {
        backend.said.lock().info = Some(info);
        backend.refreshing.reset();
        self.remember(backend);
    }

    /// Takes what a server offers, through the rewriters of every generation. Reading it takes as long as the server makes
    /// it, so it is not done where calls are served.
    pub(super) async fn offer(&self, backend: &Arc<Server>, offers: Offers) {
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

    /// Every server that has not ended.
    pub(super) fn running(&self) -> Vec<Arc<Server>> {
        self.running.lock().clone()
    }

    /// There is one client only; the shared connections are its own.
    pub(crate) fn sole_client(&self, client: Arc<dyn Client>) {
        // A second one would be a second stdin.
        let _ = self.sole.set(client);
    }

    /// A session is over.
    pub fn forget(&self, session: &Arc<str>) {
        let running = self.running.lock().clone();
        running.iter().for_each(|backend| backend.forget(session));
    }

    /// Tells the servers what the client can do. One that was told otherwise is connected anew.
    pub(crate) fn client_declares(&self, capabilities: &str) {
        self.client.send_if_modified(|known| {
            let changed = known.as_deref() != Some(capabilities);
            if changed {
                *known = Some(capabilities.into());
            }
            changed
        });
    }

    /// The client is there, and declares nothing for the whole connection. What one has declared stays.
    pub(crate) fn client_declares_nothing(&self) {
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
    pub(crate) async fn retire(&self) -> Vec<Arc<str>> {
        let alive: Vec<_> = self.registries.lock().iter().filter_map(Weak::upgrade).collect();
        let needed = |backend: &Server| alive.iter().any(|registry| registry.has(backend));
        let running = self.running.lock().clone();
        let gone: Vec<_> = running
            .into_iter()
            .filter(|backend| backend.adopted.load(Ordering::Acquire) && !needed(backend))
            .collect();
        let current = alive.last().cloned();
        drop(alive);
        let names = gone.iter().map(|backend| backend.name.clone()).collect();
        for backend in &gone {
            let namesake = current.as_ref().is_some_and(|registry| registry.has_named(&backend.name));
            if !namesake {
                metrics::gauge!("sentinel_backend_healthy", "backend" => backend.name.to_string()).set(0.0);
            }
        }
        self.end(&gone).await;
        names
    }

    /// Stops these servers in order.
    pub(super) async fn end(&self, gone: &[Arc<Server>]) {
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
