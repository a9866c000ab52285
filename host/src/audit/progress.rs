//! How far the record is on its way into the database.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::journal::Journal;
use super::{CLOSE_PATIENCE, TIDY_PATIENCE};

/// The state of the ingester, for other modules.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) moved: watch::Sender<u64>,
    orphans: AtomicU64,
    /// Why the ingester makes no progress now, if so.
    pub(super) mover: Mutex<Option<String>>,
    /// Why the adoption of dead journals makes no progress now, if so.
    pub(super) adopter: Mutex<Option<String>>,
}

impl Progress {
    /// `orphans` is how many bytes dead instances left in their journals.
    pub(super) fn new(orphans: u64) -> Self {
        Self {
            moved: watch::Sender::new(0),
            orphans: AtomicU64::new(orphans),
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

    /// Waits for the end of the ingester, as long as it brings something into the store, and not for long once everything is
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
