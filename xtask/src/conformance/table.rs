//! How a run of the suite looks: one line for each, and under the table what the gateway changed.

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
}

/// Of a scenario that the suite runs for information.
const NOT_SCORED: &str = " (not scored)";
/// What a person reads at a terminal.
const BRIEF: Room = Room { lines: 12, width: 150 };
/// What a file may hold.
const FULL: Room = Room { lines: usize::MAX, width: 2_000 };

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
    for row in rows {
        out.push_str(&explain(row, paint, room));
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
                    (true, _) => " (beyond this backend)",
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
            let different = comparison.different.iter().map(|difference| {
                let Difference { scenario, check, at, alone, through } = difference;
                format!("{} {scenario} {check}{at}: {alone} → {through}", paint.put("36", "≠"))
            });
            few(&mut lines, room.lines, different);
        }
        Outcome::Broke(reason) => lines.extend(reason.lines().map(str::to_owned)),
    }
    if lines.is_empty() {
        return String::new();
    }
    let title = paint.put("1", &format!("{}, {}", row.cell, row.revision));
    format!(
        "\n{title}\n{}",
        lines.iter().map(|line| format!("  {}\n", clip(line, room.width))).collect::<String>()
    )
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
            at: format!("/tools/{n}"),
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
        assert!(text.contains("  ≠ tools-list tools-list/tools/11: \"a\" → nothing\n"), "{text}");
        assert!(!text.contains("/tools/12"), "{text}");
        assert!(text.contains("and 8 more like these"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn what_no_gateway_could_do_is_shown_but_does_not_count() {
        let outcome = through(vec![loss("tools-call-sampling")], &[], &["tools-call-sampling"]);
        let row = Row { cell: "x".to_owned(), revision: "2025-11-25", outcome };
        assert!(row.good());
        assert!(brief(&[row], Paint(false)).contains("· tools-call-sampling (beyond this backend): a"));
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
