//! Where a `$ref` leads. Only places in the same document count; nothing is ever fetched.

use std::collections::HashMap;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::keyword::{self, Shape};

/// A part of the document with a base of its own (`$id`), by its number.
pub(super) type Resource = usize;

/// Names and identifiers of everything in a document that can be pointed at.
#[derive(Debug)]
pub(super) struct Index<'v> {
    draft: Draft,
    root: &'v Value,
    resources: Vec<(String, &'v Value)>,
    /// The resource that begins at a value.
    begins: HashMap<*const Value, Resource>,
    anchors: HashMap<(Resource, &'v str), &'v Value>,
    dynamic: HashMap<&'v str, Vec<(&'v Value, Resource)>>,
}

/// What is under a place on the way along a pointer.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    Schema,
    /// A list of schemas, or schemas by name.
    Several,
    /// A place the standard knows nothing of; authors keep schemas there.
    Unknown,
    Data,
}

impl<'v> Index<'v> {
    pub(super) fn new(root: &'v Value, draft: Draft) -> Self {
        let mut index = Self {
            draft,
            root,
            resources: vec![(String::new(), root)],
            begins: HashMap::new(),
            anchors: HashMap::new(),
            dynamic: HashMap::new(),
        };
        let mut open = vec![(root, 0)];
        while let Some((value, resource)) = open.pop() {
            let Value::Object(map) = value else { continue };
            let resource = index.named(value, map, resource);
            for (key, under) in map {
                each_schema(key, under, draft, &mut |schema| open.push((schema, resource)));
            }
        }
        index
    }

    /// Notes what a schema is called; the resource that it and what is in it belong to.
    fn named(&mut self, value: &'v Value, map: &'v Map<String, Value>, resource: Resource) -> Resource {
        let id = if self.draft == Draft::Draft4 { "id" } else { "$id" };
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        let mut resource = resource;
        let id = text(id).filter(|_| self.draft > Draft::Draft7 || !map.contains_key("$ref"));
        match id.map(|id| id.split_once('#').unwrap_or((id, ""))) {
            // Before 2019-09 an anchor was spelled this way.
            Some(("", anchor)) if !anchor.is_empty() => {
                self.anchors.insert((resource, anchor), value);
            }
            Some((id, _)) if !id.is_empty() => {
                let full = resolved(&self.resources[resource].0, id);
                if std::ptr::eq(value, self.root) {
                    self.resources[0].0 = full;
                } else {
                    self.resources.push((full, value));
                    resource = self.resources.len() - 1;
                    self.begins.insert(std::ptr::from_ref(value), resource);
                }
            }
            _ => {}
        }
        if let Some(anchor) = text("$anchor") {
            self.anchors.insert((resource, anchor), value);
        }
        if let Some(anchor) = text("$dynamicAnchor") {
            self.anchors.insert((resource, anchor), value);
            self.dynamic.entry(anchor).or_default().push((value, resource));
        }
        resource
    }

    /// The part with a base of its own that begins at a schema.
    pub(super) fn resource(&self, value: &Value) -> Option<Resource> {
        self.begins.get(&std::ptr::from_ref(value)).copied()
    }

    /// The schema a reference means, with the resource it is in; or why there is none.
    pub(super) fn find(
        &self,
        keyword: &str,
        reference: &str,
        from: Resource,
    ) -> Result<(&'v Value, Resource), &'static str> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let several = || self.resources.len() > 1;
        match keyword {
            // With one schema of that name there is only one that it can mean, from wherever the reference is followed.
            "$dynamicRef" => match self.dynamic.get(fragment).map(Vec::as_slice) {
                Some([only]) => return Ok(*only),
                Some(_) => return Err("it depends on the way that leads to it, which is not supported"),
                None => {}
            },
            "$recursiveRef" if several() => {
                return Err("it depends on the way that leads to it, which is not supported");
            }
            _ => {}
        }
        let resource = if uri.is_empty() {
            from
        } else {
            let full = resolved(&self.resources[from].0, uri);
            let found = self.resources.iter().position(|(id, _)| *id == full || *id == uri);
            found.ok_or("it is outside of this schema, and nothing is fetched")?
        };
        let fragment = percent_decoded(fragment).ok_or("it is no JSON pointer")?;
        if fragment.is_empty() {
            return Ok((self.resources[resource].1, resource));
        }
        let missing = "there is nothing where it points to";
        match fragment.strip_prefix('/') {
            None => {
                let found = self.anchors.get(&(resource, fragment.as_str()));
                found.map(|value| (*value, resource)).ok_or(missing)
            }
            Some(pointer) => self.along(resource, pointer).ok_or(missing),
        }
    }

    fn along(&self, resource: Resource, pointer: &str) -> Option<(&'v Value, Resource)> {
        let (mut value, mut resource) = (self.resources[resource].1, resource);
        let mut standing = Standing::Schema;
        for token in pointer.split('/') {
            let token = token.replace("~1", "/").replace("~0", "~");
            let (next, under) = match value {
                Value::Object(map) => (map.get(&token)?, Some(token.as_str())),
                Value::Array(items) => (items.get(token.parse::<usize>().ok()?)?, None),
                _ => return None,
            };
            standing = self.under(standing, under, next);
            value = next;
            if let Some(begun) = self.begins.get(&std::ptr::from_ref(value)) {
                resource = *begun;
            }
        }
        let is_schema = matches!(standing, Standing::Schema | Standing::Unknown)
            && matches!(value, Value::Object(_) | Value::Bool(_));
        is_schema.then_some((value, resource))
    }

    fn under(&self, standing: Standing, key: Option<&str>, value: &Value) -> Standing {
        match (standing, key) {
            (Standing::Schema, Some(key)) if keyword::keeps_definitions(key) => Standing::Several,
            (Standing::Schema, Some("const" | "default" | "examples" | "example")) => Standing::Data,
            (Standing::Schema, Some(key)) => match keyword::find(key, self.draft) {
                None => Standing::Unknown,
                Some((_, Shape::One)) => Standing::Schema,
                Some((_, Shape::Many | Shape::Named | Shape::Patterns | Shape::Dependencies)) => {
                    Standing::Several
                }
                Some((_, Shape::Items)) if value.is_array() => Standing::Several,
                Some((_, Shape::Items)) => Standing::Schema,
                Some(_) => Standing::Data,
            },
            (Standing::Several, _) => Standing::Schema,
            // An object there may be a schema or hold some; the reference that points into it decides.
            (Standing::Unknown, _) => Standing::Unknown,
            (Standing::Schema | Standing::Data, _) => Standing::Data,
        }
    }
}

/// Every schema directly under a keyword.
fn each_schema<'v>(key: &str, under: &'v Value, draft: Draft, found: &mut impl FnMut(&'v Value)) {
    let shape = keyword::find(key, draft).map(|(_, shape)| shape);
    match (shape, under) {
        (None, Value::Object(map)) if keyword::keeps_definitions(key) => map.values().for_each(found),
        (Some(Shape::One | Shape::Items), Value::Object(_)) => found(under),
        (Some(Shape::Many | Shape::Items), Value::Array(items)) => items.iter().for_each(found),
        (Some(Shape::Named | Shape::Patterns | Shape::Dependencies), Value::Object(map)) => {
            map.values().for_each(found);
        }
        _ => {}
    }
}

/// A reference seen from a base (RFC 3986 §5.2, without dot segments: a reference with those is not found).
fn resolved(base: &str, reference: &str) -> String {
    let has_scheme = |text: &str| {
        text.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        })
    };
    if base.is_empty() || has_scheme(reference) {
        return reference.to_owned();
    }
    let authority = base.find("://").map_or(0, |at| at + 3);
    let path = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    if reference.starts_with('/') {
        return format!("{}{reference}", &base[..path]);
    }
    let folder = base.rfind('/').filter(|at| *at >= path).map_or(path, |at| at + 1);
    let between = if folder == path && authority > 0 { "/" } else { "" };
    format!("{}{between}{reference}", &base[..folder])
}

fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_by_pointer_anchor_and_identifier() {
        let schema = json!({
            "$id": "https://example.com/a/b.json",
            "$defs": {
                "x/y": {"title": "pointer"},
                "n": {"$anchor": "name", "title": "anchor"},
                "r": {"$id": "c.json", "$defs": {"in": {"title": "inner"}}},
                "d": {"$dynamicAnchor": "here", "title": "dynamic"},
            },
            "components": {"schemas": {"S": {"title": "odd"}}},
            "enum": [{"title": "data"}],
        });
        let index = Index::new(&schema, Draft::Draft202012);
        let title = |reference: &str| {
            index
                .find("$ref", reference, 0)
                .map(|(value, _)| value["title"].as_str().unwrap_or("-").to_owned())
        };
        assert_eq!(title("#/$defs/x~1y").unwrap(), "pointer");
        assert_eq!(title("#/%24defs/n").unwrap(), "anchor");
        assert_eq!(title("#name").unwrap(), "anchor");
        assert_eq!(title("c.json#/$defs/in").unwrap(), "inner");
        assert_eq!(title("https://example.com/a/c.json#/$defs/in").unwrap(), "inner");
        assert_eq!(title("b.json#name").unwrap(), "anchor");
        assert_eq!(title("#/components/schemas/S").unwrap(), "odd");
        assert_eq!(title("#").unwrap(), "-");
        let (dynamic, _) = index.find("$dynamicRef", "#here", 0).unwrap();
        assert_eq!(dynamic["title"], "dynamic");
        for nowhere in
            ["#/$defs/none", "#none", "https://example.com/other", "#/enum/0", "#/$defs", "#/%zz", "d.json"]
        {
            assert!(index.find("$ref", nowhere, 0).is_err(), "{nowhere}");
        }
    }

    #[test]
    fn bases_are_joined() {
        for (base, reference, full) in [
            ("https://a/b/c", "d", "https://a/b/d"),
            ("https://a", "d", "https://a/d"),
            ("https://a/b/c", "/d", "https://a/d"),
            ("https://a/b", "urn:x:y", "urn:x:y"),
            ("", "d", "d"),
            ("a/b", "d", "a/d"),
        ] {
            assert_eq!(resolved(base, reference), full, "{base} {reference}");
        }
    }
}
