//! Loads every plugin the configuration names, in parallel, and reports all that cannot be used at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Config, Problem, Problems, Stage};
use crate::files::Trust;
use crate::plugin::{Engine, LoadError, Plugin};
use crate::policy::Chain;
use crate::rewrite::Rewriters;
use crate::state::{Clock, Store};

/// Everything that decides, ready to be asked.
#[derive(Debug)]
pub struct Loaded {
    pub engine: Engine,
    pub chain: Chain,
    pub rewriters: Rewriters,
}

/// Loads all plugins.
///
/// # Errors
/// Every problem of every plugin, at the key it was configured with.
pub fn load(config: &Config, store: &Store, clock: &Clock) -> Result<Loaded, Problems> {
    let engine = Engine::bounded(config.gateway.plugin_bounds).map_err(|error| {
        let text = format!("the WebAssembly engine cannot start: {error:#}");
        let hint = "where a process may not have so many addresses (ulimit -v), write \"checked\"";
        let problem = super::problem("gateway.plugin_bounds", text, Some(hint.to_owned()));
        Problems::new(&config.path, vec![problem])
    })?;
    let engine = engine.compiling(config.gateway.plugin_compile);
    let folders = super::plugin_folders(config.gateway.plugin_dir.as_ref());
    let (engine_ref, folders_ref) = (&engine, &folders);
    let results: Vec<Result<Plugin, Vec<Problem>>> = std::thread::scope(|scope| {
        let loading: Vec<_> = config
            .plugins
            .iter()
            .map(|settings| {
                let trust = &config.gateway.trust;
                scope.spawn(move || one(engine_ref, folders_ref, settings, trust, store, clock))
            })
            .collect();
        let crashed = || Err(vec![super::problem("plugins", "loading a plugin crashed".to_owned(), None)]);
        loading.into_iter().map(|thread| thread.join().unwrap_or_else(|_| crashed())).collect()
    });
    let mut problems = Vec::new();
    let mut chain = Chain { redaction: config.redaction.clone(), ..Chain::default() };
    let mut rewriters = Vec::new();
    for (settings, result) in config.plugins.iter().zip(results) {
        let plugin = match result {
            Ok(plugin) => Arc::new(plugin),
            Err(found) => {
                // A folder that is open to others is so for every plugin in it.
                let new = |problem: &Problem, known: &[Problem]| {
                    !known
                        .iter()
                        .any(|other| (&other.message, &other.hint) == (&problem.message, &problem.hint))
                };
                for problem in found {
                    if new(&problem, &problems) {
                        problems.push(problem);
                    }
                }
                continue;
            }
        };
        tracing::debug!(plugin = plugin.name(), digest = plugin.digest(), "plugin loaded");
        match settings.stage {
            Stage::Authenticate => chain.authenticators.push(plugin),
            Stage::Guard => chain.guards.push(plugin),
            Stage::Breaker => chain.breakers.push(plugin),
            Stage::Rewrite => rewriters.push(plugin),
        }
    }
    let backends = config.backends.iter().map(|backend| backend.name.as_str());
    let rewriters = Rewriters::new(&rewriters, backends).unwrap_or_else(|error| {
        let text = format!("{error}, when it was asked which hooks it wants");
        problems.push(super::problem(&format!("plugins.{}", error.plugin), text, None));
        Rewriters::default()
    });
    let rewriters = rewriters.with_redaction(config.redaction.clone());
    if !problems.is_empty() {
        return Err(Problems::new(&config.path, problems));
    }
    Ok(Loaded { engine, chain, rewriters })
}

/// Loads one plugin.
pub(super) fn one(
    engine: &Engine,
    folders: &[PathBuf],
    settings: &config::Plugin,
    trust: &Trust,
    store: &Store,
    clock: &Clock,
) -> Result<Plugin, Vec<Problem>> {
    let key = format!("plugins.{}", settings.name);
    let wasm = find(folders, settings).map_err(|problem| vec![*problem])?;
    let open = super::files::of_plugin(&key, &wasm, trust);
    if !open.is_empty() {
        return Err(open);
    }
    Plugin::load(engine, &wasm, settings, store, clock).map_err(|error| match error {
        // A mistake in what the plugin was told belongs to the section of the file that it came from.
        LoadError::Config(mistakes) => mistakes
            .into_iter()
            .map(|(pointer, message, hint)| {
                let path = pointer.trim_start_matches('/').replace('/', ".");
                // What the plugin calls its keys has another name in the file.
                let keys = settings.name == "auth-api-key" && path.starts_with("keys");
                let path = if keys { format!("api_{path}") } else { path };
                let section = match settings.section.as_str() {
                    "plugins" => format!("{key}.config"),
                    section => section.to_owned(),
                };
                let key = if path.is_empty() { section } else { format!("{section}.{path}") };
                super::problem(&key, format!("{message} (says the plugin `{}`)", settings.name), hint)
            })
            .collect(),
        error => {
            let text = format!("{} ({}): {error}", settings.name, wasm.display());
            vec![super::problem(&key, text, None)]
        }
    })
}

/// The artifact of a plugin: where it says, or among the shipped ones.
fn find(folders: &[PathBuf], settings: &config::Plugin) -> Result<PathBuf, Box<Problem>> {
    if let Some(wasm) = &settings.wasm {
        return Ok(wasm.clone());
    }
    let file = format!("{}.wasm", settings.artifact);
    let shipped = folders.iter().map(|folder| folder.join(&file)).find(|path| Path::is_file(path));
    shipped.ok_or_else(|| {
        let searched: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let hint = "run `cargo xtask build`, or set gateway.plugin_dir or SENTINEL_PLUGIN_DIR".to_owned();
        let text = format!("{file} is in none of {}", searched.join(", "));
        Box::new(super::problem(&format!("plugins.{}", settings.name), text, Some(hint)))
    })
}
