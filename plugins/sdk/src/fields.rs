//! Reads a configuration object key by key, so that every mistake in it is reported and not only the first.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::ConfigError;

/// A JSON object at a JSON pointer, of which keys are taken until none should be left.
#[derive(Debug)]
pub struct Fields {
    path: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// None, and a mistake noted, if the value is not an object.
    pub fn of(value: Value, path: String, errors: &mut Vec<ConfigError>) -> Option<Self> {
        let Value::Object(map) = value else {
            errors.push(ConfigError::new(path, format!("must be an object, not {}", kind(&value))));
            return None;
        };
        let known = Vec::new();
        Some(Self { path, map, known })
    }

    /// The JSON pointer of a key.
    #[must_use]
    pub fn at(&self, key: &str) -> String {
        below(&self.path, key)
    }

    /// The value as it was typed; none if the key is missing or `null`.
    pub fn raw(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// The value as it was typed, `null` included; none if the key is missing.
    pub fn given(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.map.remove(key)
    }

    /// The value of a key; none if it is missing or `null`, or is noted as a mistake because it is not `what`.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        what: &str,
        errors: &mut Vec<ConfigError>,
    ) -> Option<T> {
        let value = self.raw(key)?;
        let shown = shorten(&value);
        let read = serde_json::from_value(value).ok();
        if read.is_none() {
            errors.push(ConfigError::new(self.at(key), format!("must be {what}, not {shown}")));
        }
        read
    }

    /// Notes every key that nobody took.
    pub fn finish(self, errors: &mut Vec<ConfigError>) {
        let hint = format!("known keys: {}", self.known.join(", "));
        for key in self.map.keys() {
            errors.push(ConfigError::new(below(&self.path, key), "unknown key").hint(hint.clone()));
        }
    }
}

/// The pointer of a key below another pointer (RFC 6901).
#[must_use]
pub fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shorten(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            value.to_string().chars().take(40).collect()
        }
    }
}
