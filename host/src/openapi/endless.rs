//! Schemas that refer to themselves without going into the value: judging by one would never end.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Keywords whose schemas all judge the same value.
const APPLIED: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords with one schema that does.
const IN_PLACE: [&str; 4] = ["else", "if", "not", "then"];

/// The name of a definition that leads to itself through keywords that judge the same value.
pub(super) fn endless(defs: &Map<String, Value>) -> Option<String> {
    let mut done: HashSet<&str> = HashSet::new();
    for start in defs.keys() {
        // Depth first, with the way here on a list of its own: a definition on it again is a circle.
        let mut way: Vec<(&str, Vec<&str>)> = Vec::new();
        if !done.contains(start.as_str()) {
            way.push((start, next(&defs[start])));
        }
        while let Some((name, ahead)) = way.last_mut() {
            match ahead.pop() {
                None => {
                    done.insert(*name);
                    way.pop();
                }
                Some(to) if way.iter().any(|(name, _)| *name == to) => return Some(to.to_owned()),
                Some(to) if done.contains(to) => {}
                Some(to) => {
                    if let Some((to, def)) = defs.get_key_value(to) {
                        way.push((to, next(def)));
                    }
                }
            }
        }
    }
    None
}

/// The definitions that judge the same value as this schema does.
fn next(schema: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        let Some(map) = schema.as_object() else { continue };
        found.extend(map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/")));
        open.extend(APPLIED.iter().filter_map(|key| map.get(*key)?.as_array()).flatten());
        open.extend(IN_PLACE.iter().filter_map(|key| map.get(*key)));
        open.extend(map.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(Map::values));
    }
    found
}
