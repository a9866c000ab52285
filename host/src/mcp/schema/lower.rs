//! From the text of a schema to a graph of the keywords that count, with every reference resolved and every flaw named.
//! A faulty keyword is read in its old meaning if it can have no other, and otherwise left out.

mod generous;

use std::collections::{HashMap, HashSet, VecDeque};

use jsonschema::Draft;
use serde_json::{Map, Value, json};

use super::data::data;
use super::find::{Index, Resource};
use super::flaws::Flaws;
use super::keyword::{self, Shape};
use super::node::{Id, Node, ROOT, Word};
use super::pattern;

/// A schema that was read.
#[derive(Debug)]
pub(super) struct Lowered {
    pub(super) nodes: Vec<Node>,
    pub(super) draft: Draft,
    pub(super) flaws: Flaws,
    /// The patterns as they were spelled in the schema, for messages.
    pub(super) spelled: Vec<(String, String)>,
}

/// Reads a schema.
///
/// # Errors
/// It is none.
pub(super) fn lower(text: &str) -> Result<Lowered, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it cannot be read: {error}"))?;
    let Value::Object(map) = &value else { return Err("it is no JSON object".to_owned()) };
    let mut flaws = Flaws::default();
    let draft = draft(map, &mut flaws);
    let mut lowering = Lowering {
        draft,
        index: Index::new(&value, draft),
        nodes: Vec::new(),
        places: Vec::new(),
        known: HashMap::new(),
        open: VecDeque::new(),
        flaws,
        spelled: Vec::new(),
    };
    lowering.node(&value, 0, (ROOT, "", ""));
    while let Some((id, value, resource)) = lowering.open.pop_front() {
        lowering.schema(id, value, resource);
    }
    let Lowering { nodes, flaws, spelled, .. } = lowering;
    Ok(Lowered { nodes, draft, flaws, spelled })
}

/// The draft a schema names; 2020-12 if it names none (MCP 2025-11-25).
fn draft(map: &Map<String, Value>, flaws: &mut Flaws) -> Draft {
    let Some(named) = map.get("$schema") else { return Draft::Draft202012 };
    let uri = named.as_str().map(|uri| uri.trim_end_matches(['#', '/']));
    match uri.map_or(Draft::Unknown, Draft::from_schema_uri) {
        Draft::Unknown => {
            flaws.note("/$schema", "it is no draft that is known here, 2020-12 is assumed");
            Draft::Draft202012
        }
        draft => draft,
    }
}

struct Lowering<'v> {
    draft: Draft,
    index: Index<'v>,
    nodes: Vec<Node>,
    /// Where each node was found first: in which other, under which keyword, by which name.
    places: Vec<(Id, &'v str, &'v str)>,
    known: HashMap<*const Value, Id>,
    open: VecDeque<(Id, &'v Value, Resource)>,
    flaws: Flaws,
    spelled: Vec<(String, String)>,
}

impl<'v> Lowering<'v> {
    /// The node of a schema, to be read later if it is a new one. What is no schema accepts everything.
    fn node(&mut self, value: &'v Value, resource: Resource, place: (Id, &'v str, &'v str)) -> Id {
        if let Some(id) = self.known.get(&std::ptr::from_ref(value)) {
            return *id;
        }
        let id = self.nodes.len();
        self.nodes.push(Node::default());
        self.places.push(place);
        match value {
            Value::Object(_) => {
                self.known.insert(std::ptr::from_ref(value), id);
                let begun = self.index.resource(value).unwrap_or(resource);
                self.open.push_back((id, value, begun));
            }
            Value::Bool(true) => {}
            Value::Bool(false) => self.nodes[id].never = true,
            _ => {
                (self.nodes[id].cut, self.nodes[id].lost) = (true, true);
                let (owner, keyword, name) = place;
                let at = self.place(owner, keyword, name);
                self.flaws.refuse(&at, "it is no schema");
                self.flaw(owner, keyword, name, "it is no schema, so everything is accepted there");
            }
        }
        id
    }

    /// A node that stands nowhere in the text.
    fn made(&mut self, node: Node, place: (Id, &'v str, &'v str)) -> Id {
        self.nodes.push(node);
        self.places.push(place);
        self.nodes.len() - 1
    }

    /// Notes what is wrong at a place.
    fn flaw(&mut self, id: Id, keyword: &str, name: &str, what: &str) {
        if self.flaws.is_full() {
            return self.flaws.note("", what);
        }
        let place = self.place(id, keyword, name);
        self.flaws.note(&place, what);
    }

    fn place(&self, id: Id, keyword: &str, name: &str) -> String {
        let mut steps = vec![name, keyword];
        let mut at = id;
        // Each node was found from an earlier one.
        while at != ROOT {
            let (owner, keyword, name) = self.places[at];
            steps.extend([name, keyword]);
            at = owner;
        }
        let mut place = String::new();
        for step in steps.into_iter().rev().filter(|step| !step.is_empty()) {
            place.push('/');
            place.push_str(step);
        }
        place
    }

    /// Leaves a keyword out that other validators refuse as well.
    fn leave_out(&mut self, id: Id, keyword: &str, what: &str) {
        let place = self.place(id, keyword, "");
        self.flaws.refuse(&place, what);
        self.leave_out_here(id, keyword, what);
    }

    /// Leaves a keyword out that others understand.
    fn leave_out_here(&mut self, id: Id, keyword: &str, what: &str) {
        self.flaw(id, keyword, "", &format!("{what}; it is left out"));
        self.nodes[id].cut = true;
        if keyword::evaluates(keyword) {
            self.nodes[id].lost = true;
        }
    }

    fn schema(&mut self, id: Id, value: &'v Value, resource: Resource) {
        let Value::Object(map) = value else { return };
        if id != ROOT && map.contains_key("$schema") && self.index.resource(value).is_some() {
            self.flaw(id, "$schema", "", "a draft of its own is not supported in a part of a schema");
        }
        // Up to draft 7 nothing beside a reference counts.
        let alone = self.draft <= Draft::Draft7 && map.get("$ref").is_some_and(Value::is_string);
        for (key, under) in map {
            let Some((keyword, shape)) = keyword::find(key, self.draft) else { continue };
            if alone && keyword != "$ref" {
                continue;
            }
            self.keyword(id, (keyword, shape), under, map, resource);
        }
        self.settle(id, map);
        self.spare_defaults(id, map, resource);
        self.take_null(id, map);
    }

    fn keyword(
        &mut self,
        id: Id,
        (keyword, shape): (&'static str, Shape),
        under: &'v Value,
        map: &'v Map<String, Value>,
        resource: Resource,
    ) {
        let word = match (shape, under) {
            (Shape::Reference, under) => return self.reference(id, keyword, under, resource),
            (Shape::Pattern, Value::String(pattern)) => return self.pattern(id, pattern),
            (Shape::Patterns, Value::Object(named)) => return self.patterns(id, named, resource),
            (Shape::Items, Value::Array(items)) => return self.tuple(id, items, map, resource),
            (Shape::Number, Value::Bool(flag)) if keyword.starts_with("exclusive") => {
                return self.exclusive(id, keyword, *flag, map);
            }
            // It is about the items after those of a list, and part of that list's meaning.
            (Shape::One, _) if keyword == "additionalItems" => return,
            // `false` and `true` were no schemas yet, but common where they are meant.
            (Shape::One | Shape::Items, Value::Object(_) | Value::Bool(_)) => {
                Some(Word::One(self.node(under, resource, (id, keyword, ""))))
            }
            (Shape::Many, Value::Array(items)) if !items.is_empty() => {
                Some(Word::Many(self.many(id, keyword, items, resource)))
            }
            (Shape::Named, Value::Object(named)) => {
                Some(Word::Named(self.named(id, keyword, named, resource)))
            }
            (Shape::Dependencies, Value::Object(named)) => {
                Some(Word::Named(self.dependencies(id, named, resource)))
            }
            (shape, under) => data(shape, under, self.draft).map(Word::Data),
        };
        match word {
            Some(Word::Many(ids)) if keyword == "allOf" => {
                ids.into_iter().for_each(|each| self.nodes[id].all_of(each))
            }
            Some(word) => self.nodes[id].words.push((keyword, word)),
            // `then` and `else` are about nothing without `if`.
            None => self.leave_out(id, keyword, "what stands there has no meaning"),
        }
    }

    fn many(&mut self, id: Id, keyword: &'v str, items: &'v [Value], resource: Resource) -> Vec<Id> {
        items.iter().map(|item| self.node(item, resource, (id, keyword, ""))).collect()
    }

    fn named(
        &mut self,
        id: Id,
        keyword: &'v str,
        named: &'v Map<String, Value>,
        resource: Resource,
    ) -> Vec<(String, Id)> {
        named
            .iter()
            .map(|(name, item)| (name.clone(), self.node(item, resource, (id, keyword, name))))
            .collect()
    }

    fn reference(&mut self, id: Id, keyword: &'static str, under: &'v Value, resource: Resource) {
        let found = match under {
            Value::String(reference) => self.index.find(keyword, reference, resource),
            _ => Err("it is no text"),
        };
        match found {
            Ok((target, resource)) => {
                let target = self.node(target, resource, (id, keyword, ""));
                // Two kinds of reference in one schema are both to be followed.
                if self.nodes[id].get("$ref").is_some() {
                    let mut second = Node::default();
                    second.words.push(("$ref", Word::One(target)));
                    let second = self.made(second, (id, keyword, ""));
                    self.nodes[id].all_of(second);
                } else {
                    self.nodes[id].words.push(("$ref", Word::One(target)));
                }
            }
            Err(why) => self.leave_out(id, keyword, why),
        }
    }

    fn pattern(&mut self, id: Id, spelled: &str) {
        match pattern::translate(spelled) {
            Ok(found) => {
                if found.loose {
                    let place = self.place(id, "pattern", "");
                    self.flaws.refuse(&place, "with the flag `u` it is no regular expression of ECMA-262");
                }
                let node = &mut self.nodes[id];
                node.states = found.states;
                node.words.push(("pattern", Word::Data(Value::String(found.text.clone()))));
                if let Some((least, most)) = found.length {
                    let mut lengths = Node::default();
                    lengths.words.push(("minLength", Word::Data(json!(least))));
                    lengths.words.extend(most.map(|most| ("maxLength", Word::Data(json!(most)))));
                    let lengths = self.made(lengths, (id, "pattern", ""));
                    self.nodes[id].all_of(lengths);
                }
                if found.text != spelled {
                    self.spelled.push((found.text, spelled.to_owned()));
                }
            }
            Err(why) => {
                let what = format!("{} {why}", shown(spelled));
                if why.is_elsewhere() {
                    self.leave_out_here(id, "pattern", &what)
                } else {
                    self.leave_out(id, "pattern", &what)
                }
            }
        }
    }

    fn patterns(&mut self, id: Id, named: &'v Map<String, Value>, resource: Resource) {
        let mut words: Vec<(String, Id)> = Vec::with_capacity(named.len());
        let mut taken = HashSet::new();
        for (spelled, item) in named {
            let (mut text, item) = match pattern::translate(spelled) {
                Ok(found) if found.length.is_none() => {
                    self.nodes[id].key_states += found.states + 1.0;
                    (found.text, self.node(item, resource, (id, "patternProperties", spelled)))
                }
                // Any name may be one that it is about, so none is refused for what else holds for the others.
                found => {
                    let why = found
                        .err()
                        .unwrap_or_else(|| pattern::Unread::Beyond("it counts too far".to_owned()));
                    let what = format!("{} {why}", shown(spelled));
                    if why.is_elsewhere() {
                        self.leave_out_here(id, "patternProperties", &what);
                    } else {
                        self.leave_out(id, "patternProperties", &what);
                    }
                    let any = Node { cut: true, lost: true, ..Node::default() };
                    (String::new(), self.made(any, (id, "patternProperties", "")))
                }
            };
            // Two spellings of one pattern are two schemas.
            while !taken.insert(text.clone()) {
                text.push_str("(?:)");
            }
            words.push((text, item));
        }
        self.nodes[id].words.push(("patternProperties", Word::Named(words)));
    }

    /// A list under `items`: one schema for each of the first items. Since 2020-12 it is spelled `prefixItems`.
    fn tuple(&mut self, id: Id, items: &'v [Value], map: &'v Map<String, Value>, resource: Resource) {
        if self.draft >= Draft::Draft202012 && map.contains_key("prefixItems") {
            return self.leave_out(id, "items", "a list beside `prefixItems` has no meaning");
        }
        let first = self.many(id, "items", items, resource);
        let (one, rest) = if self.draft >= Draft::Draft202012 {
            self.flaw(id, "items", "", "a list is read as `prefixItems`, as in older drafts");
            ("prefixItems", "items")
        } else {
            ("items", "additionalItems")
        };
        if !first.is_empty() {
            self.nodes[id].words.push((one, Word::Many(first)));
        }
        if let Some(more) = map.get("additionalItems") {
            let more = self.node(more, resource, (id, "additionalItems", ""));
            self.nodes[id].words.push((rest, Word::One(more)));
        }
    }

    /// `exclusiveMinimum: true` makes `minimum` exclusive in draft 4, and in OpenAPI up to 3.0.
    fn exclusive(&mut self, id: Id, keyword: &'static str, flag: bool, map: &Map<String, Value>) {
        let limit = if keyword == "exclusiveMinimum" { "minimum" } else { "maximum" };
        if self.draft == Draft::Draft4 {
            if map.get(limit).is_some_and(Value::is_number) {
                self.nodes[id].words.push((keyword, Word::Data(Value::Bool(flag))));
            }
            return;
        }
        let place = self.place(id, keyword, "");
        self.flaws.refuse(&place, "it is no number");
        self.flaw(id, keyword, "", &format!("`{flag}` is read as in draft 4, about `{limit}`"));
        if let Some(limit) = map.get(limit).filter(|limit| limit.is_number() && flag) {
            self.nodes[id].words.push((keyword, Word::Data(limit.clone())));
        }
    }

    /// A list of names is the schema that requires them.
    fn dependencies(
        &mut self,
        id: Id,
        named: &'v Map<String, Value>,
        resource: Resource,
    ) -> Vec<(String, Id)> {
        let mut words = Vec::with_capacity(named.len());
        for (name, item) in named {
            let item = match data(Shape::Names, item, self.draft) {
                None => self.node(item, resource, (id, "dependencies", name)),
                Some(names) => {
                    let mut node = Node::default();
                    node.words.push(("required", Word::Data(names)));
                    self.made(node, (id, "dependencies", name))
                }
            };
            words.push((name.clone(), item));
        }
        words
    }

    /// Keywords whose meaning hangs on another that was left out go with it.
    fn settle(&mut self, id: Id, map: &Map<String, Value>) {
        let gone = |node: &Node, keyword: &str| {
            map.contains_key(keyword)
                && keyword::find(keyword, self.draft).is_some()
                && node.get(keyword).is_none()
        };
        let node = &self.nodes[id];
        if !node.cut {
            return;
        }
        let mut with = Vec::new();
        if gone(node, "properties") || gone(node, "patternProperties") {
            with.push("additionalProperties");
        }
        if gone(node, "prefixItems") {
            with.push("items");
        }
        if gone(node, "minContains") {
            with.push("contains");
        }
        if gone(node, "if") {
            with.extend(["then", "else"]);
        }
        for keyword in with {
            if self.nodes[id].remove(keyword) {
                self.nodes[id].lost = true;
            }
        }
    }
}

/// A pattern as far as a message can hold it.
fn shown(pattern: &str) -> String {
    let cut: String = pattern.chars().take(60).collect();
    format!("{cut:?}{}", if cut.len() < pattern.len() { "…" } else { "" })
}
