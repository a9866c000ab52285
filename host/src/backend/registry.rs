//! All backends together: started in parallel, merged into one catalog, stopped in order.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::listing::Greeting;
use super::peer::Peer;
use super::supervisor;
use super::wire::WireError;
use super::{Backend, Spontaneous, Status, http};
use crate::config;
use crate::mcp::catalog::{Catalog, List, Offer, Offers, Owners, Part};

/// How long after the start the first lists wait for backends that are still starting.
const SETTLE: Duration = Duration::from_millis(1500);
/// Messages of backends waiting for the door.
pub const EVENT_QUEUE: usize = 1024;

/// Reshapes one list of one backend; the rewriters, seen from here.
pub type Reshape = Arc<dyn Fn(&Arc<str>, List, Vec<Offer>) -> Vec<Offer> + Send + Sync>;

/// Something a client should hear of.
#[derive(Debug)]
pub enum Event {
    /// A merged list is not what it was.
    ListChanged(List),
    /// A backend's notification, as it came.
    Notification {
        backend: Arc<str>,
        peer: Arc<Peer>,
        method: String,
        message: Bytes,
    },
    Progress {
        session: Arc<str>,
        message: Bytes,
    },
    /// A backend asks the client something; answer through `peer`.
    Request {
        backend: Arc<str>,
        peer: Arc<Peer>,
        id: Box<RawValue>,
        method: String,
        params: Option<Box<RawValue>>,
    },
}

/// Bounds and secrets that hold for all backends.
#[derive(Clone, Debug)]
pub struct Common {
    /// Longest message of a backend, in bytes.
    pub max_message: usize,
    /// Values that must not appear in a backend's log lines.
    pub secrets: Vec<String>,
}

/// All backends.
pub struct Registry {
    backends: Vec<Arc<Backend>>,
    by_name: HashMap<Arc<str>, Arc<Backend>>,
    common: Common,
    reshape: Reshape,
    catalog: ArcSwap<Catalog>,
    merging: Mutex<Merging>,
    greetings: Mutex<HashMap<Arc<str>, Greeting>>,
    client: watch::Sender<Option<Arc<str>>>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    tasks: TaskTracker,
    started: tokio::time::Instant,
    http: OnceLock<reqwest::Client>,
}

#[derive(Default)]
struct Merging {
    owners: Owners,
    /// What the backends said before rewriting, to rewrite again after a change.
    originals: HashMap<Arc<str>, Offers>,
    /// Until all have spoken (or time is up) names are not given away.
    settled: bool,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("backends", &self.backends.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// Starts all backends; returns at once.
    #[must_use]
    pub fn start(
        settings: &[config::Backend],
        common: Common,
        reshape: Reshape,
    ) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let backends: Vec<_> =
            settings.iter().map(|settings| Arc::new(Backend::new(settings.clone()))).collect();
        let registry = Arc::new(Self {
            by_name: backends.iter().map(|backend| (backend.name.clone(), backend.clone())).collect(),
            common,
            reshape,
            catalog: ArcSwap::default(),
            merging: Mutex::default(),
            greetings: Mutex::default(),
            client: watch::Sender::new(None),
            events,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started: tokio::time::Instant::now(),
            http: OnceLock::new(),
            backends,
        });
        for backend in &registry.backends {
            let task = supervisor::run(backend.clone(), registry.clone(), registry.client.subscribe());
            registry.tasks.spawn(task);
        }
        registry.tasks.close();
        let late = registry.clone();
        tokio::spawn(async move {
            late.settled().await;
            late.merge();
        });
        (registry, receiver)
    }

    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Backend>> {
        self.by_name.get(name)
    }

    /// The merged lists as they are now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Tells the backends what the client can do. One that was told otherwise is connected anew.
    pub fn client_declares(&self, capabilities: &str) {
        self.client.send_if_modified(|known| {
            let changed = known.as_deref() != Some(capabilities);
            if changed {
                *known = Some(capabilities.into());
            }
            changed
        });
    }

    /// The servers' own instructions to the model, with the backend each belongs to, in the file's order.
    #[must_use]
    pub fn instructions(&self) -> Vec<(Arc<str>, String)> {
        let greetings = self.greetings.lock();
        let of = |backend: &Arc<Backend>| {
            Some((backend.name.clone(), greetings.get(&backend.name)?.instructions.clone()?))
        };
        self.backends.iter().filter_map(of).collect()
    }

    /// The connected backends that declared a capability.
    #[must_use]
    pub fn capable(&self, capability: &str) -> Vec<Arc<Backend>> {
        let greetings = self.greetings.lock();
        let capable =
            |backend: &&Arc<Backend>| greetings.get(&backend.name).is_some_and(|g| g.has(capability));
        self.backends.iter().filter(capable).cloned().collect()
    }

    /// Waits until every backend has come up or failed once, but never past a moment after the start: a client's
    /// first list should be whole, and a slow backend must delay nobody.
    pub async fn settled(&self) {
        let all = async {
            for backend in &self.backends {
                let mut status = backend.status.subscribe();
                if status.wait_for(|status| *status != Status::Starting).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout_at(self.started + SETTLE, all).await;
        let mut merging = self.merging.lock();
        if !merging.settled {
            merging.settled = true;
            drop(merging);
            self.merge();
        }
    }

    /// Waits until every backend is up (then: how many tools it has) or failed once (then: why).
    pub async fn probe(&self) -> Vec<(String, Result<usize, String>)> {
        let mut report = Vec::new();
        for backend in &self.backends {
            let mut status = backend.status.subscribe();
            let settled =
                status.wait_for(|status| *status != Status::Starting).await.map(|status| status.clone());
            let result = match settled {
                Ok(Status::Ready) => Ok(backend.offers.load().tools.len()),
                Ok(Status::Down { reason }) => Err(reason),
                Ok(Status::Starting | Status::Stopped) | Err(_) => Err("it was stopped".to_owned()),
            };
            report.push((backend.name.to_string(), result));
        }
        report
    }

    /// Stops all backends and waits for their processes to be gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    pub(super) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    pub(super) fn max_message(&self) -> usize {
        self.common.max_message
    }

    pub(super) fn secrets(&self) -> &[String] {
        &self.common.secrets
    }

    pub(super) fn http(&self) -> Result<reqwest::Client, WireError> {
        if let Some(client) = self.http.get() {
            return Ok(client.clone());
        }
        let client = http::client()?;
        Ok(self.http.get_or_init(|| client).clone())
    }

    pub(super) fn greeted(&self, backend: &Backend, greeting: Greeting) {
        self.greetings.lock().insert(backend.name.clone(), greeting);
    }

    pub(super) fn original(&self, backend: &Backend) -> Offers {
        self.merging.lock().originals.get(&backend.name).cloned().unwrap_or_default()
    }

    /// Takes what a backend offers, through the rewriters.
    pub(super) fn offer(&self, backend: &Backend, offers: Offers) {
        let mut shaped = Offers::default();
        for list in List::ALL {
            shaped.set(list, (self.reshape)(&backend.name, list, offers.get(list).to_vec()));
        }
        self.merging.lock().originals.insert(backend.name.clone(), offers);
        backend.offers.store(Arc::new(shaped));
    }

    /// A backend came, went or changed its lists.
    pub(super) fn changed(&self, backend: &Backend) {
        let up = backend.status() == Status::Ready;
        metrics::gauge!("sentinel_backend_healthy", "backend" => backend.name.to_string())
            .set(f64::from(u8::from(up)));
        let mut merging = self.merging.lock();
        if self.started.elapsed() >= SETTLE || self.backends.iter().all(|b| b.status() != Status::Starting) {
            merging.settled = true;
        }
        if merging.settled {
            drop(merging);
            self.merge();
        }
    }

    /// Builds the catalog anew and says which lists changed.
    fn merge(&self) {
        let mut merging = self.merging.lock();
        let offers: Vec<_> = self.backends.iter().map(|backend| backend.offers.load_full()).collect();
        let parts: Vec<_> = self
            .backends
            .iter()
            .zip(&offers)
            .map(|(backend, offers)| Part {
                backend: &backend.name,
                always_prefix: backend.settings.always_prefix,
                offers,
            })
            .collect();
        let next = Catalog::merge(&parts, &mut merging.owners);
        let before = self.catalog.load_full();
        let changed: Vec<List> = List::ALL
            .into_iter()
            .filter(|list| {
                let (before, next) = (before.list(*list), next.list(*list));
                before.len() != next.len()
                    || before.iter().zip(next).any(|(a, b)| a.item.get() != b.item.get())
            })
            .collect();
        self.catalog.store(Arc::new(next));
        drop(merging);
        for list in changed {
            // Full means that a change is being announced already.
            let _ = self.events.try_send(Event::ListChanged(list));
        }
    }

    /// A message a backend sent of its own accord.
    pub(super) async fn spontaneous(
        self: &Arc<Self>,
        backend: &Arc<Backend>,
        peer: &Arc<Peer>,
        message: Spontaneous,
    ) {
        let event = match message {
            Spontaneous::Progress { session, message } => {
                // Progress may be lost, a result may not: it never waits.
                let _ = self.events.try_send(Event::Progress { session, message });
                return;
            }
            Spontaneous::Notification { method, message } => {
                let lists: &[List] = match method.as_str() {
                    "notifications/tools/list_changed" => &[List::Tools],
                    "notifications/resources/list_changed" => &[List::Resources, List::Templates],
                    "notifications/prompts/list_changed" => &[List::Prompts],
                    _ => &[],
                };
                if !lists.is_empty() {
                    // The cache first, then the client: `changed` announces it. On its own, for reading the list
                    // needs the very pump that brought this message.
                    let (registry, backend) = (self.clone(), backend.clone());
                    tokio::spawn(async move { supervisor::refresh(&backend, &registry, lists).await });
                    return;
                }
                Event::Notification { backend: backend.name.clone(), peer: peer.clone(), method, message }
            }
            Spontaneous::Request { id, method, params } => {
                Event::Request { backend: backend.name.clone(), peer: peer.clone(), id, method, params }
            }
        };
        tokio::select! {
            _ = self.events.send(event) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
