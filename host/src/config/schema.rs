//! The JSON Schema of the file, for editors and for ourselves: one description of every key decides what
//! is an unknown key or a wrong type.

use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError, Validator};
use serde_json::Value;

use super::document::{Document, escape};
use super::problem::{Problem, nearest};
use super::raw::Raw;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(Raw).to_value();
    tidy(&mut schema);
    schema["title"] = "Sentinel Gateway".into();
    schema
});

static VALIDATOR: LazyLock<Result<Validator, String>> =
    LazyLock::new(|| jsonschema::validator_for(&SCHEMA).map_err(|error| error.to_string()));

/// The schema as `config/schema.json` holds it.
#[must_use]
pub fn schema_json() -> String {
    format!("{:#}\n", *SCHEMA)
}

/// Takes everything that does not fit the schema out of the document, and returns the places it took out.
pub(super) fn validate(document: &mut Document, problems: &mut Vec<Problem>) -> Vec<String> {
    let validator = match &*VALIDATOR {
        Ok(validator) => validator,
        Err(error) => {
            problems.push(Problem::of_file(
                format!("the schema is broken: {error}"),
                "this is a bug of the gateway",
            ));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for error in validator.iter_errors(&document.value) {
        explain(&error, &mut found);
    }
    for finding in &found {
        // A value that JSON cannot express was reported when the file was read, and is null since then.
        if document.value.pointer(&finding.at).is_none_or(|value| !value.is_null()) {
            problems.push(document.problem(&finding.at, finding.message.clone(), finding.hint.clone()));
        }
    }
    found.iter().map(|finding| document.prune(&finding.at)).collect()
}

/// One thing that does not fit, and where.
struct Finding {
    at: String,
    message: String,
    hint: Option<String>,
}

/// Says in the reader's words what the validator found.
fn explain(error: &ValidationError<'_>, found: &mut Vec<Finding>) {
    let at = error.instance_path().as_str();
    let value: &Value = error.instance();
    let mut say =
        |message: String, hint: Option<String>| found.push(Finding { at: at.to_owned(), message, hint });
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = siblings(error.schema_path().as_str());
            found.extend(unexpected.iter().map(|key| Finding {
                at: format!("{at}/{}", escape(key)),
                message: "unknown key".to_owned(),
                hint: Some(hint_for(key, &known)),
            }));
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            // The alternative whose type fits is the one that was meant.
            let meant = context.iter().find(|errors| errors.iter().all(|inner| !wrong_type(inner, at)));
            if let Some(errors) = meant {
                errors.iter().for_each(|inner| explain(inner, found));
            } else {
                let expected: Vec<_> = context.iter().flatten().filter_map(expected).collect();
                say(format!("expected {}, found {}", expected.join(" or "), name_of(value)), None);
            }
        }
        ValidationErrorKind::Type { .. } => {
            let expected = expected(error).unwrap_or_default();
            let hint = quoting(&expected, value);
            say(format!("expected {expected}, found {}", name_of(value)), hint);
        }
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> =
                options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let listed = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
            let typed = value.as_str();
            let hint = typed.and_then(|typed| {
                elsewhere(typed, &words).or_else(|| nearest(typed, words.iter().copied())).map(did_you_mean)
            });
            let found = typed.map_or_else(|| name_of(value).to_owned(), |typed| format!("\"{typed}\""));
            say(format!("expected one of {listed}, found {found}"), hint);
        }
        ValidationErrorKind::Minimum { limit } => say(format!("must be at least {limit}, not {value}"), None),
        ValidationErrorKind::Maximum { limit } => say(format!("must be at most {limit}, not {value}"), None),
        ValidationErrorKind::ExclusiveMinimum { limit } => {
            say(format!("must be more than {limit}, not {value}"), None)
        }
        ValidationErrorKind::MinLength { .. } => say("must not be empty".to_owned(), None),
        ValidationErrorKind::Required { property } => {
            say(format!("the key {} is missing", property.as_str().unwrap_or_default()), None);
        }
        ValidationErrorKind::Pattern { pattern } => say(format!("must look like {pattern}"), None),
        // Never the value: it may be a secret that should not have been typed into the file.
        _ => say(error.masked_with("the value").to_string(), None),
    }
}

/// What to write where only quotes are too many or missing.
fn quoting(expected: &str, value: &Value) -> Option<String> {
    if expected == "a text" && (value.is_number() || value.is_boolean()) {
        return Some(format!("write \"{value}\""));
    }
    let unquoted = value.as_str().filter(|text| {
        let number = expected.contains("number") && text.parse::<f64>().is_ok();
        number || expected == "true or false" && matches!(*text, "true" | "false")
    });
    unquoted.map(|text| format!("write {text}"))
}

/// True if the value is of another type than this alternative wants.
fn wrong_type(error: &ValidationError<'_>, at: &str) -> bool {
    matches!(error.kind(), ValidationErrorKind::Type { .. }) && error.instance_path().as_str() == at
}

/// The types an error asks for, in words.
fn expected(error: &ValidationError<'_>) -> Option<String> {
    let ValidationErrorKind::Type { kind } = error.kind() else { return None };
    let words: Vec<&str> = match kind {
        TypeKind::Single(one) => vec![word(*one)],
        TypeKind::Multiple(set) => set.iter().map(word).collect(),
    };
    Some(words.join(" or "))
}

fn word(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "nothing",
        JsonType::Number => "a number",
        JsonType::Object => "a table",
        JsonType::String => "a text",
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// The keys a table may have, from the place of its `additionalProperties` in the schema.
fn siblings(schema_path: &str) -> Vec<&'static str> {
    let table = schema_path.rsplit_once('/').map_or("", |(up, _)| up);
    keys(SCHEMA.pointer(table))
}

fn keys(schema: Option<&'static Value>) -> Vec<&'static str> {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect()
}

/// The name here of a word that clients' files use for the same thing.
fn elsewhere(typed: &str, words: &[&str]) -> Option<&'static str> {
    let plain = typed.to_ascii_lowercase().replace(['-', '_'], "");
    let word = match plain.as_str() {
        "streamablehttp" | "httpstream" | "sse" | "remote" => "http",
        "local" | "command" => "stdio",
        _ => return None,
    };
    words.contains(&word).then_some(word)
}

/// What to write instead of an unknown key.
fn hint_for(key: &str, known: &[&str]) -> String {
    if ["mcpServers", "mcp_servers", "context_servers", "servers"].contains(&key) {
        return "this is how MCP clients list their servers: `sentinel-gateway import` makes [[backends]] of such a file"
            .to_owned();
    }
    if let Some(near) = nearest(key, known.iter().copied()) {
        return did_you_mean(near);
    }
    let sections = SCHEMA["properties"].as_object();
    let home = sections.into_iter().flatten().find(|(_, section)| {
        let target = section.get("$ref").or_else(|| section.pointer("/items/$ref"));
        let target = target.and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        keys(target.and_then(|pointer| SCHEMA.pointer(pointer))).contains(&key)
    });
    match home {
        Some((section, body)) if body.get("items").is_some() => format!("it belongs into [[{section}]]"),
        Some((section, _)) => format!("it belongs into [{section}]"),
        None => format!("known keys: {}", known.join(", ")),
    }
}

fn did_you_mean(word: &str) -> String {
    format!("did you mean {word}?")
}

/// TOML has no null, and `u32` has an upper end that schemars does not mention.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            // The default of a whole section is that of its keys.
            if map.get("default").is_some_and(|default| default.is_null() || default.is_object())
                && map.len() > 1
            {
                map.shift_remove("default");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|one| one != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(any)) = map.get_mut("anyOf") {
                any.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    map.shift_remove("anyOf");
                    map.extend(only);
                }
            }
            if let Some(Value::Array(words)) = map.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            if map.get("format").is_some_and(|format| format == "uint32") && !map.contains_key("maximum") {
                map.insert("maximum".to_owned(), u32::MAX.into());
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
