//! From JSON to the values of CEL.

use std::collections::HashMap;

use cel::Value;
use cel::objects::Key;
use serde_json::Value as Json;

/// A JSON text as a value; null if it is none.
pub(crate) fn read(text: &str) -> Value {
    serde_json::from_str(text).map_or(Value::Null, of)
}

fn of(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(bool),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(whole)) => Value::UInt(whole),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text),
        Json::Array(items) => Value::from(items.into_iter().map(of).collect::<Vec<Value>>()),
        Json::Object(members) => map(members.into_iter().map(|(key, value)| (key, of(value)))),
    }
}

/// A map with texts as keys.
pub(crate) fn map(members: impl Iterator<Item = (String, Value)>) -> Value {
    Value::from(members.map(|(key, value)| (Key::from(key), value)).collect::<HashMap<Key, Value>>())
}
