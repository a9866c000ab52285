//! Two runs of the suite side by side: the backend alone, and the same backend through the gateway.
//!
//! A passed scenario is not enough. The suite is content with an empty list or with an error's text where a
//! text is expected; what it saw, its `details`, must be equal too before the gateway counts as transparent.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::report::{Check, Report, Scenario, Status, why};

/// The most differences that one check may show; the rest is more of the same.
const PER_CHECK: usize = 8;
/// The most characters of a value that is shown.
const SHOWN: usize = 72;
/// How many characters before the first difference of two values are shown.
const CONTEXT: usize = 12;
/// Details that differ between two runs against the same server, by the end of their path: what it draws at
/// random, and the time. Found by running release 0.2.0-alpha.12 twice; ports differ too.
const VARYING: [&str; 9] = [
    "/date",
    // Of an event in a stream, which a client may resume from. The id of an answer must stay.
    "/event/id",
    "/mcp-session-id",
    // Among them notices that a list changed, which come when they come.
    "/messagesValidated",
    "/requestState",
    "/sessionId",
    "/sessionIdSent",
    "subscriptionId",
    "/taskId",
];

/// How lists must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// Item by item.
    Equal,
    /// Whatever the backend lists must be there; other backends add to it.
    Contained,
}

/// What the gateway changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Comparison {
    /// Scenarios that passed alone and fail now.
    pub(super) lost: Vec<Loss>,
    /// Checks that ended worse than alone, in scenarios that are not lost.
    pub(super) worse: Vec<Worse>,
    /// What the suite saw differently, in checks that ended alike.
    pub(super) different: Vec<Difference>,
}

/// A scenario that fails through the gateway only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) scenario: String,
    pub(super) scored: bool,
    pub(super) reasons: Vec<String>,
}

/// A check that ended worse.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Worse {
    pub(super) scenario: String,
    /// The id of the check, and what the suite said.
    pub(super) reason: String,
    pub(super) alone: Status,
    /// None if the check is missing.
    pub(super) through: Option<Status>,
}

/// One place in the details of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) scenario: String,
    pub(super) check: String,
    /// A JSON pointer into the details.
    pub(super) at: String,
    pub(super) alone: String,
    pub(super) through: String,
}

/// Compares a run through the gateway with the run of the backend alone.
pub(super) fn compare(alone: &Report, through: &Report, lists: Lists) -> Comparison {
    let mut found = Comparison::default();
    let ran: HashMap<&str, &Scenario> = through.scenarios.iter().map(|s| (s.name.as_str(), s)).collect();
    for scenario in &alone.scenarios {
        let other = ran.get(scenario.name.as_str());
        if scenario.passed() && !other.is_some_and(|other| other.passed()) {
            let reasons = other.map_or_else(|| vec!["it was not run".to_owned()], |other| other.reasons());
            found.lost.push(Loss { scenario: scenario.name.clone(), scored: scenario.scored, reasons });
            continue;
        }
        let before = scenario.checks.as_deref().unwrap_or_default();
        let after = other.and_then(|other| other.checks.as_deref()).unwrap_or_default();
        pair(&scenario.name, before, after, lists, &mut found);
    }
    found
}

/// Compares the checks of a scenario; the n-th of an id belongs to the n-th of that id.
fn pair(scenario: &str, before: &[Check], after: &[Check], lists: Lists, found: &mut Comparison) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for check in before {
        let nth = seen.entry(&check.id).or_default();
        let other = after.iter().filter(|other| other.id == check.id).nth(*nth);
        *nth += 1;
        let through = other.map(|other| other.status);
        // A note of the suite answers no question; there may be fewer.
        let worse = match through {
            Some(status) => status > check.status,
            None => check.status != Status::Info,
        };
        if worse {
            found.worse.push(Worse {
                scenario: scenario.to_owned(),
                reason: other.map_or_else(|| check.id.clone(), why),
                alone: check.status,
                through,
            });
        } else if let Some(other) = other {
            let mut walk = Walk { lists, at: String::new(), found: Vec::new() };
            walk.differ(&check.details, &other.details);
            found.different.extend(walk.found.into_iter().map(|(at, alone, through)| Difference {
                scenario: scenario.to_owned(),
                check: check.id.clone(),
                at,
                alone,
                through,
            }));
        }
    }
}

/// A walk through two values at once.
struct Walk {
    lists: Lists,
    /// Where it is, as a JSON pointer.
    at: String,
    /// Where they differ, and how: at most [`PER_CHECK`].
    found: Vec<(String, String, String)>,
}

impl Walk {
    fn differ(&mut self, alone: &Value, through: &Value) {
        match (alone, through) {
            (Value::Object(a), Value::Object(b)) => self.objects(a, b),
            (Value::Array(a), Value::Array(b)) => self.arrays(a, b),
            (Value::String(a), Value::String(b)) if without_port(a) == without_port(b) => {}
            (Value::Number(a), Value::Number(b)) if self.lists == Lists::Contained && self.counts() => {
                if b.as_f64() < a.as_f64() {
                    self.note(&alone.to_string(), &through.to_string());
                }
            }
            _ if alone == through => {}
            _ => self.note(&alone.to_string(), &through.to_string()),
        }
    }

    fn objects(&mut self, a: &Map<String, Value>, b: &Map<String, Value>) {
        for (key, value) in a {
            let below = self.enter(key);
            match b.get(key) {
                // It varies, but a text must not become a number, nor nothing.
                Some(other) if self.varies() => {
                    if std::mem::discriminant(value) != std::mem::discriminant(other) {
                        self.note(&value.to_string(), &other.to_string());
                    }
                }
                Some(other) => self.differ(value, other),
                None => self.note(&value.to_string(), "nothing"),
            }
            self.at.truncate(below);
        }
        if self.lists == Lists::Contained {
            return;
        }
        for (key, value) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
            let below = self.enter(key);
            self.note("nothing", &value.to_string());
            self.at.truncate(below);
        }
    }

    fn arrays(&mut self, a: &[Value], b: &[Value]) {
        // Items belong together if their names are equal, or they are texts and equal, wherever they stand.
        let (Some(names), Some(others)) = (names(a), names(b)) else {
            if a.len() == b.len() {
                for (index, (value, other)) in a.iter().zip(b).enumerate() {
                    let below = self.enter(&index.to_string());
                    self.differ(value, other);
                    self.at.truncate(below);
                }
            } else if self.lists == Lists::Equal || !a.iter().all(|value| b.contains(value)) {
                self.note(&format!("{} items", a.len()), &format!("{} items", b.len()));
            }
            return;
        };
        let (mut last, mut order) = (None, true);
        for (name, value) in names.iter().zip(a) {
            let below = self.enter(name);
            match others.iter().position(|other| other == name) {
                Some(index) => {
                    order &= last < Some(index);
                    last = Some(index);
                    self.differ(value, &b[index]);
                }
                None => self.note(&value.to_string(), "nothing"),
            }
            self.at.truncate(below);
        }
        if !order {
            self.note("items in one order", "in another");
        }
        if self.lists == Lists::Equal {
            for (name, value) in others.iter().zip(b).filter(|(name, _)| !names.contains(name)) {
                let below = self.enter(name);
                self.note("nothing", &value.to_string());
                self.at.truncate(below);
            }
        }
    }

    /// Whether the value here counts something that other backends add to.
    fn counts(&self) -> bool {
        self.at.ends_with("Count")
    }

    /// Whether the value here differs from run to run.
    fn varies(&self) -> bool {
        VARYING.iter().any(|end| self.at.ends_with(end))
    }

    /// Goes down one step; returns the length to cut back to.
    fn enter(&mut self, key: &str) -> usize {
        let below = self.at.len();
        self.at.push('/');
        self.at.push_str(&key.replace('~', "~0").replace('/', "~1"));
        below
    }

    fn note(&mut self, alone: &str, through: &str) {
        if self.found.len() < PER_CHECK {
            let (alone, through) = apart(alone, through);
            self.found.push((self.at.clone(), alone, through));
        }
    }
}

/// What the items of a list are called, if each has a name of its own.
fn names(items: &[Value]) -> Option<Vec<&str>> {
    let mut seen = HashSet::new();
    let names: Option<Vec<&str>> = items.iter().map(name_of).collect();
    names.filter(|names| names.iter().all(|name| seen.insert(*name)))
}

fn name_of(item: &Value) -> Option<&str> {
    item.as_str()
        .or_else(|| ["name", "uri", "uriTemplate"].into_iter().find_map(|key| item.get(key)?.as_str()))
}

/// Two texts where they come apart: what they have in common at their start is cut short.
fn apart(a: &str, b: &str) -> (String, String) {
    let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let skipped = if a == b { 0 } else { common.saturating_sub(CONTEXT) };
    let short = |text: &str| {
        let rest: String = text.chars().skip(skipped).collect();
        clip(&if skipped > 0 { format!("…{rest}") } else { rest }, SHOWN)
    };
    (short(a), short(b))
}

/// A text with `:PORT` for every port of this machine.
fn without_port(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let next = |rest: &str| {
        ["127.0.0.1:", "localhost:"].iter().filter_map(|host| Some(rest.find(host)? + host.len())).min()
    };
    while let Some(end) = next(rest) {
        out.push_str(&rest[..end]);
        let port = rest[end..].trim_start_matches(|c: char| c.is_ascii_digit());
        out.push_str("PORT");
        rest = port;
    }
    out.push_str(rest);
    out
}

/// A text of one line and at most `width` characters.
pub(super) fn clip(text: &str, width: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
