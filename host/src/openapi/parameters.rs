//! The parameters of an operation: those of its path and its own, in one list.

use serde_json::{Value, json};

use super::notes::Notes;
use super::operation::{Parameter, Place};
use super::reader::Reader;
use super::refs;
use super::schema::{SchemaError, Way};

/// Headers that OpenAPI describes elsewhere; a parameter of such a name says nothing.
const ELSEWHERE: [&str; 3] = ["accept", "authorization", "content-type"];

/// Why an operation with such a parameter cannot be imported.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParameterError {
    #[error("a parameter cannot be read: {0}")]
    Reference(#[from] refs::RefError),
    #[error("parameter {0:?}: {1}")]
    Schema(String, SchemaError),
    #[error("a required parameter is the whole query string, which routes do not have")]
    QueryString,
}

/// The names in the braces of a path template, in order.
pub(super) fn names(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = path;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        names.push(name);
        rest = after;
    }
    names
}

impl Reader<'_> {
    /// Parameters of the path that the operation does not redefine, then its own; then those the path names and neither describes.
    pub(super) fn parameters(
        &self,
        item: &Value,
        operation: &Value,
        path: &str,
        place: &str,
        notes: &mut Notes,
    ) -> Result<Vec<Parameter>, ParameterError> {
        let mut found: Vec<Parameter> = Vec::new();
        let lists = [item, operation].map(|object| object.get("parameters").and_then(Value::as_array));
        for written in lists.into_iter().flatten().flatten() {
            let written = refs::follow(self.root, written)?;
            let Some(parameter) = self.parameter(written, path, place, notes)? else { continue };
            let same = |known: &Parameter| (known.place, &known.name) == (parameter.place, &parameter.name);
            match found.iter_mut().find(|known| same(known)) {
                Some(known) => *known = parameter,
                None => found.push(parameter),
            }
        }
        for name in names(path) {
            if !found.iter().any(|known| known.place == Place::Path && known.name == name) {
                notes.add(place, "the path names a parameter that is described nowhere: any text passes");
                found.push(Parameter {
                    name: name.to_owned(),
                    place: Place::Path,
                    required: true,
                    description: None,
                    style: "simple".to_owned(),
                    explode: false,
                    schema: Some(json!({"type": "string"})),
                });
            }
        }
        Ok(found)
    }

    fn parameter(
        &self,
        written: &Value,
        path: &str,
        at: &str,
        notes: &mut Notes,
    ) -> Result<Option<Parameter>, ParameterError> {
        let text = |key: &str| written.get(key).and_then(Value::as_str);
        let truth = |key: &str| written.get(key).and_then(Value::as_bool);
        let Some(name) = text("name").filter(|name| !name.is_empty()) else {
            notes.add(at, "a parameter without a name was left out");
            return Ok(None);
        };
        let place = match text("in") {
            Some("path") => Place::Path,
            Some("query") => Place::Query,
            Some("header") => Place::Header,
            Some("cookie") => Place::Cookie,
            Some("querystring") if truth("required") == Some(true) => {
                return Err(ParameterError::QueryString);
            }
            Some("querystring") => {
                notes.add(at, "a parameter that is the whole query string was left out");
                return Ok(None);
            }
            _ => {
                notes.add(at, format!("parameter {name:?} does not say where it stands and was left out"));
                return Ok(None);
            }
        };
        if place == Place::Header && ELSEWHERE.contains(&name.to_ascii_lowercase().as_str()) {
            return Ok(None);
        }
        if place == Place::Path && !names(path).contains(&name) {
            notes.add(at, format!("the path has no {{{name}}}: the parameter was left out"));
            return Ok(None);
        }
        let style = text("style").unwrap_or(place.default_style());
        let explode = truth("explode").unwrap_or(style == "form");
        let schema = match (written.get("schema"), written.get("content").and_then(Value::as_object)) {
            (Some(schema), _) => Some(schema),
            // Written as a text in that media type: its schema is that of a string.
            (None, Some(_)) => Some(&*STRING),
            (None, None) => None,
        };
        let schema = schema.map(|schema| self.schema(schema, Way::Request, at, notes)).transpose();
        let schema = schema
            .map_err(|error| ParameterError::Schema(crate::text::excerpt(name.as_bytes(), 80), error))?;
        Ok(Some(Parameter {
            name: name.to_owned(),
            place,
            required: place == Place::Path || truth("required") == Some(true),
            description: text("description").map(str::to_owned),
            style: style.to_owned(),
            explode,
            schema,
        }))
    }
}

static STRING: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| json!({"type": "string"}));
