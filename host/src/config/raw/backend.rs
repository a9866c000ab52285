//! `[[backends]]` as it is typed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Seconds;

/// How a backend is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawType {
    Http,
    Stdio,
}

/// How a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawEra {
    Auto,
    Handshake,
    Stateless,
}

/// What becomes of tools whose schema has flaws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawArgumentCheck {
    Lenient,
    Strict,
}

/// What becomes of a call whose arguments do not fit the tool's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawArguments {
    Refuse,
    Warn,
    Off,
}

/// Settings for some tools of a backend; without them the backend's own hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawTool {
    /// What becomes of a call whose arguments do not fit the schema: "refuse", "warn" or "off".
    pub(in crate::config) arguments: Option<RawArguments>,
    /// How long a call may take without a sign of progress.
    pub(in crate::config) timeout_secs: Option<Seconds>,
    /// How long a call may take that reports progress.
    pub(in crate::config) max_timeout_secs: Option<Seconds>,
}

/// A server behind the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawBackend {
    /// Its name: letters, digits, `_` and `-`, at most 48.
    pub(in crate::config) name: Option<String>,
    /// "http" or "stdio"; may be left out where `url` or `command` says it.
    #[serde(rename = "type")]
    pub(in crate::config) kind: Option<RawType>,
    /// http: where it listens; `${NAME}` is replaced by that environment variable, and `${file:PATH}` by what stands in
    /// that file, as they are: what is not allowed in a URL must stand there percent-encoded.
    pub(in crate::config) url: Option<String>,
    /// http: headers of every request; `${NAME}` in a value is replaced by that environment variable, `${NAME:-DEFAULT}`
    /// by the default if it is not set, and `${file:PATH}` by what stands in that file.
    pub(in crate::config) headers: BTreeMap<String, String>,
    /// http: the proxy that requests to it go through, instead of what [gateway] says: "none", "environment", or its URL.
    pub(in crate::config) proxy: Option<String>,
    /// http: how to check the server's certificate, and the gateway's own certificate, if `url` begins with https.
    pub(in crate::config) tls: Option<RawTls>,
    /// stdio: the program to start.
    pub(in crate::config) command: Option<String>,
    /// stdio: its arguments; `${NAME}` is replaced by that environment variable, and `${file:PATH}` by what stands in that
    /// file; `$${` stands for `${`. Other users of the machine may see the arguments of a program.
    pub(in crate::config) args: Vec<String>,
    /// stdio: a table of variables for it, where `${NAME}` in a value is replaced by the gateway's own
    /// variable, and `${file:PATH}` by what stands in that file; or a list of the gateway's variables to pass on.
    pub(in crate::config) env: RawEnv,
    /// stdio: the folder it runs in; relative to this file.
    pub(in crate::config) cwd: Option<String>,
    /// stdio: holds it, and all it starts, to what stands here; without it, it may do all that the gateway's user may.
    pub(in crate::config) sandbox: Option<RawSandbox>,
    /// How long a call may take. Each progress notification for it starts the clock again, and so does the answer to a
    /// question that the server asked.
    pub(in crate::config) timeout_secs: Seconds,
    /// How long a call may take in all, whatever progress it reports. By default 3600, or `timeout_secs` if that is longer.
    pub(in crate::config) max_timeout_secs: Option<Seconds>,
    /// How long it may take to answer while it starts: a server may have to download itself or to read all its files
    /// first. Until then a process that lives is waited for, and the log says every 10 s for what. By default 600, and for
    /// http 60 (or `timeout_secs`, if that is longer).
    pub(in crate::config) start_timeout_secs: Option<Seconds>,
    /// How often connecting and listing are tried again. A tool call is never sent twice.
    #[schemars(range(max = 100))]
    pub(in crate::config) retries: u32,
    /// stdio: whether it is started again when it ends by itself.
    pub(in crate::config) restart_on_exit: Option<bool>,
    /// stdio: after how many starts in a row without an answer it is tried once a minute only. By default 10, when the
    /// pauses have grown so long by themselves.
    pub(in crate::config) max_restarts: Option<u32>,
    /// How often its health is probed.
    pub(in crate::config) health_interval_secs: Seconds,
    /// How many calls it may have under way at once. One caller alone may have half of them; the more are under way, the
    /// fewer one caller may have.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) max_in_flight: usize,
    /// Whether the gateway is not ready (`/ready`) while this backend is down. Without it the gateway is ready as long as
    /// any backend is up.
    pub(in crate::config) required: bool,
    /// Show its tools as `name_tool` always, not only where two backends have the same name.
    pub(in crate::config) prefix: bool,
    /// Whether the gateway starts without it where a variable or a file that it names is missing; it is down then, and a
    /// warning says why.
    pub(in crate::config) optional: bool,
    /// Failures in a row that open its circuit. By default 5; 0 for never, and then a share of failures opens it only if
    /// `circuit_breaker_failure_rate` says so.
    pub(in crate::config) circuit_breaker_threshold: Option<u32>,
    /// How long an open circuit rests before one call may try. By default 30.
    pub(in crate::config) circuit_breaker_recovery_secs: Option<Seconds>,
    /// Share of failures in the last minute that opens its circuit; 0 for never. By default 0.5, or 0 where
    /// `circuit_breaker_threshold` is 0.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(in crate::config) circuit_breaker_failure_rate: Option<f64>,
    /// Calls in the last minute before the share counts. By default 20.
    #[schemars(range(min = 1))]
    pub(in crate::config) circuit_breaker_min_calls: Option<u32>,
    /// Whether JSON-RPC errors that are not about the request (-32603, and codes of the server's own) count as failures.
    /// A server that answers with one is there; where it means that nothing works any more, `true` counts it.
    pub(in crate::config) circuit_breaker_count_errors: bool,
    /// How it speaks: "handshake" (MCP revisions up to 2025-11-25), "stateless" (2026-07-28), or "auto": it is asked
    /// when the gateway connects.
    pub(in crate::config) era: RawEra,
    /// What becomes of a tool whose `inputSchema` has flaws: "lenient" says so in the log, leaves out what has no meaning
    /// and checks the arguments by the rest; "strict" refuses the calls of this tool.
    pub(in crate::config) argument_check: RawArgumentCheck,
    /// What becomes of a call whose arguments do not fit the tool's `inputSchema`: "refuse" answers it without the server,
    /// "warn" says so in the log and passes it on, "off" does not look.
    pub(in crate::config) arguments: RawArguments,
    /// The same and the time-outs for single tools, by name or pattern as in all rules; the most specific counts.
    pub(in crate::config) tools: BTreeMap<String, RawTool>,
    /// How many sessions may have a connection (stdio: a process) of their own, because the client can be asked
    /// something, subscribes or sets a log level; each caller may have a share of them. All others share one.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) max_connections: usize,
    /// How long such a connection is kept without a call.
    pub(in crate::config) idle_timeout_secs: Seconds,
    /// How requests to it and answers from it are reshaped.
    pub(in crate::config) rewrite: Option<RawRewrite>,
}

impl Default for RawBackend {
    fn default() -> Self {
        Self {
            name: None,
            kind: None,
            url: None,
            headers: BTreeMap::new(),
            proxy: None,
            tls: None,
            command: None,
            args: Vec::new(),
            env: RawEnv::Names(Vec::new()),
            cwd: None,
            sandbox: None,
            timeout_secs: Seconds(60.0),
            max_timeout_secs: None,
            start_timeout_secs: None,
            retries: 3,
            restart_on_exit: None,
            max_restarts: None,
            health_interval_secs: Seconds(300.0),
            max_in_flight: 256,
            required: false,
            prefix: false,
            optional: false,
            circuit_breaker_threshold: None,
            circuit_breaker_recovery_secs: None,
            circuit_breaker_failure_rate: None,
            circuit_breaker_min_calls: None,
            circuit_breaker_count_errors: false,
            era: RawEra::Auto,
            argument_check: RawArgumentCheck::Lenient,
            arguments: RawArguments::Refuse,
            tools: BTreeMap::new(),
            max_connections: 32,
            idle_timeout_secs: Seconds(300.0),
            rewrite: None,
        }
    }
}

/// Certificates for the connections to one server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawTls {
    /// A file of certificates (PEM) to trust besides the system's: those of an authority of your own.
    pub(in crate::config) ca_file: Option<String>,
    /// A file with the certificate (PEM) by which the gateway shows who it is, and the certificates that signed it.
    pub(in crate::config) cert_file: Option<String>,
    /// A file with the private key (PEM) of `cert_file`, if it does not stand in there.
    pub(in crate::config) key_file: Option<String>,
}

/// The environment of a child.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(in crate::config) enum RawEnv {
    /// Variables with their values.
    Table(BTreeMap<String, String>),
    /// Names of variables to pass on.
    Names(Vec<String>),
}

impl RawEnv {
    /// True if nothing was typed.
    pub(in crate::config) fn is_empty(&self) -> bool {
        match self {
            Self::Table(table) => table.is_empty(),
            Self::Names(names) => names.is_empty(),
        }
    }
}

/// The walls around a stdio server. Needs Linux 6.12 with Landlock; where the system cannot hold all of it, nothing is
/// started.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawSandbox {
    /// Files and folders (with all in them) that it may read and run; relative to this file. The system's programs and
    /// libraries, and the program itself, are always among them; home folders, `/tmp` and `/proc` are not.
    pub(in crate::config) read: Vec<String>,
    /// Files and folders that it may also change.
    pub(in crate::config) write: Vec<String>,
    /// Whom it may speak to: "none" or "all".
    pub(in crate::config) network: RawNetwork,
    /// How many more processes and threads the gateway's user may have than the whole machine has when the server starts.
    /// The kernel does not hold root to it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) processes: u64,
    /// Files it may have open; by default as many as the gateway.
    #[schemars(range(min = 16, max = 10_000_000))]
    pub(in crate::config) open_files: Option<u64>,
    /// MiB of addresses that each of its processes may have; by default no limit. Some programs reserve far more than
    /// they use.
    #[schemars(range(min = 16, max = 1_000_000_000))]
    pub(in crate::config) memory_mb: Option<u64>,
}

impl Default for RawSandbox {
    fn default() -> Self {
        Self {
            read: Vec::new(),
            write: Vec::new(),
            network: RawNetwork::Reach(RawReach::None),
            processes: 512,
            open_files: None,
            memory_mb: None,
        }
    }
}

/// Whom a server in a sandbox may speak to.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(in crate::config) enum RawNetwork {
    /// Nobody, or everybody.
    Reach(RawReach),
    /// Not possible: the kernel cannot tell hosts apart.
    Hosts(Vec<String>),
}

/// Nobody, or everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum RawReach {
    None,
    All,
}

/// Rules for the plugin `rewrite-rules`, which checks them.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawRewrite {
    /// Edits of the arguments, in order: `set` or `default` with `value`, `remove`, or `rename` with `to`.
    pub(in crate::config) arguments: Vec<Map<String, Value>>,
    /// Edits of results.
    pub(in crate::config) results: Vec<Map<String, Value>>,
    /// Headers of requests; never a secret, these are in reach of a plugin.
    pub(in crate::config) headers: BTreeMap<String, String>,
    /// How its tools are shown: `tool`, and any of `rename`, `title`, `description`, `hide`. As everywhere in these rules,
    /// `tool` may be any name of the tool, or a pattern with `*` (but for `rename`).
    pub(in crate::config) tools: Vec<Map<String, Value>>,
}
