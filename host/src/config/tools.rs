//! Settings for single tools of a backend: how long a call may take, and what happens to arguments that do not fit.

use std::time::Duration;

use sentinel_names::Table;

/// What becomes of a call whose arguments do not fit the tool's schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Arguments {
    /// It is refused.
    #[default]
    Refuse,
    /// It is passed on, and the log says so.
    Warn,
    /// They are not checked.
    Off,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Without a sign that the server works on it.
    pub silence: Duration,
    /// In all.
    pub longest: Duration,
}

/// Settings of single tools. Each kind of setting is a table of its own: the most specific entry that has the setting
/// counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRules {
    pub(super) arguments: Table<Arguments>,
    pub(super) timeouts: Table<Duration>,
    pub(super) longest: Table<Duration>,
    /// The longest time of all of them.
    pub(super) most: Duration,
}

impl Default for ToolRules {
    fn default() -> Self {
        Self {
            arguments: Table::new([]),
            timeouts: Table::new([]),
            longest: Table::new([]),
            most: Duration::ZERO,
        }
    }
}
