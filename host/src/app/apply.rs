//! The result of applying a configuration file, as plain data: for the log, and for the operator at the control socket.

use std::fmt;
use std::time::Duration;

use crate::config::{Change, Effect, Problems};

/// How many keys are named in one line of the log, at most.
const MAX_NAMED: usize = 20;

/// The changes that a reading of the file would make, key by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The generation that is in force.
    pub generation: u64,
    /// Every key that differs, with what applying it would do.
    pub changes: Vec<Change>,
}

/// The changes that applying the file has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The generation that is in force now; the one before it, if nothing had to change.
    pub generation: u64,
    /// Keys that are in force now.
    pub applied: Vec<Change>,
    /// Keys that the file says and that stay as they were, because they need a restart of the gateway.
    pub refused: Vec<Change>,
    /// Servers that were started for this generation, and those that are ended because no generation needs them any more.
    pub started: Vec<String>,
    pub ended: Vec<String>,
    /// How many servers serve on as they were: same process, same connection, same counters.
    pub kept: usize,
    /// From reading the file to the swap.
    pub took: Duration,
}

/// Why a file was not applied. The generation that was in force serves on.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// Everything that is wrong with it: the file, a plugin, a server that does not come up.
    #[error("{0}")]
    Refused(#[source] Problems),
    #[error(
        "another reading of the configuration, begun by {by} {since_secs} s ago, is not done yet: try again when it is"
    )]
    Busy { by: String, since_secs: u64 },
    #[error("{0}")]
    Failed(String),
}

impl Report {
    /// Whether the file said what was in force already.
    #[must_use]
    pub(crate) fn is_unchanged(&self) -> bool {
        self.applied.is_empty() && self.refused.is_empty()
    }

    /// Writes it into the log, for an operator who sent a signal.
    pub fn log(&self) {
        let made = match (&self.applied[..], &self.refused[..]) {
            ([], []) => "nothing in it has changed".to_owned(),
            ([], _) => "nothing has changed that can change while the gateway runs".to_owned(),
            (made, _) => format!("in force now: {}", list(made)),
        };
        tracing::info!(
            generation = self.generation,
            servers_kept = self.kept,
            servers_started = self.started.len(),
            servers_ended = self.ended.len(),
            took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "configuration reloaded: {made}"
        );
        if !self.refused.is_empty() {
            tracing::warn!(
                "not in force before the gateway is started anew, though the file says so now (refused: needs restart): {}",
                list(&self.refused)
            );
        }
    }
}

impl ApplyError {
    /// Writes it into the log.
    pub(crate) fn log(&self) {
        match self {
            Self::Refused(problems) => {
                tracing::error!("the old configuration stays in force, for these reasons:");
                problems.iter().for_each(|problem| tracing::error!("{problem}"));
            }
            error => tracing::error!("the old configuration stays in force: {error}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "generation {}", self.generation)?;
        for change in &self.applied {
            writeln!(f, "applied: {}", change.key)?;
        }
        for change in &self.refused {
            writeln!(f, "refused: needs restart: {}", change.key)?;
        }
        if self.is_unchanged() {
            writeln!(f, "unchanged: the file says what is in force")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return writeln!(f, "unchanged: the file says what generation {} has in force", self.generation);
        }
        for change in &self.changes {
            let effect = match change.effect {
                Effect::Live => "applies at once",
                Effect::Drain => "replaces a server: calls under way end on the old one",
                Effect::Restart => "needs a restart of the gateway",
            };
            writeln!(f, "{}: {effect}", change.key)?;
        }
        Ok(())
    }
}

fn list(changes: &[Change]) -> String {
    let shown =
        changes.iter().take(MAX_NAMED).map(|change| change.key.as_str()).collect::<Vec<_>>().join(", ");
    match changes.len().saturating_sub(MAX_NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
