//! The file that makes an intent survive the death of the process: appended to with one `write`, and read by the ingester
//! as a queue.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Notify, watch};

use super::AuditError;
use super::queue::{Queue, Records, Turn};
use super::record::{KEPT_BUFFER_BYTES, seal};
use crate::files;

/// A segment that reached this length is followed by the next one, so that moved records can be deleted.
pub(super) const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// How long a call waits for the disk in strict mode before it is refused.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

/// The journal of one instance: a locked folder of segments named after their first sequence number.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) instance: String,
    pub(super) folder: PathBuf,
    /// The opened and locked folder: as long as this lives, nobody else takes the folder for a dead one.
    lock: File,
    queue: Queue,
    writer: Mutex<Writer>,
    /// Wakes the syncer thread.
    written: Condvar,
    /// Wakes the ingester.
    pub(super) work: Notify,
    strict: bool,
    limit: AtomicU64,
    segment_bytes: u64,
    /// Bytes appended so far, in all segments.
    appended: AtomicU64,
    /// The part of `appended` that is in the store.
    moved: AtomicU64,
    pub(super) synced: watch::Sender<Synced>,
}

/// Everything the lock protects.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) file: Arc<File>,
    /// The first sequence number of the current segment.
    segment: u64,
    /// Whole records in the current segment, in bytes.
    length: u64,
    next: u64,
    line: Vec<u8>,
    /// Finished segments not yet synced; only filled in strict mode.
    unsynced: VecDeque<Arc<File>>,
    pub(super) folder_changed: bool,
    /// Why nothing more may be written.
    poison: Option<String>,
    /// Why the last write failed; forgotten when one succeeds.
    complaint: Option<String>,
    closed: bool,
    pub(super) stopping: bool,
}

/// How far strict mode has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Synced {
    /// The last sequence number on stable storage.
    pub(super) upto: u64,
    pub(super) failed: Option<String>,
}

/// Whether a full journal refuses a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// A new call: refused while the backlog is at its limit.
    New,
    /// The end of an admitted call: always taken, since there are no more of them than calls in flight.
    Ending,
}

impl Journal {
    /// Creates and locks the folder of a new instance below `root` and its first segment. The caller holds the lock
    /// of `root`, see [`lock_root`].
    pub(super) fn create(root: &Path, instance: &str, strict: bool, limit: u64) -> Result<Self, AuditError> {
        let folder = root.join(instance);
        create_folder(&folder)?;
        let lock = File::open(&folder).map_err(|e| AuditError::folder(&folder, e))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| AuditError::folder(&folder, e.into()))?;
        let file = Arc::new(create_segment(&folder, 1)?);
        let writer = Writer {
            file,
            segment: 1,
            length: 0,
            next: 1,
            line: Vec::with_capacity(4096),
            unsynced: VecDeque::new(),
            folder_changed: true,
            poison: None,
            complaint: None,
            closed: false,
            stopping: false,
        };
        Ok(Self {
            instance: instance.to_owned(),
            folder,
            lock,
            queue: Queue::default(),
            writer: Mutex::new(writer),
            written: Condvar::new(),
            work: Notify::new(),
            strict,
            limit: AtomicU64::new(limit),
            segment_bytes: SEGMENT_BYTES,
            appended: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            synced: watch::Sender::new(Synced::default()),
        })
    }

    /// From now on the journal may hold so many bytes that are not in the database.
    pub(super) fn bound(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes one record in; [`Self::settle`] has it written.
    ///
    /// # Errors
    /// The journal is full (only for [`Admission::New`]).
    pub(super) fn append(&self, record: &[u8], admission: Admission) -> Result<Turn, AuditError> {
        let backlog = self.backlog();
        let limit = self.limit.load(Ordering::Relaxed);
        if admission == Admission::New && backlog >= limit {
            return Err(AuditError::Full { backlog, limit });
        }
        Ok(self.queue.push(record))
    }

    /// Waits until the record is written. Returns its sequence number, or that of a later one.
    ///
    /// # Errors
    /// The journal is closed, poisoned, or the write failed; then the record is not in the journal, and what reached
    /// the file of it is cut off again.
    pub(super) async fn settle(&self, turn: Turn) -> Result<u64, AuditError> {
        self.queue.settle(turn, |records| self.write(records)).await
    }

    /// Writes records with one `write`, all of them or none.
    fn write(&self, records: &Records) -> Result<u64, AuditError> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        if let Some(reason) = &writer.poison {
            return Err(AuditError::Poisoned(reason.clone()));
        }
        if writer.closed {
            return Err(AuditError::Closed);
        }
        if writer.length >= self.segment_bytes
            && let Err(error) = self.rotate(writer)
        {
            writer.complaint = Some(format!("the audit journal cannot be continued: {error}"));
            return Err(error);
        }
        writer.line.clear();
        let mut next = writer.next;
        for record in records.iter() {
            seal(next, record, &mut writer.line);
            next += 1;
        }
        let mut written = write_once(&writer.file, &writer.line);
        // The system may bound files below what a segment may have (`ulimit -f`): the next file has room again.
        let full =
            |error: &std::io::Error| matches!(error.kind(), ErrorKind::FileTooLarge | ErrorKind::StorageFull);
        if written.as_ref().is_err_and(full)
            && writer.length > 0
            && rustix::fs::ftruncate(&*writer.file, writer.length).is_ok()
            && self.rotate(writer).is_ok()
        {
            written = write_once(&writer.file, &writer.line);
        }
        if let Err(error) = written {
            writer.complaint = Some(format!("the audit journal cannot be written: {error}"));
            // A torn record in the middle would end the journal for the reader, so it has to go.
            if let Err(undo) = rustix::fs::ftruncate(&*writer.file, writer.length) {
                writer.poison = Some(format!("{error}, and the torn record cannot be removed: {undo}"));
            }
            return Err(AuditError::Write(error));
        }
        let bytes = writer.line.len() as u64;
        writer.next = next;
        writer.length += bytes;
        writer.complaint = None;
        writer.line.shrink_to(KEPT_BUFFER_BYTES);
        self.appended.fetch_add(bytes, Ordering::Release);
        if self.strict {
            self.written.notify_one();
        }
        self.work.notify_one();
        Ok(next - 1)
    }

    /// Waits until the record `sequence` is on stable storage; returns at once outside strict mode.
    pub(super) async fn wait_synced(&self, sequence: u64) -> Result<(), AuditError> {
        if !self.strict {
            return Ok(());
        }
        let mut synced = self.synced.subscribe();
        let done = synced.wait_for(|state| state.upto >= sequence || state.failed.is_some());
        let Ok(state) = tokio::time::timeout(SYNC_TIMEOUT, done).await else {
            return Err(AuditError::SlowSync);
        };
        match state.as_deref() {
            Ok(state) if state.upto >= sequence => Ok(()),
            Ok(Synced { failed: Some(reason), .. }) => Err(AuditError::Poisoned(reason.clone())),
            Ok(_) | Err(_) => Err(AuditError::Closed),
        }
    }

    fn rotate(&self, writer: &mut Writer) -> Result<(), AuditError> {
        let next = Arc::new(create_segment(&self.folder, writer.next)?);
        let full = std::mem::replace(&mut writer.file, next);
        if self.strict {
            writer.unsynced.push_back(full);
        }
        writer.folder_changed = true;
        writer.segment = writer.next;
        writer.length = 0;
        Ok(())
    }

    /// Waits (blocking) for records that are not synced: their files, whether the folder changed, and the last
    /// sequence number. `None` when the instance stops.
    pub(super) fn unsynced(&self) -> Option<(Vec<Arc<File>>, bool, u64)> {
        let mut writer = self.writer.lock();
        while !writer.stopping && writer.next - 1 == self.synced.borrow().upto {
            self.written.wait(&mut writer);
        }
        if writer.stopping {
            return None;
        }
        let mut files: Vec<Arc<File>> = writer.unsynced.drain(..).collect();
        files.push(Arc::clone(&writer.file));
        let folder_changed = std::mem::take(&mut writer.folder_changed);
        Some((files, folder_changed, writer.next - 1))
    }

    /// Makes what the folder lists durable.
    pub(super) fn sync_folder(&self) -> std::io::Result<()> {
        self.lock.sync_all()
    }

    /// Ends the journal: no later call can be recorded, so none may happen.
    pub(super) fn poison(&self, reason: String) {
        self.writer.lock().poison = Some(reason.clone());
        self.synced.send_modify(|state| state.failed = Some(reason));
    }

    /// Refuses every later record, as the last step before the rest is moved.
    pub(super) fn close(&self) {
        self.writer.lock().closed = true;
        self.work.notify_one();
    }

    /// Ends the syncer thread.
    pub(super) fn stop(&self) {
        let mut writer = self.writer.lock();
        writer.closed = true;
        writer.stopping = true;
        self.written.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.writer.lock().closed
    }

    /// The segment being written and its length in whole records; every earlier segment is finished.
    pub(super) fn frontier(&self) -> (u64, u64) {
        let writer = self.writer.lock();
        (writer.segment, writer.length)
    }

    /// The last sequence number written.
    pub(super) fn last(&self) -> u64 {
        self.writer.lock().next - 1
    }

    /// Bytes written and not yet in the store.
    pub(super) fn backlog(&self) -> u64 {
        self.appended.load(Ordering::Acquire).saturating_sub(self.moved.load(Ordering::Acquire))
    }

    /// Says that `bytes` more are in the store.
    pub(super) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::AcqRel);
    }

    /// What keeps records from being written.
    pub(super) fn complaint(&self) -> Option<String> {
        let writer = self.writer.lock();
        if let Some(reason) = &writer.poison {
            return Some(format!("the audit journal failed: {reason}"));
        }
        if let Some(complaint) = &writer.complaint {
            return Some(complaint.clone());
        }
        drop(writer);
        let backlog = self.backlog();
        let limit = self.limit.load(Ordering::Relaxed);
        (backlog >= limit).then(|| AuditError::Full { backlog, limit }.to_string())
    }

    /// For tests: small segments, and access to the file.
    #[cfg(test)]
    pub(super) fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    #[cfg(test)]
    pub(super) fn writer(&self) -> parking_lot::MutexGuard<'_, Writer> {
        self.writer.lock()
    }
}

/// Takes the lock under which folders of `root` are created and adopted, and waits until it is free. It is held for a
/// moment only; without it a folder just created and not yet locked would look like a dead one.
pub(super) fn lock_root(root: &Path) -> Result<File, AuditError> {
    let path = root.join(".lock");
    let file = files::open_private(&path)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|e| AuditError::folder(&path, e.into()))?;
    Ok(file)
}

/// Creates a folder of the journal's own, below one that was found private.
pub(super) fn create_folder(folder: &Path) -> Result<(), AuditError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(AuditError::folder(folder, error)),
        _ => Ok(()),
    }
}

/// The file of the segment whose first record is `first`.
pub(super) fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

fn create_segment(folder: &Path, first: u64) -> Result<File, AuditError> {
    let path = segment_path(folder, first);
    files::create_private(&path).map_err(|e| AuditError::folder(&path, e))
}

/// One `write`: a second one could leave another instance's reader, or a crash, between the halves of a record.
fn write_once(mut file: &File, line: &[u8]) -> std::io::Result<()> {
    loop {
        return match file.write(line) {
            Ok(bytes) if bytes == line.len() => Ok(()),
            Ok(_) => Err(std::io::ErrorKind::StorageFull.into()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}
