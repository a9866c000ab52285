//! Batches into PostgreSQL, many rows with one statement: each costs a round trip.

use std::borrow::Cow;

use sqlx::postgres::{PgPool, Postgres};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::super::AuditError;
use super::super::reader::Batch;
use super::super::record::Outcome;
use super::super::row::{Dialect, FURTHER, Later, Row, columns};
use super::{Ending, Keeper, NewRow, Taken, merge};

/// Rows are inserted by at most so many, the largest first: 20 values each stay far below the limit of 65535, and a
/// statement of a size that comes again and again is read once.
const BLOCKS: [usize; 3] = [512, 64, 16];

/// See [`super::Store::apply`].
pub(super) async fn apply(pool: &PgPool, instance: Uuid, batch: &Batch) -> Result<(), sqlx::Error> {
    let name = instance.simple().to_string();
    let (rows, endings) = merge(instance, &batch.records);
    let mut transaction = pool.begin().await?;
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

/// How many of the rows that are left to insert at once, and whether that is one of the recurring sizes.
fn block(left: usize) -> Option<(usize, bool)> {
    let recurring = BLOCKS.into_iter().find(|size| *size <= left);
    (left > 0).then(|| recurring.map_or((left, false), |size| (size, true)))
}

fn insert(instance: &str, rows: Vec<NewRow<'_>>) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "INSERT INTO audit_calls (instance, call, request_id, time, rpc_id, method, subject, role, \
         kind, tool, backend, session, arguments, sent, status, error, latency_ms, notes, generation, changed) ",
    );
    query.push_values(rows, |mut values, row| {
        let ending = Ending::new(row.outcome);
        values.push_bind(instance).push_bind(row.call).push_bind(row.request_id.as_str());
        values.push_bind(row.time.as_str()).push_unseparated("::timestamptz");
        for name in row.names() {
            values.push_bind(name.into_owned());
        }
        values.push_bind(row.arguments()).push_bind(row.sent());
        values.push_bind(ending.status).push_bind(ending.error.map(Cow::into_owned));
        values.push_bind(ending.latency_ms).push_bind(ending.notes).push_bind(row.generation()).push("now()");
    });
    // A dead instance's last commit may arrive while its journal is being replayed.
    query.push(
        " ON CONFLICT (instance, call) DO UPDATE SET status = excluded.status, error = excluded.error, \
         latency_ms = excluded.latency_ms, notes = excluded.notes, changed = excluded.changed \
         WHERE audit_calls.status = 'pending' AND excluded.status <> 'pending'",
    );
    query
}

fn update(instance: &str, endings: Vec<(i64, &Outcome)>) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "UPDATE audit_calls SET status = v.column2, error = v.column3, latency_ms = v.column4, \
         notes = v.column5, changed = now() FROM (",
    );
    query.push_values(endings, |mut values, (call, outcome)| {
        let ending = Ending::new(Some(outcome));
        values.push_bind(call).push_bind(ending.status).push_bind(ending.error.map(Cow::into_owned));
        values.push_bind(ending.latency_ms).push_bind(ending.notes);
    });
    query.push(") AS v WHERE audit_calls.call = v.column1 AND audit_calls.status = 'pending'");
    query.push(" AND audit_calls.instance = ").push_bind(instance);
    query
}

/// See [`super::Store::position`].
pub(super) async fn position(pool: &PgPool, instance: &str) -> Result<Option<i64>, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT seq FROM journal_position WHERE instance = $1");
    query.bind(instance).fetch_optional(pool).await
}

/// See [`super::Store::abandon`].
pub(super) async fn abandon(pool: &PgPool, instance: &str, reason: &str) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(
        "UPDATE audit_calls SET status = 'unknown', error = $2, changed = now() \
         WHERE instance = $1 AND status = 'pending' AND status <> 'success'",
    );
    Ok(query.bind(instance).bind(reason).execute(pool).await?.rows_affected())
}

/// See [`super::Store::forget`].
pub(super) async fn forget(pool: &PgPool, instance: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::query("DELETE FROM journal_position WHERE instance = $1");
    query.bind(instance).execute(pool).await.map(drop)
}

/// Names the lock under which one of many gateways at a time takes rows out: "sentinel" as a number.
const TAKING: i64 = 0x7365_6e74_696e_656c;
/// What a row takes besides its long texts, with its places in the indexes, in bytes.
const ROW_BYTES: &str = "600";
/// The long texts, as the database has compressed them.
const TEXTS: &str = "coalesce(pg_column_size(arguments), 0) + coalesce(pg_column_size(sent), 0) \
     + coalesce(pg_column_size(error), 0) + coalesce(pg_column_size(notes), 0)";

/// See [`super::Store::size`]. The table itself never shrinks, so what its rows take is added up, but only if the table
/// is large enough for that to matter to `above`.
pub(super) async fn size(pool: &PgPool, above: u64) -> Result<u64, sqlx::Error> {
    let table: i64 =
        sqlx::query_scalar("SELECT pg_total_relation_size('audit_calls')").fetch_one(pool).await?;
    let table = u64::try_from(table).unwrap_or_default();
    if table <= above {
        return Ok(table);
    }
    let sum = format!("SELECT coalesce(sum({ROW_BYTES} + {TEXTS}), 0)::bigint FROM audit_calls");
    let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sum)).fetch_one(pool).await?;
    Ok(u64::try_from(rows).unwrap_or_default().min(table))
}

/// See [`super::Store::take_oldest`].
pub(super) async fn take_oldest(
    pool: &PgPool,
    before: Option<&str>,
    limit: u32,
    enough: u64,
    keep: Keeper,
) -> Result<Taken, AuditError> {
    let mut transaction = pool.begin().await?;
    let mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(TAKING)
        .fetch_one(&mut *transaction)
        .await?;
    if !mine {
        // Another gateway is at it.
        transaction.rollback().await?;
        return Ok(Taken::default());
    }
    let mut query: QueryBuilder<Postgres> = QueryBuilder::new(format!(
        "SELECT {}, instance, call, ({ROW_BYTES} + {TEXTS})::bigint FROM audit_calls WHERE status <> 'pending'",
        columns(Dialect::Postgres, Later::ALL)
    ));
    if let Some(before) = before {
        query.push(" AND time < ").push_bind(before).push("::timestamptz");
    }
    query.push(" ORDER BY audit_calls.time LIMIT ").push_bind(i64::from(limit));
    let found = query.build().fetch_all(&mut *transaction).await?;
    let (mut rows, mut instances, mut calls, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for row in &found {
        instances.push(row.try_get::<String, _>(FURTHER)?);
        calls.push(row.try_get::<i64, _>(FURTHER + 1)?);
        bytes += u64::try_from(row.try_get::<i64, _>(FURTHER + 2)?).unwrap_or_default();
        rows.push(Row::read(row)?);
        if bytes >= enough {
            break;
        }
    }
    if rows.is_empty() {
        transaction.rollback().await?;
        return Ok(Taken::default());
    }
    super::super::persist::blocking(move || keep(&rows)).await?;
    let delete = "DELETE FROM audit_calls USING unnest($1::text[], $2::bigint[]) AS old (instance, call) \
         WHERE audit_calls.instance = old.instance AND audit_calls.call = old.call";
    let deleted = sqlx::query(delete).bind(instances).bind(calls).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Taken { rows: usize::try_from(deleted.rows_affected()).unwrap_or(usize::MAX), bytes })
}
