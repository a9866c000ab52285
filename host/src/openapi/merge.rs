//! Operations as `[[routes]]` of a configuration file that may have some already.
//!
//! A route is recognised by where it leads: upstream, method and path there. What the document says of it is written anew; everything
//! else in the file stays as it is, with its comments: the name and the path a person gave it, who may call it, its limits.

use std::collections::HashSet;

use serde_json::Value;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use super::naming::{self, MAX_ID};
use super::notes::Notes;
use super::operation::{Operation, Parameter};
use crate::config::rest::Template;

/// The keys that come from the document; the others are the operator's.
const FROM_DOCUMENT: [&str; 7] =
    ["summary", "description", "tags", "deprecated", "parameters", "body", "responses"];

/// How the routes are reached, and where they lead.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    /// The name of the upstream.
    pub upstream: &'a str,
    /// Where it is, with the path that all of its operations are below.
    pub url: &'a str,
    /// `jwt`, `api_key` or `none`, for routes that are new.
    pub auth: &'a str,
}

/// The file as it would be.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    pub text: String,
    /// The ids of routes that were not there, that say something else now, and that stayed as they were.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub same: Vec<String>,
    /// Routes to this upstream that the document knows nothing of (any more). They stay.
    pub gone: Vec<String>,
    pub notes: Notes,
}

/// Why a file cannot take routes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    #[error("it is not TOML: {0}")]
    Toml(String),
    #[error("`{0}` is not written as [[{0}]], which is what can be added to")]
    Inline(&'static str),
}

/// Puts operations into a file. `all` is everything in the document, to tell which routes it no longer knows; `picked` is what is
/// wanted of it.
///
/// # Errors
/// See [`MergeError`].
pub fn merge(
    old: &str,
    all: &[Operation],
    picked: &[&Operation],
    access: &Access<'_>,
) -> Result<Merged, MergeError> {
    let mut document: DocumentMut =
        old.parse().map_err(|error: toml_edit::TomlError| MergeError::Toml(error.to_string()))?;
    let mut merged = Merged::default();
    upstream(&mut document, access, &mut merged.notes)?;
    let routes = tables(&mut document, "routes")?;
    let mut ids: HashSet<String> =
        routes.iter().filter_map(|route| text(route, "id").map(str::to_owned)).collect();
    let mut shapes: HashSet<String> = HashSet::new();
    for route in routes.iter() {
        if let (Some(method), Some(path)) = (text(route, "method"), text(route, "path")) {
            shapes.insert(shape(method, path));
        }
    }
    for operation in picked {
        if let Err(why) = routable(operation) {
            merged.notes.add(&operation.label(), format!("left out: {why}"));
            continue;
        }
        let found = routes.iter_mut().find(|route| leads_to(route, operation, access.upstream));
        if let Some(route) = found {
            let id = text(route, "id").unwrap_or(&operation.id).to_owned();
            if update(route, operation) {
                merged.changed.push(id)
            } else {
                merged.same.push(id)
            }
            continue;
        }
        if !shapes.insert(shape(&operation.method, &operation.path)) {
            merged.notes.add(&operation.label(), "left out: another route has this method and path, or one that differs only in the names of parameters");
            continue;
        }
        let id = naming::free(&operation.id, &ids, MAX_ID);
        if id != operation.id {
            merged.notes.add(&operation.label(), "another route has its id: this one's ends in a number");
        }
        ids.insert(id.clone());
        routes.push(route(&id, operation, access));
        merged.added.push(id);
    }
    for route in routes.iter() {
        if target(route, "upstream") == Some(access.upstream)
            && !all.iter().any(|operation| leads_to(route, operation, access.upstream))
        {
            merged.gone.push(text(route, "id").or(text(route, "path")).unwrap_or("a route").to_owned());
        }
    }
    merged.text = document.to_string();
    Ok(merged)
}

/// A section of the file that is written as many tables; an empty one if it is not there.
fn tables<'a>(document: &'a mut DocumentMut, key: &'static str) -> Result<&'a mut ArrayOfTables, MergeError> {
    let item = document.entry(key).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut().ok_or(MergeError::Inline(key))
}

fn upstream(document: &mut DocumentMut, access: &Access<'_>, notes: &mut Notes) -> Result<(), MergeError> {
    let upstreams = tables(document, "upstreams")?;
    if let Some(known) = upstreams.iter().find(|known| text(known, "name") == Some(access.upstream)) {
        if text(known, "url") != Some(access.url) {
            notes.add(
                "",
                format!(
                    "the upstream {:?} is in the file already, and keeps the url that it has there",
                    access.upstream
                ),
            );
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.insert("name", value(access.upstream));
    table.insert("url", value(access.url));
    table.decor_mut().set_prefix("\n");
    upstreams.push(table);
    Ok(())
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str()
}

fn target<'a>(route: &'a Table, key: &str) -> Option<&'a str> {
    route.get("target")?.as_table_like()?.get(key)?.as_str()
}

/// Whether a route of the file is this operation.
fn leads_to(route: &Table, operation: &Operation, upstream: &str) -> bool {
    let there = target(route, "path").or_else(|| text(route, "path"));
    target(route, "upstream") == Some(upstream)
        && text(route, "method").is_some_and(|method| method.eq_ignore_ascii_case(&operation.method))
        && there.is_some_and(|there| shape("", there) == shape("", &operation.path))
}

/// Method and path with parameters that have no names: two routes of one shape cannot be told apart.
fn shape(method: &str, path: &str) -> String {
    let mut out = method.to_ascii_uppercase();
    for segment in path.split('/') {
        out.push('/');
        out.push_str(if segment.starts_with('{') { "{}" } else { segment });
    }
    out
}

/// The methods that routes have.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"];

/// Whether a route can be what the operation is.
fn routable(operation: &Operation) -> Result<(), String> {
    if !METHODS.contains(&operation.method.as_str()) {
        return Err("routes have no such method".to_owned());
    }
    let plain = |style: &str| !matches!(style, "label" | "matrix");
    if !operation.parameters.iter().all(|parameter| plain(&parameter.style)) {
        return Err("routes have no parameters of the style label or matrix".to_owned());
    }
    template(&operation.path)
}

/// Whether a template can be matched: a parameter is a whole segment.
fn template(path: &str) -> Result<(), String> {
    let partly = |segment: &str| {
        let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(segment);
        inner.contains(['{', '}'])
    };
    // In the same words for all of them, so that it is said once.
    if path.split('/').any(partly) {
        return Err("a parameter in its path is not a whole segment".to_owned());
    }
    Template::parse(path).map(drop).map_err(|why| format!("its path cannot be that of a route: {why}"))
}

fn route(id: &str, operation: &Operation, access: &Access<'_>) -> Table {
    let mut route = Table::new();
    route.insert("id", value(id));
    route.insert("method", value(operation.method.as_str()));
    route.insert("path", value(operation.path.as_str()));
    route.insert("auth", value(access.auth));
    let mut target = toml_edit::InlineTable::new();
    target.insert("upstream", access.upstream.into());
    route.insert("target", Item::Value(target.into()));
    route.decor_mut().set_prefix("\n");
    for (key, item) in said(operation) {
        route.insert(key, item);
    }
    route
}

/// Writes anew what the document says of a route; whether that changed anything.
fn update(route: &mut Table, operation: &Operation) -> bool {
    let before = plain(route);
    let new = said(operation);
    let mut fresh = Table::new();
    for (key, item) in &new {
        fresh.insert(key, item.clone());
    }
    let fresh = plain(&fresh);
    let differs = |key: &&str| before.get(*key) != fresh.get(*key);
    let changed: Vec<&str> = FROM_DOCUMENT.into_iter().filter(differs).collect();
    for key in &changed {
        match new.iter().find(|(name, _)| name == key) {
            Some((_, item)) => match (route.get_mut(key), item) {
                // The comment behind a value stays where it is.
                (Some(Item::Value(old)), Item::Value(item)) => {
                    let decor = old.decor().clone();
                    *old = item.clone();
                    *old.decor_mut() = decor;
                }
                _ => drop(route.insert(key, item.clone())),
            },
            None => drop(route.remove(key)),
        }
    }
    !changed.is_empty()
}

/// The content without its layout.
fn plain(table: &Table) -> toml::Table {
    toml::from_str(&DocumentMut::from(table.clone()).to_string()).unwrap_or_default()
}

/// What the document says of an operation, as keys of a route. Tables come last, as TOML wants it.
fn said(operation: &Operation) -> Vec<(&'static str, Item)> {
    let mut keys: Vec<(&'static str, Item)> = Vec::new();
    for (key, text) in [("summary", &operation.summary), ("description", &operation.description)] {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            keys.push((key, value(text.as_str())));
        }
    }
    if !operation.tags.is_empty() {
        keys.push(("tags", value(operation.tags.iter().map(String::as_str).collect::<Array>())));
    }
    if operation.deprecated {
        keys.push(("deprecated", value(true)));
    }
    if !operation.parameters.is_empty() {
        let parameters: ArrayOfTables = operation.parameters.iter().map(parameter).collect();
        keys.push(("parameters", Item::ArrayOfTables(parameters)));
    }
    if let Some(body) = &operation.body {
        let mut table = Table::new();
        table.insert("required", value(body.required));
        table.insert(
            "content",
            value(body.content.iter().map(|media| media.name.as_str()).collect::<Array>()),
        );
        if let Some(schema) = body.json().and_then(|media| media.schema.as_ref()) {
            table.insert("schema", value(json(schema)));
        }
        keys.push(("body", Item::Table(table)));
    }
    if !operation.responses.is_empty() {
        let mut responses = Table::new();
        responses.set_implicit(true);
        for response in &operation.responses {
            let mut table = Table::new();
            if let Some(text) = &response.description {
                table.insert("description", value(text.as_str()));
            }
            if let Some(media) =
                response.content.iter().find(|media| media.is_json()).or(response.content.first())
            {
                table.insert("content", value(media.name.as_str()));
                // A client reads what it hears when all is well; the rest would double the file.
                if let Some(schema) = media.schema.as_ref().filter(|_| response.status.starts_with('2')) {
                    table.insert("schema", value(json(schema)));
                }
            }
            responses.insert(&response.status, Item::Table(table));
        }
        keys.push(("responses", Item::Table(responses)));
    }
    keys
}

fn parameter(parameter: &Parameter) -> Table {
    let mut table = Table::new();
    table.insert("name", value(parameter.name.as_str()));
    table.insert("in", value(parameter.place.as_str()));
    if parameter.required {
        table.insert("required", value(true));
    }
    if !parameter.is_plain() {
        table.insert("style", value(parameter.style.as_str()));
        table.insert("explode", value(parameter.explode));
    }
    if let Some(schema) = &parameter.schema {
        table.insert("schema", value(json(schema)));
    }
    if let Some(text) = &parameter.description {
        table.insert("description", value(text.as_str()));
    }
    table
}

/// TOML has no `null`, so a schema is a text of JSON.
fn json(schema: &Value) -> String {
    schema.to_string()
}
