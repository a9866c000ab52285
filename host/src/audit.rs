//! The record of every call: written to a journal before the effect, moved into a database behind it.
//!
//! ```text
//! intent, outcome ─ redact ─ queue ─ seal ─ write(2) ─▶ journal folder ─ mover ─▶ SQLite or PostgreSQL
//!                                     └ strict: fdatasync, one for all who wait
//! ```
//!
//! The journal is what the database works off. Its records are numbered without gaps; a batch goes in in one transaction
//! with the number of its last record, so each record arrives exactly once, whatever dies in between. An instance
//! holds a lock on its folder; a folder nobody holds belongs to a dead instance and is taken over at the next start.
//! A database that is down delays nothing: the journal grows to its limit, and only then are calls refused.

mod adopt;
mod arguments;
mod journal;
mod mover;
pub mod query;
mod queue;
mod reader;
mod record;
mod store;
mod syncer;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use journal::{Admission, Journal};
use mover::Progress;

pub use words::{CallId, Closing, Entry, Health, Status};

use crate::redact::Redaction;
use crate::text;

/// How long [`Audit::close`] waits for the store.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// When the operating system has it: survives the death of the process, not that of the machine.
    #[default]
    Process,
    /// When the disk has it.
    Strict,
}

/// The database behind the journal.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// A file, which several instances on one machine may share. It and its folder are created.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
    /// A server, which any number of instances may share.
    Postgres {
        /// `postgres://user:password@host:port/database`.
        url: String,
        /// At most this many connections at once.
        max_connections: u32,
    },
}

impl fmt::Debug for StoreSettings {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => f.debug_struct("Sqlite").field("path", path).finish(),
            Self::Postgres { max_connections, .. } => {
                f.debug_struct("Postgres").field("max_connections", max_connections).finish_non_exhaustive()
            }
        }
    }
}

/// What the audit needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When a record counts as written.
    pub mode: Mode,
    /// The folder that holds `journal/`; several instances may share it.
    pub dir: PathBuf,
    /// The database.
    pub store: StoreSettings,
    /// What takes secrets out of everything that is recorded.
    pub redaction: Redaction,
    /// Longer arguments are stored as their digest and their beginning.
    pub max_arguments_bytes: usize,
    /// With this many bytes not yet in the database, new calls are refused.
    pub max_journal_bytes: u64,
}

/// Why something could not be recorded, moved or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A folder or file of the audit cannot be used.
    #[error("the audit cannot use {}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The thread that syncs the journal could not be started.
    #[error("the thread that syncs the audit journal cannot be started")]
    Thread(#[source] std::io::Error),
    /// The record could not be written.
    #[error("the audit journal cannot be written")]
    Write(#[source] std::io::Error),
    /// The journal could not be read.
    #[error("the audit journal cannot be read")]
    Read(#[from] std::io::Error),
    /// The record was to be written together with others, and that failed.
    #[error(transparent)]
    Together(Arc<Self>),
    /// The database has fallen too far behind.
    #[error("the audit journal holds {backlog} bytes that are not in the database yet; its limit is {limit}")]
    Full {
        /// Bytes not yet in the database.
        backlog: u64,
        /// The configured limit.
        limit: u64,
    },
    /// The journal failed in a way after which nothing can be promised any more.
    #[error("the audit journal failed: {0}")]
    Poisoned(String),
    /// The disk did not answer in time.
    #[error("the audit journal was not synced within 10 seconds")]
    SlowSync,
    /// The audit was closed.
    #[error("the audit is closed")]
    Closed,
    /// A record in the journal of this living instance is damaged.
    #[error("the audit journal is damaged after record {0}")]
    Damaged(u64),
    /// The database refused or did not answer.
    #[error("the audit database failed")]
    Store(#[from] sqlx::Error),
    /// SQLite refused what the mover brought.
    #[error("the audit database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The tables could not be created or updated.
    #[error("the tables of the audit database cannot be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Closing took too long; the next start moves the rest.
    #[error("{backlog} bytes of the audit journal are not in the database yet; the next start moves them")]
    Unfinished {
        /// Bytes left in the journal.
        backlog: u64,
    },
}

impl AuditError {
    fn folder(path: &Path, source: std::io::Error) -> Self {
        Self::Folder { path: path.to_owned(), source }
    }
}

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
    max_arguments_bytes: usize,
    progress: Arc<Progress>,
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
        let progress = Arc::new(Progress::new(&orphans));
        let mover = mover::run(Arc::clone(&journal), settings.store.clone(), orphans, Arc::clone(&progress));
        let live = Live {
            journal,
            redaction: settings.redaction,
            max_arguments_bytes: settings.max_arguments_bytes,
            progress,
            mover: Mutex::new(Some(tokio::spawn(mover))),
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

    async fn record(
        &self,
        id: CallId,
        entry: Option<&Entry<'_>>,
        closing: Option<&Closing<'_>>,
        admission: Admission,
    ) -> Result<(), AuditError> {
        let Some(live) = &self.0.live else { return Ok(()) };
        let append = |bytes: &[u8]| live.journal.append(bytes, admission);
        let turn =
            record::build((&live.redaction, live.max_arguments_bytes), id.number, entry, closing, append)?;
        let sequence = live.journal.settle(turn).await?;
        live.journal.wait_synced(sequence).await
    }

    /// How the audit is doing. A disabled one is healthy.
    #[must_use]
    pub fn status(&self) -> Health {
        let Some(live) = &self.0.live else {
            return Health { healthy: true, reason: None, backlog_bytes: 0 };
        };
        // A database driver may repeat what it was told.
        let reason = live.journal.complaint().or_else(|| live.progress.complaint());
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

    /// Refuses further records and waits, at most 10 seconds, until all are in the database.
    ///
    /// # Errors
    /// [`AuditError::Unfinished`] if some are not; the next start moves them.
    pub async fn close(self) -> Result<(), AuditError> {
        let Some(live) = &self.0.live else { return Ok(()) };
        live.journal.close();
        let mover = live.mover.lock().take();
        let finished = match mover {
            None => true,
            Some(mut mover) => {
                let ended = tokio::time::timeout(CLOSE_TIMEOUT, &mut mover).await;
                mover.abort();
                matches!(ended, Ok(Ok(())))
            }
        };
        live.journal.stop();
        let backlog = live.journal.backlog() + live.progress.orphan_bytes();
        if finished { Ok(()) } else { Err(AuditError::Unfinished { backlog }) }
    }
}

/// The part of an instance's name that its call ids carry: random in a version 7 UUID.
fn short(instance: Uuid) -> u64 {
    u64::try_from(instance.as_u128() & 0xffff_ffff_ffff).unwrap_or_default()
}

/// Creates the journal and claims what dead instances left, under one short lock.
fn prepare(settings: &Settings, instance: Uuid) -> Result<(Journal, Vec<adopt::Orphan>), AuditError> {
    let root = settings.dir.join("journal");
    let _lock = journal::lock_root(&root)?;
    let orphans = adopt::claim(&root)?;
    let name = instance.simple().to_string();
    let strict = settings.mode == Mode::Strict;
    Ok((Journal::create(&root, &name, strict, settings.max_journal_bytes)?, orphans))
}

#[cfg(test)]
mod tests;
