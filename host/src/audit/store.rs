//! The database: one table of calls, and how far each journal has been moved into it.
//!
//! Both databases speak the same SQL here but for the spelling of times, so one macro writes the queries for both.

use std::collections::{HashMap, HashSet};
use std::str::FromStr as _;
use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use uuid::Uuid;

use super::journal::{create_private, private_file};
use super::reader::Batch;
use super::record::{Intent, Outcome, Record, storable};
use super::{AuditError, CallId, StoreSettings, short};

/// At most this many records are moved in one transaction: 18 values each stay below SQLite's limit of 32766.
pub(super) const BATCH_RECORDS: usize = 512;
/// Rows are inserted by so many, the largest first: a statement of a size that comes again and again is read once.
const BLOCKS: [usize; 2] = [64, 16];
/// How long SQLite waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a connection before the attempt counts as failed and is reported.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The mover and the adopter of dead journals each use one.
const SQLITE_CONNECTIONS: u32 = 2;
/// Ours alone: in a shared database other programs keep theirs under the default name.
const MIGRATIONS_TABLE: &str = "sentinel_migrations";

/// An open database with its tables in place.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A call as it is going to stand in the table.
struct NewRow<'a> {
    call: i64,
    request_id: String,
    time: String,
    intent: &'a Intent,
    outcome: Option<&'a Outcome>,
}

/// The values of an ending, or of a call without one.
struct Ending<'a> {
    status: &'a str,
    error: Option<String>,
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
            error: outcome.error.clone().map(storable),
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

/// How many of the rows that are left to insert at once, and whether that is one of the recurring sizes.
fn block(left: usize) -> Option<(usize, bool)> {
    let recurring = BLOCKS.into_iter().find(|size| *size <= left);
    (left > 0).then(|| recurring.map_or((left, false), |size| (size, true)))
}

fn request_id(instance: Uuid, call: i64) -> String {
    CallId { instance: short(instance), number: u64::try_from(call).unwrap_or_default() }.to_string()
}

/// RFC 3339 with exactly six digits of a second.
fn time(microseconds: i64) -> String {
    format!("{:.6}", jiff::Timestamp::from_microsecond(microseconds).unwrap_or_default())
}

macro_rules! dialect {
    ($module:ident, $database:ty, begin $begin:literal, cast $cast:literal, now $now:literal) => {
        mod $module {
            use super::*;
            use sqlx::{Pool, QueryBuilder};

            /// The whole batch and the new position, or nothing. Applying a batch again changes nothing.
            pub(super) async fn apply(
                pool: &Pool<$database>,
                instance: Uuid,
                batch: &Batch,
            ) -> Result<(), sqlx::Error> {
                let name = instance.simple().to_string();
                let (rows, endings) = merge(instance, &batch.records);
                let mut transaction = pool.begin_with($begin).await?;
                let position = sqlx::query(
                    "INSERT INTO journal_position (instance, seq) VALUES ($1, $2) ON CONFLICT (instance) \
                     DO UPDATE SET seq = excluded.seq WHERE journal_position.seq < excluded.seq",
                );
                let last = i64::try_from(batch.last).unwrap_or(i64::MAX);
                let moved = position.bind(&name).bind(last).execute(&mut *transaction).await?;
                if moved.rows_affected() == 0 {
                    // The answer to an earlier attempt was lost, its commit was not.
                    return transaction.rollback().await;
                }
                let mut rows = rows.into_iter();
                while let Some((size, recurring)) = block(rows.len()) {
                    let rows = rows.by_ref().take(size).collect();
                    insert(&name, rows).build().persistent(recurring).execute(&mut *transaction).await?;
                }
                if !endings.is_empty() {
                    update(&name, endings).build().persistent(false).execute(&mut *transaction).await?;
                }
                transaction.commit().await
            }

            fn insert(instance: &str, rows: Vec<NewRow<'_>>) -> QueryBuilder<$database> {
                let mut query = QueryBuilder::new(
                    "INSERT INTO audit_calls (instance, call, request_id, time, rpc_id, method, subject, role, \
                     kind, tool, backend, session, arguments, status, error, latency_ms, notes, changed) ",
                );
                query.push_values(rows, |mut values, row| {
                    let ending = Ending::new(row.outcome);
                    let intent = row.intent;
                    values.push_bind(instance).push_bind(row.call).push_bind(row.request_id);
                    values.push_bind(row.time).push_unseparated($cast);
                    let names = [&intent.rpc_id, &intent.method, &intent.subject, &intent.role];
                    for name in names.into_iter().chain([&intent.kind, &intent.tool, &intent.backend, &intent.session]) {
                        values.push_bind(storable(name.clone()));
                    }
                    values.push_bind(intent.arguments.as_deref().map(RawValue::get));
                    values.push_bind(ending.status).push_bind(ending.error);
                    values.push_bind(ending.latency_ms).push_bind(ending.notes).push($now);
                });
                // A dead instance's last commit may arrive while its journal is being replayed.
                query.push(
                    " ON CONFLICT (instance, call) DO UPDATE SET status = excluded.status, error = excluded.error, \
                     latency_ms = excluded.latency_ms, notes = excluded.notes, changed = excluded.changed \
                     WHERE audit_calls.status = 'pending' AND excluded.status <> 'pending'",
                );
                query
            }

            fn update(instance: &str, endings: Vec<(i64, &Outcome)>) -> QueryBuilder<$database> {
                let mut query = QueryBuilder::new(concat!(
                    "UPDATE audit_calls SET status = v.column2, error = v.column3, latency_ms = v.column4, \
                     notes = v.column5, changed = ",
                    $now,
                    " FROM ("
                ));
                query.push_values(endings, |mut values, (call, outcome)| {
                    let ending = Ending::new(Some(outcome));
                    values.push_bind(call).push_bind(ending.status).push_bind(ending.error);
                    values.push_bind(ending.latency_ms).push_bind(ending.notes);
                });
                query.push(") AS v WHERE audit_calls.call = v.column1 AND audit_calls.status = 'pending'");
                query.push(" AND audit_calls.instance = ").push_bind(instance);
                query
            }

            pub(super) async fn position(pool: &Pool<$database>, instance: &str) -> Result<Option<i64>, sqlx::Error> {
                sqlx::query_scalar("SELECT seq FROM journal_position WHERE instance = $1")
                    .bind(instance)
                    .fetch_optional(pool)
                    .await
            }

            pub(super) async fn abandon(
                pool: &Pool<$database>,
                instance: &str,
                reason: &str,
            ) -> Result<u64, sqlx::Error> {
                let query = sqlx::query(concat!(
                    "UPDATE audit_calls SET status = 'unknown', error = $2, changed = ",
                    $now,
                    " WHERE instance = $1 AND status = 'pending'"
                ));
                Ok(query.bind(instance).bind(reason).execute(pool).await?.rows_affected())
            }

            pub(super) async fn forget(pool: &Pool<$database>, instance: &str) -> Result<(), sqlx::Error> {
                let query = sqlx::query("DELETE FROM journal_position WHERE instance = $1");
                query.bind(instance).execute(pool).await.map(drop)
            }
        }
    };
}

// IMMEDIATE: a transaction that turns into a writer later fails at once instead of waiting its turn.
dialect!(sqlite, Sqlite, begin "BEGIN IMMEDIATE", cast "", now "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')");
dialect!(postgres, Postgres, begin "BEGIN", cast "::timestamptz", now "now()");

macro_rules! either {
    ($store:expr, $function:ident($($argument:expr),*)) => {
        match $store {
            Store::Sqlite(pool) => sqlite::$function(pool $(, $argument)*).await?,
            Store::Postgres(pool) => postgres::$function(pool $(, $argument)*).await?,
        }
    };
}

impl Store {
    /// Connects, and creates the database file and the tables if they are missing.
    ///
    /// # Errors
    /// The database cannot be reached or its tables cannot be brought up to date.
    pub(super) async fn open(settings: &StoreSettings) -> Result<Self, AuditError> {
        if let StoreSettings::Sqlite { path } = settings {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                create_private(parent)?;
            }
            // SQLite would create it readable to all; its companions take over the mode it has.
            private_file().create(true).open(path).map_err(|e| AuditError::folder(path, e))?;
        }
        let store = Self::connect(settings).await?;
        let mut migrator = match &store {
            Self::Sqlite(_) => sqlx::migrate!("migrations/sqlite"),
            Self::Postgres(_) => sqlx::migrate!("migrations/postgres"),
        };
        // A newer gateway may have been here before: during an upgrade both run.
        migrator.set_ignore_missing(true).dangerous_set_table_name(MIGRATIONS_TABLE);
        match &store {
            Self::Sqlite(pool) => migrator.run(pool).await?,
            Self::Postgres(pool) => migrator.run(pool).await?,
        }
        Ok(store)
    }

    /// Connects to a database that has its tables.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub(super) async fn connect(settings: &StoreSettings) -> Result<Self, AuditError> {
        match settings {
            StoreSettings::Sqlite { path } => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(BUSY_TIMEOUT);
                let pool = SqlitePoolOptions::new().max_connections(SQLITE_CONNECTIONS);
                Ok(Self::Sqlite(pool.acquire_timeout(BUSY_TIMEOUT).connect_with(options).await?))
            }
            StoreSettings::Postgres { url, max_connections } => {
                let options = PgConnectOptions::from_str(url)?.application_name("sentinel-gateway audit");
                let pool = PgPoolOptions::new().max_connections((*max_connections).max(1));
                Ok(Self::Postgres(pool.acquire_timeout(CONNECT_TIMEOUT).connect_with(options).await?))
            }
        }
    }

    /// Brings a batch in, exactly once.
    pub(super) async fn apply(&self, instance: Uuid, batch: &Batch) -> Result<(), AuditError> {
        either!(self, apply(instance, batch));
        Ok(())
    }

    /// The last record of an instance's journal that is in the store.
    pub(super) async fn position(&self, instance: &str) -> Result<u64, AuditError> {
        let position = either!(self, position(instance));
        Ok(position.and_then(|last| u64::try_from(last).ok()).unwrap_or_default())
    }

    /// Turns the open calls of an instance that has ended into `unknown`, and counts them.
    pub(super) async fn abandon(&self, instance: &str, reason: &str) -> Result<u64, AuditError> {
        Ok(either!(self, abandon(instance, reason)))
    }

    /// Forgets the position in a journal that is gone.
    pub(super) async fn forget(&self, instance: &str) -> Result<(), AuditError> {
        either!(self, forget(instance));
        Ok(())
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
