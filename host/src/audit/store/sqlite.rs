//! Batches into SQLite, row by row through statements that stay prepared.
//!
//! This is the one part of the record whose work grows with every call, so it has SQLite to itself on a thread for blocking
//! work. Through `sqlx`, which builds a text for every insert of many rows and boxes each value on its way to a thread of
//! its own, a row costs about twice as much.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::super::AuditError;
use super::super::mover::blocking;
use super::super::reader::Batch;
use super::super::record::Outcome;
use super::{BUSY_TIMEOUT, Ending, NewRow, merge};

const POSITION: &str = "INSERT INTO journal_position (instance, seq) VALUES (?1, ?2) ON CONFLICT (instance) \
     DO UPDATE SET seq = excluded.seq WHERE journal_position.seq < excluded.seq";
const INSERT: &str = "INSERT INTO audit_calls (instance, call, request_id, time, rpc_id, method, subject, role, \
     kind, tool, backend, session, arguments, status, error, latency_ms, notes, changed) VALUES (?1, ?2, ?3, ?4, \
     ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) ON CONFLICT (instance, call) DO NOTHING";
const UPDATE: &str = "UPDATE audit_calls SET status = ?3, error = ?4, latency_ms = ?5, notes = ?6, changed = ?7 \
     WHERE instance = ?1 AND call = ?2 AND status = 'pending'";
const ABANDON: &str = "UPDATE audit_calls SET status = 'unknown', error = ?2, changed = ?3 \
     WHERE instance = ?1 AND status = 'pending'";

/// The connection of the mover and of the adopter of dead journals, who take turns. Clones are handles to the same.
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
            ending.status,
            ending.error,
            ending.latency_ms,
            ending.notes,
            now
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
