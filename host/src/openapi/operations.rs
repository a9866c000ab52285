//! From a document to its operations. What cannot be read is said and left out; the rest is there.

use std::cell::Cell;
use std::collections::HashSet;

use serde_json::{Map, Value};

use super::naming::{self, MAX_ID};
use super::notes::Notes;
use super::operation::{Body, Media, Operation, Requirement, Response, Scheme};
use super::read::Document;
use super::reader::Reader;
use super::refs::{self, RefError};
use super::schema::{self, SchemaError, Source, Way};

/// Most operations of one document. The largest public documents have some thousand.
const MAX_OPERATIONS: usize = 10_000;
/// Longest description that is kept, in bytes.
const MAX_TEXT: usize = 8 << 10;

/// The methods that a path has by name.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "head", "patch", "query", "options"];

/// What is in a document.
#[derive(Debug, Default)]
pub struct Imported {
    pub title: String,
    pub version: String,
    /// In the order of the document.
    pub operations: Vec<Operation>,
    pub notes: Notes,
    /// The number of operations that were left out because they cannot be read.
    pub left: usize,
}

/// Why an operation was left out.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error(transparent)]
    Parameter(#[from] super::parameters::ParameterError),
    #[error("the body: {0}")]
    Body(SchemaError),
    #[error("the body cannot be read: {0}")]
    BodyReference(RefError),
    #[error("it is not described by an object")]
    NoObject,
    #[error("its path {0}")]
    Path(&'static str),
}

/// Everything that a document says about its operations.
#[must_use]
pub fn operations(document: &Document) -> Imported {
    let root = &document.root;
    let text = |pointer: &str| root.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut imported =
        Imported { title: text("/info/title"), version: text("/info/version"), ..Imported::default() };
    let room = Cell::new(schema::MAX_ALL);
    let reader = Reader { root, schemas: Source { root, version: document.version, room: &room } };
    let mut taken = HashSet::new();
    let empty = Map::new();
    for (path, item) in root.get("paths").and_then(Value::as_object).unwrap_or(&empty) {
        if path.starts_with("x-") {
            continue;
        }
        let item = match refs::follow(root, item) {
            Ok(item) => item,
            Err(error) => {
                imported.left += 1;
                imported.notes.add(path, format!("left out: {error}"));
                continue;
            }
        };
        for (method, operation) in methods(item) {
            if imported.operations.len() >= MAX_OPERATIONS {
                imported.notes.add("", format!("only the first {MAX_OPERATIONS} operations were read"));
                return imported;
            }
            let label = format!("{} {path}", method.to_ascii_uppercase());
            let mut notes = Notes::default();
            match reader.operation(path, &method, item, operation, &label, &mut taken, &mut notes) {
                Ok(operation) => {
                    imported.operations.push(operation);
                    imported.notes.extend(notes);
                }
                Err(why) => {
                    imported.left += 1;
                    imported.notes.add(&label, format!("left out: {why}"));
                }
            }
        }
        for key in ["trace", "options"] {
            if item.get(key).is_some() {
                let why = if key == "trace" {
                    "TRACE is refused by the gateway"
                } else {
                    "OPTIONS is answered by the gateway itself"
                };
                imported.notes.add(path, format!("left out: {why}"));
            }
        }
    }
    if let Some(hooks) = root.get("webhooks").and_then(Value::as_object).filter(|hooks| !hooks.is_empty()) {
        imported
            .notes
            .add("", format!("{} webhooks are requests of the API to others, and no routes", hooks.len()));
    }
    if imported.operations.is_empty() && imported.left == 0 {
        imported.notes.add("", "the document has no operations: nothing stands under `paths`");
    }
    imported
}

/// The operations of a path: those with a key of their own, and since 3.2 any others.
fn methods(item: &Value) -> Vec<(String, &Value)> {
    let Some(map) = item.as_object() else { return Vec::new() };
    let known = map.iter().filter(|(key, _)| key.as_str() != "options" && METHODS.contains(&key.as_str()));
    let more = map.get("additionalOperations").and_then(Value::as_object).into_iter().flatten();
    known.chain(more).map(|(method, operation)| (method.clone(), operation)).collect()
}

impl Reader<'_> {
    #[expect(clippy::too_many_arguments, reason = "what an operation is read from")]
    fn operation(
        &self,
        path: &str,
        method: &str,
        item: &Value,
        operation: &Value,
        label: &str,
        taken: &mut HashSet<String>,
        notes: &mut Notes,
    ) -> Result<Operation, Left> {
        if !operation.is_object() {
            return Err(Left::NoObject);
        }
        check_path(path).map_err(Left::Path)?;
        let text =
            |key: &str| operation.get(key).or_else(|| item.get(key)).and_then(Value::as_str).map(shortened);
        let parameters = self.parameters(item, operation, path, label, notes)?;
        let body = match operation.get("requestBody") {
            Some(body) => self.body(body, label, notes)?,
            None => None,
        };
        if operation
            .get("callbacks")
            .is_some_and(|callbacks| callbacks.as_object().is_some_and(|map| !map.is_empty()))
        {
            notes.add(label, "callbacks are requests of the API to others, and no routes");
        }
        let given = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
        let wanted = if given.is_empty() {
            format!("{}_{path}", method.to_ascii_lowercase())
        } else {
            given.to_owned()
        };
        let wanted = naming::plain(&wanted);
        let id = naming::free(&wanted, taken, MAX_ID);
        if id != wanted {
            notes.add(label, "another operation has the same id: this one's ends in a number");
        }
        taken.insert(id.clone());
        let tags = operation.get("tags").and_then(Value::as_array).into_iter().flatten();
        Ok(Operation {
            id,
            method: method.to_ascii_uppercase(),
            path: path.to_owned(),
            summary: text("summary"),
            description: text("description"),
            tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
            deprecated: operation.get("deprecated").and_then(Value::as_bool).unwrap_or(false),
            parameters,
            body,
            responses: self.responses(operation, label, notes),
            security: self.security(operation),
            server: self.server(item, operation),
        })
    }

    fn body(&self, body: &Value, place: &str, notes: &mut Notes) -> Result<Option<Body>, Left> {
        let body = refs::follow(self.root, body).map_err(Left::BodyReference)?;
        let mut content = Vec::new();
        for (name, media) in body.get("content").and_then(Value::as_object).into_iter().flatten() {
            let name = media_name(name);
            let media = refs::follow(self.root, media).map_err(Left::BodyReference)?;
            // Only JSON is judged by its schema. What others of them say is about parts and files.
            let schema = media.get("schema").filter(|_| Media { name: name.clone(), schema: None }.is_json());
            let schema = schema
                .map(|schema| self.schema(schema, Way::Request, place, notes))
                .transpose()
                .map_err(Left::Body)?;
            if !content.iter().any(|known: &Media| known.name == name) {
                content.push(Media { name, schema });
            }
        }
        if content.is_empty() {
            return Ok(None);
        }
        let required = body.get("required").and_then(Value::as_bool).unwrap_or(false);
        let description = body.get("description").and_then(Value::as_str).map(shortened);
        Ok(Some(Body { required, description, content }))
    }

    /// Answers are for the reader of the document: one that cannot be read is no reason to leave the operation out.
    fn responses(&self, operation: &Value, place: &str, notes: &mut Notes) -> Vec<Response> {
        let mut responses = Vec::new();
        for (status, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten()
        {
            let known =
                status == "default" || (status.len() == 3 && status.starts_with(['1', '2', '3', '4', '5']));
            if !known {
                continue;
            }
            let response = match refs::follow(self.root, response) {
                Ok(response) => response,
                Err(error) => {
                    notes.add(place, format!("the answer {status} was left out: {error}"));
                    continue;
                }
            };
            let mut content = Vec::new();
            for (name, media) in response.get("content").and_then(Value::as_object).into_iter().flatten() {
                let name = media_name(name);
                let schema =
                    media.get("schema").filter(|_| Media { name: name.clone(), schema: None }.is_json());
                let schema =
                    schema.map(|schema| self.schema(schema, Way::Response, place, notes)).transpose();
                match schema {
                    Ok(schema) => content.push(Media { name, schema }),
                    Err(error) => {
                        notes.add(place, format!("the schema of an answer was left out: {error}"));
                        content.push(Media { name, schema: None });
                    }
                }
            }
            let description = response.get("description").and_then(Value::as_str).map(shortened);
            responses.push(Response {
                status: status.to_ascii_uppercase().replace("DEFAULT", "default"),
                description,
                content,
            });
        }
        responses
    }

    fn security(&self, operation: &Value) -> Vec<Requirement> {
        let wanted = operation.get("security").or_else(|| self.root.get("security"));
        let mut ways = Vec::new();
        for way in wanted.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            // An empty way lets everybody in.
            if way.is_empty() {
                return Vec::new();
            }
            let scheme = |(name, scopes): (&String, &Value)| Scheme {
                name: name.clone(),
                kind: self.kind(name),
                scopes: scopes
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            };
            ways.push(Requirement(way.iter().map(scheme).collect()));
        }
        ways
    }

    fn kind(&self, name: &str) -> String {
        let schemes = self.root.pointer("/components/securitySchemes").and_then(Value::as_object);
        let scheme = schemes
            .and_then(|schemes| schemes.get(name))
            .and_then(|scheme| refs::follow(self.root, scheme).ok());
        let text =
            |key: &str| scheme.and_then(|scheme| scheme.get(key)).and_then(Value::as_str).unwrap_or_default();
        match text("type") {
            "" => "a scheme that the document does not describe".to_owned(),
            "http" => format!("http {}", text("scheme")),
            "apiKey" => format!("apiKey in {} {}", text("in"), text("name")),
            other => other.to_owned(),
        }
    }

    /// The first server, with the default of each variable.
    fn server(&self, item: &Value, operation: &Value) -> Option<String> {
        let first = |object: &Value| {
            object.get("servers").and_then(Value::as_array).and_then(|list| list.first()).cloned()
        };
        let server = first(operation).or_else(|| first(item)).or_else(|| first(self.root))?;
        let mut url = server.get("url")?.as_str()?.to_owned();
        for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
            if let Some(default) = variable.get("default").and_then(Value::as_str) {
                url = url.replace(&format!("{{{name}}}"), default);
            }
        }
        (url.len() <= 2_000).then_some(url)
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    let balanced = path.matches('{').count() == path.matches('}').count();
    match path {
        _ if !path.starts_with('/') => Err("does not begin with a slash"),
        _ if path.contains(['?', '#']) => Err("holds a query or a fragment"),
        _ if !balanced => Err("has a brace without its partner"),
        _ if path.chars().any(|c| c.is_control() || c == ' ' || c == '\\' || !c.is_ascii()) => {
            Err("holds characters that no path may hold")
        }
        _ if path.len() > 2_000 => Err("is too long"),
        _ => Ok(()),
    }
}

fn media_name(name: &str) -> String {
    name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim().to_owned()
}
