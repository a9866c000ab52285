//! Others who do a part of the same: bridges and gateways without policy, as their own documents say to set them up,
//! with logging down to warnings, as ours has it. None of them keeps a record in these configurations.
//!
//! Versions are pinned; `cargo xtask bench peers --install` installs them.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::process::Command;

use super::{HttpServer, Launch, Place, Route, Way, free_port};
use crate::client::Door;
use crate::token::Signer;

/// One of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    RustMcpProxy,
    /// The same with what it has of policies.
    RustMcpProxyPolicies,
    PythonMcpProxy,
    NodeMcpProxy,
    Supergateway,
    FastMcp,
    ContextForge,
}

/// What ContextForge is told when it listens: its one server. Arguments: its address, the token, the server's URL.
const REGISTER: &str = "import json,sys,time,urllib.request as u
base,token,url=sys.argv[1:]
body=json.dumps({'name':'b0','url':url,'transport':'STREAMABLEHTTP','visibility':'public'}).encode()
head={'Authorization':'Bearer '+token,'Content-Type':'application/json'}
u.urlopen(u.Request(base+'/gateways',body,head),timeout=60).read()
";
/// What the Rust mcp-proxy has of policies, in a backend's section and after it.
const RUST_POLICIES: &str = "[backends.default_args]
limit = 10
[backends.rate_limit]
requests = 1000000
period_seconds = 1
[backends.circuit_breaker]
failure_rate_threshold = 0.5
minimum_calls = 20
wait_duration_seconds = 30
[auth]
type = \"jwt\"
issuer = \"bench\"
audience = \"AUDIENCE\"
jwks_uri = \"JWKS\"
[[auth.roles]]
name = \"caller\"
allow_tools = [\"b0/echo\"]
[auth.role_mapping]
claim = \"role\"
mapping = { \"caller\" = \"caller\" }
[security]
admin_token = \"bench-only\"
";
/// For its tokens, for this machine, for as long as it is measured.
const CONTEXTFORGE_SECRET: &str = "0123456789abcdef0123456789abcdef-bench-only-0123456789";

impl Peer {
    pub(crate) const ALL: [Self; 7] = [
        Self::RustMcpProxy,
        Self::RustMcpProxyPolicies,
        Self::PythonMcpProxy,
        Self::NodeMcpProxy,
        Self::Supergateway,
        Self::FastMcp,
        Self::ContextForge,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RustMcpProxy => "mcp-proxy 0.6.0 (Cargo)",
            Self::RustMcpProxyPolicies => "mcp-proxy 0.6.0 (Cargo) + policies",
            Self::PythonMcpProxy => "mcp-proxy 0.13.0 (PyPI)",
            Self::NodeMcpProxy => "mcp-proxy 6.7.19 (npm)",
            Self::Supergateway => "supergateway 4.0.0 (npm)",
            Self::FastMcp => "fastmcp 4.1.2 proxy (PyPI)",
            Self::ContextForge => "ContextForge 1.0.7 (PyPI)",
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::RustMcpProxy => "one backend, nothing else: no auth, no limits, audit and metrics off",
            Self::RustMcpProxyPolicies => {
                "ES256 token on every request, roles, rate limit, circuit breaker, an injected argument; no record"
            }
            Self::PythonMcpProxy => "one named server, streamable HTTP, log level WARNING",
            Self::NodeMcpProxy => "--server stream, one session, so one child",
            Self::Supergateway => {
                "--stdio to streamable HTTP, --stateful: a child for each session, and there is one"
            }
            Self::ContextForge => {
                "one worker, SQLite, one registered server, its own JWT (HS256); UI and rate limits off, log level ERROR"
            }
            Self::FastMcp => "create_proxy() over a configuration with one server, log level WARNING",
        }
    }

    pub(super) fn takes(self, route: Route) -> bool {
        match self {
            Self::RustMcpProxy | Self::RustMcpProxyPolicies => route.http_door(),
            Self::PythonMcpProxy | Self::NodeMcpProxy | Self::Supergateway => route == Route::HttpStdio,
            Self::FastMcp => true,
            Self::ContextForge => route == Route::HttpHttp,
        }
    }

    /// Its program.
    pub(crate) fn program(self, place: &Place) -> PathBuf {
        place.peers.join(match self {
            Self::RustMcpProxy | Self::RustMcpProxyPolicies => "rust/bin/mcp-proxy",
            Self::PythonMcpProxy => "python-mcp-proxy/bin/mcp-proxy",
            Self::NodeMcpProxy => "node/node_modules/.bin/mcp-proxy",
            Self::Supergateway => "node/node_modules/.bin/supergateway",
            Self::FastMcp => "fastmcp/bin/python",
            Self::ContextForge => "contextforge/bin/mcpgateway",
        })
    }

    pub(super) fn launch(self, place: &Place, way: &Way<'_>) -> anyhow::Result<Launch> {
        let program = self.program(place);
        if !program.exists() {
            bail!("not installed; `cargo xtask bench peers --install` does it");
        }
        let port = free_port()?;
        let server = way.server.argv("stdio", "")?;
        let mut command = Command::new(program);
        command.current_dir(way.folder);
        let (mut path, mut tool, mut token, mut prepare) = ("/mcp", "echo", None, None);
        let mut helper = None;
        match self {
            Self::RustMcpProxy | Self::RustMcpProxyPolicies => {
                (path, tool) = ("/", "b0/echo");
                let backend = match way.url {
                    Some(url) if way.route == Route::HttpHttp => {
                        format!("transport = \"http\"\nurl = {url:?}\n")
                    }
                    _ => format!(
                        "transport = \"stdio\"\ncommand = {:?}\nargs = {:?}\n",
                        server[0],
                        &server[1..]
                    ),
                };
                let mut policies = String::new();
                if self == Self::RustMcpProxyPolicies {
                    let (signer, keys) = (Signer::new()?, way.folder.join("jwks.json"));
                    std::fs::write(&keys, signer.jwks().to_string())?;
                    let server = HttpServer::serving(&keys)?;
                    // Its own address, which it asks for whatever audience is configured.
                    let audience = format!("http://127.0.0.1:{port}");
                    policies = RUST_POLICIES
                        .replace("JWKS", &format!("http://{}/jwks.json", server.address))
                        .replace("AUDIENCE", &audience);
                    (helper, token) =
                        (Some(server), Some(signer.token("bench", "bench", &audience, "caller")?));
                }
                let text = format!(
                    "[proxy]\nname = \"bench\"\n[proxy.listen]\nhost = \"127.0.0.1\"\nport = {port}\n\
                     [[backends]]\nname = \"b0\"\n{backend}{policies}\
                     [observability]\naudit = false\nlog_level = \"warn\"\n"
                );
                let config = way.folder.join("proxy.toml");
                std::fs::write(&config, text)?;
                command.arg("--config").arg(config);
            }
            Self::PythonMcpProxy => {
                command.args([
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port.to_string(),
                    "--log-level",
                    "WARNING",
                    "--",
                ]);
                command.args(&server);
            }
            Self::NodeMcpProxy => {
                command.args([
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port.to_string(),
                    "--server",
                    "stream",
                    "--no-eventStore",
                    "--",
                ]);
                command.args(&server);
            }
            Self::Supergateway => {
                let line = server.join(" ");
                command.args(["--stdio", &line, "--outputTransport", "streamableHttp", "--stateful"]);
                command.args(["--port", &port.to_string(), "--logLevel", "none"]);
            }
            Self::ContextForge => {
                (path, tool) = ("/mcp/", "b0-echo");
                let python = place.peers.join("contextforge/bin/python");
                let minted = std::process::Command::new(&python)
                    .args(["-m", "mcpgateway.utils.create_jwt_token", "--username", "admin@example.com"])
                    .args(["--exp", "1440", "--admin", "--secret", CONTEXTFORGE_SECRET])
                    .env("JWT_SECRET_KEY", CONTEXTFORGE_SECRET)
                    .current_dir(way.folder)
                    .output()?;
                let minted = String::from_utf8(minted.stdout)?;
                let minted = minted.lines().last().context("it minted no token")?.trim().to_owned();
                command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
                let database = format!("sqlite:///{}", way.folder.join("contextforge.db").display());
                command.envs([
                    ("DATABASE_URL", database.as_str()),
                    ("JWT_SECRET_KEY", CONTEXTFORGE_SECRET),
                    ("AUTH_ENCRYPTION_SECRET", CONTEXTFORGE_SECRET),
                    ("BASIC_AUTH_PASSWORD", "Bench-only-2026"),
                    ("PLATFORM_ADMIN_PASSWORD", "Bench-only-2026!"),
                    ("ENVIRONMENT", "development"),
                    ("CACHE_TYPE", "memory"),
                    ("LOG_LEVEL", "ERROR"),
                    ("MCPGATEWAY_UI_ENABLED", "false"),
                    ("RATE_LIMITING_ENABLED", "false"),
                    ("TOOL_RATE_LIMIT", "1000000"),
                    ("SSRF_ALLOW_LOCALHOST", "true"),
                    ("SSRF_ALLOW_PRIVATE_NETWORKS", "true"),
                ]);
                let mut register = Command::new(python);
                register.args(["-c", REGISTER, &format!("http://127.0.0.1:{port}"), &minted]);
                prepare = Some(register).zip(way.url).map(|(mut register, url)| {
                    register.arg(url);
                    register
                });
                token = Some(minted);
            }
            Self::FastMcp => {
                let backend = match way.url {
                    Some(url) if way.route == Route::HttpHttp => json!({"url": url, "transport": "http"}),
                    _ => json!({"command": server[0], "args": server[1..]}),
                };
                let config = json!({"mcpServers": {"default": backend}});
                let run = if way.route.http_door() {
                    format!(
                        "transport='http', host='127.0.0.1', port={port}, path='/mcp', log_level='warning'"
                    )
                } else {
                    "transport='stdio', log_level='warning'".to_owned()
                };
                let script = format!(
                    "import json\nfrom fastmcp.server import create_proxy\n\
                     create_proxy(json.loads({:?})).run(show_banner=False, {run})\n",
                    config.to_string()
                );
                let file = way.folder.join("proxy.py");
                std::fs::write(&file, script)?;
                command.arg(file);
            }
        }
        let door = way.route.http_door().then(|| Door {
            address: format!("127.0.0.1:{port}"),
            path: path.to_owned(),
            token,
            other: None,
        });
        Ok(Launch { command: Some(command), prepare, helper, door, tool: tool.to_owned() })
    }
}
