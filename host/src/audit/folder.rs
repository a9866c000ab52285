//! The folder of the record, which nobody else may read or write: it is looked at, made, and taken over from dead instances.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::AuditError;
use super::journal::{self, Journal};
use super::recover::{self, Orphan};
use super::settings::{Mode, Settings, StoreSettings};
use super::store;
use crate::files::{self, FileError, Links, Trust};

/// All existing files and folders of a record that are open to others.
#[must_use]
pub fn open_to_others(dir: &Path, store: &StoreSettings, trust: &Trust) -> Vec<files::Finding> {
    let mut all = Vec::new();
    // A file that cannot be inspected is reported when it is used.
    let mut add = |inspected: Result<Vec<files::Finding>, FileError>| {
        if let Ok(findings) | Err(FileError::Open(findings)) = inspected {
            let new = findings.into_iter().filter(|finding| !all.contains(finding)).collect::<Vec<_>>();
            all.extend(new);
        }
    };
    add(trust.inspect_private_dir(dir, Links::Followed));
    let journal = dir.join("journal");
    for folder in [&journal, &dir.join("archive")] {
        add(trust.inspect_private_dir(folder, Links::Refused));
    }
    add(files::inspect_private_file(&journal.join(".lock")));
    for entry in std::fs::read_dir(&journal).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| Uuid::try_parse(name).is_ok()) {
            add(recover::inspect(&entry.path()));
        }
    }
    if let StoreSettings::Sqlite { path } = store {
        add(store::inspect(path, trust).map(|()| Vec::new()));
    }
    all
}

/// The places on the disk that the record uses.
pub(super) fn places(settings: &Settings) -> Vec<PathBuf> {
    let mut places = vec![settings.dir.join("journal")];
    if let StoreSettings::Sqlite { path } = &settings.store {
        places.extend(path.parent().map(Path::to_owned));
    }
    places
}

/// Creates the journal and claims what dead instances left, under one short lock.
///
/// The folder must be one into which nobody else can have put anything, and that nobody else can read.
pub(super) fn prepare(settings: &Settings, instance: Uuid) -> Result<(Journal, Vec<Orphan>), AuditError> {
    let dir = settings.trust.private_dir(&settings.dir, Links::Followed)?;
    let root = settings.trust.private_dir(&dir.join("journal"), Links::Refused)?;
    if let StoreSettings::Sqlite { path } = &settings.store {
        store::inspect(path, &settings.trust)?;
    }
    let _lock = journal::lock_root(&root)?;
    let orphans = recover::claim(&root)?;
    let name = instance.simple().to_string();
    let strict = settings.mode == Mode::Strict;
    Ok((Journal::create(&root, &name, strict, settings.max_journal_bytes)?, orphans))
}
