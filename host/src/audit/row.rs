//! One call on record, and the one place that reads it out of a database: for `audit list`, for `audit tail`, and for
//! the removal of old rows.

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::Row as _;

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
    /// The arguments as the caller sent them, redacted; `null` if there were none.
    pub arguments: Option<Box<RawValue>>,
    /// The arguments as the backend got them, if a rewriter changed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Box<RawValue>>,
    /// How it ended, or `pending`.
    pub status: String,
    /// What went wrong.
    pub error: Option<String>,
    /// From arrival to reply, in milliseconds.
    pub latency_ms: Option<f64>,
    /// What policies had to say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<Box<RawValue>>,
    /// Which reading of the configuration file it was judged by: the number is that of the log. None in old rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When the row last changed, by the clock of the database; empty unless the query asked for it.
    #[serde(skip)]
    pub(super) changed: String,
}

/// How a database writes what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// A column with a time, as text: RFC 3339, UTC, microseconds.
    pub(super) fn time(self, column: &str) -> String {
        match self {
            Self::Sqlite => column.to_owned(),
            Self::Postgres => {
                format!(r#"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#)
            }
        }
    }

    /// What follows a bound text that is a time.
    pub(super) const fn cast(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "::timestamptz",
        }
    }
}

/// The columns that came later: each is a column or `NULL`, because the database may be from before there was one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Later {
    pub(super) sent: &'static str,
    pub(super) generation: &'static str,
}

impl Later {
    /// Those of a database that is up to date.
    pub(super) const ALL: Self = Self { sent: "sent", generation: "generation" };
}

/// What [`Row::read`] reads, in its order.
pub(super) fn columns(dialect: Dialect, Later { sent, generation }: Later) -> String {
    let time = dialect.time("time");
    format!(
        "request_id, {time}, subject, role, method, kind, tool, backend, session, rpc_id, arguments, {sent}, status, \
         error, latency_ms, notes, {generation}"
    )
}

/// The place of the first further column of a statement.
pub(super) const FURTHER: usize = 17;

/// A row of one of the libraries that databases are read with.
pub(super) trait Columns {
    type Error;
    fn text(&self, at: usize) -> Result<String, Self::Error>;
    fn text_or_null(&self, at: usize) -> Result<Option<String>, Self::Error>;
    fn number_or_null(&self, at: usize) -> Result<Option<f64>, Self::Error>;
    fn whole_or_null(&self, at: usize) -> Result<Option<i64>, Self::Error>;
}

macro_rules! columns_of {
    ($row:ty, $error:ty, $get:ident) => {
        impl Columns for $row {
            type Error = $error;

            fn text(&self, at: usize) -> Result<String, $error> {
                self.$get(at)
            }

            fn text_or_null(&self, at: usize) -> Result<Option<String>, $error> {
                self.$get(at)
            }

            fn number_or_null(&self, at: usize) -> Result<Option<f64>, $error> {
                self.$get(at)
            }

            fn whole_or_null(&self, at: usize) -> Result<Option<i64>, $error> {
                self.$get(at)
            }
        }
    };
}

columns_of!(sqlx::sqlite::SqliteRow, sqlx::Error, try_get);
columns_of!(sqlx::postgres::PgRow, sqlx::Error, try_get);
columns_of!(rusqlite::Row<'_>, rusqlite::Error, get);

impl Row {
    /// Reads a row whose first columns are [`columns`].
    pub(super) fn read<C: Columns>(row: &C) -> Result<Self, C::Error> {
        Ok(Self {
            request_id: row.text(0)?,
            time: row.text(1)?,
            subject: row.text(2)?,
            role: row.text(3)?,
            method: row.text(4)?,
            kind: row.text(5)?,
            tool: row.text(6)?,
            backend: row.text(7)?,
            session: row.text(8)?,
            rpc_id: row.text(9)?,
            arguments: raw(row.text_or_null(10)?),
            sent: raw(row.text_or_null(11)?),
            status: row.text(12)?,
            error: row.text_or_null(13)?,
            latency_ms: row.number_or_null(14)?,
            notes: raw(row.text_or_null(15)?),
            generation: row.whole_or_null(16)?,
            changed: String::new(),
        })
    }
}

/// Stored JSON; a column somebody edited into something else is shown as a string.
fn raw(text: Option<String>) -> Option<Box<RawValue>> {
    let text = text?;
    RawValue::from_string(text.clone()).or_else(|_| serde_json::value::to_raw_value(&text)).ok()
}
