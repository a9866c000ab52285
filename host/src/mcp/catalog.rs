//! The merged lists of all backends: who offers what, under which name.
//!
//! Names are looked up in an index, never split. A name stays plain while it is unique; on a collision the backend that
//! stands first in the file has it, and the other's is shown as `backend_name` (see [`owners`]). A tool can be called
//! by that longer name in any case: it is never another's, so what a client has learned stays true when the plain name
//! is given or found taken. Order is that of the configuration, then by name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sentinel_names::Names;
use serde_json::value::RawValue;

use super::schema::ArgumentSchema;
use crate::call::Definition;

mod merged;
mod owners;
#[cfg(test)]
mod tests;

use self::merged::Merged;
use self::owners::Rights;
pub use self::owners::{Owners, Standing};

/// The four kinds of list a backend offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    Tools,
    Resources,
    Templates,
    Prompts,
}

impl List {
    pub const ALL: [Self; 4] = [Self::Tools, Self::Resources, Self::Templates, Self::Prompts];

    /// The MCP method, the key of its result that holds the items, and the key that names an item.
    #[must_use]
    pub fn wire(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Tools => ("tools/list", "tools", "name"),
            Self::Resources => ("resources/list", "resources", "uri"),
            Self::Templates => ("resources/templates/list", "resourceTemplates", "uriTemplate"),
            Self::Prompts => ("prompts/list", "prompts", "name"),
        }
    }

    /// The list a method asks for.
    #[must_use]
    pub fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.wire().0 == method)
    }

    /// URIs are opaque and part of results and links: they are never prefixed.
    fn is_named(self) -> bool {
        matches!(self, Self::Tools | Self::Prompts)
    }
}

/// One tool, resource, template or prompt.
#[derive(Debug)]
pub struct Entry {
    /// What rules, the record and the metrics call it: its plain name if that is its own by the file, else the one with
    /// the backend before it.
    pub name: Arc<str>,
    /// What lists call it.
    pub shown: Arc<str>,
    /// What its backend calls it.
    pub upstream: Arc<str>,
    pub backend: Arc<str>,
    /// The item as clients see it.
    pub item: Box<RawValue>,
    /// Tools only; accepts everything for the rest.
    pub arguments: Arc<ArgumentSchema>,
}

impl Definition for Entry {
    fn json(&self) -> &str {
        self.item.get()
    }
}

impl Entry {
    /// What rules know it by.
    #[must_use]
    pub fn names(&self) -> Names<'_> {
        Names { shown: &self.name, own: &self.upstream, backend: &self.backend }
    }
}

/// An item of one backend before it is merged: shown as `name`, known to the backend as `upstream`.
#[derive(Clone, Debug)]
pub struct Offer {
    pub name: String,
    pub upstream: String,
    pub item: Box<RawValue>,
}

/// Everything one backend offers, by kind of list.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    pub tools: Vec<Offer>,
    pub resources: Vec<Offer>,
    pub templates: Vec<Offer>,
    pub prompts: Vec<Offer>,
    /// What the arguments of each tool must be, by the tool's name here. A tool that is missing refuses its calls.
    pub arguments: HashMap<String, Arc<ArgumentSchema>>,
}

impl Offers {
    #[must_use]
    pub fn get(&self, list: List) -> &[Offer] {
        match list {
            List::Tools => &self.tools,
            List::Resources => &self.resources,
            List::Templates => &self.templates,
            List::Prompts => &self.prompts,
        }
    }

    /// Whether it is the same in any order: some servers list in another order every time.
    #[must_use]
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        List::ALL.into_iter().all(|list| {
            let (one, other) = (self.get(list), other.get(list));
            one.len() == other.len() && sorted_items(one) == sorted_items(other)
        })
    }

    /// Takes a list out.
    #[must_use]
    pub fn take(&mut self, list: List) -> Vec<Offer> {
        std::mem::take(match list {
            List::Tools => &mut self.tools,
            List::Resources => &mut self.resources,
            List::Templates => &mut self.templates,
            List::Prompts => &mut self.prompts,
        })
    }

    pub fn set(&mut self, list: List, offers: Vec<Offer>) {
        match list {
            List::Tools => self.tools = offers,
            List::Resources => self.resources = offers,
            List::Templates => self.templates = offers,
            List::Prompts => self.prompts = offers,
        }
    }
}

fn sorted_items(offers: &[Offer]) -> Vec<(&str, &str)> {
    let mut items: Vec<_> = offers.iter().map(|offer| (&*offer.name, offer.item.get())).collect();
    items.sort_unstable();
    items
}

/// One backend's part in a merge.
#[derive(Debug)]
pub struct Part<'a> {
    pub backend: &'a Arc<str>,
    pub always_prefix: bool,
    pub standing: Standing,
    pub offers: &'a Offers,
}

/// An immutable snapshot of everything on offer.
#[derive(Debug, Default)]
pub struct Catalog {
    lists: HashMap<List, Vec<Arc<Entry>>>,
    index: HashMap<List, HashMap<Arc<str>, Arc<Entry>>>,
    /// When each template of the list got its name; the earlier one has what two describe.
    since: Vec<u64>,
}

impl Catalog {
    /// Merges the parts of all backends, which come in the order of the configuration. With `safe_names` the names of
    /// tools and prompts are in characters that every client takes.
    #[must_use]
    pub fn merge(parts: &[Part<'_>], safe_names: bool, owners: &mut Owners) -> Self {
        owners.merges += 1;
        let backends: HashSet<&str> = parts.iter().map(|part| &**part.backend).collect();
        let mut catalog = Self::default();
        // Templates first: what one describes is not given to a resource of a later backend.
        for list in [List::Templates, List::Resources, List::Tools, List::Prompts] {
            let mut merged = Merged {
                list,
                safe_names,
                backends: &backends,
                owners,
                entries: Vec::new(),
                index: HashMap::new(),
            };
            let mut rights = Rights { shows: true, rules: true };
            for (place, part) in parts.iter().enumerate() {
                if list.is_named() {
                    merged.named(part, rights);
                } else {
                    merged.by_uri(part, rights, |uri| {
                        list == List::Resources && catalog.describes(&parts[..place], uri)
                    });
                }
                // A backend with `always_prefix` has no plain names.
                if !(part.always_prefix && list.is_named()) {
                    rights.shows &= part.standing != Standing::Awaited;
                    rights.rules &= part.standing == Standing::Listed;
                }
            }
            let Merged { entries, index, .. } = merged;
            if list == List::Templates {
                catalog.since = entries.iter().map(|entry| owners.since(list, &entry.name)).collect();
            }
            catalog.lists.insert(list, entries);
            catalog.index.insert(list, index);
        }
        catalog
    }

    /// All entries of a list, in their fixed order.
    #[must_use]
    pub fn list(&self, list: List) -> &[Arc<Entry>] {
        self.lists.get(&list).map_or(&[], Vec::as_slice)
    }

    /// The entry clients know by this name: the one in the list, or the one with its backend before it.
    #[must_use]
    pub fn find(&self, list: List, name: &str) -> Option<&Arc<Entry>> {
        self.index.get(&list)?.get(name)
    }

    /// The template a URI belongs to (a linear match; RFC 6570 expressions are not evaluated, the backend does that). Of
    /// several backends the one that had its template first has it, so that none is shadowed by a longer one; within
    /// a backend it is the one with the longest literal beginning.
    #[must_use]
    pub(crate) fn find_template(&self, uri: &str) -> Option<&Arc<Entry>> {
        let fitting = |least: usize| {
            let all = self.list(List::Templates).iter().zip(&self.since);
            all.filter_map(move |(entry, since)| {
                literal(&entry.name, uri)
                    .filter(|length| *length >= least)
                    .map(|length| (entry, *since, length))
            })
        };
        // A template that begins with an expression would match every URI; it gets those that no other template
        // matches.
        let least = usize::from(fitting(1).next().is_some());
        // The first of equals: the order of the configuration decides.
        let (owner, ..) = fitting(least).min_by_key(|(_, since, _)| *since)?;
        fitting(least)
            .filter(|(entry, ..)| entry.backend == owner.backend)
            .min_by_key(|(.., length)| std::cmp::Reverse(*length))
            .map(|(entry, ..)| entry)
    }

    /// Whether a template of one of these backends describes the URI. Not asked of more than a bounded number: what is
    /// given then is reachable by its exact name, and no other.
    fn describes(&self, earlier: &[Part<'_>], uri: &str) -> bool {
        const MOST: usize = 256;
        let templates = self.list(List::Templates).iter().take(MOST);
        templates
            .filter(|entry| earlier.iter().any(|part| *part.backend == entry.backend))
            .any(|entry| literal(&entry.name, uri).is_some_and(|length| length > 0))
    }
}

/// The length of the literal beginning of a template, if a URI may be one of its own.
fn literal(template: &str, uri: &str) -> Option<usize> {
    let (head, tail) = template.split_once('{')?;
    let tail = tail.rsplit_once('}').map_or("", |(_, tail)| tail);
    (uri.len() >= head.len() + tail.len() && uri.starts_with(head) && uri.ends_with(tail))
        .then_some(head.len())
}
