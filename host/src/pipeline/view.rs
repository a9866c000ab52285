//! A list as a client was given it, and whether it would be given another one now.

use std::sync::Arc;

use super::{CallId, Failure, Generation, Pipeline};
use crate::call::{About, Call, Json, Principal, Target, TargetKind};
use crate::mcp::catalog::{Catalog, Entry, List};
use crate::plugin::Row;

/// A digest that tells one list from another.
pub type Digest = [u8; 32];

/// Who was given a list, and which one.
#[derive(Clone, Debug)]
pub struct View {
    pub list: List,
    pub digest: Digest,
    who: Arc<Principal>,
    session: Arc<str>,
    door: &'static str,
    /// The generation, and how often the lists of its backends had been merged by then.
    merges: (u64, u64),
}

/// A caller who looks at a list.
#[derive(Clone, Debug)]
pub(super) struct Looker<'a> {
    pub(super) who: Arc<Principal>,
    pub(super) session: &'a Arc<str>,
    pub(super) door: &'static str,
}

impl Looker<'_> {
    /// A look at a list, for the policies that say what it shows.
    pub(super) fn call(self, id: CallId, method: &str) -> Call {
        let name: Arc<str> = method.into();
        Call {
            id: id.to_string(),
            method: method.to_owned(),
            target: Target {
                kind: TargetKind::Other,
                name: name.clone(),
                backend: "".into(),
                upstream: name,
            },
            principal: self.who,
            params: Json::empty(),
            session: self.session.clone(),
            door: self.door,
            about: About::default(),
        }
    }
}

impl Pipeline {
    /// The items of a list that a caller may know of.
    pub(super) fn visible<'c>(
        &self,
        generation: &Generation,
        looker: Looker<'_>,
        list: List,
        catalog: &'c Catalog,
    ) -> Result<Vec<&'c Arc<Entry>>, Failure> {
        let kind = match list {
            List::Tools => TargetKind::Tool,
            List::Resources | List::Templates => TargetKind::Resource,
            List::Prompts => TargetKind::Prompt,
        };
        let entries = catalog.list(list);
        let rows: Vec<Row<'_>> = entries.iter().map(|entry| Row { kind, names: entry.names() }).collect();
        let call = Arc::new(looker.call(self.audit.next_id(), list.wire().0));
        let visible = generation.policy().visible(&call, &rows)?;
        Ok(entries.iter().zip(visible).filter_map(|(entry, visible)| visible.then_some(entry)).collect())
    }

    pub(super) fn view(looker: Looker<'_>, list: List, merges: (u64, u64), entries: &[&Arc<Entry>]) -> View {
        let digest = digest(entries);
        let Looker { who, session, door } = looker;
        View { list, digest, who, session: session.clone(), door, merges }
    }

    /// The digest of the list that would be given now. `None` if the policies cannot judge it; then the client is told
    /// of no change. Asks plugins, so it is for threads that may block.
    #[must_use]
    pub(crate) fn digest_now(&self, view: &View) -> Option<Digest> {
        let looker = Looker { who: view.who.clone(), session: &view.session, door: view.door };
        let generation = self.current();
        let catalog = generation.registry().catalog();
        self.visible(&generation, looker, view.list, &catalog).ok().map(|entries| digest(&entries))
    }

    /// Whether the lists of the backends are others than when this was given.
    #[must_use]
    pub(crate) fn has_moved(&self, view: &View) -> bool {
        let generation = self.current();
        let merges = *generation.registry().merges().borrow();
        (generation.id(), merges) != view.merges
    }
}

fn digest(entries: &[&Arc<Entry>]) -> Digest {
    let mut digest = blake3::Hasher::new();
    for entry in entries {
        let text = entry.item.get();
        digest.update(&(text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    }
    *digest.finalize().as_bytes()
}
