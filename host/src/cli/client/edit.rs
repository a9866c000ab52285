//! Changes one entry in the file of a client, and no other byte: comments, order and layout stay as they are.

use anyhow::{Context, bail, ensure};
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table, TableLike};

use super::kinds::{Format, Kind};

/// The byte order mark, which some editors put at the beginning of a text.
const MARK: char = '\u{feff}';

/// The entry of this name, if there is one.
///
/// # Errors
/// The text cannot be understood.
pub(super) fn get(kind: Kind, text: &str, name: &str) -> anyhow::Result<Option<Value>> {
    Ok(match kind.format {
        Format::Json => {
            let root = json(text)?;
            let servers = root.object_value().and_then(|root| root.object_value(kind.servers));
            servers.and_then(|servers| servers.get(name)?.value()?.to_serde_value())
        }
        Format::Toml => {
            let table: toml::Table = toml::from_str(text).context("it is not TOML")?;
            let entry = table.get(kind.servers).and_then(|servers| servers.get(name));
            entry.map(serde_json::to_value).transpose()?
        }
    })
}

/// The text with this entry in it.
///
/// # Errors
/// The text cannot be understood, or has something else where the servers should stand.
pub(super) fn set(
    kind: Kind,
    text: &str,
    name: &str,
    server: &Value,
    inputs: &[Value],
) -> anyhow::Result<String> {
    match kind.format {
        Format::Json => {
            let root = json(text)?;
            let object = object(&root)?;
            let servers = object
                .object_value_or_create(kind.servers)
                .with_context(|| format!("what stands under {:?} is not an object", kind.servers))?;
            put(&servers, name, server);
            if !inputs.is_empty() {
                let list = object
                    .array_value_or_create("inputs")
                    .context("what stands under \"inputs\" is not a list")?;
                let known: Vec<Value> =
                    list.elements().iter().filter_map(|element| element.to_serde_value()).collect();
                for input in inputs {
                    if !known.iter().any(|known| known["id"] == input["id"]) {
                        list.append(value(input));
                    }
                }
            }
            Ok(marked(text, &root))
        }
        Format::Toml => {
            let mut document: DocumentMut = text.parse().context("it is not TOML")?;
            let mut servers = Table::new();
            servers.set_implicit(true);
            let servers = document.entry(kind.servers).or_insert(Item::Table(servers));
            let servers = servers
                .as_table_like_mut()
                .with_context(|| format!("what stands under {:?} is not a table", kind.servers))?;
            let entry: Table = toml_edit::ser::to_document(server)?.as_table().clone();
            insert(servers, name, entry);
            Ok(document.to_string())
        }
    }
}

/// The text without this entry; nothing if it is not there.
///
/// # Errors
/// The text cannot be understood.
pub(super) fn remove(kind: Kind, text: &str, name: &str) -> anyhow::Result<Option<String>> {
    Ok(match kind.format {
        Format::Json => {
            let root = json(text)?;
            let servers = root.object_value().and_then(|root| root.object_value(kind.servers));
            let Some(entry) = servers.and_then(|servers| servers.get(name)) else { return Ok(None) };
            entry.remove();
            Some(marked(text, &root))
        }
        Format::Toml => {
            let mut document: DocumentMut = text.parse().context("it is not TOML")?;
            let servers = document.get_mut(kind.servers).and_then(Item::as_table_like_mut);
            servers.and_then(|servers| servers.remove(name)).map(|_| document.to_string())
        }
    })
}

fn insert(servers: &mut dyn TableLike, name: &str, entry: Table) {
    // In the brackets of an inline table there is no room for a table with a heading.
    let inline = servers.iter().any(|(_, item)| item.is_value());
    if inline {
        servers.insert(name, toml_edit::value(entry.into_inline_table()));
    } else {
        servers.insert(name, Item::Table(entry));
    }
}

fn json(text: &str) -> anyhow::Result<CstRootNode> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let text = text.strip_prefix(MARK).unwrap_or(text);
    CstRootNode::parse(text, &options).map_err(|error| anyhow::anyhow!("it is not JSON: {error}"))
}

/// The object that the file is; an empty file becomes one.
fn object(root: &CstRootNode) -> anyhow::Result<CstObject> {
    match root.object_value_or_create() {
        Some(object) => Ok(object),
        None => bail!("it does not hold a JSON object"),
    }
}

fn put(servers: &CstObject, name: &str, server: &Value) {
    match servers.get(name) {
        Some(entry) => entry.set_value(value(server)),
        None => drop(servers.append(name, value(server))),
    }
}

fn value(json: &Value) -> CstInputValue {
    match json {
        Value::Null => CstInputValue::Null,
        Value::Bool(truth) => CstInputValue::Bool(*truth),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(value).collect()),
        Value::Object(map) => {
            CstInputValue::Object(map.iter().map(|(key, json)| (key.clone(), value(json))).collect())
        }
    }
}

/// The text again, with the mark it began with and a line break at its end.
fn marked(before: &str, root: &CstRootNode) -> String {
    let mark = if before.starts_with(MARK) { MARK.to_string() } else { String::new() };
    let text = root.to_string();
    let end = if before.trim().is_empty() && !text.ends_with('\n') { "\n" } else { "" };
    format!("{mark}{text}{end}")
}

/// Whether an entry is one of ours, so that it may be replaced or removed without asking.
///
/// # Errors
/// It is somebody else's.
pub(super) fn is_ours(entry: &Value, new: &Value, name: &str) -> anyhow::Result<()> {
    let text = entry.to_string();
    let address = ["url", "serverUrl", "httpUrl"].iter().find_map(|key| new.get(key)?.as_str());
    let ours = text.contains("sentinel-gateway") || address.is_some_and(|url| text.contains(url));
    ensure!(
        ours,
        "the file has another server called {name:?}: choose another name with --name, or insist with --force"
    );
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::client::kinds::Client;

    #[test]
    fn comments_and_layout_of_json_stay() {
        let kind = Client::Zed.kind();
        let text = "// mine\n{\n  \"theme\": \"One\", // dark\n  \"context_servers\": {\n    /* kept */\n    \"a\": { \"command\": \"x\" },\n  },\n}\n";
        let added = set(kind, text, "sentinel", &json!({"command": "sg"}), &[]).unwrap();
        assert!(added.starts_with("// mine\n{\n  \"theme\": \"One\", // dark\n"), "{added}");
        assert!(added.contains("/* kept */\n    \"a\": { \"command\": \"x\" },"), "{added}");
        assert_eq!(get(kind, &added, "sentinel").unwrap(), Some(json!({"command": "sg"})));
        assert_eq!(
            set(kind, &added, "sentinel", &json!({"command": "sg"}), &[]).unwrap(),
            added,
            "twice is once"
        );
        let removed = remove(kind, &added, "sentinel").unwrap().unwrap();
        assert_eq!(get(kind, &removed, "sentinel").unwrap(), None);
        assert!(removed.contains("// dark") && removed.contains("/* kept */"), "{removed}");
        assert_eq!(remove(kind, &removed, "sentinel").unwrap(), None);
    }

    #[test]
    fn an_empty_file_a_mark_and_inputs() {
        let kind = Client::Vscode.kind();
        let input = json!({"id": "T", "type": "promptString"});
        let text = set(kind, "", "s", &json!({"url": "u"}), std::slice::from_ref(&input)).unwrap();
        let expected = json!({"servers": {"s": {"url": "u"}}, "inputs": [input]});
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        let again = set(kind, &text, "t", &json!({"url": "v"}), std::slice::from_ref(&input)).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&again).unwrap()["inputs"],
            json!([input]),
            "asked for once"
        );
        let marked = set(kind, "\u{feff}{}", "s", &json!({"url": "u"}), &[]).unwrap();
        assert!(marked.starts_with("\u{feff}{"), "{marked:?}");
    }

    #[test]
    fn what_cannot_be_understood_is_left_alone() {
        let kind = Client::Cursor.kind();
        for (text, why) in [
            ("{ \"mcpServers\": ", "not JSON"),
            ("[]", "not hold a JSON object"),
            ("{\"mcpServers\": []}", "not an object"),
            ("{\"a\": 1 \"b\": 2}", "not JSON"),
        ] {
            let error = set(kind, text, "s", &json!({}), &[]).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn comments_of_toml_stay() {
        let kind = Client::Codex.kind();
        let text = "# mine\nmodel = \"o\" # best\n\n[mcp_servers.a]\ncommand = \"x\" # kept\n";
        let server = json!({"command": "sg", "args": ["--config", "c"], "env_vars": ["T"]});
        let added = set(kind, text, "sentinel", &server, &[]).unwrap();
        assert!(added.starts_with(text), "{added}");
        assert!(added.contains("[mcp_servers.sentinel]\n"), "{added}");
        assert_eq!(get(kind, &added, "sentinel").unwrap(), Some(server));
        assert_eq!(remove(kind, &added, "sentinel").unwrap().as_deref(), Some(text));
        let inline = set(kind, "mcp_servers = { a = { command = \"x\" } }\n", "s", &json!({"url": "u"}), &[]);
        let table: toml::Table = toml::from_str(&inline.unwrap()).unwrap();
        assert_eq!(table["mcp_servers"]["s"]["url"].as_str(), Some("u"));
    }

    #[test]
    fn what_is_somebody_elses_is_not_replaced() {
        let new = json!({"url": "http://127.0.0.1:9200/mcp"});
        assert!(is_ours(&json!({"command": "/x/sentinel-gateway"}), &new, "s").is_ok());
        assert!(is_ours(&json!({"args": ["mcp-remote", "http://127.0.0.1:9200/mcp"]}), &new, "s").is_ok());
        let other = is_ours(&json!({"command": "sentinel"}), &new, "s").unwrap_err().to_string();
        assert!(other.contains("--name") && other.contains("--force"), "{other}");
    }
}
