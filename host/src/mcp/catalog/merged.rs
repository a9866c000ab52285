//! One merged list while it is made: which name each offer gets.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sentinel_names::{MAX_SAFE, safe};

use super::owners::{Given, Owners, Rights, land};
use super::{Entry, List, Offer, Part};
use crate::mcp::message;
use crate::mcp::schema::ArgumentSchema;
use crate::mcp::splice::{self, Edit};

/// One list while it is made.
pub(super) struct Merged<'a> {
    pub(super) list: List,
    pub(super) safe_names: bool,
    pub(super) backends: &'a HashSet<&'a str>,
    pub(super) owners: &'a mut Owners,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) index: HashMap<Arc<str>, Arc<Entry>>,
}

impl Merged<'_> {
    /// The tools or prompts of a backend. Their plain names are asked for first, so that a longer one never stands in the
    /// way of a plain one of the same server; and what keeps its spelling comes before what is spelled like it.
    pub(super) fn named(&mut self, part: &Part<'_>, rights: Rights) {
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
            // Under whatever name it is shown, rules know it by its own name only.
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
    pub(super) fn by_uri(&mut self, part: &Part<'_>, rights: Rights, described: impl Fn(&str) -> bool) {
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
        if self.list == List::Resources {
            self.of_tools(part, rights, described);
        }
    }

    /// The pages that tools are shown with (MCP Apps): they need not be listed, and are found all the same.
    fn of_tools(&mut self, part: &Part<'_>, rights: Rights, described: impl Fn(&str) -> bool) {
        for uri in part.offers.tools.iter().filter_map(|tool| page(tool.item.get())) {
            if self.index.contains_key(uri.as_str()) || described(&uri) {
                continue;
            }
            if self.owners.ask(self.list, &uri, part.backend, &uri, rights).shown {
                let item = message::raw(format!("{{\"uri\":{}}}", message::quoted(&uri)));
                let offer = Offer { name: uri.clone(), upstream: uri, item };
                let entry = Arc::new(entry(self.list, part, &offer, &offer.name, &offer.name));
                self.index.insert(entry.shown.clone(), entry);
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

    /// The name that an offer has whatever other backends list: with its backend before it, and with a checksum behind it
    /// if another offer of the same backend has that already. None if the name belongs to a backend with a longer name.
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

/// The address of the page that a tool is shown with, in any of the three places where servers write it.
fn page(tool: &str) -> Option<String> {
    const PLACES: [&str; 3] =
        ["/_meta/ui/resourceUri", "/_meta/ui~1resourceUri", "/_meta/openai~1outputTemplate"];
    if !(tool.contains("resourceUri") || tool.contains("outputTemplate")) {
        return None;
    }
    let uri = PLACES.into_iter().find_map(|place| splice::get(tool, place))?;
    serde_json::from_str(uri).ok().filter(|uri: &String| !uri.is_empty())
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
        let set = Edit::Set { pointer: format!("/{key}"), json: message::quoted(shown) };
        if let Ok(renamed) = splice::apply(item.get(), &[set]) {
            item = message::raw(renamed);
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
