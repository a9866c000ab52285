//! What clients will see of the servers behind an endpoint: the names, which of them two servers share, and how many
//! tokens of a model's context the lists take.

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
    /// How many tools each server has and how long they are.
    pub backends: Vec<(String, Size)>,
    /// How many entries each list has and how long it is: tools, resources, templates, prompts.
    pub lists: Vec<(&'static str, Size)>,
}

/// A tool as clients see it.
#[derive(Clone, Debug)]
pub struct Tool {
    pub shown: String,
    pub backend: String,
    /// The server's own name for it.
    pub own: String,
    pub bytes: usize,
}

/// A name that more than one server gives to a tool.
#[derive(Clone, Debug)]
pub struct Met {
    pub name: String,
    /// The server whose tool is shown under it; `None` if no tool is.
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
        Self { met: met(&tools), backends: by_backend(&tools), tools, lists: List::ALL.map(size).to_vec() }
    }
}

/// The part of each server in the list of tools, in the order of the list.
fn by_backend(tools: &[Tool]) -> Vec<(String, Size)> {
    let mut backends: Vec<(String, Size)> = Vec::new();
    for tool in tools {
        let at = backends.iter().position(|(backend, _)| *backend == tool.backend);
        let at = at.unwrap_or_else(|| {
            backends.push((tool.backend.clone(), Size::default()));
            backends.len() - 1
        });
        backends[at].1.entries += 1;
        backends[at].1.bytes += tool.bytes;
    }
    backends
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(shown: &str, backend: &str, own: &str) -> Tool {
        Tool { shown: shown.to_owned(), backend: backend.to_owned(), own: own.to_owned(), bytes: 10 }
    }

    #[test]
    fn names_that_met_are_told_with_whose_they_are() {
        let tools = [
            tool("read", "one", "read"),
            tool("a_b", "one", "a.b"),
            tool("two_read", "two", "read"),
            tool("two_x", "two", "x"),
            tool("three_x", "three", "x"),
        ];
        let met = met(&tools);
        let of = |met: &Met| (met.name.clone(), met.owner.clone(), met.others.clone());
        let other = |backend: &str, shown: &str| (backend.to_owned(), shown.to_owned());
        assert_eq!(
            met.iter().map(of).collect::<Vec<_>>(),
            [
                ("read".to_owned(), Some("one".to_owned()), vec![other("two", "two_read")]),
                ("x".to_owned(), None, vec![other("two", "two_x"), other("three", "three_x")]),
            ]
        );
        let sizes: Vec<_> =
            by_backend(&tools).into_iter().map(|(name, size)| (name, size.entries, size.bytes)).collect();
        assert_eq!(
            sizes,
            [("one".to_owned(), 2, 20), ("two".to_owned(), 2, 20), ("three".to_owned(), 1, 10)]
        );
        assert_eq!((tokens(0), tokens(1), tokens(4), tokens(5)), (0, 1, 1, 2));
    }
}
