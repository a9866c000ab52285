//! From an artifact and its settings to a plugin that can be asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};

use super::allowance::Fuel;
use super::artifact::{self, Artifact, ArtifactError, Grant, Manifest, Wasi};
use super::bindings::{Contract, Mismatch, Places, Roles};
use super::engine::Engine;
use super::guest::{Guest, Shared};
use super::meters::Meters;
use super::outgoing::Outgoing;
use super::pool::{BirthError, Pool, Recipe};
use super::waiting::{self, Patience};
use super::{Fault, Plugin};
use crate::config::{self, Stage};
use crate::state::{Clock, Namespace, Quota, Store};

/// Most calls of one plugin that wait for others at once, each on a thread that may block.
const MAX_WAITING: usize = 16;
/// Longest wait in a call of a plugin that has WASI but no network: there is nothing to come.
const IDLE_WAIT: Duration = Duration::from_millis(100);

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
    #[error("it plays no part in the stage `{stage}`; it exports {exports}, which is asked in {fills}")]
    Role { stage: &'static str, exports: String, fills: String },
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
        Self::load_with(engine, wasm, settings, (state, clock), None)
    }

    /// The same, with its steps counted.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub(crate) fn load_counted(
        engine: &Engine,
        wasm: &Path,
        settings: &config::Plugin,
        state: &Store,
        clock: &Clock,
        fuel: Fuel,
    ) -> Result<Self, LoadError> {
        Self::load_with(engine, wasm, settings, (state, clock), Some(fuel))
    }

    fn load_with(
        engine: &Engine,
        wasm: &Path,
        settings: &config::Plugin,
        (state, clock): (&Store, &Clock),
        fuel: Option<Fuel>,
    ) -> Result<Self, LoadError> {
        let grant = Grant {
            // A shipped plugin may ask; where its section names no secret, there is none to be had.
            secrets: !settings.secrets.is_empty() || settings.is_shipped(),
            http: settings.http.is_some(),
            grants: &settings.grants,
        };
        let artifact = artifact::load(engine, wasm, settings.sha256.as_deref(), Some(grant))?;
        fits(&artifact, settings.stage)?;
        let roles = Roles::among(&artifact.exports);
        let name: Arc<str> = settings.name.as_str().into();
        let meters = Meters::new(name.clone());
        let granted = settings.http.as_ref().filter(|_| artifact.wasi.http);
        let shared = Arc::new(Shared {
            name: name.clone(),
            instances: meters.instances.clone(),
            limits: settings.limits,
            secrets: settings.secrets.clone(),
            state: namespace(state, settings),
            clock: clock.clone(),
            outgoing: outgoing(&name, granted, settings.limits.host_bytes)?,
            patience: patience(granted),
        });
        let pre = linker(engine, artifact.wasi)
            .and_then(|linker| linker.instantiate_pre(&artifact.component))
            .map_err(|error| LoadError::Link(lacking(&format!("{error:#}"))))?;
        let pool = Pool::new(Recipe {
            places: Places::find(&pre, roles)?,
            pre,
            ticker: engine.ticker().clone(),
            shared,
            roles,
            config: settings.config.to_string(),
            isolation: settings.isolation,
            blocking: artifact.wasi.http || artifact.wasi.rest,
            fuel,
        });
        pool.warm()?;
        let Manifest { version, request, .. } = artifact.manifest;
        let (digest, on_failure, headers) = (artifact.digest, settings.on_failure, request.headers);
        Ok(Self { name, version, headers, digest, roles, on_failure, pool, meters })
    }
}

impl From<BirthError> for LoadError {
    fn from(error: BirthError) -> Self {
        match error {
            BirthError::Fault(fault) => Self::Start(fault),
            BirthError::Interface(mismatch) => Self::Interface(mismatch),
            BirthError::Config(errors) => {
                Self::Config(errors.into_iter().map(|e| (e.path, e.message, e.hint)).collect())
            }
        }
    }
}

/// In words of the contract, what a newer plugin wants and this gateway does not have: `[method]request.path` of an interface.
fn lacking(reason: &str) -> String {
    let named = reason.split('`').find_map(|part| part.strip_prefix("[method]"));
    match named {
        Some(method) => format!(
            "it calls `{method}`, which this gateway does not have: use a newer gateway, or build the plugin with the SDK of this one ({reason})"
        ),
        None => reason.to_owned(),
    }
}

/// Whether it exports what is asked in its stage.
fn fits(artifact: &Artifact, stage: Stage) -> Result<(), LoadError> {
    let Roles { authentication, admission, visibility, rewriting, .. } = Roles::among(&artifact.exports);
    let (fits, stage) = match stage {
        Stage::Authenticate => (authentication, "authenticate"),
        Stage::Guard => (admission || visibility, "guard"),
        Stage::Breaker => (admission, "breaker"),
        Stage::Rewrite => (rewriting, "rewrite"),
    };
    if fits {
        return Ok(());
    }
    let exports: Vec<&str> =
        artifact.exports.iter().map(String::as_str).filter(|name| *name != "lifecycle").collect();
    let stages = [
        (authentication, "`authenticate`"),
        (admission || visibility, "`guard`"),
        (admission, "`breaker`"),
        (rewriting, "`rewrite`"),
    ];
    let fills: Vec<&str> = stages.iter().filter(|(fits, _)| *fits).map(|(_, stage)| *stage).collect();
    Err(LoadError::Role { stage, exports: exports.join(", "), fills: fills.join(" or ") })
}

fn outgoing(
    name: &Arc<str>,
    grant: Option<&config::HttpGrant>,
    max_body: usize,
) -> Result<Option<Arc<Outgoing>>, LoadError> {
    let outgoing = grant.map(|grant| Outgoing::new(name, grant, max_body)).transpose();
    Ok(outgoing.map_err(LoadError::Http)?.map(Arc::new))
}

/// The namespace of what the plugin remembers. An authenticator remembers whom to trust, such as keys that it fetched;
/// this must outlive neither its configuration nor the process.
fn namespace(state: &Store, settings: &config::Plugin) -> Namespace {
    let quota = Quota { keys: settings.limits.state_keys, bytes: settings.limits.state_bytes };
    if settings.stage == Stage::Authenticate {
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

/// Only functions that were granted exist; those that wait are the host's own in any case.
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
