//! What OpenAPI 3.0 says in words of its own.

use serde_json::{Map, Value, json};

/// Keywords that say what a value is without `type`.
const APPLIED: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The bounds of whole numbers of a format (OpenAPI, "Data Type Format"): to JSON Schema a format is a remark, by which nothing is
/// refused.
pub(super) fn bounded(out: &mut Map<String, Value>) {
    let whole = match out.get("type") {
        Some(Value::String(kind)) => kind == "integer",
        Some(Value::Array(kinds)) => {
            kinds.iter().any(|kind| kind == "integer") && !kinds.iter().any(|kind| kind == "number")
        }
        _ => false,
    };
    let (least, most): (Value, Value) = match out.get("format").and_then(Value::as_str) {
        Some("int32") if whole => (i32::MIN.into(), i32::MAX.into()),
        Some("int64") if whole => (i64::MIN.into(), i64::MAX.into()),
        _ => return,
    };
    for (bound, exclusive, value) in
        [("minimum", "exclusiveMinimum", least), ("maximum", "exclusiveMaximum", most)]
    {
        if !out.contains_key(bound) && !out.contains_key(exclusive) {
            out.insert(bound.to_owned(), value);
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_of_whole_numbers_is_a_bound() {
        let of = |schema: Value| {
            let Value::Object(mut schema) = schema else { return Value::Null };
            bounded(&mut schema);
            Value::Object(schema)
        };
        let long = of(json!({"type": "integer", "format": "int64", "minimum": 1}));
        assert_eq!(long, json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": i64::MAX}));
        let maybe = of(json!({"type": ["integer", "null"], "format": "int32", "exclusiveMaximum": 9}));
        let expected = json!({"type": ["integer", "null"], "format": "int32", "exclusiveMaximum": 9, "minimum": i32::MIN});
        assert_eq!(maybe, expected);
        for other in [
            json!({"type": "number", "format": "int32"}),
            json!({"type": "integer"}),
            json!({"format": "int64"}),
        ] {
            assert_eq!(of(other.clone()), other);
        }
    }
}
