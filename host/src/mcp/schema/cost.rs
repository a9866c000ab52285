//! Computes from the schema alone what judging can cost at most: how often one place of the arguments is visited, for
//! each depth of arguments, and what a visit costs. It is a bound and not an estimate; the tests compare it with a real
//! count.
//!
//! Schemas that judge one place together (`allOf`, `anyOf`, `$ref` and so on) are a graph without cycles, and make one sum.
//! From there each property or item leads to the sums of the schemas under it; that is done once for every level that
//! arguments can have, so a schema that contains itself twice doubles from level to level, as its judging would.

use serde_json::Value;

use super::graph::{Entangled, Graph};
use super::load::{Load, count, size_of};
use super::lower::Lowered;
use super::node::{Node, Word};

/// The steps that may be taken where calls are served; about 40 ms if every single one is a slow one.
const STEPS_IN_PLACE: f64 = 8_000_000.0;
/// Schemas that call each other while one call is judged; each takes some of the thread's stack.
const NESTED_IN_PLACE: f64 = 500.0;
/// Visits after which the place of a mistake is not looked for any more.
const VISITS_FOR_PLACE: f64 = 100_000.0;
/// How many nodes a compiled schema in memory may have.
const NODES: usize = 10_000;
const PATTERNS: usize = 500;
const STATES: f64 = 50_000.0;
/// The same if it says something about what no other keyword has looked at.
const UNEVALUATED: usize = 300;
/// Where not even a helper tries.
const HOPELESS_PATTERNS: usize = 5_000;
const HOPELESS_STATES: f64 = 1_000_000.0;

/// How large arguments are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Size {
    /// Values and keys.
    pub(super) values: f64,
    /// Bytes of all texts.
    pub(super) bytes: f64,
    /// Levels below the first.
    pub(super) depth: usize,
}

impl Size {
    pub(super) fn of(value: &Value) -> Self {
        let mut size = Self::default();
        size.take(value, 0);
        size
    }

    fn take(&mut self, value: &Value, depth: usize) {
        self.values += 1.0;
        self.depth = self.depth.max(depth);
        match value {
            Value::String(text) => self.bytes += count(text.len()),
            Value::Array(items) => items.iter().for_each(|item| self.take(item, depth + 1)),
            Value::Object(map) => {
                for (key, value) in map {
                    self.values += 1.0;
                    self.bytes += count(key.len());
                    self.take(value, depth + 1);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// What judging by one schema costs.
#[derive(Debug)]
pub(super) struct Cost {
    /// By the depth of the arguments; deeper ones cost what the last says.
    levels: Vec<Load>,
    /// Most schemas that call each other at one place.
    chain: f64,
    /// Bytes of memory that the compiled schema takes, roughly and rather too many.
    pub(super) memory: usize,
}

/// Where a schema is judged.
#[derive(Debug)]
pub(super) enum Class {
    /// Where calls are served, unless the arguments are too large for that.
    Light(Cost),
    /// By a helper; why.
    Heavy(String),
    /// Nowhere; why.
    Unusable(String),
}

/// Sorts a schema.
pub(super) fn class(lowered: &Lowered, steps: &mut usize) -> Class {
    let nodes = &lowered.nodes;
    let patterns: usize = nodes.iter().map(patterns_of).sum();
    let states: f64 = nodes.iter().map(|node| node.states + node.key_states).sum();
    if patterns > HOPELESS_PATTERNS || states > HOPELESS_STATES {
        return Class::Unusable(format!(
            "its {patterns} patterns are too many or too large to be compiled (at most {HOPELESS_PATTERNS}, together {HOPELESS_STATES} states)"
        ));
    }
    if nodes.len() > NODES || patterns > PATTERNS || states > STATES {
        return Class::Heavy(format!("it has {} schemas and {patterns} patterns", nodes.len()));
    }
    // Their compiler follows every reference on its stack.
    let unevaluated = nodes.iter().any(Node::looks_at_the_rest);
    if unevaluated && nodes.len() > UNEVALUATED {
        return Class::Heavy(format!("it has `unevaluated…` and {} schemas", nodes.len()));
    }
    let compared = |(keyword, word): &(&str, Word)| match word {
        // Up to draft 6 the items of this list are compared with each other when the schema is compiled.
        Word::Data(Value::Array(list)) => {
            *keyword == "enum" && list.len() > 500 && !list.iter().all(is_single)
        }
        _ => false,
    };
    if lowered.draft <= jsonschema::Draft::Draft6 && nodes.iter().flat_map(|node| &node.words).any(compared) {
        return Class::Heavy("it has a long list of lists or objects under `enum`".to_owned());
    }
    let graph = match Graph::new(nodes, steps) {
        Ok(graph) => graph,
        Err(Entangled::Cycle) => {
            return Class::Heavy("a schema in it refers to itself at the same place".to_owned());
        }
        Err(Entangled::Large) => {
            return Class::Heavy("its schemas refer to each other in too many ways".to_owned());
        }
    };
    let texts: f64 = nodes
        .iter()
        .flat_map(|node| &node.words)
        .map(|(_, word)| match word {
            Word::Data(value) => size_of(value),
            Word::One(_) | Word::Many(_) | Word::Named(_) => 1.0,
        })
        .sum();
    let memory = count(nodes.len()) * 1500.0 + states * 200.0 + texts * 100.0;
    let cost = Cost { levels: graph.levels(), chain: graph.chain(), memory: whole(memory) };
    if cost.allows(&Size { values: 3.0, bytes: 16.0, depth: 1 }) {
        Class::Light(cost)
    } else {
        Class::Heavy("its schemas judge the same place again and again".to_owned())
    }
}

impl Cost {
    /// Whether arguments of this size can be judged where calls are served.
    pub(super) fn allows(&self, size: &Size) -> bool {
        let load = self.at(size.depth);
        // A visit is slower than a step of a machine for patterns.
        let steps = 8.0 * load.visits * size.values
            + load.per_byte * size.bytes
            + 2.0 * load.compared * size.values * size.values;
        steps <= STEPS_IN_PLACE && self.chain * (count(size.depth) + 1.0) <= NESTED_IN_PLACE
    }

    /// Whether the place of a mistake can be looked for as well.
    pub(super) fn allows_place(&self, size: &Size) -> bool {
        self.at(size.depth).visits * size.values <= VISITS_FOR_PLACE
    }

    pub(super) fn at(&self, depth: usize) -> Load {
        self.levels.get(depth).or(self.levels.last()).copied().unwrap_or_default()
    }
}

fn patterns_of(node: &Node) -> usize {
    let own = usize::from(node.get("pattern").is_some());
    own + match node.get("patternProperties") {
        Some(Word::Named(named)) => named.len(),
        _ => 0,
    }
}

fn is_single(value: &Value) -> bool {
    !matches!(value, Value::Array(_) | Value::Object(_))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size, rounded; too large becomes the largest"
)]
fn whole(number: f64) -> usize {
    number as usize
}
