//! From a text to a tree: JSON or YAML, bounded, and with one meaning.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Longest document. The largest public ones (GitHub, Stripe, Microsoft Graph by parts) have 4 to 13 MB.
pub const MAX_BYTES: usize = 32 << 20;
/// Deepest nesting; no public document reaches 50.
const MAX_DEPTH: usize = 100;
/// Most values. Aliases of YAML count as often as they are used.
const MAX_VALUES: usize = 4_000_000;
/// Most aliases of one document.
const MAX_ALIASES: usize = 10_000;
/// Most values that aliases may stand for, all together.
const MAX_ALIASED: usize = 500_000;

/// The version of the specification that a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V30,
    V31,
    V32,
}

/// A document as a tree.
#[derive(Clone, Debug)]
pub struct Document {
    pub(super) root: Value,
    pub version: Version,
}

/// Why a text is not an OpenAPI document that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(
        "it has {0} bytes, and no more than {MAX_BYTES} are read: split it, or take out what is not needed"
    )]
    TooLong(usize),
    #[error("it is not JSON: {0}")]
    Json(String),
    #[error("it is not YAML: {0}")]
    Yaml(String),
    #[error("it is no OpenAPI document: it has no `openapi` key with a version in it")]
    NotOpenApi,
    #[error(
        "it is written in Swagger {0}: convert it to OpenAPI 3 first, for example with the npm package swagger2openapi"
    )]
    Swagger(String),
    #[error("it is written in OpenAPI {0}; versions 3.0, 3.1 and 3.2 can be read")]
    Version(String),
}

/// Reads a document.
///
/// # Errors
/// See [`ReadError`]. A key that stands twice in one object is a mistake, because programs differ in which of them they take.
pub fn read(text: &str) -> Result<Document, ReadError> {
    let root = tree(text)?;
    let version = version(&root)?;
    Ok(Document { root, version })
}

/// A text of JSON or YAML, whatever it is about.
///
/// # Errors
/// See [`ReadError`].
pub(super) fn tree(text: &str) -> Result<Value, ReadError> {
    if text.len() > MAX_BYTES {
        return Err(ReadError::TooLong(text.len()));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut values = 0;
    if text.trim_start().starts_with('{') {
        let mut reader = serde_json::Deserializer::from_str(text);
        Tree { depth: 0, values: &mut values }
            .deserialize(&mut reader)
            .and_then(|root| reader.end().map(|()| root))
            .map_err(|error| ReadError::Json(error.to_string()))
    } else {
        yaml(text, &mut values)
    }
}

fn yaml(text: &str, values: &mut usize) -> Result<Value, ReadError> {
    let mut options = serde_saphyr::Options::default();
    // `NO` is Norway.
    options.strict_booleans = true;
    options.alias_limits.max_total_replayed_events = MAX_ALIASED;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = MAX_DEPTH;
        budget.max_aliases = MAX_ALIASES;
        budget.max_anchors = MAX_ALIASES;
        budget.max_nodes = MAX_VALUES;
        budget.max_events = 3 * MAX_VALUES;
        budget.max_total_scalar_bytes = MAX_BYTES;
    }
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Tree { depth: 0, values }.deserialize(reader)
    })
    .map_err(|error| ReadError::Yaml(error.without_snippet().to_string()))
}

fn version(root: &Value) -> Result<Version, ReadError> {
    if let Some(swagger) = root.get("swagger") {
        return Err(ReadError::Swagger(crate::text::excerpt(word(swagger).as_bytes(), 20)));
    }
    let version = root.get("openapi").map(word).ok_or(ReadError::NotOpenApi)?;
    let known = [("3.0", Version::V30), ("3.1", Version::V31), ("3.2", Version::V32)];
    let found = known.iter().find(|(number, _)| {
        version.strip_prefix(number).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    match found {
        Some((_, version)) => Ok(*version),
        None => Err(ReadError::Version(crate::text::excerpt(version.as_bytes(), 20))),
    }
}

/// Unquoted in YAML, `3.1` is a number.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Builds the tree, and stops where it is too deep, too large, or says something twice.
struct Tree<'a> {
    depth: usize,
    values: &'a mut usize,
}

impl Tree<'_> {
    fn below(&mut self) -> Tree<'_> {
        Tree { depth: self.depth + 1, values: self.values }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom(format_args!("it is nested more than {MAX_DEPTH} deep")));
        }
        *self.values += 1;
        if *self.values > MAX_VALUES {
            return Err(D::Error::custom(format_args!("it holds more than {MAX_VALUES} values")));
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("JSON has no infinite numbers"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.below())? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        // A status such as 200 is a number in YAML; asked for a text, the reader gives it as it is written.
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.below())?;
            if map.contains_key(&key) {
                let key = crate::text::excerpt(key.as_bytes(), 60);
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice in one object")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn both_spellings_are_one_document() {
        let yaml = "openapi: 3.1\ninfo: {title: t, version: 1.0}\npaths:\n  /a:\n    get:\n      responses:\n        200: {description: ok}\n        default: {description: NO}\nx: [no, 0x10, 2020-01-01, ~]\n";
        let document = read(yaml).unwrap();
        assert_eq!(document.version, Version::V31);
        assert_eq!(document.root["paths"]["/a"]["get"]["responses"]["200"]["description"], "ok");
        assert_eq!(document.root["paths"]["/a"]["get"]["responses"]["default"]["description"], "NO");
        assert_eq!(document.root["x"], json!(["no", 16, "2020-01-01", null]));
        let again = read(&document.root.to_string().replace("3.1,", "\"3.1.0\",")).unwrap();
        assert_eq!(again.root["paths"], document.root["paths"]);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let said = |text: &str| read(text).unwrap_err().to_string();
        assert!(said(r#"{"swagger": "2.0"}"#).contains("Swagger 2.0"));
        assert!(said("openapi: 4.0.0").contains("OpenAPI 4.0.0"));
        assert!(said("openapi: 3.10.0").contains("OpenAPI 3.10.0"));
        assert!(said("{}").contains("no `openapi` key"));
        assert!(said("- 1").contains("no `openapi` key"));
        assert!(said(r#"{"openapi": "3.1.0", "openapi": "3.0.0"}"#).contains("stands twice"));
        assert!(said("openapi: 3.1.0\nx: 1\nx: 2\n").contains("not YAML"));
        assert!(said("{\"openapi\": ").contains("not JSON"));
        assert!(said(&"[".repeat(1000)).contains("not YAML"));
        assert!(said(&format!("{{\"a\":{}", "[".repeat(1000))).contains("not JSON"));
        assert!(said(&" ".repeat(MAX_BYTES + 1)).contains("bytes"));
    }

    #[test]
    fn aliases_cannot_blow_up() {
        let mut bomb = String::from("openapi: 3.1.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", "));
        }
        assert!(read(&bomb).unwrap_err().to_string().contains("not YAML"));
        let honest = "openapi: 3.1.0\na: &a {b: 1}\nc: *a\nd:\n  <<: *a\n  e: 2\n";
        assert_eq!(read(honest).unwrap().root["d"], json!({"b": 1, "e": 2}));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-{}\\[\\]:,&*a-c\"'|>#%!? \n0-9.]{0,120}", with in any::<bool>()) {
            let head = if with { "openapi: 3.1.0\n" } else { "" };
            let _ = read(&format!("{head}{text}"));
        }
    }
}
