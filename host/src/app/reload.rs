//! SIGHUP re-reads the file (S12): the kill switch and the rate limits change, a bad file changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{plugins, rules};
use crate::backend::Registry;
use crate::config::{self, Config, Rule};
use crate::mcp::catalog::List;
use crate::pipeline::News;
use crate::plugin::{Engine, Plugin};
use crate::policy::Policy;
use crate::state::{Clock, Store};

/// What a reload needs.
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
}

/// Listens from now on; the future handles one signal after the other, for ever.
pub(super) fn on_sighup(path: PathBuf, parts: Vec<Parts>) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        let parts = Arc::new(parts);
        while hangups.recv().await.is_some() {
            let (path, again) = (path.clone(), parts.clone());
            // Compiling a plugin takes a while; the runtime's threads have calls to serve.
            let result = tokio::task::spawn_blocking(move || reload(&path, &again)).await;
            match result {
                Ok(Ok(flipped)) => {
                    parts.iter().for_each(|parts| parts.registry.try_again());
                    for (parts, _) in parts.iter().zip(flipped).filter(|(_, flipped)| *flipped) {
                        for list in List::ALL {
                            let _ = parts.news.send(News::ListChanged(list)).await;
                        }
                    }
                }
                Ok(Err(problems)) => {
                    tracing::error!("the old configuration stays in force, for these reasons:");
                    problems.iter().for_each(|problem| tracing::error!("{problem}"));
                }
                Err(error) => tracing::error!("the old configuration stays in force: {error}"),
            }
        }
    })
}

/// Says for each endpoint whether its clients may now see other lists.
fn reload(path: &Path, parts: &[Parts]) -> Result<Vec<bool>, config::Problems> {
    let config = config::load(path, &super::environment)?;
    // A mount that is no longer in the file stays as it is until the gateway is started anew.
    let of = |parts: &Parts| match &parts.mount {
        None => Some(&config),
        Some(path) => config.mounts().find(|mount| mount.path == *path).map(|mount| &mount.config),
    };
    let mut ready = Vec::new();
    for parts in parts {
        ready.push(match of(parts) {
            Some(config) => Some((config, limits(config, parts)?)),
            None => None,
        });
    }
    // Only now, when everything has been found good, does anything change. What was spent stays spent: the
    // counters are the host's.
    let mut flipped = Vec::new();
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
        let reloaded = |rule: &&Rule| {
            ["kill_switch.", "rate_limits."].iter().any(|section| rule.key.starts_with(section))
        };
        let old: Arc<[Rule]> = parts.rules.borrow().clone();
        let kept = old.iter().filter(|rule| !reloaded(rule));
        parts.rules.send_replace(kept.chain(config.rules.iter().filter(reloaded)).cloned().collect());
    }
    tracing::info!(
        kill_switch_changed = flipped.contains(&true),
        "configuration reloaded: kill switch and rate limits"
    );
    Ok(flipped)
}

/// The rate limits as the file has them now.
fn limits(config: &Config, parts: &Parts) -> Result<Option<Plugin>, config::Problems> {
    let folders = super::plugin_folders(config.gateway.plugin_dir.as_ref());
    let Some(settings) = config.plugins.iter().find(|plugin| plugin.name == "rate-limit") else {
        return Ok(None);
    };
    plugins::one(&parts.engine, &folders, settings, &config.gateway.trust, &parts.store, &parts.clock)
        .map(Some)
        .map_err(|problems| config::Problems::new(&config.path, problems))
}
