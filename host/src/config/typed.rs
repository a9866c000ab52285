//! The file as it was typed, kept to say by its keys what another reading of it has changed.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// A configuration file as it was typed. It may hold what is secret, so nothing of its values is ever shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Typed(Arc<Value>);

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed")
    }
}

impl Typed {
    pub(super) fn new(value: Value) -> Self {
        Self(Arc::new(value))
    }

    /// The keys at which another reading says something else: `auth.role`, `backends "files".args`.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare(&self.0, &now.0, "", &mut found);
        found
    }

    /// The same file with these keys as another reading has them: `gateway.listen`, or `postgres` for a whole section.
    #[must_use]
    pub fn with(&self, other: &Self, keys: &[&str]) -> Self {
        let mut value = Value::clone(&self.0);
        for key in keys {
            let (section, key) = match key.split_once('.') {
                None => (None, *key),
                Some((section, key)) => (Some(section), key),
            };
            let theirs = match section {
                None => other.0.get(key),
                Some(section) => other.0.get(section).and_then(|section| section.get(key)),
            };
            let Value::Object(top) = &mut value else { continue };
            let table = match (section, theirs) {
                (None, _) => Some(top),
                (Some(section), Some(_)) => {
                    let empty = || Value::Object(serde_json::Map::new());
                    top.entry(section).or_insert_with(empty).as_object_mut()
                }
                (Some(section), None) => top.get_mut(section).and_then(Value::as_object_mut),
            };
            let Some(table) = table else { continue };
            match theirs {
                Some(theirs) => table.insert(key.to_owned(), theirs.clone()),
                None => table.shift_remove(key),
            };
        }
        Self::new(value)
    }
}

fn compare(old: &Value, new: &Value, at: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
            for key in keys {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                match (before.get(key), after.get(key)) {
                    (Some(before), Some(after)) => compare(before, after, &at, found),
                    // A section that came or went is named by what stands in it: `[auth]` alone says nothing.
                    (one, other) => match one.or(other) {
                        Some(Value::Object(inner)) if !inner.is_empty() => {
                            found.extend(inner.keys().map(|key| format!("{at}.{key}")));
                        }
                        _ => found.push(at),
                    },
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => match (named(before), named(after)) {
            (Some(before), Some(after)) => {
                for (name, old) in &before {
                    let at = format!("{at} {name:?}");
                    match after.iter().find(|(other, _)| other == name) {
                        Some((_, new)) => compare(old, new, &at, found),
                        None => found.push(format!("{at} (taken out)")),
                    }
                }
                let new = after.iter().filter(|(name, _)| before.iter().all(|(other, _)| other != name));
                found.extend(new.map(|(name, _)| format!("{at} {name:?} (new)")));
                let order = |list: &[(&str, &Value)]| {
                    list.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()
                };
                let (one, other) = (order(&before), order(&after));
                if one.len() == other.len() && one != other && one.iter().all(|name| other.contains(name)) {
                    found.push(format!("{at} (their order)"));
                }
            }
            _ if before != after => found.push(at.to_owned()),
            _ => {}
        },
        _ if old != new => found.push(at.to_owned()),
        _ => {}
    }
}

/// The members of a list of tables that have names or ids of their own, such as backends and routes.
fn named(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let name = |item| {
        let name = Value::get(item, "name").or_else(|| Value::get(item, "id"))?.as_str()?;
        Some((name, item))
    };
    let named: Vec<(&str, &Value)> = list.iter().map(name).collect::<Option<_>>()?;
    let mut names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    // Of two with one name it could not be said which has changed.
    names.windows(2).all(|pair| pair[0] != pair[1]).then_some(named)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(old: Value, new: Value) -> Vec<String> {
        Typed::new(old).changes(&Typed::new(new))
    }

    #[test]
    fn what_differs_is_named_by_its_key() {
        let backend = |name: &str, arg: &str| json!({"name": name, "args": [arg], "env": {"A": arg}});
        let old = json!({
            "auth": {"mode": "local", "role": "a"},
            "backends": [backend("one", "x"), backend("two", "x"), backend("gone", "x")],
            "rate_limits": {"per_tool": {"t": 1}},
        });
        let new = json!({
            "auth": {"mode": "local", "role": "b", "subject": "s"},
            "backends": [backend("new", "x"), backend("one", "y"), backend("two", "x")],
            "kill_switch": {"disabled_tools": []},
            "rate_limits": {"per_tool": {"t": 2}},
        });
        assert_eq!(
            changes(old.clone(), new),
            [
                "auth.role",
                "auth.subject",
                "backends \"one\".args",
                "backends \"one\".env.A",
                "backends \"gone\" (taken out)",
                "backends \"new\" (new)",
                "rate_limits.per_tool.t",
                "kill_switch.disabled_tools",
            ]
        );
        assert!(changes(old.clone(), old).is_empty());
        let turned = changes(
            json!({"b": [{"name": "x"}, {"name": "y"}]}),
            json!({"b": [{"name": "y"}, {"name": "x"}]}),
        );
        assert_eq!(turned, ["b (their order)"]);
        assert_eq!(changes(json!({"a": [1]}), json!({"a": [2]})), ["a"]);
    }

    #[test]
    fn a_reading_takes_over_keys_of_another() {
        let old = Typed::new(json!({"a": 1, "b": {"x": 1, "y": 1}, "c": 1, "d": {"z": 1}}));
        let new = Typed::new(json!({"a": 2, "b": {"x": 2, "y": 2}, "e": {"w": 2}}));
        let with = |keys: &[&str]| new.with(&old, keys);
        assert_eq!(with(&["b.x"]), Typed::new(json!({"a": 2, "b": {"x": 1, "y": 2}, "e": {"w": 2}})));
        assert_eq!(with(&["b", "c", "e"]), Typed::new(json!({"a": 2, "b": {"x": 1, "y": 1}, "c": 1})));
        assert_eq!(
            with(&["d.z", "e.w", "f.x"]),
            Typed::new(json!({"a": 2, "b": {"x": 2, "y": 2}, "e": {}, "d": {"z": 1}}))
        );
        assert!(!format!("{old:?}").contains('1'));
    }
}
