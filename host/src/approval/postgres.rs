//! Approvals in PostgreSQL: the same table and the same rules as in SQLite (see [`super::store`]), for gateways on several
//! machines. Each change is one transaction that holds its row; requests come one at a time, so that identical ones are one.

use std::future::Future;
use std::str::FromStr as _;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{PgConnection, Row as _};
use tokio::runtime::Handle;

use super::store::{Caps, Changed, StoreError, Summary, full};
use super::{Action, Approval, Refusal, State};

/// How long is waited for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 8;
/// The number of the lock under which requests come one at a time, and under which the table is made.
const LOCK: i64 = 0x5e17_a990;
const TABLE: &str = "
CREATE TABLE IF NOT EXISTS sentinel_approvals (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    digest TEXT NOT NULL,
    requester TEXT NOT NULL,
    backend TEXT NOT NULL,
    target TEXT NOT NULL,
    risk TEXT NOT NULL,
    created BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    document TEXT NOT NULL,
    action TEXT NOT NULL,
    params TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS sentinel_approvals_open ON sentinel_approvals (digest) WHERE state IN ('pending', 'approved');
CREATE INDEX IF NOT EXISTS sentinel_approvals_of_digest ON sentinel_approvals (digest, created);
CREATE INDEX IF NOT EXISTS sentinel_approvals_by_state ON sentinel_approvals (state, created);
CREATE INDEX IF NOT EXISTS sentinel_approvals_pending ON sentinel_approvals (requester) WHERE state IN ('pending', 'approved');
";

/// The table in a database. Its methods wait, so they are for threads that may.
#[derive(Debug)]
pub(super) struct Postgres {
    pool: PgPool,
    runtime: Handle,
    ended: Mutex<Vec<String>>,
}

impl Postgres {
    /// Connects, and makes the table if it is not there.
    pub(super) fn open(url: &str) -> Result<Self, StoreError> {
        let runtime = Handle::current();
        let pool = runtime.block_on(async {
            let options = PgConnectOptions::from_str(url)?.application_name("sentinel-gateway approvals");
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
            let pool = pool.connect_with(options).await?;
            let mut transaction = pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
            sqlx::raw_sql(TABLE).execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok::<_, sqlx::Error>(pool)
        })?;
        Ok(Self { pool, runtime, ended: Mutex::default() })
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.runtime.block_on(work)
    }

    /// See [`super::store::Store::ask`].
    pub(super) fn ask(
        &self,
        action: &Action,
        (backend, target): (&str, &str),
        caps: Caps,
        approval: &Approval,
        now_ms: u64,
    ) -> Result<Result<Approval, Refusal>, StoreError> {
        let answers = |known: &Approval| known.state != State::Pending || known.covers(&approval.needs);
        self.wait(async {
            // A call that only comes again costs no write.
            let mut connection = self.pool.acquire().await?;
            let known = holding(&mut connection, action.digest(), now_ms).await?;
            drop(connection);
            if let Some(known) = known.filter(&answers) {
                return Ok(Ok(known));
            }
            let mut transaction = self.pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
            if let Some(mut known) = holding(&mut transaction, action.digest(), now_ms).await? {
                if answers(&known) {
                    return Ok(Ok(known));
                }
                let why = format!("the rules have become stricter; {} was asked for instead", approval.id);
                if known.cancel(&why, now_ms).is_ok() {
                    update(&mut transaction, &known).await?;
                }
            }
            let mut ended = expire(&mut transaction, now_ms).await?;
            let requester = &approval.requester.subject;
            if let Err(refusal) = has_room(&mut transaction, requester, (backend, target), caps).await? {
                return Ok(Err(refusal));
            }
            insert(&mut transaction, approval, action, (backend, target)).await?;
            transaction.commit().await?;
            self.ended.lock().append(&mut ended);
            Ok(Ok(approval.clone()))
        })
    }

    /// See [`super::store::Store::find`].
    pub(super) fn find(&self, id: &str, now_ms: u64) -> Result<Option<(Approval, String, u64)>, StoreError> {
        self.wait(async {
            let query = sqlx::query("SELECT document, action FROM sentinel_approvals WHERE id = $1");
            let Some(row) = query.bind(id).fetch_optional(&self.pool).await? else { return Ok(None) };
            let mut approval: Approval = serde_json::from_str(row.try_get(0)?)?;
            approval.tick(now_ms);
            let count = "SELECT count(*) FROM sentinel_approvals WHERE digest = $1 AND state = 'consumed'";
            let ran: i64 =
                sqlx::query(count).bind(&approval.digest).fetch_one(&self.pool).await?.try_get(0)?;
            Ok(Some((approval, row.try_get(1)?, u64::try_from(ran).unwrap_or_default())))
        })
    }

    /// See [`super::store::Store::change`].
    pub(super) fn change<T>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Approval) -> Result<T, Refusal>,
    ) -> Result<Option<Changed<T>>, StoreError> {
        self.wait(async {
            let mut transaction = self.pool.begin().await?;
            let query =
                sqlx::query("SELECT document, params FROM sentinel_approvals WHERE id = $1 FOR UPDATE");
            let Some(row) = query.bind(id).fetch_optional(&mut *transaction).await? else { return Ok(None) };
            let before: Approval = serde_json::from_str(row.try_get(0)?)?;
            let params = row.try_get(1)?;
            let mut approval = before.clone();
            let result = change(&mut approval);
            if approval != before {
                update(&mut transaction, &approval).await?;
                transaction.commit().await?;
            }
            let moved = approval.state != before.state;
            Ok(Some(Changed { approval, params, moved, result }))
        })
    }

    /// See [`super::store::Store::list`].
    pub(super) fn list(&self, all: bool, limit: u32, now_ms: u64) -> Result<Vec<Summary>, StoreError> {
        const ALL: &str = "SELECT id, state, risk, requester, backend, target, digest, created, ends FROM sentinel_approvals \
                           ORDER BY created DESC LIMIT $1";
        const OPEN: &str = "SELECT id, state, risk, requester, backend, target, digest, created, ends FROM sentinel_approvals \
                            WHERE state IN ('pending', 'approved') AND ends > $2 ORDER BY created LIMIT $1";
        self.wait(async {
            let rows = if all {
                sqlx::query(ALL).bind(i64::from(limit)).fetch_all(&self.pool).await?
            } else {
                sqlx::query(OPEN).bind(i64::from(limit)).bind(signed(now_ms)).fetch_all(&self.pool).await?
            };
            rows.iter().map(|row| summary(row, now_ms)).collect()
        })
    }

    /// See [`super::store::Store::expire`].
    pub(super) fn expire(&self, now_ms: u64) -> Result<(), StoreError> {
        self.wait(async {
            let mut transaction = self.pool.begin().await?;
            let mut ended = expire(&mut transaction, now_ms).await?;
            transaction.commit().await?;
            self.ended.lock().append(&mut ended);
            Ok(())
        })
    }

    /// See [`super::store::Store::ended`].
    pub(super) fn ended(&self) -> Vec<String> {
        std::mem::take(&mut self.ended.lock())
    }

    /// See [`super::store::Store::forget`].
    pub(super) fn forget(&self, before_ms: u64) -> Result<usize, StoreError> {
        self.wait(async {
            let old = "DELETE FROM sentinel_approvals \
                       WHERE state NOT IN ('pending', 'approved') AND ends < $1 AND created < $1";
            let removed = sqlx::query(old).bind(signed(before_ms)).execute(&self.pool).await?;
            Ok(usize::try_from(removed.rows_affected()).unwrap_or(usize::MAX))
        })
    }
}

/// The approval that answers a request for this action: one that is open, or a rejection that holds.
async fn holding(
    connection: &mut PgConnection,
    digest: &str,
    now_ms: u64,
) -> Result<Option<Approval>, StoreError> {
    let query = sqlx::query(
        "SELECT document FROM sentinel_approvals WHERE digest = $1 AND state IN ('pending', 'approved', 'rejected') \
         AND ends > $2 ORDER BY created DESC LIMIT 1",
    );
    let row = query.bind(digest).bind(signed(now_ms)).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(serde_json::from_str(row.try_get(0)?)?))
}

/// Ends what is over. Says which that was. Rows that somebody changes meanwhile are left to them.
async fn expire(connection: &mut PgConnection, now_ms: u64) -> Result<Vec<String>, StoreError> {
    let over = sqlx::query(
        "SELECT document FROM sentinel_approvals WHERE state IN ('pending', 'approved') AND ends <= $1 \
         ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED",
    );
    let rows = over.bind(signed(now_ms)).fetch_all(&mut *connection).await?;
    let mut ended = Vec::new();
    for row in rows {
        let mut approval: Approval = serde_json::from_str(row.try_get(0)?)?;
        approval.tick(now_ms);
        update(connection, &approval).await?;
        ended.push(approval.id);
    }
    Ok(ended)
}

async fn insert(
    connection: &mut PgConnection,
    approval: &Approval,
    action: &Action,
    (backend, target): (&str, &str),
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO sentinel_approvals \
         (id, state, digest, requester, backend, target, risk, created, ends, document, action, params) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    );
    let query = query.bind(&approval.id).bind(approval.state.as_str()).bind(&approval.digest);
    let query = query.bind(&approval.requester.subject).bind(backend).bind(target);
    let query = query.bind(approval.risk().as_str());
    let query = query.bind(signed(approval.created_ms)).bind(signed(approval.ends_ms()));
    let query = query.bind(serde_json::to_string(approval)?).bind(action.canonical()).bind(action.params());
    query.execute(connection).await?;
    Ok(())
}

/// Writes an approval back.
async fn update(connection: &mut PgConnection, approval: &Approval) -> Result<(), StoreError> {
    let query =
        sqlx::query("UPDATE sentinel_approvals SET state = $2, ends = $3, document = $4 WHERE id = $1");
    let query = query.bind(&approval.id).bind(approval.state.as_str()).bind(signed(approval.ends_ms()));
    query.bind(serde_json::to_string(approval)?).execute(connection).await?;
    Ok(())
}

async fn has_room(
    connection: &mut PgConnection,
    requester: &str,
    (backend, target): (&str, &str),
    caps: Caps,
) -> Result<Result<(), Refusal>, StoreError> {
    let query = sqlx::query(
        "SELECT count(*), count(*) FILTER (WHERE requester = $1), \
         count(*) FILTER (WHERE requester = $1 AND backend = $2 AND target = $3) \
         FROM sentinel_approvals WHERE state IN ('pending', 'approved')",
    );
    let row = query.bind(requester).bind(backend).bind(target).fetch_one(connection).await?;
    Ok(full(caps, (row.try_get(1)?, row.try_get(2)?, row.try_get(0)?), target))
}

fn summary(row: &PgRow, now_ms: u64) -> Result<Summary, StoreError> {
    let time = |index: usize| -> Result<u64, sqlx::Error> {
        row.try_get::<i64, _>(index).map(|ms| u64::try_from(ms).unwrap_or_default())
    };
    let ends_ms = time(8)?;
    let state: State = serde_json::from_value(row.try_get::<String, _>(1)?.into())?;
    let over = !state.is_final() && ends_ms <= now_ms;
    Ok(Summary {
        id: row.try_get(0)?,
        state: if over { State::Expired } else { state },
        risk: row.try_get(2)?,
        requester: row.try_get(3)?,
        backend: row.try_get(4)?,
        target: row.try_get(5)?,
        digest: row.try_get(6)?,
        created_ms: time(7)?,
        ends_ms,
    })
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
