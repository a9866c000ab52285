//! SIGHUP re-reads the file (S12): the kill switch and the rate limits change, a bad file changes nothing. What else was
//! changed in the file is named, because it is not in force before the gateway is started anew.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{plugins, rules};
use crate::backend::Registry;
use crate::config::{self, Config, Rule, Secret, Typed};
use crate::mcp::catalog::List;
use crate::pipeline::News;
use crate::plugin::{Engine, Plugin};
use crate::policy::{Orders, Policy};
use crate::redact::Redaction;
use crate::state::{Clock, Store};

/// The sections that a reload puts in force.
const SECTIONS: [&str; 2] = ["kill_switch", "rate_limits"];
/// The plugin that it loads anew, with all that the file says of how it runs.
const PLUGIN: &str = "rate-limit";
/// So many changed keys are named, at most.
const MAX_NAMED: usize = 20;

/// What a reload needs for all endpoints together.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) path: PathBuf,
    pub(super) redaction: Redaction,
    /// The secrets in use, which stay so.
    pub(super) secrets: Vec<Secret>,
    pub(super) endpoints: Vec<Parts>,
    pub(super) orders: Arc<Orders>,
    /// Held while the file is read and applied.
    pub(super) reloading: Mutex<()>,
}

/// What a reload needs for one endpoint.
#[derive(Debug)]
pub(super) struct Parts {
    /// The path of the mount; none for the main endpoint.
    pub(super) mount: Option<String>,
    pub(super) engine: Engine,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) policy: Arc<Policy>,
    pub(super) registry: Arc<Registry>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) rules: rules::InForce,
    /// The file as far as it is in force.
    pub(super) in_force: Mutex<Typed>,
}

/// Listens from now on; the future handles one signal after the other, for ever.
pub(super) fn on_sighup(whole: Arc<Whole>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            // The reasons are in the log.
            let _ = apply(&whole).await;
        }
    })
}

/// Reads the file and puts in force what can be.
///
/// # Errors
/// Every reason why nothing has changed.
pub(super) async fn apply(whole: &Arc<Whole>) -> Result<Changes, Vec<String>> {
    let again = whole.clone();
    // Compiling a plugin takes a while; the runtime's threads have calls to serve.
    let result = tokio::task::spawn_blocking(move || {
        let _one_after_the_other = again.reloading.lock();
        if let Err(error) = again.orders.look_again() {
            tracing::error!("what operators switched off stays off: {error}");
        }
        reload(&again)
    });
    match result.await {
        Ok(Ok((flipped, changes))) => {
            whole.endpoints.iter().for_each(|parts| parts.registry.try_again());
            for (parts, _) in whole.endpoints.iter().zip(flipped).filter(|(_, flipped)| *flipped) {
                for list in List::ALL {
                    let _ = parts.news.send(News::ListChanged(list)).await;
                }
            }
            Ok(changes)
        }
        Ok(Err(problems)) => {
            tracing::error!("the old configuration stays in force, for these reasons:");
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
            Err(problems.iter().map(ToString::to_string).collect())
        }
        Err(error) => {
            tracing::error!("the old configuration stays in force: {error}");
            Err(vec![error.to_string()])
        }
    }
}

/// Reads the file, and says what would come of it.
///
/// # Errors
/// Every reason why nothing would.
pub(super) fn diff(whole: &Whole) -> Result<Changes, Vec<String>> {
    let problems = |problems: config::Problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let config = config::load(&whole.path, &super::environment).map_err(problems)?;
    let mut changes = Changes::default();
    for parts in &whole.endpoints {
        if let Some(config) = parts.of(&config) {
            changes.find(parts, &config.typed);
        }
    }
    Ok(changes)
}

impl Parts {
    /// This endpoint's own in a reading of the file; a mount that is no longer there stays as it is.
    fn of<'c>(&self, config: &'c Config) -> Option<&'c Config> {
        match &self.mount {
            None => Some(config),
            Some(path) => config.mounts().find(|mount| mount.path == *path).map(|mount| &mount.config),
        }
    }
}

/// Says for each endpoint whether its clients may now see other lists.
fn reload(whole: &Whole) -> Result<(Vec<bool>, Changes), config::Problems> {
    let parts = &whole.endpoints;
    let config = config::load(&whole.path, &super::environment)?;
    let mut ready = Vec::new();
    for parts in parts {
        ready.push(match parts.of(&config) {
            Some(config) => Some((config, limits(config, parts)?)),
            None => None,
        });
    }
    // Only now, when everything has been found good, does anything change. What was spent stays spent: the
    // counters are the host's.
    whole.redaction.also(&config.secrets());
    let (mut flipped, mut changes) = (Vec::new(), Changes::default());
    for (parts, ready) in parts.iter().zip(ready) {
        let Some((config, plugin)) = ready else {
            flipped.push(false);
            continue;
        };
        if let Some(plugin) = plugin {
            parts.policy.replace(parts.policy.chain().with(&Arc::new(plugin)));
        }
        flipped.push(parts.policy.kill().set(&config.kill_switch));
        // Of the rules only these have changed, whatever else the file says now.
        let reloaded = |rule: &&Rule| SECTIONS.iter().any(|section| is_in(section, &rule.key));
        let old: Arc<[Rule]> = parts.rules.borrow().clone();
        let kept = old.iter().filter(|rule| !reloaded(rule));
        parts.rules.send_replace(kept.chain(config.rules.iter().filter(reloaded)).cloned().collect());
        changes.add(parts, &config.typed);
    }
    if config.secret_values() != whole.secrets {
        changes.waiting.push("the values of secrets (the new ones are hidden from now on)".to_owned());
    }
    changes.say(flipped.contains(&true));
    Ok((flipped, changes))
}

/// Whether a key belongs to a section.
fn is_in(section: &str, key: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What a reload found changed in the file.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Now in force.
    pub(super) made: Vec<String>,
    /// In force only after another start.
    pub(super) waiting: Vec<String>,
}

impl Changes {
    fn add(&mut self, parts: &Parts, now: &Typed) {
        self.find(parts, now);
        let mut in_force = parts.in_force.lock();
        *in_force = in_force.with(now, &SECTIONS, &[("plugins", PLUGIN)]);
    }

    fn find(&mut self, parts: &Parts, now: &Typed) {
        const REDACTED: &str = "audit.redact_keys";
        let in_force = parts.in_force.lock();
        for key in in_force.changes(now) {
            let grew =
                key == REDACTED && parts.mount.is_none() && in_force.only_grew(now, "/audit/redact_keys");
            let section = SECTIONS.iter().any(|section| is_in(section, &key));
            let made = grew || section || key.starts_with(&format!("plugins {PLUGIN:?}"));
            let key = match &parts.mount {
                None => key,
                Some(path) => format!("{key} of {path}"),
            };
            if made { &mut self.made } else { &mut self.waiting }.push(key);
        }
    }

    fn say(&self, kill_switch_changed: bool) {
        let made = match (&self.made[..], &self.waiting[..]) {
            ([], []) => "nothing in it has changed".to_owned(),
            ([], _) => "nothing has changed that can change while the gateway runs".to_owned(),
            (made, _) => format!("in force now: {}", list(made)),
        };
        tracing::info!(kill_switch_changed, "configuration reloaded: {made}");
        if !self.waiting.is_empty() {
            tracing::warn!(
                "not in force before the gateway is started anew, though the file says so now: {}",
                list(&self.waiting)
            );
        }
    }
}

fn list(keys: &[String]) -> String {
    let shown = keys.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(MAX_NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The rate limits as the file has them now.
fn limits(config: &Config, parts: &Parts) -> Result<Option<Plugin>, config::Problems> {
    let folders = super::plugin_folders(config.gateway.plugin_dir.as_ref());
    let Some(settings) = config.plugins.iter().find(|plugin| plugin.name == PLUGIN) else {
        return Ok(None);
    };
    plugins::one(&parts.engine, &folders, settings, &config.gateway.trust, &parts.store, &parts.clock)
        .map(Some)
        .map_err(|problems| config::Problems::new(&config.path, problems))
}
