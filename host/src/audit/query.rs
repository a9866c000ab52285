//! Reads the record back, for the command line and the console.

use std::collections::HashSet;
use std::mem;

use jiff::{SignedDuration, Timestamp};
use sqlx::postgres::Postgres;
use sqlx::sqlite::Sqlite;
use sqlx::{Pool, QueryBuilder, Row as _};

mod table;
mod wanted;

pub use self::table::{Look, render};
pub use self::wanted::{Pattern, Query, STATUSES};
pub use super::row::Row;
use super::row::{Dialect, FURTHER, Later, columns};
use super::store::{Database, Readable};
use super::{AuditError, Status, StoreSettings};

/// How far [`after`] looks back behind what it has seen: a transaction becomes visible only after the time it carries.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);
/// Rows fetched at once by [`after`].
const PAGE: u32 = 1000;
/// Pages fetched by one call of [`after`]; what is left comes with the next one.
const MAX_PAGES: usize = 100;

/// Where a reader of [`after`] stands; it also keeps the connection.
#[derive(Debug)]
pub struct Cursor {
    database: Option<Database>,
    /// What is looked for, and how many old rows the first call returns.
    wanted: Query,
    position: Option<Timestamp>,
    /// What was returned within the overlap.
    seen: HashSet<String>,
}

impl Cursor {
    /// Begins with as many of the newest finished calls that are wanted as `wanted.limit` says.
    #[must_use]
    pub fn new(wanted: Query) -> Self {
        Self { database: None, wanted, position: None, seen: HashSet::new() }
    }
}

/// All conditions of a statement.
#[derive(Default)]
struct Filter<'a> {
    wanted: Option<&'a Query>,
    /// Finished calls that changed at or after this time, and later than the call of this name at this time.
    page: Option<(&'a str, &'a str)>,
    finished: bool,
    by_change: bool,
    newest: bool,
    limit: u32,
}

/// The newest rows that match, oldest first.
///
/// # Errors
/// The database cannot be read.
pub async fn list(settings: &StoreSettings, query: &Query) -> Result<Vec<Row>, AuditError> {
    let database = Database::connect(settings).await?;
    let filter = Filter { wanted: Some(query), newest: true, limit: query.limit, ..Filter::default() };
    let rows = database.select(&filter).await;
    database.close().await;
    let mut rows = rows?;
    rows.reverse();
    Ok(rows)
}

/// The calls that finished since the last time, in the order in which they reached the database. Each is returned
/// once. The first time, those the cursor was told to begin with.
///
/// # Errors
/// The database cannot be read; the cursor stays where it is.
pub async fn after(settings: &StoreSettings, cursor: &mut Cursor) -> Result<Vec<Row>, AuditError> {
    let database = match cursor.database.take() {
        Some(database) => database,
        None => Database::connect(settings).await?,
    };
    let result = match cursor.position {
        None => begin(&database, cursor).await,
        Some(position) => advance(&database, cursor, position).await,
    };
    if result.is_ok() {
        cursor.database = Some(database);
    }
    result
}

async fn begin(database: &Database, cursor: &mut Cursor) -> Result<Vec<Row>, AuditError> {
    let newest = Filter { finished: true, by_change: true, newest: true, limit: 1, ..Filter::default() };
    // If there is no row yet, every row will be new, whatever the clock of the database says.
    let position = match database.select(&newest).await?.first() {
        Some(row) => row.changed.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        None => Timestamp::UNIX_EPOCH,
    };
    // Rows within the overlap now are old, whether they are among the rows returned or not.
    cursor.seen = window(database, position).await?.into_iter().map(|row| row.request_id).collect();
    let wanted = Filter { wanted: Some(&cursor.wanted), limit: cursor.wanted.limit, ..newest };
    let mut rows = database.select(&wanted).await?;
    cursor.position = Some(position);
    rows.reverse();
    cursor.seen.extend(rows.iter().map(|row| row.request_id.clone()));
    Ok(rows)
}

async fn advance(
    database: &Database,
    cursor: &mut Cursor,
    position: Timestamp,
) -> Result<Vec<Row>, AuditError> {
    // All new rows are read, so that the position moves on even if wanted rows are rare.
    let rows = window(database, position).await?;
    let newest = rows.last().and_then(|row| row.changed.parse().ok()).unwrap_or(position).max(position);
    let seen = mem::take(&mut cursor.seen);
    cursor.position = Some(newest);
    cursor.seen = rows.iter().map(|row| row.request_id.clone()).collect();
    let new = |row: &Row| !seen.contains(&row.request_id) && cursor.wanted.fits(row);
    Ok(rows.into_iter().filter(new).collect())
}

/// All finished calls that changed since shortly before `position`.
async fn window(database: &Database, position: Timestamp) -> Result<Vec<Row>, AuditError> {
    let from = position.checked_sub(OVERLAP).unwrap_or(position);
    let mut rows: Vec<Row> = Vec::new();
    let (mut changed, mut id) = (format!("{from:.6}"), String::new());
    for _ in 0..MAX_PAGES {
        let page = Some((changed.as_str(), id.as_str()));
        let filter = Filter { finished: true, by_change: true, limit: PAGE, page, ..Filter::default() };
        let found = database.select(&filter).await?;
        let full = found.len() == PAGE as usize;
        rows.extend(found);
        match rows.last() {
            Some(last) if full => (changed, id) = (last.changed.clone(), last.request_id.clone()),
            _ => break,
        }
    }
    Ok(rows)
}

macro_rules! select {
    ($function:ident, $database:ty, $dialect:expr) => {
        async fn $function(
            pool: &Pool<$database>,
            later: Later,
            filter: &Filter<'_>,
        ) -> Result<Vec<Row>, sqlx::Error> {
            let (dialect, cast) = ($dialect, $dialect.cast());
            let mut query: QueryBuilder<$database> = QueryBuilder::new(format!(
                "SELECT {}, {} FROM audit_calls WHERE 1 = 1",
                columns(dialect, later),
                dialect.time("changed")
            ));
            if let Some(wanted) = filter.wanted {
                if let Some(since) = wanted.since {
                    query.push(" AND time >= ").push_bind(format!("{since:.6}")).push(cast);
                }
                if let Some(until) = wanted.until {
                    query.push(" AND time < ").push_bind(format!("{until:.6}")).push(cast);
                }
                for (column, pattern) in wanted.patterns() {
                    let (before, value, behind) = pattern.condition(dialect);
                    query.push(" AND ").push(column).push(before).push_bind(value).push(behind);
                }
                if !wanted.statuses.is_empty() {
                    let mut list = query.push(" AND status IN (").separated(", ");
                    for status in &wanted.statuses {
                        list.push_bind(status.as_str());
                    }
                    query.push(")");
                    // What the index of statuses was told to leave out.
                    if !wanted.statuses.iter().any(|status| status == Status::Success.as_str()) {
                        query.push(" AND status <> 'success'");
                    }
                }
            }
            if filter.finished {
                query.push(" AND status <> 'pending'");
            }
            if let Some((changed, id)) = filter.page {
                query.push(" AND (changed, request_id) > (").push_bind(changed).push(cast);
                query.push(", ").push_bind(id).push(")");
            }
            query.push(match (filter.by_change, filter.newest) {
                (true, true) => " ORDER BY audit_calls.changed DESC, request_id DESC",
                (true, false) => " ORDER BY audit_calls.changed, request_id",
                (false, true) => " ORDER BY audit_calls.time DESC, instance DESC, call DESC",
                (false, false) => " ORDER BY audit_calls.time, instance, call",
            });
            query.push(" LIMIT ").push_bind(i64::from(filter.limit));
            let rows = query.build().fetch_all(pool).await?;
            rows.iter().map(|row| Ok(Row { changed: row.try_get(FURTHER)?, ..Row::read(row)? })).collect()
        }
    };
}

select!(select_sqlite, Sqlite, Dialect::Sqlite);
select!(select_postgres, Postgres, Dialect::Postgres);

impl Database {
    async fn select(&self, filter: &Filter<'_>) -> Result<Vec<Row>, AuditError> {
        let later = self.later;
        Ok(match &self.pool {
            Readable::Sqlite(pool) => select_sqlite(pool, later, filter).await?,
            Readable::Postgres(pool) => select_postgres(pool, later, filter).await?,
        })
    }
}
