//! What clients will see of the servers behind an endpoint: names, which of them met, and what the lists cost a model.

use std::collections::BTreeMap;

use crate::mcp::catalog::{Catalog, Entry, List};

/// Bytes of JSON that come to one token, by the rule of thumb for English text and code.
const BYTES_OF_A_TOKEN: usize = 4;

/// The lists of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Every tool, in the order of the list.
    pub tools: Vec<Tool>,
    /// Names that more than one server gives to a tool.
    pub met: Vec<Met>,
    /// How many entries each list has and how long it is: tools, resources, templates, prompts.
    pub lists: Vec<(&'static str, Size)>,
}

/// A tool as clients see it.
#[derive(Clone, Debug)]
pub struct Tool {
    pub shown: String,
    pub backend: String,
    /// What its server calls it.
    pub own: String,
    pub bytes: usize,
}

/// A name that more than one server gives to a tool.
#[derive(Clone, Debug)]
pub struct Met {
    pub name: String,
    /// The server whose tool is shown under it; none if it is nobody's.
    pub owner: Option<String>,
    /// The others, and how theirs is shown.
    pub others: Vec<(String, String)>,
}

/// How much something is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    pub entries: usize,
    pub bytes: usize,
}

/// About how many tokens so many bytes of a list are to a model.
#[must_use]
pub fn tokens(bytes: usize) -> usize {
    bytes.div_ceil(BYTES_OF_A_TOKEN)
}

impl Names {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let tool = |entry: &Entry| Tool {
            shown: entry.shown.to_string(),
            backend: entry.backend.to_string(),
            own: entry.upstream.to_string(),
            bytes: entry.item.get().len(),
        };
        let tools: Vec<Tool> = catalog.list(List::Tools).iter().map(|entry| tool(entry)).collect();
        let size = |list: List| {
            let entries = catalog.list(list);
            let bytes = entries.iter().map(|entry| entry.item.get().len()).sum();
            (list.wire().1, Size { entries: entries.len(), bytes })
        };
        Self { met: met(&tools), tools, lists: List::ALL.map(size).to_vec() }
    }

    /// The part of one backend in the list of tools.
    #[must_use]
    pub fn of_backend(&self, backend: &str) -> Size {
        let own = self.tools.iter().filter(|tool| tool.backend == backend);
        own.fold(Size::default(), |sum, tool| Size {
            entries: sum.entries + 1,
            bytes: sum.bytes + tool.bytes,
        })
    }
}

fn met(tools: &[Tool]) -> Vec<Met> {
    let mut by_own: BTreeMap<&str, Vec<&Tool>> = BTreeMap::new();
    for tool in tools {
        by_own.entry(&tool.own).or_default().push(tool);
    }
    let met = |(name, of): (&str, Vec<&Tool>)| {
        if of.iter().all(|tool| tool.backend == of[0].backend) {
            return None;
        }
        let (owners, others): (Vec<&Tool>, Vec<&Tool>) = of.into_iter().partition(|tool| tool.shown == name);
        Some(Met {
            name: name.to_owned(),
            owner: owners.first().map(|tool| tool.backend.clone()),
            others: others.iter().map(|tool| (tool.backend.clone(), tool.shown.clone())).collect(),
        })
    };
    by_own.into_iter().filter_map(met).collect()
}
