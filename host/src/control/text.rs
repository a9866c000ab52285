//! Prints the result of a command for people.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{
    ApprovalSummary, BackendStatus, CallStatus, Changes, Effect, EndpointStatus, OffStatus, Origin,
    RefusedStatus, Status, Time,
};
use crate::text::line;

/// The widest a column gets, but for the last.
const MAX_COLUMN: usize = 40;
/// The widest the last gets.
const MAX_LAST: usize = 200;

/// How a gateway is: first the gateway itself, then only what there is. Nothing in it steers a terminal.
#[must_use]
pub fn status(status: &Status, zone: &TimeZone) -> String {
    let mut out = String::new();
    // Writing into memory cannot fail.
    let _infallible = head(&mut out, status, zone);
    for endpoint in &status.endpoints {
        backends(&mut out, endpoint, status.now);
    }
    if !status.switched_off.is_empty() {
        let rows = status.switched_off.iter().map(|off| off_row(off, zone));
        table(&mut out, ["SWITCHED OFF", "BY", "SINCE", "WHY"], rows);
    }
    if !status.calls.is_empty() {
        let rows = status.calls.iter().map(|call| call_row(call, status.now));
        table(&mut out, ["UNDER WAY", "SUBJECT", "BACKEND", "FOR"], rows);
        let more = status.in_flight.saturating_sub(status.calls.len());
        if more > 0 {
            let _infallible = writeln!(out, "and {more} more");
        }
    }
    if !status.refused.is_empty() {
        let rows = status.refused.iter().map(|refused| refused_row(refused, status.now));
        table(&mut out, ["LAST REFUSED", "SUBJECT", "ASKED FOR", "WHY"], rows);
    }
    out
}

fn head(out: &mut String, status: &Status, zone: &TimeZone) -> std::fmt::Result {
    let Status { version, pid, now, started, .. } = status;
    writeln!(out, "Sentinel Gateway {version}, process {pid}, up for {}", age(now.since(*started)))?;
    writeln!(out, "  file        {}", line(&status.config))?;
    writeln!(out, "  door        {}, mode {}, {}", line(&status.door), line(&status.mode), clients(status))?;
    let generation = &status.generation;
    let older: Vec<String> = generation.older.iter().map(ToString::to_string).collect();
    let older = match older.as_slice() {
        [] => String::new(),
        older => format!("; calls of {} are still under way", older.join(", ")),
    };
    writeln!(out, "  generation  {}, since {}{older}", generation.number, clock(generation.since, zone))?;
    let backlog = match status.record.backlog_bytes {
        0 => String::new(),
        bytes => format!("; {bytes} bytes are not in the database yet"),
    };
    match &status.record.reason {
        None => writeln!(out, "  record      is written{backlog}")?,
        Some(reason) => writeln!(out, "  record      IS NOT IN ORDER: {}{backlog}", line(reason))?,
    }
    writeln!(out, "  under way   {}", count(status.in_flight, "call"))?;
    if let Some(running) = &status.running {
        let for_ = age(now.since(running.since));
        writeln!(out, "  command     {} of {}, for {for_}", line(&running.what), line(&running.who))?;
    }
    Ok(())
}

fn clients(status: &Status) -> String {
    count(status.endpoints.iter().map(|endpoint| endpoint.sessions).sum(), "client")
}

fn backends(out: &mut String, endpoint: &EndpointStatus, now: Time) {
    if endpoint.backends.is_empty() {
        return;
    }
    let heading = match &endpoint.mount {
        None => "BACKEND".to_owned(),
        Some(mount) => format!("BACKEND OF {mount}"),
    };
    let rows = endpoint.backends.iter().map(|backend| backend_row(backend, now));
    table(out, [heading.as_str(), "STATE", "FOR", "PID", "STARTS", "CALLS", "LAST ERROR"], rows);
}

fn backend_row(backend: &BackendStatus, now: Time) -> [String; 7] {
    let state = if backend.switched_off { format!("{}, off", backend.state) } else { backend.state.clone() };
    // Why it is down is its last error, unless it says more.
    let error = match (&backend.why, &backend.last_error) {
        (Some(why), _) => why.clone(),
        (None, Some(error)) => {
            let ago = backend.last_error_at.map(|at| format!("{} ago: ", age(now.since(at))));
            format!("{}{error}", ago.unwrap_or_default())
        }
        (None, None) => "-".to_owned(),
    };
    [
        backend.name.clone(),
        state,
        age(now.since(backend.since)),
        backend.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        backend.starts.to_string(),
        backend.in_flight.to_string(),
        error,
    ]
}

fn off_row(off: &OffStatus, zone: &TimeZone) -> [String; 4] {
    let dash = || "-".to_owned();
    let by = match (off.origin, &off.by) {
        (Origin::Order, by) => format!("order of {}", by.as_deref().unwrap_or("?")),
        (Origin::File, _) => "the file".to_owned(),
    };
    let why = match (off.origin, &off.mount) {
        (Origin::File, None) => "[kill_switch]".to_owned(),
        (Origin::File, Some(mount)) => format!("[kill_switch] of {mount}"),
        (Origin::Order, _) => off.why.clone().unwrap_or_else(dash),
    };
    [off.what.to_string(), by, off.since.map_or_else(dash, |since| clock(since, zone)), why]
}

fn call_row(call: &CallStatus, now: Time) -> [String; 4] {
    let what = format!("{} {}", call.method, call.name);
    [what, call.subject.clone(), call.backend.clone(), age(now.since(call.since))]
}

fn refused_row(refused: &RefusedStatus, now: Time) -> [String; 4] {
    let who = match (refused.subject.as_str(), refused.role.as_str()) {
        ("", _) => "(not known)".to_owned(),
        (subject, "") => subject.to_owned(),
        (subject, role) => format!("{subject} ({role})"),
    };
    let when = format!("{} ago", age(now.since(refused.at)));
    [when, who, refused.asked.clone(), format!("{}: {}", refused.status, refused.why)]
}

/// What differs between the file and what is in force, a key a line.
#[must_use]
pub fn changes(changes: &Changes) -> String {
    let mut out = String::new();
    if changes.changes.is_empty() {
        out.push_str("nothing: the file says what is in force\n");
    }
    for change in &changes.changes {
        let effect = match (changes.applied, change.effect) {
            (true, Effect::Live | Effect::Drain) => "applied",
            (true, Effect::Restart) => "refused: needs a restart",
            (false, Effect::Live) => "applies at once",
            (false, Effect::Drain) => "applies at once; calls under way end on the old server",
            (false, Effect::Restart) => "needs a restart",
        };
        // Writing into memory cannot fail.
        let _infallible = writeln!(out, "{}: {effect}", line(&change.key));
    }
    for note in &changes.notes {
        let _infallible = writeln!(out, "{}", line(note));
    }
    out
}

/// What waits for a person, a request a line.
#[must_use]
pub fn approvals(list: &[ApprovalSummary], now: Time) -> String {
    if list.is_empty() {
        return "nothing waits for a person\n".to_owned();
    }
    let mut out = String::new();
    let rows = list.iter().map(|approval| approval_row(approval, now));
    table(&mut out, ["APPROVAL", "STATE", "RISK", "ASKED BY", "DIGEST", "FOR", "WANTS"], rows);
    out.trim_start().to_owned()
}

fn approval_row(approval: &ApprovalSummary, now: Time) -> [String; 7] {
    let now = u64::try_from(now.timestamp().as_millisecond()).unwrap_or_default();
    let left = Duration::from_millis(approval.ends_ms.saturating_sub(now));
    let left = if approval.state.is_final() { "-".to_owned() } else { age(left) };
    let digest = approval.digest.strip_prefix("sha256:").unwrap_or(&approval.digest);
    let wants = if approval.backend.is_empty() {
        approval.target.clone()
    } else {
        format!("{} of {}", approval.target, approval.backend)
    };
    [
        approval.id.clone(),
        approval.state.as_str().to_owned(),
        approval.risk.clone(),
        approval.requester.clone(),
        digest.chars().take(12).collect(),
        left,
        wants,
    ]
}

/// An aligned table after an empty line.
fn table<const N: usize>(out: &mut String, heading: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let mut lines = vec![heading.map(str::to_owned)];
    lines.extend(rows.map(|row| {
        let mut column = 0;
        row.map(|cell| {
            column += 1;
            short(&cell, if column == N { MAX_LAST } else { MAX_COLUMN })
        })
    }));
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    });
    out.push('\n');
    for line in &lines {
        let start = out.len();
        for (cell, width) in line.iter().zip(widths) {
            // Writing into memory cannot fail.
            let _infallible = write!(out, "{cell:<width$}  ");
        }
        out.truncate(start + out[start..].trim_end().len());
        out.push('\n');
    }
}

fn short(text: &str, most: usize) -> String {
    let safe = line(text);
    match safe.char_indices().nth(most) {
        None => safe.into_owned(),
        Some((end, _)) => format!("{}…", &safe[..end]),
    }
}

/// A time by the clock of the reader.
fn clock(time: Time, zone: &TimeZone) -> String {
    time.timestamp().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// How long something took, in its two largest units.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, 0) => format!("{} ms", age.as_millis()),
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests;
