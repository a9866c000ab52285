//! Batches into SQLite, row by row through statements that stay prepared.
//!
//! This is the one part of the record whose work grows with every call, so it has SQLite to itself on a thread for blocking
//! work. Through `sqlx`, which builds a text for every insert of many rows and boxes each value on its way to a thread of
//! its own, a row costs about twice as much.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::super::AuditError;
use super::super::persist::blocking;
use super::super::reader::Batch;
use super::super::record::Outcome;
use super::super::row::{Dialect, FURTHER, Later, Row, columns};
use super::{BUSY_TIMEOUT, Ending, Keeper, NewRow, Taken, about, merge};

const POSITION: &str = "INSERT INTO journal_position (instance, seq) VALUES (?1, ?2) ON CONFLICT (instance) \
     DO UPDATE SET seq = excluded.seq WHERE journal_position.seq < excluded.seq";
const INSERT: &str = "INSERT INTO audit_calls (instance, call, request_id, time, rpc_id, method, subject, role, \
     kind, tool, backend, session, arguments, sent, status, error, latency_ms, notes, changed, generation) VALUES (?1, ?2, \
     ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20) ON CONFLICT (instance, call) DO NOTHING";
const UPDATE: &str = "UPDATE audit_calls SET status = ?3, error = ?4, latency_ms = ?5, notes = ?6, changed = ?7 \
     WHERE instance = ?1 AND call = ?2 AND status = 'pending'";
/// The last condition says nothing new. With it the index is taken that leaves `success` out; without it each row of the
/// instance would be read, and the status stands behind the arguments, which may be long: of a record of 16 GB all of it.
const ABANDON: &str = "UPDATE audit_calls SET status = 'unknown', error = ?2, changed = ?3 \
     WHERE instance = ?1 AND status = 'pending' AND status <> 'success'";

/// The write-ahead log is cut to this length, in bytes.
const LOG_BYTES: i64 = 4 << 20;
/// After every time of RFC 3339.
const EVER: &str = "9999-99";

/// Makes an empty file a database that can give single pages back to the disk.
pub(super) fn begin(path: &Path) -> Result<(), AuditError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Before anything else: it cannot be changed once there is a table, or the header.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Ok(())
}

/// The connection of the ingester and of the recovery of dead journals, who take turns. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(in crate::audit) struct Writer(Arc<Mutex<Option<Connection>>>);

impl Writer {
    /// Connects to a database that has its tables.
    pub(super) async fn open(path: PathBuf) -> Result<Self, AuditError> {
        blocking(move || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // The file says that it has a write-ahead log; that a commit is on the disk, each connection says.
            connection.pragma_update(None, "synchronous", "FULL")?;
            // What a long transaction left of the log goes back to the disk, too.
            connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
            Ok(Self(Arc::new(Mutex::new(Some(connection)))))
        })
        .await
    }

    /// See [`super::Store::apply`].
    pub(super) async fn apply(&self, instance: Uuid, batch: &Arc<Batch>) -> Result<(), AuditError> {
        let batch = Arc::clone(batch);
        self.with(move |connection| apply(connection, instance, &batch)).await
    }

    /// See [`super::Store::position`].
    pub(super) async fn position(&self, instance: &str) -> Result<Option<i64>, AuditError> {
        let instance = instance.to_owned();
        self.with(move |connection| {
            let sql = "SELECT seq FROM journal_position WHERE instance = ?1";
            connection.query_row(sql, [instance], |row| row.get(0)).optional()
        })
        .await
    }

    /// See [`super::Store::abandon`].
    pub(super) async fn abandon(&self, instance: &str, reason: &str) -> Result<u64, AuditError> {
        let (instance, reason) = (instance.to_owned(), reason.to_owned());
        let changed =
            self.with(move |connection| connection.execute(ABANDON, params![instance, reason, now()]));
        Ok(changed.await? as u64)
    }

    /// See [`super::Store::forget`].
    pub(super) async fn forget(&self, instance: &str) -> Result<(), AuditError> {
        let instance = instance.to_owned();
        let sql = "DELETE FROM journal_position WHERE instance = ?1";
        self.with(move |connection| connection.execute(sql, [instance])).await.map(drop)
    }

    /// See [`super::Store::size`]: the pages in use.
    pub(super) async fn size(&self) -> Result<u64, AuditError> {
        self.with(|connection| {
            let ask = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let pages = ask("page_count")? - ask("freelist_count")?;
            Ok(u64::try_from(pages * ask("page_size")?).unwrap_or_default())
        })
        .await
    }

    /// See [`super::Store::take_oldest`].
    pub(super) async fn take_oldest(
        &self,
        before: Option<String>,
        limit: u32,
        enough: u64,
        keep: Keeper,
    ) -> Result<Taken, AuditError> {
        let connection = Arc::clone(&self.0);
        blocking(move || match &mut *connection.lock() {
            Some(connection) => {
                take_oldest(connection, before.as_deref().unwrap_or(EVER), limit, enough, &keep)
            }
            None => Err(AuditError::Closed),
        })
        .await
    }

    /// Ends the connection; the last one to a database also ends its write-ahead log.
    pub(super) async fn close(&self) {
        let connection = Arc::clone(&self.0);
        let closed = blocking(move || {
            drop(connection.lock().take());
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "the audit database was not closed");
        }
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, AuditError> {
        let connection = Arc::clone(&self.0);
        blocking(move || match &mut *connection.lock() {
            Some(connection) => Ok(work(connection)?),
            None => Err(AuditError::Closed),
        })
        .await
    }
}

fn take_oldest(
    connection: &mut Connection,
    before: &str,
    limit: u32,
    enough: u64,
    keep: &Keeper,
) -> Result<Taken, AuditError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut taken = Taken::default();
    let (mut rows, mut ids, mut bytes) = (Vec::new(), Vec::new(), 0);
    {
        let oldest = format!(
            "SELECT {}, rowid FROM audit_calls WHERE status <> 'pending' AND time < ?1 ORDER BY time LIMIT ?2",
            columns(Dialect::Sqlite, Later::ALL)
        );
        let mut statement = transaction.prepare_cached(&oldest)?;
        let mut found = statement.query(params![before, limit])?;
        while let Some(row) = found.next()? {
            ids.push(row.get::<_, i64>(FURTHER)?);
            let row = Row::read(row)?;
            bytes += about(&row);
            rows.push(row);
            if bytes >= enough {
                break;
            }
        }
    }
    if rows.is_empty() {
        return Ok(taken);
    }
    keep(&rows)?;
    {
        let mut statement = transaction.prepare_cached("DELETE FROM audit_calls WHERE rowid = ?1")?;
        for id in ids {
            taken.rows += statement.execute([id])?;
        }
    }
    transaction.commit()?;
    // A database from before this could be said has no such pages, and then this does nothing: the room is used again.
    let mut statement = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut freed = statement.query([])?;
    while freed.next()?.is_some() {}
    Ok(taken)
}

fn apply(connection: &mut Connection, instance: Uuid, batch: &Batch) -> rusqlite::Result<()> {
    let name = instance.simple().to_string();
    let (rows, endings) = merge(instance, &batch.records);
    // IMMEDIATE: a transaction that turns into a writer later fails at once instead of waiting its turn.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let last = i64::try_from(batch.last).unwrap_or(i64::MAX);
    if transaction.prepare_cached(POSITION)?.execute(params![name, last])? == 0 {
        // The answer to an earlier attempt was lost, its commit was not.
        return transaction.rollback();
    }
    let now = now();
    insert(&transaction, &name, &rows, &now)?;
    for (call, outcome) in endings {
        end(&transaction, &name, call, outcome, &now)?;
    }
    transaction.commit()
}

fn insert(transaction: &Transaction<'_>, name: &str, rows: &[NewRow<'_>], now: &str) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(INSERT)?;
    for row in rows {
        let [rpc_id, method, subject, role, kind, tool, backend, session] = row.names();
        let ending = Ending::new(row.outcome);
        let inserted = statement.execute(params![
            name,
            row.call,
            row.request_id,
            row.time,
            rpc_id,
            method,
            subject,
            role,
            kind,
            tool,
            backend,
            session,
            row.arguments(),
            row.sent(),
            ending.status,
            ending.error,
            ending.latency_ms,
            ending.notes,
            now,
            row.generation()
        ])?;
        // A dead instance's last commit may arrive while its journal is being replayed.
        if let (0, Some(outcome)) = (inserted, row.outcome) {
            end(transaction, name, row.call, outcome, now)?;
        }
    }
    Ok(())
}

fn end(
    transaction: &Transaction<'_>,
    name: &str,
    call: i64,
    outcome: &Outcome,
    now: &str,
) -> rusqlite::Result<()> {
    let Ending { status, error, latency_ms, notes } = Ending::new(Some(outcome));
    let mut statement = transaction.prepare_cached(UPDATE)?;
    statement.execute(params![name, call, status, error, latency_ms, notes, now]).map(drop)
}

/// What SQLite itself would say, which has no clock but that of this machine.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A look at all rows of an instance reads all of its arguments: of a large record that takes longer than a stop may.
    #[test]
    fn open_calls_are_found_without_a_look_at_all_the_others() {
        let connection = Connection::open_in_memory().unwrap();
        for migration in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect::<std::collections::BTreeSet<_>>()
        {
            connection.execute_batch(&std::fs::read_to_string(migration).unwrap()).unwrap();
        }
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {ABANDON}")).unwrap();
        let plan: Vec<String> = statement
            .query_map(params!["i", "r", "n"], |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(plan.iter().any(|step| step.contains("audit_calls_status (status=?)")), "{plan:?}");
    }
}
