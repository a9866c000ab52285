//! What judging one place of the arguments costs, and how such costs add up.

use serde_json::Value;

use super::node::{Node, Word};

/// Deepest arguments: JSON that is nested deeper is not read.
pub(super) const LEVELS: usize = 128;
/// More than this is no number of steps but a way to say never.
const ENDLESS: f64 = 1e15;

/// What one place costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Load {
    /// Keywords looked at, for every value and every key.
    pub(super) visits: f64,
    /// Steps for every byte of text.
    pub(super) per_byte: f64,
    /// Lists whose items are compared with each other.
    pub(super) compared: f64,
}

impl Load {
    pub(super) fn add(&mut self, other: Self, times: f64) {
        self.visits += other.visits * times;
        self.per_byte += other.per_byte * times;
        self.compared += other.compared * times;
    }

    pub(super) fn at_least(&mut self, other: Self) {
        self.visits = self.visits.max(other.visits);
        self.per_byte = self.per_byte.max(other.per_byte);
        self.compared = self.compared.max(other.compared);
    }

    pub(super) fn is_endless(self) -> bool {
        !(self.visits < ENDLESS && self.per_byte < ENDLESS && self.compared < ENDLESS)
    }

    /// What one schema costs by itself, without those under it.
    pub(super) fn of(node: &Node) -> Self {
        let mut load = Self { visits: 1.0, per_byte: node.states, compared: 0.0 };
        for (keyword, word) in &node.words {
            load.visits += 1.0
                + match word {
                    Word::Data(value) => size_of(value),
                    Word::Named(named) => count(named.len()),
                    Word::One(_) | Word::Many(_) => 0.0,
                };
            match *keyword {
                "minLength" | "maxLength" => load.per_byte += 0.25,
                "uniqueItems" => load.compared += 1.0,
                _ => {}
            }
        }
        load
    }
}

/// Steps to compare something with a value.
pub(super) fn size_of(value: &Value) -> f64 {
    match value {
        Value::String(text) => 1.0 + count(text.len()) / 16.0,
        Value::Array(items) => 1.0 + items.iter().map(size_of).sum::<f64>(),
        Value::Object(map) => {
            1.0 + map.iter().map(|(key, value)| 1.0 + count(key.len()) / 16.0 + size_of(value)).sum::<f64>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 1.0,
    }
}

pub(super) fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
