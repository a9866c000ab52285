//! `tests/BENCHMARKS.md`: how it was measured, what came out, and what that means.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::table;
use crate::result::{About, Field, Results};

const METHOD: &str = "\
Written by `cargo xtask bench`; not edited by hand.

* All contestants of a table run at the same time and take turns at each load (A B A B …), so that a noisy moment of the
  machine is noisy for all. Before the next one's turn a contestant has come to rest: work it put off, such as moving records
  into the database, counts as its own.
* The server behind all of them is the same echo server (`tests/bench/src/backend.rs`), the caller the same load generator.
  Both run on the same machine as what is measured, and take their share of its cores.
* Every call carries a text of its own, and every answer is checked: its id and its whole text. One wrong, missing or doubled
  answer voids the load, and the reason stands below the table; a peer that got stuck on it is started anew for the next.
* `c=16`: sixteen calls at once, the next as soon as one is answered (over HTTP each on a connection of its own, in one session).
  `1000/s`: so many in a second whether or not the other side keeps up; a call's time begins when it was meant to be sent, so a
  stall counts for every call it delays. `behind`: it did not keep up.
* CPU is that of the contestant's processes (children included, the server apart) as the kernel counts it; microseconds a call
  are milliseconds for 1,000 calls. Memory is that of the same processes, in 10^6 bytes, after the 100-byte loads of the first round.
* Start: until the first list that holds the server's tools, median of five (peers: of two). Recovery: the server is killed with -9 (over HTTP
  the bench starts another on the same port at once), until a call is answered again, in the same session or in a new one,
  median of three.
* A core that falls idle takes tens of microseconds to wake here, and one caller at a time leaves cores idle. Trust ratios and
  differences within a table, and CPU a call, more than single times.
";

const HOSTILE: &str = "\
Fifty good calls a second, alone and beside clients that mean no good, in turns, with every bound of the gateway at its default.
A sixth of them each: heads that come byte by byte; another wrong token a second; one request and then rest; session after
session with a long greeting; calls of tools that do not exist; large answers that nobody reads. Each comes from an address of
its own; the last three have the token of one caller, who may do what the good one may. Loads last ten times as long as said.

";

const RELOAD: &str = "\
A configuration with twenty servers and eleven roles, all policies and audit. Once a second one rule of one role changes in the
file, and `config apply` is given over the control socket; the calls are those of another role. Both loads in turns, each ten
times as long as said. Every server has to be the same process afterwards.

";

/// Writes the page.
pub(super) fn page(results: &Results, micro: Option<&str>) -> String {
    let mut text = "# Benchmarks\n\n".to_owned();
    text += METHOD;
    for (name, field) in &results.fields {
        let _ = write!(text, "\n## {}\n\n", title(name));
        text += &about(&field.about);
        text.push('\n');
        text += &table::field(field);
        // The same contestants under one more load.
        if field.rows.iter().all(|row| row.cells.len() <= 1) {
            continue;
        }
        let records = table::records(field);
        if !records.is_empty() {
            let _ = writeln!(text, "{records}");
        }
        text += &whats(field);
    }
    if let Some(growth) = &results.growth {
        text += "\n## Growth\n\nWhat a call costs as something grows: all policies and audit, HTTP → stdio, 100-byte calls.\n\n";
        text += &about(&growth.about);
        text.push('\n');
        text += &table::growth(growth);
    }
    if let Some(counts) = &results.counts {
        text += "\n## Instructions\n\nCounted by callgrind, all threads and the moving of records included; plugins checked instead of guarded.\n\n";
        text += &about(&counts.about);
        text.push('\n');
        text += &table::counts(counts);
    }
    if let Some(hostile) = &results.hostile {
        text += "\n## Hostile clients\n\n";
        text += HOSTILE;
        text += &about(&hostile.about);
        text.push('\n');
        text += &table::hostile(hostile);
    }
    if let Some(reload) = &results.reload {
        text += "\n## A change of the configuration\n\n";
        text += RELOAD;
        text += &about(&reload.about);
        text.push('\n');
        text += &table::reload(reload);
    }
    if let Some(micro) = micro {
        let _ = write!(text, "\n## Single steps\n\n```text\n{}\n```\n", micro.trim());
    }
    text
}

fn title(name: &str) -> String {
    name.replace("whole", "The gateway").replace("peers", "The gateway and its peers")
}

fn about(about: &About) -> String {
    let About { date, machine, commit, version, load_before, rounds, seconds, quick } = about;
    let quick = if *quick { "; a quick run, which means nothing" } else { "" };
    format!(
        "{date}; {machine}; {version}, commit {commit}; {rounds} rounds of {seconds} s for each load; load of the machine \
         before: {load_before:.2}{quick}.\n"
    )
}

/// How each contestant was configured.
fn whats(field: &Field) -> String {
    let whats: BTreeMap<&str, &str> =
        field.rows.iter().map(|row| (row.name.as_str(), row.what.as_str())).collect();
    let mut text = "\n".to_owned();
    for (name, what) in whats {
        let _ = writeln!(text, "* **{name}**: {what}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_all_parts() {
        let mut results = Results::default();
        results.fields.insert("peers".to_owned(), super::super::table::tests::sample());
        let page = page(&results, Some("splice  3 µs"));
        for part in [
            "# Benchmarks",
            "## The gateway and its peers",
            "#### HTTP → stdio",
            "* **ours**: as it comes",
            "splice",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
    }
}
