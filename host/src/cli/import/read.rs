//! Reads the lists of servers that clients keep: JSON with or without comments, and TOML, under whatever key.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::{Map, Value};

use crate::cli::place;

/// The keys that clients keep their servers under, the most usual first.
const KEYS: [&str; 6] = ["mcpServers", "servers", "mcp_servers", "context_servers", "mcp-servers", "mcp"];

/// A file of a client.
#[derive(Debug)]
pub(super) struct Source {
    /// As a person typed it.
    pub(super) path: PathBuf,
    /// The folder that relative paths in it start at: that of the project, if it stands in one.
    pub(super) folder: PathBuf,
    /// The key under which its servers stand; empty if they are all that is in it.
    pub(super) key: String,
    /// Each server's name, with its entry.
    pub(super) servers: Vec<(String, Value)>,
    /// What else was found and not read, in words.
    pub(super) left: Vec<String>,
}

/// Reads a file.
///
/// # Errors
/// It cannot be read or understood, or has no servers in it.
pub(super) fn read(path: &Path) -> anyhow::Result<Source> {
    let text = place::read(path)?;
    let root = understand(path, &text)?;
    let Value::Object(root) = root else { bail!("{} holds no object", path.display()) };
    if root.contains_key("backends") {
        bail!("{} is a file of the gateway already: check it with `check --config`", path.display());
    }
    let (key, servers) = find(&root).with_context(|| {
        format!(
            "{} has no list of MCP servers in it: none of the keys {} holds one",
            path.display(),
            KEYS.join(", ")
        )
    })?;
    Ok(Source { path: path.to_owned(), folder: folder(path), key, servers, left: projects(&root) })
}

fn understand(path: &Path, text: &str) -> anyhow::Result<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is = |ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    if is("yaml") || is("yml") {
        bail!("{} is YAML, which is not read here: JSON and TOML are", path.display());
    }
    if !is("toml") {
        let json = parse_to_serde_value::<Value>(text, &ParseOptions::default());
        match json {
            Ok(Value::Null) => bail!("{} is empty", path.display()),
            Ok(value) => return Ok(value),
            Err(error) if is("json") || is("jsonc") || text.trim_start().starts_with('{') => {
                bail!("{} cannot be understood: {error}", path.display())
            }
            Err(_) => {}
        }
    }
    let table: toml::Table =
        toml::from_str(text).with_context(|| format!("{} cannot be understood", path.display()))?;
    Ok(serde_json::to_value(table)?)
}

/// Every list of servers, with the key it stands under: `mcpServers`, or `mcp.servers` of older settings.
fn find(root: &Map<String, Value>) -> Option<(String, Vec<(String, Value)>)> {
    for key in KEYS {
        let Some(value) = root.get(key) else { continue };
        if let Some(inner) = value.get("servers").and_then(list) {
            return Some((format!("{key}.servers"), inner));
        }
        if let Some(servers) = list(value) {
            return Some((key.to_owned(), servers));
        }
    }
    // Settings of editors spell a path with a dot, and some files hold nothing but the servers.
    for key in ["mcp.servers", "mcp.mcpServers"] {
        if let Some(servers) = root.get(key).and_then(list) {
            return Some((key.to_owned(), servers));
        }
    }
    let bare = !root.is_empty() && root.values().all(is_server);
    bare.then(|| (String::new(), root.clone().into_iter().collect()))
}

/// A map of servers by their names, or a list of servers that have names.
fn list(value: &Value) -> Option<Vec<(String, Value)>> {
    match value {
        Value::Object(map) => {
            let all = map.values().all(Value::is_object);
            all.then(|| map.clone().into_iter().collect())
        }
        Value::Array(items) => {
            items.iter().map(|item| Some((item.get("name")?.as_str()?.to_owned(), item.clone()))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn is_server(value: &Value) -> bool {
    ["command", "url", "serverUrl", "httpUrl"].iter().any(|key| value.get(key).is_some())
}

/// Claude Code keeps the servers of each project in the file of its user.
fn projects(root: &Map<String, Value>) -> Vec<String> {
    let projects = root.get("projects").and_then(Value::as_object).into_iter().flatten();
    let with_servers = projects.filter(|(_, project)| {
        project.get("mcpServers").and_then(Value::as_object).is_some_and(|servers| !servers.is_empty())
    });
    with_servers.map(|(path, _)| format!("the servers of the project {path}")).collect()
}

/// `project/.cursor/mcp.json` is about the project, and so is `project/.mcp.json`.
fn folder(path: &Path) -> PathBuf {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = full.parent().unwrap_or(Path::new("/"));
    let hidden = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let home = folder.parent().filter(|_| hidden);
    home.unwrap_or(folder).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn names(file: &str, text: &str) -> Result<(String, Vec<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        std::fs::write(&path, text).unwrap();
        let source = read(&path).map_err(|error| format!("{error:#}"))?;
        Ok((source.key, source.servers.into_iter().map(|(name, _)| name).collect()))
    }

    #[test]
    fn every_spelling_of_a_list_is_found() {
        for (file, text, key) in [
            ("a.json", r#"{"mcpServers": {"a": {"command": "x"}}}"#, "mcpServers"),
            ("mcp.json", r#"{"inputs": [], "servers": {"a": {"url": "u"}},}"#, "servers"),
            (
                "settings.json",
                "// mine\n{\"context_servers\": {\"a\": {\"command\": \"x\"}, /* c */ }}",
                "context_servers",
            ),
            ("config.toml", "model = 'o'\n[mcp_servers.a]\ncommand = 'x'\n", "mcp_servers"),
            ("settings.json", r#"{"mcp": {"servers": {"a": {"command": "x"}}}}"#, "mcp.servers"),
            ("settings.json", r#"{"mcp.servers": {"a": {"command": "x"}}}"#, "mcp.servers"),
            ("opencode.json", r#"{"mcp": {"a": {"type": "local", "command": ["x"]}}}"#, "mcp"),
            ("plugin.json", r#"{"a": {"command": "x"}}"#, ""),
            ("list.json", r#"{"mcpServers": [{"name": "a", "command": "x"}]}"#, "mcpServers"),
            ("marked.json", "\u{feff}{\"mcpServers\": {\"a\": {\"command\": \"x\"}}}", "mcpServers"),
            ("without-ending", "[mcp_servers.a]\nurl = 'u'\n", "mcp_servers"),
        ] {
            assert_eq!(names(file, text), Ok((key.to_owned(), vec!["a".to_owned()])), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_is_named() {
        for (file, text, why) in [
            ("a.json", "{\"mcpServers\": {", "cannot be understood"),
            ("a.json", "", "is empty"),
            ("a.json", "[]", "holds no object"),
            ("a.json", "{\"theme\": \"dark\"}", "no list of MCP servers"),
            ("a.yaml", "mcpServers:\n", "is YAML"),
            ("s.toml", "[[backends]]\nname = 'a'\n", "a file of the gateway already"),
        ] {
            let error = names(file, text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
