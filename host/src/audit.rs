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
mod space;
mod store;
mod syncer;
mod tally;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use journal::{Admission, Journal};
use progress::Progress;
use space::Space;
use tally::{Place, Shared as SharedRow, Tally};

use crate::files::{self, FileError, Links, Trust};

pub use retention::{Keep, WhenFull};
pub use words::{CallId, Closing, Entry, Health, Status};

use crate::redact::Redaction;
use crate::text;

/// How long [`Audit::close`] waits for a store that takes nothing.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits once every record is there, and only its journal is to be tidied away.
const TIDY_PATIENCE: Duration = Duration::from_secs(3);
/// How long it waits for one that takes something again and again.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// The same for calls that are refused.
    pub max_refused_arguments_bytes: usize,
    /// With this many bytes not yet in the database, new calls are refused.
    pub max_journal_bytes: u64,
    /// How long and how much is kept.
    pub keep: Keep,
    /// With fewer bytes free on the disk, new calls are refused; `None` for what fits the disk, 0 for never.
    pub min_free_bytes: Option<u64>,
    /// Folders that are not judged.
    pub trust: Trust,
}

impl Settings {
    /// Everything in this folder, and all other settings at their defaults.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            mode: Mode::Process,
            store: StoreSettings::Sqlite { path: dir.join("audit.db") },
            dir,
            redaction: Redaction::default(),
            max_arguments_bytes: 4 << 10,
            max_refused_arguments_bytes: 1 << 10,
            max_journal_bytes: 1 << 30,
            keep: Keep::default(),
            min_free_bytes: None,
            trust: Trust::default(),
        }
    }
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
    /// Others could read or change what the audit writes.
    #[error("the audit record would be open to others: {0}")]
    Files(#[from] FileError),
    /// The disk is nearly full.
    #[error(
        "only {free} bytes are free where {} is: calls are refused until it is more than {floor}; make room there, or \
         lower audit.min_free_bytes", path.display()
    )]
    Space {
        /// Where.
        path: PathBuf,
        /// Bytes left.
        free: u64,
        /// The bytes there must be.
        floor: u64,
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
    /// SQLite refused what the ingester brought.
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
    /// The text for callers: whether it helps to try again, and who has to do something.
    #[must_use]
    pub fn for_callers(&self) -> &'static str {
        match self {
            Self::Together(error) => error.for_callers(),
            Self::Space { .. } => {
                "the gateway has too little disk space left to record calls, so it refuses them until its operator makes room"
            }
            Self::Full { .. } => {
                "the gateway's audit database does not take records any more, so calls are refused until it does"
            }
            _ => "the audit record cannot be written",
        }
    }

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
fn places(settings: &Settings) -> Vec<PathBuf> {
    let mut places = vec![settings.dir.join("journal")];
    if let StoreSettings::Sqlite { path } = &settings.store {
        places.extend(path.parent().map(Path::to_owned));
    }
    places
}

/// The part of an instance's name that its call ids carry: random in a version 7 UUID.
fn short(instance: Uuid) -> u64 {
    u64::try_from(instance.as_u128() & 0xffff_ffff_ffff).unwrap_or_default()
}

/// Creates the journal and claims what dead instances left, under one short lock.
///
/// The folder must be one into which nobody else can have put anything, and that nobody else can read.
fn prepare(settings: &Settings, instance: Uuid) -> Result<(Journal, Vec<recover::Orphan>), AuditError> {
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

#[cfg(test)]
mod tests;
