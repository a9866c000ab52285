//! The plugins, as they are checked: where each stands in the chain, what it may do, and how much it may use.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;

/// What a plugin may do with outgoing HTTP: `https` to these hosts, and `http` to those of them that are this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpGrant {
    /// `host` or `host:port` in lower case, as a URL spells them; without a port the scheme's own is meant.
    pub hosts: Vec<String>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca: Option<String>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a request may take in all.
    pub timeout: Duration,
    /// Requests under way at once.
    pub max_requests: usize,
}

impl Default for HttpGrant {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            ca: None,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            max_requests: 4,
        }
    }
}

/// One policy of the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its name; unique.
    pub name: String,
    /// The shipped component it is: `<artifact>.wasm`; empty for one of the operator's own.
    pub artifact: &'static str,
    /// Where it stands in the chain.
    pub stage: Stage,
    /// The component; `None` for the shipped one.
    pub wasm: Option<PathBuf>,
    /// The digest the component must have: 64 hex digits in lower case.
    pub sha256: Option<String>,
    /// What happens to a call when the plugin fails.
    pub on_failure: OnFailure,
    /// The secrets it may read, by the names of their environment variables.
    pub secrets: Vec<(String, Secret)>,
    /// Interfaces it may import besides the gateway's own.
    pub grants: Vec<String>,
    /// Where it may send HTTP requests; without it none.
    pub http: Option<HttpGrant>,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// How much it may use.
    pub limits: Limits,
    /// What it is configured with: always a JSON object.
    pub config: serde_json::Value,
    /// The section of the file this came from, to name keys by: `rate_limits`.
    pub section: String,
}

impl Plugin {
    /// Whether it is one of the gateway's own, in its own artifact.
    #[must_use]
    pub fn is_shipped(&self) -> bool {
        self.wasm.is_none()
    }
}

/// The stages of the chain, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Who is calling?
    Authenticate,
    /// May this call be made?
    Guard,
    /// Is the backend well enough?
    Breaker,
    /// How does the backend want it?
    Rewrite,
}

/// What happens to a call when a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It is refused.
    Deny,
    /// It goes on as if the plugin did not exist.
    Allow,
}

/// How long an instance of a plugin lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// For many calls.
    Shared,
    /// For one.
    Call,
}

/// How much a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fuel of wasmtime for each call: roughly instructions.
    pub fuel: u64,
    /// Milliseconds for each call.
    pub deadline_ms: u64,
    /// Linear memory of an instance.
    pub memory_bytes: usize,
    /// Elements of its tables.
    pub table_elements: usize,
    /// Lines it may log for each call.
    pub log_lines: u32,
    /// Bytes across the border for each call.
    pub host_bytes: usize,
    /// Calls before an instance is replaced.
    pub max_calls: u64,
    /// Keys of shared state.
    pub state_keys: usize,
    /// Bytes of shared state.
    pub state_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 1_000_000,
            deadline_ms: 5,
            memory_bytes: 16 << 20,
            table_elements: 10_000,
            log_lines: 64,
            host_bytes: 1 << 20,
            max_calls: 100_000,
            state_keys: 100_000,
            state_bytes: 64 << 20,
        }
    }
}

/// How plugins are kept within their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bounds {
    /// By guard pages: the addresses around a memory are reserved, and an access outside traps.
    #[default]
    Guarded,
    /// By explicit bounds checks in the compiled code; slower, for hosts that limit address space (`ulimit -v`).
    Checked,
}

/// What compiling one plugin may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// On the clock.
    pub time: Duration,
    /// Memory of the process that does it.
    pub memory_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(20), memory_bytes: 1 << 30 }
    }
}
