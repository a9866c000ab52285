//! Approvals in SQLite: each change is one transaction that reads an approval, has the [`machine`](super::machine) decide, and
//! writes it back. Several gateways of one file share the database, and whoever commits first has decided.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::{Action, Approval, Refusal, State};
use crate::files::{self, FileError, Links, Trust};

/// How long SQLite waits for another writer.
const BUSY: Duration = Duration::from_secs(5);
/// The write-ahead log is cut to this length, in bytes.
const LOG_BYTES: i64 = 4 << 20;
/// The layout of the tables.
const LAYOUT: i64 = 1;
const TABLES: &str = "
CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    digest TEXT NOT NULL,
    requester TEXT NOT NULL,
    backend TEXT NOT NULL,
    target TEXT NOT NULL,
    risk TEXT NOT NULL,
    created INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    document TEXT NOT NULL,
    action TEXT NOT NULL,
    params TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX approvals_open ON approvals (digest) WHERE state IN ('pending', 'approved');
CREATE INDEX approvals_of_digest ON approvals (digest, created);
CREATE INDEX approvals_by_state ON approvals (state, created);
CREATE INDEX approvals_pending ON approvals (requester) WHERE state IN ('pending', 'approved');
";

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caps {
    /// Of one caller.
    pub(super) of_caller: u32,
    /// Of one caller for one target.
    pub(super) of_target: u32,
    /// In all.
    pub(super) in_all: u32,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub id: String,
    pub state: State,
    pub risk: String,
    pub requester: String,
    pub backend: String,
    pub target: String,
    pub digest: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// When the state ends by itself, in milliseconds since 1970.
    pub ends_ms: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] sqlx::Error),
    #[error("an approval in it cannot be read: {0}")]
    Document(#[from] serde_json::Error),
    #[error("it was made by a newer gateway (layout {0}, this one knows {LAYOUT})")]
    Newer(i64),
}

/// The database.
#[derive(Debug)]
pub(super) struct Store(Mutex<Connection>, Mutex<Vec<String>>);

impl Store {
    /// Opens the file, or makes it for this user alone.
    pub(super) fn open(path: &Path, trust: &Trust) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            if folder.exists() {
                // Others may look into it, because the files are closed to them, but not put anything there.
                let found = trust.inspect(folder)?;
                if !found.is_empty() {
                    return Err(FileError::Open(found).into());
                }
            } else {
                trust.private_dir(folder, Links::Followed)?;
            }
        }
        // What SQLite makes beside it takes over its mode.
        files::open_private(path)?;
        for suffix in ["-wal", "-shm"] {
            let found = files::inspect_private_file(&companion(path, suffix))?;
            if !found.is_empty() {
                return Err(FileError::Open(found).into());
            }
        }
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // What is used up must stay so, whatever happens to the machine.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "user_version", LAYOUT)?;
            }
            LAYOUT => {}
            newer => return Err(StoreError::Newer(newer)),
        }
        transaction.commit()?;
        Ok(Self(Mutex::new(connection), Mutex::default()))
    }

    /// The approval that holds for this action, or a new one.
    pub(super) fn ask(
        &self,
        action: &Action,
        (backend, target): (&str, &str),
        caps: Caps,
        approval: Approval,
        now_ms: u64,
    ) -> Result<Result<Approval, Refusal>, StoreError> {
        let answers = |known: &Approval| known.state != State::Pending || known.covers(&approval.needs);
        let mut connection = self.0.lock();
        // A call that only comes again costs no write.
        if let Some(known) = holding(&connection, action.digest(), now_ms)?
            && answers(&known)
        {
            return Ok(Ok(known));
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(mut known) = holding(&transaction, action.digest(), now_ms)? {
            if answers(&known) {
                return Ok(Ok(known));
            }
            let why = format!("the rules have become stricter; {} was asked for instead", approval.id);
            if known.cancel(&why, now_ms).is_ok() {
                update(&transaction, &known)?;
            }
        }
        let mut ended = expire(&transaction, now_ms)?;
        let requester = &approval.requester.subject;
        if let Err(refusal) = has_room(&transaction, requester, (backend, target), caps)? {
            return Ok(Err(refusal));
        }
        insert(&transaction, &approval, action, (backend, target))?;
        transaction.commit()?;
        self.1.lock().append(&mut ended);
        Ok(Ok(approval))
    }

    /// The approval of this id, its canonical action, and how often the same action was done.
    pub(super) fn find(&self, id: &str, now_ms: u64) -> Result<Option<(Approval, String, u64)>, StoreError> {
        let connection = self.0.lock();
        let found = connection
            .prepare_cached("SELECT document, action FROM approvals WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))
            .optional()?;
        let Some((document, action)) = found else { return Ok(None) };
        let mut approval: Approval = serde_json::from_str(&document)?;
        approval.tick(now_ms);
        let ran: i64 = connection
            .prepare_cached("SELECT count(*) FROM approvals WHERE digest = ?1 AND state = 'consumed'")?
            .query_row([&approval.digest], |row| row.get(0))?;
        Ok(Some((approval, action, u64::try_from(ran).unwrap_or_default())))
    }

    /// Changes an approval by the rules, all or nothing; none if there is no such approval.
    pub(super) fn change<T>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Approval) -> Result<T, Refusal>,
    ) -> Result<Option<Changed<T>>, StoreError> {
        let mut connection = self.0.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = transaction
            .prepare_cached("SELECT document, params FROM approvals WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))
            .optional()?;
        let Some((document, params)) = found else { return Ok(None) };
        let before: Approval = serde_json::from_str(&document)?;
        let mut approval = before.clone();
        let result = change(&mut approval);
        if approval != before {
            update(&transaction, &approval)?;
            transaction.commit()?;
        }
        let moved = approval.state != before.state;
        Ok(Some(Changed { approval, params, moved, result }))
    }

    /// What waits, oldest first, or the newest of all.
    pub(super) fn list(&self, all: bool, limit: u32, now_ms: u64) -> Result<Vec<Summary>, StoreError> {
        const COLUMNS: &str =
            "SELECT id, state, risk, requester, backend, target, digest, created, ends FROM approvals";
        let connection = self.0.lock();
        let mut list = Vec::new();
        let now = signed(now_ms);
        let mut statement = if all {
            connection.prepare_cached(&format!("{COLUMNS} ORDER BY created DESC LIMIT ?1"))?
        } else {
            let open = "WHERE state IN ('pending', 'approved') AND ends > ?2 ORDER BY created LIMIT ?1";
            connection.prepare_cached(&format!("{COLUMNS} {open}"))?
        };
        let mut rows =
            if all { statement.query(params![limit])? } else { statement.query(params![limit, now])? };
        while let Some(row) = rows.next()? {
            list.push(summary(row, now_ms)?);
        }
        Ok(list)
    }

    /// Puts many in at once, for tests.
    #[cfg(test)]
    pub(super) fn fill(&self, approvals: impl Iterator<Item = (Action, Approval)>) {
        let mut connection = self.0.lock();
        let transaction = connection.transaction().expect("a transaction");
        for (action, approval) in approvals {
            insert(&transaction, &approval, &action, ("prod", "deploy")).expect("room");
        }
        transaction.commit().expect("a disk");
    }

    /// Ends what is over, a thousand at a time.
    pub(super) fn expire(&self, now_ms: u64) -> Result<(), StoreError> {
        let mut connection = self.0.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut ended = expire(&transaction, now_ms)?;
        transaction.commit()?;
        self.1.lock().append(&mut ended);
        Ok(())
    }

    /// Those that ended by themselves since this was asked last.
    pub(super) fn ended(&self) -> Vec<String> {
        std::mem::take(&mut self.1.lock())
    }

    /// Removes what ended before this moment. Says how many.
    pub(super) fn forget(&self, before_ms: u64) -> Result<usize, StoreError> {
        let connection = self.0.lock();
        let removed = connection.execute(
            "DELETE FROM approvals WHERE state NOT IN ('pending', 'approved') AND ends < ?1 AND created < ?1",
            [signed(before_ms)],
        )?;
        Ok(removed)
    }
}

/// An approval after a change was tried.
#[derive(Debug)]
pub(super) struct Changed<T> {
    pub(super) approval: Approval,
    /// What is sent when it runs.
    pub(super) params: String,
    /// It is in another state than before.
    pub(super) moved: bool,
    pub(super) result: Result<T, Refusal>,
}

fn insert(
    transaction: &Transaction<'_>,
    approval: &Approval,
    action: &Action,
    (backend, target): (&str, &str),
) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO approvals (id, state, digest, requester, backend, target, risk, created, ends, document, action, params) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    statement.execute(params![
        approval.id,
        approval.state.as_str(),
        approval.digest,
        approval.requester.subject,
        backend,
        target,
        approval.risk().as_str(),
        signed(approval.created_ms),
        signed(approval.ends_ms()),
        serde_json::to_string(approval)?,
        action.canonical(),
        action.params(),
    ])?;
    Ok(())
}

/// The approval that answers a request for this action: one that is open, or a rejection that holds.
fn holding(connection: &Connection, digest: &str, now_ms: u64) -> Result<Option<Approval>, StoreError> {
    let found: Option<String> = connection
        .prepare_cached(
            "SELECT document FROM approvals WHERE digest = ?1 AND state IN ('pending', 'approved', 'rejected') AND ends > ?2 \
             ORDER BY created DESC LIMIT 1",
        )?
        .query_row(params![digest, signed(now_ms)], |row| row.get(0))
        .optional()?;
    Ok(found.map(|document| serde_json::from_str(&document)).transpose()?)
}

/// Ends what is over. Says which that was.
fn expire(transaction: &Transaction<'_>, now_ms: u64) -> Result<Vec<String>, StoreError> {
    let over: Vec<String> = transaction
        .prepare_cached(
            "SELECT document FROM approvals WHERE state IN ('pending', 'approved') AND ends <= ?1 LIMIT 1000",
        )?
        .query_map([signed(now_ms)], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut ended = Vec::new();
    for document in over {
        let mut approval: Approval = serde_json::from_str(&document)?;
        approval.tick(now_ms);
        update(transaction, &approval)?;
        ended.push(approval.id);
    }
    Ok(ended)
}

/// Writes an approval back.
fn update(transaction: &Transaction<'_>, approval: &Approval) -> Result<(), StoreError> {
    let mut statement = transaction
        .prepare_cached("UPDATE approvals SET state = ?2, ends = ?3, document = ?4 WHERE id = ?1")?;
    statement.execute(params![
        approval.id,
        approval.state.as_str(),
        signed(approval.ends_ms()),
        serde_json::to_string(approval)?
    ])?;
    Ok(())
}

fn has_room(
    transaction: &Transaction<'_>,
    requester: &str,
    (backend, target): (&str, &str),
    caps: Caps,
) -> Result<Result<(), Refusal>, StoreError> {
    const OPEN: &str = "SELECT count(*) FROM approvals WHERE state IN ('pending', 'approved')";
    let count = |more: &str, values: &[&str]| -> Result<i64, StoreError> {
        let mut statement = transaction.prepare_cached(&format!("{OPEN}{more}"))?;
        Ok(statement.query_row(rusqlite::params_from_iter(values), |row| row.get(0))?)
    };
    let of_caller = count(" AND requester = ?1", &[requester])?;
    let of_target =
        count(" AND requester = ?1 AND backend = ?2 AND target = ?3", &[requester, backend, target])?;
    Ok(full(caps, (of_caller, of_target, count("", &[])?), target))
}

/// Whether there is room for one more, where so many are open of the caller, of the caller for the target, and in all.
pub(super) fn full(
    caps: Caps,
    (of_caller, of_target, in_all): (i64, i64, i64),
    target: &str,
) -> Result<(), Refusal> {
    let full = |text: String| Err(Refusal::new("too_many_pending", text));
    if of_caller >= i64::from(caps.of_caller) {
        return full(format!(
            "{} of your requests wait for a person or for you to continue them: no more are taken before one of them ends",
            caps.of_caller
        ));
    }
    if of_target >= i64::from(caps.of_target) {
        return full(format!(
            "{} of your requests for {target:?} wait for a person already: no more are taken before one of them ends",
            caps.of_target
        ));
    }
    if in_all >= i64::from(caps.in_all) {
        return full(format!("{} requests wait for people already: try again later", caps.in_all));
    }
    Ok(())
}

fn summary(row: &Row<'_>, now_ms: u64) -> Result<Summary, StoreError> {
    let state: String = row.get(1)?;
    let time = |index| row.get::<_, i64>(index).map(|ms| u64::try_from(ms).unwrap_or_default());
    let ends_ms = time(8)?;
    let state: State = serde_json::from_value(state.into())?;
    let over = !state.is_final() && ends_ms <= now_ms;
    Ok(Summary {
        id: row.get(0)?,
        state: if over { State::Expired } else { state },
        risk: row.get(2)?,
        requester: row.get(3)?,
        backend: row.get(4)?,
        target: row.get(5)?,
        digest: row.get(6)?,
        created_ms: time(7)?,
        ends_ms,
    })
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The files that SQLite keeps beside a database.
fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
