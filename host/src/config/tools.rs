//! Settings for single tools of a backend: how long a call may take, and what happens to arguments that do not fit.

use std::time::Duration;

use sentinel_names::{Names, Table};

use super::Backend;
use crate::call::{Call, TargetKind};

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

impl Backend {
    /// How long this call may take.
    #[must_use]
    pub fn patience(&self, call: &Call) -> Patience {
        let names = call.target.names();
        let of_tool = |table: &Table<Duration>| {
            (call.target.kind == TargetKind::Tool).then(|| table.get(&names).copied()).flatten()
        };
        let silence = of_tool(&self.tools.timeouts).unwrap_or(self.timeout);
        let longest = of_tool(&self.tools.longest).unwrap_or(self.longest).max(silence);
        Patience { silence, longest }
    }

    /// The longest time that any call may take.
    #[must_use]
    pub fn most_patient(&self) -> Duration {
        self.tools.most.max(self.longest).max(self.timeout)
    }

    /// Whether the same schemas of tools are read in the same way under these settings and under others.
    #[must_use]
    pub(crate) fn checks_as(&self, other: &Self) -> bool {
        self.arguments == other.arguments
            && self.tools.arguments == other.tools.arguments
            && self.strict_schemas == other.strict_schemas
    }

    /// What becomes of arguments that do not fit this tool's schema.
    #[must_use]
    pub fn arguments(&self, tool: &Names<'_>) -> Arguments {
        self.tools.arguments.get(tool).copied().unwrap_or(self.arguments)
    }
}
