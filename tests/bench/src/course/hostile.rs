//! Fifty good calls a second, alone and beside a thousand clients that mean no good: what those cost the good ones, and what
//! they make the gateway hold.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;

use super::Options;
use super::field::megabytes;
use super::turn::{Sum, settle};
use crate::client::Crowd;
use crate::contestant::ours::Variant;
use crate::contestant::{Contestant, Place, Route, Server};
use crate::load::{Load, Pace};
use crate::result::Hostile;

/// Good calls a second.
const GOOD: u32 = 50;
/// Those who mean no good.
const CROWD: usize = 1_000;
/// A percentile at fifty calls a second needs more time than other loads.
const LONGER: u32 = 10;
/// Until all of the crowd are there.
const ARRIVAL: Duration = Duration::from_secs(3);

/// Measures both in turns, on one gateway with its default bounds.
pub(super) async fn measure(options: &Options, place: &Place) -> anyhow::Result<Hostile> {
    let crowd = if options.quick { CROWD / 20 } else { CROWD };
    let load = Load { pace: Pace::Open(GOOD), payload: 100, lasts: options.lasts() * LONGER };
    let server = Server { tools: 10, delay_ms: 0 };
    let ours = Contestant::Ours(Variant::besieged());
    let mut running = ours.start(place, Route::HttpStdio, &server).await?;
    let mut door = running.door.clone().context("the gateway has no HTTP door")?;
    door.token = door.other.take();
    let mut sums = [Sum::new(load), Sum::new(load)];
    // Once for the warmth, which does not count.
    Sum::new(options.load(Pace::Closed(8), 100)).turn(&mut running).await;
    let mut hostile = Hostile { about: options.about(place), crowd: crowd as u64, ..Hostile::default() };
    (hostile.memory_before_mb, _) = megabytes(running.tree().memory());
    for _ in 0..options.rounds() {
        settle(&running).await;
        sums[0].turn(&mut running).await;
        let band = Crowd::start(door.clone(), crowd);
        tokio::time::sleep(if options.quick { ARRIVAL / 10 } else { ARRIVAL }).await;
        sums[1].drive(&mut running).await;
        let (memory, _) = megabytes(running.tree().memory());
        hostile.memory_beside_mb = hostile.memory_beside_mb.max(memory);
        hostile.requests += band.deeds.requests.load(Ordering::Relaxed);
        hostile.connections += band.deeds.connections.load(Ordering::Relaxed);
        drop(band);
    }
    let [alone, beside] = sums;
    (hostile.alone, hostile.beside) = (Some(alone.cell()), Some(beside.cell()));
    running.end().await?;
    Ok(hostile)
}
