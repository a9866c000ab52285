//! Why something is not on record, and how callers hear of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::FileError;

/// Why something could not be recorded, moved or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A folder or file of the audit cannot be used.
    #[error("the audit cannot use {}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others could read or change what the audit writes.
    #[error("the audit record would be open to others: {0}")]
    Files(#[from] FileError),
    /// The disk is nearly full.
    #[error(
        "only {free} bytes are free where {} is: calls are refused until it is more than {floor}; make room there, or \
         lower audit.min_free_bytes", path.display()
    )]
    Space {
        /// Where.
        path: PathBuf,
        /// Bytes left.
        free: u64,
        /// The bytes there must be.
        floor: u64,
    },
    /// The thread that syncs the journal could not be started.
    #[error("the thread that syncs the audit journal cannot be started")]
    Thread(#[source] std::io::Error),
    /// The record could not be written.
    #[error("the audit journal cannot be written")]
    Write(#[source] std::io::Error),
    /// The journal could not be read.
    #[error("the audit journal cannot be read")]
    Read(#[from] std::io::Error),
    /// The record was to be written together with others, and that failed.
    #[error(transparent)]
    Together(Arc<Self>),
    /// The database has fallen too far behind.
    #[error("the audit journal holds {backlog} bytes that are not in the database yet; its limit is {limit}")]
    Full {
        /// Bytes not yet in the database.
        backlog: u64,
        /// The configured limit.
        limit: u64,
    },
    /// The journal failed in a way after which nothing can be promised any more.
    #[error("the audit journal failed: {0}")]
    Poisoned(String),
    /// The disk did not answer in time.
    #[error("the audit journal was not synced within 10 seconds")]
    SlowSync,
    /// The audit was closed.
    #[error("the audit is closed")]
    Closed,
    /// A record in the journal of this living instance is damaged.
    #[error("the audit journal is damaged after record {0}")]
    Damaged(u64),
    /// The database refused or did not answer.
    #[error("the audit database failed")]
    Store(#[from] sqlx::Error),
    /// SQLite refused what the ingester brought.
    #[error("the audit database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The tables could not be created or updated.
    #[error("the tables of the audit database cannot be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Closing took too long; the next start moves the rest.
    #[error("{backlog} bytes of the audit journal are not in the database yet; the next start moves them")]
    Unfinished {
        /// Bytes left in the journal.
        backlog: u64,
    },
}

impl AuditError {
    /// The text for callers: whether it helps to try again, and who has to do something.
    #[must_use]
    pub fn for_callers(&self) -> &'static str {
        match self {
            Self::Together(error) => error.for_callers(),
            Self::Space { .. } => {
                "the gateway has too little disk space left to record calls, so it refuses them until its operator makes room"
            }
            Self::Full { .. } => {
                "the gateway's audit database does not take records any more, so calls are refused until it does"
            }
            _ => "the audit record cannot be written",
        }
    }

    pub(super) fn folder(path: &Path, source: std::io::Error) -> Self {
        Self::Folder { path: path.to_owned(), source }
    }
}
