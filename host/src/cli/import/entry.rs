//! One server of a client as a backend of the gateway.

use std::collections::BTreeSet;
use std::path::Path;

use sentinel_gateway::redact::names_a_secret;
use serde_json::{Map, Value};

use super::refer::{Around, Variables, is_secret};

/// A backend, as it will stand in the file.
#[derive(Debug, Default)]
pub(super) struct Backend {
    pub(super) name: String,
    /// Its name in the client.
    pub(super) original: String,
    /// Its keys with their values in TOML, in the order they are written.
    pub(super) keys: Vec<(&'static str, toml::Value)>,
    /// It is switched off in the client.
    pub(super) disabled: bool,
    /// Tools that the client does not let through.
    pub(super) denied: Vec<String>,
    /// The only tools that the client lets through.
    pub(super) only: Option<Vec<String>>,
    /// What a reader should know about it.
    pub(super) notes: Vec<String>,
    /// Keys of the client that mean nothing here.
    pub(super) ignored: Vec<String>,
}

/// Takes the keys of an entry one by one; keys that are left in the end were not understood.
struct Reader<'a> {
    entry: &'a Map<String, Value>,
    taken: BTreeSet<&'static str>,
    variables: &'a mut Variables,
    around: Around<'a>,
    server: String,
    /// Where the entry stands, for a person.
    place: String,
    refers: bool,
}

/// Keys that say something about a client only, or what a gateway finds out by itself.
const QUIET: [&str; 9] =
    ["name", "type", "transport", "transportType", "source", "description", "gallery", "version", "id"];

/// Reads an entry.
///
/// # Errors
/// Why there can be no backend of it.
pub(super) fn read(
    name: String,
    original: &str,
    entry: &Value,
    place: String,
    variables: &mut Variables,
    around: Around<'_>,
) -> Result<Backend, String> {
    let Value::Object(entry) = entry else { return Err("its entry is no object".to_owned()) };
    let mut reader = Reader {
        entry,
        taken: QUIET.into_iter().collect(),
        variables,
        around,
        server: name.clone(),
        place,
        refers: false,
    };
    let mut backend = Backend { name, original: original.to_owned(), ..Backend::default() };
    backend.disabled = reader.flag(&["disabled"]) == Some(true) || reader.flag(&["enabled"]) == Some(false);
    let kind = ["type", "transport", "transportType"].iter().find_map(|key| reader.entry.get(*key)?.as_str());
    let kind = kind.unwrap_or_default().to_ascii_lowercase().replace(['-', '_'], "");
    let url = reader.text(&["url", "serverUrl", "httpUrl", "uri", "endpoint"]);
    match (url, reader.entry.contains_key("command")) {
        (Some(url), false) => reader.http(&mut backend, &url, &kind)?,
        (Some(_), true) if kind.contains("http") || kind == "sse" => {
            return Err("it has a command and a url: say which of them counts".to_owned());
        }
        (_, true) => reader.stdio(&mut backend)?,
        (None, false) => return Err("it has neither a command nor a url".to_owned()),
    }
    reader.tools(&mut backend);
    if let Some(seconds) = reader.timeout() {
        backend.keys.push(("timeout_secs", toml::Value::Integer(seconds)));
    }
    if reader.refers {
        // One value that is missing should not keep all other servers from starting.
        backend.keys.push(("optional", toml::Value::Boolean(true)));
    }
    let unread = reader.entry.keys().filter(|key| !reader.taken.contains(key.as_str()));
    backend.ignored = unread.cloned().collect();
    Ok(backend)
}

impl Reader<'_> {
    fn take(&mut self, keys: &[&'static str]) -> Option<&Value> {
        self.taken.extend(keys);
        keys.iter().find_map(|key| self.entry.get(*key)).filter(|value| !value.is_null())
    }

    fn text(&mut self, keys: &[&'static str]) -> Option<String> {
        self.take(keys)?.as_str().map(str::to_owned)
    }

    fn flag(&mut self, keys: &[&'static str]) -> Option<bool> {
        self.take(keys)?.as_bool()
    }

    fn list(&mut self, keys: &[&'static str]) -> Vec<String> {
        let list = self.take(keys).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(scalar).collect()
    }

    fn spell(&mut self, typed: &str) -> String {
        let spelled = self.variables.spell(typed, self.around);
        self.refers |= spelled.refers;
        spelled.text
    }

    fn secret(&mut self, key: &str, typed: &str, part: &str) -> String {
        let place = format!("{}.{part}.{key}", self.place);
        let spelled = self.variables.secret(&self.server, key, typed, place, self.around);
        self.refers |= spelled.refers;
        spelled.text
    }

    fn stdio(&mut self, backend: &mut Backend) -> Result<(), String> {
        let (mut words, mut env) = (Vec::new(), Map::new());
        match self.take(&["command"]) {
            Some(Value::String(command)) => words.push(command.clone()),
            Some(Value::Array(items)) => words.extend(items.iter().filter_map(scalar)),
            // As Zed wrote it once: all of it under `command`.
            Some(Value::Object(inner)) => {
                words.extend(inner.get("path").and_then(scalar));
                let args = inner.get("args").and_then(Value::as_array);
                words.extend(args.into_iter().flatten().filter_map(scalar));
                env.extend(inner.get("env").and_then(Value::as_object).cloned().unwrap_or_default());
            }
            _ => {}
        }
        words.extend(self.list(&["args", "arguments"]));
        if words.first().is_none_or(String::is_empty) {
            return Err("its command is empty".to_owned());
        }
        if is_shell_of_windows(&words) {
            words.drain(..2);
            backend.notes.push("`cmd /c` was left out: here the program is started directly".to_owned());
        }
        if words.iter().any(|word| Path::new(word).file_name().is_some_and(|name| name == "sentinel-gateway"))
        {
            return Err("it is the gateway itself".to_owned());
        }
        let args = self.args(&words[1..]);
        let command = self.spell(&words[0]);
        backend.keys.push(("type", "stdio".into()));
        backend.keys.push(("command", command.into()));
        if !args.is_empty() {
            backend.keys.push(("args", args.into()));
        }
        if let Some(cwd) = self.text(&["cwd", "working_directory", "workingDirectory"]) {
            let cwd = self.around.folder.join(self.spell(&cwd));
            backend.keys.push(("cwd", cwd.display().to_string().into()));
        }
        env.extend(
            self.take(&["env", "environment"]).and_then(Value::as_object).cloned().unwrap_or_default(),
        );
        let mut table = toml::Table::new();
        for (name, value) in &env {
            if let Some(value) = scalar(value) {
                table.insert(name.clone(), self.secret(name, &value, "env").into());
            }
        }
        // Codex passes variables of its own environment on, by name.
        for name in self.names(&["env_vars"]) {
            let value = self.spell(&format!("${{{name}}}"));
            table.insert(name, value.into());
        }
        if !table.is_empty() {
            backend.keys.push(("env", table.into()));
        }
        if let Some(file) = self.text(&["envFile", "env_file"]) {
            backend.notes.push(format!("the variables of {file} are not read: name them in env"));
        }
        Ok(())
    }

    fn names(&mut self, keys: &[&'static str]) -> Vec<String> {
        let list = self.take(keys).and_then(Value::as_array);
        let name = |item: &Value| match item {
            Value::Object(item) => item.get("name").and_then(scalar),
            item => scalar(item),
        };
        list.into_iter().flatten().filter_map(name).collect()
    }

    /// Arguments, with the secrets among them by name: `--api-key VALUE`, `--token=VALUE`, `--header "Authorization: …"`.
    fn args(&mut self, words: &[String]) -> Vec<toml::Value> {
        let mut args = Vec::new();
        let mut flag = "";
        for word in words {
            let text = match word.split_once('=') {
                Some((name, value)) if word.starts_with('-') && is_secret(name, value) => {
                    format!("{name}={}", self.secret(name.trim_start_matches('-'), value, "args"))
                }
                _ if !word.starts_with('-') && names_a_secret(flag.trim_start_matches('-')) => {
                    self.secret(flag.trim_start_matches('-'), word, "args")
                }
                _ => match word.split_once(':') {
                    Some((name, value)) if is_header(flag) && is_secret(name, value.trim()) => {
                        let space = if value.starts_with(' ') { " " } else { "" };
                        format!("{name}:{space}{}", self.secret(name, value.trim(), "args"))
                    }
                    _ => self.address(word),
                },
            };
            flag = if word.starts_with('-') && !word.contains('=') { word } else { "" };
            args.push(text.into());
        }
        args
    }

    /// A text that may be a URL, with the secrets of its query by name.
    fn address(&mut self, typed: &str) -> String {
        let spelled = self.spell(typed);
        let Some((before, query)) = spelled.split_once('?').filter(|_| spelled.contains("://")) else {
            return spelled;
        };
        let parts: Vec<String> = query
            .split('&')
            .map(|part| match part.split_once('=') {
                Some((key, value)) if !value.contains("${") && is_secret(key, value) => {
                    format!("{key}={}", self.secret(key, value, "url"))
                }
                _ => part.to_owned(),
            })
            .collect();
        format!("{before}?{}", parts.join("&"))
    }

    fn http(&mut self, backend: &mut Backend, url: &str, kind: &str) -> Result<(), String> {
        if kind.starts_with("ws") || url.starts_with("ws") {
            return Err("it speaks over WebSocket, which MCP does not define".to_owned());
        }
        let authority =
            url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
        if authority.contains('@') {
            return Err("its url carries a password: send it as a header".to_owned());
        }
        if kind == "sse" {
            backend.notes.push("the client takes it for a server of 2024-11-05 (HTTP+SSE)".to_owned());
        }
        let url = self.address(url);
        backend.keys.push(("type", "http".into()));
        backend.keys.push(("url", url.into()));
        let mut headers = toml::Table::new();
        for key in ["headers", "http_headers", "requestInit"] {
            let found = self.take(&[key]).and_then(Value::as_object).cloned().unwrap_or_default();
            let found = found.get("headers").and_then(Value::as_object).cloned().unwrap_or(found);
            for (name, value) in found {
                if let Some(value) = scalar(&value) {
                    headers.insert(name.clone(), self.secret(&name, &value, "headers").into());
                }
            }
        }
        let by_name =
            self.take(&["env_http_headers"]).and_then(Value::as_object).cloned().unwrap_or_default();
        for (header, name) in by_name {
            if let Some(name) = scalar(&name) {
                headers.insert(header, self.spell(&format!("${{{name}}}")).into());
            }
        }
        if let Some(name) = self.text(&["bearer_token_env_var"]) {
            headers.insert("Authorization".to_owned(), self.spell(&format!("Bearer ${{{name}}}")).into());
        }
        if !headers.is_empty() {
            backend.keys.push(("headers", headers.into()));
        }
        let sign_in = ["oauth", "auth", "authProviderType", "scopes", "auth_provider_type"];
        if sign_in.iter().any(|key| self.take(&[key]).is_some()) {
            backend.notes.push("the client signs in by itself (OAuth): the gateway sends headers only, so give it a token in one".to_owned());
        }
        Ok(())
    }

    /// Tools that the client itself allows or blocks stay so.
    fn tools(&mut self, backend: &mut Backend) {
        backend.denied = self.list(&["excludeTools", "disabledTools", "disabled_tools", "exclude_tools"]);
        let only = ["includeTools", "enabledTools", "enabled_tools", "include_tools"];
        if only.iter().any(|key| self.entry.get(*key).is_some_and(Value::is_array)) {
            backend.only = Some(self.list(&only));
        }
    }

    /// In whole seconds; some clients count in milliseconds.
    fn timeout(&mut self) -> Option<i64> {
        if let Some(seconds) = self.take(&["tool_timeout_sec", "tool_timeout_secs"]).and_then(Value::as_f64) {
            return (seconds >= 1.0).then_some(seconds as i64);
        }
        let typed = self.take(&["timeout"])?.as_f64().filter(|typed| *typed > 0.0)?;
        let seconds = if typed >= 1000.0 { typed / 1000.0 } else { typed };
        Some((seconds as i64).clamp(1, 31_536_000))
    }
}

fn is_header(flag: &str) -> bool {
    matches!(flag, "--header" | "-H" | "--headers")
}

/// `cmd /c npx …`, as clients on Windows need it.
fn is_shell_of_windows(words: &[String]) -> bool {
    let [shell, flag, _, ..] = words else { return false };
    ["cmd", "cmd.exe"].iter().any(|known| shell.eq_ignore_ascii_case(known))
        && flag.eq_ignore_ascii_case("/c")
}

/// A value that an environment or a command line can hold.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn backend(entry: &Value) -> Result<(Backend, Variables), String> {
        let mut variables = Variables::default();
        let around = Around { folder: Path::new("/p"), home: Some("/home/ann") };
        let found = read("a".to_owned(), "a", entry, "f: a".to_owned(), &mut variables, around)?;
        Ok((found, variables))
    }

    fn keys(entry: &Value) -> Vec<String> {
        let keys = backend(entry).unwrap().0.keys;
        keys.iter().map(|(key, value)| format!("{key} = {value}")).collect()
    }

    #[test]
    fn programs_in_every_spelling() {
        for entry in [
            json!({"command": "npx", "args": ["-y", "x"], "env": {"A": "b"}}),
            json!({"type": "local", "command": ["npx", "-y", "x"], "environment": {"A": "b"}}),
            json!({"source": "custom", "command": {"path": "npx", "args": ["-y", "x"], "env": {"A": "b"}}}),
            json!({"command": "cmd", "args": ["/c", "npx", "-y", "x"], "env": {"A": "b"}}),
        ] {
            let expected =
                ["type = \"stdio\"", "command = \"npx\"", "args = [\"-y\", \"x\"]", "env = { A = \"b\" }"];
            assert_eq!(keys(&entry), expected, "{entry}");
        }
        assert!(keys(&json!({"command": "x", "cwd": "sub"})).contains(&"cwd = \"/p/sub\"".to_owned()));
        assert!(
            keys(&json!({"command": "x", "env": {"N": 5, "B": true, "X": null}}))[2].contains("N = \"5\"")
        );
    }

    #[test]
    fn addresses_in_every_spelling() {
        for entry in [
            json!({"type": "http", "url": "https://e.org/mcp", "headers": {"Authorization": "Bearer ${T}"}}),
            json!({"type": "streamable-http", "url": "https://e.org/mcp", "headers": {"Authorization": "Bearer ${env:T}"}}),
            json!({"serverUrl": "https://e.org/mcp", "headers": {"Authorization": "Bearer ${T}"}}),
            json!({"httpUrl": "https://e.org/mcp", "headers": {"Authorization": "Bearer ${T}"}}),
            json!({"url": "https://e.org/mcp", "bearer_token_env_var": "T"}),
            json!({"url": "https://e.org/mcp", "env_http_headers": {"Authorization": "T"}}),
        ] {
            let keys = keys(&entry).join("\n");
            assert!(keys.contains("url = \"https://e.org/mcp\"") && keys.contains("${T}"), "{entry}: {keys}");
            assert!(keys.contains("optional = true"), "{keys}");
        }
        for (entry, why) in [
            (json!({"url": "wss://e.org"}), "WebSocket"),
            (json!({"url": "https://u:p@e.org"}), "password"),
            (json!({}), "neither"),
            (json!({"command": ""}), "empty"),
            (json!({"command": "/opt/sentinel-gateway", "args": ["--config", "x"]}), "the gateway itself"),
        ] {
            let error = backend(&entry).unwrap_err();
            assert!(error.contains(why), "{entry}: {error}");
        }
    }

    #[test]
    fn secrets_in_arguments_and_addresses_get_names() {
        let (found, variables) = backend(&json!({
            "command": "npx",
            "args": ["mcp-remote", "https://e.org/sse?api_key=k-123456&x=1", "--header", "Authorization: Bearer abcdef123456",
                     "--token", "t-1234567", "--api-key=a-1234567", "--verbose", "plain"],
        }))
        .unwrap();
        let text = found.keys.iter().map(|(key, value)| format!("{key} = {value}")).collect::<String>();
        for secret in ["k-123456", "abcdef123456", "t-1234567", "a-1234567"] {
            assert!(!text.contains(secret), "{secret} in {text}");
            assert!(variables.literal.values().any(|value| value == secret), "{secret}: {variables:?}");
        }
        for kept in ["&x=1", "\"--header\"", "Authorization: Bearer ${", "\"--verbose\", \"plain\""] {
            assert!(text.contains(kept), "{kept} in {text}");
        }
    }

    #[test]
    fn limits_of_the_client_stay_and_the_rest_is_named() {
        let (found, _) = backend(&json!({
            "command": "x", "disabled": true, "timeout": 30000, "excludeTools": ["rm"], "includeTools": ["ls"],
            "autoApprove": [], "trust": true, "description": "d",
        }))
        .unwrap();
        assert!(found.disabled);
        assert_eq!((found.denied, found.only), (vec!["rm".to_owned()], Some(vec!["ls".to_owned()])));
        assert!(found.keys.contains(&("timeout_secs", toml::Value::Integer(30))));
        assert_eq!(found.ignored, ["autoApprove", "trust"]);
        assert!(backend(&json!({"command": "x", "enabled": false})).unwrap().0.disabled);
    }
}
