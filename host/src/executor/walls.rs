//! The walls around the executor itself, and those around one command within them.

use std::path::{Path, PathBuf};

use super::settings::Settings;
use crate::command::{Command, Kind};
use crate::config::sandbox::{Network, Sandbox};

/// How many processes and threads the executor's user may have more than the whole machine has.
const PROCESSES: u64 = 4_096;

/// What the executor itself may reach: the programs and files of its commands, and its own folder. It looks below `/proc`
/// for what a command left behind; commands may not.
pub(super) fn of_executor(settings: &Settings) -> Sandbox {
    let mut read = vec![PathBuf::from("/proc")];
    let mut write = vec![settings.dir.clone()];
    for command in &settings.commands {
        read.push(command.executable.clone());
        read.extend(command.read.iter().cloned());
        write.extend(command.write.iter().cloned());
        read.extend(command.slots.iter().filter_map(|slot| match &slot.kind {
            Kind::Path { beneath, .. } => Some(beneath.clone()),
            Kind::Enum(_) | Kind::Int { .. } | Kind::Text { .. } => None,
        }));
    }
    read.extend(crate::command::LAUNCHER_DIRECTORIES.iter().map(PathBuf::from).filter(|path| path.exists()));
    read.sort();
    read.dedup();
    Sandbox { read, write, network: Network::None, processes: PROCESSES, open_files: None, memory: None }
}

/// What a command may reach. Its operands are in memory, and need no door.
pub(super) fn of_command(command: &Command) -> Sandbox {
    Sandbox {
        read: command.read.clone(),
        write: command.write.clone(),
        network: Network::None,
        processes: command.limits.processes,
        open_files: Some(command.limits.open_files),
        memory: command.limits.memory,
    }
}

/// The paths that have to be there, or no wall can have a door to them.
pub(super) fn missing(settings: &Settings) -> Vec<String> {
    let mut missing = Vec::new();
    for command in &settings.commands {
        let folders = command.slots.iter().filter_map(|slot| match &slot.kind {
            Kind::Path { beneath, .. } => Some(beneath),
            Kind::Enum(_) | Kind::Int { .. } | Kind::Text { .. } => None,
        });
        for path in command.read.iter().chain(&command.write).chain(folders).chain([&command.executable]) {
            if let Some(why) = wrong(path) {
                missing.push(format!("command {:?}: {}: {why}", command.name, path.display()));
            }
        }
    }
    missing
}

fn wrong(path: &Path) -> Option<String> {
    match path.canonicalize() {
        Ok(real) if real == path => None,
        Ok(real) => Some(format!("there is a link on the way to it; write {}", real.display())),
        Err(error) => Some(error.to_string()),
    }
}
