//! Instructions of a call: a number that hardly differs between two runs or two machines, so that a change of a few
//! percent is seen in a commit where a time would say nothing.
//!
//! The gateway runs under callgrind twice, with few calls and with many; the difference is what the calls took, all its
//! threads and the moving of the records included. Valgrind has too few addresses for guarded plugins, so they are
//! checked, which costs a little more.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Options;
use crate::call::Calls;
use crate::contestant::ours::{Counted, Variant};
use crate::contestant::{Contestant, Place, Route, Server, Way};
use crate::result::{Count, Counts};

/// Calls of the two runs.
const FEW: u64 = 200;
const MANY: u64 = 1_200;
/// The same, to see that it works.
const QUICK: (u64, u64) = (10, 60);
/// How long the plugins may compile under valgrind.
const COMPILES: Duration = Duration::from_secs(900);

pub(super) async fn measure(options: &Options, place: &Place) -> anyhow::Result<Counts> {
    let mut counts = Counts { about: options.about(place), list: Vec::new() };
    let (few, many) = if options.quick { QUICK } else { (FEW, MANY) };
    for variant in [Variant::least(), Variant::unrecorded(), Variant::five()] {
        if !options.wants(&variant.name) {
            continue;
        }
        prepare(place, &variant).await?;
        let short = run(place, variant.clone().counted(Counted::Callgrind), few).await?;
        let long = run(place, variant.clone().counted(Counted::Callgrind), many).await?;
        let instructions = long.saturating_sub(short) / (many - few);
        counts.list.push(Count { name: variant.name, instructions });
    }
    Ok(counts)
}

/// Has the plugins compiled for the processor that valgrind plays; the first time this takes minutes.
async fn prepare(place: &Place, variant: &Variant) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server { tools: 1, delay_ms: 0 };
    let way = Way { route: Route::StdioStdio, folder: folder.path(), server: &server, url: None };
    let launch = variant.clone().counted(Counted::Prepared).launch(place, &way)?;
    let mut command = launch.command.context("nothing to start")?;
    let checked = command.arg("check").stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(COMPILES, checked).await.context("the plugins are not compiled yet")??;
    if !output.status.success() {
        bail!("under valgrind it does not accept its configuration: {}", crate::call::shown(&output.stderr));
    }
    Ok(())
}

/// Instructions of a whole run.
async fn run(place: &Place, variant: Variant, calls: u64) -> anyhow::Result<u64> {
    let server = Server { tools: 10, delay_ms: 0 };
    let mut running = Contestant::Ours(variant).start(place, Route::StdioStdio, &server).await?;
    let texts = Calls::new(&running.tool, 100);
    for _ in 0..calls {
        running.client.call(&texts).await?;
    }
    let folder = running.end().await?;
    let out = fs::read_to_string(folder.path().join("callgrind.out")).context("callgrind wrote nothing")?;
    let total = out.lines().rev().find_map(|line| {
        let rest = line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:"))?;
        rest.split_whitespace().next()?.parse().ok()
    });
    match total {
        Some(total) => Ok(total),
        None => bail!("callgrind counted nothing"),
    }
}
