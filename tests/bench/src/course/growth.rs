//! What a call costs as something grows: the points of a curve run side by side and take turns, as contestants do.

use super::Options;
use super::field::megabytes;
use super::turn::Sum;
use crate::client::idle_sessions;
use crate::contestant::ours::Variant;
use crate::contestant::{Contestant, Place, Route, Running, Server};
use crate::load::Pace;
use crate::result::{Curve, Growth, Point};

/// One point before it is measured.
struct Planned {
    at: u64,
    contestant: Contestant,
    server: Server,
    sessions: usize,
    payload: usize,
}

impl Planned {
    fn new(at: usize) -> Self {
        Self {
            at: at as u64,
            contestant: Contestant::Ours(Variant::five()),
            server: Server { tools: 10, delay_ms: 0 },
            sessions: 0,
            payload: 100,
        }
    }

    fn ours(at: usize, change: impl FnOnce(&mut Variant)) -> Self {
        let mut variant = Variant::five();
        change(&mut variant);
        Self { contestant: Contestant::Ours(variant), ..Self::new(at) }
    }
}

/// Measures all curves.
pub(super) async fn measure(options: &Options, place: &Place) -> anyhow::Result<Growth> {
    let mut growth = Growth { about: options.about(place), curves: Vec::new() };
    for (what, points) in plan(options).into_iter().filter(|(what, _)| options.wants_curve(what)) {
        eprintln!("growth: {what}");
        growth.curves.push(Curve { what, points: curve(options, place, points).await });
    }
    Ok(growth)
}

/// What grows, and how far.
fn plan(options: &Options) -> Vec<(String, Vec<Planned>)> {
    let steps = |all: &[usize]| -> Vec<usize> {
        // The first and one more prove that a curve can be drawn.
        if options.quick { all[..2].to_vec() } else { all.to_vec() }
    };
    let mut rows = vec![0, 100_000, 1_000_000];
    rows.extend(options.ten_million.then_some(10_000_000));
    let curve = |what: &str, all: &[usize], point: &dyn Fn(usize) -> Planned| {
        (what.to_owned(), steps(all).into_iter().map(point).collect())
    };
    vec![
        curve("tools", &[10, 100, 1_000, 10_000], &|at| Planned {
            server: Server { tools: at, delay_ms: 0 },
            ..Planned::new(at)
        }),
        curve("backends", &[1, 7, 50], &|at| Planned::ours(at, |ours| ours.more_backends = at - 1)),
        curve("idle sessions", &[0, 1_000, 10_000], &|at| Planned { sessions: at, ..Planned::new(at) }),
        curve("guards besides the shipped", &[0, 1, 5, 10], &|at| Planned::ours(at, |ours| ours.guards = at)),
        curve("roles", &[1, 10, 1_000], &|at| Planned::ours(at, |ours| ours.more_roles = at - 1)),
        curve("rules of the caller's role", &[0, 10, 1_000], &|at| Planned::ours(at, |ours| ours.rules = at)),
        curve("rows of audit", &rows, &|at| Planned::ours(at, |ours| ours.rows = at as u64)),
        curve("bytes of text", &[100, 1_000, 10_000, 100_000, 1_000_000], &|at| Planned {
            payload: at,
            ..Planned::new(at)
        }),
        curve("bytes of text, direct", &[100, 1_000, 10_000, 100_000, 1_000_000], &|at| Planned {
            payload: at,
            contestant: Contestant::Direct,
            ..Planned::new(at)
        }),
    ]
}

async fn curve(options: &Options, place: &Place, planned: Vec<Planned>) -> Vec<Point> {
    let mut running: Vec<Option<(Running, [Sum; 2])>> = Vec::new();
    let mut points = Vec::new();
    for one in &planned {
        let mut point =
            Point { at: one.at, void: None, one: None, many: None, memory_mb: 0.0, start_ms: 0.0 };
        let loads = [Pace::Closed(1), Pace::Closed(16)].map(|pace| options.load(pace, one.payload));
        match start(place, one).await {
            Ok(started) => {
                point.start_ms = started.started.as_secs_f64() * 1e3;
                running.push(Some((started, loads.map(Sum::new))));
            }
            Err(error) => {
                point.void = Some(format!("{error:#}"));
                running.push(None);
            }
        }
        points.push(point);
    }
    // Once for the warmth, which does not count.
    for one in running.iter_mut().flatten() {
        let warm = options.load(Pace::Closed(8), 100);
        Sum::new(warm).turn(&mut one.0).await;
    }
    for _ in 0..options.rounds() {
        for nth in 0..2 {
            for (running, sums) in running.iter_mut().flatten() {
                sums[nth].turn(running).await;
            }
        }
    }
    for (point, one) in points.iter_mut().zip(running) {
        let Some((running, [one, many])) = one else { continue };
        (point.memory_mb, _) = megabytes(running.tree().memory());
        (point.one, point.many) = (Some(one.cell()), Some(many.cell()));
        if let Err(error) = running.end().await {
            point.void = Some(format!("{error:#}"));
        }
    }
    points
}

async fn start(place: &Place, planned: &Planned) -> anyhow::Result<Running> {
    let running = planned.contestant.start(place, Route::HttpStdio, &planned.server).await?;
    if let Some(door) = &running.door {
        idle_sessions(door, planned.sessions).await?;
    }
    Ok(running)
}
