//! The configuration: read once, checked as a whole, and never changed afterwards.
//!
//! `raw` is what was typed, `check` says everything that is wrong with it at once, and [`Config`] is what
//! the rest of the gateway relies on: every name resolved, every secret present, every default filled in.
//! A reload makes a new `Config` or none.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod approvals;
mod backend;
mod check;
mod control;
mod diff;
mod document;
mod executor;
mod file;
mod inherited;
mod network;
mod plugin;
mod problem;
mod raw;
pub mod rest;
pub mod sandbox;
mod schema;
mod secret;
mod telegram;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod tools;
mod typed;
mod webhook;

pub use approvals::Approvals;
pub use backend::{Backend, BackendEra, Route, TransportSettings};
pub use control::control_folder;
pub use diff::{Change, Effect, diff};
pub use executor::Executor;
pub(crate) use inherited::is_inherited;
pub use network::{Hops, Network};
pub use plugin::{Bounds, CompileLimits, HttpGrant, Isolation, Limits, OnFailure, Plugin, Stage};
pub(crate) use problem::nearest;
pub use problem::{Problem, Problems};
pub use sandbox::Sandbox;
pub use schema::schema_json;
pub use secret::Secret;
pub use telegram::{Telegram, TelegramUser};
pub use telemetry::{Otlp, Telemetry};
pub use tls::{ClientCertificates, DoorTls};
pub use tools::{Arguments, Patience, ToolRules};
pub use typed::Typed;
pub use webhook::{Webhook, WebhookKey};

use crate::files::Trust;
use crate::redact::{Redaction, Secrets};

/// Everything the gateway was told, valid as a whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from, as it was named.
    pub path: PathBuf,
    /// The gateway itself.
    pub gateway: Gateway,
    /// The HTTP door; without it the gateway serves the one client that started it, on stdio.
    pub http: Option<Http>,
    /// How callers prove who they are.
    pub auth: Auth,
    /// The scopes that tokens must have.
    pub scopes: Scopes,
    /// The record of calls.
    pub audit: Audit,
    /// The state that outlives the process.
    pub state: State,
    /// How people are asked before a call may go on.
    pub approvals: Approvals,
    /// Where telemetry is sent.
    pub telemetry: Telemetry,
    /// The servers behind the gateway; their names are unique.
    pub backends: Vec<Backend>,
    /// HTTP APIs behind routes.
    pub upstreams: Vec<rest::Upstream>,
    /// Programs behind routes.
    pub engines: Vec<rest::Engine>,
    /// The routes of the HTTP API, in the order of the file.
    pub routes: Vec<rest::Route>,
    /// The processes that run commands, with those commands; their names are unique among those of the backends.
    pub executors: Vec<Executor>,
    /// The policies, in the order of the chain.
    pub plugins: Vec<Plugin>,
    /// What is switched off.
    pub kill_switch: KillSwitch,
    /// Every name and pattern by which the rules name tools.
    pub rules: Vec<Rule>,
    /// Things that look like mistakes, but are no reason to refuse the file.
    pub warnings: Vec<Problem>,
    /// Passwords in what every server inherits, which must not be shown either.
    pub inherited: Vec<Secret>,
    /// What takes secrets out of everything that is shown or recorded: one for this file and those of its mounts.
    pub redaction: Redaction,
    /// The file as it was typed.
    pub typed: Typed,
}

/// Where the gateway listens, and its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// The HTTP door.
    pub listen: SocketAddr,
    /// Health and metrics; `None` if switched off.
    pub health_listen: Option<SocketAddr>,
    /// The bearer token that `/metrics` and the reasons of `/ready` ask for (`HEALTH_TOKEN`).
    pub health_token: Option<Secret>,
    /// A level, or filters in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_level: String,
    /// The folder of the shipped plugins; `None` for the installed one.
    pub plugin_dir: Option<PathBuf>,
    /// Which folders are not judged.
    pub trust: Trust,
    /// The longest message in memory, in bytes.
    pub max_message_bytes: usize,
    /// The longest answer of a backend, in bytes.
    pub max_result_bytes: u64,
    /// Where answers stay meanwhile that are too long for memory; `None`: beside the journal.
    pub spool_dir: Option<PathBuf>,
    /// Where the gateway remembers what it learnt of its servers; `None`: nowhere.
    pub memory_dir: Option<PathBuf>,
    /// Where commands reach the gateway: the folder for this file; `None`: they do not.
    pub control_dir: Option<PathBuf>,
    /// How long after the start the first lists wait for servers that are not known yet.
    pub first_list_wait: Duration,
    /// Calls under way at once.
    pub max_in_flight: usize,
    /// How plugins are kept within their memory.
    pub plugin_bounds: Bounds,
    /// What compiling one plugin may take.
    pub plugin_compile: CompileLimits,
    /// How long calls may take to finish at shutdown.
    pub shutdown_grace: Duration,
    /// Names of tools and prompts in characters that every client takes.
    pub safe_names: bool,
}

impl Gateway {
    /// Whether answers that are too long for memory go to files.
    #[must_use]
    pub(crate) fn spools(&self) -> bool {
        self.max_result_bytes > self.max_message_bytes as u64
    }
}

/// The HTTP door. Its address is [`Gateway::listen`].
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where MCP is served: `/mcp`.
    pub path: String,
    /// Names clients may reach the gateway by, besides those of its own machine if it listens only there.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call it.
    pub allowed_origins: Vec<String>,
    /// Sessions at once.
    pub max_sessions: usize,
    /// How long a session stays without a request.
    pub session_idle: Duration,
    /// How long nothing may be said to a client that waits.
    pub keep_alive: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Of them those from one address without a credential.
    pub max_connections_per_address: usize,
    /// Request headers that authenticators may read, in lower case.
    pub credential_headers: Vec<String>,
    /// In mode "local", requests over HTTP from this machine are the local user's, too.
    pub allow_local: bool,
    /// Where tokens come from (RFC 9728).
    pub oauth: Option<Oauth>,
    /// Its certificates, if it speaks TLS.
    pub tls: Option<DoorTls>,
    /// Proxies in front of the HTTP API.
    pub hops: Hops,
    /// Answers of the HTTP API are compressed for clients that accept it.
    pub compression: bool,
    /// Failures of the HTTP API say more.
    pub dev_mode: bool,
    /// Further endpoints.
    pub mounts: Vec<Mount>,
}

/// A further endpoint, with backends and policies of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// Where MCP is served: `/mcp/dev`.
    pub path: String,
    /// Everything else about it. Addresses and the record are those of the main file.
    pub config: Config,
}

/// The protected resource's metadata (RFC 9728).
#[derive(Debug, Clone, PartialEq)]
pub struct Oauth {
    /// The gateway's own URI.
    pub resource: String,
    /// The authorization servers that give out tokens for it.
    pub authorization_servers: Vec<String>,
    /// The scopes a client may ask for.
    pub scopes: Vec<String>,
}

/// How callers prove who they are. The plugin's own configuration is in [`Config::plugins`].
#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    /// By a signed token; on stdio this one.
    Jwt {
        /// The token of the caller on stdio; none where only HTTP is served.
        token: Option<Secret>,
    },
    /// By having started the gateway.
    Local,
    /// As authenticators of the operator's own find out.
    Plugins {
        /// The token of the caller on stdio, if one is set; none where only HTTP is served.
        token: Option<Secret>,
    },
}

/// The scopes that calls need, to tell clients; the plugins ask for them themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scopes {
    /// For every call.
    pub required: Vec<String>,
    /// For some tools only.
    pub of_tools: Vec<String>,
}

/// The record of calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// False only if the operator said so.
    pub enabled: bool,
    /// What a record must survive.
    pub mode: AuditMode,
    /// The folder of the journal and of the default database.
    pub dir: PathBuf,
    /// Where the records go.
    pub store: Store,
    /// Argument keys to redact besides the built-in ones.
    pub redact_keys: Vec<String>,
    /// Argument keys not to redact, against the built-in ones.
    pub keep_keys: Vec<String>,
    /// Longer arguments are cut off, in bytes.
    pub max_arguments_bytes: usize,
    /// Longer arguments of refused calls are cut off, in bytes.
    pub max_refused_arguments_bytes: usize,
    /// How far the journal may grow, in bytes, before calls wait.
    pub max_journal_bytes: u64,
    /// Older rows leave the database.
    pub max_age: Option<Duration>,
    /// When the record takes more in the database, the oldest rows leave it.
    pub max_bytes: Option<u64>,
    /// Whether rows that are removed are archived or deleted.
    pub when_full: WhenFull,
    /// With fewer bytes free on the disk calls are refused; `None` for what fits the disk.
    pub min_free_bytes: Option<u64>,
}

/// The state that outlives the process. The plugins of all endpoints keep theirs in one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Whether limits and circuits do.
    pub persist: bool,
    /// The folder; `None` for a mount, and on a machine that has no place for one.
    pub dir: Option<PathBuf>,
}

/// What becomes of rows that are too old or too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// They go into files.
    Archive,
    /// They are gone.
    Delete,
}

/// What a record must survive before the call goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditMode {
    /// The death of the process.
    Process,
    /// The death of the machine.
    Strict,
}

/// Where the records go.
#[derive(Debug, Clone, PartialEq)]
pub enum Store {
    /// The embedded database.
    Sqlite {
        /// Its file.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// The connection URL, with its password.
        url: Secret,
        /// Connections open at once.
        max_connections: u32,
    },
}

/// What is switched off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KillSwitch {
    /// Tools by any of their names, or by patterns.
    pub disabled_tools: Vec<String>,
    /// Backends by name or pattern.
    pub disabled_backends: Vec<String>,
}

/// A name or pattern by which a rule names tools (see [`sentinel_names`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The key it stands at: `kill_switch.disabled_tools[0]`.
    pub key: String,
    /// The line it stands on.
    pub line: Option<usize>,
    /// What was typed.
    pub pattern: String,
    /// Whether it allows something, instead of taking something away.
    pub allows: bool,
    /// The only backend whose tools it is about, if there is one.
    pub of_backend: Option<String>,
}

/// Whether two say the same about how the gateway works, wherever it stands in their files.
impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            path: _,
            gateway,
            http,
            auth,
            scopes,
            audit,
            state,
            approvals,
            telemetry,
            backends,
            upstreams,
            engines,
            routes,
            executors,
            plugins,
            kill_switch,
            // They say where in the file something stands, and follow from the rest.
            rules: _,
            warnings: _,
            typed: _,
            inherited,
            // It is one for all.
            redaction: _,
        } = self;
        gateway == &other.gateway
            && http == &other.http
            && auth == &other.auth
            && scopes == &other.scopes
            && audit == &other.audit
            && state == &other.state
            && approvals == &other.approvals
            && telemetry == &other.telemetry
            && backends == &other.backends
            && upstreams == &other.upstreams
            && engines == &other.engines
            && routes == &other.routes
            && executors == &other.executors
            && plugins == &other.plugins
            && kill_switch == &other.kill_switch
            && inherited == &other.inherited
    }
}

impl Config {
    /// The further endpoints.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.http.iter().flat_map(|http| &http.mounts)
    }

    /// Prepares the redaction, for this endpoint and the further ones: what one must not show no other may.
    fn share_redaction(&mut self) {
        self.redaction = Redaction::new(&self.secrets());
        for mount in self.http.iter_mut().flat_map(|http| &mut http.mounts) {
            mount.config.redaction = self.redaction.clone();
        }
    }

    /// The same, with the redaction that is in use already.
    #[must_use]
    pub(crate) fn redacted_by(mut self, redaction: &Redaction) -> Self {
        self.redaction = redaction.clone();
        for mount in self.http.iter_mut().flat_map(|http| &mut http.mounts) {
            mount.config.redaction = redaction.clone();
        }
        self
    }

    /// The secrets that must not be shown, of this endpoint and of all mounts.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        Secrets {
            values: self.secret_values().iter().map(|secret| secret.expose().to_owned()).collect(),
            redact_keys: self.audit.redact_keys.clone(),
            keep_keys: self.audit.keep_keys.clone(),
        }
    }

    /// Every value that must not appear in a record, of at least 4 bytes: shorter ones occur everywhere.
    #[must_use]
    pub(crate) fn secret_values(&self) -> Vec<Secret> {
        let mut holders: Vec<&Secret> = self.gateway.health_token.iter().collect();
        if let Auth::Jwt { token } | Auth::Plugins { token } = &self.auth {
            holders.extend(token);
        }
        if let Store::Postgres { url, .. } = &self.audit.store {
            holders.push(url);
        }
        if let Some(otlp) = &self.telemetry.otlp {
            holders.extend(&otlp.secrets);
        }
        for backend in &self.backends {
            let (TransportSettings::Stdio { env: pairs, .. }
            | TransportSettings::Http { headers: pairs, .. }) = &backend.transport;
            holders.extend(pairs.iter().map(|(_, value)| value));
            match &backend.transport {
                TransportSettings::Stdio { args, .. } => holders.extend(args),
                TransportSettings::Http { url, route, .. } => {
                    holders.push(url);
                    holders.extend(route.proxy.iter().chain(&route.identity));
                }
            }
        }
        holders.extend(self.http.iter().filter_map(|http| http.tls.as_ref()).map(|tls| &tls.identity));
        for upstream in &self.upstreams {
            holders.push(&upstream.url);
            holders.extend(upstream.headers.iter().map(|(_, value)| value));
            holders.extend(upstream.way.proxy.iter().chain(&upstream.way.identity));
        }
        for engine in &self.engines {
            holders.extend(engine.args.iter().chain(engine.env.iter().map(|(_, value)| value)));
        }
        holders.extend(self.executors.iter().map(|executor| &executor.secret));
        for webhook in &self.approvals.webhooks {
            holders.extend([&webhook.url, &webhook.secret]);
        }
        holders.extend(self.approvals.telegram.iter().map(|telegram| &telegram.token));
        holders.extend(&self.inherited);
        holders.extend(self.plugins.iter().flat_map(|plugin| &plugin.secrets).map(|(_, value)| value));
        let mounted: Vec<Secret> = self.mounts().flat_map(|mount| mount.config.secret_values()).collect();
        holders.extend(&mounted);
        let mut values: Vec<&String> = holders.into_iter().flat_map(Secret::hidden).collect();
        values.retain(|value| value.len() >= 4);
        // The longest first, so that a secret that contains another is covered as a whole.
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        values.into_iter().map(Secret::new).collect()
    }
}

/// Reads and checks a configuration file. `env` looks up an environment variable.
///
/// # Errors
/// Everything that is wrong with it, an unreadable file or one that others may write to included.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let file::Configuration { text, problems } =
        file::read_config(path, &Trust::default()).map_err(|problem| Problems::new(path, vec![problem]))?;
    read(&text, path, env, None, problems)
}

/// Checks the text of a configuration file; `path` names it and is where relative paths start.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    read(text, path, env, None, Vec::new())
}

/// The settings that the file of a mount shares with the main one.
#[derive(Clone, Copy)]
struct Main<'a> {
    door: &'a raw::RawHttp,
    trust: &'a Trust,
}

/// `main` is there if this is the file of a mount; `problems` are those of the file itself.
fn read(
    text: &str,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    main: Option<Main<'_>>,
    mut problems: Vec<Problem>,
) -> Result<Config, Problems> {
    let mut document = match document::Document::read(text, &mut problems) {
        Ok(document) => document,
        Err(mut syntax) => {
            if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
                syntax.hint = Some(format!(
                    "it looks like the JSON file of an MCP client: `sentinel-gateway import {} --output sentinel.toml` makes a file of it",
                    path.display()
                ));
            }
            problems.push(syntax);
            return Err(Problems::new(path, problems));
        }
    };
    let pruned = schema::validate(&mut document, &mut problems);
    let for_mount = main.is_some();
    let mut config = check::check(&document, path, env, problems, pruned, main)
        .map_err(|problems| Problems::new(path, problems))?;
    if !for_mount {
        config.share_redaction();
    }
    Ok(config)
}
