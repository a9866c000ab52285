//! All backends together: started in parallel, merged into one catalog, stopped in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arguments;
use super::negotiate::Greeting;
use super::open::{Common, Opener};
use super::peer::Peer;
use super::supervisor;
use super::{Backend, Spontaneous, Status};
use crate::config;
use crate::mcp::catalog::{Catalog, List, Offer, Offers, Owners, Part, Standing};
use crate::mcp::client::Client;
use crate::mcp::{Era, STATELESS, header, splice};
use crate::redact::Words;

/// How long after the start the first lists wait for backends that are still starting.
const SETTLE: Duration = Duration::from_millis(1500);
/// How long after the start a backend that has not been listed yet keeps plain names from those after it in the file, unless
/// it fails sooner. What is decided then is only what clients see: rules wait for as long as it takes.
const PATIENCE: Duration = Duration::from_secs(3);
/// Messages of backends waiting for the door.
pub const EVENT_QUEUE: usize = 1024;

/// Reshapes one list of one backend; the rewriters, seen from here.
pub type Reshape = Arc<dyn Fn(&Arc<str>, List, Vec<Offer>) -> Vec<Offer> + Send + Sync>;

/// Something a client should hear of.
#[derive(Debug)]
pub enum Event {
    /// A merged list is not what it was.
    ListChanged(List),
}

/// All backends.
pub struct Registry {
    backends: Vec<Arc<Backend>>,
    by_name: HashMap<Arc<str>, Arc<Backend>>,
    reshape: Reshape,
    safe_names: bool,
    catalog: ArcSwap<Catalog>,
    merging: Mutex<Merging>,
    /// Counts merges, for whoever waits for a name.
    merges: watch::Sender<u64>,
    greetings: Mutex<HashMap<Arc<str>, Greeting>>,
    client: watch::Sender<Option<Arc<str>>>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    tasks: TaskTracker,
    started: tokio::time::Instant,
    /// The one client of a gateway on stdio: what servers say over the shared connections is for it.
    sole: OnceLock<Arc<dyn Client>>,
}

#[derive(Default)]
struct Merging {
    owners: Owners,
    /// What the backends said before rewriting, to rewrite again after a change.
    originals: HashMap<Arc<str>, Offers>,
    /// Until all have spoken (or time is up) nothing is shown.
    settled: bool,
    /// Backends that failed before they were listed.
    failed: HashSet<Arc<str>>,
    /// Those that have not been listed yet are not waited for any more.
    impatient: bool,
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
        let safe_names = common.safe_names;
        let opener = Arc::new(Opener::new(common));
        let backends: Vec<_> =
            settings.iter().map(|s| Arc::new(Backend::new(s.clone(), opener.clone()))).collect();
        let registry = Arc::new(Self {
            by_name: backends.iter().map(|backend| (backend.name.clone(), backend.clone())).collect(),
            reshape,
            safe_names,
            catalog: ArcSwap::default(),
            merging: Mutex::default(),
            merges: watch::Sender::new(0),
            greetings: Mutex::default(),
            client: watch::Sender::new(None),
            events,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started: tokio::time::Instant::now(),
            sole: OnceLock::new(),
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
            tokio::time::sleep_until(late.started + PATIENCE).await;
            let mut merging = late.merging.lock();
            merging.impatient = true;
            if late.backends.iter().any(|backend| !merging.originals.contains_key(&backend.name)) {
                late.merge(&mut merging);
            }
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

    /// Counts the merges of the lists, for whoever waits for something to be offered.
    #[must_use]
    pub fn merges(&self) -> watch::Receiver<u64> {
        self.merges.subscribe()
    }

    /// The backends that have not said yet what they offer, in the file's order.
    #[must_use]
    pub fn unlisted(&self) -> Vec<Arc<Backend>> {
        let merging = self.merging.lock();
        let unlisted = |backend: &&Arc<Backend>| !merging.originals.contains_key(&backend.name);
        self.backends.iter().filter(unlisted).cloned().collect()
    }

    /// What the servers themselves list as tools, before rewriting: backend and own name.
    #[must_use]
    pub fn own_tools(&self) -> Vec<(Arc<str>, String)> {
        let merging = self.merging.lock();
        let of = |(backend, offers): (&Arc<str>, &Offers)| -> Vec<(Arc<str>, String)> {
            offers.tools.iter().map(|offer| (backend.clone(), offer.upstream.clone())).collect()
        };
        merging.originals.iter().flat_map(of).collect()
    }

    /// Those of them that may come to offer something under this name.
    #[must_use]
    pub fn may_offer(&self, name: &str) -> Vec<Arc<Backend>> {
        let begins =
            |backend: &Backend| name.strip_prefix(&*backend.name).is_some_and(|rest| rest.starts_with('_'));
        let somebodys = self.backends.iter().any(|backend| begins(backend));
        let mut found = self.unlisted();
        found.retain(|backend| if somebodys { begins(backend) } else { !backend.settings.always_prefix });
        found
    }

    /// Has every backend that is down tried at once: a person has changed something, perhaps what kept it down.
    pub fn try_again(&self) {
        self.backends.iter().for_each(|backend| backend.try_again(std::time::Instant::now()));
    }

    /// Whether one of these may have been listed in a moment.
    #[must_use]
    pub fn are_coming(&self, backends: &[Arc<Backend>]) -> bool {
        let soon = std::time::Instant::now() + super::PAUSE_PATIENCE;
        backends.iter().any(|backend| backend.is_coming(soon))
    }

    /// Whether the names of backends that have not been listed are still kept for them.
    #[must_use]
    pub fn is_patient(&self) -> bool {
        let merging = self.merging.lock();
        let awaited = |backend: &Arc<Backend>| {
            !merging.originals.contains_key(&backend.name) && !merging.failed.contains(&backend.name)
        };
        !merging.impatient && self.backends.iter().any(awaited)
    }

    /// There is one client only; the shared connections are its own.
    pub fn sole_client(&self, client: Arc<dyn Client>) {
        // A second one would be a second stdin.
        let _ = self.sole.set(client);
    }

    /// A session is over.
    pub fn forget(&self, session: &Arc<str>) {
        self.backends.iter().for_each(|backend| backend.forget(session));
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

    /// The servers' own instructions to the model, with the backend each belongs to, in the file's order.
    #[must_use]
    pub fn instructions(&self) -> Vec<(Arc<str>, String)> {
        let greetings = self.greetings.lock();
        let of = |backend: &Arc<Backend>| {
            Some((backend.name.clone(), greetings.get(&backend.name)?.instructions.clone()?))
        };
        self.backends.iter().filter_map(of).collect()
    }

    /// The extensions of the stateless backends, in the file's order.
    #[must_use]
    pub fn extensions(&self) -> Vec<(String, Box<RawValue>)> {
        let greetings = self.greetings.lock();
        let of = |backend: &Arc<Backend>| {
            let greeting = greetings.get(&backend.name).filter(|greeting| greeting.version == STATELESS)?;
            let extensions = splice::get(greeting.capabilities.get(), "/extensions")?;
            serde_json::from_str::<BTreeMap<_, _>>(extensions).ok()
        };
        self.backends.iter().filter_map(of).flatten().collect()
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
            // Under the lock: whoever finds it settled finds the lists, too.
            self.merge(&mut merging);
        }
    }

    /// Waits until every backend is up (then: how many tools it has) or failed once (then: why). The names are those that
    /// the gateway gives if all that are up now had been up in time.
    pub async fn probe(&self) -> (Vec<(String, Result<usize, Words>)>, Catalog) {
        let mut report = Vec::new();
        for backend in &self.backends {
            let mut status = backend.status.subscribe();
            let settled =
                status.wait_for(|status| *status != Status::Starting).await.map(|status| status.clone());
            let result = match settled {
                Ok(Status::Ready) => Ok(backend.offers.load().tools.len()),
                Ok(Status::Down { reason, .. }) => Err(reason),
                Ok(Status::Starting | Status::Stopped) | Err(_) => Err("it was stopped".into()),
            };
            report.push((backend.name.to_string(), result));
        }
        let mut merging = self.merging.lock();
        merging.impatient = true;
        (report, self.merged(&merging, &mut Owners::default()))
    }

    /// Stops all backends and waits for their processes to be gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        futures_util::future::join_all(self.backends.iter().map(|backend| backend.links.stop())).await;
    }

    pub(super) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    pub(super) fn greeted(&self, backend: &Backend, greeting: Greeting) {
        self.greetings.lock().insert(backend.name.clone(), greeting);
    }

    pub(super) fn original(&self, backend: &Backend) -> Offers {
        self.merging.lock().originals.get(&backend.name).cloned().unwrap_or_default()
    }

    /// Takes what a backend offers, through the rewriters. Reading it takes as long as its server makes it, so it is not
    /// done where calls are served.
    pub(super) async fn offer(&self, backend: &Arc<Backend>, offers: Offers) {
        // One list after the other, so that an older one never takes the place of a newer one.
        let _turn = backend.reading.lock().await;
        let (reshape, of) = (self.reshape.clone(), backend.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut shaped = Offers::default();
            for list in List::ALL {
                shaped.set(list, reshape(&of.name, list, offers.get(list).to_vec()));
            }
            arguments::read(&of, &mut shaped);
            let mirrored = |offer: &Offer| {
                let schema = splice::get(offer.item.get(), "/inputSchema")?;
                let found = header::mirrored(&crate::mcp::message::raw(schema.to_owned())).ok()?;
                (!found.is_empty()).then(|| (offer.upstream.clone(), found))
            };
            let mirrored = offers.tools.iter().filter_map(mirrored).collect();
            (offers, shaped, mirrored)
        });
        match read.await {
            Ok((offers, shaped, mirrored)) => {
                backend.mirrored.store(Arc::new(mirrored));
                self.merging.lock().originals.insert(backend.name.clone(), offers);
                backend.offers.store(Arc::new(shaped));
            }
            Err(error) => tracing::error!(backend = %backend.name, "its lists cannot be read: {error}"),
        }
    }

    /// A backend came, went or changed its lists.
    pub(super) fn changed(&self, backend: &Backend) {
        let up = backend.status() == Status::Ready;
        metrics::gauge!("sentinel_backend_healthy", "backend" => backend.name.to_string())
            .set(f64::from(u8::from(up)));
        let mut merging = self.merging.lock();
        if matches!(backend.status(), Status::Down { .. }) && !merging.originals.contains_key(&backend.name) {
            merging.failed.insert(backend.name.clone());
        }
        if self.started.elapsed() >= SETTLE || self.backends.iter().all(|b| b.status() != Status::Starting) {
            merging.settled = true;
        }
        if merging.settled {
            self.merge(&mut merging);
        }
    }

    /// Builds the catalog anew and says which lists changed.
    fn merge(&self, merging: &mut Merging) {
        let mut owners = std::mem::take(&mut merging.owners);
        let next = self.merged(merging, &mut owners);
        merging.owners = owners;
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
        self.merges.send_modify(|merges| *merges += 1);
        self.announce(&changed);
    }

    fn merged(&self, merging: &Merging, owners: &mut Owners) -> Catalog {
        let offers: Vec<_> = self.backends.iter().map(|backend| backend.offers.load_full()).collect();
        let standing = |backend: &Backend| {
            if merging.originals.contains_key(&backend.name) {
                Standing::Listed
            } else if merging.impatient || merging.failed.contains(&backend.name) {
                Standing::GivenUp
            } else {
                Standing::Awaited
            }
        };
        let parts: Vec<Part<'_>> = self
            .backends
            .iter()
            .zip(&offers)
            .map(|(backend, offers)| Part {
                backend: &backend.name,
                always_prefix: backend.settings.always_prefix,
                standing: standing(backend),
                offers,
            })
            .collect();
        Catalog::merge(&parts, self.safe_names, owners)
    }

    /// Says that lists have changed.
    pub(super) fn announce(&self, lists: &[List]) {
        for list in lists {
            // Full means that a change is being announced already.
            let _ = self.events.try_send(Event::ListChanged(*list));
        }
    }

    /// A message a backend sent over its shared connection of its own accord.
    pub(super) fn spontaneous(
        self: &Arc<Self>,
        backend: &Arc<Backend>,
        peer: &Arc<Peer>,
        message: Spontaneous,
        client: Option<Arc<dyn Client>>,
    ) {
        if let Spontaneous::Notification { method, .. } = &message {
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
        }
        // Among several clients nobody can know whose request caused it. A stateless server speaks about requests
        // under way only, so if there is one, it is that.
        let only = || (peer.era() == Era::Stateless).then(|| peer.only()).flatten();
        let client = client.or_else(only).or_else(|| self.sole.get().cloned());
        super::pass_on(&backend.name, peer, client, message);
    }
}
