//! What OpenAPI 3.0 says in words of its own.

use serde_json::{Map, Value, json};

/// Keywords that say what a value is without `type`.
const APPLIED: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The words of OpenAPI 3.0 that JSON Schema has other words for.
pub(super) fn from_30(out: &mut Map<String, Value>) {
    for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match out.get(exclusive) {
            Some(Value::Bool(true)) => match out.remove(bound) {
                Some(limit) => drop(out.insert(exclusive.to_owned(), limit)),
                None => drop(out.remove(exclusive)),
            },
            Some(Value::Bool(false)) => drop(out.remove(exclusive)),
            _ => {}
        }
    }
    if out.remove("nullable") != Some(Value::Bool(true)) {
        return;
    }
    if let Some(Value::Array(values)) = out.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    if let Some(Value::String(kind)) = out.get_mut("type") {
        let kind = std::mem::take(kind);
        out.insert("type".to_owned(), json!([kind, "null"]));
    } else if !out.contains_key("type") && out.keys().any(|key| APPLIED.contains(&key.as_str())) {
        // Strictly it says nothing without a type. Those who write it beside `allOf` mean what they say.
        let schema = std::mem::take(out);
        out.insert("anyOf".to_owned(), json!([schema, {"type": "null"}]));
    }
}
