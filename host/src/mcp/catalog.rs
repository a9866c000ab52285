//! The merged lists of all backends: who offers what, under which name.
//!
//! Names are looked up in an index, never split. A name stays unprefixed while it is unique; on a collision
//! the backend that served it first keeps it and the other's becomes `backend_name`, so that a newcomer can
//! never take over a name that a client already knows. Order is that of the configuration, then by name.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::schema::ArgumentSchema;
use super::splice::{self, Edit};

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
}

/// One tool, resource, template or prompt.
#[derive(Debug)]
pub struct Entry {
    /// What clients call it.
    pub name: Arc<str>,
    /// What its backend calls it.
    pub upstream: Arc<str>,
    pub backend: Arc<str>,
    /// The item as clients see it.
    pub item: Box<RawValue>,
    /// Tools only; accepts everything for the rest.
    pub arguments: Arc<ArgumentSchema>,
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

/// Who a plain name belongs to, for as long as the gateway lives.
#[derive(Debug, Default)]
pub struct Owners(HashMap<(List, String), Arc<str>>);

/// One backend's part in a merge.
#[derive(Debug)]
pub struct Part<'a> {
    pub backend: &'a Arc<str>,
    pub always_prefix: bool,
    /// Names in characters that every client takes.
    pub safe_names: bool,
    pub offers: &'a Offers,
}

/// An immutable snapshot of everything on offer.
#[derive(Debug, Default)]
pub struct Catalog {
    lists: HashMap<List, Vec<Arc<Entry>>>,
    index: HashMap<List, HashMap<Arc<str>, Arc<Entry>>>,
}

impl Catalog {
    /// Merges the parts, which come in the order of the configuration.
    #[must_use]
    pub fn merge(parts: &[Part<'_>], owners: &mut Owners) -> Self {
        let mut catalog = Self::default();
        for list in List::ALL {
            let mut entries: Vec<Arc<Entry>> = Vec::new();
            let mut index: HashMap<Arc<str>, Arc<Entry>> = HashMap::new();
            for part in parts {
                // By name, not as the server lists them: some list differently every time, and a client whose prompt
                // begins with the same tools in the same order is served from a cache.
                let mut offers: Vec<&Offer> = part.offers.get(list).iter().collect();
                offers.sort_by(|one, other| one.name.cmp(&other.name));
                offers.dedup_by(|one, other| one.name == other.name);
                for offer in offers {
                    let Some(name) = name_for(list, part, offer, owners, &index) else {
                        tracing::warn!(backend = %part.backend, name = %offer.name, "another backend already serves this; left out");
                        continue;
                    };
                    let entry = Arc::new(entry(list, part, offer, name));
                    index.insert(entry.name.clone(), entry.clone());
                    entries.push(entry);
                }
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

    /// The entry clients know by this name.
    #[must_use]
    pub fn find(&self, list: List, name: &str) -> Option<&Arc<Entry>> {
        self.index.get(&list)?.get(name)
    }

    /// The template a URI belongs to: the one with the longest literal beginning that fits (a linear match;
    /// RFC 6570 expressions are not evaluated, the backend does that).
    #[must_use]
    pub fn find_template(&self, uri: &str) -> Option<&Arc<Entry>> {
        self.list(List::Templates)
            .iter()
            .filter_map(|entry| {
                let (head, tail) = entry.name.split_once('{')?;
                let tail = tail.rsplit_once('}').map_or("", |(_, tail)| tail);
                (uri.len() >= head.len() + tail.len() && uri.starts_with(head) && uri.ends_with(tail))
                    .then_some((head.len(), entry))
            })
            // The first of equals: the order of the configuration decides.
            .fold(None, |best: Option<(usize, &Arc<Entry>)>, next| match best {
                Some(best) if best.0 >= next.0 => Some(best),
                _ => Some(next),
            })
            .map(|(_, entry)| entry)
    }
}

/// The name an offer gets, or none if it must be left out.
fn name_for(
    list: List,
    part: &Part<'_>,
    offer: &Offer,
    owners: &mut Owners,
    taken: &HashMap<Arc<str>, Arc<Entry>>,
) -> Option<String> {
    // URIs are opaque and part of results and links: they are never prefixed, the first owner serves them.
    let prefixable = matches!(list, List::Tools | List::Prompts);
    let spelled = |name: String| if part.safe_names && prefixable { safe(name) } else { name };
    if !(part.always_prefix && prefixable) {
        let name = spelled(offer.name.clone());
        let owner = owners.0.entry((list, name.clone())).or_insert_with(|| part.backend.clone());
        if owner == part.backend && !taken.contains_key(name.as_str()) {
            return Some(name);
        }
        if !prefixable {
            return None;
        }
    }
    let prefixed = spelled(format!("{}_{}", part.backend, offer.name));
    let owner = owners.0.entry((list, prefixed.clone())).or_insert_with(|| part.backend.clone());
    (owner == part.backend && !taken.contains_key(prefixed.as_str())).then_some(prefixed)
}

/// The longest name that every client takes.
const MAX_SAFE_NAME: usize = 64;

/// A name as all clients take it: many accept `[a-zA-Z0-9_-]{1,64}` only, though MCP allows more. What had to be cut
/// or spelled otherwise still tells two names apart.
fn safe(name: String) -> String {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if name.len() <= MAX_SAFE_NAME && name.bytes().all(fits) {
        return name;
    }
    let spelled: String = name.chars().map(|c| if c.is_ascii() && fits(c as u8) { c } else { '_' }).collect();
    if spelled.len() <= MAX_SAFE_NAME {
        return spelled;
    }
    format!("{}_{:08x}", &spelled[..MAX_SAFE_NAME - 9], crc32fast::hash(name.as_bytes()))
}

fn entry(list: List, part: &Part<'_>, offer: &Offer, name: String) -> Entry {
    let (_, _, key) = list.wire();
    let mut item = offer.item.clone();
    let set = Edit::Set { pointer: format!("/{key}"), json: super::message::quoted(&name) };
    // A name that stays keeps its spelling, too.
    let spelled = splice::get(item.get(), &format!("/{key}"));
    if spelled.and_then(|json| serde_json::from_str::<String>(json).ok()).as_deref() != Some(name.as_str())
        && let Ok(renamed) = splice::apply(item.get(), &[set])
    {
        item = super::message::raw(renamed);
    }
    let arguments = match list {
        List::Tools => part.offers.arguments.get(&offer.name).cloned(),
        List::Resources | List::Templates | List::Prompts => Some(Arc::new(ArgumentSchema::new(None))),
    };
    Entry {
        name: name.into(),
        upstream: offer.upstream.as_str().into(),
        backend: part.backend.clone(),
        item,
        arguments: arguments.unwrap_or_else(|| Arc::new(ArgumentSchema::unread())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn offers(names: &[&str]) -> Offers {
        let tools = names.iter().map(|name| Offer {
            name: (*name).to_owned(),
            upstream: (*name).to_owned(),
            item: RawValue::from_string(format!(r#"{{"name":"{name}","x":1.0}}"#)).unwrap(),
        });
        Offers { tools: tools.collect(), ..Offers::default() }
    }

    fn names(catalog: &Catalog) -> Vec<&str> {
        catalog.list(List::Tools).iter().map(|entry| &*entry.name).collect()
    }

    #[test]
    fn a_collision_prefixes_the_later_one_and_the_index_strips_it() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let (of_a, of_b) = (offers(&["search", "read"]), offers(&["search", "write"]));
        let part = |backend, offers| Part { backend, always_prefix: false, safe_names: true, offers };
        let mut owners = Owners::default();
        let catalog = Catalog::merge(&[part(&a, &of_a), part(&b, &of_b)], &mut owners);
        assert_eq!(names(&catalog), ["read", "search", "b_search", "write"]);
        let entry = catalog.find(List::Tools, "b_search").unwrap();
        assert_eq!((&*entry.backend, &*entry.upstream), ("b", "search"));
        assert_eq!(entry.item.get(), r#"{"name":"b_search","x":1.0}"#);
    }

    #[test]
    fn names_fit_every_client_and_stay_apart() {
        assert_eq!(safe("read_file-2".into()), "read_file-2");
        assert_eq!(safe("files.read/all".into()), "files_read_all");
        let (one, two) = (safe(format!("{}1", "x".repeat(80))), safe(format!("{}2", "x".repeat(80))));
        assert!(one.len() == 64 && two.len() == 64 && one != two);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let (of_a, of_b) = (offers(&["x.y"]), offers(&["x_y"]));
        let part = |backend, offers| Part { backend, always_prefix: false, safe_names: true, offers };
        let catalog = Catalog::merge(&[part(&a, &of_a), part(&b, &of_b)], &mut Owners::default());
        assert_eq!(names(&catalog), ["x_y", "b_x_y"]);
        assert_eq!(&*catalog.find(List::Tools, "x_y").unwrap().upstream, "x.y");
    }

    #[test]
    fn a_newcomer_never_takes_over_a_name() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let (none, of_a, of_b) = (Offers::default(), offers(&["search"]), offers(&["search"]));
        let part = |backend, offers| Part { backend, always_prefix: false, safe_names: true, offers };
        let mut owners = Owners::default();
        // b is up first and serves `search`; a, earlier in the file, arrives later.
        let _ = Catalog::merge(&[part(&a, &none), part(&b, &of_b)], &mut owners);
        let catalog = Catalog::merge(&[part(&a, &of_a), part(&b, &of_b)], &mut owners);
        assert_eq!(&*catalog.find(List::Tools, "search").unwrap().backend, "b");
        assert_eq!(names(&catalog), ["a_search", "search"]);
        // And while b is down, nobody else gets its name.
        let catalog = Catalog::merge(&[part(&a, &of_a), part(&b, &none)], &mut owners);
        assert!(catalog.find(List::Tools, "search").is_none());
    }

    #[test]
    fn templates_are_found_by_their_longest_literal_beginning() {
        let a: Arc<str> = "a".into();
        let template = |uri: &str| Offer {
            name: uri.to_owned(),
            upstream: uri.to_owned(),
            item: RawValue::from_string("{}".to_owned()).unwrap(),
        };
        let offers = Offers {
            templates: vec![template("db://{x}"), template("db://t/{id}/row")],
            ..Offers::default()
        };
        let part = Part { backend: &a, always_prefix: false, safe_names: true, offers: &offers };
        let catalog = Catalog::merge(&[part], &mut Owners::default());
        assert_eq!(&*catalog.find_template("db://t/7/row").unwrap().name, "db://t/{id}/row");
        assert_eq!(&*catalog.find_template("db://t/7").unwrap().name, "db://{x}");
        assert!(catalog.find_template("file:///x").is_none());
    }
}
