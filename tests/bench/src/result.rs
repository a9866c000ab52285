//! What was measured, as it stands in the JSON file and in the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::contestant::Route;
use crate::load::{Load, Pace, Tally};

/// Everything that was measured; each part may be of another run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// By the name of the part: `whole`, `peers`.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, Field>,
    #[serde(default)]
    pub(crate) growth: Option<Growth>,
    #[serde(default)]
    pub(crate) counts: Option<Counts>,
    #[serde(default)]
    pub(crate) hostile: Option<Hostile>,
    #[serde(default)]
    pub(crate) reload: Option<Reload>,
    /// The output of the layer of single steps, as it is.
    #[serde(default)]
    pub(crate) micro: Option<Micro>,
}

impl Results {
    /// What earlier runs left; nothing, if they left nothing.
    ///
    /// # Errors
    /// If the file is there and cannot be understood.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => {
                serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes them for later runs.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn keep(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Where and when something was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) date: String,
    pub(crate) machine: String,
    pub(crate) commit: String,
    pub(crate) version: String,
    /// The load of the machine before it began; much more than 0 is a reason to measure again.
    pub(crate) load_before: f64,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    /// Too short to mean anything.
    pub(crate) quick: bool,
}

/// Good calls alone, and beside hostile clients.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hostile {
    pub(crate) about: About,
    /// How many hostile clients there were.
    pub(crate) crowd: u64,
    pub(crate) alone: Option<Cell>,
    pub(crate) beside: Option<Cell>,
    /// Resident memory before and at its most, in MB (10^6).
    pub(crate) memory_before_mb: f64,
    pub(crate) memory_beside_mb: f64,
    /// Connections that the crowd made, and requests that it sent whole.
    pub(crate) connections: u64,
    pub(crate) requests: u64,
}

impl Hostile {
    /// Everything about it that does not count, and why.
    pub(crate) fn voids(&self) -> Vec<String> {
        let cells = [("alone", &self.alone), ("beside a crowd", &self.beside)];
        cells
            .into_iter()
            .filter_map(|(name, cell)| Some(format!("ours, {name}: {}", cell.as_ref()?.void.as_ref()?)))
            .collect()
    }
}

/// Good calls alone, and while the configuration is changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reload {
    pub(crate) about: About,
    /// Servers behind the gateway.
    pub(crate) backends: u64,
    pub(crate) alone: Option<Cell>,
    pub(crate) during: Option<Cell>,
    /// From the command to its answer, in milliseconds, in the order of the changes.
    pub(crate) took_ms: Vec<f64>,
    /// The same of the very first change, while nobody calls.
    pub(crate) first_ms: f64,
    /// Why nothing of it counts.
    #[serde(default)]
    pub(crate) void: Option<String>,
}

impl Reload {
    /// Everything about it that does not count, and why.
    pub(crate) fn voids(&self) -> Vec<String> {
        let cells = [("alone", &self.alone), ("while the file is changed", &self.during)];
        let calls = cells
            .into_iter()
            .filter_map(|(name, cell)| Some(format!("ours, {name}: {}", cell.as_ref()?.void.as_ref()?)));
        let unapplied = self.took_ms.is_empty().then(|| "nothing was changed".to_owned());
        let changes = self.void.clone().or(unapplied);
        calls.chain(changes.map(|why| format!("ours, the changes: {why}"))).collect()
    }

    /// How long the change in the middle took, and how long the longest; in milliseconds.
    pub(crate) fn took(&self) -> Option<(f64, f64)> {
        let mut sorted = self.took_ms.clone();
        sorted.sort_by(f64::total_cmp);
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }
}

/// Instructions of a call.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) about: About,
    pub(crate) list: Vec<Count>,
}

/// What one configuration takes for a call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) name: String,
    pub(crate) instructions: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Micro {
    pub(crate) about: About,
    pub(crate) text: String,
}

/// Some contestants side by side.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Field {
    pub(crate) about: About,
    pub(crate) rows: Vec<Row>,
}

/// One contestant on one route.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) route: Route,
    pub(crate) name: String,
    pub(crate) what: String,
    /// Why nothing of this row counts.
    #[serde(default)]
    pub(crate) void: Option<String>,
    #[serde(default)]
    pub(crate) cells: Vec<Cell>,
    /// From the start to the first whole list, milliseconds; the median.
    #[serde(default)]
    pub(crate) start_ms: Option<f64>,
    /// Resident and proportional memory before any load, in MB (10^6).
    #[serde(default)]
    pub(crate) idle_rss_mb: f64,
    #[serde(default)]
    pub(crate) idle_pss_mb: f64,
    /// Resident memory after the 100-byte loads of the first round.
    #[serde(default)]
    pub(crate) after_rss_mb: f64,
    /// The same after everything.
    #[serde(default)]
    pub(crate) end_rss_mb: f64,
    /// From the death of the server to the next good answer, milliseconds; the median. Or why there is none.
    #[serde(default)]
    pub(crate) recovery: Option<Result<f64, String>>,
    /// The record, if there is one.
    #[serde(default)]
    pub(crate) record: Option<Kept>,
}

/// Whether the record holds what happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Calls that were answered well.
    pub(crate) calls: u64,
    /// Of them in the database after the end.
    pub(crate) rows: u64,
}

/// One load on one contestant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Such as `c=16, 100 B`.
    pub(crate) load: String,
    #[serde(default)]
    pub(crate) void: Option<String>,
    /// An open load that it could not follow.
    pub(crate) behind: bool,
    pub(crate) calls: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Processor time per call in microseconds (that is: milliseconds for 1,000 calls), without the server and with it.
    pub(crate) cpu_us: f64,
    pub(crate) cpu_with_server_us: f64,
}

/// How the cost of a call grows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Growth {
    pub(crate) about: About,
    pub(crate) curves: Vec<Curve>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// What grows.
    pub(crate) what: String,
    pub(crate) points: Vec<Point>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Point {
    /// How much of it there is.
    pub(crate) at: u64,
    #[serde(default)]
    pub(crate) void: Option<String>,
    #[serde(default)]
    pub(crate) one: Option<Cell>,
    #[serde(default)]
    pub(crate) many: Option<Cell>,
    #[serde(default)]
    pub(crate) memory_mb: f64,
    #[serde(default)]
    pub(crate) start_ms: f64,
}

/// The name of a load: `c=16, 100 B`, `1000/s, 10 KB`.
pub(crate) fn name(load: &Load) -> String {
    let size = size(load.payload);
    match load.pace {
        Pace::Closed(at_once) => format!("c={at_once}, {size}"),
        Pace::Open(per_second) => format!("{per_second}/s, {size}"),
    }
}

/// Bytes for people, in powers of ten.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        1_000_000.. if bytes.is_multiple_of(1_000_000) => format!("{} MB", bytes / 1_000_000),
        1_000.. if bytes.is_multiple_of(1_000) => format!("{} KB", bytes / 1_000),
        _ => format!("{bytes} B"),
    }
}

impl Cell {
    /// Sums up what came of a load; the processor times are those of the whole load, in seconds.
    pub(crate) fn new(load: &Load, tally: &Tally, cpu: f64, server_cpu: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let calls = tally.calls().max(1) as f64;
        let none = tally.calls() == 0 && !tally.behind;
        Self {
            load: name(load),
            void: tally.void.clone().or_else(|| none.then(|| "no call was answered".to_owned())),
            behind: tally.behind,
            calls: tally.calls(),
            per_second: tally.per_second(),
            p50_us: tally.quantile_us(0.5),
            p99_us: tally.quantile_us(0.99),
            p999_us: tally.quantile_us(0.999),
            cpu_us: cpu * 1e6 / calls,
            cpu_with_server_us: (cpu + server_cpu) * 1e6 / calls,
        }
    }
}

impl Row {
    /// The cell of a load, if it counts.
    pub(crate) fn cell(&self, load: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.load == load && cell.void.is_none())
    }

    /// Everything about it that does not count, and why.
    pub(crate) fn voids(&self) -> Vec<String> {
        let place = format!("{}, {}", self.route.name(), self.name);
        let row = self.void.iter().map(|why| format!("{place}: {why}"));
        let cells = self
            .cells
            .iter()
            .filter_map(|cell| cell.void.as_ref().map(|why| format!("{place}, {}: {why}", cell.load)));
        let lost = self.record.iter().filter(|kept| kept.calls != kept.rows).map(|kept| {
            format!("{place}: {} calls were answered and {} are in the record", kept.calls, kept.rows)
        });
        row.chain(cells).chain(lost).collect()
    }
}

impl Curve {
    /// Everything about it that does not count, and why.
    pub(crate) fn voids(&self) -> Vec<String> {
        let mut voids = Vec::new();
        for point in &self.points {
            let cells = [&point.one, &point.many].into_iter().flatten();
            let whys = point.void.iter().chain(cells.filter_map(|cell| cell.void.as_ref()));
            let who = if self.what.contains("direct") { "" } else { "ours, " };
            voids.extend(whys.map(|why| format!("{who}{} {}: {why}", point.at, self.what)));
        }
        voids
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn loads_have_names_that_people_read() {
        let load = |pace, payload| name(&Load { pace, payload, lasts: Duration::ZERO });
        assert_eq!(load(Pace::Closed(16), 100), "c=16, 100 B");
        assert_eq!(load(Pace::Closed(1), 1_000_000), "c=1, 1 MB");
        assert_eq!(load(Pace::Open(5_000), 10_000), "5000/s, 10 KB");
    }

    #[test]
    fn a_load_without_an_answer_is_void() {
        let load = Load { pace: Pace::Closed(1), payload: 100, lasts: Duration::ZERO };
        let cell = Cell::new(&load, &Tally::new(), 0.0, 0.0);
        assert_eq!(cell.void.as_deref(), Some("no call was answered"));
        let mut tally = Tally::new();
        tally.good(Duration::from_micros(5));
        assert_eq!(Cell::new(&load, &tally, 0.000_002, 0.0).void, None);
    }
}
