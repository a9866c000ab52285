//! `client`: registers the gateway with an MCP client, by hand or in the client's own file.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use sentinel_gateway::app;
use sentinel_gateway::redact::Redaction;

mod edit;
mod entry;
mod kinds;
mod needs;

pub(crate) use self::kinds::Client;

use self::entry::Entry;
use self::kinds::Format;
use self::needs::Reach;
use super::place::{Place, difference};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what to put into the client's own configuration
    Config {
        #[command(flatten)]
        entry: EntryOptions,
    },
    /// Write it into the client's own file; a copy of what it was stays beside it
    Install {
        #[command(flatten)]
        entry: EntryOptions,
        #[command(flatten)]
        file: FileOptions,
        /// Replace a server of that name, whatever it is
        #[arg(long)]
        force: bool,
    },
    /// Take it out of the client's own file again
    Remove {
        /// Which client
        client: Client,
        /// The name the client shows
        #[arg(long, default_value = "sentinel")]
        name: String,
        #[command(flatten)]
        file: FileOptions,
        /// Remove a server of that name, whatever it is
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EntryOptions {
    /// Which client
    client: Client,
    /// The name the client shows
    #[arg(long, default_value = "sentinel")]
    name: String,
    /// Where clients reach a gateway with [http], if that is not the address it listens at
    #[arg(long)]
    url: Option<String>,
    /// Write the values that variables have now, instead of naming them: for a file that nobody else reads
    #[arg(long)]
    values: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FileOptions {
    /// The client's file of the project in this folder, instead of its user's
    #[arg(long, conflicts_with = "file")]
    project: bool,
    /// The client's file, where it is not in its usual place
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn execute(config: &Path, command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Config { entry } => show(config, entry),
        Command::Install { entry, file, force } => install(config, entry, file, *force),
        Command::Remove { client, name, file, force } => remove(config, *client, name, file, *force),
    }
}

/// The file of a client that a command is about.
fn file(client: Client, options: &FileOptions) -> anyhow::Result<PathBuf> {
    if let Some(file) = &options.file {
        return Ok(file.clone());
    }
    let kind = client.kind();
    if options.project {
        return kind.project.map(PathBuf::from).with_context(|| {
            format!("{} has no file of its own in a project: leave --project out", kind.name)
        });
    }
    client.file(&app::environment).context("HOME is not set: say where the file is, with --file")
}

/// How the gateway is reached, and the entry for it.
fn entry(config: &Path, options: &EntryOptions) -> anyhow::Result<(Reach, Entry)> {
    let binary = std::env::current_exe().context("this program does not know where it is")?;
    let config = std::path::absolute(config)?;
    let mut reach = if config.exists() {
        needs::of(&config)?
    } else {
        super::complain(&format!(
            "note: {} does not exist yet; `sentinel-gateway init` makes one",
            config.display()
        ));
        Reach::Command { variables: Vec::new(), withheld: Vec::new() }
    };
    match (&mut reach, &options.url) {
        (Reach::Url { url, .. }, Some(given)) => url.clone_from(given),
        (Reach::Command { .. }, Some(_)) => {
            anyhow::bail!("--url is for a gateway that serves HTTP: this file has no section [http]")
        }
        (_, None) => {}
    }
    let now = |name: &str| app::environment(name).filter(|value| !value.is_empty());
    let values: entry::Values<'_> = options.values.then_some(&now);
    let entry = entry::of(options.client, &binary, &config, &reach, values);
    Ok((reach, entry))
}

fn show(config: &Path, options: &EntryOptions) -> anyhow::Result<ExitCode> {
    let kind = options.client.kind();
    let (reach, entry) = entry(config, options)?;
    let place = options.client.file(&app::environment);
    let place = place.map(|path| path.display().to_string()).into_iter();
    let places: Vec<String> = place.chain(kind.project.map(|path| format!("{path} of a project"))).collect();
    super::complain(&format!("# {}: {}", kind.name, places.join(", or ")));
    super::complain(advice(&reach, &entry).trim_end());
    let text = edit::set(kind, "", &options.name, &entry.server, &entry.inputs)?;
    match kind.format {
        Format::Json => super::say_json(&text),
        Format::Toml => super::say(&text),
    }
}

fn install(
    config: &Path,
    options: &EntryOptions,
    file_options: &FileOptions,
    force: bool,
) -> anyhow::Result<ExitCode> {
    ensure!(
        config.exists(),
        "{} does not exist, so a client could not start with it: make one with `sentinel-gateway init` or `import`",
        config.display()
    );
    let (kind, name) = (options.client.kind(), &options.name);
    let (reach, entry) = entry(config, options)?;
    let place = Place::find(&file(options.client, file_options)?)?;
    let before = place.text.as_deref().unwrap_or_default();
    let of_file = || format!("{} cannot be changed", place.path.display());
    if let Some(old) = edit::get(kind, before, name).with_context(of_file)?
        && !force
    {
        edit::is_ours(&old, &entry.server, name).with_context(of_file)?;
    }
    let after = edit::set(kind, before, name, &entry.server, &entry.inputs).with_context(of_file)?;
    let done = change(&place, &after, file_options)?;
    super::complain(format!("{done}{}", advice(&reach, &entry)).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn remove(
    config: &Path,
    client: Client,
    name: &str,
    options: &FileOptions,
    force: bool,
) -> anyhow::Result<ExitCode> {
    let kind = client.kind();
    let place = Place::find(&file(client, options)?)?;
    let before = place.text.as_deref().unwrap_or_default();
    let of_file = || format!("{} cannot be changed", place.path.display());
    if let Some(old) = edit::get(kind, before, name).with_context(of_file)?
        && !force
    {
        // An entry without a command is known by the address of the gateway; the configuration may be gone by now.
        let url = match needs::of(config) {
            Ok(Reach::Url { url, .. }) => Some(url),
            Ok(Reach::Command { .. }) | Err(_) => None,
        };
        edit::is_ours(&old, &serde_json::json!({ "url": url }), name).with_context(of_file)?;
    }
    let Some(after) = edit::remove(kind, before, name).with_context(of_file)? else {
        super::complain(&format!("{} has no server called {name:?}", place.path.display()));
        return Ok(ExitCode::SUCCESS);
    };
    super::complain(change(&place, &after, options)?.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Writes the file, or shows what would change in it, without secrets.
fn change(place: &Place, after: &str, options: &FileOptions) -> anyhow::Result<String> {
    let before = place.text.as_deref().unwrap_or_default();
    let mut said = String::new();
    if let Some(link) = &place.link {
        let _ = writeln!(said, "{} is a link to {}", link.display(), place.path.display());
    }
    if before == after {
        let _ = writeln!(said, "{} says so already; nothing was changed", place.path.display());
        return Ok(said);
    }
    if options.dry_run {
        let _ = writeln!(said, "{} would change:", place.path.display());
        super::complain(said.trim_end());
        super::say(&Redaction::default().text(&difference(before, after)))?;
        return Ok(String::new());
    }
    let backup = place.put(after)?;
    let _ = writeln!(said, "{} was changed", place.path.display());
    if let Some(backup) = backup {
        let _ = writeln!(said, "what it was is in {}", backup.display());
    }
    Ok(said)
}

/// Tells the person what else has to be done by hand.
fn advice(reach: &Reach, entry: &Entry) -> String {
    let mut text = String::new();
    if !entry.from_environment.is_empty() {
        let names = entry.from_environment.join(", ");
        let _ = writeln!(text, "the client takes from its own environment: {names}");
    }
    if !entry.by_hand.is_empty() {
        let names = entry.by_hand.join(", ");
        let _ = writeln!(
            text,
            "this client cannot name variables: write the values of {names} into its file, or use --values where they are set"
        );
    }
    for input in &entry.inputs {
        let name = input["id"].as_str().unwrap_or_default();
        let _ = writeln!(text, "the client asks for {name} once, and keeps it");
    }
    match reach {
        Reach::Command { withheld, .. } if !withheld.is_empty() => {
            let names = withheld.join(", ");
            let _ = writeln!(
                text,
                "not among them: {names}. It makes tokens of every role, so it does not belong in a client's file. \
                 Keep it in a file of the gateway's own ([auth] jwt_secret_file), give the gateway a public key (keys, jwks_url), \
                 or set mode = \"local\" for one person on one machine"
            );
        }
        Reach::Url { token: Some(token), .. } => {
            let _ = writeln!(
                text,
                "the gateway must be running. {token} is a token that it accepts, such as `sentinel-gateway token mint` makes, or an API key"
            );
        }
        Reach::Url { sign_in: true, .. } => {
            text.push_str("the gateway must be running; the client signs in where [http.oauth] says\n");
        }
        Reach::Url { .. } => text.push_str("the gateway must be running\n"),
        Reach::Command { .. } => {}
    }
    text
}
