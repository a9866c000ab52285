//! `executor`: the process that runs commands for a gateway, and what belongs to it.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use sentinel_gateway::capability::Key;
use sentinel_gateway::executor::{Executor, Settings, look, verify};
use sentinel_gateway::redact::Redaction;
use sentinel_gateway::telemetry;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the commands of this file for the gateway, behind its socket, until the process is ended
    Run {
        /// The executor's own file
        file: PathBuf,
    },
    /// Look at the executor's file and all it names, without starting anything
    Check {
        /// The executor's own file
        file: PathBuf,
        /// Also show that no gateway that runs, and nothing it started, can reach what the executor guards: its record, and
        /// what its file names in `guards`. Needs root
        #[arg(long)]
        privileges: bool,
    },
    /// Make the pair of keys by which the executor knows the gateway: capability.key for the gateway, capability.pub for it
    Keys {
        /// The folder to put them into
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Look whether a record (record.jsonl in the executor's `dir`) is as it was written
    Verify {
        /// The record
        record: PathBuf,
    },
}

pub(crate) fn execute(command: Command, log_level: Option<&str>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { file } => run(&file, log_level),
        Command::Check { file, privileges } => {
            let settings = Settings::read(&file)?;
            let mut text = format!("{} is in order\n", file.display());
            for command in &settings.commands {
                let pinned = if command.sha256.is_some() { "  (pinned)" } else { "" };
                let _ = writeln!(text, "  {:<24} {}{pinned}", command.name, command.executable.display());
            }
            super::say(&text)?;
            if !privileges {
                return Ok(ExitCode::SUCCESS);
            }
            let found = look(&settings).map_err(anyhow::Error::msg)?;
            super::say(&found.table)?;
            Ok(if found.closed { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Command::Keys { out } => keys(&out),
        Command::Verify { record } => judge(&record),
    }
}

fn run(file: &Path, log_level: Option<&str>) -> anyhow::Result<ExitCode> {
    telemetry::log_at_once(log_level.unwrap_or("info"), Redaction::default())?;
    let settings = Settings::read(file)?;
    let (name, environment) = (settings.name.clone(), settings.environment.clone());
    let executor = Executor::open(settings)?;
    tracing::info!(name, environment, socket = %executor.socket().display(), "the executor listens");
    executor.serve()?;
    Ok(ExitCode::SUCCESS)
}

fn keys(out: &Path) -> anyhow::Result<ExitCode> {
    let (secret, public) = Key::generate()?;
    for (name, text, mode) in [("capability.key", secret, 0o600), ("capability.pub", public, 0o644)] {
        let path = out.join(name);
        // A key that is there is in use; nothing replaces it.
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(mode).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| path.display().to_string())?;
    }
    let (key, public) = (out.join("capability.key"), out.join("capability.pub"));
    super::say(&format!(
        "key_file = {:?}        in [[executors]] of the gateway's file\npublic_keys = [{:?}]   in the executor's file\n",
        key.display().to_string(),
        public.display().to_string()
    ))
}

fn judge(record: &Path) -> anyhow::Result<ExitCode> {
    let verdict = verify(record).with_context(|| record.display().to_string())?;
    let mut text = format!("{}: {} lines are as they were written\n", record.display(), verdict.lines);
    if verdict.torn > 0 {
        let _ = writeln!(text, "  {} were left half by a process that was killed", verdict.torn);
    }
    for execution in &verdict.unfinished {
        let _ = writeln!(text, "  {execution} was begun, and no end of it is on record");
    }
    if let Some(line) = verdict.broken {
        let _ =
            writeln!(text, "  BROKEN: line {line} is not as it was written, or a line before it is missing");
    }
    super::say(&text)?;
    Ok(if verdict.broken.is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
