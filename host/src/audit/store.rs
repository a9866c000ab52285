//! The database: one table of calls, and how far each journal has been moved into it.

mod postgres;
mod sqlite;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use uuid::Uuid;

use super::persist::blocking;
use super::reader::Batch;
use super::record::{Intent, Outcome, Record, storable};
use super::row::{Later, Row};
use super::{AuditError, CallId, StoreSettings, short};
use crate::files::{self, FileError, Links, Trust};

/// At most this many records are moved in one transaction: the more, the less each pays for its end.
pub(super) const BATCH_RECORDS: usize = 1024;
/// How long SQLite waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a connection before the attempt counts as failed and is reported.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Ours alone: in a shared database other programs keep theirs under the default name.
const MIGRATIONS_TABLE: &str = "sentinel_migrations";

/// A connected database, to read.
#[derive(Clone, Debug)]
pub(super) struct Database {
    pub(super) pool: Readable,
    /// The columns that it has: only a gateway that runs brings tables up to date, and a command that reads may come before
    /// it.
    pub(super) later: Later,
}

#[derive(Clone, Debug)]
pub(super) enum Readable {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Database {
    /// Connects to a database that is there.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub(super) async fn connect(settings: &StoreSettings) -> Result<Self, AuditError> {
        const SQLITE: &str = "SELECT name FROM pragma_table_info('audit_calls')";
        const POSTGRES: &str = "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass('audit_calls') \
             AND NOT attisdropped";
        let (pool, found): (_, Vec<String>) = match settings {
            StoreSettings::Sqlite { path } => {
                let pool = connect_sqlite(path).await?;
                let found = sqlx::query_scalar(SQLITE).fetch_all(&pool).await?;
                (Readable::Sqlite(pool), found)
            }
            StoreSettings::Postgres { url, max_connections } => {
                let pool = connect_postgres(url, *max_connections).await?;
                let found = sqlx::query_scalar(POSTGRES).fetch_all(&pool).await?;
                (Readable::Postgres(pool), found)
            }
        };
        let column = |name: &'static str| if found.iter().any(|found| found == name) { name } else { "NULL" };
        Ok(Self { pool, later: Later { sent: column("sent"), generation: column("generation") } })
    }

    pub(super) async fn close(&self) {
        match &self.pool {
            Readable::Sqlite(pool) => pool.close().await,
            Readable::Postgres(pool) => pool.close().await,
        }
    }
}

/// The database as the ingester sees it: its tables are in place, and it takes batches.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Sqlite(sqlite::Writer),
    Postgres(PgPool),
}

impl Store {
    /// Connects, and creates the database file and the tables if they are missing.
    ///
    /// # Errors
    /// The database cannot be reached or its tables cannot be brought up to date.
    pub(super) async fn open(settings: &StoreSettings, trust: &Trust) -> Result<Self, AuditError> {
        match settings {
            StoreSettings::Sqlite { path } => {
                let (file, trust) = (path.clone(), trust.clone());
                blocking(move || create(&file, &trust)).await?;
                let pool = connect_sqlite(path).await?;
                ours(sqlx::migrate!("migrations/sqlite")).run(&pool).await?;
                pool.close().await;
                Ok(Self::Sqlite(sqlite::Writer::open(path.clone()).await?))
            }
            StoreSettings::Postgres { url, max_connections } => {
                let pool = connect_postgres(url, *max_connections).await?;
                ours(sqlx::migrate!("migrations/postgres")).run(&pool).await?;
                Ok(Self::Postgres(pool))
            }
        }
    }

    /// Brings a batch in, exactly once: the whole of it and the new position, or nothing. Applying it again changes
    /// nothing.
    pub(super) async fn apply(&self, instance: Uuid, batch: &Arc<Batch>) -> Result<(), AuditError> {
        match self {
            Self::Sqlite(writer) => writer.apply(instance, batch).await,
            Self::Postgres(pool) => Ok(postgres::apply(pool, instance, batch).await?),
        }
    }

    /// The last record of an instance's journal that is in the store.
    pub(super) async fn position(&self, instance: &str) -> Result<u64, AuditError> {
        let position = match self {
            Self::Sqlite(writer) => writer.position(instance).await?,
            Self::Postgres(pool) => postgres::position(pool, instance).await?,
        };
        Ok(position.and_then(|last| u64::try_from(last).ok()).unwrap_or_default())
    }

    /// Turns the open calls of an instance that has ended into `unknown`, and counts them.
    pub(super) async fn abandon(&self, instance: &str, reason: &str) -> Result<u64, AuditError> {
        match self {
            Self::Sqlite(writer) => writer.abandon(instance, reason).await,
            Self::Postgres(pool) => Ok(postgres::abandon(pool, instance, reason).await?),
        }
    }

    /// Forgets the position in a journal that is gone.
    pub(super) async fn forget(&self, instance: &str) -> Result<(), AuditError> {
        match self {
            Self::Sqlite(writer) => writer.forget(instance).await,
            Self::Postgres(pool) => Ok(postgres::forget(pool, instance).await?),
        }
    }

    /// About what the record takes, in bytes; exact only above `above`, because it may cost a look at every row.
    pub(super) async fn size(&self, above: u64) -> Result<u64, AuditError> {
        match self {
            Self::Sqlite(writer) => writer.size().await,
            Self::Postgres(pool) => Ok(postgres::size(pool, above).await?),
        }
    }

    /// Takes the oldest finished calls out, at most `limit`, no more than give back about `enough` bytes, and none that
    /// arrived at `before` or later: first they are given to `keep`, which must have them safe when it returns. All in
    /// one transaction.
    pub(super) async fn take_oldest(
        &self,
        before: Option<String>,
        limit: u32,
        enough: u64,
        keep: Keeper,
    ) -> Result<Taken, AuditError> {
        match self {
            Self::Sqlite(writer) => writer.take_oldest(before, limit, enough, keep).await,
            Self::Postgres(pool) => postgres::take_oldest(pool, before.as_deref(), limit, enough, keep).await,
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(writer) => writer.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Who has rows safe before they are taken out.
pub(super) type Keeper = Arc<dyn Fn(&[Row]) -> Result<(), AuditError> + Send + Sync>;

/// What was taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) rows: usize,
    /// About what they took, in bytes.
    pub(super) bytes: u64,
}

/// What a row takes besides its long texts, with its places in the indexes, in bytes.
const ROW_BYTES: u64 = 600;

/// About what a row takes, in bytes.
fn about(row: &Row) -> u64 {
    let texts = [
        row.arguments.as_deref().map(RawValue::get),
        row.sent.as_deref().map(RawValue::get),
        row.error.as_deref(),
        row.notes.as_deref().map(RawValue::get),
    ];
    ROW_BYTES + texts.into_iter().flatten().map(|text| text.len() as u64).sum::<u64>()
}

async fn connect_sqlite(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = SqlitePoolOptions::new().max_connections(1);
    pool.acquire_timeout(BUSY_TIMEOUT).connect_with(options).await
}

async fn connect_postgres(url: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.application_name("sentinel-gateway audit");
    let pool = PgPoolOptions::new().max_connections(max_connections.max(1));
    pool.acquire_timeout(CONNECT_TIMEOUT).connect_with(options).await
}

fn ours(mut migrator: Migrator) -> Migrator {
    // A newer gateway may have been here before: during an upgrade both run.
    migrator.set_ignore_missing(true).dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator
}

/// Whether nobody else can read or change the database file or its companions, or the way to it.
///
/// # Errors
/// Everything that is open to others.
pub(super) fn inspect(path: &Path, trust: &Trust) -> Result<(), FileError> {
    let mut findings = Vec::new();
    if let Some(folder) = folder(path) {
        findings.extend(trust.inspect(folder)?);
    }
    for file in [path.to_owned(), companion(path, "-wal"), companion(path, "-shm")] {
        match files::inspect_private_file(&file) {
            Ok(found) => findings.extend(found),
            // What is no file will not be opened either, and connecting says so.
            Err(FileError::Unusable { .. }) => {}
            Err(FileError::Open(found)) => findings.extend(found),
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(FileError::Open(findings)) }
}

fn folder(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

/// The files that SQLite keeps beside a database.
fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Creates the database file, which SQLite would make readable to all; its companions take over the mode it has. A new
/// one can give single pages back to the disk, which has to be said before the first table.
fn create(path: &Path, trust: &Trust) -> Result<(), AuditError> {
    if let Some(folder) = folder(path).filter(|folder| !folder.exists()) {
        trust.private_dir(folder, Links::Followed)?;
    }
    inspect(path, trust)?;
    if files::open_private(path)?.metadata()?.len() == 0 {
        sqlite::begin(path)?;
    }
    Ok(())
}

/// A call as it is going to stand in the table.
struct NewRow<'a> {
    call: i64,
    request_id: String,
    time: String,
    intent: &'a Intent,
    outcome: Option<&'a Outcome>,
}

impl NewRow<'_> {
    /// The columns `rpc_id` to `session`, in the order of the table.
    fn names(&self) -> [Cow<'_, str>; 8] {
        let it = self.intent;
        [&it.rpc_id, &it.method, &it.subject, &it.role, &it.kind, &it.tool, &it.backend, &it.session]
            .map(|name| storable(name))
    }

    fn generation(&self) -> Option<i64> {
        self.intent.generation
    }

    fn arguments(&self) -> Option<&str> {
        self.intent.arguments.as_deref().map(RawValue::get)
    }

    fn sent(&self) -> Option<&str> {
        self.intent.sent.as_deref().map(RawValue::get)
    }
}

/// The values of an ending, or of a call without one.
struct Ending<'a> {
    status: &'a str,
    error: Option<Cow<'a, str>>,
    latency_ms: Option<f64>,
    notes: Option<&'a str>,
}

impl<'a> Ending<'a> {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
    fn new(outcome: Option<&'a Outcome>) -> Self {
        let Some(outcome) = outcome else {
            return Self { status: "pending", error: None, latency_ms: None, notes: None };
        };
        Self {
            status: &outcome.status,
            error: outcome.error.as_deref().map(storable),
            latency_ms: Some(outcome.latency_us as f64 / 1000.0),
            notes: outcome.notes.as_deref().map(RawValue::get),
        }
    }
}

/// Joins the beginnings and ends of calls that are in the same batch; what is left over are ends of older calls.
fn merge(instance: Uuid, records: &[Record]) -> (Vec<NewRow<'_>>, Vec<(i64, &Outcome)>) {
    let mut rows: Vec<NewRow<'_>> = Vec::with_capacity(records.len());
    let mut index: HashMap<i64, usize> = HashMap::with_capacity(records.len());
    let mut endings: Vec<(i64, &Outcome)> = Vec::new();
    let mut ended: HashSet<i64> = HashSet::new();
    for record in records {
        match (&record.intent, index.get(&record.call).copied(), &record.outcome) {
            (Some(intent), None, outcome) => {
                index.insert(record.call, rows.len());
                rows.push(NewRow {
                    call: record.call,
                    request_id: request_id(instance, record.call),
                    time: time(record.at),
                    intent,
                    outcome: outcome.as_ref(),
                });
            }
            // A call ends once; a second ending would be a mistake of the caller, and the first is what happened.
            (_, Some(known), Some(outcome)) => {
                rows[known].outcome.get_or_insert(outcome);
            }
            (None, None, Some(outcome)) => {
                if ended.insert(record.call) {
                    endings.push((record.call, outcome));
                }
            }
            (_, _, None) => {}
        }
    }
    (rows, endings)
}

fn request_id(instance: Uuid, call: i64) -> String {
    CallId { instance: short(instance), number: u64::try_from(call).unwrap_or_default() }.to_string()
}

/// RFC 3339 with exactly six digits of a second.
fn time(microseconds: i64) -> String {
    format!("{:.6}", jiff::Timestamp::from_microsecond(microseconds).unwrap_or_default())
}
