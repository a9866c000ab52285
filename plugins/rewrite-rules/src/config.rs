//! Reads the rules, and says everything that is wrong with them before one of them is used.

use std::collections::{HashMap, HashSet};

use sentinel_plugin_sdk::ConfigError;
use sentinel_plugin_sdk::names::Rules;
use serde_json::{Map, Value};

use crate::check;
use crate::decide;
use crate::decide::{Action, Backend, Op, ToolEdit, ToolEdits};
use sentinel_plugin_sdk::fields::{Fields, below};

type Errors = Vec<ConfigError>;

/// Reads `{"backends": {"files": {"arguments": [...], "results": [...], "headers": {...}, "tools": [...]}}}`.
pub(crate) fn read(config: Value) -> Result<decide::Rules, Errors> {
    let mut errors = Vec::new();
    let mut backends = HashMap::new();
    if let Some(mut fields) = Fields::of(config, String::new(), &mut errors) {
        for (name, value) in object(&mut fields, "backends", &mut errors) {
            let path = below(&fields.at("backends"), &name);
            if let Some(backend) = backend(&name, value, path, &mut errors) {
                backends.insert(name, backend);
            }
        }
        fields.finish(&mut errors);
    }
    if errors.is_empty() { Ok(decide::Rules::new(backends)) } else { Err(errors) }
}

fn backend(name: &str, value: Value, path: String, errors: &mut Errors) -> Option<Backend> {
    let mut fields = Fields::of(value, path, errors)?;
    let backend = Backend {
        name: name.to_owned(),
        // Pointers of rules start at the arguments, those of edits at `params`.
        arguments: ops(name, &mut fields, "arguments", "/arguments", errors),
        results: ops(name, &mut fields, "results", "", errors),
        headers: headers(&mut fields, errors),
        tools: tools(name, &mut fields, errors),
    };
    fields.finish(errors);
    Some(backend)
}

fn object(fields: &mut Fields, key: &'static str, errors: &mut Errors) -> Map<String, Value> {
    fields.take(key, "an object", errors).unwrap_or_default()
}

fn ops(backend: &str, fields: &mut Fields, key: &'static str, base: &str, errors: &mut Errors) -> Vec<Op> {
    let list: Vec<Value> = fields.take(key, "a list of edits", errors).unwrap_or_default();
    let path = fields.at(key);
    let read = list.into_iter().enumerate();
    read.filter_map(|(index, value)| op(backend, value, format!("{path}/{index}"), base, errors)).collect()
}

fn op(backend: &str, value: Value, path: String, base: &str, errors: &mut Errors) -> Option<Op> {
    let mut fields = Fields::of(value, path.clone(), errors)?;
    let tool: Option<String> = fields.take("tool", "a tool name or a pattern", errors);
    if let Some(Err(why)) = tool.as_deref().map(|tool| check::tool_pattern(tool, backend)) {
        errors.push(ConfigError::new(fields.at("tool"), why));
    }
    let verbs: Vec<(&'static str, String)> = ["set", "default", "remove", "rename"]
        .into_iter()
        .filter_map(|verb| Some((verb, fields.take::<String>(verb, "a JSON pointer", errors)?)))
        .collect();
    // `null` is a value like any other here, so it is not taken for a missing key.
    let value = fields.given("value");
    let to: Option<String> = fields.take("to", "the new name of the key", errors);
    let action = match verbs.as_slice() {
        [(verb, pointer)] => action(&fields, (verb, pointer), value, to, base, errors),
        _ => {
            errors.push(
                ConfigError::new(path, "an edit has exactly one of set, default, remove and rename")
                    .hint(r#"{"set": "/limit", "value": 10}"#),
            );
            None
        }
    };
    fields.finish(errors);
    let tool = tool.map(|pattern| Rules::new([pattern.as_str()]));
    Some(Op { tool, action: action? })
}

fn action(
    fields: &Fields,
    (verb, pointer): (&'static str, &str),
    value: Option<Value>,
    to: Option<String>,
    base: &str,
    errors: &mut Errors,
) -> Option<Action> {
    let mistakes = errors.len();
    let mut wrong = |key: &str, why: &str, hint: &str| {
        let error = ConfigError::new(fields.at(key), why);
        errors.push(if hint.is_empty() { error } else { error.hint(hint) });
    };
    if let Err(why) = check::pointer(pointer) {
        wrong(verb, &why, "/limit");
    }
    let writes = matches!(verb, "set" | "default");
    if writes && value.is_none() {
        wrong("value", "is missing", "any JSON value");
    }
    if !writes && value.is_some() {
        wrong("value", &format!("has no meaning for {verb}"), "");
    }
    if !writes && pointer.is_empty() {
        wrong(verb, "the whole cannot be removed or renamed", "name a key, such as /limit");
    }
    match (verb == "rename", &to) {
        (true, None) => wrong("to", "is missing", "the new name of the key"),
        (true, Some(to)) if check::last_step(pointer).as_ref() == Some(to) => {
            wrong("to", "is the name that the key has already", "");
        }
        (false, Some(_)) => wrong("to", &format!("has no meaning for {verb}"), "only rename has it"),
        (true, Some(_)) | (false, None) => {}
    }
    if errors.len() > mistakes {
        return None;
    }
    let pointer = format!("{base}{pointer}");
    let json = value.map(|value| value.to_string());
    match (verb, json, to) {
        ("set", Some(json), _) => Some(Action::Set { pointer, json }),
        ("default", Some(json), _) => Some(Action::Default { pointer, json }),
        ("rename", _, Some(to)) => Some(Action::Rename { pointer, to }),
        _ => Some(Action::Remove { pointer }),
    }
}

fn headers(fields: &mut Fields, errors: &mut Errors) -> Vec<(String, String)> {
    let mut seen = HashSet::new();
    let mut headers = Vec::new();
    for (name, value) in object(fields, "headers", errors) {
        let path = below(&fields.at("headers"), &name);
        if let Err(why) = check::header_name(&name) {
            errors.push(
                ConfigError::new(path.clone(), why)
                    .hint("headers with credentials belong into `headers` of the backend itself"),
            );
        }
        if !seen.insert(name.to_ascii_lowercase()) {
            errors.push(ConfigError::new(path.clone(), "the same header again, in other letters"));
        }
        match value.as_str().filter(|value| check::header_value(value)) {
            Some(value) => headers.push((name, value.to_owned())),
            None => errors.push(ConfigError::new(path, "must be a string of visible ASCII characters")),
        }
    }
    headers
}

fn tools(backend: &str, fields: &mut Fields, errors: &mut Errors) -> ToolEdits {
    let list: Vec<Value> = fields.take("tools", "a list of tools", errors).unwrap_or_default();
    let path = fields.at("tools");
    let mut tools: Vec<(String, ToolEdit)> = Vec::new();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<(usize, String)> = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        let path = format!("{path}/{index}");
        let Some((tool, edit)) = tool(backend, value, &path, errors) else { continue };
        if let Some(name) = &edit.rename {
            if let Some(other) = names.insert(name.clone(), index) {
                errors.push(ConfigError::new(
                    format!("{path}/rename"),
                    format!("{name:?} is already the new name of the tool in entry {other}"),
                ));
            }
        } else if !edit.hide {
            kept.push((index, tool.clone()));
        }
        if tools.iter().any(|(known, _)| *known == tool) {
            errors.push(ConfigError::new(format!("{path}/tool"), "this tool has an entry already"));
        }
        tools.push((tool, edit));
    }
    for (index, tool) in kept {
        if let Some(other) = names.get(&tool) {
            errors.push(ConfigError::new(
                format!("{path}/{other}/rename"),
                format!("{tool:?} is the name of the tool in entry {index}, which keeps it"),
            ));
        }
    }
    ToolEdits::new(backend, tools)
}

fn tool(backend: &str, value: Value, path: &str, errors: &mut Errors) -> Option<(String, ToolEdit)> {
    let mut fields = Fields::of(value, path.to_owned(), errors)?;
    let mistakes = errors.len();
    let tool: Option<String> = fields.take("tool", "the name that the backend gives the tool", errors);
    let edit = ToolEdit {
        rename: fields.take("rename", "a name", errors),
        title: fields.take("title", "a text", errors),
        description: fields.take("description", "a text", errors),
        hide: fields.take("hide", "true or false", errors).unwrap_or(false),
    };
    if errors.len() == mistakes && tool.as_deref().is_none_or(str::is_empty) {
        errors.push(
            ConfigError::new(fields.at("tool"), "is missing")
                .hint("the name that the backend gives the tool"),
        );
    }
    if let Some(Err(why)) =
        tool.as_deref().filter(|tool| !tool.is_empty()).map(|tool| check::tool_pattern(tool, backend))
    {
        errors.push(ConfigError::new(fields.at("tool"), why));
    }
    if edit.rename.is_some() && tool.as_deref().is_some_and(|tool| tool.contains('*')) {
        errors.push(
            ConfigError::new(fields.at("rename"), "several tools cannot have one name")
                .hint("name one tool, without `*`"),
        );
    }
    if let Some(name) = edit.rename.as_deref().filter(|name| !check::tool_name(name)) {
        errors.push(
            ConfigError::new(fields.at("rename"), format!("{name:?} is not a tool name"))
                .hint("1 to 128 letters, digits, `_`, `-` and `.`"),
        );
    }
    if errors.len() == mistakes && edit == ToolEdit::default() {
        errors.push(ConfigError::new(path, "changes nothing").hint("rename, title, description or hide"));
    }
    if edit.hide && edit != (ToolEdit { hide: true, ..ToolEdit::default() }) {
        errors.push(ConfigError::new(fields.at("hide"), "a hidden tool has no use for a name or a text"));
    }
    fields.finish(errors);
    Some((tool?, edit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn mistakes(backend: &Value) -> Vec<String> {
        let errors = read(json!({"backends": {"b": backend}})).unwrap_err();
        let mut paths: Vec<_> =
            errors.iter().map(|error| error.path.trim_start_matches("/backends/b").to_owned()).collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn every_mistake_in_edits_is_named_at_once() {
        assert_eq!(
            mistakes(&json!({
                "arguments": [
                    {"set": "limit", "value": 1},
                    {"set": "/a", "remove": "/b"},
                    {"default": "/a"},
                    {"rename": "/a", "to": "a"},
                    {"rename": "", "to": 5},
                    {"remove": "/a", "value": 1, "to": "b", "tol": "x"},
                    {"tool": "a?", "remove": "/a~"},
                    7,
                ],
                "results": {}, "argments": [],
            })),
            [
                "/argments",
                "/arguments/0/set",
                "/arguments/1",
                "/arguments/2/value",
                "/arguments/3/to",
                "/arguments/4/rename",
                "/arguments/4/to",
                "/arguments/4/to",
                "/arguments/5/to",
                "/arguments/5/tol",
                "/arguments/5/value",
                "/arguments/6/remove",
                "/arguments/6/tool",
                "/arguments/7",
                "/results",
            ]
        );
    }

    #[test]
    fn every_mistake_in_headers_and_tools_is_named_at_once() {
        assert_eq!(
            mistakes(&json!({
                "headers": {"X-Team": "blue", "x-team": "red", "Authorization": "Bearer x", "X-Bad": "a\nb", "X-Num": 1},
                "tools": [
                    {"tool": "a", "rename": "new"},
                    {"tool": "b", "rename": "new"},
                    {"tool": "a", "title": "A"},
                    {"tool": "c"},
                    {"tool": "d", "rename": "with space"},
                    {"tool": "e", "rename": "f"},
                    {"tool": "f", "description": "keeps its name"},
                    {"rename": "g"},
                    {"tool": "h", "hide": true, "title": "H"},
                ],
            })),
            [
                "/headers/Authorization",
                "/headers/X-Bad",
                "/headers/X-Num",
                "/headers/x-team",
                "/tools/1/rename",
                "/tools/2/tool",
                "/tools/3",
                "/tools/4/rename",
                "/tools/5/rename",
                "/tools/7/tool",
                "/tools/8/hide",
            ]
        );
    }

    #[test]
    fn a_rule_names_tools_of_its_own_backend() {
        let tools = json!([{"tool": "b/x", "hide": true}, {"tool": "*/y", "hide": true}, {"tool": "c/z", "hide": true},
            {"tool": "w*", "rename": "w"}]);
        let arguments = json!([{"tool": "c/x", "remove": "/a"}, {"tool": "b/*", "remove": "/a"}]);
        assert_eq!(
            mistakes(&json!({"arguments": arguments, "tools": tools})),
            ["/arguments/0/tool", "/tools/2/tool", "/tools/3/rename"]
        );
    }

    #[test]
    fn two_tools_may_change_names() {
        let swapped = json!([{"tool": "a", "rename": "b"}, {"tool": "b", "rename": "a"}]);
        assert!(read(json!({"backends": {"x": {"tools": swapped}}})).is_ok());
        assert!(read(json!({})).is_ok());
    }
}
