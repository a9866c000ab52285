//! Brings what dead instances left in their journals into the database, so that no call stays without an ending.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use super::AuditError;
use super::persist::{blocking, persist};
use super::progress::Progress;
use super::reader::{Reader, segments};
use super::store::{BATCH_RECORDS, Store};
use crate::files::{self, FileError};

/// The record's text for a call whose end is not known.
const DIED: &str = "the gateway died before the outcome was known";

/// The journal of a dead instance, locked by us.
#[derive(Debug)]
pub(super) struct Orphan {
    instance: Uuid,
    folder: PathBuf,
    pub(super) bytes: u64,
    /// Held until the folder is gone: nobody else adopts it meanwhile.
    _lock: File,
}

/// Locks all journal folders below `root` that no process holds. The caller holds the lock of `root`.
pub(super) fn claim(root: &Path) -> Result<Vec<Orphan>, AuditError> {
    let mut orphans = Vec::new();
    // A journal that others could have written is no proof: adopted, it would be in the database as if it were one.
    let mut findings = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|e| AuditError::folder(root, e))? {
        let folder = entry.map_err(|e| AuditError::folder(root, e))?.path();
        let name = folder.file_name().and_then(|name| name.to_str());
        let Some(instance) = name.and_then(|name| Uuid::try_parse(name).ok()) else { continue };
        let open_to_others = inspect(&folder)?;
        if !open_to_others.is_empty() {
            findings.extend(open_to_others);
            continue;
        }
        let Ok(lock) = File::open(&folder) else {
            tracing::error!(folder = %folder.display(), "a journal folder cannot be opened; its records stay there");
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let bytes = size(&folder).unwrap_or_default();
            orphans.push(Orphan { instance, folder, bytes, _lock: lock });
        }
    }
    if !findings.is_empty() {
        return Err(FileError::Open(findings).into());
    }
    // Version 7 UUIDs sort by time: the oldest first.
    orphans.sort_by_key(|orphan| orphan.instance);
    Ok(orphans)
}

/// The files of one journal that are open to others. A journal that is gone was moved by its own instance meanwhile.
pub(super) fn inspect(folder: &Path) -> Result<Vec<files::Finding>, FileError> {
    let mut findings = match files::inspect_private_folder(folder) {
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        judged => judged?,
    };
    for first in segments(folder).unwrap_or_default() {
        findings.extend(files::inspect_private_file(&super::journal::segment_path(folder, first))?);
    }
    Ok(findings)
}

fn size(folder: &Path) -> Result<u64, AuditError> {
    let lengths = segments(folder)?.into_iter().map(|first| super::journal::segment_path(folder, first));
    Ok(lengths.filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum())
}

/// Replays all orphans. One that cannot be read is reported and left for the next start.
pub(super) async fn replay_all(store: &Store, orphans: Vec<Orphan>, progress: &Progress) {
    for orphan in orphans {
        let bytes = orphan.bytes;
        let folder = orphan.folder.clone();
        match replay(store, orphan, progress).await {
            Ok(calls) => {
                tracing::info!(folder = %folder.display(), unknown = calls, "the journal of a gateway that has ended was adopted")
            }
            Err(error) => {
                let cause: &dyn std::error::Error = &error;
                tracing::error!(folder = %folder.display(), cause, "a journal cannot be adopted; it stays for the next start");
            }
        }
        progress.adopted(bytes);
    }
    progress.adopter.lock().take();
}

/// Replays one journal from where the dead instance had come to, and closes its open calls. Returns their number.
///
/// Every step may be repeated after a crash: the position skips what is in the store, the store ignores what it has,
/// and the folder goes last.
async fn replay(store: &Store, orphan: Orphan, progress: &Progress) -> Result<u64, AuditError> {
    let instance = orphan.instance;
    let name = instance.simple().to_string();
    let slot = &progress.adopter;
    let position = persist(slot, || store.position(&name)).await;
    let folder = orphan.folder.clone();
    let mut damaged = false;
    if let Some(first) = blocking(move || Reader::oldest(&folder)).await? {
        if first > position + 1 {
            tracing::error!(
                instance = name,
                from = position + 1,
                to = first - 1,
                "records are missing from a journal"
            );
        }
        let mut reader = Reader::new(&orphan.folder, first);
        loop {
            let (back, batch) = blocking(move || {
                let batch = reader.batch(BATCH_RECORDS, None);
                batch.map(|batch| (reader, batch))
            })
            .await?;
            reader = back;
            if batch.records.is_empty() {
                break;
            }
            let mut batch = batch;
            let begin = batch.last + 1 - batch.records.len() as u64;
            let known = (position + 1).saturating_sub(begin).min(batch.records.len() as u64);
            batch.records.drain(..usize::try_from(known).unwrap_or_default());
            if !batch.records.is_empty() {
                let batch = Arc::new(batch);
                persist(slot, || store.apply(instance, &batch)).await;
            }
        }
        let rest = blocking(move || reader.rest()).await?;
        damaged = rest.damaged;
        if rest.damaged {
            tracing::error!(
                instance = name,
                bytes = rest.bytes,
                "a journal is damaged; its folder is set aside"
            );
        } else if rest.bytes > 0 {
            tracing::warn!(
                instance = name,
                bytes = rest.bytes,
                "the last record of a journal was torn and is dropped"
            );
        }
    }
    let calls = persist(slot, || store.abandon(&name, DIED)).await;
    let folder = orphan.folder.clone();
    blocking(move || if damaged { set_aside(&folder) } else { Ok(std::fs::remove_dir_all(&folder)?) })
        .await?;
    persist(slot, || store.forget(&name)).await;
    Ok(calls)
}

/// Moves a damaged folder aside, where no start looks for it, as evidence.
fn set_aside(folder: &Path) -> Result<(), AuditError> {
    let (Some(root), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    let shelf = root.join("damaged");
    super::journal::create_folder(&shelf)?;
    Ok(std::fs::rename(folder, shelf.join(name))?)
}
