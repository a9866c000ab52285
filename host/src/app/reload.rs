//! Puts another reading of the configuration file in force while the gateway runs: at a signal, or when an operator asks.
//!
//! ```text
//! read → check → what would change? → load plugins → start new servers, wait for their lists → swap → report
//! ```
//!
//! Until the swap nothing is different: whatever goes wrong before it, the old generation serves on, and the message names
//! all causes. The swap itself waits for nothing, so it is done as a whole or not at all. Calls under way end on the
//! generation they began with; servers whose settings are the same serve on in the next one.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};

use super::apply::{ApplyError, Difference, Report};
use super::doors::Door;
use super::endpoint::EndpointView;
use super::resident::Resident;
use super::running::{self, RunningEndpoint};
use super::{files, plugins::Loaded};
use crate::config::{self, Change, Config, Effect, Problem, Problems};
use crate::door::guard::{Hosts, Origins};
use crate::door::health::Watched;
use crate::redact::Secrets;

/// How long servers that are started for a new generation may take to say what they offer, whatever their own time for that.
const START: Duration = Duration::from_secs(120);
/// The secrets of so many generations are hidden, besides those of the first: as many as may be alive.
const HIDDEN: usize = 4;

/// Applies configurations, one after the other.
pub struct Reloader {
    path: PathBuf,
    resident: Resident,
    door: Door,
    watched: Arc<ArcSwap<Watched>>,
    generation: AtomicU64,
    /// When it was put in force, in milliseconds since 1970.
    since_ms: AtomicI64,
    state: tokio::sync::Mutex<State>,
    /// Who is applying a configuration now, and since when.
    busy: Mutex<Option<(String, Instant)>>,
    /// The endpoints, for those who look.
    endpoints: ArcSwap<Vec<EndpointView>>,
}

struct State {
    /// The configuration in force, whatever the file says now.
    config: Config,
    /// The main endpoint first.
    running: Vec<RunningEndpoint>,
    /// The secrets of the last generations, and those of the first.
    hidden: VecDeque<Secrets>,
    first: Secrets,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

/// While this lives, the reloader says who is applying a configuration.
struct Busy<'r>(&'r Reloader);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().take();
    }
}

impl Reloader {
    /// `running` are in force with this configuration.
    pub(super) fn new(
        resident: Resident,
        config: Config,
        running: Vec<RunningEndpoint>,
        door: Door,
        watched: Arc<ArcSwap<Watched>>,
    ) -> Arc<Self> {
        let first = config.secrets();
        let (path, hidden) = (config.path.clone(), VecDeque::from([first.clone()]));
        let endpoints = ArcSwap::from_pointee(endpoints(&running));
        let state = tokio::sync::Mutex::new(State { config, running, hidden, first });
        let (generation, since_ms) = (AtomicU64::new(1), AtomicI64::new(now_ms()));
        Arc::new(Self {
            path,
            resident,
            door,
            watched,
            generation,
            since_ms,
            state,
            busy: Mutex::default(),
            endpoints,
        })
    }

    /// The number of the generation in force.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The endpoints as they are now, the main one first.
    #[must_use]
    pub(super) fn endpoints(&self) -> Arc<Vec<EndpointView>> {
        self.endpoints.load_full()
    }

    /// When the generation in force was put in force, in milliseconds since 1970.
    #[must_use]
    pub(super) fn since_ms(&self) -> i64 {
        self.since_ms.load(Ordering::Acquire)
    }

    pub(super) fn resident(&self) -> &Resident {
        &self.resident
    }

    /// The generations of the main endpoint that are alive, oldest first, with how many hold each.
    #[must_use]
    pub fn generations(&self) -> Vec<(u64, usize)> {
        self.endpoints.load().first().map_or_else(Vec::new, |main| main.pipeline.generations())
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    /// The difference between the file as it is now and the configuration in force. Changes nothing.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub async fn diff(&self) -> Result<Difference, ApplyError> {
        let read = self.read().await?;
        let state = self.state.lock().await;
        Ok(Difference { generation: self.generation(), changes: config::diff(&state.config, &read) })
    }

    /// Puts in force what the file says now. `by` says who asked for it, for a second one who comes meanwhile.
    ///
    /// # Errors
    /// Why not; then everything is as it was.
    pub async fn apply(&self, by: &str) -> Result<Report, ApplyError> {
        let Ok(mut state) = self.state.try_lock() else {
            let busy = self.busy.lock();
            let (by, since) = busy.as_ref().map_or(("somebody", Instant::now()), |(by, since)| (by, *since));
            return Err(ApplyError::Busy { by: by.to_owned(), since_secs: since.elapsed().as_secs() });
        };
        *self.busy.lock() = Some((by.to_owned(), Instant::now()));
        let _busy = Busy(self);
        // What other gateways of this file were told holds here as well.
        let orders = self.resident.orders.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || orders.look_again()).await {
            tracing::error!("what operators switched off stays off: {error}");
        }
        tokio::select! {
            report = self.work(&mut state) => report,
            () = self.resident.stop.cancelled() => Err(ApplyError::Failed("the gateway shuts down".to_owned())),
        }
    }

    async fn read(&self) -> Result<Config, ApplyError> {
        let (path, redaction) = (self.path.clone(), self.resident.redaction.clone());
        // Files may lie on a disk that is slow; the runtime's threads have calls to serve.
        let read = tokio::task::spawn_blocking(move || config::load(&path, &super::environment)).await;
        let read = read.map_err(|error| ApplyError::Failed(error.to_string()))?;
        read.map(|config| config.redacted_by(&redaction)).map_err(ApplyError::Refused)
    }

    async fn work(&self, state: &mut State) -> Result<Report, ApplyError> {
        let began = Instant::now();
        let read = self.read().await?;
        let changes = config::diff(&state.config, &read);
        let (refused, applied): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.effect == Effect::Restart);
        let next = read.clone().holding(&state.config);
        let loaded = self.load(state, &next).await?;
        let same_plugins =
            state.running.iter().zip(&loaded).all(|(endpoint, loaded)| loaded.is(&endpoint.made()));
        let renewed =
            state.running.iter().zip(&loaded).flat_map(|(endpoint, loaded)| loaded.renewed(&endpoint.made()));
        let renewed =
            renewed.map(|name| Change { key: format!("plugins {name:?} (its file)"), effect: Effect::Live });
        let applied = applied.into_iter().chain(renewed).collect();
        let mut report = Report { generation: self.generation(), applied, refused, ..Report::default() };
        if next == state.config && same_plugins {
            // Nothing has to be swapped; only the line numbers and the values to hide may be different.
            state.config = next;
            state.running.iter().for_each(RunningEndpoint::try_again);
            // What other gateways were told may concern what stands here.
            judge_standing(&state.running).await;
            report.kept = next_servers(&state.running);
            report.took = began.elapsed();
            return Ok(report);
        }
        for endpoint in &state.running {
            let full = |id| {
                ApplyError::Failed(format!(
                    "generation {id} of the configuration still has calls that do not end, and there is no room for one more"
                ))
            };
            endpoint.pipeline().make_room().await.map_err(full)?;
        }
        self.hide(state, &read);
        let report = self.prepare_and_swap(state, next, loaded, report).await;
        self.show_no_more(state);
        let mut report = report?;
        state.running.iter().for_each(RunningEndpoint::try_again);
        judge_standing(&state.running).await;
        state.running.iter().for_each(RunningEndpoint::tell);
        report.took = began.elapsed();
        Ok(report)
    }

    /// The plugins of every endpoint that the next configuration has, the main one first.
    async fn load(&self, state: &State, next: &Config) -> Result<Vec<Loaded>, ApplyError> {
        let before: Vec<_> =
            state.running.iter().map(|endpoint| (endpoint.mount.clone(), endpoint.made())).collect();
        let (resident, next) = (self.resident.clone(), next.clone());
        // Compiling a plugin takes a while.
        let loading = tokio::task::spawn_blocking(move || {
            let (mut all, mut found) = (Vec::new(), files::problems(&next));
            let mounts = next.mounts().map(|mount| (Some(mount.path.as_str()), &mount.config));
            for (mount, own) in std::iter::once((None, &next)).chain(mounts) {
                let before = before.iter().find(|(path, _)| path.as_deref() == mount);
                let before = before.map_or(&[][..], |(_, made)| made);
                match running::load(&resident, own, mount, before) {
                    Ok(loaded) => all.push(loaded),
                    Err(problems) => found.extend(problems.iter().cloned()),
                }
            }
            if found.is_empty() { Ok(all) } else { Err(Problems::new(&next.path, found)) }
        });
        let loaded = loading.await.map_err(|error| ApplyError::Failed(error.to_string()))?;
        loaded.map_err(ApplyError::Refused)
    }

    /// Starts what the next configuration needs, and swaps if all of it is there.
    async fn prepare_and_swap(
        &self,
        state: &mut State,
        next: Config,
        loaded: Vec<Loaded>,
        mut report: Report,
    ) -> Result<Report, ApplyError> {
        let id = self.generation() + 1;
        let mut new = self.new_endpoints(state, &next)?;
        // In the order of the configuration, as `loaded` is.
        let wanted: Vec<Option<String>> =
            std::iter::once(None).chain(next.mounts().map(|mount| Some(mount.path.clone()))).collect();
        let find = |mount: &Option<String>| {
            state.running.iter().chain(&new).find(|endpoint| endpoint.mount == *mount)
        };
        let running: Vec<&RunningEndpoint> = wanted.iter().filter_map(find).collect();
        let own = |endpoint: &RunningEndpoint| running::of(&next, endpoint.mount.as_deref()).unwrap_or(&next);
        let lineups: Vec<_> = running.iter().map(|endpoint| endpoint.lineup(own(endpoint))).collect();
        let ups = futures_util::future::join_all(lineups.iter().map(|lineup| lineup.up(START))).await;
        let mut found: Vec<Problem> = Vec::new();
        for (endpoint, down) in running.iter().zip(ups) {
            found.extend(
                down.into_iter()
                    .map(|(name, reason)| not_up(endpoint.mount.as_deref(), &name, &reason.to_string())),
            );
        }
        let front = self.door.front(&next, &running);
        if let Err(error) = &front {
            found.push(super::problem("http", format!("{error:#}"), None));
        }
        let (Ok(front), true) = (front, found.is_empty()) else {
            futures_util::future::join_all(lineups.into_iter().map(|lineup| lineup.abandon())).await;
            futures_util::future::join_all(new.into_iter().map(RunningEndpoint::end)).await;
            return Err(ApplyError::Refused(Problems::new(&next.path, found)));
        };
        for lineup in &lineups {
            report.started.extend(lineup.started().iter().map(ToString::to_string));
            report.kept += lineup.kept();
        }
        let mut ready = Vec::new();
        for ((endpoint, loaded), lineup) in running.iter().zip(loaded).zip(lineups) {
            ready.push(endpoint.next(id, &next, own(endpoint), loaded, lineup).await);
        }
        let watched = watched(&next, &running);
        // From here on nothing is waited for, so calls see the swap as one step.
        self.generation.store(id, Ordering::Release);
        self.since_ms.store(now_ms(), Ordering::Release);
        for (endpoint, next) in running.iter().zip(ready) {
            report.ended.extend(endpoint.swap(next));
        }
        self.door.swap(front, &state.config, &next, &running);
        self.watched.store(Arc::new(watched));
        self.resident.bound(&next);
        drop(running);
        for warning in next.warnings.iter().filter(|warning| !said(&state.config, warning)) {
            tracing::warn!("{}: {}", warning.key, warning.message);
        }
        let (stay, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut state.running)
            .into_iter()
            .partition(|endpoint| wanted.contains(&endpoint.mount));
        state.running = stay;
        state.running.append(&mut new);
        state.running.sort_by_key(|endpoint| wanted.iter().position(|mount| *mount == endpoint.mount));
        state.config = next;
        self.endpoints.store(Arc::new(endpoints(&state.running)));
        report.generation = id;
        for endpoint in gone {
            tokio::spawn(endpoint.leave());
        }
        Ok(report)
    }

    /// The endpoints that are not there yet.
    fn new_endpoints(&self, state: &State, next: &Config) -> Result<Vec<RunningEndpoint>, ApplyError> {
        let known = |path: &str| state.running.iter().any(|endpoint| endpoint.mount.as_deref() == Some(path));
        let mut new = Vec::new();
        for mount in next.mounts().filter(|mount| !known(&mount.path)) {
            let endpoint = RunningEndpoint::empty(&self.resident, &mount.config, &mount.path);
            let mut endpoint = endpoint.map_err(|error| ApplyError::Failed(format!("{error:#}")))?;
            if let Some(http) = &next.http {
                endpoint.keep_sessions(http.max_sessions, http.session_idle);
            }
            new.push(endpoint);
        }
        Ok(new)
    }

    /// Hides what the next generation must not show, besides all that is hidden already.
    fn hide(&self, state: &mut State, next: &Config) {
        state.hidden.push_back(next.secrets());
        let all: Vec<&Secrets> = state.hidden.iter().collect();
        let keep = |key: &&String| all.iter().all(|secrets| secrets.keep_keys.contains(key));
        let keep_keys = next.audit.keep_keys.iter().filter(keep).cloned().collect();
        let redact_keys = all.iter().flat_map(|secrets| secrets.redact_keys.clone()).collect();
        let values = values(state);
        self.resident.redaction.replace(&Secrets { values, redact_keys, keep_keys });
    }

    /// The same for the generation in force, whichever it is by now.
    fn show_no_more(&self, state: &mut State) {
        while state.hidden.len() > HIDDEN {
            state.hidden.pop_front();
        }
        let config::Audit { redact_keys, keep_keys, .. } = state.config.audit.clone();
        let values = values(state);
        self.resident.redaction.replace(&Secrets { values, redact_keys, keep_keys });
    }

    /// Stops everything, at the end of the gateway.
    pub(super) async fn end(&self) {
        let mut state = self.state.lock().await;
        let running = std::mem::take(&mut state.running);
        futures_util::future::join_all(running.into_iter().map(RunningEndpoint::end)).await;
    }

    /// Waits for the calls of all sessions, then cancels them.
    pub(super) async fn drain(&self, grace: Duration) {
        let state = self.state.lock().await;
        let sessions = state.running.iter().filter_map(|endpoint| endpoint.sessions.clone());
        futures_util::future::join_all(sessions.map(|sessions| async move { sessions.drain(grace).await }))
            .await;
    }
}

/// Whether a warning was given for the configuration before.
fn said(before: &Config, warning: &Problem) -> bool {
    before.warnings.iter().any(|said| (&said.key, &said.message) == (&warning.key, &warning.message))
}

/// Every value that was secret in a generation that may be alive.
fn values(state: &State) -> Vec<String> {
    let mut values: Vec<String> =
        state.hidden.iter().chain([&state.first]).flat_map(|secrets| secrets.values.clone()).collect();
    values.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    values.dedup();
    values
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Has everything judged anew that stands for clients without a request.
async fn judge_standing(running: &[RunningEndpoint]) {
    futures_util::future::join_all(running.iter().map(RunningEndpoint::judge_standing)).await;
}

fn endpoints(running: &[RunningEndpoint]) -> Vec<EndpointView> {
    running.iter().map(RunningEndpoint::view).collect()
}

fn next_servers(running: &[RunningEndpoint]) -> usize {
    running.iter().map(|endpoint| endpoint.pipeline().current().registry().backends().len()).sum()
}

/// The endpoints that the health server reports on, and who may ask it.
pub(super) fn watched(config: &Config, running: &[&RunningEndpoint]) -> Watched {
    let of_door = config.http.as_ref();
    let names: &[String] = of_door.map_or(&[], |http| &http.allowed_hosts);
    let pages: &[String] = of_door.map_or(&[], |http| &http.allowed_origins);
    let ip = config.gateway.health_listen.unwrap_or(config.gateway.listen).ip();
    // A host name that cannot be read serves nobody; the door says what is wrong with it.
    Watched {
        pipelines: running.iter().map(|endpoint| endpoint.pipeline().clone()).collect(),
        hosts: Hosts::new(ip, names).unwrap_or_default(),
        origins: Origins::new(ip, pages).unwrap_or_default(),
    }
}

/// A server that was started for the next generation and is not there.
fn not_up(mount: Option<&str>, name: &str, reason: &str) -> Problem {
    let of = mount.map_or_else(String::new, |path| format!(" of {path}"));
    let hint = "mend it, or take it out of the file; what was in force serves on";
    super::problem(
        &format!("backends {name:?}{of}"),
        format!("the server does not come up: {reason}"),
        Some(hint.to_owned()),
    )
}

/// Listens to the signal from now on; the future handles one after the other, for ever.
pub(super) fn on_sighup(reloader: Arc<Reloader>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            match reloader.apply("the signal SIGHUP").await {
                Ok(report) => report.log(),
                Err(error) => error.log(),
            }
        }
    })
}
