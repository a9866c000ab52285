//! The only wiring: configuration → engine → plugins → chain → backends → doors, and all of it down again in order.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub mod apply;
mod control;
mod doors;
mod endpoint;
mod files;
mod judge;
pub mod names;
mod once;
pub mod plugins;
mod reload;
mod resident;
mod rules;
mod running;
mod shield;
mod started;
mod state;
mod stray;
mod surroundings;
pub mod trial;

use self::doors::{Door, Everybody, Sole};
use self::plugins::Loaded;
use self::resident::Resident;
use self::running::{Prepared, RunningEndpoint};
use self::started::Started;
use crate::approval;
use crate::audit::{self, Audit};
use crate::backend;
use crate::config::{self, Config, Problem, Problems};
use crate::door::health::{self, Health, Watched};
use crate::door::mcp::conversation::Endpoint;
use crate::door::telegram;
use crate::files::{narrow_umask, users};
use crate::mcp::schema::apart;
use crate::redact::Words;
use crate::state::{Clock, Store};
use crate::telemetry;

pub use self::judge::{Verdict, caller};
pub use self::once::{Once, call_once};
pub use self::reload::Reloader;
pub use self::shield::shield;
pub use self::surroundings::{Surroundings, look};
pub use crate::backend::serve_as_keeper_if_asked;

/// How long servers that were just being started when everything stopped may take to be gone.
const SERVERS_LEFT: Duration = Duration::from_secs(5);

/// Reads the environment of this process.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The work of a process that judges arguments for a gateway; see `policy`.
#[must_use]
pub fn judge_arguments() -> apart::Helper {
    apart::Helper::default()
}

/// Runs the gateway until its client leaves or it is told to stop.
///
/// # Errors
/// It cannot start; every problem with the configuration and the plugins is in the error.
pub async fn run(path: &Path, log_level: Option<&str>) -> anyhow::Result<()> {
    let began = Instant::now();
    let config = config::load(path, &environment)?;
    let log = telemetry::log(log_level.unwrap_or(&config.gateway.log_level), config.redaction.clone())?;
    // What the command line says is not for the file to change.
    let level = log_level.is_none().then(|| log.level());
    let ended = serve(&config, began, level).await;
    log.close();
    ended
}

async fn serve(config: &Config, began: Instant, level: Option<telemetry::Level>) -> anyhow::Result<()> {
    config.warnings.iter().for_each(|warning| tracing::warn!("{}: {}", warning.key, warning.message));
    narrow_umask();
    survive_file_limit()?;
    let collector = config.telemetry.otlp.as_ref().map(|otlp| &otlp.settings);
    let watch = telemetry::watch(collector, &config.redaction)?;
    // Listening comes before reading: who gives an order in between finds this gateway, or has written it down.
    let socket = control::listen(config).await;
    let orders = control::orders(config).await?;
    files::tighten(config);
    let open = files::problems(config);
    let state = state::open(config, &open);
    let resident = Resident::new(config, &state, orders)?;
    let resident = Resident { over_http: config.http.is_some(), level, ..resident };
    let prepared = prepare(&resident, config, open)?;
    let resident = resident.recording(open_audit(config).await?, config);
    let (audit, stop, approvals) =
        (resident.audit.clone(), resident.stop.clone(), resident.approvals.clone());
    let running = start(&resident, config, prepared)?;
    let pipelines: Vec<_> = running.iter().map(|endpoint| endpoint.pipeline().clone()).collect();
    let address = Arc::default();
    let started = Started::new(config, began, pipelines, stop.clone(), Arc::clone(&address));
    let watched = reload::watched(config, &running.iter().collect::<Vec<_>>());
    let watched = Arc::new(ArcSwap::from_pointee(watched));
    let health = health_server(config, watched.clone(), watch.render.clone(), &stop).await;
    let signals = stop_signals(stop.clone())?;
    let ending = Ending { signals, health, audit };
    let (door, listener) = match open_door(config, &running, started, &stop).await {
        Ok(opened) => opened,
        Err(error) => {
            stop.cancel();
            futures_util::future::join_all(running.into_iter().map(RunningEndpoint::end)).await;
            ending.end().await?;
            return Err(error);
        }
    };
    let endpoint = running.first().map(|endpoint| endpoint.endpoint.clone());
    let reloader = Reloader::new(resident, config.clone(), running, door, watched);
    let reload = tokio::spawn(reload::on_sighup(reloader.clone())?);
    let plane = control::Plane::new(config, reloader.clone(), address);
    let notifying = tokio::spawn(approval::notify::run(approvals.clone(), stop.clone()));
    let operated: Arc<dyn crate::control::ControlPlane> = plane.clone();
    let telegram = config.approvals.telegram.clone().and_then(|settings| {
        let pipeline = endpoint.as_ref()?.pipeline.clone();
        let bot = telegram::Bot { settings, approvals, pipeline, plane: operated.clone() };
        Some(tokio::spawn(telegram::serve(bot, stop.clone())))
    });
    if let Door::Http(door) = reloader.door() {
        door.operated(&operated);
    }
    let control = socket.and_then(|socket| Some(tokio::spawn(plane.serve(socket, stop.clone())?)));
    let served = serve_clients(&reloader, listener, endpoint, &stop).await;
    // Stop accepting → calls ended (in serve) → backends → audit → telemetry.
    stop.cancel();
    reload.abort();
    if let Some(control) = control {
        let _ = control.await;
    }
    drop(operated);
    notifying.abort();
    if let Some(telegram) = telegram {
        let _ = telegram.await;
    }
    reloader.end().await;
    // Every call has been settled: nothing changes any more.
    let _ = tokio::task::spawn_blocking(move || state.close()).await;
    ending.end().await?;
    watch.close().await;
    tracing::info!("Shutdown complete");
    served
}

/// Serves until the only client leaves, or the gateway is told to stop and the calls under way have had their time.
async fn serve_clients(
    reloader: &Reloader,
    listener: Option<TcpListener>,
    endpoint: Option<Endpoint>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (at_stop, at_drain) = (reloader.resident().grace(), reloader.resident().grace());
    match (reloader.door(), listener, endpoint) {
        (Door::Http(door), Some(listener), _) => {
            // No new requests from the first moment of the stop; those under way get their time.
            let draining = async {
                stop.cancelled().await;
                reloader.drain(at_drain()).await;
            };
            tokio::join!(door.serve(listener, at_stop, stop), draining);
            Ok(())
        }
        (Door::Stdio(door), _, Some(endpoint)) => door.serve(endpoint, at_stop, stop).await.context("stdio"),
        (Door::Http(_), None, _) | (Door::Stdio(_), _, None) => Ok(()),
    }
}

/// Loads what decides for every endpoint, the main one first, and starts nothing; `found` is wrong with the files.
///
/// # Errors
/// Everything that is wrong.
fn prepare(resident: &Resident, config: &Config, found: Vec<Problem>) -> Result<Vec<Prepared>, Problems> {
    let main = files::together(config, found, Prepared::load(resident, config, None))?;
    let mounted = config.mounts().map(|mount| Prepared::load(resident, &mount.config, Some(&mount.path)));
    let mounted: Vec<Prepared> = mounted.collect::<Result<_, _>>()?;
    // An authenticator that has to fetch keys first is asked with the first call, so that no start waits for an issuer.
    if !judge::fetches(config)
        && let Some(verdict) = judge::caller(config, &main.chain())
    {
        verdict.log();
    }
    Ok(std::iter::once(main).chain(mounted).collect())
}

/// Starts the servers of every endpoint.
///
/// # Errors
/// The system gives no random bytes.
fn start(
    resident: &Resident,
    config: &Config,
    prepared: Vec<Prepared>,
) -> anyhow::Result<Vec<RunningEndpoint>> {
    let mounts = config.mounts().map(|mount| (&mount.config, Some(mount.path.as_str())));
    let endpoints = std::iter::once((config, None)).chain(mounts);
    let mut running = Vec::new();
    for ((own, mount), prepared) in endpoints.zip(prepared) {
        let mut endpoint = prepared.start(resident, config, own, mount)?;
        if let Some(http) = &config.http {
            endpoint.keep_sessions(http.max_sessions, http.session_idle);
        }
        running.push(endpoint);
    }
    Ok(running)
}

/// Opens the door of the configuration, without serving requests yet.
async fn open_door(
    config: &Config,
    running: &[RunningEndpoint],
    started: Started,
    stop: &CancellationToken,
) -> anyhow::Result<(Door, Option<TcpListener>)> {
    let Some(http) = &config.http else {
        started.at(&[]);
        return Ok((Door::Stdio(Sole::new(config)), None));
    };
    let (door, listener) = Everybody::bind(config, http).await?;
    door.open(config, http, &running.iter().collect::<Vec<_>>(), started, stop)?;
    Ok((Door::Http(door), Some(listener)))
}

/// The parts that end last, after the servers.
struct Ending {
    signals: JoinHandle<()>,
    health: Option<JoinHandle<()>>,
    audit: Audit,
}

impl Ending {
    async fn end(self) -> anyhow::Result<()> {
        self.signals.abort();
        backend::settle(SERVERS_LEFT).await;
        if let Some(health) = self.health {
            let _ = health.await;
        }
        let closed = self.audit.close().await;
        closed.context("the audit journal was not drained; what remains is moved at the next start")
    }
}

/// Everything is loaded and checked, nothing is started.
///
/// # Errors
/// All problems found.
pub fn check(path: &Path) -> Result<(Config, Loaded), Problems> {
    let config = config::load(path, &environment)?;
    let found = files::problems(&config);
    let loaded = files::together(&config, found, plugins::load(&config, &Store::new(), &Clock::real()))?;
    for mount in config.mounts() {
        plugins::load(&mount.config, &Store::new(), &Clock::real())?;
    }
    Ok((config, loaded))
}

/// How the backends of a configuration do, and what follows for the names of their tools.
#[derive(Debug)]
pub struct Probe {
    /// Each backend with the number of its tools, or why it is not up.
    pub backends: Vec<(String, Result<usize, Words>)>,
    /// What clients see of them.
    pub names: names::Names,
    /// Rules that mean no tool.
    pub unmatched: Vec<Problem>,
}

/// Starts the backends of a configuration and reports how each did, without serving anybody; each is told at once.
pub async fn probe(
    config: &Config,
    loaded: Loaded,
    told: &mut dyn FnMut(&str, &Result<usize, Words>),
) -> Probe {
    let rewriters = Arc::new(loaded.rewriters);
    // The report is about what the servers say now, not about what is remembered.
    let mut config = config.clone();
    config.gateway.memory_dir = None;
    let config = &config;
    let (registry, _events) = running::start_backends(config, &rewriters);
    registry.fleet().client_declares("{}");
    let (backends, catalog) = registry.probe(told).await;
    let names = names::Names::of(&catalog);
    let unmatched = rules::Known::of(&registry, Arc::new(catalog)).unmatched(&config.rules);
    registry.stop().await;
    backend::settle(SERVERS_LEFT).await;
    Probe { backends, names, unmatched }
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
    let opened = Audit::open(audit_settings(config)).await;
    opened.context("the audit record cannot be kept, so the gateway does not start")
}

/// Where the record is, and what bounds it.
fn audit_settings(config: &Config) -> audit::Settings {
    audit::Settings {
        mode: match config.audit.mode {
            config::AuditMode::Process => audit::Mode::Process,
            config::AuditMode::Strict => audit::Mode::Strict,
        },
        dir: config.audit.dir.clone(),
        store: audit_store(config),
        redaction: config.redaction.clone(),
        max_arguments_bytes: config.audit.max_arguments_bytes,
        max_refused_arguments_bytes: config.audit.max_refused_arguments_bytes,
        max_journal_bytes: config.audit.max_journal_bytes,
        keep: audit::Keep {
            max_age: config.audit.max_age,
            max_bytes: config.audit.max_bytes,
            when_full: match config.audit.when_full {
                config::WhenFull::Archive => audit::WhenFull::Archive,
                config::WhenFull::Delete => audit::WhenFull::Delete,
            },
        },
        min_free_bytes: config.audit.min_free_bytes,
        trust: config.gateway.trust.clone(),
    }
}

/// The name of a user; `uid:N` for one who has none.
fn user_name(uid: u32) -> String {
    let user = users::find(|user| user.uid == uid).ok().flatten();
    user.map_or_else(|| format!("uid:{uid}"), |user| user.name)
}

async fn health_server(
    config: &Config,
    watched: Arc<ArcSwap<Watched>>,
    render: health::Render,
    stop: &CancellationToken,
) -> Option<JoinHandle<()>> {
    let address = config.gateway.health_listen?;
    let health = Health { watched, token: config.gateway.health_token.clone(), render };
    match health::bind(address).await {
        Ok(listener) => Some(tokio::spawn(health::serve(listener, health, stop.clone().cancelled_owned()))),
        // Every client spawns a gateway of its own; the second must still serve its client.
        Err(error) => {
            tracing::warn!(
                "no health server: {address}: {error}; set gateway.health_listen to another port or \"off\""
            );
            None
        }
    }
}

/// A file that may not grow any further (`ulimit -f`) ends a process that does not listen for the signal; one that does
/// gets an error from its write, like that of a full disk. Children find the signal as it was.
fn survive_file_limit() -> anyhow::Result<()> {
    let number = rustix::process::Signal::XFSZ.as_raw();
    // Once this is listened to, the signal has no other effect for the life of the process.
    signal(SignalKind::from_raw(number))
        .map(drop)
        .context("the signal of the file size limit cannot be caught")
}

fn stop_signals(stop: CancellationToken) -> anyhow::Result<JoinHandle<()>> {
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
