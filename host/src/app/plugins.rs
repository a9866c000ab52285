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
    /// Each plugin with what it was made of, for the next generation.
    pub(super) made: Vec<Made>,
}

/// A plugin with what it was made of: as long as that is the same, it serves on in the next generation.
#[derive(Clone, Debug)]
pub(super) struct Made {
    settings: config::Plugin,
    /// Its manifest; its code is known by the digest.
    manifest: Vec<u8>,
    plugin: Arc<Plugin>,
}

impl Loaded {
    /// Whether these are the very plugins of before.
    pub(super) fn is(&self, before: &[Made]) -> bool {
        let same = |(one, other): (&Made, &Made)| Arc::ptr_eq(&one.plugin, &other.plugin);
        self.made.len() == before.len() && self.made.iter().zip(before).all(same)
    }

    /// The plugins whose configuration is the same as before and whose files have changed.
    pub(super) fn renewed(&self, before: &[Made]) -> Vec<String> {
        let renewed = |made: &&Made| {
            let old = before.iter().find(|old| old.settings == made.settings);
            old.is_some_and(|old| !Arc::ptr_eq(&old.plugin, &made.plugin))
        };
        self.made.iter().filter(renewed).map(|made| made.settings.name.clone()).collect()
    }
}

/// Loads all plugins, with an engine of their own.
///
/// # Errors
/// Every problem of every plugin, at the key it was configured with.
pub fn load(config: &Config, store: &Store, clock: &Clock) -> Result<Loaded, Problems> {
    load_with(&super::resident::engine(config)?, config, (store, clock), &[])
}

/// Loads all plugins. Of those that were made `before` the ones that would come out the same are taken.
///
/// # Errors
/// As for [`load`].
pub(super) fn load_with(
    engine: &Engine,
    config: &Config,
    (store, clock): (&Store, &Clock),
    before: &[Made],
) -> Result<Loaded, Problems> {
    let engine = engine.clone().compiling(config.gateway.plugin_compile);
    let results = load_each((&engine, store, clock), config, before);
    let mut problems = Vec::new();
    let mut chain = Chain { redaction: config.redaction.clone(), ..Chain::default() };
    let (mut rewriters, mut made) = (Vec::new(), Vec::new());
    for (settings, result) in config.plugins.iter().zip(results) {
        let plugin = match result {
            Ok(one) => {
                made.push(one.clone());
                one.plugin
            }
            Err(found) => {
                // A folder that is open to others is so for every plugin in it.
                let said = |one: &Problem, other: &Problem| {
                    (&one.message, &one.hint) == (&other.message, &other.hint)
                };
                for problem in found {
                    if !problems.iter().any(|other| said(&problem, other)) {
                        problems.push(problem);
                    }
                }
                continue;
            }
        };
        problems.extend(unread(config, settings, &plugin));
        tracing::debug!(plugin = plugin.name(), digest = plugin.digest(), "plugin loaded");
        match settings.stage {
            Stage::Authenticate => chain.authenticators.push(plugin),
            Stage::Guard => chain.guards.push(plugin),
            Stage::Breaker => chain.breakers.push(plugin),
            Stage::Rewrite => rewriters.push(plugin),
        }
    }
    let rewriters = rewriters_of(config, &rewriters).unwrap_or_else(|problem| {
        problems.push(problem);
        Rewriters::default()
    });
    if !problems.is_empty() {
        return Err(Problems::new(&config.path, problems));
    }
    Ok(Loaded { engine, chain, rewriters, made })
}

/// Loads all plugins at once, each in a thread of its own: what takes time is compiling.
fn load_each(
    (engine, store, clock): (&Engine, &Store, &Clock),
    config: &Config,
    before: &[Made],
) -> Vec<Result<Made, Vec<Problem>>> {
    let folders = super::plugin_folders(config.gateway.plugin_dir.as_ref());
    let (folders, trust) = (&folders, &config.gateway.trust);
    std::thread::scope(|scope| {
        let each = config.plugins.iter().map(|settings| {
            let before = before.iter().find(|made| made.settings == *settings);
            scope.spawn(move || one((engine, store, clock), folders, settings, trust, before))
        });
        // All are begun before the first is waited for.
        let loading: Vec<_> = each.collect();
        let crashed = || Err(vec![super::problem("plugins", "loading a plugin crashed".to_owned(), None)]);
        loading.into_iter().map(|thread| thread.join().unwrap_or_else(|_| crashed())).collect()
    })
}

/// The plugins that edit, asked which hooks they want of each backend.
fn rewriters_of(config: &Config, plugins: &[Arc<Plugin>]) -> Result<Rewriters, Problem> {
    let backends = config.backends.iter().map(|backend| backend.name.as_str());
    let upstreams = config.upstreams.iter().map(|upstream| upstream.name.as_str());
    let engines = config.engines.iter().map(|engine| engine.name.as_str());
    let rewriters = Rewriters::new(plugins, backends.chain(upstreams).chain(engines)).map_err(|error| {
        let text = format!("{error}, when it was asked which hooks it wants");
        super::problem(&format!("plugins.{}", error.plugin), text, None)
    })?;
    Ok(rewriters.with_redaction(config.redaction.clone()).within(config.gateway.max_message_bytes))
}

/// The headers that an authenticator wants to read and the door does not pass on: to it they would be missing in every request.
fn unread(config: &Config, settings: &config::Plugin, plugin: &Plugin) -> Vec<Problem> {
    let Some(http) = config.http.as_ref().filter(|_| settings.stage == Stage::Authenticate) else {
        return Vec::new();
    };
    let passed = |header: &&String| http.credential_headers.iter().any(|it| it.eq_ignore_ascii_case(header));
    let missing = plugin.headers().iter().filter(|header| !passed(header));
    let problem = |header: &String| {
        let text = format!(
            "{} reads the header {:?}, which http.credential_headers does not name, so it would never see it",
            settings.name,
            header.to_ascii_lowercase()
        );
        let hint = format!("add {:?} to http.credential_headers", header.to_ascii_lowercase());
        super::problem(&format!("plugins.{}", settings.name), text, Some(hint))
    };
    missing.map(problem).collect()
}

/// Loads one plugin, or takes the one that was made of the same before.
fn one(
    (engine, store, clock): (&Engine, &Store, &Clock),
    folders: &[PathBuf],
    settings: &config::Plugin,
    trust: &Trust,
    before: Option<&Made>,
) -> Result<Made, Vec<Problem>> {
    let key = format!("plugins.{}", settings.name);
    let wasm = find(folders, settings).map_err(|problem| vec![*problem])?;
    let open = super::files::of_plugin(&key, &wasm, trust);
    if !open.is_empty() {
        return Err(open);
    }
    // One without a manifest says nothing of itself.
    let manifest = std::fs::read(wasm.with_extension("toml")).unwrap_or_default();
    if let Some(before) = before.filter(|before| before.manifest == manifest)
        && std::fs::read(&wasm).is_ok_and(|code| before.plugin.is_of(&code))
    {
        return Ok(before.clone());
    }
    let loaded = Plugin::load(engine, &wasm, settings, store, clock);
    let made = |plugin| Made { settings: settings.clone(), manifest, plugin: Arc::new(plugin) };
    loaded.map(made).map_err(|error| match error {
        // A mistake in what the plugin was told belongs to the section of the file that it came from.
        LoadError::Config(mistakes) => mistakes
            .into_iter()
            .map(|(pointer, message, hint)| {
                let path = pointer.trim_start_matches('/').replace('/', ".");
                // The plugin's `keys` are called `api_keys` in the file.
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
