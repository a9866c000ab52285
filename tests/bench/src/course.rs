//! The order in which everything is measured, and what is measured when.

mod counts;
mod field;
mod growth;
mod hostile;
mod reload;
mod turn;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};

use crate::contestant::{Place, Route};
use crate::load::{Load, Pace};
use crate::proc;
use crate::result::{About, Results};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// The gateway in its configurations, beside the server alone
    Whole,
    /// The same, and the peers that are installed
    Peers,
    /// The cost of a call as everything grows
    Growth,
    /// Instructions of a call, by callgrind
    Counts,
    /// Good calls beside a thousand hostile clients
    Hostile,
    /// Good calls while the configuration is changed
    Reload,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Peers => "peers",
            Self::Growth => "growth",
            Self::Counts => "counts",
            Self::Hostile => "hostile",
            Self::Reload => "reload",
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// What to measure
    #[arg(required = true)]
    parts: Vec<Part>,
    /// Prove in a minute that everything works; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// How often each load comes round [default: 5, quick: 1]
    #[arg(long)]
    rounds: Option<u32>,
    /// How long each load lasts, in seconds [default: 1, quick: 0.15]
    #[arg(long)]
    seconds: Option<f64>,
    /// Only those (or, of growth, only those curves) whose name contains this; the server alone comes along
    #[arg(long)]
    only: Vec<String>,
    /// Only this route: HTTP-stdio, HTTP-HTTP, stdio-stdio
    #[arg(long, value_parser = route)]
    route: Option<Route>,
    /// Only loads of this payload, in bytes
    #[arg(long)]
    payload: Vec<usize>,
    /// Only closed loads of so many calls at once
    #[arg(long)]
    at_once: Vec<usize>,
    /// Another build of the gateway, measured beside this one
    #[arg(long)]
    before: Option<PathBuf>,
    /// Growth to ten million rows of audit, too, which takes minutes to fill in
    #[arg(long)]
    ten_million: bool,
    /// The gateway's program
    #[arg(long)]
    gateway: PathBuf,
    /// The folder of the built `tests/guests`
    #[arg(long)]
    guests: PathBuf,
    /// The folder that peers are installed in
    #[arg(long)]
    peers: PathBuf,
    /// Where the results go; parts that are not measured now stay as they are
    #[arg(long)]
    json: PathBuf,
    /// The commit that is measured
    #[arg(long, default_value = "unknown")]
    commit: String,
}

fn route(text: &str) -> Result<Route, String> {
    let plain = |route: &Route| route.name().replace(" → ", "-");
    let found = Route::ALL.into_iter().find(|route| plain(route).eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("no route; there are {}", Route::ALL.map(|route| plain(&route)).join(", ")))
}

impl Options {
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    fn lasts(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(if self.quick { 0.15 } else { 1.0 });
        Duration::from_secs_f64(seconds.clamp(0.01, 600.0))
    }

    fn load(&self, pace: Pace, payload: usize) -> Load {
        Load { pace, payload, lasts: self.lasts() }
    }

    fn place(&self) -> anyhow::Result<Place> {
        let full = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let place =
            Place { gateway: full(&self.gateway), guests: full(&self.guests), peers: full(&self.peers) };
        if !place.gateway.is_file() {
            bail!("{} is no gateway: `cargo xtask build --release`", place.gateway.display());
        }
        Ok(place)
    }

    fn about(&self, place: &Place) -> About {
        let version = std::process::Command::new(&place.gateway).arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        About {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            machine: proc::machine(),
            commit: self.commit.clone(),
            version: version.unwrap_or_default(),
            load_before: proc::loadavg(),
            rounds: self.rounds(),
            seconds: self.lasts().as_secs_f64(),
            quick: self.quick,
        }
    }

    /// Whether this load is put on.
    fn wants_load(&self, load: &Load) -> bool {
        let closed = |count: &usize| load.pace == Pace::Closed(*count);
        (self.payload.is_empty() || self.payload.contains(&load.payload))
            && (self.at_once.is_empty() || self.at_once.iter().any(closed))
    }

    /// Whether this curve is drawn.
    fn wants_curve(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| what.contains(only.as_str()))
    }

    /// Whether somebody of this name takes part.
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || name == "direct" || self.only.iter().any(|only| name.contains(only.as_str()))
    }
}

/// Measures, shows and keeps what was asked for.
///
/// # Errors
/// If anything cannot be prepared, or a row of the gateway's own is void.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let place = options.place()?;
    let mut results = Results::read(&options.json)?;
    let mut voids = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut parts = options.parts.clone();
    parts.sort_unstable();
    parts.dedup();
    for part in parts {
        match part {
            Part::Whole | Part::Peers => {
                for field in runtime.block_on(field::measure(options, &place, part))? {
                    voids.extend(field.1.rows.iter().flat_map(crate::result::Row::voids));
                    println!("{}", crate::report::table::field(&field.1));
                    results.fields.insert(field.0, field.1);
                }
            }
            Part::Growth => {
                let growth = runtime.block_on(growth::measure(options, &place))?;
                voids.extend(growth.curves.iter().flat_map(crate::result::Curve::voids));
                println!("{}", crate::report::table::growth(&growth));
                results.growth = Some(growth);
            }
            Part::Counts => {
                let counts = runtime.block_on(counts::measure(options, &place))?;
                println!("{}", crate::report::table::counts(&counts));
                results.counts = Some(counts);
            }
            Part::Hostile => {
                let hostile = runtime.block_on(hostile::measure(options, &place))?;
                voids.extend(hostile.voids());
                println!("{}", crate::report::table::hostile(&hostile));
                results.hostile = Some(hostile);
            }
            Part::Reload => {
                let reload = runtime.block_on(reload::measure(options, &place))?;
                voids.extend(reload.voids());
                println!("{}", crate::report::table::reload(&reload));
                results.reload = Some(reload);
            }
        }
        // After each part: a later one that fails takes nothing with it.
        results.keep(&options.json)?;
    }
    println!("results: {}", options.json.display());
    for void in &voids {
        eprintln!("void: {void}");
    }
    let ours = voids.iter().filter(|void| void.contains("direct") || void.contains("ours")).count();
    if ours > 0 {
        bail!("{ours} of our own measurements are void");
    }
    Ok(())
}
