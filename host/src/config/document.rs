//! A TOML text as JSON, with the line of every key; so that one JSON Schema can judge it and every
//! mistake can be shown where it stands.
//!
//! Places are JSON pointers (`/backends/2/url`) inside this module's family, and dotted keys
//! (`backends[2].url`) for people.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// What was read.
#[derive(Debug)]
pub(super) struct Document {
    /// The whole text as JSON.
    pub(super) value: Value,
    lines: HashMap<String, usize>,
}

impl Document {
    /// Reads a text, adding what TOML allows and JSON cannot say to `problems`.
    ///
    /// # Errors
    /// The first violation of the TOML grammar.
    pub(super) fn read(text: &str, problems: &mut Vec<Problem>) -> Result<Self, Problem> {
        let starts = Starts::of(text);
        let root = DeTable::parse(text).map_err(|error| Problem {
            key: String::new(),
            line: error.span().map(|span| starts.line(span.start)),
            message: error.message().lines().collect::<Vec<_>>().join("; "),
            hint: None,
        })?;
        let mut reader = Reader { starts, lines: HashMap::new(), odd: Vec::new() };
        let value = reader.table(root.get_ref(), "");
        let document = Self { value, lines: reader.lines };
        problems.extend(reader.odd.into_iter().map(|(at, message)| document.problem(&at, message, None)));
        Ok(document)
    }

    /// The line of a place, or of the nearest table around it that was written.
    pub(super) fn line(&self, pointer: &str) -> Option<usize> {
        let mut at = pointer;
        while !at.is_empty() {
            if let Some(line) = self.lines.get(at) {
                return Some(*line);
            }
            at = parent(at);
        }
        None
    }

    /// A problem at a place.
    pub(super) fn problem(&self, pointer: &str, message: String, hint: Option<String>) -> Problem {
        Problem { key: dotted(pointer), line: self.line(pointer), message, hint }
    }

    /// Removes the value at a place, and returns the place that is gone: for an element of a list the whole
    /// list, because the places of its other elements must not move.
    pub(super) fn prune(&mut self, pointer: &str) -> String {
        let mut at = pointer;
        while !at.is_empty() {
            let (up, last) = (parent(at), last(at));
            match self.value.pointer_mut(up) {
                Some(Value::Object(map)) => {
                    map.shift_remove(&last);
                    return at.to_owned();
                }
                _ => at = up,
            }
        }
        self.value = Value::Object(Map::new());
        String::new()
    }
}

/// Where the lines of a text begin, in bytes.
struct Starts(Vec<usize>);

impl Starts {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line, from 1, of a byte.
    fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte)
    }
}

struct Reader {
    starts: Starts,
    lines: HashMap<String, usize>,
    odd: Vec<(String, String)>,
}

impl Reader {
    fn table(&mut self, table: &DeTable<'_>, at: &str) -> Value {
        let mut map = Map::new();
        for (key, value) in table {
            let place = format!("{at}/{}", escape(key.get_ref()));
            self.lines.insert(place.clone(), self.starts.line(key.span().start));
            map.insert(key.get_ref().clone().into_owned(), self.value(value, &place));
        }
        Value::Object(map)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, at: &str) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.clone().into_owned()),
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Integer(digits) => {
                let number = i64::from_str_radix(digits.as_str(), digits.radix()).map(Number::from);
                number.map_or_else(|_| self.odd(at, "the number is too large"), Value::Number)
            }
            DeValue::Float(digits) => {
                let number = digits.as_str().parse().ok().and_then(Number::from_f64);
                number.map_or_else(|| self.odd(at, "infinity and NaN have no meaning here"), Value::Number)
            }
            DeValue::Datetime(_) => self.odd(at, "no key takes a date; put it in quotes if it is a text"),
            DeValue::Array(items) => {
                let items = items.iter().enumerate().map(|(index, item)| {
                    let place = format!("{at}/{index}");
                    self.lines.insert(place.clone(), self.starts.line(item.span().start));
                    self.value(item, &place)
                });
                Value::Array(items.collect())
            }
            DeValue::Table(table) => self.table(table, at),
        }
    }

    fn odd(&mut self, at: &str, message: &str) -> Value {
        self.odd.push((at.to_owned(), message.to_owned()));
        Value::Null
    }
}

/// One step of a JSON pointer.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn parent(pointer: &str) -> &str {
    pointer.rsplit_once('/').map_or("", |(up, _)| up)
}

fn last(pointer: &str) -> String {
    let step = pointer.rsplit_once('/').map_or(pointer, |(_, step)| step);
    step.replace("~1", "/").replace("~0", "~")
}

/// A JSON pointer as a person would write the key.
fn dotted(pointer: &str) -> String {
    let mut key = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if !key.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            key.push_str(&format!("[{step}]"));
            continue;
        }
        if !key.is_empty() {
            key.push('.');
        }
        let bare = step.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if bare && !step.is_empty() {
            key.push_str(&step);
        } else {
            key.push_str(&format!("{step:?}"));
        }
    }
    key
}
