//! What a call would run: the program, every file and the folder opened, and all of it as one text with one digest.

use std::os::fd::OwnedFd;
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::open::{self, Opened};
use super::settings::Settings;
use super::{hex, launchers};
use crate::command::frames::{Call, Reply};
use crate::command::{Command, Filled, Kind, Refused, Word};

/// A command that is ready to be run.
#[derive(Debug)]
pub(super) struct Resolved<'a> {
    pub(super) command: &'a Command,
    pub(super) filled: Filled,
    pub(super) program: Opened,
    /// The files that slots name, in the order of their words.
    pub(super) files: Vec<Opened>,
    pub(super) cwd: OwnedFd,
    /// The text that says what would run.
    pub(super) action: String,
    /// Its SHA-256.
    pub(super) digest: [u8; 32],
}

/// A refusal as it is sent.
pub(super) fn refuse(reason: &str, slot: &str, message: impl Into<String>) -> Reply {
    Reply::Refused { reason: reason.to_owned(), slot: slot.to_owned(), message: message.into() }
}

/// Opens everything that a call is about. Nothing is run. The programs of these digests are known to be no launchers.
///
/// # Errors
/// A refusal: the command is not known, a slot does not take its value, or a file is not as it has to be.
pub(super) fn resolve<'a>(
    settings: &'a Settings,
    cleared: &[[u8; 32]],
    call: Call,
) -> Result<Resolved<'a>, Box<Reply>> {
    let unknown = || Box::new(refuse("unknown_command", "", "this executor has no such command"));
    let command = settings.commands.find(&call.command).ok_or_else(unknown)?;
    let filled = command
        .fill(call.given, call.stdin)
        .map_err(|Refused { slot, message }| Box::new(refuse("argument_refused", &slot, message)))?;
    let unusable = |message: String| Box::new(refuse("unusable", "", message));
    let program = open::program(&command.executable, command.sha256.is_some()).map_err(unusable)?;
    match command.sha256 {
        Some(pin) if pin != program.sha256 => {
            let message = format!(
                "{} is not the program that was pinned: its SHA-256 is {}",
                command.executable.display(),
                hex(&program.sha256)
            );
            return Err(Box::new(refuse("changed", "", message)));
        }
        Some(_) => {}
        // It was looked at when the executor started.
        None if cleared.contains(&program.sha256) => {}
        None => launchers::refuse(&program, &command.executable).map_err(unusable)?,
    }
    let cwd = open::folder(&command.cwd).map_err(unusable)?;
    let mut files = Vec::new();
    let mut described = Vec::new();
    let words = command.words(&filled);
    for (index, word) in words.iter().enumerate() {
        let Word::File { slot, below, .. } = word else { continue };
        let slot = &command.slots[*slot];
        let Kind::Path { beneath, max_bytes } = &slot.kind else { continue };
        let file = open::operand(beneath, below, *max_bytes)
            .map_err(|why| Box::new(refuse("argument_refused", &slot.name, why)))?;
        described.push(json!({
            "path": path(&beneath.join(below)),
            "sha256": hex(&file.sha256),
            "size": file.size,
            "word": index,
        }));
        files.push(file);
    }
    let action = describe(settings, command, &filled, &program, &described);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, action.as_bytes()).as_ref());
    Ok(Resolved { command, filled, program, files, cwd, action, digest: bytes })
}

/// Everything that decides what happens, in canonical JSON (RFC 8785): sorted members, no blanks, whole numbers only.
fn describe(
    settings: &Settings,
    command: &Command,
    filled: &Filled,
    program: &Opened,
    files: &[Value],
) -> String {
    let paths = |paths: &[std::path::PathBuf]| paths.iter().map(|each| path(each)).collect::<Vec<_>>();
    let env: Map<String, Value> =
        command.env.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let stdin = filled
        .stdin()
        .map(|text| json!({ "sha256": hex(digest(&SHA256, text.as_bytes()).as_ref()), "size": text.len() }));
    let limits = command.limits;
    let action = json!({
        "argv": command.shown(filled),
        "command": command.name,
        "cwd": path(&command.cwd),
        "env": env,
        "environment": settings.environment,
        "executable": { "path": path(&command.executable), "sha256": hex(&program.sha256), "size": program.size },
        "executor": settings.name,
        "files": files,
        "limits": {
            "cpu_secs": limits.cpu_secs,
            "file_bytes": limits.file_bytes,
            "memory_bytes": limits.memory,
            "open_files": limits.open_files,
            "output_bytes": command.max_output,
            "processes": limits.processes,
            "timeout_secs": command.timeout.as_secs(),
        },
        "read": paths(&command.read),
        "stdin": stdin,
        "user": settings.user,
        "version": 1,
        "write": paths(&command.write),
    });
    sorted(&action).to_string()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// The same with the members of all objects in the order of their names, which are ASCII.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            Value::Object(members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
