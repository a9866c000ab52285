//! The servers of one generation: merged into one catalog, and asked for all that is not about a single one.
//!
//! The servers themselves belong to the [`ServerFleet`], which outlives every generation. What each offered is remembered on disk,
//! so that the first list after a start is whole at once ([`recall`]); what is not remembered is waited for, within a bound
//! ([`waiting`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use super::arguments::Owner;
use super::fixed::Fixed;
use super::fleet::{ListChanged, Lists, ServerFleet};
use super::lineup::WithSettings;
use super::open::{Common, Opener};
use super::{Server, Status};
use super::{arguments, items, supervisor};
use crate::config;
use crate::mcp::catalog::{Catalog, List, Offer, Offers, Owners, Part, Standing};
use crate::mcp::{STATELESS, splice};
use crate::redact::Words;

mod next;
mod recall;
mod said;
mod waiting;

pub(super) use self::said::Said;

/// Changes of lists that clients have not been told of yet.
const CHANGES: usize = 1024;

/// Waits until a backend is up or failed once.
async fn probed((place, member): (usize, &Member)) -> (usize, String, Result<usize, Words>) {
    let backend = &member.backend;
    let mut status = backend.status.subscribe();
    let settled = status.wait_for(|status| *status != Status::Starting).await.map(|status| status.clone());
    let result = match settled {
        Ok(Status::Ready) => Ok(member.shaped.load().tools.len()),
        Ok(Status::Down { reason, .. }) => Err(reason),
        Ok(Status::Starting | Status::Stopped) | Err(_) => Err("it was stopped".into()),
    };
    (place, backend.name.to_string(), result)
}

/// Reshapes one list of one backend; the rewriters, seen from here.
pub type Reshape = Arc<dyn Fn(&Arc<str>, List, Vec<Offer>) -> Vec<Offer> + Send + Sync>;

/// A server with its lists as the rewriters of this generation leave them.
struct Member {
    backend: Arc<Server>,
    /// Its settings in this generation.
    settings: Arc<config::Backend>,
    shaped: ArcSwap<Offers>,
}

/// The servers of one generation.
pub struct Registry {
    fleet: Arc<ServerFleet>,
    members: Vec<Member>,
    /// The same, for those who need no lists.
    backends: Vec<Arc<Server>>,
    by_name: HashMap<Arc<str>, usize>,
    /// What is offered beside the servers, as the rewriters of this generation leave it.
    fixed: Vec<Fixed>,
    opener: Arc<Opener>,
    reshape: Reshape,
    /// What holds for all servers in this generation.
    common: Common,
    catalog: ArcSwap<Catalog>,
    merging: Mutex<Merging>,
    /// Counts merges, to wake the calls that wait for a name.
    merges: watch::Sender<u64>,
    started: tokio::time::Instant,
    /// How long after the start the first lists wait for backends that are still starting. So long such a backend also
    /// keeps plain names from those after it in the file, unless it fails sooner. What is decided then is only what clients
    /// see: rules wait for as long as it takes.
    patience: Duration,
    /// Counts what becomes known of the backends, to wake those who wait for all of them.
    moves: watch::Sender<u64>,
}

#[derive(Clone, Default)]
struct Merging {
    owners: Owners,
    /// What is remembered has been read.
    recalled: bool,
    /// Until all have spoken (or time is up) nothing is shown.
    settled: bool,
    /// Those that have not been listed yet are not waited for any more.
    impatient: bool,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("backends", &self.backends.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// The first of an endpoint. Starts all backends; returns at once.
    #[must_use]
    pub fn start(
        settings: &[config::Backend],
        common: Common,
        reshape: Reshape,
    ) -> (Arc<Self>, mpsc::Receiver<ListChanged>) {
        Self::start_beside(settings, common, reshape, Vec::new())
    }

    /// The same beside backends that are no MCP servers.
    #[must_use]
    pub(crate) fn start_beside(
        settings: &[config::Backend],
        common: Common,
        reshape: Reshape,
        fixed: Vec<Fixed>,
    ) -> (Arc<Self>, mpsc::Receiver<ListChanged>) {
        let (changes, receiver) = mpsc::channel(CHANGES);
        let fleet = ServerFleet::new(changes);
        let opener = Arc::new(Opener::new(common));
        let enlist = |settings: &config::Backend| {
            let settings = Arc::new(settings.clone());
            (fleet.enlist(&settings, &opener), settings)
        };
        let backends: Vec<_> = settings.iter().map(enlist).collect();
        let merging = Merging { recalled: settings.is_empty(), ..Merging::default() };
        let registry =
            Self::new(&fleet, (backends, fixed), (opener.clone(), opener.common().clone()), reshape, merging);
        registry.attach();
        tokio::spawn(registry.clone().recall());
        registry.backends.iter().for_each(|backend| supervisor::launch(&fleet, backend));
        tokio::spawn(registry.clone().end_patience());
        (registry, receiver)
    }

    fn new(
        fleet: &Arc<ServerFleet>,
        (servers, fixed): (Vec<WithSettings>, Vec<Fixed>),
        (opener, common): (Arc<Opener>, Common),
        reshape: Reshape,
        merging: Merging,
    ) -> Arc<Self> {
        let backends: Vec<_> = servers.iter().map(|(backend, _)| backend.clone()).collect();
        let member = |(backend, settings)| Member { backend, settings, shaped: ArcSwap::default() };
        let names = backends.iter().enumerate().map(|(place, backend)| (backend.name.clone(), place));
        Arc::new(Self {
            by_name: names.collect(),
            fixed: fixed.into_iter().map(|fixed| fixed.shaped(&*reshape)).collect(),
            members: servers.into_iter().map(member).collect(),
            backends,
            fleet: fleet.clone(),
            opener,
            reshape,
            catalog: ArcSwap::default(),
            merging: Mutex::new(merging),
            merges: watch::Sender::new(0),
            started: tokio::time::Instant::now(),
            patience: common.first_lists,
            common,
            moves: watch::Sender::new(0),
        })
    }

    /// Its generation is in force: servers that stay have its settings from now on. What they are spoken to over stays as it
    /// is.
    pub(crate) fn takes_effect(&self) {
        self.opener.bound(&self.common);
        self.members.iter().for_each(|member| member.backend.renew(&member.settings));
    }

    /// From now on it is told what becomes of its servers.
    fn attach(self: &Arc<Self>) {
        let lists: Arc<dyn Lists> = self.clone();
        self.fleet.attach(Arc::downgrade(&lists), &self.backends);
    }

    /// When the time for the first lists is over, missing ones are no longer waited for.
    async fn end_patience(self: Arc<Self>) {
        self.met().await;
        self.settled().await;
        let mut merging = self.merging.lock();
        merging.impatient = true;
        if self.backends.iter().any(|backend| !backend.is_listed()) {
            self.merge(&mut merging);
        }
    }

    /// All servers of the endpoint, whichever generation they belong to.
    #[must_use]
    pub(crate) fn fleet(&self) -> &Arc<ServerFleet> {
        &self.fleet
    }

    /// Where a server stands, if it is one of this generation: this very one, not another of its name.
    pub(super) fn place(&self, backend: &Server) -> Option<usize> {
        let place = *self.by_name.get(&backend.name)?;
        std::ptr::eq(&raw const *self.backends[place], backend).then_some(place)
    }

    #[must_use]
    pub fn backends(&self) -> &[Arc<Server>] {
        &self.backends
    }

    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Server>> {
        self.by_name.get(name).map(|place| &self.backends[*place])
    }

    /// The merged lists as they are now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// The same, or while lists are not shown yet what they would be by now; no name is given by that.
    #[must_use]
    pub(crate) fn glimpse(&self) -> Arc<Catalog> {
        let merging = self.merging.lock();
        if merging.settled {
            return self.catalog();
        }
        Arc::new(self.merged(&merging, &mut Owners::default()))
    }

    /// Counts the merges of the lists, to wake those who wait for something to be offered.
    #[must_use]
    pub(crate) fn merges(&self) -> watch::Receiver<u64> {
        self.merges.subscribe()
    }

    /// What the servers themselves list as tools, before rewriting: backend and own name.
    #[must_use]
    pub(crate) fn own_tools(&self) -> Vec<(Arc<str>, String)> {
        let of = |backend: &Arc<Server>| -> Vec<(Arc<str>, String)> {
            let offers = backend.original().unwrap_or_default();
            offers.tools.iter().map(|offer| (backend.name.clone(), offer.upstream.clone())).collect()
        };
        self.backends.iter().flat_map(of).collect()
    }

    /// Has every backend that is down tried at once: a person has changed something, perhaps what kept it down.
    pub(crate) fn try_again(&self) {
        self.backends.iter().for_each(|backend| backend.try_again(std::time::Instant::now()));
    }

    /// The servers' own instructions to the model, with the backend each belongs to, in the file's order.
    #[must_use]
    pub fn instructions(&self) -> Vec<(Arc<str>, String)> {
        let of = |backend: &Arc<Server>| {
            let said = backend.said.lock();
            Some((backend.name.clone(), said.info.as_ref()?.instructions.clone()?))
        };
        self.backends.iter().filter_map(of).collect()
    }

    /// The extensions of the stateless backends, in the file's order.
    #[must_use]
    pub fn extensions(&self) -> Vec<(String, Box<RawValue>)> {
        let of = |backend: &Arc<Server>| {
            let said = backend.said.lock();
            let info = said.info.as_ref().filter(|info| info.version == STATELESS)?;
            let extensions = splice::get(info.capabilities.get(), "/extensions")?;
            serde_json::from_str::<BTreeMap<_, _>>(extensions).ok()
        };
        self.backends.iter().filter_map(of).flatten().collect()
    }

    /// The connected backends that declared a capability.
    #[must_use]
    pub(crate) fn capable(&self, capability: &str) -> Vec<Arc<Server>> {
        let has = |info: &super::server_info::ServerInfo| info.has(capability);
        let capable = |backend: &&Arc<Server>| backend.said.lock().info.as_ref().is_some_and(has);
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
        let mut waiting: FuturesUnordered<_> = self.members.iter().enumerate().map(probed).collect();
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

    /// Stops all servers of the endpoint and waits for their processes to be gone.
    pub async fn stop(&self) {
        self.fleet.stop().await;
    }

    async fn stopping(&self) {
        self.fleet.stopping().await;
    }

    /// What a backend offers as the rewriters leave it, with its schemas read.
    pub(super) async fn read(&self, backend: &Arc<Server>, offers: &Arc<Offers>) -> Option<Offers> {
        let member = self.members.get(self.place(backend)?)?;
        let (before, settings) = (member.shaped.load_full(), member.settings.clone());
        let (reshape, of, offers) = (self.reshape.clone(), backend.clone(), offers.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut fitted = items::fit(&of, &offers);
            let own = arguments::own(&fitted.tools);
            let mut shaped = Offers::default();
            for list in List::ALL {
                shaped.set(list, reshape(&of.name, list, fitted.take(list)));
            }
            let owner = Owner { name: &of.name, settings: Some(&settings) };
            arguments::read(owner, &mut shaped, &own, &before);
            shaped
        });
        read.await
            .inspect_err(
                |error| tracing::error!(backend = %backend.name, "the server's lists cannot be read: {error}"),
            )
            .ok()
    }

    /// What a backend offers from now on, in this generation.
    pub(super) fn put(&self, backend: &Server, shaped: Arc<Offers>) {
        if let Some(member) = self.place(backend).and_then(|place| self.members.get(place)) {
            // Under the lock, so that a merge sees it before or after.
            let _merging = self.merging.lock();
            member.shaped.store(shaped);
        }
    }

    /// One of the servers came, went or changed its lists.
    pub(super) fn changed(&self) {
        let mut merging = self.merging.lock();
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
        self.fleet.announce(&changed);
    }

    fn merged(&self, merging: &Merging, owners: &mut Owners) -> Catalog {
        let offers: Vec<_> = self.members.iter().map(|member| member.shaped.load_full()).collect();
        let standing = |backend: &Server| {
            if backend.is_listed() {
                Standing::Listed
            } else if merging.impatient || backend.has_failed() {
                Standing::GivenUp
            } else {
                Standing::Awaited
            }
        };
        let fixed = self.fixed.iter().map(|fixed| Part {
            backend: &fixed.backend,
            always_prefix: false,
            standing: Standing::Listed,
            offers: &fixed.offers,
        });
        let parts: Vec<Part<'_>> = self
            .members
            .iter()
            .zip(&offers)
            .map(|(member, offers)| Part {
                backend: &member.backend.name,
                always_prefix: member.settings.always_prefix,
                standing: standing(&member.backend),
                offers,
            })
            .chain(fixed)
            .collect();
        Catalog::merge(&parts, self.common.safe_names, owners)
    }
}

impl Lists for Registry {
    fn has(&self, server: &Server) -> bool {
        self.place(server).is_some()
    }

    fn has_named(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn changed(&self) {
        Self::changed(self);
    }

    fn read<'a>(&'a self, server: &'a Arc<Server>, offers: &'a Arc<Offers>) -> BoxFuture<'a, Option<Offers>> {
        Box::pin(Self::read(self, server, offers))
    }

    fn put(&self, server: &Server, shaped: Arc<Offers>) {
        Self::put(self, server, shaped);
    }
}
