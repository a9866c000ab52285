//! Schemas of a document as JSON Schemas of their own.
//!
//! What a schema refers to is put beside it as `$defs`, each once and as a reference still, so that a schema which refers to itself stays
//! finite. The dialect of OpenAPI 3.0 (`nullable`, `exclusiveMinimum: true`) is translated into JSON Schema 2020-12, and what says nothing
//! about values (examples, `xml`, extensions) is left out.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::{Map, Value, json};

use super::dialect::{bounded, from_30};
use super::endless::endless;
use super::notes::Notes;
use super::read::Version;
use super::refs::{self, RefError};

/// Most objects of one schema with everything it refers to, and its longest text: the gateway judges requests by no longer one.
const MAX_REQUEST: Bounds = Bounds { nodes: 50_000, bytes: 1 << 20 };
/// The same for an answer, which nothing is judged by: in some documents every answer refers to half of all schemas.
const MAX_RESPONSE: Bounds = Bounds { nodes: 500, bytes: 16 << 10 };
/// Most objects of all schemas of one document, counted as often as operations refer to them.
pub(super) const MAX_ALL: usize = 2_000_000;

/// How large one schema may be.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    nodes: usize,
    bytes: usize,
}

/// Keywords whose value is a schema.
const ONE: [&str; 12] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
pub(super) const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value holds a schema under each key.
const MAP: [&str; 3] = ["dependentSchemas", "patternProperties", "properties"];
/// Keywords that say nothing about which values are right, or that references are resolved by and need no more.
const SILENT: [&str; 13] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$id",
    "$schema",
    "$vocabulary",
    "definitions",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "xml",
];

/// Which way a value goes: the client does not send what is read-only, the API does not answer what is write-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Request,
    Response,
}

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SchemaError {
    #[error(transparent)]
    Reference(#[from] RefError),
    #[error("a schema is neither an object nor true or false")]
    NoSchema,
    #[error("a schema with all it refers to has more than {0} parts or {1} bytes")]
    TooLarge(usize, usize),
    #[error("the schemas of the operations before it have {MAX_ALL} parts together, and no more are read")]
    TooMany,
    #[error("the schema {0} refers to itself without going into the value, so judging by it would never end")]
    Endless(String),
}

/// Where a schema is copied from, and what it costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) root: &'a Value,
    pub(super) version: Version,
    /// How many objects may still be copied for this document.
    pub(super) room: &'a Cell<usize>,
}

/// A schema of a document, with all it refers to.
///
/// # Errors
/// See [`SchemaError`].
pub(super) fn whole(
    source: Source<'_>,
    schema: &Value,
    way: Way,
    place: &str,
    notes: &mut Notes,
) -> Result<Value, SchemaError> {
    let bounds = match way {
        Way::Request => MAX_REQUEST,
        Way::Response => MAX_RESPONSE,
    };
    let too_large = SchemaError::TooLarge(bounds.nodes, bounds.bytes);
    let mut copier = Copier {
        source,
        way,
        place,
        notes,
        names: HashMap::new(),
        taken: HashSet::new(),
        wanted: VecDeque::new(),
        nodes: 0,
        bounds,
    };
    let mut top = copier.copy(schema)?;
    let mut defs = Map::new();
    while let Some((reference, name)) = copier.wanted.pop_front() {
        let target = refs::get(source.root, &reference)?;
        let copied = copier.copy(target)?;
        defs.insert(name, copied);
    }
    if let Some(name) = endless(&defs) {
        return Err(SchemaError::Endless(name));
    }
    if !defs.is_empty() {
        if !top.is_object() {
            top = json!({ "allOf": [top] });
        }
        if let Value::Object(top) = &mut top {
            top.insert("$defs".to_owned(), Value::Object(defs));
        }
    }
    if length(&top) > bounds.bytes { Err(too_large) } else { Ok(top) }
}

/// The bytes of a value as JSON.
pub(super) fn length(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and a `Value` can always be written.
    let _infallible = serde_json::to_writer(&mut count, value);
    count.0
}

struct Copier<'a> {
    source: Source<'a>,
    way: Way,
    /// The operation, for notes.
    place: &'a str,
    notes: &'a mut Notes,
    /// The name under `$defs` of each reference.
    names: HashMap<String, String>,
    taken: HashSet<String>,
    /// References that are not copied yet.
    wanted: VecDeque<(String, String)>,
    nodes: usize,
    bounds: Bounds,
}

impl Copier<'_> {
    fn copy(&mut self, schema: &Value) -> Result<Value, SchemaError> {
        self.nodes += 1;
        if self.nodes > self.bounds.nodes {
            return Err(SchemaError::TooLarge(self.bounds.nodes, self.bounds.bytes));
        }
        let room = self.source.room.get().checked_sub(1).ok_or(SchemaError::TooMany)?;
        self.source.room.set(room);
        match schema {
            Value::Bool(_) => Ok(schema.clone()),
            Value::Object(map) => self.object(map),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(SchemaError::NoSchema),
        }
    }

    fn object(&mut self, map: &Map<String, Value>) -> Result<Value, SchemaError> {
        let mut out = Map::new();
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            let name = self.name(reference)?;
            out.insert("$ref".to_owned(), Value::String(format!("#/$defs/{name}")));
            // In 3.0 nothing beside a reference counts.
            if self.source.version == Version::V30 {
                return Ok(Value::Object(out));
            }
        }
        for (key, value) in map {
            let key = key.as_str();
            if key == "$ref" || key.starts_with("x-") || SILENT.contains(&key) {
                continue;
            }
            if key == "$dynamicRef" {
                self.notes
                    .add(self.place, "a $dynamicRef in a schema is not followed: any value passes there");
                continue;
            }
            let copied = if ONE.contains(&key) {
                match value {
                    // What `prefixItems` was before 2020.
                    Value::Array(list) if key == "items" => {
                        out.insert("prefixItems".to_owned(), self.list(list)?);
                        continue;
                    }
                    value => self.copy(value)?,
                }
            } else if LIST.contains(&key) {
                match value {
                    // An empty list is a mistake that says nothing.
                    Value::Array(list) if list.is_empty() => continue,
                    Value::Array(list) => self.list(list)?,
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                        return Err(SchemaError::NoSchema);
                    }
                }
            } else if MAP.contains(&key) {
                let Value::Object(map) = value else { return Err(SchemaError::NoSchema) };
                let mut copied = Map::new();
                for (name, value) in map {
                    copied.insert(name.clone(), self.copy(value)?);
                }
                Value::Object(copied)
            } else {
                value.clone()
            };
            out.insert(key.to_owned(), copied);
        }
        self.one_way(map, &mut out);
        if self.source.version == Version::V30 {
            from_30(&mut out);
        }
        if self.way == Way::Request {
            bounded(&mut out);
        }
        Ok(Value::Object(out))
    }

    fn list(&mut self, list: &[Value]) -> Result<Value, SchemaError> {
        list.iter().map(|schema| self.copy(schema)).collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    /// What only ever goes the other way cannot be required this way.
    fn one_way(&self, map: &Map<String, Value>, out: &mut Map<String, Value>) {
        let (Some(properties), Some(Value::Array(required))) =
            (map.get("properties"), out.get_mut("required"))
        else {
            return;
        };
        let sign = match self.way {
            Way::Request => "readOnly",
            Way::Response => "writeOnly",
        };
        let other_way = |name: &Value| {
            let property = name.as_str().and_then(|name| properties.get(name));
            property.is_some_and(|property| {
                let behind = refs::follow(self.source.root, property).ok();
                [Some(property), behind]
                    .into_iter()
                    .flatten()
                    .any(|schema| schema.get(sign) == Some(&Value::Bool(true)))
            })
        };
        required.retain(|name| !other_way(name));
        if required.is_empty() {
            out.remove("required");
        }
    }

    /// The name under `$defs` of a reference, which is copied later if it has not been yet.
    fn name(&mut self, reference: &str) -> Result<String, SchemaError> {
        if let Some(name) = self.names.get(reference) {
            return Ok(name.clone());
        }
        refs::get(self.source.root, reference)?;
        let last = refs::unescaped(reference.rsplit('/').next().unwrap_or_default()).into_owned();
        let plain: String = last
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            .take(60)
            .collect();
        let plain = if plain.is_empty() { "schema".to_owned() } else { plain };
        let name = super::naming::free(&plain, &self.taken, usize::MAX);
        self.taken.insert(name.clone());
        self.names.insert(reference.to_owned(), name.clone());
        self.wanted.push_back((reference.to_owned(), name.clone()));
        Ok(name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "tests")]
mod tests {
    use super::*;

    fn source<'a>(root: &'a Value, version: Version, room: &'a Cell<usize>) -> Source<'a> {
        Source { root, version, room }
    }

    fn copied(version: Version, components: Value, schema: Value) -> Result<Value, SchemaError> {
        let root = json!({"components": {"schemas": components}});
        whole(
            source(&root, version, &Cell::new(MAX_ALL)),
            &schema,
            Way::Request,
            "GET /",
            &mut Notes::default(),
        )
    }

    #[test]
    fn a_schema_that_refers_to_itself_stays_one() {
        let node = json!({"Node": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}, "v": {"$ref": "#/components/schemas/V"}}},
            "V": {"type": "integer"}, "Unused": {"type": "string"}});
        let schema = copied(Version::V31, node, json!({"$ref": "#/components/schemas/Node"})).unwrap();
        assert_eq!(
            schema,
            json!({"$ref": "#/$defs/Node", "$defs": {
                "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "v": {"$ref": "#/$defs/V"}}},
                "V": {"type": "integer"},
            }})
        );
        let judge = jsonschema::validator_for(&schema).unwrap();
        assert!(judge.is_valid(&json!({"next": {"next": {"v": 1}}})));
        assert!(!judge.is_valid(&json!({"next": {"next": {"v": "1"}}})));
    }

    #[test]
    fn a_circle_that_never_goes_into_the_value_is_refused() {
        for circle in [
            json!({"A": {"$ref": "#/components/schemas/A"}}),
            json!({"A": {"allOf": [{"$ref": "#/components/schemas/B"}]}, "B": {"not": {"anyOf": [{"$ref": "#/components/schemas/A"}]}}}),
        ] {
            let error = copied(Version::V31, circle, json!({"items": {"$ref": "#/components/schemas/A"}}))
                .unwrap_err();
            assert!(matches!(error, SchemaError::Endless(_)), "{error}");
        }
    }

    #[test]
    fn words_of_3_0_become_those_of_json_schema() {
        let schema = json!({
            "type": "object", "required": ["id", "name"], "example": {"$ref": "data"},
            "properties": {
                "id": {"type": "integer", "readOnly": true},
                "name": {"type": "string", "nullable": true, "enum": ["a"], "x-order": 1},
                "price": {"type": "number", "minimum": 0, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": false},
                "owner": {"nullable": true, "allOf": [{"$ref": "#/components/schemas/O"}]},
                "example": {"type": "string"},
            },
        });
        assert_eq!(
            copied(Version::V30, json!({"O": {"type": "object"}}), schema).unwrap(),
            json!({
                "type": "object", "required": ["name"],
                "properties": {
                    "id": {"type": "integer", "readOnly": true},
                    "name": {"type": ["string", "null"], "enum": ["a", null]},
                    "price": {"type": "number", "exclusiveMinimum": 0, "maximum": 9},
                    "owner": {"anyOf": [{"allOf": [{"$ref": "#/$defs/O"}]}, {"type": "null"}]},
                    "example": {"type": "string"},
                },
                "$defs": {"O": {"type": "object"}},
            })
        );
    }

    #[test]
    fn two_schemas_of_one_name_stay_two() {
        let root = json!({"a": {"X": {"type": "string"}}, "b": {"X": {"type": "integer"}}});
        let schema = json!({"prefixItems": [{"$ref": "#/a/X"}, {"$ref": "#/b/X"}, {"$ref": "#/a/X"}]});
        let schema = whole(
            source(&root, Version::V31, &Cell::new(MAX_ALL)),
            &schema,
            Way::Request,
            "",
            &mut Notes::default(),
        )
        .unwrap();
        assert_eq!(schema["$defs"], json!({"X": {"type": "string"}, "X_2": {"type": "integer"}}));
        assert_eq!(schema["prefixItems"][2]["$ref"], "#/$defs/X");
    }

    #[test]
    fn a_flood_of_references_ends() {
        let mut components = Map::new();
        for number in 0..60_000 {
            components.insert(
                format!("S{number}"),
                json!({"items": {"$ref": format!("#/components/schemas/S{}", number + 1)}}),
            );
        }
        let error =
            copied(Version::V31, Value::Object(components), json!({"$ref": "#/components/schemas/S0"}))
                .unwrap_err();
        assert!(matches!(error, SchemaError::TooLarge(..)), "{error}");
    }
}
