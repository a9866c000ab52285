//! What a route says of its own end: since when it should not be used, until when it stays, and the older paths at which it
//! still answers.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::raw::{RawLegacyPath, RawRoute};
use super::super::rest::{Deprecation, LegacyPath, Template};
use super::Checker;

/// Most older paths of one route.
const MAX_PATHS: usize = 16;

impl Checker<'_> {
    /// The dates of a route.
    pub(super) fn deprecation(&mut self, at: &str, raw: &RawRoute) -> Deprecation {
        self.dates(at, "deprecated_since", raw.deprecated_since.as_deref(), raw.sunset.as_deref())
    }

    /// The older paths of a route at this path.
    pub(super) fn legacy_paths(
        &mut self,
        at: &str,
        raw: &[RawLegacyPath],
        path: Option<&Template>,
    ) -> Vec<LegacyPath> {
        if raw.len() > MAX_PATHS {
            let message = format!("a route has at most {MAX_PATHS} older paths");
            self.problem(&format!("{at}/legacy_paths"), message, "take some of them out");
        }
        let mut legacy = Vec::new();
        for (index, raw) in raw.iter().enumerate() {
            let at = format!("{at}/legacy_paths/{index}");
            let deprecation = self.dates(&at, "since", raw.since.as_deref(), raw.sunset.as_deref());
            if raw.since.is_none() {
                let message = "it is not said since when callers should not use it";
                self.problem(&format!("{at}/since"), message, "since = \"2026-01-31\"");
            }
            let Some(old) = self.template(&format!("{at}/path"), raw.path.as_deref()) else { continue };
            if let Some(path) = path {
                let sorted = |template: &Template| {
                    let mut names: Vec<String> = template.names().map(str::to_owned).collect();
                    names.sort_unstable();
                    names
                };
                if sorted(&old) != sorted(path) {
                    let message = format!("{old} has other names than {path}, so not every one has a value");
                    self.problem(&format!("{at}/path"), message, "write the same names, in any order");
                }
            }
            legacy.push(LegacyPath { path: old, deprecation });
        }
        legacy
    }

    fn dates(&mut self, at: &str, key: &str, since: Option<&str>, sunset: Option<&str>) -> Deprecation {
        let since = self.date(&format!("{at}/{key}"), since);
        let until = self.date(&format!("{at}/sunset"), sunset);
        // RFC 9745, section 4.
        if let (Some(since), Some(until)) = (since, until)
            && until < since
        {
            let message = "it ends before callers are told not to use it any more";
            self.problem(&format!("{at}/sunset"), message, format!("a date that is not before {key}"));
        }
        Deprecation { since, sunset: until }
    }

    fn date(&mut self, at: &str, typed: Option<&str>) -> Option<Timestamp> {
        let typed = typed?;
        let of_day = |day: Date| day.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
        let found = typed.parse::<Timestamp>().ok().or_else(|| typed.parse::<Date>().ok().and_then(of_day));
        if found.is_none() {
            let hint = "\"2026-01-31\", or with a time \"2026-01-31T12:00:00Z\"";
            self.problem(at, format!("{typed:?} is no date"), hint);
        }
        found
    }
}
