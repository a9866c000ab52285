//! How a run of the suite looks: one line for each, and under the table what the gateway changed.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use super::compare::{Comparison, Difference, clip};
use super::report::{Report, Status, Tally};

/// How much stands under the table.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// The most lines of one kind for a run.
    lines: usize,
    /// The most characters of a line.
    width: usize,
    /// Whether one example stands for all differences of a kind.
    grouped: bool,
}

/// Of a scenario that the suite runs for information.
const NOT_SCORED: &str = " (not scored)";
/// What a person reads at a terminal.
const BRIEF: Room = Room { lines: 12, width: 170, grouped: true };
/// What a file may hold.
const FULL: Room = Room { lines: usize::MAX, width: 2_000, grouped: false };

/// A run, as it is told.
#[derive(Debug)]
pub(super) struct Row {
    /// What was tested.
    pub(super) cell: String,
    pub(super) revision: &'static str,
    pub(super) outcome: Outcome,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The backend alone.
    Alone(Report),
    Through {
        tally: Tally,
        comparison: Comparison,
        /// Scored scenarios that no gateway could pass here, of those that are lost.
        excused: Vec<String>,
        /// What else is lost and counts.
        counted: Vec<String>,
    },
    /// It could not be run.
    Broke(String),
}

/// Paints, for terminals only, and not for people who set `NO_COLOR`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) fn for_stdout() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    fn put(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

impl Row {
    /// Whether nothing is lost that counts.
    pub(super) fn good(&self) -> bool {
        match &self.outcome {
            Outcome::Alone(_) => true,
            Outcome::Through { counted, .. } => counted.is_empty(),
            Outcome::Broke(_) => false,
        }
    }
}

/// The table, and the first few of what the gateway changed.
pub(super) fn brief(rows: &[Row], paint: Paint) -> String {
    render(rows, paint, BRIEF)
}

/// The table, and everything the gateway changed.
pub(super) fn full(rows: &[Row]) -> String {
    render(rows, Paint(false), FULL)
}

fn render(rows: &[Row], paint: Paint, room: Room) -> String {
    let width = rows.iter().map(|row| row.cell.chars().count()).max().unwrap_or_default().max(4);
    let mut out = paint.put(
        "1",
        &format!(
            "  {:width$}  {:10}  {:>9}  {:>11}  {:>4}  {:>5}  {:>7}",
            "cell", "revision", "scenarios", "checks ✓/✗", "lost", "worse", "details"
        ),
    );
    out.push('\n');
    for row in rows {
        out.push_str(&line(row, width, paint));
        out.push('\n');
    }
    let mut told: Vec<(&Row, String)> = Vec::new();
    for row in rows {
        let text = explain(row, paint, room);
        if text.is_empty() {
            continue;
        }
        let title = paint.put("1", &format!("{}, {}", row.cell, row.revision));
        let before = told.iter().find(|(other, same)| other.revision == row.revision && *same == text);
        let _ = match before {
            Some((other, _)) => write!(out, "\n{title}\n  the same as {}\n", other.cell),
            None => write!(out, "\n{title}\n{text}"),
        };
        told.push((row, text));
    }
    out
}

fn line(row: &Row, width: usize, paint: Paint) -> String {
    let mark = if row.good() { paint.put("32", "✓") } else { paint.put("31", "✗") };
    let head = format!("{mark} {:width$}  {:10}", row.cell, row.revision);
    let numbers = |tally: Tally| {
        let scenarios = format!("{}/{}", tally.passed, tally.required);
        let checks = format!("{}/{}", tally.checks_passed, tally.checks_failed);
        format!("{scenarios:>9}  {checks:>11}")
    };
    match &row.outcome {
        Outcome::Alone(report) => format!("{head}  {}", numbers(report.tally())),
        Outcome::Through { tally, comparison, .. } => {
            let Comparison { lost, worse, different } = comparison;
            format!(
                "{head}  {}  {:>4}  {:>5}  {:>7}",
                numbers(*tally),
                lost.len(),
                worse.len(),
                different.len()
            )
        }
        Outcome::Broke(reason) => format!("{head}  {}", paint.put("31", &clip(reason, BRIEF.width))),
    }
}

/// What the numbers of a row are made of.
fn explain(row: &Row, paint: Paint, room: Room) -> String {
    let mut lines = Vec::new();
    match &row.outcome {
        Outcome::Alone(report) => {
            let failed = report.scenarios.iter().filter(|scenario| !scenario.passed());
            let failed = failed.map(|scenario| {
                let (mark, what) = (paint.put("33", "✗"), if scenario.scored { "" } else { NOT_SCORED });
                format!("{mark} {}{what}: {}", scenario.name, scenario.reasons().join("; "))
            });
            few(&mut lines, room.lines, failed);
        }
        Outcome::Through { comparison, excused, counted, .. } => {
            let lost = comparison.lost.iter().map(|loss| {
                let counts = counted.contains(&loss.scenario);
                let mark = if counts { paint.put("31", "✗") } else { paint.put("33", "·") };
                let what = match (excused.contains(&loss.scenario), loss.scored) {
                    (true, _) => " (beyond any gateway)",
                    (false, true) => "",
                    (false, false) => NOT_SCORED,
                };
                format!("{mark} {}{what}: {}", loss.scenario, loss.reasons.join("; "))
            });
            few(&mut lines, room.lines, lost);
            let worse = comparison.worse.iter().map(|worse| {
                let (mark, before) = (paint.put("33", "↓"), worse.alone.word());
                let now = worse.through.map_or("missing", Status::word);
                format!("{mark} {}: {before}, {now} now: {}", worse.scenario, worse.reason)
            });
            few(&mut lines, room.lines, worse);
            let different = grouped(&comparison.different, room.grouped).into_iter().map(|(first, count)| {
                let Difference { scenario, check, at, alone, through } = first;
                let place = if scenario == check { check.clone() } else { format!("{scenario} {check}") };
                let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
                format!("{} {place}{at}: {alone} → {through}{times}", paint.put("36", "≠"))
            });
            few(&mut lines, room.lines, different);
        }
        Outcome::Broke(reason) => lines.extend(reason.lines().map(str::to_owned)),
    }
    lines.iter().map(|line| format!("  {}\n", clip(line, room.width))).collect()
}

/// The first of each kind of difference and how many there are: one change of an error's words shows in dozens
/// of checks. A kind is a place, whatever the names on the way to it.
fn grouped(all: &[Difference], group: bool) -> Vec<(&Difference, usize)> {
    let mut kinds: Vec<(&Difference, usize)> = Vec::new();
    let step =
        |step: &str| if step.bytes().all(|b| b.is_ascii_digit()) { "#".to_owned() } else { step.to_owned() };
    let kind = |at: &str| at.rsplit('/').take(2).map(step).collect::<Vec<_>>();
    for difference in all {
        let same = |(first, _): &&mut (&Difference, usize)| kind(&first.at) == kind(&difference.at);
        match kinds.iter_mut().find(same).filter(|_| group) {
            Some((_, count)) => *count += 1,
            None => kinds.push((difference, 1)),
        }
    }
    kinds
}

/// The first few of many lines, and how many are left out.
fn few(lines: &mut Vec<String>, most: usize, mut all: impl Iterator<Item = String>) {
    lines.extend(all.by_ref().take(most));
    match all.count() {
        0 => {}
        more => lines.push(format!("  and {more} more like these")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::compare::{Loss, Worse};
    use super::super::report::{Check, Scenario};
    use super::*;

    fn through(lost: Vec<Loss>, counted: &[&str], excused: &[&str]) -> Outcome {
        let worse = Worse {
            scenario: "ping".to_owned(),
            reason: "ping-fast: slow".to_owned(),
            alone: Status::Success,
            through: None,
        };
        let different = (0..20).map(|n| Difference {
            scenario: "tools-list".to_owned(),
            check: "tools-list".to_owned(),
            at: format!("/tools/t{n}"),
            alone: "\"a\"".to_owned(),
            through: "nothing".to_owned(),
        });
        Outcome::Through {
            tally: Tally { passed: 29, required: 30, checks_passed: 80, checks_failed: 3 },
            comparison: Comparison { lost, worse: vec![worse], different: different.collect() },
            excused: excused.iter().map(|&name| name.to_owned()).collect(),
            counted: counted.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn loss(scenario: &str) -> Loss {
        Loss { scenario: scenario.to_owned(), scored: true, reasons: vec!["a: because\nof b".to_owned()] }
    }

    #[test]
    fn a_loss_is_told_with_its_reason_and_makes_the_row_bad() {
        let outcome = through(vec![loss("completion-complete")], &["completion-complete"], &[]);
        let row = Row { cell: "http → stdio".to_owned(), revision: "2025-11-25", outcome };
        assert!(!row.good());
        let text = brief(&[row], Paint(false));
        assert!(
            text.contains("✗ http → stdio  2025-11-25      29/30         80/3     1      1       20"),
            "{text}"
        );
        assert!(text.contains("  ✗ completion-complete: a: because of b\n"), "{text}");
        assert!(text.contains("  ↓ ping: passed, missing now: ping-fast: slow\n"), "{text}");
        assert!(text.contains("  ≠ tools-list/tools/t11: \"a\" → nothing\n"), "{text}");
        assert!(!text.contains("/tools/t12"), "{text}");
        assert!(text.contains("and 8 more like these"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn one_example_stands_for_a_change_that_shows_everywhere() {
        let difference = |at: &str| Difference {
            scenario: "server-stateless".to_owned(),
            check: "c".to_owned(),
            at: at.to_owned(),
            alone: "1".to_owned(),
            through: "2".to_owned(),
        };
        let all =
            ["/response/error/message", "/frames/0/error/message", "/types/0", "/types/1"].map(difference);
        let counts: Vec<usize> = grouped(&all, true).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 2]);
        assert_eq!(grouped(&all, false).len(), 4);
    }

    #[test]
    fn what_was_told_of_a_run_is_not_told_again() {
        let row = |cell: &str, revision| Row {
            cell: cell.to_owned(),
            revision,
            outcome: through(vec![loss("ping")], &["ping"], &[]),
        };
        let text =
            brief(&[row("a", "2025-11-25"), row("b", "2025-11-25"), row("c", "2026-07-28")], Paint(false));
        assert!(text.contains("\nb, 2025-11-25\n  the same as a\n"), "{text}");
        assert_eq!(text.matches("ping: a: because").count(), 2, "{text}");
    }

    #[test]
    fn what_no_gateway_could_do_is_shown_but_does_not_count() {
        let outcome = through(vec![loss("tools-call-sampling")], &[], &["tools-call-sampling"]);
        let row = Row { cell: "x".to_owned(), revision: "2025-11-25", outcome };
        assert!(row.good());
        assert!(brief(&[row], Paint(false)).contains("· tools-call-sampling (beyond any gateway): a"));
    }

    #[test]
    fn a_run_that_broke_is_bad_and_says_why() {
        let row = Row {
            cell: "x".to_owned(),
            revision: "2026-07-28",
            outcome: Outcome::Broke("no port\nat all".to_owned()),
        };
        assert!(!row.good());
        let text = brief(&[row], Paint(true));
        assert!(text.contains("no port at all"), "{text}");
        assert!(text.contains("  at all\n"), "{text}");
    }

    #[test]
    fn the_backend_alone_shows_what_it_fails_itself() {
        let failed = Check {
            id: "c".to_owned(),
            status: Status::Failure,
            message: None,
            details: serde_json::Value::Null,
        };
        let scenario =
            Scenario { name: "tasks".to_owned(), scored: false, checks: Some(vec![failed]), broke: None };
        let outcome = Outcome::Alone(Report { scenarios: vec![scenario] });
        let row = Row { cell: "backend alone".to_owned(), revision: "2026-07-28", outcome };
        assert!(row.good());
        assert!(brief(&[row], Paint(false)).contains("✗ tasks (not scored): c failed\n"));
    }
}
