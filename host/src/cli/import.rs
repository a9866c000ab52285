//! `import`: the servers that clients know, as a file of the gateway.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use sentinel_gateway::{app, config};
use serde_json::Value;

mod entry;
mod names;
mod read;
mod refer;
mod write;

pub(super) use self::write::Head;

use self::entry::Backend;
use self::names::Names;
use self::read::Source;
use self::refer::{Around, Variables};
use self::write::Rules;
use super::client::Client;
use super::place::Place;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Files of clients: JSON with mcpServers, servers or context_servers, or TOML with mcp_servers
    #[arg(value_name = "FILE", required_unless_present = "from")]
    files: Vec<PathBuf>,
    /// Take the file that this client has in its usual place
    #[arg(long, value_name = "CLIENT")]
    from: Vec<Client>,
    /// Write the file here, instead of printing it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Add the servers to the file at --output, which stays as it is otherwise
    #[arg(long, requires = "output", conflicts_with = "force")]
    add: bool,
    /// Write over the file at --output; a copy of what it was stays beside it
    #[arg(long, requires = "output")]
    force: bool,
    /// Write the secrets that stood in the files here, as NAME='value', for a shell or systemd
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

/// The result of importing the servers of some files.
#[derive(Debug, Default)]
pub(super) struct Imported {
    /// Each with the file it is from.
    backends: Vec<(Backend, String)>,
    variables: Variables,
    /// The entries that were left out, in words.
    left: Vec<String>,
    /// Known by another name now.
    renamed: Vec<String>,
}

pub(crate) fn execute(options: &Options) -> anyhow::Result<ExitCode> {
    let mut files = options.files.clone();
    for client in &options.from {
        files.push(
            client.file(&app::environment).context("HOME is not set: name the file instead of --from")?,
        );
    }
    let place = options.output.as_deref().map(Place::find).transpose()?;
    let old = place.as_ref().and_then(|place| place.text.clone());
    if let (Some(place), Some(_)) = (&place, &old) {
        ensure!(
            options.add || options.force,
            "{} exists: add the servers to it with --add, or write over it with --force",
            place.path.display()
        );
    }
    let taken = if options.add { names_in(old.as_deref().unwrap_or_default())? } else { Vec::new() };
    let imported = read(&files, taken)?;
    let text = match old.filter(|_| options.add) {
        Some(old) => imported.added_to(&old),
        None => imported.whole(&Head {
            about: &format!("Made by `sentinel-gateway import` from {}.", listed(&files)),
            key_file: None,
            http: false,
            role: "admin",
        }),
    };
    let mut said = String::new();
    match &place {
        None => drop(super::say(&text)?),
        Some(place) => said.push_str(&put(place, &text)?),
    }
    if let Some(file) = &options.env_file {
        said.push_str(&imported.write_secrets(file)?);
    }
    said.push_str(&imported.report(options.env_file.as_deref()));
    if options.add {
        said.push_str(&imported.rules_by_hand());
    } else if imported.keeps_tools_back() {
        said.push_str("the tools that a client kept back are kept back by denied_tools and allowed_tools\n");
    }
    if let Some(place) = &place {
        let _ = write!(
            said,
            "next: sentinel-gateway client install CLIENT --config {}; then take the servers out of the client's file, or it goes on starting them itself",
            place.path.display()
        );
    }
    super::complain(&said);
    match &place {
        Some(place) => check(&place.path),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Writes the file of the gateway.
pub(super) fn put(place: &Place, text: &str) -> anyhow::Result<String> {
    let backup = place.put(text)?;
    let mut said = format!("{} was written\n", place.path.display());
    if let Some(backup) = backup {
        let _ = writeln!(said, "what it was is in {}", backup.display());
    }
    Ok(said)
}

/// Says what keeps a gateway from starting with a file that was just written, and is no mistake of the file: a variable
/// that is to be set yet, say.
pub(super) fn check(path: &Path) -> anyhow::Result<ExitCode> {
    if let Err(problems) = config::load(path, &app::environment) {
        super::complain(&format!("the gateway does not start with it yet:\n{problems}"));
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(files: &[PathBuf]) -> String {
    let names = files.iter().map(|file| file.display().to_string());
    names.collect::<Vec<_>>().join(", ")
}

fn names_in(text: &str) -> anyhow::Result<Vec<String>> {
    let table: toml::Table = toml::from_str(text).context("the file at --output cannot be understood")?;
    let backends = table.get("backends").and_then(toml::Value::as_array).into_iter().flatten();
    Ok(backends.filter_map(|backend| Some(backend.get("name")?.as_str()?.to_owned())).collect())
}

/// Reads the servers of all files.
///
/// # Errors
/// A file cannot be read.
pub(super) fn read(files: &[PathBuf], taken: Vec<String>) -> anyhow::Result<Imported> {
    let sources: Vec<Source> = files.iter().map(|file| read::read(file)).collect::<Result<_, _>>()?;
    let home = app::environment("HOME");
    let (mut imported, mut names) = (Imported::default(), Names::new(taken));
    let mut seen: HashSet<String> = HashSet::new();
    for source in &sources {
        let file = source.path.display().to_string();
        imported.left.extend(source.left.iter().map(|what| format!("{what}, in {file}")));
        let around = Around { folder: &source.folder, home: home.as_deref() };
        for (original, value) in &source.servers {
            // The same server in the files of several clients is one.
            if !seen.insert(format!("{original} {}", without_switches(value))) {
                imported.left.push(format!("{original} of {file}: another file has it already"));
                continue;
            }
            let name = names.give(original);
            let place = format!("{file}: {}", path_of(&source.key, original));
            match entry::read(name, original, value, place, &mut imported.variables, around) {
                Ok(backend) => imported.take(backend, file.clone()),
                Err(why) => imported.left.push(format!("{original} of {file}: {why}")),
            }
        }
    }
    Ok(imported)
}

fn path_of(key: &str, server: &str) -> String {
    if key.is_empty() { server.to_owned() } else { format!("{key}.{server}") }
}

fn without_switches(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(map) = &mut value {
        map.retain(|key, _| !["disabled", "enabled", "autoApprove", "alwaysAllow"].contains(&key.as_str()));
    }
    value
}

impl Imported {
    fn take(&mut self, backend: Backend, file: String) {
        if backend.name != backend.original {
            self.renamed.push(format!("{:?} is {} here", backend.original, backend.name));
        }
        if !backend.ignored.is_empty() {
            self.left.push(format!("of {}: {}", backend.original, backend.ignored.join(", ")));
        }
        self.backends.push((backend, file));
    }

    /// The number of servers that are switched on.
    pub(super) fn on(&self) -> usize {
        self.backends.iter().filter(|(backend, _)| !backend.disabled).count()
    }

    /// A file of its own.
    pub(super) fn whole(&self, head: &Head<'_>) -> String {
        let mut text = write::head(head, &self.rules());
        self.append(&mut text);
        text
    }

    fn append(&self, text: &mut String) {
        for (backend, file) in &self.backends {
            text.push('\n');
            text.push_str(&write::backend(backend, file));
        }
    }

    fn added_to(&self, old: &str) -> String {
        let mut text = old.trim_end().to_owned();
        text.push('\n');
        self.append(&mut text);
        text
    }

    /// Rules that keep tools off that were off in the client.
    fn rules(&self) -> Rules {
        let on = || self.backends.iter().map(|(backend, _)| backend).filter(|backend| !backend.disabled);
        let denied =
            on().flat_map(|backend| backend.denied.iter().map(|tool| format!("{}/{tool}", backend.name)));
        let allowed = on().any(|backend| backend.only.is_some()).then(|| {
            let of = |backend: &Backend| -> Vec<String> {
                let tools = backend.only.clone().unwrap_or_else(|| vec!["*".to_owned()]);
                tools.iter().map(|tool| format!("{}/{tool}", backend.name)).collect()
            };
            on().flat_map(of).collect()
        });
        Rules { denied: denied.collect(), allowed }
    }

    fn keeps_tools_back(&self) -> bool {
        self.backends.iter().any(|(backend, _)| !backend.denied.is_empty() || backend.only.is_some())
    }

    /// Which rules to write into a file whose roles are somebody's own.
    fn rules_by_hand(&self) -> String {
        if !self.keeps_tools_back() {
            return String::new();
        }
        let Rules { denied, allowed } = self.rules();
        let mut text =
            "the clients kept tools back, which the roles of this file do not: add to them\n".to_owned();
        if !denied.is_empty() {
            let _ = writeln!(text, "  denied_tools = {denied:?}");
        }
        if let Some(allowed) = allowed {
            let _ = writeln!(text, "  allowed_tools = {allowed:?}");
        }
        text
    }

    fn write_secrets(&self, file: &Path) -> anyhow::Result<String> {
        let place = Place::find(file)?;
        let mut text = place.text.clone().unwrap_or_default();
        for (name, value) in &self.variables.literal {
            let _ = writeln!(text, "{name}='{}'", value.replace('\'', r"'\''"));
        }
        place.put(&text)?;
        Ok(format!(
            "{} has the secrets: `set -a; . {0}; set +a` sets them in a shell\n",
            place.path.display()
        ))
    }

    /// What was done, what was not, and what a person has to do now. Never a secret.
    pub(super) fn report(&self, env_file: Option<&Path>) -> String {
        let off = self.backends.len() - self.on();
        let mut text = format!("{} servers", self.on());
        if off > 0 {
            let _ = write!(text, ", and {off} as comments because they are switched off");
        }
        text.push('\n');
        for renamed in &self.renamed {
            let _ = writeln!(text, "{renamed}");
        }
        let left = self.left.iter().map(|what| format!("left out: {what}"));
        let notes = self.backends.iter().flat_map(|(backend, _)| {
            backend.notes.iter().map(move |note| format!("{}: {note}", backend.name))
        });
        for what in left.chain(notes) {
            let _ = writeln!(text, "{what}");
        }
        if env_file.is_none() && !self.variables.literal.is_empty() {
            text.push_str(
                "secrets that stood in the files are variables now; set them where the gateway is started:\n",
            );
            for name in self.variables.literal.keys() {
                let place = self.variables.places.get(name).map_or("", String::as_str);
                let _ = writeln!(text, "  export {name}='…'    # {place}");
            }
        }
        let unset: Vec<&str> = self
            .variables
            .named
            .iter()
            .filter(|name| !self.variables.literal.contains_key(*name))
            .filter(|name| app::environment(name).is_none_or(|value| value.is_empty()))
            .map(String::as_str)
            .collect();
        if !unset.is_empty() {
            let _ = writeln!(
                text,
                "not set here: {}; a server whose variable is missing is left out until it is set",
                unset.join(", ")
            );
        }
        text
    }
}
