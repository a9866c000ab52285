//! The clients: where each keeps its list of servers, and how it spells an entry.

use std::path::PathBuf;

use clap::ValueEnum;

/// An MCP client that the gateway can be registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// Claude Code
    #[value(alias = "claude")]
    ClaudeCode,
    /// Claude Desktop
    ClaudeDesktop,
    /// Cursor
    Cursor,
    /// Visual Studio Code
    Vscode,
    /// Codex
    Codex,
    /// Windsurf
    Windsurf,
    /// Gemini CLI
    #[value(alias = "gemini-cli")]
    Gemini,
    /// LM Studio
    #[value(alias = "lm-studio")]
    Lmstudio,
    /// Zed
    Zed,
    /// Cline
    Cline,
}

/// How a client refers to a variable of its own environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum References {
    /// `${NAME}`
    Braces,
    /// `${env:NAME}`
    Env,
    /// `${input:NAME}`: the client asks for it once and keeps it.
    Inputs,
    /// By keys that take the name alone.
    Names,
    /// Not at all: values stand in its file.
    None,
}

/// The format of a client's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON, with comments where the client allows them.
    Json,
    Toml,
}

/// The facts about a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// The key under which its servers stand.
    pub(super) servers: &'static str,
    pub(super) format: Format,
    pub(super) references: References,
    /// Its file in a project, if it has one.
    pub(super) project: Option<&'static str>,
}

impl Client {
    pub(super) fn kind(self) -> Kind {
        let mut kind = Kind {
            name: "",
            servers: "mcpServers",
            format: Format::Json,
            references: References::None,
            project: None,
        };
        match self {
            Self::ClaudeCode => {
                kind.name = "Claude Code";
                kind.references = References::Braces;
                kind.project = Some(".mcp.json");
            }
            Self::ClaudeDesktop => kind.name = "Claude Desktop",
            Self::Cursor => {
                kind.name = "Cursor";
                kind.references = References::Env;
                kind.project = Some(".cursor/mcp.json");
            }
            Self::Vscode => {
                kind.name = "Visual Studio Code";
                kind.servers = "servers";
                kind.references = References::Inputs;
                kind.project = Some(".vscode/mcp.json");
            }
            Self::Codex => {
                kind.name = "Codex";
                kind.servers = "mcp_servers";
                kind.format = Format::Toml;
                kind.references = References::Names;
                kind.project = Some(".codex/config.toml");
            }
            Self::Windsurf => {
                kind.name = "Windsurf";
                kind.references = References::Env;
            }
            Self::Gemini => {
                kind.name = "Gemini CLI";
                kind.references = References::Braces;
                kind.project = Some(".gemini/settings.json");
            }
            Self::Lmstudio => kind.name = "LM Studio",
            Self::Zed => {
                kind.name = "Zed";
                kind.servers = "context_servers";
                kind.project = Some(".zed/settings.json");
            }
            Self::Cline => kind.name = "Cline",
        }
        kind
    }

    /// The file of its user; none without a home.
    pub(crate) fn file(self, env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let folder = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = folder("HOME");
        let in_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let config = || folder("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
        // Where programs of the desktop keep their settings.
        let settings = || {
            if cfg!(target_os = "macos") { in_home("Library/Application Support") } else { config() }
        };
        match self {
            Self::ClaudeCode => match folder("CLAUDE_CONFIG_DIR") {
                Some(dir) => Some(dir.join(".claude.json")),
                None => in_home(".claude.json"),
            },
            Self::ClaudeDesktop => Some(settings()?.join("Claude/claude_desktop_config.json")),
            Self::Cursor => in_home(".cursor/mcp.json"),
            Self::Vscode => Some(settings()?.join("Code/User/mcp.json")),
            Self::Codex => match folder("CODEX_HOME") {
                Some(dir) => Some(dir.join("config.toml")),
                None => in_home(".codex/config.toml"),
            },
            Self::Windsurf => in_home(".codeium/windsurf/mcp_config.json"),
            Self::Gemini => in_home(".gemini/settings.json"),
            Self::Lmstudio => in_home(".lmstudio/mcp.json"),
            Self::Zed => Some(config()?.join("zed/settings.json")),
            Self::Cline => {
                let of_code =
                    "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json";
                Some(settings()?.join(of_code))
            }
        }
    }
}
