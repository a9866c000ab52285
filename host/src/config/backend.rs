//! The servers behind the gateway, as they are checked.

use std::path::PathBuf;
use std::time::Duration;

use sentinel_names::{Names, Table};

use super::{Arguments, Patience, Sandbox, Secret, ToolRules};
use crate::call::{Call, TargetKind};

/// A server behind the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Its name: `[A-Za-z0-9_-]{1,48}`.
    pub name: String,
    /// How it is reached.
    pub transport: TransportSettings,
    /// How long a call may take without a sign that the server works on it.
    pub timeout: Duration,
    /// How long a call may take in all.
    pub longest: Duration,
    /// What becomes of arguments that do not fit.
    pub arguments: Arguments,
    /// What single tools have of their own.
    pub tools: ToolRules,
    /// Whether JSON-RPC errors count as failures of the server.
    pub errors_count: bool,
    /// How long it may take to answer while it starts.
    pub start_timeout: Duration,
    /// How often connecting and listing are tried again; a tool call never is.
    pub retries: u32,
    /// Whether a child that ends is started again.
    pub restart_on_exit: bool,
    /// After how many starts in a row without an answer the pauses are the longest.
    pub max_restarts: u32,
    /// The time between two probes of its health.
    pub health_interval: Duration,
    /// Calls under way at once.
    pub max_in_flight: usize,
    /// Show its names as `backend_name` even while they are unique.
    pub always_prefix: bool,
    /// How it speaks.
    pub era: BackendEra,
    /// A tool whose schema has flaws refuses its calls, instead of checking them by the rest.
    pub strict_schemas: bool,
    /// Connections of sessions' own, besides the shared one.
    pub max_connections: usize,
    /// How long such a connection stays without a call.
    pub idle_timeout: Duration,
    /// Whether the gateway is not ready without it.
    pub required: bool,
    /// For an optional backend that cannot be started: what is missing. It stays down, and keeps its names.
    pub absent: Option<String>,
}

impl Backend {
    /// How long this call may take.
    #[must_use]
    pub fn patience(&self, call: &Call) -> Patience {
        let names = call.target.names();
        let of_tool = |table: &Table<Duration>| {
            (call.target.kind == TargetKind::Tool).then(|| table.get(&names).copied()).flatten()
        };
        let silence = of_tool(&self.tools.timeouts).unwrap_or(self.timeout);
        let longest = of_tool(&self.tools.longest).unwrap_or(self.longest).max(silence);
        Patience { silence, longest }
    }

    /// The longest time that any call may take.
    #[must_use]
    pub fn most_patient(&self) -> Duration {
        self.tools.most.max(self.longest).max(self.timeout)
    }

    /// What becomes of arguments that do not fit this tool's schema.
    #[must_use]
    pub fn arguments(&self, tool: &Names<'_>) -> Arguments {
        self.tools.arguments.get(tool).copied().unwrap_or(self.arguments)
    }

    /// Whether the same schemas of tools are read in the same way under these settings and under others.
    #[must_use]
    pub(crate) fn checks_as(&self, other: &Self) -> bool {
        self.arguments == other.arguments
            && self.tools.arguments == other.tools.arguments
            && self.strict_schemas == other.strict_schemas
    }

    /// Whether a server that was started or connected to with these settings serves on as it is with others: what differs is
    /// nothing that its process or its address sees.
    #[must_use]
    pub(crate) fn connects_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.transport == other.transport
            && self.era == other.era
            && self.absent == other.absent
    }
}

/// How a server speaks (MCP "Versioning").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendEra {
    /// Found out when connecting.
    Auto,
    /// With `initialize`: 2024-11-05 to 2025-11-25.
    Handshake,
    /// Without: 2026-07-28.
    Stateless,
}

/// How a backend is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum TransportSettings {
    /// A child process.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<Secret>,
        /// Its variables, besides those every child gets.
        env: Vec<(String, Secret)>,
        /// The folder it runs in.
        cwd: Option<PathBuf>,
        /// What it may reach; all that the gateway's user may, if absent.
        sandbox: Option<Sandbox>,
    },
    /// An HTTP server.
    Http {
        /// Where it listens; `http` or `https`.
        url: Secret,
        /// Headers of every request.
        headers: Vec<(String, Secret)>,
        /// How it is reached.
        route: Route,
    },
}

/// The way to an HTTP server: through what, trusting whom, and as whom. Servers with equal ones share connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// The URL of a proxy, perhaps with a password.
    pub proxy: Option<Secret>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca: Option<String>,
    /// The gateway's own certificate and its key (PEM).
    pub identity: Option<Secret>,
}
