//! Schemas that each hold their own `$defs`, put into one document with one place for all of them.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::naming;

/// The definitions of a document, collected from its schemas.
#[derive(Debug)]
pub(super) struct Shelf {
    /// What references begin with: `#/$defs/`.
    prefix: &'static str,
    held: BTreeMap<String, Held>,
    taken: HashSet<String>,
}

#[derive(Debug)]
struct Held {
    /// As it stood in its schema.
    original: Value,
    /// What its references are called here.
    renamed: BTreeMap<String, String>,
}

impl Shelf {
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, held: BTreeMap::new(), taken: HashSet::new() }
    }

    /// A name that no definition may have.
    pub(super) fn reserve(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    /// The schema without its definitions, which are here from now on. Equal ones are held once.
    pub(super) fn put(&mut self, schema: &Value) -> Value {
        let Some(Value::Object(defs)) = schema.get("$defs") else { return schema.clone() };
        let mut names = self.names(defs);
        self.settle(defs, &mut names);
        for (old, def) in defs {
            let Some(new) = names.get(old) else { continue };
            if !self.held.contains_key(new) {
                let renamed = references(def)
                    .into_iter()
                    .filter_map(|old| Some((old.to_owned(), names.get(old)?.clone())))
                    .collect();
                self.held.insert(new.clone(), Held { original: def.clone(), renamed });
            }
        }
        let mut top = schema.clone();
        if let Value::Object(map) = &mut top {
            map.shift_remove("$defs");
        }
        rename(&mut top, self.prefix, &names);
        top
    }

    /// A first idea of each name: its own, where that is free or means the same already.
    fn names(&mut self, defs: &Map<String, Value>) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for (old, def) in defs {
            let same = self.held.get(old).is_some_and(|held| held.original == *def);
            let new = if same { old.clone() } else { naming::free(old, &self.taken, usize::MAX) };
            self.taken.insert(new.clone());
            names.insert(old.clone(), new);
        }
        names
    }

    /// A definition means the same as one that is held only if what it refers to does.
    fn settle(&mut self, defs: &Map<String, Value>, names: &mut BTreeMap<String, String>) {
        loop {
            let differs = defs.iter().find(|(old, def)| {
                let held = names.get(*old).and_then(|new| self.held.get(new));
                held.is_some_and(|held| {
                    references(def).into_iter().any(|to| names.get(to) != held.renamed.get(to))
                })
            });
            // Each turn gives one definition a name that nothing holds, so there are no more turns than definitions.
            let Some((old, _)) = differs else { return };
            let new = naming::free(old, &self.taken, usize::MAX);
            self.taken.insert(new.clone());
            names.insert(old.clone(), new);
        }
    }

    /// All definitions, by name, with references as the document has them.
    pub(super) fn into_definitions(self) -> Map<String, Value> {
        let prefix = self.prefix;
        let entry = |(name, held): (String, Held)| {
            let mut def = held.original;
            rename(&mut def, prefix, &held.renamed);
            (name, def)
        };
        self.held.into_iter().map(entry).collect()
    }
}

/// Where values stand that are no schemas.
const DATA: [&str; 3] = ["const", "default", "enum"];

/// The definitions that a schema names.
fn references(schema: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                found.extend(
                    map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/")),
                );
                open.extend(
                    map.iter().filter(|(key, _)| !DATA.contains(&key.as_str())).map(|(_, value)| value),
                );
            }
            Value::Array(list) => open.extend(list),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}

fn rename(value: &mut Value, prefix: &str, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let (true, Value::String(text)) = (key == "$ref", &mut *value) {
                    if let Some(new) = text.strip_prefix("#/$defs/").and_then(|old| names.get(old)) {
                        *text = format!("{prefix}{new}");
                    }
                } else if !DATA.contains(&key.as_str()) {
                    rename(value, prefix, names);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, prefix, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_definitions_are_held_once_and_others_apart() {
        let mut shelf = Shelf::new("#/components/schemas/");
        shelf.reserve("Problem");
        let leaf = |kind: &str| json!({"$ref": "#/$defs/A", "$defs": {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {"type": kind}, "Problem": {}}});
        let first = shelf.put(&leaf("string"));
        assert_eq!(first, json!({"$ref": "#/components/schemas/A"}));
        assert_eq!(shelf.put(&leaf("string")), first);
        // `A` reads the same here and means something else, because its `B` does.
        assert_eq!(shelf.put(&leaf("integer")), json!({"$ref": "#/components/schemas/A_2"}));
        assert_eq!(
            shelf.put(&leaf("integer"))["$ref"]
                .as_str()
                .map(|name| name.starts_with("#/components/schemas/A_")),
            Some(true)
        );
        let all = shelf.into_definitions();
        assert_eq!(all["A"], json!({"items": {"$ref": "#/components/schemas/B"}}));
        assert_eq!(all["A_2"], json!({"items": {"$ref": "#/components/schemas/B_2"}}));
        assert_eq!(all["Problem_2"], json!({}));
        assert!(!all.contains_key("Problem"));
    }

    #[test]
    fn what_refers_to_itself_does_not_go_on_for_ever() {
        let mut shelf = Shelf::new("#/$defs/");
        let node = json!({"$ref": "#/$defs/N", "$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}, "default": {"$ref": "#/$defs/N"}}}}});
        assert_eq!(shelf.put(&node), shelf.put(&node));
        assert_eq!(shelf.into_definitions().len(), 1);
    }
}
