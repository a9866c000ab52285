//! What the audit is told: where the record is kept, how safely and how much of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::files::Trust;
use crate::redact::Redaction;

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// When the operating system has it: survives the death of the process, not that of the machine.
    #[default]
    Process,
    /// When the disk has it.
    Strict,
}

/// The database behind the journal.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// A file, which several instances on one machine may share. It and its folder are created.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
    /// A server, which any number of instances may share.
    Postgres {
        /// `postgres://user:password@host:port/database`.
        url: String,
        /// At most this many connections at once.
        max_connections: u32,
    },
}

impl fmt::Debug for StoreSettings {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => f.debug_struct("Sqlite").field("path", path).finish(),
            Self::Postgres { max_connections, .. } => {
                f.debug_struct("Postgres").field("max_connections", max_connections).finish_non_exhaustive()
            }
        }
    }
}

/// What the audit needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When a record counts as written.
    pub mode: Mode,
    /// The folder that holds `journal/`; several instances may share it.
    pub dir: PathBuf,
    /// The database.
    pub store: StoreSettings,
    /// What takes secrets out of everything that is recorded.
    pub redaction: Redaction,
    /// Longer arguments are stored as their digest and their beginning.
    pub max_arguments_bytes: usize,
    /// The same for calls that are refused.
    pub max_refused_arguments_bytes: usize,
    /// With this many bytes not yet in the database, new calls are refused.
    pub max_journal_bytes: u64,
    /// How long and how much is kept.
    pub keep: Keep,
    /// With fewer bytes free on the disk, new calls are refused; `None` for what fits the disk, 0 for never.
    pub min_free_bytes: Option<u64>,
    /// Folders that are not judged.
    pub trust: Trust,
}

impl Settings {
    /// Everything in this folder, and all other settings at their defaults.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            mode: Mode::Process,
            store: StoreSettings::Sqlite { path: dir.join("audit.db") },
            dir,
            redaction: Redaction::default(),
            max_arguments_bytes: 4 << 10,
            max_refused_arguments_bytes: 1 << 10,
            max_journal_bytes: 1 << 30,
            keep: Keep::default(),
            min_free_bytes: None,
            trust: Trust::default(),
        }
    }
}

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Older rows leave; `None` for no limit.
    pub max_age: Option<Duration>,
    /// When the record takes more bytes in the database, the oldest rows leave until it takes nine tenths of them;
    /// `None` for no limit.
    pub max_bytes: Option<u64>,
    /// What becomes of them.
    pub when_full: WhenFull,
}

/// What becomes of rows that are too old or too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They go into a file, a line of JSON each.
    #[default]
    Archive,
    /// They are gone.
    Delete,
}
