//! All backends together: started in parallel, merged into one catalog, stopped in order.
//!
//! What each offered is remembered on disk, so that the first list after a start is whole at once ([`recall`]); what is not
//! remembered is waited for, within a bound ([`waiting`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::negotiate::Greeting;
use super::open::{Common, Opener};
use super::peer::Peer;
use super::refresh;
use super::supervisor;
use super::{Backend, Spontaneous, Status};
use super::{arguments, items};
use crate::config;
use crate::mcp::catalog::{Catalog, List, Offer, Offers, Owners, Part, Standing};
use crate::mcp::client::Client;
use crate::mcp::header::Mirrored;
use crate::mcp::{Era, STATELESS, header, splice};
use crate::redact::Words;

mod recall;
mod waiting;

/// Messages of backends waiting for the door.
pub const EVENT_QUEUE: usize = 1024;

/// Waits until a backend is up or failed once.
async fn probed((place, backend): (usize, &Arc<Backend>)) -> (usize, String, Result<usize, Words>) {
    let mut status = backend.status.subscribe();
    let settled = status.wait_for(|status| *status != Status::Starting).await.map(|status| status.clone());
    let result = match settled {
        Ok(Status::Ready) => Ok(backend.offers.load().tools.len()),
        Ok(Status::Down { reason, .. }) => Err(reason),
        Ok(Status::Starting | Status::Stopped) | Err(_) => Err("it was stopped".into()),
    };
    (place, backend.name.to_string(), result)
}

/// Reshapes one list of one backend; the rewriters, seen from here.
pub type Reshape = Arc<dyn Fn(&Arc<str>, List, Vec<Offer>) -> Vec<Offer> + Send + Sync>;

/// The lists of a backend before and after the rewriters, and which arguments are repeated in headers.
type Read = (Offers, Offers, HashMap<String, Vec<Mirrored>>);

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
    /// Counts merges, to wake the calls that wait for a name.
    merges: watch::Sender<u64>,
    greetings: Mutex<HashMap<Arc<str>, Greeting>>,
    client: watch::Sender<Option<Arc<str>>>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    tasks: TaskTracker,
    started: tokio::time::Instant,
    /// How long after the start the first lists wait for backends that are still starting. So long such a backend also
    /// keeps plain names from those after it in the file, unless it fails sooner. What is decided then is only what clients
    /// see: rules wait for as long as it takes.
    patience: Duration,
    /// Counts what becomes known of the backends, to wake those who wait for all of them.
    moves: watch::Sender<u64>,
    /// The one client of a gateway on stdio: what servers say over the shared connections is for it.
    sole: OnceLock<Arc<dyn Client>>,
}

#[derive(Default)]
struct Merging {
    owners: Owners,
    /// What the backends said before rewriting, to rewrite again after a change.
    originals: HashMap<Arc<str>, Offers>,
    /// Those of which that is what they said before this start; they have not spoken yet.
    remembered: HashSet<Arc<str>>,
    /// What is remembered has been read.
    recalled: bool,
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
        let (safe_names, patience) = (common.safe_names, common.first_lists);
        let opener = Arc::new(Opener::new(common));
        let backends: Vec<_> =
            settings.iter().map(|s| Arc::new(Backend::new(s.clone(), opener.clone()))).collect();
        let registry = Arc::new(Self {
            by_name: backends.iter().map(|backend| (backend.name.clone(), backend.clone())).collect(),
            reshape,
            safe_names,
            catalog: ArcSwap::default(),
            merging: Mutex::new(Merging { recalled: settings.is_empty(), ..Merging::default() }),
            merges: watch::Sender::new(0),
            greetings: Mutex::default(),
            client: watch::Sender::new(None),
            events,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started: tokio::time::Instant::now(),
            patience,
            moves: watch::Sender::new(0),
            sole: OnceLock::new(),
            backends,
        });
        tokio::spawn(registry.clone().recall());
        for backend in &registry.backends {
            let task = supervisor::run(backend.clone(), registry.clone(), registry.client.subscribe());
            registry.tasks.spawn(task);
        }
        registry.tasks.close();
        let late = registry.clone();
        tokio::spawn(async move {
            late.met().await;
            late.settled().await;
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

    /// The same, or while lists are not shown yet what they would be by now; no name is given by that.
    #[must_use]
    pub fn glimpse(&self) -> Arc<Catalog> {
        let merging = self.merging.lock();
        if merging.settled {
            return self.catalog();
        }
        Arc::new(self.merged(&merging, &mut Owners::default()))
    }

    /// Counts the merges of the lists, to wake those who wait for something to be offered.
    #[must_use]
    pub fn merges(&self) -> watch::Receiver<u64> {
        self.merges.subscribe()
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

    /// Has every backend that is down tried at once: a person has changed something, perhaps what kept it down.
    pub fn try_again(&self) {
        self.backends.iter().for_each(|backend| backend.try_again(std::time::Instant::now()));
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

    /// Waits until every backend has come up or failed once, however long that takes.
    pub async fn tried(&self) {
        for backend in &self.backends {
            let mut status = backend.status.subscribe();
            if status.wait_for(|status| *status != Status::Starting).await.is_err() {
                return;
            }
        }
    }

    /// Waits until every backend is up (then: how many tools it has) or failed once (then: why). The names are those that
    /// the gateway gives if all that are up now had been up in time. Each is told as soon as it is known.
    pub async fn probe(
        &self,
        told: &mut dyn FnMut(&str, &Result<usize, Words>),
    ) -> (Vec<(String, Result<usize, Words>)>, Catalog) {
        let mut waiting: FuturesUnordered<_> = self.backends.iter().enumerate().map(probed).collect();
        let mut report = Vec::new();
        while let Some((place, name, result)) = waiting.next().await {
            told(&name, &result);
            report.push((place, (name, result)));
        }
        drop(waiting);
        report.sort_by_key(|(place, _)| *place);
        let report = report.into_iter().map(|(_, report)| report).collect();
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

    pub(super) fn greeted(&self, backend: &Arc<Backend>, greeting: Greeting) {
        self.greetings.lock().insert(backend.name.clone(), greeting);
        backend.refreshing.reset();
        self.remember(backend);
    }

    pub(super) fn greeting(&self, backend: &Backend) -> Option<Greeting> {
        self.greetings.lock().get(&backend.name).cloned()
    }

    pub(super) fn original(&self, backend: &Backend) -> Offers {
        self.merging.lock().originals.get(&backend.name).cloned().unwrap_or_default()
    }

    /// Takes what a backend offers, through the rewriters. Reading it takes as long as its server makes it, so it is not
    /// done where calls are served.
    pub(super) async fn offer(&self, backend: &Arc<Backend>, offers: Offers) {
        // One list after the other, so that an older one never takes the place of a newer one.
        let _turn = backend.reading.lock().await;
        if self.confirmed(backend, &offers) {
            return;
        }
        if let Some(read) = self.read(backend, offers).await {
            self.store(backend, read, false);
        }
    }

    /// Whether a backend offers what is known of it already; then there is nothing to read.
    fn confirmed(&self, backend: &Backend, offers: &Offers) -> bool {
        let mut merging = self.merging.lock();
        let same = merging.originals.get(&backend.name).is_some_and(|known| known.same_as(offers));
        if same {
            merging.remembered.remove(&backend.name);
        }
        same
    }

    /// What a backend offers as the rewriters leave it, with its schemas read.
    async fn read(&self, backend: &Arc<Backend>, offers: Offers) -> Option<Read> {
        let (reshape, of) = (self.reshape.clone(), backend.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut fitted = items::fit(&of, &offers);
            let mut shaped = Offers::default();
            for list in List::ALL {
                shaped.set(list, reshape(&of.name, list, fitted.take(list)));
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
        read.await
            .inspect_err(
                |error| tracing::error!(backend = %backend.name, "the server's lists cannot be read: {error}"),
            )
            .ok()
    }

    /// A backend came, went or changed its lists.
    pub(super) fn changed(&self, backend: &Backend) {
        let up = backend.status() == Status::Ready;
        metrics::gauge!("sentinel_backend_healthy", "backend" => backend.name.to_string())
            .set(f64::from(u8::from(up)));
        let mut merging = self.merging.lock();
        merging.note(backend);
        let late = self.started.elapsed() >= self.patience;
        merging.impatient |= late;
        if late || self.all_known(&merging) {
            merging.settled = true;
        }
        if merging.settled {
            self.merge(&mut merging);
        }
        drop(merging);
        self.moves.send_modify(|moves| *moves += 1);
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
    fn announce(&self, lists: &[List]) {
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
            let lists = refresh::lists_of(method);
            if !lists.is_empty() {
                // The cache first, then the clients: whoever was given another list hears of it.
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
}
