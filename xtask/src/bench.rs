//! `cargo xtask bench`: builds what is measured and what measures it, and starts the latter. Everything else is in
//! `tests/bench`, which is a program of its own so that this one stays quick to build.

mod exec;
mod peers;

use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;
use clap::ValueEnum;

use crate::build::{self, Plan};
use crate::workspace::{Host, Workspace};
use crate::{debian, shell};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(value_enum, default_value = "all")]
    layer: Layer,
    /// Prove within about a minute that everything works; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Where the results go; layers that are not measured now stay as they are [default: target/bench/latest.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// With `peers`: install the peers first, in pinned versions, below target/bench-peers
    #[arg(long)]
    install: bool,
    /// Use what the last build left
    #[arg(long)]
    no_build: bool,
    /// Measure the debug build, which only makes sense with --quick
    #[arg(long)]
    debug: bool,
    /// What else the load generator takes: --rounds N, --seconds N, --only NAME, --route HTTP-stdio, --payload BYTES,
    /// --at-once CALLS, --before GATEWAY, --ten-million; for `micro` the filter of the benches
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// Single steps: a plugin call, the chain, envelope and splice, the catalog, the journal
    Micro,
    /// The whole gateway, in its configurations, beside the server alone
    Whole,
    /// The same, and the peers that are installed
    Peers,
    /// The cost of a call against the number of tools, backends, sessions, plugins, roles, rules, rows
    Growth,
    /// Instructions of a call, counted by callgrind
    Counts,
    /// Good calls beside a thousand hostile clients
    Hostile,
    /// The HTTP API beside nginx and Caddy as plain proxies; installs them and wrk where they are missing
    Rest,
    /// Good calls while the configuration is changed, and how long a change takes to be in force
    Reload,
    /// Approvals and commands: a refusal, a call that waits, a decision, a command, a long list
    Exec,
    /// Micro, peers, growth, counts, hostile and reload, and then the report
    All,
    /// tests/BENCHMARKS.md and the chart from what was measured last
    Report,
}

/// Builds, measures and reports.
///
/// # Errors
/// If something cannot be built, or a measurement of our own is void.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let Options { layer, quick, install, no_build, debug, .. } = *options;
    if install && !matches!(layer, Layer::Peers | Layer::All) {
        bail!("--install belongs to `peers`");
    }
    if debug && !quick {
        bail!("the debug build is not worth measuring; with --quick it proves the harness");
    }
    let host = if debug { Host::Debug } else { Host::Release };
    if layer == Layer::Exec {
        if !no_build {
            build::run(workspace, &Plan { host, guests: false })?;
        }
        return exec::run(workspace, host, quick);
    }
    // Cargo builds the load generator together with the tests, or optimised in a folder of its own.
    let folder = if debug { "debug" } else { "tools" };
    if !no_build {
        build::run(workspace, &Plan { host, guests: true })?;
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--package", "sentinel-bench"]);
        if !debug {
            cargo.args(["--profile", "tools"]);
        }
        shell::run(&mut cargo)?;
    }
    let tool = workspace.target.join(folder).join("sentinel-bench");
    let out = workspace.target.join("bench");
    let json = options.json.clone().unwrap_or_else(|| out.join("latest.json"));
    let micro = out.join("micro.txt");
    if install {
        peers::install(&workspace.target.join("bench-peers"))?;
    }
    if matches!(layer, Layer::Micro | Layer::All) {
        let filter = if layer == Layer::Micro { options.rest.as_slice() } else { &[] };
        let mut cargo = workspace.cargo();
        cargo.args(["bench", "--package", "sentinel-gateway", "--bench", "micro"]);
        if debug {
            cargo.args(["--profile", "dev"]);
        }
        cargo.arg("--").args(filter);
        if quick {
            cargo.args(["--max-time", "0.05"]);
        }
        let text = shell::output(&mut cargo)?;
        println!("{text}");
        std::fs::create_dir_all(&out)?;
        if filter.is_empty() && !quick {
            std::fs::write(&micro, text)?;
        }
    }
    if matches!(layer, Layer::Counts | Layer::All) {
        valgrind()?;
    }
    if layer == Layer::Rest {
        let missing = [("nginx", "nginx-light"), ("caddy", "caddy"), ("wrk", "wrk")].into_iter();
        let missing = missing.filter(|(program, _)| !on_path(program)).map(|(_, package)| package);
        debian::install(&missing.collect::<Vec<_>>())?;
        let mut command = Command::new(&tool);
        command.arg("rest").arg("--gateway").arg(workspace.gateway(host));
        command.arg("--engine").arg(workspace.root.join("tests/fixtures/engine"));
        if quick {
            command.args(["--rounds", "1", "--seconds", "1"]);
        }
        return shell::run(command.args(&options.rest));
    }
    let parts: &[&str] = match layer {
        Layer::Micro | Layer::Report | Layer::Rest | Layer::Exec => &[],
        Layer::Whole => &["whole"],
        Layer::Peers => &["peers"],
        Layer::Growth => &["growth"],
        Layer::Counts => &["counts"],
        Layer::Hostile => &["hostile"],
        Layer::Reload => &["reload"],
        Layer::All => &["peers", "growth", "counts", "hostile", "reload"],
    };
    if !parts.is_empty() {
        let mut command = Command::new(&tool);
        command.arg("run").args(parts).arg("--gateway").arg(workspace.gateway(host));
        command.arg("--guests").arg(workspace.target.join("guests"));
        command.arg("--peers").arg(workspace.target.join("bench-peers"));
        command.arg("--json").arg(&json).args(["--commit", &commit(workspace)]);
        if quick {
            command.arg("--quick");
        }
        shell::run(command.args(&options.rest))?;
    }
    if layer == Layer::Report || (layer == Layer::All && !quick) {
        let mut command = Command::new(&tool);
        command.arg("report").arg("--json").arg(&json).arg("--micro").arg(&micro);
        command.arg("--page").arg(workspace.root.join("tests/BENCHMARKS.md"));
        shell::run(command.arg("--chart").arg(workspace.root.join("tests/benchmarks.svg")))?;
    }
    Ok(())
}

/// Whether a program stands where programs do; nginx is among those of the administrator.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

/// Installs what counts instructions, where it is missing.
fn valgrind() -> anyhow::Result<()> {
    let missing = !shell::succeeds(Command::new("valgrind").arg("--version"));
    debian::install(if missing { &["valgrind"] } else { &[] })
}

/// The commit that is measured, and whether it is all that is measured.
fn commit(workspace: &Workspace) -> String {
    let git = |args: &[&str]| shell::output(Command::new("git").args(args).current_dir(&workspace.root)).ok();
    let Some(short) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--", "host", "plugins"]).is_some_and(|text| !text.is_empty());
    format!("{}{}", short.trim(), if changed { " with changes" } else { "" })
}
