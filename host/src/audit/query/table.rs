//! Rows as a table for people.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::super::row::Row;
use crate::text;

/// The widest a column gets.
const MAX_COLUMN: usize = 60;

const HEADINGS: [&str; 9] =
    ["TIME", "REQUEST", "SUBJECT", "ROLE", "TOOL", "BACKEND", "STATUS", "MS", "DETAIL"];
const STATUS: usize = 6;
const MS: usize = 7;
const DETAIL: usize = 8;

/// How a table is written.
#[derive(Clone, Debug)]
pub struct Look {
    /// Where the clock hangs by which times are shown.
    pub zone: TimeZone,
    /// Whether the reader is a terminal that shows colours.
    pub colour: bool,
    /// Whether the first line names the columns.
    pub heading: bool,
}

/// The rows as an aligned table, one line each. Whatever stands in a row, nothing in it steers a terminal.
#[must_use]
pub fn render(rows: &[Row], look: &Look) -> String {
    let mut table: Vec<[String; 9]> = vec![HEADINGS.map(str::to_owned)];
    table.extend(rows.iter().map(|row| cells(row, &look.zone)));
    let widths: [usize; 9] = std::array::from_fn(|column| {
        table.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let mut out = String::new();
    for (number, line) in table.iter().enumerate().skip(usize::from(!look.heading)) {
        let start = out.len();
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            let shade = (column == STATUS && number > 0 && look.colour).then(|| shade(cell)).flatten();
            // Writing into memory cannot fail.
            let _infallible = match (column, shade) {
                (MS, _) => write!(out, "{cell:>width$}  "),
                (DETAIL, _) => write!(out, "{cell}"),
                (_, Some(shade)) => write!(out, "\u{1b}[{shade}m{cell:<width$}\u{1b}[0m  "),
                (_, None) => write!(out, "{cell:<width$}  "),
            };
        }
        out.truncate(start + out[start..].trim_end().len());
        out.push('\n');
    }
    out
}

/// The colour of a status: green for what was done, red for what failed, yellow for what was refused.
fn shade(status: &str) -> Option<u8> {
    match status {
        "success" => Some(32),
        "error" | "unknown" => Some(31),
        "pending" | "cancelled" => None,
        _ => Some(33),
    }
}

fn cells(row: &Row, zone: &TimeZone) -> [String; 9] {
    let json =
        |value: &Option<Box<RawValue>>| value.as_deref().map(RawValue::get).unwrap_or_default().to_owned();
    let detail = match (&row.error, &row.sent) {
        (Some(error), _) => error.clone(),
        (None, Some(_)) => format!("{} sent as {}", json(&row.arguments), json(&row.sent)),
        (None, None) => json(&row.arguments),
    };
    let name = if row.tool.is_empty() { &row.method } else { &row.tool };
    let latency = row.latency_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let texts = [&row.request_id, &row.subject, &row.role, name, &row.backend, &row.status];
    let [request, subject, role, tool, backend, status] = texts.map(|text| short(text));
    [time(&row.time, zone), request, subject, role, tool, backend, status, latency, short(&detail)]
}

/// A time by the clock of the reader, with how far that is from UTC: the night in which clocks are changed has hours twice.
fn time(recorded: &str, zone: &TimeZone) -> String {
    match recorded.parse::<Timestamp>() {
        Ok(time) if *zone == TimeZone::UTC => format!("{time:.3}"),
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string(),
        Err(_) => short(recorded),
    }
}

fn short(text: &str) -> String {
    let safe = text::line(text);
    match safe.char_indices().nth(MAX_COLUMN) {
        None => safe.into_owned(),
        Some((end, _)) => format!("{}…", &safe[..end]),
    }
}
