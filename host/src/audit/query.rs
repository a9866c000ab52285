//! Reads the record back, for the command line and the console.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::mem;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::postgres::Postgres;
use sqlx::sqlite::Sqlite;
use sqlx::{Pool, QueryBuilder, Row as _};

use super::store::Database;
use super::{AuditError, Status, StoreSettings};
use crate::text;

/// How far [`after`] looks back behind what it has seen: a transaction becomes visible only after the time it carries.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);
/// Rows fetched at once by [`after`].
const PAGE: u32 = 1000;
/// Pages fetched by one call of [`after`]; what is left comes with the next one.
const MAX_PAGES: usize = 100;
/// The widest a column of [`render`] gets.
const MAX_COLUMN: usize = 60;

/// Which rows to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// At most this many, the newest.
    pub limit: u32,
    /// None older than this.
    pub since: Option<Timestamp>,
    /// Only this tool.
    pub tool: Option<String>,
    /// Only this status.
    pub status: Option<String>,
}

/// One call on record.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The name of the call.
    pub request_id: String,
    /// When it arrived: RFC 3339, UTC, microseconds.
    pub time: String,
    /// Who called.
    pub subject: String,
    /// As what.
    pub role: String,
    /// The method of the protocol.
    pub method: String,
    /// The kind of thing called.
    pub kind: String,
    /// Its name.
    pub tool: String,
    /// Where it lives.
    pub backend: String,
    /// The client's session.
    pub session: String,
    /// The id the client gave the request.
    pub rpc_id: String,
    /// The arguments, redacted; `null` if there were none.
    pub arguments: Option<Box<RawValue>>,
    /// How it ended, or `pending`.
    pub status: String,
    /// What went wrong.
    pub error: Option<String>,
    /// From arrival to reply, in milliseconds.
    pub latency_ms: Option<f64>,
    /// What policies had to say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<Box<RawValue>>,
    /// When the row last changed, by the clock of the database.
    #[serde(skip)]
    pub(super) changed: String,
}

/// Where a reader of [`after`] stands; it also keeps the connection.
#[derive(Debug)]
pub struct Cursor {
    database: Option<Database>,
    /// How many old rows the first call returns.
    backlog: u32,
    position: Option<Timestamp>,
    /// What was returned within the overlap.
    seen: HashSet<String>,
}

impl Cursor {
    /// Begins with the `backlog` newest finished calls.
    #[must_use]
    pub fn new(backlog: u32) -> Self {
        Self { database: None, backlog, position: None, seen: HashSet::new() }
    }
}

/// Everything a statement may ask for.
#[derive(Default)]
struct Filter<'a> {
    since: Option<Timestamp>,
    tool: Option<&'a str>,
    status: Option<&'a str>,
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
    let filter = Filter {
        since: query.since,
        tool: query.tool.as_deref(),
        status: query.status.as_deref(),
        newest: true,
        limit: query.limit,
        ..Filter::default()
    };
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
    let newest = Filter {
        finished: true,
        by_change: true,
        newest: true,
        limit: cursor.backlog.max(1),
        ..Filter::default()
    };
    let mut rows = database.select(&newest).await?;
    // Without any row everything is new, whatever the clock of the database says.
    let position = rows.first().and_then(|row| row.changed.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    // What stands within the overlap now is old, whether it is among the rows returned or not.
    cursor.seen = window(database, position).await?.into_iter().map(|row| row.request_id).collect();
    cursor.position = Some(position);
    rows.truncate(cursor.backlog as usize);
    rows.reverse();
    cursor.seen.extend(rows.iter().map(|row| row.request_id.clone()));
    Ok(rows)
}

async fn advance(
    database: &Database,
    cursor: &mut Cursor,
    position: Timestamp,
) -> Result<Vec<Row>, AuditError> {
    let rows = window(database, position).await?;
    let newest = rows.last().and_then(|row| row.changed.parse().ok()).unwrap_or(position).max(position);
    let seen = mem::take(&mut cursor.seen);
    cursor.position = Some(newest);
    cursor.seen = rows.iter().map(|row| row.request_id.clone()).collect();
    Ok(rows.into_iter().filter(|row| !seen.contains(&row.request_id)).collect())
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
    ($function:ident, $database:ty, cast $cast:literal, time $time:literal, changed $changed:literal) => {
        async fn $function(pool: &Pool<$database>, filter: &Filter<'_>) -> Result<Vec<Row>, sqlx::Error> {
            let mut query: QueryBuilder<$database> = QueryBuilder::new(concat!(
                "SELECT request_id, ",
                $time,
                ", subject, role, method, kind, tool, backend, session, rpc_id, \
                 arguments, status, error, latency_ms, notes, ",
                $changed,
                " FROM audit_calls WHERE 1 = 1"
            ));
            if let Some(since) = filter.since {
                query.push(" AND time >= ").push_bind(format!("{since:.6}")).push($cast);
            }
            if let Some(tool) = filter.tool {
                query.push(" AND tool = ").push_bind(tool);
            }
            if let Some(status) = filter.status {
                query.push(" AND status = ").push_bind(status);
                // What the index of statuses was told to leave out.
                if status != Status::Success.as_str() {
                    query.push(" AND status <> 'success'");
                }
            }
            if filter.finished {
                query.push(" AND status <> 'pending'");
            }
            if let Some((changed, id)) = filter.page {
                query.push(" AND (changed, request_id) > (").push_bind(changed).push($cast);
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
            rows.into_iter()
                .map(|row| {
                    Ok(Row {
                        request_id: row.try_get(0)?,
                        time: row.try_get(1)?,
                        subject: row.try_get(2)?,
                        role: row.try_get(3)?,
                        method: row.try_get(4)?,
                        kind: row.try_get(5)?,
                        tool: row.try_get(6)?,
                        backend: row.try_get(7)?,
                        session: row.try_get(8)?,
                        rpc_id: row.try_get(9)?,
                        arguments: raw(row.try_get(10)?),
                        status: row.try_get(11)?,
                        error: row.try_get(12)?,
                        latency_ms: row.try_get(13)?,
                        notes: raw(row.try_get(14)?),
                        changed: row.try_get(15)?,
                    })
                })
                .collect()
        }
    };
}

select!(select_sqlite, Sqlite, cast "", time "time", changed "changed");
select!(
    select_postgres, Postgres, cast "::timestamptz",
    time r#"to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#,
    changed r#"to_char(changed AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#
);

impl Database {
    async fn select(&self, filter: &Filter<'_>) -> Result<Vec<Row>, AuditError> {
        Ok(match self {
            Self::Sqlite(pool) => select_sqlite(pool, filter).await?,
            Self::Postgres(pool) => select_postgres(pool, filter).await?,
        })
    }
}

/// Stored JSON; a column somebody edited into something else is shown as a string.
pub(super) fn raw(text: Option<String>) -> Option<Box<RawValue>> {
    let text = text?;
    RawValue::from_string(text.clone()).or_else(|_| serde_json::value::to_raw_value(&text)).ok()
}

/// The rows as an aligned table with a heading, one line each, safe to show on a terminal.
#[must_use]
pub fn render(rows: &[Row]) -> String {
    const HEADINGS: [&str; 9] =
        ["TIME", "REQUEST", "SUBJECT", "ROLE", "TOOL", "BACKEND", "STATUS", "MS", "DETAIL"];
    let mut table: Vec<[String; 9]> = vec![HEADINGS.map(str::to_owned)];
    table.extend(rows.iter().map(cells));
    let widths: [usize; 9] = std::array::from_fn(|column| {
        table.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for line in &table {
        let start = text.len();
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            // Writing into memory cannot fail.
            let _infallible = match column {
                7 => write!(text, "{cell:>width$}  "),
                8 => write!(text, "{cell}"),
                _ => write!(text, "{cell:<width$}  "),
            };
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text
}

fn cells(row: &Row) -> [String; 9] {
    let detail =
        row.error.as_deref().or_else(|| row.arguments.as_deref().map(RawValue::get)).unwrap_or_default();
    let name = if row.tool.is_empty() { &row.method } else { &row.tool };
    let latency = row.latency_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let texts = [&row.time, &row.request_id, &row.subject, &row.role, name, &row.backend, &row.status];
    let [time, request, subject, role, tool, backend, status] = texts.map(|text| short(text));
    [time, request, subject, role, tool, backend, status, latency, short(detail)]
}

fn short(text: &str) -> String {
    let safe = text::line(text);
    match safe.char_indices().nth(MAX_COLUMN) {
        None => safe.into_owned(),
        Some((end, _)) => format!("{}…", &safe[..end]),
    }
}
