//! One reading of the configuration file while it is in force: who decides, who rewrites, and which servers there are.
//!
//! A call loads the generation once, when it arrives, and ends on it, whatever is put in force meanwhile. Parts that
//! have to outlive a generation are not in it: servers that did not change, the kill switch, the counters of the
//! guards, tasks, links.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backend::{Backend, Registry};
use crate::call::{Denial, DenialKind, Principal};
use crate::policy::{Caller, Policy};
use crate::rewrite::Rewriters;
use crate::route::Table;

/// How long a generation that was replaced still takes requests whose caller it had accepted. Over HTTP the head of a
/// request is judged first, and its body comes later.
const LET_IN: Duration = Duration::from_secs(2);

/// Generations of one endpoint that are alive at once: the one in force, and those that calls still end on.
const MOST: usize = 4;
/// How long the calls of a generation that has to end may take to be answered and recorded.
const END: Duration = Duration::from_secs(5);

/// What is in force for one endpoint.
#[derive(Debug)]
pub struct Generation {
    id: u64,
    policy: Arc<Policy>,
    rewriters: Arc<Rewriters>,
    registry: Arc<Registry>,
    routes: Arc<Table>,
    /// The backends that are no MCP servers.
    others: Vec<Backend>,
    /// A request over HTTP from this machine may be its user's, without a credential.
    takes_local: bool,
    /// It has to end: its calls are given up.
    over: CancellationToken,
    /// Fires when nothing holds it any more.
    gone: DropGuard,
}

impl Generation {
    /// The generation of this number.
    #[must_use]
    pub fn new(id: u64, policy: Arc<Policy>, rewriters: Arc<Rewriters>, registry: Arc<Registry>) -> Self {
        let (over, gone) = (CancellationToken::new(), CancellationToken::new().drop_guard());
        let routes = Arc::default();
        Self { id, policy, rewriters, registry, routes, others: Vec::new(), takes_local: false, over, gone }
    }

    /// The same, in which a request over HTTP from this machine may be its user's.
    #[must_use]
    pub(crate) fn taking_local(self, takes_local: bool) -> Self {
        Self { takes_local, ..self }
    }

    /// The same with backends that are no MCP servers. No two backends of a generation have one name.
    #[must_use]
    pub(crate) fn with_backends(self, others: Vec<Backend>) -> Self {
        Self { others, ..self }
    }

    /// The same with these routes of the HTTP API.
    #[must_use]
    pub(crate) fn with_routes(self, routes: Arc<Table>) -> Self {
        Self { routes, ..self }
    }

    /// The routes of the HTTP API.
    #[must_use]
    pub fn routes(&self) -> &Arc<Table> {
        &self.routes
    }

    /// Its number among all of this process; the first is 1.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    #[must_use]
    pub fn rewriters(&self) -> &Arc<Rewriters> {
        &self.rewriters
    }

    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The backend of this name, of any kind.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Backend> {
        let server = self.registry.find(name).map(|server| Backend::Mcp(server.clone()));
        server.or_else(|| self.others.iter().find(|backend| **backend.name() == *name).cloned())
    }

    /// All backends: the MCP servers in the order of the file, then the others.
    pub fn backends(&self) -> impl Iterator<Item = Backend> {
        let servers = self.registry.backends().iter().map(|server| Backend::Mcp(server.clone()));
        servers.chain(self.others.iter().cloned())
    }

    /// Whether a request over HTTP from this machine may be its user's, without a credential.
    #[must_use]
    pub(crate) fn takes_local(&self) -> bool {
        self.takes_local
    }

    /// Gives up its calls: there are newer generations, and no room for more.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// Ends when nothing holds the generation any more: the last call that began with it has ended.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        self.gone.token().clone().cancelled_owned()
    }

    /// Ends when its calls are given up, and gives the refusal for them.
    pub(super) async fn ended(&self) -> Denial {
        self.over.cancelled().await;
        Denial::new(
            DenialKind::Unavailable,
            "generation_ended",
            "the gateway's configuration was replaced several times since this call began, so it was given up: call again",
        )
    }
}

/// The generation in force, and those before it that calls still end on.
#[derive(Debug)]
pub(super) struct Live {
    current: ArcSwap<Generation>,
    before: Mutex<Before>,
}

#[derive(Debug, Default)]
struct Before {
    /// Those that still take requests whose callers they had accepted, oldest first.
    letting_in: VecDeque<Arc<Generation>>,
    /// All that may still have calls, oldest first; without the one in force.
    alive: VecDeque<Weak<Generation>>,
}

impl Live {
    pub(super) fn new(first: Generation) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::from_pointee(first), before: Mutex::default() })
    }

    pub(super) fn load(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Puts the next one in force.
    pub(super) fn swap(self: &Arc<Self>, next: Arc<Generation>) {
        let old = self.load();
        let id = old.id;
        let mut before = self.before.lock();
        before.alive.push_back(Arc::downgrade(&old));
        // The old one is listed here before it is replaced, so that no request falls in between.
        before.letting_in.push_back(old);
        drop(before);
        self.current.store(next);
        let live = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(LET_IN).await;
            if let Some(live) = live.upgrade() {
                live.let_go(id);
            }
        });
    }

    /// This generation takes no more requests.
    fn let_go(&self, id: u64) {
        let mut before = self.before.lock();
        let place = before.letting_in.iter().position(|generation| generation.id == id);
        let gone = place.and_then(|place| before.letting_in.remove(place));
        drop(before);
        // Dropped outside the lock, because much may end with it.
        drop(gone);
    }

    /// The generations that are alive, oldest first, each with its number of holders: calls under way and the like.
    pub(super) fn alive(&self) -> Vec<(u64, usize)> {
        let mut before = self.before.lock();
        before.alive.retain(|generation| generation.strong_count() > 0);
        let old: Vec<_> = before.alive.iter().filter_map(Weak::upgrade).collect();
        drop(before);
        let current = self.load();
        old.iter()
            .chain([&current])
            .map(|generation| (generation.id, Arc::strong_count(generation) - 1))
            .collect()
    }

    /// Makes room for one more generation. The oldest that is too many is ended in order: its calls are given up, told so and
    /// recorded.
    ///
    /// # Errors
    /// The number of the one that does not end.
    pub(super) async fn make_room(&self) -> Result<(), u64> {
        while let Some(oldest) = self.too_many() {
            let (id, gone) = (oldest.id, oldest.gone());
            self.let_go(id);
            if Arc::strong_count(&oldest) > 1 {
                tracing::warn!(
                    generation = id,
                    "more than {MOST} generations of the configuration would be alive: the calls that began with the oldest are given up"
                );
                oldest.end();
            }
            drop(oldest);
            tokio::time::timeout(END, gone).await.map_err(|_| id)?;
        }
        Ok(())
    }

    /// The oldest generation, if there is no room for one more beside the one in force.
    fn too_many(&self) -> Option<Arc<Generation>> {
        let mut before = self.before.lock();
        before.alive.retain(|generation| generation.strong_count() > 0);
        if before.alive.len() + 2 <= MOST {
            return None;
        }
        before.alive.iter().find_map(Weak::upgrade)
    }

    /// The generation for a request of this caller, and who the caller is. A caller whose credential is no longer at
    /// hand was accepted a moment ago, perhaps by the generation before.
    pub(super) fn admit(&self, caller: &Caller) -> (Arc<Generation>, Result<Arc<Principal>, Denial>) {
        let current = self.load();
        let who = current.policy.identify(caller);
        if who.is_err() && caller.is_remembered() {
            let let_in = |generation: &Arc<Generation>| {
                Some((generation.clone(), Ok(generation.policy.knows(caller, 0)?)))
            };
            if let Some(let_in) = self.before.lock().letting_in.iter().rev().find_map(let_in) {
                return let_in;
            }
        }
        (current, who)
    }
}
