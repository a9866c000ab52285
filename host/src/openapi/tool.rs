//! An operation as an MCP tool.

use serde_json::{Map, Value, json};

use super::hoist::Shelf;
use super::operation::{Operation, Parameter, Place};

/// Longest description of a tool, in characters; what comes after is rarely read and always paid for.
const MAX_DESCRIPTION: usize = 1_024;

/// The entry of `tools/list` for an operation.
///
/// Parameters are arguments under their own names. Where two places have a parameter of one name, the arguments are grouped by place
/// instead. The body is the argument `body`.
#[must_use]
pub fn tool(operation: &Operation) -> Value {
    let mut shelf = Shelf::new("#/$defs/");
    let flat = flat(operation);
    let mut top = Arguments::default();
    let mut groups: [(Place, Arguments); 4] =
        [Place::Path, Place::Query, Place::Header, Place::Cookie].map(|place| (place, Arguments::default()));
    for parameter in &operation.parameters {
        let schema = described(parameter, &mut shelf);
        if flat {
            top.add(&parameter.name, schema, parameter.required);
        } else if let Some((_, group)) = groups.iter_mut().find(|(place, _)| *place == parameter.place) {
            group.add(&parameter.name, schema, parameter.required);
        }
    }
    for (place, group) in groups {
        if !group.properties.is_empty() {
            let required = !group.required.is_empty();
            top.add(place.as_str(), group.into_schema(), required);
        }
    }
    if let Some(body) = &operation.body {
        let schema = match body.json() {
            Some(media) => media.schema.as_ref().map_or(json!({}), |schema| shelf.put(schema)),
            None => {
                let names: Vec<&str> = body.content.iter().map(|media| media.name.as_str()).collect();
                json!({"type": "string", "description": format!("The content, as {}.", names.join(" or "))})
            }
        };
        top.add("body", schema, body.required);
    }
    let mut input = top.into_schema();
    let defs = shelf.into_definitions();
    if let (Value::Object(input), false) = (&mut input, defs.is_empty()) {
        input.insert("$defs".to_owned(), Value::Object(defs));
    }
    let mut tool = json!({"name": operation.id, "description": description(operation), "inputSchema": input});
    if let Some(summary) = &operation.summary {
        tool["title"] = json!(shortened(summary, 120));
    }
    tool["annotations"] = annotations(&operation.method);
    tool
}

/// Whether no two arguments would have one name.
fn flat(operation: &Operation) -> bool {
    let names = || operation.parameters.iter().map(|parameter| parameter.name.as_str());
    let twice = operation
        .parameters
        .iter()
        .enumerate()
        .any(|(at, one)| names().skip(at + 1).any(|name| name == one.name));
    let body = operation.body.is_some() && names().any(|name| name == "body");
    !(twice || body)
}

fn described(parameter: &Parameter, shelf: &mut Shelf) -> Value {
    let schema = parameter.schema.as_ref().map_or(json!({}), |schema| shelf.put(schema));
    match (schema, &parameter.description) {
        (Value::Object(mut map), Some(text)) if !map.contains_key("description") => {
            map.insert("description".to_owned(), Value::String(shortened(text, MAX_DESCRIPTION)));
            Value::Object(map)
        }
        (schema, _) => schema,
    }
}

fn description(operation: &Operation) -> String {
    let texts: Vec<&str> =
        [&operation.summary, &operation.description].into_iter().flatten().map(String::as_str).collect();
    let text = match texts.as_slice() {
        [summary, description] if description.starts_with(*summary) => (*description).to_owned(),
        [] => operation.label(),
        texts => texts.join("\n\n"),
    };
    let text = shortened(&text, MAX_DESCRIPTION);
    if operation.deprecated { format!("Deprecated. {text}") } else { text }
}

/// What RFC 9110 says of the method: safe methods only read, and idempotent ones may be repeated.
fn annotations(method: &str) -> Value {
    let safe = matches!(method, "GET" | "HEAD" | "QUERY");
    json!({
        "readOnlyHint": safe,
        "destructiveHint": method == "DELETE",
        "idempotentHint": safe || matches!(method, "PUT" | "DELETE"),
        "openWorldHint": true,
    })
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[derive(Debug, Default)]
struct Arguments {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Arguments {
    fn add(&mut self, name: &str, schema: Value, required: bool) {
        self.properties.insert(name.to_owned(), schema);
        if required {
            self.required.push(name.to_owned());
        }
    }

    fn into_schema(self) -> Value {
        let mut schema =
            json!({"type": "object", "properties": self.properties, "additionalProperties": false});
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        schema
    }
}
