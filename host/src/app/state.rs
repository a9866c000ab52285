//! Opens the state of the guards that is kept from one start to the next.

use crate::config::{Config, Problem, Stage};
use crate::state::{Kept, Settings};

/// Loads the state that was kept for this configuration, unless `[state] persist` is false. If others may have changed it, as
/// one of the problems `found` with the files says, it is not used.
pub(super) fn open(config: &Config, found: &[Problem]) -> Kept {
    if !found.is_empty() {
        return Kept::in_memory();
    }
    let endpoints = config.mounts().map(|mount| (mount.path.as_str(), &mount.config));
    let plugins = std::iter::once(("", config)).chain(endpoints).flat_map(|(endpoint, own)| {
        // The state of authenticators is never written down.
        let keeping = own.plugins.iter().filter(|plugin| plugin.stage != Stage::Authenticate);
        keeping.map(move |plugin| (endpoint.to_owned(), plugin.name.clone()))
    });
    Kept::open(&Settings {
        folder: config.state.dir.clone().filter(|_| config.state.persist),
        config: config.path.clone(),
        trust: config.gateway.trust.clone(),
        plugins: plugins.collect(),
    })
}
