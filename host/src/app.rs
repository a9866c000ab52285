//! The only wiring: configuration → engine → plugins → chain → backends → doors, and all of it down again in order.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

mod doors;
pub mod plugins;
mod reload;
mod suite;

use self::plugins::Loaded;
use self::suite::{Prepared, Suite};
use crate::audit::{self, Audit};
use crate::config::{self, Config, Problem, Problems};
use crate::door::conversation::House;
use crate::door::health;
use crate::pipeline::Pipeline;
use crate::redact::Words;
use crate::state::{Clock, Store};
use crate::telemetry;

/// Reads the environment of this process.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs the gateway until its client leaves or it is told to stop.
///
/// # Errors
/// It cannot start; every problem with the configuration and the plugins is in the error.
pub async fn run(path: &Path, log_level: Option<&str>) -> anyhow::Result<()> {
    let config = config::load(path, &environment)?;
    telemetry::log(log_level.unwrap_or(&config.gateway.log_level), config.redaction.clone())?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{}: {}", warning.key, warning.message));
    let render = telemetry::metrics()?;
    let prepared = Prepared::load(&config)?;
    let mounted: Vec<Prepared> =
        config.mounts().map(|mount| Prepared::load(&mount.config)).collect::<Result<_, _>>()?;
    let audit = open_audit(&config).await?;
    let stop = CancellationToken::new();
    let over_http = config.http.is_some();
    let main = prepared.start(&config, over_http, &audit, &stop)?;
    let mut suites = vec![main];
    for (mount, prepared) in config.mounts().zip(mounted) {
        suites.push(prepared.start(&mount.config, over_http, &audit, &stop)?);
    }
    let paths = std::iter::once(None).chain(config.mounts().map(|mount| Some(mount.path.as_str())));
    let reloads = suites.iter().zip(paths).map(|(suite, mount)| suite.reloads(mount)).collect();
    let reload = tokio::spawn(reload::on_sighup(path.to_owned(), reloads)?);
    let pipelines: Vec<_> = suites.iter().map(|suite| suite.house.pipeline.clone()).collect();
    let health = health_server(&config, pipelines, render, &stop).await;
    let signals = stop_signals(stop.clone())?;
    let houses: Vec<House> = suites.iter().map(|suite| suite.house.clone()).collect();
    let served = match &config.http {
        Some(http) => doors::http(&config, http, houses, &stop).await,
        None => match houses.into_iter().next() {
            Some(house) => doors::stdio(&config, house, &stop).await.context("stdio"),
            None => Ok(()),
        },
    };
    // Stop accepting → calls ended (in serve) → backends → audit.
    stop.cancel();
    reload.abort();
    signals.abort();
    futures_util::future::join_all(suites.into_iter().map(Suite::end)).await;
    if let Some(health) = health {
        let _ = health.await;
    }
    audit
        .close()
        .await
        .context("the audit journal was not drained; what remains is moved at the next start")?;
    tracing::info!("Shutdown complete");
    served
}

/// Everything is loaded and checked, nothing is started.
///
/// # Errors
/// All problems found.
pub fn check(path: &Path) -> Result<(Config, Loaded), Problems> {
    let config = config::load(path, &environment)?;
    let loaded = plugins::load(&config, &Store::new(), &Clock::real())?;
    for mount in config.mounts() {
        plugins::load(&mount.config, &Store::new(), &Clock::real())?;
    }
    Ok((config, loaded))
}

/// Starts the backends of a configuration and reports how each did, without serving anybody.
pub async fn probe(config: &Config, loaded: Loaded) -> Vec<(String, Result<usize, Words>)> {
    let rewriters = Arc::new(loaded.rewriters);
    let (registry, _events) = suite::start_backends(config, &rewriters);
    registry.client_declares("{}");
    let report = registry.probe().await;
    registry.stop().await;
    report
}

/// Where the store of the audit record is, for the commands that read it.
#[must_use]
pub fn audit_store(config: &Config) -> audit::StoreSettings {
    match &config.audit.store {
        config::Store::Sqlite { path } => audit::StoreSettings::Sqlite { path: path.clone() },
        config::Store::Postgres { url, max_connections } => {
            audit::StoreSettings::Postgres { url: url.expose().to_owned(), max_connections: *max_connections }
        }
    }
}

async fn open_audit(config: &Config) -> anyhow::Result<Audit> {
    if !config.audit.enabled {
        return Ok(Audit::disabled());
    }
    let settings = audit::Settings {
        mode: match config.audit.mode {
            config::AuditMode::Process => audit::Mode::Process,
            config::AuditMode::Strict => audit::Mode::Strict,
        },
        dir: config.audit.dir.clone(),
        store: audit_store(config),
        redaction: config.redaction.clone(),
        max_arguments_bytes: config.audit.max_arguments_bytes,
        max_journal_bytes: config.audit.max_journal_bytes,
    };
    Audit::open(settings).await.context("the audit record cannot be kept, so the gateway does not start")
}

/// The name of a user from the system's table; `uid:N` without one. The environment is not asked: it can say anything.
fn user_name(uid: u32) -> String {
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid:{uid}"))
}

async fn health_server(
    config: &Config,
    pipelines: Vec<Arc<Pipeline>>,
    render: health::Render,
    stop: &CancellationToken,
) -> Option<tokio::task::JoinHandle<()>> {
    let address = config.gateway.health_listen?;
    match health::bind(address).await {
        Ok(listener) => {
            let (token, stop) = (config.gateway.health_token.clone(), stop.clone().cancelled_owned());
            Some(tokio::spawn(health::serve(listener, pipelines, token, render, stop)))
        }
        // Every client spawns a gateway of its own; the second must still serve its client.
        Err(error) => {
            tracing::warn!(
                "no health server: {address}: {error}; set gateway.health_listen to another port or \"off\""
            );
            None
        }
    }
}

fn stop_signals(stop: CancellationToken) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
            _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
        }
        stop.cancel();
    }))
}

/// The folders in which shipped plugins are looked for, most wanted first.
#[must_use]
pub fn plugin_folders(configured: Option<&PathBuf>) -> Vec<PathBuf> {
    let exe = std::env::current_exe().ok();
    let beside = exe.as_deref().and_then(Path::parent);
    let mut folders: Vec<PathBuf> = configured.cloned().into_iter().collect();
    folders.extend(std::env::var_os("SENTINEL_PLUGIN_DIR").map(PathBuf::from));
    folders.extend(beside.map(|folder| folder.join("plugins")));
    folders.extend(beside.and_then(Path::parent).map(|prefix| prefix.join("share/sentinel-gateway/plugins")));
    let mut seen = HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// A problem in words of its own, for what the configuration's file does not show.
pub(crate) fn problem(key: &str, message: String, hint: Option<String>) -> Problem {
    Problem { key: key.to_owned(), line: None, message, hint }
}
