//! Contestants side by side: all of a route run at the same time, and take turns at each load, so that a noisy
//! minute is noisy for all.

use std::time::Duration;

use super::turn::{Sum, settle};
use super::{Options, Part};
use crate::contestant::ours::{Record, Variant};
use crate::contestant::peers::Peer;
use crate::contestant::{Contestant, Place, Route, Running, Server};
use crate::load::{Load, Pace};
use crate::proc::Memory;
use crate::record;
use crate::result::{Field, Kept, Row};

/// How long a contestant may take to answer again after its server was killed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long everybody runs warm, at most.
const WARM: Duration = Duration::from_secs(1);
/// How often a peer is started, at least, before the start that stays.
const PEER_STARTS: u32 = 1;
/// How long those calls go on, at least.
const SLOW_LASTS: Duration = Duration::from_secs(2);
/// Calls at once on a server that takes this long for each.
const SLOW: (usize, u64) = (1_000, 10);

/// Measures the routes, and the slow server. Returns each field with the name it is kept under.
pub(super) async fn measure(
    options: &Options,
    place: &Place,
    part: Part,
) -> anyhow::Result<Vec<(String, Field)>> {
    let mut contestants = vec![
        Contestant::Direct,
        Contestant::Ours(Variant::least()),
        Contestant::Ours(Variant::unrecorded()),
        Contestant::Ours(Variant::five()),
        Contestant::Ours(Variant::strict()),
    ];
    if let Some(before) = &options.before {
        let before = std::fs::canonicalize(before)?;
        let ours = [Variant::least(), Variant::unrecorded(), Variant::five(), Variant::strict()];
        contestants.extend(ours.map(|variant| Contestant::Ours(variant.built(&before))));
    }
    if part == Part::Peers {
        contestants.extend(Peer::ALL.map(Contestant::Peer));
    }
    contestants.retain(|contestant| options.wants(&contestant.name()));
    let routes: Vec<Route> =
        Route::ALL.into_iter().filter(|route| options.route.is_none_or(|only| only == *route)).collect();

    let mut field = Field { about: options.about(place), rows: Vec::new() };
    let mut slow = Field { about: options.about(place), rows: Vec::new() };
    for route in routes {
        let loads = loads(options);
        let server = Server { tools: 10, delay_ms: 0 };
        field.rows.extend(one_route(options, place, &contestants, route, &server, &loads, true).await);
        if route.http_door() && options.at_once.is_empty() && options.payload.is_empty() {
            let server = Server { tools: 10, delay_ms: SLOW.1 };
            let at_once = if options.quick { 100 } else { SLOW.0 };
            // Shorter, it would be the beginning that is measured, when all of them come at once.
            let lasts = options.lasts().max(if options.quick { Duration::ZERO } else { SLOW_LASTS });
            let loads = [Load { lasts, ..options.load(Pace::Closed(at_once), 100) }];
            slow.rows.extend(one_route(options, place, &contestants, route, &server, &loads, false).await);
        }
    }
    let mut fields = vec![(part.name().to_owned(), field)];
    if !slow.rows.is_empty() {
        fields.push((format!("{} on a server that takes {} ms", part.name(), SLOW.1), slow));
    }
    Ok(fields)
}

/// The loads of a round, the small ones first.
fn loads(options: &Options) -> Vec<Load> {
    let mut loads = vec![
        options.load(Pace::Closed(1), 100),
        options.load(Pace::Closed(16), 100),
        options.load(Pace::Closed(64), 100),
        options.load(Pace::Open(1_000), 100),
    ];
    if !options.quick {
        loads.push(options.load(Pace::Open(5_000), 100));
        loads.push(options.load(Pace::Closed(16), 10_000));
    }
    loads.push(options.load(Pace::Closed(1), 10_000));
    loads.push(options.load(Pace::Closed(1), 1_000_000));
    loads.retain(|load| options.wants_load(load));
    loads
}

/// A contestant on the course.
struct Runner<'a> {
    contestant: &'a Contestant,
    /// None: it did not start, or it is broken.
    running: Option<Running>,
    row: Row,
    starts: Vec<f64>,
    sums: Vec<Sum>,
    good: u64,
}

async fn one_route(
    options: &Options,
    place: &Place,
    contestants: &[Contestant],
    route: Route,
    server: &Server,
    loads: &[Load],
    in_full: bool,
) -> Vec<Row> {
    let mut runners: Vec<Runner<'_>> = contestants
        .iter()
        .filter(|contestant| contestant.takes(route))
        .map(|contestant| Runner {
            contestant,
            running: None,
            row: row(contestant, route),
            starts: Vec::new(),
            sums: loads.iter().copied().map(Sum::new).collect(),
            good: 0,
        })
        .collect();
    // At rest, before any of them works.
    let rest = Duration::from_millis(if options.quick { 50 } else { 300 });
    let starts = if options.quick || !in_full { 1 } else { 5 };
    for nth in 1..=starts {
        for runner in &mut runners {
            // Some peers take many seconds.
            if nth > PEER_STARTS && nth < starts && matches!(runner.contestant, Contestant::Peer(_)) {
                continue;
            }
            runner.start(place, route, server, rest, nth == starts).await;
        }
    }
    for runner in &mut runners {
        let brief = Load { lasts: options.lasts().min(WARM), ..options.load(Pace::Closed(8), 100) };
        let mut warm = Sum::new(brief);
        if let Some(running) = &mut runner.running {
            runner.good += warm.turn(running).await;
        }
    }
    let rounds = options.rounds();
    for round in 1..=rounds {
        eprintln!("{}: round {round} of {rounds}", route.name());
        for (index, load) in loads.iter().enumerate() {
            let last_small =
                load.payload == 100 && loads.get(index + 1).is_none_or(|next| next.payload != 100);
            for runner in &mut runners {
                runner.turn(index, place, route, server).await;
                let Some(running) = &runner.running else { continue };
                if round == 1 && last_small {
                    (runner.row.after_rss_mb, _) = megabytes(running.tree().memory());
                }
            }
        }
    }
    let mut rows = Vec::new();
    for runner in runners {
        rows.push(runner.finish(options, in_full).await);
    }
    rows
}

impl Runner<'_> {
    /// Starts it; and ends it again, unless this is the start that stays.
    async fn start(&mut self, place: &Place, route: Route, server: &Server, rest: Duration, stays: bool) {
        if self.row.void.is_some() {
            return;
        }
        match self.contestant.start(place, route, server).await {
            Ok(running) => {
                self.starts.push(running.started.as_secs_f64() * 1e3);
                if self.starts.len() == 1 {
                    // The first time, others of the same program may not be there yet: what it shares with them
                    // would be counted for each in part only.
                    tokio::time::sleep(rest).await;
                    (self.row.idle_rss_mb, self.row.idle_pss_mb) = megabytes(running.tree().memory());
                }
                if stays {
                    self.running = Some(running);
                } else if let Err(error) = running.end().await {
                    self.row.void = Some(format!("{error:#}"));
                }
            }
            Err(error) => self.row.void = Some(format!("{error:#}")),
        }
    }

    /// A round of one load. A peer that got stuck on it is started anew: the load is void, the others are not.
    async fn turn(&mut self, index: usize, place: &Place, route: Route, server: &Server) {
        let Some(running) = &mut self.running else { return };
        let sum = &mut self.sums[index];
        let was_void = sum.is_void();
        self.good += sum.turn(running).await;
        if was_void || !sum.is_void() || !matches!(self.contestant, Contestant::Peer(_)) {
            return;
        }
        if let Some(stuck) = self.running.take() {
            // How it ends does not matter any more.
            let _ = stuck.end().await;
        }
        match self.contestant.start(place, route, server).await {
            Ok(running) => self.running = Some(running),
            Err(error) => self.row.void = Some(format!("it did not start again: {error:#}")),
        }
    }

    /// Kills its server, ends it and looks into its record.
    async fn finish(mut self, options: &Options, in_full: bool) -> Row {
        self.row.start_ms = median(&mut self.starts);
        let Some(mut running) = self.running else { return self.row };
        self.row.cells = self.sums.iter().map(Sum::cell).collect();
        settle(&running).await;
        (self.row.end_rss_mb, _) = megabytes(running.tree().memory());
        if in_full && !(matches!(self.contestant, Contestant::Direct)) {
            let mut times = Vec::new();
            let kills = if options.quick { 1 } else { 3 };
            let mut failed = None;
            for _ in 0..kills {
                match running.recover(PATIENCE).await {
                    Ok(took) => {
                        times.push(took.as_secs_f64() * 1e3);
                        self.good += 1;
                    }
                    Err(error) => failed = Some(format!("{error:#}")),
                }
                if failed.is_some() {
                    break;
                }
            }
            self.row.recovery = Some(failed.map_or_else(|| Ok(median(&mut times).unwrap_or(0.0)), Err));
        }
        let recorded = matches!(self.contestant, Contestant::Ours(variant) if variant.record != Record::None);
        match running.end().await {
            Ok(folder) if recorded => match record::rows(folder.path()) {
                Ok(rows) => self.row.record = Some(Kept { calls: self.good, rows }),
                Err(error) => self.row.void = Some(format!("its record cannot be read: {error:#}")),
            },
            Ok(_) => {}
            Err(error) if matches!(self.contestant, Contestant::Ours(_)) => {
                self.row.void = Some(format!("{error:#}"));
            }
            // How a peer ends is not what is measured.
            Err(_) => {}
        }
        self.row
    }
}

fn row(contestant: &Contestant, route: Route) -> Row {
    Row {
        route,
        name: contestant.name(),
        what: contestant.what(),
        void: None,
        cells: Vec::new(),
        start_ms: None,
        idle_rss_mb: 0.0,
        idle_pss_mb: 0.0,
        after_rss_mb: 0.0,
        end_rss_mb: 0.0,
        recovery: None,
        record: None,
    }
}

/// Resident and proportional, in 10^6 bytes.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn megabytes(memory: Memory) -> (f64, f64) {
    (memory.rss as f64 / 1e6, memory.pss as f64 / 1e6)
}

/// The one in the middle; none of none.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
