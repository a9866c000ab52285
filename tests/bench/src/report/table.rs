//! Tables: Markdown that is also aligned for the eye.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::contestant::Route;
use crate::result::{Cell, Count, Counts, Curve, Field, Growth, Hostile, Kept, Reload, Row};

/// A column whose cells stand on the right.
const RIGHT: &str = "--:";

/// Lays out a table; the first column stands on the left.
fn layout(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            let cells = rows.iter().map(|row| row.get(at).map_or(0, |cell| cell.chars().count()));
            cells.chain([head[at].chars().count(), RIGHT.len()]).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        for (at, width) in widths.iter().enumerate() {
            let cell = cells.get(at).map_or("", String::as_str);
            let space = " ".repeat(width.saturating_sub(cell.chars().count()));
            let _ = if at == 0 { write!(text, "| {cell}{space} ") } else { write!(text, "| {space}{cell} ") };
        }
        text.push_str("|\n");
    };
    line(&head.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>());
    let rule = |at: usize| {
        if at == 0 { "-".repeat(widths[0]) } else { format!("{}:", "-".repeat(widths[at] - 1)) }
    };
    line(&(0..head.len()).map(rule).collect::<Vec<_>>());
    for row in rows {
        line(row);
    }
    text
}

/// A number as it is read: three figures, thousands apart.
pub(super) fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A value of a cell, or why there is none.
fn of(row: &Row, load: &str, value: impl Fn(&Cell) -> f64) -> String {
    match row.cells.iter().find(|cell| cell.load == load) {
        None => "–".to_owned(),
        Some(cell) if cell.void.is_some() => "void".to_owned(),
        Some(cell) if cell.behind => "behind".to_owned(),
        Some(cell) => number(value(cell)),
    }
}

fn three(row: &Row, load: &str) -> String {
    match row.cells.iter().find(|cell| cell.load == load) {
        Some(cell) if cell.void.is_none() && !cell.behind => {
            format!("{} / {} / {}", number(cell.p50_us), number(cell.p99_us), number(cell.p999_us))
        }
        _ => of(row, load, |cell| cell.p50_us),
    }
}

/// The loads of a field in the order they came.
fn loads(field: &Field) -> Vec<String> {
    let longest = field.rows.iter().max_by_key(|row| row.cells.len());
    longest.map(|row| row.cells.iter().map(|cell| cell.load.clone()).collect()).unwrap_or_default()
}

/// All tables of a field, and what is void about it.
pub(crate) fn field(field: &Field) -> String {
    let mut routes: BTreeMap<Route, Vec<&Row>> = BTreeMap::new();
    for row in &field.rows {
        routes.entry(row.route).or_default().push(row);
    }
    let loads = loads(field);
    let mut text = String::new();
    for (route, rows) in &routes {
        let _ = writeln!(text, "#### {}\n", route.name());
        if loads.len() == 1 {
            text += &single(rows, &loads[0]);
        } else {
            text += &small(rows);
            text.push('\n');
            text += &shapes(rows, &loads);
        }
        text.push('\n');
    }
    let voids: Vec<String> = field.rows.iter().flat_map(Row::voids).collect();
    for void in voids {
        let _ = writeln!(text, "* void: {void}");
    }
    text
}

/// Calls of 100 bytes, and what it takes to have the contestant at all.
fn small(rows: &[&Row]) -> String {
    let head = [
        "100-byte calls",
        "p50 / p99 / p99.9 µs, c=1",
        "CPU µs a call, c=1 / 16",
        "with the server",
        "calls/s c=1",
        "c=16",
        "c=64",
        "RSS MB idle / after / end",
        "PSS MB idle",
        "start ms",
        "recovery ms",
    ];
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            if row.void.is_some() {
                return vec![row.name.clone(), "void".to_owned()];
            }
            let (one, many) = ("c=1, 100 B", "c=16, 100 B");
            let pair =
                |value: fn(&Cell) -> f64| format!("{} / {}", of(row, one, value), of(row, many, value));
            let memory = |values: &[f64]| {
                let shown: Vec<String> = values.iter().map(|value| number(*value)).collect();
                if values[0] == 0.0 { "–".to_owned() } else { shown.join(" / ") }
            };
            vec![
                row.name.clone(),
                three(row, one),
                pair(|cell| cell.cpu_us),
                pair(|cell| cell.cpu_with_server_us),
                of(row, one, |cell| cell.per_second),
                of(row, many, |cell| cell.per_second),
                of(row, "c=64, 100 B", |cell| cell.per_second),
                memory(&[row.idle_rss_mb, row.after_rss_mb, row.end_rss_mb]),
                memory(&[row.idle_pss_mb]),
                row.start_ms.map_or("–".to_owned(), number),
                match &row.recovery {
                    None => "–".to_owned(),
                    Some(Ok(ms)) => number(*ms),
                    Some(Err(_)) => "never".to_owned(),
                },
            ]
        })
        .collect();
    layout(&head, &lines)
}

/// Fixed rates and larger texts.
fn shapes(rows: &[&Row], loads: &[String]) -> String {
    let others: Vec<&String> =
        loads.iter().filter(|load| !(load.starts_with("c=") && load.ends_with(", 100 B"))).collect();
    let titles: Vec<String> = others
        .iter()
        .map(|load| {
            if load.starts_with("c=1,") || !load.starts_with("c=") {
                format!("{load}: p50 / p99 / p99.9 µs")
            } else {
                format!("{load}: calls/s")
            }
        })
        .collect();
    let head: Vec<&str> = std::iter::once("other loads").chain(titles.iter().map(String::as_str)).collect();
    let lines: Vec<Vec<String>> = rows
        .iter()
        .filter(|row| row.void.is_none())
        .map(|row| {
            let cells = others.iter().map(|load| {
                if load.starts_with("c=1,") || !load.starts_with("c=") {
                    three(row, load)
                } else {
                    of(row, load, |cell| cell.per_second)
                }
            });
            std::iter::once(row.name.clone()).chain(cells).collect()
        })
        .collect();
    layout(&head, &lines)
}

/// One load on all.
fn single(rows: &[&Row], load: &str) -> String {
    let direct = rows.iter().find(|row| row.name == "direct").and_then(|row| row.cell(load));
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let share = direct.zip(row.cell(load)).map(|(direct, cell)| cell.per_second / direct.per_second);
            vec![
                row.name.clone(),
                if row.void.is_some() { "void".to_owned() } else { of(row, load, |cell| cell.per_second) },
                share.map_or("–".to_owned(), |share| format!("{:.1} %", share * 100.0)),
                three(row, load),
            ]
        })
        .collect();
    layout(&[load, "calls/s", "of direct", "p50 / p99 / p99.9 µs"], &lines)
}

/// Whether the records are whole.
pub(super) fn records(field: &Field) -> String {
    let rate = |row: &Row| of(row, "c=16, 100 B", |cell| cell.per_second);
    let lines: Vec<Vec<String>> = field
        .rows
        .iter()
        .filter_map(|row| {
            let Kept { calls, rows } = row.record.clone()?;
            Some(vec![
                format!("{}, {}", row.route.name(), row.name),
                calls.to_string(),
                rows.to_string(),
                rate(row),
                of(row, "c=64, 100 B", |cell| cell.per_second),
                of(row, "c=64, 100 B", |cell| cell.p50_us),
            ])
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let head = [
        "the record",
        "calls answered",
        "of them in the database",
        "calls/s c=16",
        "calls/s c=64",
        "p50 µs c=64",
    ];
    layout(&head, &lines)
}

/// Instructions of a call.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn counts(counts: &Counts) -> String {
    let row = |count: &Count| vec![count.name.clone(), number(count.instructions as f64)];
    let rows: Vec<_> = counts.list.iter().map(row).collect();
    layout(&["stdio → stdio, 100 B", "instructions a call"], &rows)
}

/// Good calls alone and beside hostile clients.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn hostile(hostile: &Hostile) -> String {
    let base = hostile.alone.as_ref().map_or(0.0, |cell| cell.p99_us);
    let row = |name: String, cell: &Option<Cell>, memory: f64| {
        let of = |value: fn(&Cell) -> f64| cell.as_ref().map_or(String::new(), |cell| number(value(cell)));
        let ratio =
            cell.as_ref().filter(|_| base > 0.0).map_or(String::new(), |cell| number(cell.p99_us / base));
        vec![
            name,
            of(|cell| cell.calls as f64),
            of(|cell| cell.p50_us),
            of(|cell| cell.p99_us),
            ratio,
            number(memory),
        ]
    };
    let beside = format!("beside {} hostile clients", number(hostile.crowd as f64));
    let rows = [
        row("alone".to_owned(), &hostile.alone, hostile.memory_before_mb),
        row(beside, &hostile.beside, hostile.memory_beside_mb),
    ];
    let head = ["HTTP → stdio, 50/s, 100 B", "calls", "p50 µs", "p99 µs", "p99 / alone", "memory MB"];
    let mut text = layout(&head, &rows);
    let _ = writeln!(
        text,
        "\nThe crowd made {} connections and sent {} requests.",
        number(hostile.connections as f64),
        number(hostile.requests as f64)
    );
    for void in hostile.voids() {
        let _ = writeln!(text, "* void: {void}");
    }
    text
}

/// Good calls alone and while the file is changed, and how long each change took.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn reload(reload: &Reload) -> String {
    let base = reload.alone.as_ref().map_or(0.0, |cell| cell.p99_us);
    let row = |name: String, cell: &Option<Cell>| {
        let of = |value: fn(&Cell) -> f64| cell.as_ref().map_or(String::new(), |cell| number(value(cell)));
        let change = cell.as_ref().filter(|_| base > 0.0);
        let change =
            change.map_or(String::new(), |cell| format!("{:+.1} %", (cell.p99_us / base - 1.0) * 100.0));
        let failed = cell.as_ref().map_or("", |cell| if cell.void.is_some() { "void" } else { "0" });
        vec![
            name,
            of(|cell| cell.calls as f64),
            failed.to_owned(),
            of(|cell| cell.p50_us),
            of(|cell| cell.p99_us),
            change,
            of(|cell| cell.p999_us),
        ]
    };
    let changes = number(reload.took_ms.len() as f64);
    let rows = [
        row("alone".to_owned(), &reload.alone),
        row(format!("while a role is changed {changes} times"), &reload.during),
    ];
    let title = format!("HTTP → stdio, {} servers, 2000/s, 100 B", reload.backends);
    let head = [title.as_str(), "calls", "failed", "p50 µs", "p99 µs", "p99 to alone", "p99.9 µs"];
    let mut text = layout(&head, &rows);
    if let Some((middle, longest)) = reload.took() {
        let _ = writeln!(
            text,
            "\nFrom the command to its answer: {} ms in the middle, {} ms at most; {} ms the first time, without calls.",
            number(middle),
            number(longest),
            number(reload.first_ms)
        );
    }
    for void in reload.voids() {
        let _ = writeln!(text, "* void: {void}");
    }
    text
}

/// All curves.
pub(crate) fn growth(growth: &Growth) -> String {
    let mut text = String::new();
    for curve in &growth.curves {
        text += &one_curve(curve);
        text.push('\n');
    }
    for void in growth.curves.iter().flat_map(Curve::voids) {
        let _ = writeln!(text, "* void: {void}");
    }
    text
}

fn one_curve(curve: &Curve) -> String {
    let first = curve.points.first();
    let lines: Vec<Vec<String>> = curve
        .points
        .iter()
        .map(|point| {
            let value = |cell: &Option<Cell>, base: Option<&Option<Cell>>, of: fn(&Cell) -> f64| {
                let good = |cell: &Option<Cell>| cell.clone().filter(|cell| cell.void.is_none());
                let Some(cell) = good(cell) else { return ["void".to_owned(), "–".to_owned()] };
                let ratio =
                    base.and_then(good).map(|base| of(&cell) / of(&base)).filter(|ratio| ratio.is_finite());
                [number(of(&cell)), ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))]
            };
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let at = if point.at == 0 { "0".to_owned() } else { number((point.at as f64).max(100.0)) };
            let at = if point.at < 100 { point.at.to_string() } else { at };
            let mut line = vec![at];
            line.extend(value(&point.one, first.map(|first| &first.one), |cell| cell.p50_us));
            line.extend(value(&point.many, first.map(|first| &first.many), |cell| cell.per_second));
            line.extend(value(&point.many, first.map(|first| &first.many), |cell| cell.cpu_us));
            line.extend([number(point.memory_mb), number(point.start_ms)]);
            line
        })
        .collect();
    let head = [
        curve.what.as_str(),
        "p50 µs c=1",
        "to the first",
        "calls/s c=16",
        "to the first",
        "CPU µs a call c=16",
        "to the first",
        "RSS MB",
        "start ms",
    ];
    layout(&head, &lines)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::result::Point;

    fn cell(load: &str, p50_us: f64, per_second: f64) -> Cell {
        Cell {
            load: load.to_owned(),
            void: None,
            behind: false,
            calls: 1_000,
            per_second,
            p50_us,
            p99_us: p50_us * 2.0,
            p999_us: p50_us * 4.0,
            cpu_us: 40.0,
            cpu_with_server_us: 45.5,
        }
    }

    /// Two contestants, one of which failed at the larger text, and a third that did not start.
    pub(in super::super) fn sample() -> Field {
        let row = |name: &str| Row {
            route: Route::HttpStdio,
            name: name.to_owned(),
            what: "as it comes".to_owned(),
            void: None,
            cells: vec![
                cell("c=1, 100 B", 58.0, 16_990.0),
                cell("c=16, 100 B", 130.0, 121_721.0),
                cell("1000/s, 100 B", 70.0, 1_000.0),
                cell("c=1, 1 MB", 1_500.0, 650.0),
            ],
            start_ms: Some(4.25),
            idle_rss_mb: 18.0,
            idle_pss_mb: 17.0,
            after_rss_mb: 34.0,
            end_rss_mb: 35.0,
            recovery: Some(Ok(12.0)),
            record: None,
        };
        let mut ours = row("ours");
        ours.cells[1].per_second = 60_000.0;
        ours.cells[3].void = Some("status 413: too large".to_owned());
        ours.cells[2].behind = true;
        ours.record = Some(Kept { calls: 10, rows: 9 });
        let mut absent = row("absent");
        absent.void = Some("not installed".to_owned());
        absent.cells.clear();
        Field { about: crate::result::About::default(), rows: vec![row("direct"), ours, absent] }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.123, 9.99, 58.04, 121.7, 16_990.2, 1_234_567.0].map(number);
        assert_eq!(numbers, ["0.12", "9.99", "58.0", "122", "16,990", "1,234,567"]);
    }

    #[test]
    fn a_field_says_what_is_void_and_why() {
        insta::assert_snapshot!(field(&sample()));
    }

    #[test]
    fn a_reload_is_measured_against_the_calls_alone() {
        let sample = Reload {
            backends: 20,
            alone: Some(cell("2000/s, 100 B", 100.0, 2_000.0)),
            during: Some(cell("2000/s, 100 B", 105.0, 2_000.0)),
            took_ms: vec![40.0, 90.0, 50.0],
            first_ms: 60.0,
            ..Reload::default()
        };
        let text = reload(&sample);
        assert!(text.contains("+5.0 %") && text.contains("20 servers"), "{text}");
        assert!(text.contains("50.0 ms in the middle, 90.0 ms at most; 60.0 ms the first time"), "{text}");
        assert!(!text.contains("void"), "{text}");
        let nothing = Reload { took_ms: Vec::new(), ..sample };
        assert!(reload(&nothing).contains("void: ours, the changes: nothing was changed"));
        let mut failed = Reload { took_ms: vec![1.0], ..nothing };
        failed.during.as_mut().unwrap().void = Some("status 500".to_owned());
        assert!(reload(&failed).contains("void: ours, while the file is changed: status 500"));
    }

    #[test]
    fn a_record_with_a_hole_voids_the_row() {
        assert!(field(&sample()).contains("ours: 10 calls were answered and 9 are in the record"));
        assert!(records(&sample()).contains("| HTTP → stdio, ours |"));
    }

    #[test]
    fn a_curve_is_measured_against_its_first_point() {
        let point = |at, p50: f64| Point {
            at,
            void: None,
            one: Some(cell("c=1, 100 B", p50, 10_000.0)),
            many: Some(cell("c=16, 100 B", p50 * 3.0, 30_000.0)),
            memory_mb: 40.0,
            start_ms: 20.0,
        };
        let curve = Curve { what: "tools".to_owned(), points: vec![point(10, 100.0), point(10_000, 110.0)] };
        insta::assert_snapshot!(one_curve(&curve));
    }
}
