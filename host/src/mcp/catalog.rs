//! The merged lists of all backends: who offers what, under which name.
//!
//! Names are looked up in an index, never split. A name stays plain while it is unique; on a collision the backend that
//! stands first in the file has it, and the other's is shown as `backend_name` (see [`owners`]). A tool can be called
//! by that longer name in any case: it is never another's, so what a client has learned stays true when the plain name
//! is given or found taken. Order is that of the configuration, then by name.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sentinel_names::{MAX_SAFE, Names, safe};
use serde_json::value::RawValue;

use super::schema::ArgumentSchema;
use super::splice::{self, Edit};

mod owners;
#[cfg(test)]
mod tests;

use self::owners::{Given, Rights, land};
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

    pub fn set(&mut self, list: List, offers: Vec<Offer>) {
        match list {
            List::Tools => self.tools = offers,
            List::Resources => self.resources = offers,
            List::Templates => self.templates = offers,
            List::Prompts => self.prompts = offers,
        }
    }
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
                // A backend whose names always have its own before them has no plain ones.
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
    pub fn find_template(&self, uri: &str) -> Option<&Arc<Entry>> {
        let fitting = |least: usize| {
            let all = self.list(List::Templates).iter().zip(&self.since);
            all.filter_map(move |(entry, since)| {
                literal(&entry.name, uri)
                    .filter(|length| *length >= least)
                    .map(|length| (entry, *since, length))
            })
        };
        // One that begins with an expression would have every URI; it gets what is left.
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

/// One list while it is made.
struct Merged<'a> {
    list: List,
    safe_names: bool,
    backends: &'a HashSet<&'a str>,
    owners: &'a mut Owners,
    entries: Vec<Arc<Entry>>,
    index: HashMap<Arc<str>, Arc<Entry>>,
}

impl Merged<'_> {
    /// The tools or prompts of a backend. Their plain names are asked for first, so that a longer one never stands in the
    /// way of a plain one of the same server; and what keeps its spelling comes before what is spelled like it.
    fn named(&mut self, part: &Part<'_>, rights: Rights) {
        let offers = sorted(part.offers.get(self.list));
        let mut order: Vec<usize> = (0..offers.len()).collect();
        order.sort_by_key(|index| self.spelled(&offers[*index].name) != offers[*index].name);
        let (always_prefix, backends) = (part.always_prefix, self.backends);
        self.owners.renew(self.list, part.backend, |name| {
            rights_to(name, part.backend, backends, rights).filter(|_| !always_prefix)
        });
        let mut plain = vec![NOTHING; offers.len()];
        for index in &order {
            plain[*index] = self.plain(part, offers[*index], rights);
        }
        let mut longer: Vec<Option<String>> = vec![None; offers.len()];
        let mut used = HashSet::new();
        for index in order {
            longer[index] = self.longer(part, offers[index], &mut used);
        }
        for (offer, (given, longer)) in offers.into_iter().zip(plain.into_iter().zip(longer)) {
            let name = self.spelled(&offer.name);
            let shown = if given.shown { Some(&*name) } else { longer.as_deref() };
            let Some(shown) = shown.filter(|shown| !self.index.contains_key(*shown)) else {
                self.left_out(part, offer, "no name is left for it");
                continue;
            };
            // Whatever it is shown as, to rules it is only its own.
            let ruled: Cow<'_, str> = match &longer {
                _ if given.ruled => Cow::Borrowed(&*name),
                Some(longer) => Cow::Borrowed(longer.as_str()),
                // A name that no rule can mean by mistake: without a backend no pattern has a `/`.
                None => format!("{}/{}", part.backend, offer.name).into(),
            };
            let entry = Arc::new(entry(self.list, part, offer, &ruled, shown));
            self.index.insert(entry.shown.clone(), entry.clone());
            if let Some(longer) = longer.filter(|longer| !self.index.contains_key(longer.as_str())) {
                self.index.insert(longer.into(), entry.clone());
            }
            self.entries.push(entry);
        }
    }

    /// The resources or templates of a backend. The first owner serves them; there is no other name to show them under.
    fn by_uri(&mut self, part: &Part<'_>, rights: Rights, described: impl Fn(&str) -> bool) {
        self.owners.renew(self.list, part.backend, |uri| (!described(uri)).then_some(rights));
        for offer in sorted(part.offers.get(self.list)) {
            let new = !self.owners.has(self.list, &offer.name);
            if new && described(&offer.name) {
                self.left_out(part, offer, "a template of a backend before it describes this");
                continue;
            }
            let given = self.owners.ask(self.list, &offer.name, part.backend, &offer.upstream, rights);
            if given.shown && !self.index.contains_key(offer.name.as_str()) {
                let entry = Arc::new(entry(self.list, part, offer, &offer.name, &offer.name));
                self.index.insert(entry.shown.clone(), entry.clone());
                self.entries.push(entry);
            } else if !new || rights.shows {
                self.left_out(part, offer, "another backend already serves this");
            }
        }
    }

    fn plain(&mut self, part: &Part<'_>, offer: &Offer, rights: Rights) -> Given {
        if part.always_prefix {
            return NOTHING;
        }
        let name = self.spelled(&offer.name);
        let Some(rights) = rights_to(&name, part.backend, self.backends, rights) else { return NOTHING };
        self.owners.ask(self.list, &name, part.backend, &offer.upstream, rights)
    }

    /// The name that is an offer's whoever else is there: with its backend before it, and with a checksum behind it if
    /// another offer of the same backend has that already. None if the name belongs to a backend with a longer name.
    fn longer(&mut self, part: &Part<'_>, offer: &Offer, used: &mut HashSet<String>) -> Option<String> {
        let first = self.spelled(&format!("{}_{}", part.backend, offer.name)).into_owned();
        if land(&first, self.backends) != Some(&**part.backend) {
            return None;
        }
        let mark = format!("_{:08x}", crc32fast::hash(offer.upstream.as_bytes()));
        let mut cut = first.len().min(MAX_SAFE - mark.len());
        while !first.is_char_boundary(cut) {
            cut -= 1;
        }
        let second = format!("{}{mark}", first.get(..cut).unwrap_or_default());
        let name = [first, second].into_iter().find(|name| {
            let all = Rights { shows: true, rules: true };
            let asked = self.owners.ask(self.list, name, part.backend, &offer.upstream, all);
            // Where nothing more is remembered, what is free is enough: the name is this backend's.
            !used.contains(name) && (asked.shown || !self.owners.has(self.list, name))
        })?;
        used.insert(name.clone());
        Some(name)
    }

    /// In characters that every client takes, if that is wanted.
    fn spelled<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.safe_names { safe(name) } else { Cow::Borrowed(name) }
    }

    fn left_out(&mut self, part: &Part<'_>, offer: &Offer, why: &str) {
        if self.owners.tells(self.list, part.backend, &offer.upstream) {
            let name: String = offer.name.chars().take(128).collect();
            let list = self.list.wire().1;
            tracing::warn!(backend = %part.backend, list, "{name:?} is left out: {why}");
        }
    }
}

/// What may be given of a plain name to a backend that has these rights; none if the name belongs to another.
fn rights_to(name: &str, backend: &str, backends: &HashSet<&str>, rights: Rights) -> Option<Rights> {
    match land(name, backends) {
        // Nobody else can have it, so there is nobody to wait for.
        Some(owner) if owner == backend => Some(Rights { shows: true, rules: true }),
        Some(_) => None,
        None => Some(rights),
    }
}

const NOTHING: Given = Given { shown: false, ruled: false };

/// By name, not as the server lists them: some list differently every time, and a client whose prompt begins with the same
/// tools in the same order is served from a cache.
fn sorted(offers: &[Offer]) -> Vec<&Offer> {
    let mut offers: Vec<&Offer> = offers.iter().collect();
    offers.sort_by(|one, other| (&one.name, &one.upstream).cmp(&(&other.name, &other.upstream)));
    offers.dedup_by(|one, other| one.name == other.name && one.upstream == other.upstream);
    offers
}

fn entry(list: List, part: &Part<'_>, offer: &Offer, name: &str, shown: &str) -> Entry {
    let (_, _, key) = list.wire();
    let mut item = offer.item.clone();
    // A name that stays keeps its spelling, too.
    let spelled = splice::get(item.get(), &format!("/{key}"));
    if spelled.and_then(|json| serde_json::from_str::<String>(json).ok()).as_deref() != Some(shown) {
        let set = Edit::Set { pointer: format!("/{key}"), json: super::message::quoted(shown) };
        if let Ok(renamed) = splice::apply(item.get(), &[set]) {
            item = super::message::raw(renamed);
        }
    }
    let arguments = match list {
        List::Tools => part.offers.arguments.get(&offer.name).cloned(),
        List::Resources | List::Templates | List::Prompts => Some(Arc::new(ArgumentSchema::new(None))),
    };
    let shown: Arc<str> = shown.into();
    Entry {
        name: if *name == *shown { shown.clone() } else { name.into() },
        shown,
        upstream: offer.upstream.as_str().into(),
        backend: part.backend.clone(),
        item,
        arguments: arguments.unwrap_or_else(|| Arc::new(ArgumentSchema::unread())),
    }
}
