//! The executor's own file.

use std::collections::HashSet;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::capability::PublicKey;
use crate::command::{self, Command, Commands, RawCommand};
use crate::files::Trust;

/// The longest file that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// What an executor is started with, checked.
#[derive(Debug)]
pub struct Settings {
    /// What tokens for it call it.
    pub name: String,
    /// The environment that it is for.
    pub environment: String,
    /// Where it listens.
    pub socket: PathBuf,
    /// Where its record lies, and what tokens were used.
    pub dir: PathBuf,
    /// Who may sign tokens.
    pub keys: Vec<PublicKey>,
    /// The user who may connect: a name or a number; by default the one it runs as.
    pub client: Option<String>,
    /// The user that it becomes; it has to be started by root then.
    pub user: Option<String>,
    /// How many questions it works on at once.
    pub max_calls: usize,
    /// What only it may reach, for `executor check --privileges`.
    pub guards: Vec<PathBuf>,
    /// What it may run.
    pub commands: Commands,
}

/// Everything that is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub struct SettingsError {
    path: PathBuf,
    mistakes: Vec<String>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {mistake}", self.path.display())?;
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    name: String,
    environment: String,
    socket: PathBuf,
    dir: PathBuf,
    public_keys: Vec<PathBuf>,
    client: Option<String>,
    user: Option<String>,
    max_calls: Option<usize>,
    #[serde(default)]
    guards: Vec<PathBuf>,
    /// The gateway's file, of which only [[commands]] is read.
    commands_from: Option<PathBuf>,
    #[serde(default)]
    commands: Vec<RawCommand>,
}

#[derive(Debug, Deserialize)]
struct OnlyCommands {
    #[serde(default)]
    commands: Vec<RawCommand>,
}

impl Settings {
    /// Reads the file, and those it names; nobody but root and this user may be able to change them.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let fail = |mistakes| SettingsError { path: path.to_owned(), mistakes };
        let text = text(path).map_err(|error| fail(vec![error]))?;
        let raw: RawSettings = toml::from_str(&text).map_err(|error| fail(vec![error.to_string()]))?;
        let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = full.parent().unwrap_or(Path::new("/"));
        check(raw, folder).map_err(fail)
    }
}

fn check(raw: RawSettings, folder: &Path) -> Result<Settings, Vec<String>> {
    let mut mistakes = Vec::new();
    for (key, name) in [("name", &raw.name), ("environment", &raw.environment)] {
        if !command::is_name(name) {
            mistakes.push(format!("{key}: {name:?} is no name: letters, digits, _ and -, at most 48"));
        }
    }
    let mut keys = Vec::new();
    if raw.public_keys.is_empty() {
        mistakes.push(
            "public_keys: without a key no token is good; name the file of the gateway's public key"
                .to_owned(),
        );
    }
    for path in &raw.public_keys {
        let path = folder.join(path);
        match text(&path).map(|text| PublicKey::from_pem(&text)) {
            Ok(Ok(key)) => keys.push(key),
            Ok(Err(error)) => mistakes.push(format!("public_keys: {}: {error}", path.display())),
            Err(error) => mistakes.push(format!("public_keys: {error}")),
        }
    }
    let mut typed = raw.commands;
    let mut commands = Vec::new();
    if let Some(from) = &raw.commands_from {
        let from = folder.join(from);
        match text(&from).and_then(|text| {
            toml::from_str::<OnlyCommands>(&text).map_err(|error| format!("{}: {error}", from.display()))
        }) {
            Ok(theirs) => typed.extend(theirs.commands),
            Err(error) => mistakes.push(format!("commands_from: {error}")),
        }
    }
    typed.retain(|command| command.executor.as_ref().is_none_or(|executor| *executor == raw.name));
    for typed in &typed {
        match command::check(typed, &raw.name) {
            Ok(command) => commands.push(command),
            Err(wrong) => {
                let name = typed.name.as_deref().unwrap_or("?");
                mistakes.extend(wrong.into_iter().map(|wrong| {
                    format!(
                        "commands {name:?}{}: {} ({})",
                        wrong.at.replace('/', "."),
                        wrong.message,
                        wrong.hint
                    )
                }));
            }
        }
    }
    if commands.is_empty() && mistakes.is_empty() {
        mistakes.push(
            "commands: there is none; name the gateway's file in commands_from, or add [[commands]]"
                .to_owned(),
        );
    }
    let mut names = HashSet::new();
    for command in commands.iter().filter(|command: &&Command| !names.insert(command.name.clone())) {
        mistakes.push(format!("commands {:?}: there are two of this name", command.name));
    }
    let max_calls = raw.max_calls.unwrap_or(16);
    if !(1..=1_024).contains(&max_calls) {
        mistakes.push("max_calls: it must be from 1 to 1024".to_owned());
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Settings {
        name: raw.name,
        environment: raw.environment,
        socket: folder.join(raw.socket),
        dir: folder.join(raw.dir),
        keys,
        client: raw.client,
        user: raw.user,
        max_calls,
        guards: raw.guards.iter().map(|path| folder.join(path)).collect(),
        commands: Commands::new(commands),
    })
}

/// The text of a file that nobody else can change.
fn text(path: &Path) -> Result<String, String> {
    let file = Trust::default().open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let read = file.take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}
