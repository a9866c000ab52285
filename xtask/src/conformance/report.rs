//! What the suite wrote about one run, as facts: which scenarios it ran, and how each of their checks ended.
//!
//! The suite writes `server-NAME-TIME/checks.json` for each scenario; a scenario that threw leaves its folder
//! empty, and one that was never reached leaves none. Both count as failed: silence is no proof.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// How a check ended. The order is from best to worst, as a comparison needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Success,
    /// A note of the suite; nothing was asked.
    Info,
    /// The suite could not ask, or the server need not answer.
    Skipped,
    /// Something that should be, but need not be.
    Warning,
    Failure,
}

impl Status {
    fn parse(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "SUCCESS" => Self::Success,
            "INFO" => Self::Info,
            "SKIPPED" => Self::Skipped,
            "WARNING" => Self::Warning,
            "FAILURE" => Self::Failure,
            // A new word may mean a failure: it has to be judged when the suite is updated.
            _ => bail!("the suite has a new status: {word:?}"),
        })
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Success => "passed",
            Self::Info => "noted",
            Self::Skipped => "skipped",
            Self::Warning => "warned",
            Self::Failure => "failed",
        }
    }
}

/// One question of a scenario. Its id is unique neither in the suite nor in its scenario.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) message: Option<String>,
    /// What the suite saw; null if it recorded nothing.
    pub(super) details: Value,
}

impl Check {
    /// Reads a `checks.json`.
    ///
    /// # Errors
    /// If it is not what the pinned release of the suite writes.
    pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Self>> {
        let value: Value = serde_json::from_str(text).context("no JSON")?;
        let checks = value.as_array().context("no list of checks")?;
        checks.iter().map(Self::read).collect()
    }

    fn read(value: &Value) -> anyhow::Result<Self> {
        let word = |key: &str| value.get(key).and_then(Value::as_str);
        let id = word("id").with_context(|| format!("a check without an id: {value}"))?;
        let status = word("status").with_context(|| format!("{id} has no status"))?;
        Ok(Self {
            id: id.to_owned(),
            status: Status::parse(status)?,
            message: word("errorMessage").map(str::to_owned),
            details: value.get("details").cloned().unwrap_or_default(),
        })
    }
}

/// One scenario of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scenario {
    pub(super) name: String,
    /// Whether the revision requires it; the others are run for information.
    pub(super) scored: bool,
    /// None if it did not come to its end.
    pub(super) checks: Option<Vec<Check>>,
    /// Why not, as far as the suite said so.
    pub(super) broke: Option<String>,
}

impl Scenario {
    /// Whether it came to its end, asked something, and nothing it asked failed.
    pub(super) fn passed(&self) -> bool {
        let Some(checks) = &self.checks else { return false };
        !checks.is_empty() && checks.iter().all(|check| check.status != Status::Failure)
    }

    /// Why it did not pass; nothing if it did.
    pub(super) fn reasons(&self) -> Vec<String> {
        match &self.checks {
            None => vec![self.broke.clone().unwrap_or_else(|| "it did not come to its end".to_owned())],
            Some(checks) if checks.is_empty() => vec!["it checked nothing".to_owned()],
            Some(checks) => checks.iter().filter(|check| check.status == Status::Failure).map(why).collect(),
        }
    }
}

/// A check's id and what the suite said about it.
pub(super) fn why(check: &Check) -> String {
    match &check.message {
        Some(message) => format!("{}: {message}", check.id),
        None => format!("{} {}", check.id, check.status.word()),
    }
}

/// One run of the suite.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Report {
    pub(super) scenarios: Vec<Scenario>,
}

/// A run in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Of the scenarios that the revision requires.
    pub(super) passed: usize,
    pub(super) required: usize,
    /// Of all scenarios.
    pub(super) checks_passed: usize,
    pub(super) checks_failed: usize,
}

impl Report {
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for scenario in &self.scenarios {
            if scenario.scored {
                tally.required += 1;
                tally.passed += usize::from(scenario.passed());
            }
            match &scenario.checks {
                // As the suite counts a scenario that threw.
                None => tally.checks_failed += 1,
                Some(checks) => {
                    let count = |status| checks.iter().filter(|check| check.status == status).count();
                    tally.checks_passed += count(Status::Success);
                    tally.checks_failed += count(Status::Failure);
                }
            }
        }
        tally
    }

    /// Gathers what a run left in `folder`, in the order of the requirements; `log` is what it said meanwhile.
    ///
    /// # Errors
    /// If a file cannot be read or understood, or if the run left nothing at all.
    pub(super) fn read(folder: &Path, log: &str, requirements: &Requirements) -> anyhow::Result<Self> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Some(scenario) = scenario_of(&name) else { continue };
            let checks = match fs::read_to_string(path.join("checks.json")) {
                Ok(text) => Some(
                    Check::parse(&text).with_context(|| format!("cannot understand the checks of {name}"))?,
                ),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("cannot read the checks of {name}")),
            };
            found.insert(scenario.to_owned(), checks);
        }
        ensure!(!found.is_empty(), "the suite ran no scenario; the end of its log:\n{}", tail(log, 10));
        let wanted = requirements.all();
        let scenarios = wanted.map(|(name, scored)| {
            let reached = found.remove(name);
            let broke = match reached {
                Some(Some(_)) => None,
                Some(None) => thrown(log, name).or_else(|| Some("it hung".to_owned())),
                None => Some("it was not reached".to_owned()),
            };
            Scenario { name: name.to_owned(), scored, checks: reached.flatten(), broke }
        });
        let report = Self { scenarios: scenarios.collect() };
        ensure!(found.is_empty(), "scenarios that the revision does not name: {:?}", found.keys());
        Ok(report)
    }
}

/// The scenario in a folder's name: `server-ping-2026-11-21T05-26-55-123Z` is `ping`.
fn scenario_of(folder: &str) -> Option<&str> {
    let (name, time) = folder.strip_prefix("server-")?.split_at_checked(folder.len().checked_sub(32)?)?;
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    (shape == "-0000-00-00T00-00-00-000Z" && !name.is_empty()).then_some(name)
}

/// What the suite said when a scenario threw.
fn thrown(log: &str, scenario: &str) -> Option<String> {
    let mark = format!("Failed to run scenario {scenario}: ");
    log.lines().find_map(|line| line.trim().strip_prefix(&mark)).map(|reason| reason.trim().to_owned())
}

/// The last lines of a text.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Which scenarios a revision asks of a server, from the list that the suite ships.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    pub(super) scored: Vec<String>,
    /// Run for information: extensions, and what the suite's own server cannot pass.
    pub(super) others: Vec<String>,
}

impl Requirements {
    /// Reads the two lists out of the suite's YAML, which is plain enough to need no library.
    ///
    /// # Errors
    /// If there is no list of servers' scenarios in it.
    pub(super) fn parse(yaml: &str) -> anyhow::Result<Self> {
        let mut found = Self::default();
        let (mut section, mut pending) = ("", None);
        for line in yaml.lines() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            if !line.starts_with(' ') {
                section = line.trim_end().trim_end_matches(':');
                continue;
            }
            let line = line.trim();
            match section {
                "server" => found.scored.extend(line.strip_prefix("- ").map(|name| name.trim().to_owned())),
                "not_scored" => {
                    if let Some(name) = line.strip_prefix("- scenario:") {
                        pending = Some(name.trim().to_owned());
                    } else if line == "leg: server" {
                        found.others.extend(pending.take());
                    }
                }
                _ => {}
            }
        }
        ensure!(!found.scored.is_empty(), "no scenarios for servers");
        Ok(found)
    }

    /// Every scenario and whether it is scored.
    fn all(&self) -> impl Iterator<Item = (&str, bool)> {
        let scored = self.scored.iter().map(|name| (name.as_str(), true));
        scored.chain(self.others.iter().map(|name| (name.as_str(), false)))
    }
}

#[cfg(test)]
mod tests;
