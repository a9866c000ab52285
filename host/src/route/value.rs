//! One parameter as text and as JSON, both ways.
//!
//! Rule: OpenAPI 3.1, "Style Values"; a value gets the type that its schema wants, if it can be read as that.

use serde_json::{Map, Value};

use crate::config::rest::{Parameter, Style};

/// How deep references and alternatives of a schema are followed for the types that it takes.
const DEEP: usize = 8;

/// The types that a schema takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Types {
    string: bool,
    number: bool,
    integer: bool,
    boolean: bool,
    null: bool,
    array: bool,
    object: bool,
}

impl Types {
    fn of(root: &Value, schema: &Value, deep: usize) -> Self {
        let mut types = Self::default();
        if deep == 0 {
            return types;
        }
        let words = match &schema["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for word in words {
            match word {
                "string" => types.string = true,
                "number" => (types.number, types.integer) = (true, true),
                "integer" => types.integer = true,
                "boolean" => types.boolean = true,
                "null" => types.null = true,
                "array" => types.array = true,
                "object" => types.object = true,
                _ => {}
            }
        }
        let referred = schema["$ref"].as_str().and_then(|to| root.pointer(to.strip_prefix('#')?));
        let alternatives =
            ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
        for other in referred.into_iter().chain(alternatives) {
            let other = Self::of(root, other, deep - 1);
            types.string |= other.string;
            types.number |= other.number;
            types.integer |= other.integer;
            types.boolean |= other.boolean;
            types.null |= other.null;
            types.array |= other.array;
            types.object |= other.object;
        }
        types
    }
}

/// The types of a parameter, and those of its items or members.
fn types(parameter: &Parameter) -> (Types, impl Fn(&str) -> Types + '_) {
    let root = parameter.schema.as_ref().unwrap_or(&Value::Null);
    let inner = move |member: &str| {
        let at = resolved(root);
        let schema = match &at["items"] {
            Value::Null => &at["properties"][member],
            items => items,
        };
        Types::of(root, schema, DEEP)
    };
    (Types::of(root, root, DEEP), inner)
}

fn resolved(root: &Value) -> &Value {
    root["$ref"].as_str().and_then(|to| root.pointer(to.strip_prefix('#')?)).unwrap_or(root)
}

/// One text, as a value of these types.
fn typed(types: Types, text: String) -> Value {
    if types.boolean && (text == "true" || text == "false") {
        return Value::Bool(text == "true");
    }
    if types.null && !types.string && text == "null" {
        return Value::Null;
    }
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'-');
    if types.integer && begins && let Ok(number) = serde_json::from_str::<serde_json::Number>(&text)
    // A number that no type here holds as it was written stays a text, which its schema refuses.
        && (number.to_string() == text || types.number && without_zeros(&text) == without_zeros(&number.to_string()))
    {
        return Value::Number(number);
    }
    Value::String(text)
}

/// A number with a point without the zeros at its end: `1.50` is `1.5`, and `2.0` is `2`.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') && !text.contains(['e', 'E']) {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// Why a parameter cannot be read.
pub(super) const TWICE: &str = "it stands twice, and others might read the other one: send it once";
pub(super) const NO_TEXT: &str = "it is not UTF-8 after its escapes are read";

/// The pairs of a query, not decoded.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A name or a value of a query: `+` is a blank, as browsers write it.
pub(super) fn decode(text: &str) -> Result<String, &'static str> {
    let plain;
    let text = if text.contains('+') {
        plain = text.replace('+', " ");
        plain.as_str()
    } else {
        text
    };
    super::path::decode(text).map(std::borrow::Cow::into_owned).ok_or(NO_TEXT)
}

/// A parameter of the query, out of all pairs of it. None if it is not there.
pub(super) fn of_query(
    parameter: &Parameter,
    pairs: &[(String, &str)],
) -> Result<Option<Value>, &'static str> {
    let (own, inner) = types(parameter);
    let name = parameter.name.as_str();
    if parameter.style == Style::DeepObject {
        let mut members = Map::new();
        for (key, value) in pairs {
            let Some(member) =
                key.strip_prefix(name).and_then(|key| key.strip_prefix('[')?.strip_suffix(']'))
            else {
                continue;
            };
            if members.insert(member.to_owned(), typed(inner(member), decode(value)?)).is_some() {
                return Err(TWICE);
            }
        }
        return Ok((!members.is_empty()).then_some(Value::Object(members)));
    }
    if own.object && !own.string && parameter.explode && parameter.style == Style::Form {
        let schema = resolved(parameter.schema.as_ref().unwrap_or(&Value::Null));
        let mut members = Map::new();
        for (key, value) in pairs {
            if schema["properties"].get(key).is_some()
                && members.insert(key.clone(), typed(inner(key), decode(value)?)).is_some()
            {
                return Err(TWICE);
            }
        }
        return Ok((!members.is_empty()).then_some(Value::Object(members)));
    }
    let mut found = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| *value);
    let Some(first) = found.next() else { return Ok(None) };
    if own.array && !own.string && parameter.explode {
        let all = std::iter::once(first).chain(found).map(|value| Ok(typed(inner(""), decode(value)?)));
        return all.collect::<Result<Vec<Value>, _>>().map(|all| Some(Value::Array(all)));
    }
    if found.next().is_some() {
        return Err(TWICE);
    }
    let between: &[&str] = match parameter.style {
        Style::SpaceDelimited => &["%20", "+"],
        Style::PipeDelimited => &["|", "%7C", "%7c"],
        Style::Simple | Style::Form | Style::DeepObject => &[","],
    };
    joined(parameter, first, between, decode).map(Some)
}

/// A parameter that stands in one piece: in a path, a header, a cookie.
pub(super) fn in_one(
    parameter: &Parameter,
    text: &str,
    decode: impl Fn(&str) -> Result<String, &'static str>,
) -> Result<Value, &'static str> {
    joined(parameter, text, &[","], decode)
}

fn joined(
    parameter: &Parameter,
    text: &str,
    between: &[&str],
    decode: impl Fn(&str) -> Result<String, &'static str>,
) -> Result<Value, &'static str> {
    let (own, inner) = types(parameter);
    let whole = own.string || !(own.array || own.object);
    if whole {
        return Ok(typed(own, decode(text)?));
    }
    let mut parts = vec![text];
    for separator in between {
        parts = parts.into_iter().flat_map(|part| part.split(*separator)).collect();
    }
    let parts = if text.is_empty() { Vec::new() } else { parts };
    if own.array {
        let all = parts.into_iter().map(|part| Ok(typed(inner(""), decode(part.trim())?)));
        return all.collect::<Result<_, _>>().map(Value::Array);
    }
    let mut members = Map::new();
    let mut parts = parts.into_iter();
    while let Some(key) = parts.next() {
        let (key, value) = match key.split_once('=').filter(|_| parameter.explode) {
            Some(pair) => pair,
            None => (key, parts.next().unwrap_or_default()),
        };
        let key = decode(key)?;
        let value = typed(inner(&key), decode(value)?);
        if members.insert(key, value).is_some() {
            return Err(TWICE);
        }
    }
    Ok(Value::Object(members))
}

/// A value as text; lists and objects as JSON.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Writes a parameter into a query that is being made.
pub(crate) fn write_query(parameter: Option<&Parameter>, name: &str, value: &Value, out: &mut String) {
    let style = parameter.map_or(Style::Form, |parameter| parameter.style);
    let explode = parameter.is_none_or(|parameter| parameter.explode);
    match (value, style) {
        (Value::Object(members), Style::DeepObject) => {
            for (key, value) in members {
                pair(&format!("{name}[{key}]"), &plain(value), out);
            }
        }
        (Value::Object(members), _) if explode => {
            members.iter().for_each(|(key, value)| pair(key, &plain(value), out));
        }
        (Value::Array(items), Style::Form) if explode => {
            items.iter().for_each(|item| pair(name, &plain(item), out))
        }
        (Value::Array(items), _) => {
            let between = match style {
                Style::SpaceDelimited => "%20",
                Style::PipeDelimited => "%7C",
                Style::Simple | Style::Form | Style::DeepObject => ",",
            };
            begin(name, out);
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { between });
                escaped(&plain(item), out);
            }
        }
        (Value::Object(members), _) => {
            begin(name, out);
            for (index, (key, value)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                escaped(key, out);
                out.push(',');
                escaped(&plain(value), out);
            }
        }
        (value, _) => pair(name, &plain(value), out),
    }
}

fn pair(name: &str, value: &str, out: &mut String) {
    begin(name, out);
    escaped(value, out);
}

fn begin(name: &str, out: &mut String) {
    if !out.is_empty() {
        out.push('&');
    }
    escaped(name, out);
    out.push('=');
}

/// Escapes everything but the characters that need none anywhere in a query.
fn escaped(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@/$[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::rest::Place;

    fn parameter(schema: Value, style: Style, explode: bool) -> Parameter {
        Parameter {
            name: "p".to_owned(),
            place: Place::Query,
            required: false,
            style,
            explode,
            schema: Some(schema),
            description: None,
        }
    }

    fn read(parameter: &Parameter, query: &str) -> Result<Option<Value>, &'static str> {
        let pairs: Vec<(String, &str)> =
            pairs(query).map(|(key, value)| (decode(key).unwrap(), value)).collect();
        of_query(parameter, &pairs)
    }

    #[test]
    fn a_value_has_the_type_that_its_schema_wants() {
        let one = |schema: Value, query: &str| read(&parameter(schema, Style::Form, true), query).unwrap();
        assert_eq!(one(json!({"type": "integer"}), "p=5"), Some(json!(5)));
        assert_eq!(one(json!({"type": "integer"}), "p=05"), Some(json!("05")), "its schema refuses it");
        assert_eq!(one(json!({"type": "integer"}), "p=1e400"), Some(json!("1e400")));
        assert_eq!(one(json!({"type": "number"}), "p=-1.50"), Some(json!(-1.5)));
        assert_eq!(one(json!({"type": "number"}), "p=2.0"), Some(json!(2.0)));
        assert_eq!(
            one(json!({"type": "integer"}), "p=2.0"),
            Some(json!(2.0)),
            "JSON Schema takes it for an integer"
        );
        let long = "0.10000000000000000000001";
        assert_eq!(
            one(json!({"type": "number"}), &format!("p={long}")),
            Some(json!(long)),
            "more than a number holds"
        );
        assert_eq!(one(json!({"type": "string"}), "p=5"), Some(json!("5")));
        assert_eq!(one(json!({"type": ["boolean", "null"]}), "p=true&q=1"), Some(json!(true)));
        assert_eq!(
            one(json!({"anyOf": [{"type": "number"}, {"type": "string"}]}), "p=a+b%2B"),
            Some(json!("a b+"))
        );
        assert_eq!(
            one(json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}), "p=7"),
            Some(json!(7))
        );
        assert_eq!(one(json!({"$ref": "#"}), "p=7"), Some(json!("7")));
        assert_eq!(one(json!({"type": "integer"}), "q=5"), None);
        let list = json!({"type": "array", "items": {"type": "integer"}});
        assert_eq!(one(list.clone(), "p=1&p=2"), Some(json!([1, 2])));
        let of = |style, explode, query: &str| read(&parameter(list.clone(), style, explode), query);
        assert_eq!(of(Style::Form, false, "p=1,2"), Ok(Some(json!([1, 2]))));
        assert_eq!(of(Style::PipeDelimited, false, "p=1%7C2|3"), Ok(Some(json!([1, 2, 3]))));
        assert_eq!(of(Style::SpaceDelimited, false, "p=1%202"), Ok(Some(json!([1, 2]))));
        assert_eq!(of(Style::Form, false, "p=1,2&p=3"), Err(TWICE));
        assert_eq!(read(&parameter(json!({}), Style::Form, true), "p=1&p=2"), Err(TWICE));
        let object = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}});
        let of = |style, explode, query: &str| read(&parameter(object.clone(), style, explode), query);
        assert_eq!(of(Style::DeepObject, true, "p[a]=1&p[b]=x&pq=2"), Ok(Some(json!({"a": 1, "b": "x"}))));
        assert_eq!(of(Style::Form, true, "a=1&c=2"), Ok(Some(json!({"a": 1}))));
        assert_eq!(of(Style::Form, false, "p=a,1,b,x"), Ok(Some(json!({"a": 1, "b": "x"}))));
        assert_eq!(of(Style::DeepObject, true, "p[a]=1&p[a]=2"), Err(TWICE));
    }

    proptest! {
        /// What is written for the server behind says what was read.
        #[test]
        fn a_query_means_the_same_behind(items in prop::collection::vec("[a-z0-9 ,&=+%|ä\\[\\]]{1,6}", 1..4), explode: bool) {
            let list = parameter(json!({"type": "array", "items": {"type": "string"}}), Style::Form, explode);
            let value = json!(items);
            let mut query = String::new();
            write_query(Some(&list), "p", &value, &mut query);
            prop_assert_eq!(super::super::path::check_query(&query), Ok(()));
            let trimmed = if explode { value } else { json!(items.iter().map(|i| i.trim()).collect::<Vec<_>>()) };
            // Blanks beside a comma are not kept; written ones are escaped and stay.
            let read = read(&list, &query).unwrap().unwrap();
            prop_assert!(read == trimmed || read == json!(items));
        }
    }
}
