//! Where servers take more than their schemas say, and everybody who writes such schemas means it.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::super::find::Resource;
use super::super::node::{Id, Word};
use super::Lowering;

impl<'v> Lowering<'v> {
    /// A property that is required and has a default is not missing: servers fill the default in before they validate.
    pub(super) fn spare_defaults(&mut self, id: Id, map: &'v Map<String, Value>, resource: Resource) {
        let Some(Value::Object(properties)) = map.get("properties") else { return };
        let Self { nodes, index, .. } = self;
        let has_default = |name: &Value| {
            let Some(Value::Object(property)) = name.as_str().and_then(|name| properties.get(name)) else {
                return false;
            };
            property.contains_key("default")
                || property.get("$ref").and_then(Value::as_str).is_some_and(|reference| {
                    let found = index.find("$ref", reference, resource);
                    found.is_ok_and(|(target, _)| target.get("default").is_some())
                })
        };
        let node = &mut nodes[id];
        let required = node.words.iter_mut().find(|(keyword, _)| *keyword == "required");
        if let Some((_, Word::Data(Value::Array(names)))) = required {
            let before = names.len();
            names.retain(|name| !has_default(name));
            node.cut |= names.len() < before;
        }
    }

    /// `nullable` is how OpenAPI up to 3.0 spells that null is taken as well.
    pub(super) fn take_null(&mut self, id: Id, map: &'v Map<String, Value>) {
        if map.get("nullable") != Some(&Value::Bool(true)) {
            return;
        }
        let node = &mut self.nodes[id];
        for (keyword, word) in &mut node.words {
            let Word::Data(value) = word else { continue };
            match (*keyword, value) {
                ("type", Value::Array(types)) => types.push(json!("null")),
                ("type", value) => *value = json!([value.take(), "null"]),
                ("enum", Value::Array(values)) => values.push(Value::Null),
                _ => continue,
            }
            node.cut = true;
        }
        // A type that stands twice is no list of types.
        if let Some((_, Word::Data(Value::Array(types)))) =
            node.words.iter_mut().find(|(keyword, _)| *keyword == "type")
        {
            let mut seen = HashSet::new();
            types.retain(|name| seen.insert(name.to_string()));
        }
    }
}
