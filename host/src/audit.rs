//! The record of every call: written to a journal before the effect, moved into a database behind it.
//!
//! ```text
//! intent, outcome ─ redact ─ queue ─ seal ─ write(2) ─▶ journal folder ─ ingest ─▶ SQLite or PostgreSQL
//!                                     └ strict: fdatasync, one for all who wait
//! ```
//!
//! The journal is what the database works off. Its records are numbered without gaps; a batch goes in in one transaction
//! with the number of its last record, so each record arrives exactly once, whatever dies in between. An instance
//! holds a lock on its folder; a folder nobody holds belongs to a dead instance and is taken over at the next start.
//! A database that is down delays nothing: the journal grows to its limit, and only then are calls refused.

mod arguments;
mod error;
mod folder;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod ingest;
mod journal;
mod persist;
mod progress;
pub mod query;
mod queue;
mod reader;
mod record;
mod recover;
mod retention;
mod row;
mod settings;
mod space;
mod store;
mod syncer;
mod tally;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use folder::{places, prepare};
use journal::{Admission, Journal};
use progress::Progress;
use space::Space;
use tally::{Place, Shared as SharedRow, Tally};

pub use error::AuditError;
pub use folder::open_to_others;
pub use settings::{Keep, Mode, Settings, StoreSettings, WhenFull};
pub use words::{CallId, Closing, Entry, Health, Status};

use crate::redact::Redaction;
use crate::text;

/// How long [`Audit::close`] waits for a store that takes nothing.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits once every record is there, and only its journal is to be tidied away.
const TIDY_PATIENCE: Duration = Duration::from_secs(3);
/// How long it waits for one that takes something again and again.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The audit of one gateway instance. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    instance: u64,
    calls: AtomicU64,
    /// `None` if auditing is switched off.
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    journal: Arc<Journal>,
    redaction: Redaction,
    max_arguments_bytes: AtomicUsize,
    max_refused_arguments_bytes: AtomicUsize,
    /// How long and how much the ingester keeps.
    keep: Arc<Mutex<Keep>>,
    progress: Arc<Progress>,
    space: Space,
    tally: Tally,
    /// Whether the last record could not be written, so that the log says it once.
    failing: AtomicBool,
    mover: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Live {
    /// Without [`Audit::close`] this is a crash: the journal stays as it is, for the next start to adopt.
    fn drop(&mut self) {
        self.journal.stop();
        if let Some(mover) = self.mover.lock().take() {
            mover.abort();
        }
    }
}

impl Audit {
    /// Opens a journal for this instance and takes over those of dead ones; connects to the database in the
    /// background, so that one that is down does not delay the start.
    ///
    /// # Errors
    /// The journal cannot be created.
    pub async fn open(settings: Settings) -> Result<Self, AuditError> {
        let instance = Uuid::now_v7();
        let opened = tokio::task::spawn_blocking({
            let settings = settings.clone();
            move || prepare(&settings, instance)
        });
        let (journal, orphans) = opened.await.map_err(|error| AuditError::Thread(error.into()))??;
        let journal = Arc::new(journal);
        if settings.mode == Mode::Strict {
            syncer::start(Arc::clone(&journal))?;
        }
        let progress = Arc::new(Progress::new(orphans.iter().map(|orphan| orphan.bytes).sum()));
        let keeping = retention::Retention::new(&settings, &journal.instance);
        let keep = keeping.wanted();
        let mover = ingest::run(
            Arc::clone(&journal),
            settings.store.clone(),
            orphans,
            Arc::clone(&progress),
            keeping,
        );
        let live = Live {
            max_arguments_bytes: AtomicUsize::new(settings.max_arguments_bytes),
            max_refused_arguments_bytes: AtomicUsize::new(settings.max_refused_arguments_bytes),
            keep,
            progress,
            space: Space::new(places(&settings), settings.min_free_bytes),
            redaction: settings.redaction,
            tally: Tally::default(),
            failing: AtomicBool::new(false),
            mover: Mutex::new(Some(tokio::spawn(mover))),
            journal,
        };
        Ok(Self::with(instance, Some(live)))
    }

    /// An audit that records nothing, for `audit_enabled = false`. Its ids are as unique as any.
    #[must_use]
    pub fn disabled() -> Self {
        Self::with(Uuid::now_v7(), None)
    }

    fn with(instance: Uuid, live: Option<Live>) -> Self {
        Self(Arc::new(Shared { instance: short(instance), calls: AtomicU64::new(0), live }))
    }

    /// Puts other bounds in the place of those that it was opened with: the next record, and the next turn of the ingester, find
    /// them. Where the record is stays as it is.
    pub fn bound(&self, settings: &Settings) {
        let Some(live) = &self.0.live else { return };
        live.max_arguments_bytes.store(settings.max_arguments_bytes, Ordering::Relaxed);
        live.max_refused_arguments_bytes.store(settings.max_refused_arguments_bytes, Ordering::Relaxed);
        live.journal.bound(settings.max_journal_bytes);
        live.space.bound(settings.min_free_bytes);
        *live.keep.lock() = settings.keep;
        live.journal.work.notify_one();
    }

    /// The name of the next call.
    #[must_use]
    pub fn next_id(&self) -> CallId {
        CallId { instance: self.0.instance, number: self.0.calls.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Records what is about to happen. Only after this may it happen.
    ///
    /// # Errors
    /// The intent is not on record: the call must be refused.
    pub async fn intent(&self, id: CallId, entry: &Entry<'_>) -> Result<(), AuditError> {
        self.record(id, Some(entry), None, Admission::New).await
    }

    /// Records how a call ended whose intent is on record.
    ///
    /// # Errors
    /// The outcome is not on record; the call stays `pending` until this instance ends.
    pub async fn outcome(&self, id: CallId, closing: &Closing<'_>) -> Result<(), AuditError> {
        self.record(id, None, Some(closing), Admission::Ending).await
    }

    /// Records a call that was refused before it could have any effect.
    ///
    /// # Errors
    /// The refusal is not on record.
    pub async fn refused(
        &self,
        id: CallId,
        entry: &Entry<'_>,
        closing: &Closing<'_>,
    ) -> Result<(), AuditError> {
        self.record(id, Some(entry), Some(closing), Admission::New).await
    }

    /// Records a refusal of which there may be any number, because nothing limits them or they are what a limit is
    /// made of. Of each source and status the first ten within a minute leave a row each, the rest one row with their
    /// number; none holds arguments. `source` is who or where they come from.
    ///
    /// # Errors
    /// The refusal is not on record.
    pub async fn refused_often(
        &self,
        id: CallId,
        source: &str,
        entry: &Entry<'_>,
        closing: &Closing<'_>,
    ) -> Result<(), AuditError> {
        let Some(live) = &self.0.live else { return Ok(()) };
        let entry = Entry { arguments: "", ..*entry };
        match live.tally.arrive(source, closing.status, id, Instant::now()) {
            Place::Counted => Ok(()),
            Place::Own => self.record(id, Some(&entry), Some(closing), Admission::New).await,
            Place::Opens(window) => {
                // The row is there before it is counted in; if this process dies, it stays without a number.
                let opened = self.record(id, Some(&entry), None, Admission::New).await;
                if opened.is_err() {
                    live.tally.give_up(&window);
                    return opened;
                }
                let shared = Arc::downgrade(&self.0);
                tokio::spawn(async move {
                    tokio::time::sleep(tally::WINDOW).await;
                    if let Some(shared) = shared.upgrade() {
                        Self(shared).close_window(&window).await;
                    }
                });
                Ok(())
            }
        }
    }

    async fn close_window(&self, window: &str) {
        let shared = self.0.live.as_ref().and_then(|live| live.tally.close(window));
        if let Some(shared) = shared {
            self.count(&shared).await;
        }
    }

    /// Says in a shared row how many it stands for.
    async fn count(&self, row: &SharedRow) {
        let text =
            format!("{} refusals like this one from the same source are counted in this row", row.count);
        let notes = [("refusals".to_owned(), row.count.to_string())];
        let latency = row.since.elapsed();
        let closing = Closing { status: row.status, error: Some(&text), latency, notes: &notes };
        // What fails here is in the log, and the row stays without a number.
        let _said = self.outcome(row.id, &closing).await;
    }

    async fn record(
        &self,
        id: CallId,
        entry: Option<&Entry<'_>>,
        closing: Option<&Closing<'_>>,
        admission: Admission,
    ) -> Result<(), AuditError> {
        let Some(live) = &self.0.live else { return Ok(()) };
        let written = live.write(id, entry, closing, admission).await;
        live.report(&written);
        written
    }

    /// How the audit is doing. A disabled one is healthy.
    #[must_use]
    pub fn status(&self) -> Health {
        let Some(live) = &self.0.live else {
            return Health { healthy: true, reason: None, backlog_bytes: 0 };
        };
        // Looks at the disk as well, so that a gateway without calls finds out that there is room again.
        let reason = live.space.check().err().map(|error| error.to_string());
        let reason = reason.or_else(|| live.journal.complaint()).or_else(|| live.progress.complaint());
        // A database driver may repeat what it was told.
        let reason = reason.map(|reason| live.redaction.excerpt(&reason, text::SHORT));
        let backlog_bytes = live.journal.backlog() + live.progress.orphan_bytes();
        Health { healthy: reason.is_none(), reason, backlog_bytes }
    }

    /// Waits until everything this instance has recorded so far is in the database, however long that takes.
    pub async fn flush(&self) {
        if let Some(live) = &self.0.live {
            live.progress.wait_moved(live.journal.last()).await;
        }
    }

    /// Refuses further records and waits until all are in the database: for 10 seconds in which none gets there, and at
    /// most a minute.
    ///
    /// # Errors
    /// [`AuditError::Unfinished`] if some are not; the next start moves them.
    pub async fn close(self) -> Result<(), AuditError> {
        let Some(live) = &self.0.live else { return Ok(()) };
        for row in live.tally.close_all() {
            self.count(&row).await;
        }
        live.journal.close();
        let mover = live.mover.lock().take();
        let finished = match mover {
            None => true,
            Some(mut mover) => {
                let ended =
                    tokio::time::timeout(CLOSE_TIMEOUT, live.progress.end_of(&mut mover, &live.journal))
                        .await;
                mover.abort();
                ended.unwrap_or(false)
            }
        };
        live.journal.stop();
        match live.journal.backlog() {
            0 if finished => Ok(()),
            // Every record is where it belongs. What is left is to be tidied up, or of gateways before this one.
            0 => {
                let of_others = live.progress.orphan_bytes();
                tracing::info!(
                    bytes_of_earlier_gateways = of_others,
                    "the record is complete; what is left of earlier journals is moved at the next start"
                );
                Ok(())
            }
            backlog => Err(AuditError::Unfinished { backlog }),
        }
    }
}

impl Live {
    async fn write(
        &self,
        id: CallId,
        entry: Option<&Entry<'_>>,
        closing: Option<&Closing<'_>>,
        admission: Admission,
    ) -> Result<(), AuditError> {
        if admission == Admission::New {
            self.space.check()?;
        }
        let append = |bytes: &[u8]| self.journal.append(bytes, admission);
        let limits = record::Limits {
            arguments: self.max_arguments_bytes.load(Ordering::Relaxed),
            refused: self.max_refused_arguments_bytes.load(Ordering::Relaxed),
        };
        let turn = record::build((&self.redaction.current(), limits), id.number, entry, closing, append)?;
        let sequence = self.journal.settle(turn).await?;
        self.journal.wait_synced(sequence).await
    }

    /// Says in the log when recording begins to fail and when it works again; not for each call.
    fn report(&self, written: &Result<(), AuditError>) {
        match written {
            Ok(()) if !self.failing.load(Ordering::Relaxed) => {}
            Ok(()) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("calls are recorded again");
                }
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    let cause = std::error::Error::source(error).map(ToString::to_string);
                    tracing::error!(cause, "calls cannot be recorded and are refused: {error}");
                }
            }
        }
    }
}

/// The part of an instance's name that its call ids carry: random in a version 7 UUID.
fn short(instance: Uuid) -> u64 {
    u64::try_from(instance.as_u128() & 0xffff_ffff_ffff).unwrap_or_default()
}

#[cfg(test)]
mod tests;
