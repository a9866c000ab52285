//! The filter of `audit list` and `audit tail`: as conditions of an SQL statement, and applied to rows that were read.

use jiff::Timestamp;

use super::super::row::{Dialect, Row};
use super::super::words::Status;

/// Every word a row may have as its status.
pub const STATUSES: [&str; 12] = {
    let mut words = ["pending"; Status::ALL.len() + 1];
    let mut at = 0;
    while at < Status::ALL.len() {
        words[at] = Status::ALL[at].as_str();
        at += 1;
    }
    words
};

/// Which rows to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// At most this many, the newest.
    pub limit: u32,
    /// None older than this.
    pub since: Option<Timestamp>,
    /// None of this time or later.
    pub until: Option<Timestamp>,
    /// Only these tools.
    pub tool: Option<Pattern>,
    /// Only these backends.
    pub backend: Option<Pattern>,
    /// Only these callers.
    pub subject: Option<Pattern>,
    /// Only callers in these roles.
    pub role: Option<Pattern>,
    /// Only these of [`STATUSES`]; all if there is none.
    pub statuses: Vec<String>,
}

/// A name, or several: `*` stands for any letters, none included. The case counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Pattern {
    /// Whether a name is meant.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        sentinel_names::fits(&self.0, name)
    }

    /// The condition before and after the value that is bound, and that value.
    pub(super) fn condition(&self, dialect: Dialect) -> (&'static str, String, &'static str) {
        if !self.0.contains('*') {
            return (" = ", self.0.clone(), "");
        }
        // Both leave nothing but `*` to mean more than itself.
        match dialect {
            // LIKE would take large letters for small ones.
            Dialect::Sqlite => (" GLOB ", self.0.replace('[', "[[]").replace('?', "[?]"), ""),
            Dialect::Postgres => {
                let escaped = self.0.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
                (" LIKE ", escaped.replace('*', "%"), " ESCAPE '\\'")
            }
        }
    }
}

impl Query {
    /// The columns that have to fit a pattern.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&'static str, &Pattern)> {
        [("tool", &self.tool), ("backend", &self.backend), ("subject", &self.subject), ("role", &self.role)]
            .into_iter()
            .filter_map(|(column, pattern)| Some((column, pattern.as_ref()?)))
    }

    /// Whether a row is among those that are wanted, however many there are.
    #[must_use]
    pub fn fits(&self, row: &Row) -> bool {
        let time = || row.time.parse::<Timestamp>().ok();
        self.patterns().all(|(column, pattern)| {
            pattern.fits(match column {
                "tool" => &row.tool,
                "backend" => &row.backend,
                "subject" => &row.subject,
                _ => &row.role,
            })
        }) && (self.statuses.is_empty() || self.statuses.contains(&row.status))
            && self.since.is_none_or(|since| time().is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time().is_some_and(|time| time < until))
    }
}
