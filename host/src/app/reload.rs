//! SIGHUP re-reads the file (S12): the kill switch and the rate limits change, a bad file changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::plugins;
use crate::config;
use crate::mcp::catalog::List;
use crate::pipeline::News;
use crate::plugin::Engine;
use crate::policy::Policy;
use crate::state::{Clock, Store};

/// What a reload needs.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) path: PathBuf,
    pub(super) engine: Engine,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) policy: Arc<Policy>,
    pub(super) news: mpsc::Sender<News>,
}

/// Listens from now on; the future handles one signal after the other, for ever.
pub(super) fn on_sighup(parts: Parts) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        let parts = Arc::new(parts);
        while hangups.recv().await.is_some() {
            let again = parts.clone();
            // Compiling a plugin takes a while; the runtime's threads have calls to serve.
            let result = tokio::task::spawn_blocking(move || reload(&again)).await;
            match result {
                Ok(Ok(true)) => {
                    for list in List::ALL {
                        let _ = parts.news.send(News::ListChanged(list)).await;
                    }
                }
                Ok(Ok(false)) => {}
                Ok(Err(problems)) => tracing::error!("the old configuration stays in force:\n{problems}"),
                Err(error) => tracing::error!("the old configuration stays in force: {error}"),
            }
        }
    })
}

/// Says whether clients may now see other lists.
fn reload(parts: &Parts) -> Result<bool, config::Problems> {
    let config = config::load(&parts.path, &super::environment)?;
    let folders = super::plugin_folders(config.gateway.plugin_dir.as_ref());
    let Some(settings) = config.plugins.iter().find(|plugin| plugin.name == "rate-limit") else {
        return Ok(false);
    };
    let plugin = plugins::one(&parts.engine, &folders, settings, &parts.store, &parts.clock)
        .map_err(|problems| config::Problems::new(&config.path, problems))?;
    // Only now, when everything has been found good, does anything change. What was spent stays spent: the
    // counters are the host's.
    parts.policy.replace(parts.policy.chain().with(&Arc::new(plugin)));
    let flipped = parts.policy.kill().set(&config.kill_switch);
    tracing::info!(kill_switch_changed = flipped, "configuration reloaded: kill switch and rate limits");
    Ok(flipped)
}
