//! Runs policies: sandboxed components behind the contract of `wit/`.
//!
//! A [`Plugin`] is one artifact with one configuration. Its calls are synchronous and short: every one has a
//! budget of steps, time, memory and bytes, and whatever goes wrong inside is a [`PluginError`] that names
//! the plugin and the limit, never a panic of the gateway.

use std::sync::Arc;
use std::time::Duration;

use sentinel_names::Names;

mod allowance;
mod artifact;
mod asked;
mod bindings;
mod bounds;
mod compile;
mod engine;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod guest;
mod load;
mod meters;
mod outgoing;
mod overheard;
mod pool;
mod precompiled;
mod reuse;
mod subject;
mod ticker;
mod verdict;
mod views;
mod waiting;
mod watched;

pub use allowance::Fuel;
pub use artifact::{
    Artifact, ArtifactError, Grant, Manifest, Wasi, digest, load as load_artifact, precompile,
};
pub use bindings::Mismatch;
pub(crate) use bindings::Roles;
pub use compile::compile_here;
pub use engine::Engine;
pub use load::LoadError;
pub use overheard::Step;
pub(crate) use overheard::{overhear, overheard};
pub(crate) use pool::blocking;
pub use subject::{BackendResponse, CatalogEdit, Edits};
pub use verdict::{ApprovalRequest, Risk, Threshold, Verdict};

use self::meters::Meters;
use self::pool::Pool;
use crate::call::{Principal, TargetKind};
use crate::config;

/// A loaded, configured plugin.
pub struct Plugin {
    name: Arc<str>,
    /// As its manifest says; empty without one.
    version: String,
    /// The headers that its manifest says it reads.
    headers: Vec<String>,
    digest: String,
    roles: Roles,
    on_failure: config::OnFailure,
    pool: Pool,
    meters: Meters,
}

/// Which hooks of a rewriter have anything to do for one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hooks {
    pub request: bool,
    pub response: bool,
    pub catalog: bool,
    /// What a server says beside its results.
    pub sieve: bool,
}

impl Hooks {
    /// The hooks of a rewriter that does not say which it has.
    pub const ALL: Self = Self { request: true, response: true, catalog: true, sieve: true };
    /// The hooks of a plugin that is no rewriter.
    const NONE: Self = Self { request: false, response: false, catalog: false, sieve: false };
}

/// What happened inside a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it ran longer than {ms} ms")]
    Deadline { ms: u64 },
    #[error("it took more than {limit} steps")]
    Fuel { limit: u64 },
    #[error("limit hit: {0}")]
    Limit(String),
    #[error("it crashed: {0}")]
    Trap(String),
    #[error("no instance is free, or too many of its calls wait for others")]
    Saturated,
    #[error("it answered {got} times for {want} entries")]
    Answers { got: usize, want: usize },
}

impl Fault {
    /// What an operator can do about it; empty where it is the author's turn.
    fn hint(&self) -> &'static str {
        match self {
            Self::Fuel { .. } => "; limits.fuel in its [[plugins]] entry allows more",
            Self::Deadline { .. } => "; limits.deadline_ms in its [[plugins]] entry allows more",
            Self::Limit(_) | Self::Trap(_) | Self::Saturated | Self::Answers { .. } => "",
        }
    }

    /// Its kind, for metrics and spans.
    fn kind(&self) -> &'static str {
        match self {
            Self::Deadline { .. } => "deadline",
            Self::Fuel { .. } => "fuel",
            Self::Limit(_) => "limit",
            Self::Trap(_) => "trap",
            Self::Saturated => "saturated",
            Self::Answers { .. } => "answers",
        }
    }
}

/// A fault with the plugin it happened in.
#[derive(Clone, Debug, thiserror::Error)]
#[error("plugin `{plugin}`: {fault}{}", .fault.hint())]
pub struct PluginError {
    pub plugin: Arc<str>,
    #[source]
    pub fault: Fault,
}

/// An authenticator's answer.
#[derive(Clone, Debug)]
pub enum Auth {
    Abstain,
    Accepted { principal: Principal, cache_until_ms: Option<u64> },
}

/// A plugin's refusal, in its own words.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
    pub retry_after: Option<Duration>,
    pub details: Vec<(String, String)>,
}

/// The result of a call: the plugin's answer or its refusal, unless the plugin itself failed.
pub type PluginResult<T> = Result<Result<T, Refusal>, PluginError>;

/// One row of a list, for `visibility`.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    pub kind: TargetKind,
    pub names: Names<'a>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that its manifest names; empty if it names none.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The headers that it reads, as its manifest says.
    #[must_use]
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether this is the code that it was loaded from.
    #[must_use]
    pub fn is_of(&self, code: &[u8]) -> bool {
        artifact::digest(code) == self.digest
    }

    #[must_use]
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// What happens when the plugin fails, as the operator chose.
    #[must_use]
    pub fn on_failure(&self) -> config::OnFailure {
        self.on_failure
    }
}
