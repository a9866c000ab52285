//! Runs policies: sandboxed components behind the contract of `wit/`.
//!
//! A [`Plugin`] is one artifact with one configuration. Its calls are synchronous and short: every one has a
//! budget of steps, time, memory and bytes, and whatever goes wrong inside is a [`PluginError`] that names
//! the plugin and the limit, never a panic of the gateway.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sentinel_names::Names;
use tokio::sync::Semaphore;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};

mod artifact;
mod asked;
mod bindings;
mod bounds;
mod compile;
mod engine;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod guest;
mod meters;
mod outgoing;
mod pool;
mod precompiled;
mod reuse;
mod subject;
mod ticker;
mod verdict;
mod views;
mod waiting;
mod watched;

pub use artifact::{Artifact, ArtifactError, Grant, Manifest, Wasi, load as load_artifact, precompile};
pub use bindings::{Mismatch, Roles};
pub use compile::compile_here;
pub use engine::Engine;
pub(crate) use pool::blocking;
pub use subject::{Answer, CatalogEdit, Edits};
pub use verdict::{ApprovalRequest, Risk, Threshold, Verdict};

use self::bindings::{Contract, Places};
use self::guest::{Guest, Shared};
use self::meters::Meters;
use self::outgoing::Outgoing;
use self::pool::{BirthError, Pool, Recipe};
use self::waiting::Patience;
use crate::call::{Principal, TargetKind};
use crate::config;
use crate::state::{Clock, Namespace, Quota, Store};

/// Most calls of one plugin that wait for others at once, each on a thread that may block.
const MAX_WAITING: usize = 16;
/// Longest wait in a call of a plugin that has WASI but no network: there is nothing to come.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// A loaded, configured plugin.
pub struct Plugin {
    name: Arc<str>,
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
}

impl Hooks {
    /// Those of a rewriter that does not say.
    pub const ALL: Self = Self { request: true, response: true, catalog: true };
    /// Those of what is no rewriter.
    const NONE: Self = Self { request: false, response: false, catalog: false };
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
#[error("plugin `{plugin}`: {fault}")]
pub struct PluginError {
    pub plugin: Arc<str>,
    #[source]
    pub fault: Fault,
}

/// Why a plugin cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("it does not fit this gateway: {0}")]
    Link(String),
    #[error(transparent)]
    Interface(#[from] Mismatch),
    #[error("it cannot send requests: {0}")]
    Http(String),
    #[error("it failed while it was being configured: {0}")]
    Start(Fault),
    /// JSON pointer, message and hint of every mistake in its configuration.
    #[error("its configuration is wrong")]
    Config(Vec<(String, String, Option<String>)>),
    #[error("it plays no part in the stage `{0}`")]
    Role(&'static str),
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

/// What a call came to: the plugin's answer or its refusal, unless the plugin itself failed.
pub type Answered<T> = Result<Result<T, Refusal>, PluginError>;

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
    /// Loads the artifact, checks what it wants against what it may, configures it and makes one instance.
    ///
    /// # Errors
    /// Whatever makes it unusable; see [`LoadError`].
    pub fn load(
        engine: &Engine,
        wasm: &Path,
        settings: &config::Plugin,
        state: &Store,
        clock: &Clock,
    ) -> Result<Self, LoadError> {
        let grant = Grant {
            // A shipped plugin may ask; where its section names no secret, there is none to be had.
            secrets: !settings.secrets.is_empty() || settings.is_shipped(),
            http: settings.http.is_some(),
            grants: &settings.grants,
        };
        let artifact = artifact::load(engine, wasm, settings.sha256.as_deref(), Some(grant))?;
        let roles = Roles::among(&artifact.exports);
        let (fits, stage) = match settings.stage {
            config::Stage::Authenticate => (roles.authentication, "authenticate"),
            config::Stage::Guard => (roles.admission || roles.visibility, "guard"),
            config::Stage::Breaker => (roles.admission, "breaker"),
            config::Stage::Rewrite => (roles.rewriting, "rewrite"),
        };
        if !fits {
            return Err(LoadError::Role(stage));
        }
        let name: Arc<str> = settings.name.as_str().into();
        let quota = Quota { keys: settings.limits.state_keys, bytes: settings.limits.state_bytes };
        let granted = settings.http.as_ref().filter(|_| artifact.wasi.http);
        let outgoing = granted
            .map(|grant| Outgoing::new(&name, grant, settings.limits.host_bytes))
            .transpose()
            .map_err(LoadError::Http)?;
        let meters = Meters::new(name.clone());
        let shared = Arc::new(Shared {
            name: name.clone(),
            instances: meters.instances.clone(),
            limits: settings.limits,
            secrets: settings.secrets.clone(),
            state: namespace(state, settings, quota),
            clock: clock.clone(),
            outgoing: outgoing.map(Arc::new),
            patience: patience(granted),
        });
        let pre = linker(engine, artifact.wasi)
            .and_then(|linker| linker.instantiate_pre(&artifact.component))
            .map_err(|error| LoadError::Link(format!("{error:#}")))?;
        let places = Places::find(&pre, roles)?;
        let recipe = Recipe {
            pre,
            places,
            ticker: engine.ticker().clone(),
            shared,
            roles,
            config: settings.config.to_string(),
            isolation: settings.isolation,
            blocking: artifact.wasi.http || artifact.wasi.rest,
        };
        let pool = Pool::new(recipe);
        pool.warm().map_err(|error| match error {
            BirthError::Fault(fault) => LoadError::Start(fault),
            BirthError::Interface(mismatch) => LoadError::Interface(mismatch),
            BirthError::Config(errors) => {
                LoadError::Config(errors.into_iter().map(|e| (e.path, e.message, e.hint)).collect())
            }
        })?;
        Ok(Self { name, digest: artifact.digest, roles, on_failure: settings.on_failure, pool, meters })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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

    /// What the operator wants when the plugin fails.
    #[must_use]
    pub fn on_failure(&self) -> config::OnFailure {
        self.on_failure
    }
}

/// What the plugin remembers. An authenticator remembers whom to trust, such as keys that it fetched: that must neither
/// outlive its configuration nor the process.
fn namespace(state: &Store, settings: &config::Plugin, quota: Quota) -> Namespace {
    if settings.stage == config::Stage::Authenticate {
        return state.passing_namespace(&settings.name, &settings.config.to_string(), quota);
    }
    state.namespace(&settings.name, quota)
}

/// How long its calls may wait. Without a network there is nothing that is worth waiting for.
fn patience(grant: Option<&config::HttpGrant>) -> Patience {
    // Past the requests' own limit, so that a plugin hears that its request failed and can say so.
    let limit = grant.map_or(IDLE_WAIT, |grant| grant.timeout + Duration::from_secs(1));
    Patience { limit, places: Arc::new(Semaphore::new(MAX_WAITING)) }
}

/// Only what was granted is there at all; what waits is ours in any case.
fn linker(engine: &Engine, wasi: Wasi) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine.wasmtime());
    Contract::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    linker.allow_shadowing(true);
    if wasi.rest {
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    }
    if wasi.http {
        wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker)?;
        wasmtime_wasi::p2::bindings::clocks::monotonic_clock::add_to_linker::<Guest, WasiClocks>(
            &mut linker,
            Guest::clocks,
        )?;
    }
    if wasi.rest || wasi.http {
        waiting::add_to_linker(&mut linker, Guest::table, Guest::waits)?;
    }
    Ok(linker)
}
