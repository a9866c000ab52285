//! Everything that a configuration makes the gateway read or write besides itself: is it open to others?
//!
//! The configuration and its keys are judged where they are read. What others could change or see of the rest is found
//! here, all of it at once, before anything is started.

use std::path::{Path, PathBuf};

use super::problem;
use crate::audit;
use crate::config::{Config, Problem, Problems};
use crate::files::{self, FileError, Finding, Links, Trust};

/// The files and folders of the record, of the state and of long answers that are open to others.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let trust = &config.gateway.trust;
    let mut found = Vec::new();
    if config.audit.enabled {
        let files = audit::open_to_others(&config.audit.dir, &super::audit_store(config), trust);
        found.extend(files.into_iter().map(|finding| ("audit.dir", finding)));
    }
    if let Some(folder) = &config.state.dir {
        let files = complaints(trust.inspect_private_dir(folder, Links::Refused));
        found.extend(files.into_iter().map(|finding| ("state.dir", finding)));
    }
    if let Some(file) = &config.approvals.path {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let of_folder = folder.map(|folder| complaints(trust.inspect(folder)));
        let own = complaints(files::inspect_private_file(file));
        let all = of_folder.into_iter().flatten().chain(own);
        found.extend(all.map(|finding| ("approvals.path", finding)));
    }
    // Every endpoint has its own, in the record's folder unless it says otherwise.
    for config in std::iter::once(config).chain(config.mounts().map(|mount| &mount.config)) {
        if let Some((folder, own)) = spool_folder(config) {
            let links = if own { Links::Refused } else { Links::Followed };
            let files = complaints(trust.inspect_private_dir(&folder, links));
            found.extend(files.into_iter().map(|finding| ("gateway.spool_dir", finding)));
        }
    }
    let mut problems = Vec::new();
    for (key, finding) in found {
        add(&mut problems, key, finding);
    }
    problems
}

/// The folder for long answers, and whether it is the gateway's default rather than one that the file names.
pub(super) fn spool_folder(config: &Config) -> Option<(PathBuf, bool)> {
    if !config.gateway.spools() {
        return None;
    }
    Some(match &config.gateway.spool_dir {
        Some(folder) => (folder.clone(), false),
        None => (config.audit.dir.join("spool"), true),
    })
}

/// A person who may change a plugin or its manifest decides in its place.
pub(super) fn of_plugin(key: &str, wasm: &Path, trust: &Trust) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in [wasm.to_owned(), wasm.with_extension("toml")] {
        for finding in complaints(trust.inspect(&file)) {
            add(&mut problems, key, finding);
        }
    }
    problems
}

/// A file that cannot be inspected is reported when it is opened.
fn complaints(inspected: Result<Vec<Finding>, FileError>) -> Vec<Finding> {
    match inspected {
        Ok(findings) | Err(FileError::Open(findings)) => findings,
        Err(FileError::Unusable { .. }) => Vec::new(),
    }
}

/// A folder that leads to many files is named once.
fn add(problems: &mut Vec<Problem>, key: &str, finding: Finding) {
    let message = format!("{}: {}", finding.path.display(), finding.message);
    if !problems.iter().any(|known| known.message == message) {
        problems.push(problem(key, message, Some(finding.fix)));
    }
}

/// The problems of files and those of loading the plugins: everything at once.
pub(super) fn together<T>(
    config: &Config,
    mut found: Vec<Problem>,
    loaded: Result<T, Problems>,
) -> Result<T, Problems> {
    match loaded {
        Ok(loaded) if found.is_empty() => Ok(loaded),
        Ok(_) => Err(Problems::new(&config.path, found)),
        Err(problems) => {
            found.extend(problems.iter().cloned());
            Err(Problems::new(&config.path, found))
        }
    }
}

/// Closes what an earlier version left open to readers only: its own folder for long answers, in a folder of its own.
pub(super) fn tighten(config: &Config) {
    for config in std::iter::once(config).chain(config.mounts().map(|mount| &mount.config)) {
        if let Some((folder, true)) = spool_folder(config) {
            files::tighten(&folder);
        }
    }
}
