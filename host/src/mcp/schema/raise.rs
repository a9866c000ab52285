//! From the graph back to a schema, for the library that judges: only keywords that count, references by number, all
//! patterns in the engine's spelling.

use std::collections::HashMap;

use jsonschema::Draft;
use serde_json::{Map, Value, json};

use super::lower::Lowered;
use super::node::{Id, Node, ROOT, Word};

/// The schema of a graph.
pub(super) fn raise(lowered: &Lowered) -> Value {
    let Lowered { nodes, draft, .. } = lowered;
    let mut raising = Raising { nodes, draft: *draft, numbers: HashMap::new(), open: Vec::new() };
    // What something points at stands apart, whatever else it is part of.
    for node in nodes {
        for (keyword, word) in &node.words {
            if let ("$ref", Word::One(target)) = (*keyword, word) {
                raising.number(*target);
            }
        }
    }
    raising.open.clear();
    let mut schema = raising.body(ROOT);
    let mut definitions = Map::new();
    let mut made = vec![false; raising.numbers.len()];
    while let Some(id) = raising.open.pop() {
        let number = raising.numbers.get(&id).copied().unwrap_or_default();
        if !std::mem::replace(&mut made[number], true) {
            definitions.insert(number.to_string(), raising.body(id));
        }
    }
    if let Value::Object(map) = &mut schema
        && !definitions.is_empty()
    {
        map.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

struct Raising<'n> {
    nodes: &'n [Node],
    draft: Draft,
    /// Those that stand apart.
    numbers: HashMap<Id, usize>,
    /// Those that were pointed at.
    open: Vec<Id>,
}

impl Raising<'_> {
    fn number(&mut self, id: Id) {
        let next = self.numbers.len();
        if id != ROOT {
            self.numbers.entry(id).or_insert(next);
        }
    }

    /// A schema where it stands, or the reference to it.
    fn schema(&mut self, id: Id) -> Value {
        if self.numbers.contains_key(&id) { json!({"$ref": self.reference(id)}) } else { self.body(id) }
    }

    /// Where one that stands apart is found.
    fn reference(&mut self, id: Id) -> String {
        match self.numbers.get(&id) {
            Some(number) => {
                self.open.push(id);
                format!("#/$defs/{number}")
            }
            None => "#".to_owned(),
        }
    }

    fn body(&mut self, id: Id) -> Value {
        let node = &self.nodes[id];
        if node.never {
            return if self.draft == Draft::Draft4 { json!({"not": {}}) } else { json!(false) };
        }
        if node.words.is_empty() && id != ROOT && self.draft > Draft::Draft4 {
            return json!(true);
        }
        let mut map = Map::new();
        for (keyword, word) in &node.words {
            let value = match word {
                Word::Data(value) => value.clone(),
                Word::One(id) if *keyword == "$ref" => Value::String(self.reference(*id)),
                Word::One(id) => self.schema(*id),
                Word::Many(ids) => Value::Array(ids.iter().map(|id| self.schema(*id)).collect()),
                Word::Named(named) => {
                    Value::Object(named.iter().map(|(name, id)| (name.clone(), self.schema(*id))).collect())
                }
            };
            map.insert((*keyword).to_owned(), value);
        }
        Value::Object(map)
    }
}
