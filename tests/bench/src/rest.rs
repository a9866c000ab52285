//! The HTTP API beside plain proxies: nginx and Caddy pass requests on, the gateway also checks a token, limits, judges by roles and
//! puts every request on record. All stand before the same server, and `wrk` asks them in turn.

mod stage;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use self::stage::{Party, Stage};
use crate::proc::{self, Tree};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The gateway's program
    #[arg(long)]
    gateway: PathBuf,
    /// The folder of the example engine
    #[arg(long)]
    engine: PathBuf,
    /// How often each comes round
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each load lasts, in seconds
    #[arg(long, default_value_t = 3)]
    seconds: u32,
}

/// One load.
struct Load {
    name: &'static str,
    connections: u32,
    path: &'static str,
    token: bool,
    /// Whether 2xx is what must come; else the refusal.
    passes: bool,
}

const LOADS: [Load; 3] = [
    Load { name: "1 at once", connections: 1, path: "/plain", token: true, passes: true },
    Load { name: "16 at once", connections: 16, path: "/plain", token: true, passes: true },
    Load { name: "64 at once", connections: 64, path: "/plain", token: true, passes: true },
];

/// What one round of one load has shown.
struct Shown {
    requests: f64,
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    wrong: u64,
}

/// Measures and prints.
///
/// # Errors
/// `wrk` or nginx is missing, somebody does not start, or an answer of ours is none that must come.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let stage = Stage::open(&options.gateway, &options.engine)?;
    println!(
        "{}; load before {:.2}; {} rounds of {} s; median of the rounds\n",
        proc::machine(),
        proc::loadavg(),
        options.rounds,
        options.seconds
    );
    println!("| load | who | requests/s | CPU us a request | p50 us | p99 us |");
    println!("|---|---|---|---|---|---|");
    for load in &LOADS {
        let mut all: Vec<Vec<Shown>> = stage.parties.iter().map(|_| Vec::new()).collect();
        for _ in 0..options.rounds {
            // In turn, so that a change of the machine meets all of them.
            for (party, shown) in stage.parties.iter().zip(&mut all) {
                shown.push(ask(party, load, options.seconds)?);
            }
        }
        for (party, shown) in stage.parties.iter().zip(&all) {
            let wrong: u64 = shown.iter().map(|one| one.wrong).sum();
            let of = |get: fn(&Shown) -> f64| median(shown.iter().map(get).collect());
            let (per_second, cpu) = (of(|one| one.per_second), of(|one| one.cpu_us));
            let (p50, p99) = (of(|one| one.p50_us), of(|one| one.p99_us));
            println!("| {} | {} | {per_second:.0} | {cpu:.1} | {p50:.0} | {p99:.0} |", load.name, party.name);
            if wrong > 0 && party.name.starts_with("ours") {
                bail!("{}: {wrong} answers are none that must come", party.name);
            }
        }
    }
    refusals(&stage, options)?;
    engines(&stage, options)?;
    stage.stream()
}

/// A request without a token: how soon it is refused, at many of them.
fn refusals(stage: &Stage, options: &Options) -> anyhow::Result<()> {
    let load = Load { name: "no token", connections: 16, path: "/plain", token: false, passes: false };
    let party = stage.party("ours")?;
    let shown = (0..options.rounds)
        .map(|_| ask(party, &load, options.seconds))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let of = |get: fn(&Shown) -> f64| median(shown.iter().map(get).collect());
    println!(
        "\n401 without a token, 16 at once: {:.0} requests/s, p50 {:.0} us, p99 {:.0} us (target: p99 at most 5 ms at 2,000/s)",
        of(|one| one.per_second),
        of(|one| one.p50_us),
        of(|one| one.p99_us)
    );
    Ok(())
}

/// Engines: warm ones, and a process for each call.
fn engines(stage: &Stage, options: &Options) -> anyhow::Result<()> {
    let party = stage.party("ours")?;
    for (path, what) in [("/warm", "warm pool"), ("/once", "a process for each call")] {
        let load = Load {
            name: what,
            connections: 8,
            path: if path == "/warm" { "/warm" } else { "/once" },
            token: true,
            passes: true,
        };
        let shown = ask(party, &load, options.seconds)?;
        println!(
            "engine, {what}, 8 at once: {:.0} calls/s ({:.0} requests), p50 {:.0} us, p99 {:.0} us, {} wrong",
            shown.per_second, shown.requests, shown.p50_us, shown.p99_us, shown.wrong
        );
    }
    println!("the bare process: {:.1} ms from its start to its end", stage.bare()?.as_secs_f64() * 1e3);
    Ok(())
}

/// Puts one load on one of them.
fn ask(party: &Party, load: &Load, seconds: u32) -> anyhow::Result<Shown> {
    let mut wrk = Command::new("wrk");
    let threads = if load.connections < 16 { "1" } else { "2" };
    wrk.args(["--latency", "-t", threads, "-c", &load.connections.to_string(), "-d", &format!("{seconds}s")]);
    if load.token {
        wrk.args(["-H", &format!("Authorization: Bearer {}", party.token)]);
    }
    let tree = Tree::of(party.pid);
    let before = tree.cpu();
    let output = wrk.arg(format!("{}{}", party.url, load.path)).output().context("wrk cannot be started")?;
    let cpu = tree.cpu().saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    read(&text, cpu, load.passes).with_context(|| format!("wrk said: {text}"))
}

/// What `wrk` says.
fn read(text: &str, cpu: Duration, passes: bool) -> Option<Shown> {
    let after = |what: &str| text.lines().find_map(|line| line.trim().strip_prefix(what)).map(str::trim);
    let requests: f64 =
        text.lines().find(|line| line.contains("requests in"))?.split_whitespace().next()?.parse().ok()?;
    let not_passed: f64 =
        after("Non-2xx or 3xx responses:").and_then(|count| count.parse().ok()).unwrap_or(0.0);
    let wrong = if passes { not_passed } else { requests - not_passed };
    Some(Shown {
        requests,
        per_second: after("Requests/sec:")?.parse().ok()?,
        cpu_us: cpu.as_secs_f64() * 1e6 / requests.max(1.0),
        p50_us: micros(after("50%")?)?,
        p99_us: micros(after("99%")?)?,
        wrong: wrong.max(0.0) as u64,
    })
}

/// `87.00us`, `1.20ms`, `2.00s`.
fn micros(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "us" => Some(number),
        "ms" => Some(number * 1e3),
        "s" => Some(number * 1e6),
        _ => None,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let text = "Running 1s test @ http://127.0.0.1:1/plain\n  1 threads and 1 connections\n  Latency Distribution\n     50%   87.00us\n     75%    0.90ms\n     90%    1.00ms\n     99%    1.20ms\n  9000 requests in 1.00s, 2.00MB read\n  Non-2xx or 3xx responses: 3\nRequests/sec:   8995.10\nTransfer/sec:      2.00MB\n";
        let shown = read(text, Duration::from_millis(900), true);
        let found =
            shown.map(|one| (one.requests, one.per_second, one.cpu_us, one.p50_us, one.p99_us, one.wrong));
        assert_eq!(found, Some((9000.0, 8995.1, 100.0, 87.0, 1200.0, 3)));
        assert!(read("wrk: command not found", Duration::ZERO, true).is_none());
    }
}
