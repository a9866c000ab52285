//! Moves the journal into the database in the background, in batches, and tries again for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::adopt::{Orphan, replay_all};
use super::journal::Journal;
use super::reader::{Batch, Reader, delete_before};
use super::retention::Retention;
use super::store::{BATCH_RECORDS, Store};
use super::{AuditError, CLOSE_PATIENCE, StoreSettings, TIDY_PATIENCE};
use crate::text;

/// How long a batch collects: long enough that the ends of quick calls join their beginnings in one row.
const LINGER: Duration = Duration::from_millis(50);
/// The pause after a failure; it doubles up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What the record says of a call that was still open at an orderly end.
const STOPPED: &str = "the gateway stopped before the outcome was known";

/// The state of the mover, for other modules.
#[derive(Debug)]
pub(super) struct Progress {
    moved: watch::Sender<u64>,
    orphans: AtomicU64,
    /// Why the mover makes no progress now, if so.
    pub(super) mover: Mutex<Option<String>>,
    /// Why the adoption of dead journals makes no progress now, if so.
    pub(super) adopter: Mutex<Option<String>>,
}

impl Progress {
    pub(super) fn new(orphans: &[Orphan]) -> Self {
        Self {
            moved: watch::Sender::new(0),
            orphans: AtomicU64::new(orphans.iter().map(|orphan| orphan.bytes).sum()),
            mover: Mutex::new(Some("the audit database is not connected yet".to_owned())),
            adopter: Mutex::new(None),
        }
    }

    /// Waits until the record `sequence` is in the store.
    pub(super) async fn wait_moved(&self, sequence: u64) {
        let mut moved = self.moved.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _infallible = moved.wait_for(|&moved| moved >= sequence).await;
    }

    /// Waits for the end of the mover, as long as it brings something into the store, and not for long once everything is
    /// there; says whether it came to its end.
    pub(super) async fn end_of(&self, mover: &mut JoinHandle<()>, journal: &Journal) -> bool {
        let mut moved = self.moved.subscribe();
        loop {
            let left = journal.backlog() + self.orphan_bytes();
            let patience = if left == 0 { TIDY_PATIENCE } else { CLOSE_PATIENCE };
            tokio::select! {
                ended = &mut *mover => return ended.is_ok(),
                moving = tokio::time::timeout(patience, moved.changed()) => {
                    if moving.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    pub(super) fn adopted(&self, bytes: u64) {
        self.orphans.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn orphan_bytes(&self) -> u64 {
        self.orphans.load(Ordering::Relaxed)
    }

    pub(super) fn complaint(&self) -> Option<String> {
        let mover = self.mover.lock().clone();
        mover.or_else(|| self.adopter.lock().clone())
    }
}

/// The background task: connect, then adopt dead journals beside moving the own one, until that is closed and empty.
pub(super) async fn run(
    journal: Arc<Journal>,
    settings: StoreSettings,
    orphans: Vec<Orphan>,
    progress: Arc<Progress>,
    mut retention: Retention,
) {
    let store = persist(&progress.mover, || Store::open(&settings, retention.trust())).await;
    tokio::join!(
        replay_all(&store, orphans, &progress),
        move_all(&store, &journal, &progress, &mut retention)
    );
    finish(&store, &journal, &progress).await;
    store.close().await;
}

/// Moves the own journal until it is closed and everything in it has been moved.
async fn move_all(store: &Store, journal: &Journal, progress: &Progress, retention: &mut Retention) {
    let Ok(instance) = Uuid::try_parse(&journal.instance) else { return };
    let mut reader = Reader::new(&journal.folder, 1);
    let mut cleaned = reader.segment();
    loop {
        // In this order: what was written before the journal closed is within the frontier taken after.
        let (closed, last, frontier) = (journal.is_closed(), journal.last(), journal.frontier());
        let (back, batch) = persist_read(&progress.mover, reader, frontier, last).await;
        reader = back;
        let added = batch.bytes;
        if !batch.records.is_empty() {
            let batch = Arc::new(batch);
            persist(&progress.mover, || store.apply(instance, &batch)).await;
            journal.moved(batch.bytes);
            if reader.segment() > cleaned {
                cleaned = reader.segment();
                let folder = journal.folder.clone();
                if let Err(error) = blocking(move || delete_before(&folder, cleaned)).await {
                    tracing::warn!(%error, "a moved journal segment cannot be deleted");
                }
            }
            progress.moved.send_replace(batch.last);
        }
        if closed && reader.position() >= last {
            return;
        }
        // All added rows count; at the end of the gateway the removal of old rows is not waited for.
        let more = !closed && retention.turn(store, added).await;
        if more || reader.position() < last {
            continue;
        }
        let due = async {
            match retention.due() {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Whatever was appended after `last` was read has left a permit here.
            () = journal.work.notified() => {}
            () = due => continue,
        }
        if !journal.is_closed() {
            tokio::time::sleep(LINGER).await;
        }
    }
}

/// The next batch of the own journal. It was written by this process, so what cannot be read is a broken disk: the
/// mover complains and tries again, and the journal fills up to its limit.
async fn persist_read(
    slot: &Mutex<Option<String>>,
    mut reader: Reader,
    frontier: (u64, u64),
    last: u64,
) -> (Reader, Batch) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let read = blocking(move || {
            let batch = reader.batch(BATCH_RECORDS, Some(frontier));
            Ok((reader, batch))
        });
        let error = match read.await {
            Ok((back, batch)) => {
                reader = back;
                match batch {
                    Ok(batch) if batch.records.is_empty() && reader.position() < last => {
                        AuditError::Damaged(reader.position())
                    }
                    Ok(batch) => return (reader, batch),
                    Err(error) => error,
                }
            }
            Err(error) => {
                // The runtime is shutting down and took the reader with it; this task ends with it.
                complain(slot, &error);
                return std::future::pending().await;
            }
        };
        complain(slot, &error);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// After the last record: no call of this instance can end any more, and its folder is removed.
async fn finish(store: &Store, journal: &Journal, progress: &Progress) {
    persist(&progress.mover, || store.abandon(&journal.instance, STOPPED)).await;
    let folder = journal.folder.clone();
    match blocking(move || Ok(std::fs::remove_dir_all(folder)?)).await {
        Ok(()) => persist(&progress.mover, || store.forget(&journal.instance)).await,
        // The next start adopts it and finds everything in the store.
        Err(error) => tracing::warn!(%error, "the journal folder cannot be removed"),
    }
}

/// Tries until it succeeds, with pauses; meanwhile `slot` holds the reason of the failure.
pub(super) async fn persist<T, F>(slot: &Mutex<Option<String>>, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, AuditError>>,
{
    let mut pause = SHORTEST_PAUSE;
    loop {
        match attempt().await {
            Ok(value) => {
                if slot.lock().take().is_some() {
                    tracing::info!("the audit database is reachable");
                }
                return value;
            }
            Err(error) => complain(slot, &error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Remembers the reason of a failure, and logs it if it is a new one.
fn complain(slot: &Mutex<Option<String>>, error: &AuditError) {
    let reason = text::with_causes(error);
    let mut slot = slot.lock();
    if slot.as_ref() != Some(&reason) {
        tracing::warn!(reason, "the audit database is behind; trying again");
        *slot = Some(reason);
    }
}

/// Runs file work away from the threads that serve calls.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuditError> + Send + 'static,
) -> Result<T, AuditError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(AuditError::Read(error.into())),
    }
}
