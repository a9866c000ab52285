//! Who owns a name. It follows from the order of the backends in the file and from what was known of them before, never
//! from which of them was up first.
//!
//! A plain name belongs to the first backend of the file that offers it. So while an earlier backend has not been listed
//! yet, nobody knows whose the name is. It is given to nobody as long as that backend may still come up in a moment; once
//! it has failed, or has been waited for long enough, a later one may be *shown* under the plain name, or one dead server
//! would rename the tools of all others. *Rules* go on to know that tool by the name with its backend before it, until the
//! earlier backend is known: what a role may call must not depend on what happened to be up.
//!
//! A name that begins with the name of a backend (`backend_name`) is that backend's, even if another one lists it.
//! Nothing that was given is taken away again: neither from a server that is down, nor for one that comes later.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::List;

/// How much of the names of one backend is remembered. Past it the tools of that backend are shown with its name before
/// theirs, which needs no memory: those names are nobody else's in any case.
const MAX_BYTES: usize = 4 << 20;
/// What remembering a name costs besides its letters.
const OVERHEAD: usize = 96;
/// Longest name of a backend (see the configuration).
const MAX_BACKEND: usize = 48;

/// How a backend stands with the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has said what it offers, now or earlier since the gateway started.
    Listed,
    /// It has not, and is waited for.
    Awaited,
    /// It has not, and is not waited for any more.
    GivenUp,
}

/// One thing that a backend offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) backend: Arc<str>,
    pub(super) upstream: Box<str>,
}

impl Holder {
    pub(super) fn is(&self, backend: &str, upstream: &str) -> bool {
        *self.backend == *backend && *self.upstream == *upstream
    }
}

#[derive(Clone, Debug)]
struct Owner {
    /// What clients reach by the name.
    shown: Holder,
    /// What rules mean by it; none while that is not known.
    ruled: Option<Holder>,
    /// When it was given, counted in merges.
    since: u64,
}

/// What may be given to a backend, by its place in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    /// No backend before it is waited for.
    pub(super) shows: bool,
    /// Every backend before it is known.
    pub(super) rules: bool,
}

/// What a name is for the one who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Clients reach it by this name.
    pub(super) shown: bool,
    /// Rules know it by this name.
    pub(super) ruled: bool,
}

/// Who a name belongs to, for as long as the gateway lives.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    names: HashMap<List, HashMap<Box<str>, Owner>>,
    /// What backends asked for before it could be decided.
    wishes: HashMap<(List, Arc<str>), Wishes>,
    spent: HashMap<Arc<str>, usize>,
    /// Merges so far.
    pub(super) merges: u64,
    /// What was said about names that had to be left out, so that it is said once.
    told: HashSet<(List, Holder)>,
}

/// The names a backend has asked for that are not decided yet, in the order it did. A server that has listed a name keeps
/// its place for it, also if it lists nothing at the moment when the earlier ones are known.
#[derive(Clone, Debug, Default)]
struct Wishes {
    /// The name with what the server calls the thing.
    order: Vec<(Arc<str>, Arc<str>)>,
    known: HashSet<(Arc<str>, Arc<str>)>,
}

impl std::hash::Hash for Holder {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.backend.hash(state);
        self.upstream.hash(state);
    }
}

impl Owners {
    /// Asks for a name. What cannot be decided yet is asked for again by [`Self::renew`].
    pub(super) fn ask(
        &mut self,
        list: List,
        name: &str,
        backend: &Arc<str>,
        upstream: &str,
        rights: Rights,
    ) -> Given {
        let given = self.decide(list, name, backend, upstream, rights);
        let everything = rights.shows && rights.rules;
        if !everything && !self.is_decided(list, name) {
            self.wish(list, name, backend, upstream);
        }
        given
    }

    /// Asks again for what a backend has asked for, as far as that was not decided. `rights` says what may be given to it
    /// by now; none: the wish is void.
    pub(super) fn renew(&mut self, list: List, backend: &Arc<str>, rights: impl Fn(&str) -> Option<Rights>) {
        let Some(wishes) = self.wishes.remove(&(list, backend.clone())) else { return };
        for (name, upstream) in wishes.order {
            if let Some(spent) = self.spent.get_mut(backend) {
                *spent = spent.saturating_sub(cost(&name, &upstream));
            }
            if let Some(rights) = rights(&name) {
                self.ask(list, &name, backend, &upstream, rights);
            }
        }
    }

    fn is_decided(&self, list: List, name: &str) -> bool {
        let owner = self.names.get(&list).and_then(|names| names.get(name));
        owner.is_some_and(|owner| owner.ruled.is_some())
    }

    fn wish(&mut self, list: List, name: &str, backend: &Arc<str>, upstream: &str) {
        let spent = self.spent.entry(backend.clone()).or_default();
        let cost = cost(name, upstream);
        if *spent + cost > MAX_BYTES {
            return;
        }
        let wishes = self.wishes.entry((list, backend.clone())).or_default();
        let wish: (Arc<str>, Arc<str>) = (name.into(), upstream.into());
        if wishes.known.insert(wish.clone()) {
            *spent += cost;
            wishes.order.push(wish);
        }
    }

    fn decide(
        &mut self,
        list: List,
        name: &str,
        backend: &Arc<str>,
        upstream: &str,
        rights: Rights,
    ) -> Given {
        let names = self.names.entry(list).or_default();
        if let Some(owner) = names.get_mut(name) {
            if owner.ruled.is_none() && rights.rules {
                owner.ruled = Some(holder(backend, upstream));
            }
            let ruled = owner.ruled.as_ref().is_some_and(|ruled| ruled.is(backend, upstream));
            return Given { shown: owner.shown.is(backend, upstream), ruled };
        }
        let spent = self.spent.entry(backend.clone()).or_default();
        let cost = cost(name, upstream);
        if !rights.shows || *spent + cost > MAX_BYTES {
            return Given { shown: false, ruled: false };
        }
        *spent += cost;
        let (shown, ruled) = (holder(backend, upstream), rights.rules.then(|| holder(backend, upstream)));
        names.insert(name.into(), Owner { shown, ruled, since: self.merges });
        Given { shown: true, ruled: rights.rules }
    }

    /// The same without what belongs to backends that are gone: their names are free again.
    #[must_use]
    pub fn without(mut self, gone: impl Fn(&str) -> bool) -> Self {
        for names in self.names.values_mut() {
            names.retain(|_, owner| {
                owner.ruled.take_if(|holder| gone(&holder.backend));
                !gone(&owner.shown.backend)
            });
        }
        self.wishes.retain(|(_, backend), _| !gone(backend));
        self.spent.retain(|backend, _| !gone(backend));
        self.told.retain(|(_, holder)| !gone(&holder.backend));
        self
    }

    /// Whether a name belongs to anybody.
    pub(super) fn has(&self, list: List, name: &str) -> bool {
        self.names.get(&list).is_some_and(|names| names.contains_key(name))
    }

    /// In which merge a name was given.
    pub(super) fn since(&self, list: List, name: &str) -> u64 {
        self.names.get(&list).and_then(|names| names.get(name)).map_or(self.merges, |owner| owner.since)
    }

    /// Whether it is the first time that something is said about an entry.
    pub(super) fn tells(&mut self, list: List, backend: &Arc<str>, upstream: &str) -> bool {
        const MOST: usize = 1_024;
        self.told.len() < MOST && self.told.insert((list, holder(backend, upstream)))
    }
}

/// What it takes to remember a name.
fn cost(name: &str, upstream: &str) -> usize {
    name.len() + 2 * upstream.len() + OVERHEAD
}

fn holder(backend: &Arc<str>, upstream: &str) -> Holder {
    Holder { backend: backend.clone(), upstream: upstream.into() }
}

/// The backend that a name belongs to because it begins with that backend's name; of several the longest.
pub(super) fn land<'a>(name: &'a str, backends: &HashSet<&str>) -> Option<&'a str> {
    name.match_indices(['_', '/'])
        .take_while(|(at, _)| *at <= MAX_BACKEND)
        .filter_map(|(at, _)| name.get(..at).filter(|head| backends.contains(head)))
        .last()
}
