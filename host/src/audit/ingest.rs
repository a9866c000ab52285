//! Moves the journal into the database in the background, in batches, and tries again for ever.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::journal::Journal;
use super::persist::{LONGEST_PAUSE, SHORTEST_PAUSE, blocking, complain, persist};
use super::progress::Progress;
use super::reader::{Batch, Reader, delete_before};
use super::recover::{Orphan, replay_all};
use super::retention::Retention;
use super::store::{BATCH_RECORDS, Store};
use super::{AuditError, StoreSettings};

/// How long a batch collects: long enough that the ends of quick calls join their beginnings in one row.
const LINGER: Duration = Duration::from_millis(50);
/// What the record says of a call that was still open at an orderly end.
const STOPPED: &str = "the gateway stopped before the outcome was known";

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
