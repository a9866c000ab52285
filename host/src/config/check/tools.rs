//! Checks the settings of single tools of a backend.

use std::time::Duration;

use sentinel_names::Table;

use super::super::raw::{RawArguments, RawBackend, RawTool, Seconds};
use super::super::{Arguments, ToolRules};
use super::names::escaped;
use super::{Checker, duration};

/// How long a call may take that reports progress, unless it is said.
const LONGEST: Duration = Duration::from_secs(3_600);

impl Checker<'_> {
    /// The longest that a call may take, beside how long it may be silent.
    pub(super) fn longest(&mut self, at: &str, silence: Duration, typed: Option<Seconds>) -> Duration {
        let Some(longest) = typed.map(duration) else { return LONGEST.max(silence) };
        if longest < silence {
            let message =
                "it is shorter than timeout_secs, which is how long a call may take without progress";
            self.problem(&format!("{at}/max_timeout_secs"), message, "make it longer, or remove it");
        }
        longest
    }

    /// The tables by tool. Whether the names can mean anything is checked with those of all rules.
    pub(super) fn tools(&mut self, at: &str, raw: &RawBackend) -> ToolRules {
        let mut most = Duration::ZERO;
        for (tool, rule) in &raw.tools {
            let at = format!("{at}/tools/{}", escaped(tool));
            let silence = duration(rule.timeout_secs.unwrap_or(raw.timeout_secs));
            let longest = rule.max_timeout_secs.map(|typed| self.longest(&at, silence, Some(typed)));
            most = most.max(longest.unwrap_or(silence));
            if rule.arguments.is_none() && rule.timeout_secs.is_none() && rule.max_timeout_secs.is_none() {
                let hint = "arguments, timeout_secs or max_timeout_secs";
                self.warn(&at, "it says nothing about these tools", hint);
            }
        }
        let times = |of: fn(&RawTool) -> Option<Seconds>| {
            Table::new(raw.tools.iter().filter_map(|(tool, rule)| Some((tool.as_str(), duration(of(rule)?)))))
        };
        ToolRules {
            arguments: Table::new(
                raw.tools.iter().filter_map(|(tool, rule)| Some((tool.as_str(), arguments(rule.arguments?)))),
            ),
            timeouts: times(|rule| rule.timeout_secs),
            longest: times(|rule| rule.max_timeout_secs),
            most,
        }
    }
}

/// What was typed, as it is meant.
pub(super) fn arguments(raw: RawArguments) -> Arguments {
    match raw {
        RawArguments::Refuse => Arguments::Refuse,
        RawArguments::Warn => Arguments::Warn,
        RawArguments::Off => Arguments::Off,
    }
}
