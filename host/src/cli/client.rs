//! `client config`: the snippet that makes an MCP client spawn this gateway.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what to put into the client's own configuration
    Config {
        /// Which client
        client: Client,
        /// The name the client shows
        #[arg(long, default_value = "sentinel")]
        name: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Client {
    Claude,
    Cursor,
    Vscode,
    Codex,
}

pub(crate) fn execute(config: &Path, command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Config { client, name } = command;
    let binary = std::env::current_exe().context("this program does not know where it is")?;
    let config = std::path::absolute(config)?;
    if !config.exists() {
        super::complain(&format!("note: {} does not exist yet", config.display()));
    }
    let (place, text) = snippet(*client, name, &binary, &config, &wanted(&config))?;
    super::complain(&format!("# {place}"));
    super::say(&text)
}

/// The variables the client must pass on: a client starts its servers with a small environment. The secret that
/// tokens are checked with belongs to the gateway, so it is among them; both are placeholders here.
fn wanted(config: &Path) -> Vec<&'static str> {
    let text = std::fs::read_to_string(config).unwrap_or_default();
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    let local =
        table.get("auth").and_then(|auth| auth.get("mode")?.as_str()).is_some_and(|mode| mode == "local");
    if local { Vec::new() } else { vec!["SENTINEL_TOKEN", "JWT_SECRET_KEY"] }
}

fn snippet(
    client: Client,
    name: &str,
    binary: &Path,
    config: &PathBuf,
    env: &[&str],
) -> anyhow::Result<(&'static str, String)> {
    let placeholders: serde_json::Map<_, _> =
        env.iter().map(|name| ((*name).to_owned(), json!(format!("<value of {name}>")))).collect();
    let mut server = json!({ "command": binary, "args": ["--config", config] });
    if !placeholders.is_empty() {
        server["env"] = placeholders.clone().into();
    }
    Ok(match client {
        Client::Claude => (
            "claude_desktop_config.json, or .mcp.json of a project",
            pretty(&json!({ "mcpServers": { name: server } }))?,
        ),
        Client::Cursor => (".cursor/mcp.json", pretty(&json!({ "mcpServers": { name: server } }))?),
        Client::Vscode => {
            server["type"] = json!("stdio");
            (".vscode/mcp.json", pretty(&json!({ "servers": { name: server } }))?)
        }
        Client::Codex => {
            let table = json!({ "mcp_servers": { name: server } });
            ("~/.codex/config.toml", toml::to_string(&table)?)
        }
    })
}

fn pretty(value: &serde_json::Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_gets_the_command_and_the_file() {
        for client in [Client::Claude, Client::Cursor, Client::Vscode, Client::Codex] {
            let (_, text) = snippet(
                client,
                "gw",
                Path::new("/opt/sg"),
                &PathBuf::from("/etc/s.toml"),
                &["SENTINEL_TOKEN"],
            )
            .unwrap_or_default();
            for part in ["/opt/sg", "/etc/s.toml", "--config", "SENTINEL_TOKEN", "gw"] {
                assert!(text.contains(part), "{client:?}: {part} is missing in {text}");
            }
        }
    }
}
