//! The graph that a schema is while it is looked at: its keywords that count, each with data or with other schemas.

use serde_json::Value;

/// The number of a node.
pub(super) type Id = usize;

/// The number of the schema itself.
pub(super) const ROOT: Id = 0;

/// One schema of a document.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) words: Vec<(&'static str, Word)>,
    /// The schema `false`.
    pub(super) never: bool,
    /// Something was left out: it accepts more than was meant.
    pub(super) cut: bool,
    /// Something was left out that says which properties or items have been looked at.
    pub(super) lost: bool,
    /// States of the machine of its own pattern, and of those for the names of properties.
    pub(super) states: f64,
    pub(super) key_states: f64,
}

/// What stands under a keyword.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Data(Value),
    One(Id),
    Many(Vec<Id>),
    Named(Vec<(String, Id)>),
}

impl Word {
    /// The schemas under it.
    pub(super) fn ids(&self) -> Vec<Id> {
        match self {
            Self::Data(_) => Vec::new(),
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
            Self::Named(named) => named.iter().map(|(_, id)| *id).collect(),
        }
    }
}

impl Node {
    pub(super) fn get(&self, keyword: &str) -> Option<&Word> {
        self.words.iter().find(|(name, _)| *name == keyword).map(|(_, word)| word)
    }

    /// Whether it is about what no other keyword has looked at.
    pub(super) fn looks_at_the_rest(&self) -> bool {
        self.get("unevaluatedProperties").is_some() || self.get("unevaluatedItems").is_some()
    }

    /// Takes a keyword away; whether there was one.
    pub(super) fn remove(&mut self, keyword: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|(name, _)| *name != keyword);
        self.words.len() < before
    }

    /// One more schema that must fit.
    pub(super) fn all_of(&mut self, id: Id) {
        match self.words.iter_mut().find(|(name, _)| *name == "allOf") {
            Some((_, Word::Many(all))) => all.push(id),
            _ => self.words.push(("allOf", Word::Many(vec![id]))),
        }
    }
}
