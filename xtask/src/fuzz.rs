//! `cargo xtask fuzz`: the targets of `tests/fuzz`, guided by coverage. libFuzzer comes with a crate, and what it asks of the
//! compiler are flags that the stable one has; they hold for every crate, so the build has a folder of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::shell;
use crate::workspace::Workspace;

/// What the compiler notes of the ways that are taken.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// The longest input, the longest time for one, and the most memory: past them an input counts as a failure.
const LIMITS: [&str; 3] = ["-max_len=16384", "-timeout=20", "-rss_limit_mb=2048"];

/// What to try, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Minutes for each target
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Only these targets: the folders of tests/fuzz/corpus
    targets: Vec<String>,
}

/// Builds the targets and lets each run. What was found new on the way stays in target/fuzz; an input that fails does, too.
///
/// # Errors
/// The build fails, a target is unknown, or an input fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let corpus = workspace.root.join("tests/fuzz/corpus");
    let mut known: Vec<String> = std::fs::read_dir(&corpus)
        .with_context(|| format!("cannot read {}", corpus.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    known.sort();
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {unknown}; there are {}", known.join(", "));
    }
    let target = workspace.target.join("fuzz");
    let host = shell::output(std::process::Command::new("rustc").args(["--print", "host-tuple"]))?;
    let host = host.trim();
    let mut cargo = workspace.cargo();
    // With a target named, the flags spare build scripts and macros.
    cargo.args(["build", "--package", "sentinel-fuzz", "--features", "guided", "--target", host]);
    shell::run(cargo.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", COVERAGE))?;
    let program = target.join(host).join("debug/sentinel-fuzz");
    let seconds = Duration::from_secs_f64((options.minutes * 60.0).clamp(1.0, 86_400.0)).as_secs();
    let mut failed = Vec::new();
    for name in known.iter().filter(|name| options.targets.is_empty() || options.targets.contains(name)) {
        if let Err(error) = one(&program, name, &corpus.join(name), &target, seconds) {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

fn one(program: &Path, name: &str, corpus: &Path, target: &Path, seconds: u64) -> anyhow::Result<()> {
    let found = target.join("found").join(name);
    let failures = target.join("failures").join(name);
    std::fs::create_dir_all(&found)?;
    std::fs::create_dir_all(&failures)?;
    let mut fuzzer = std::process::Command::new(program);
    fuzzer.env("FUZZ_TARGET", name).args(LIMITS).arg(format!("-max_total_time={seconds}"));
    fuzzer.arg("-print_final_stats=1").arg("-verbosity=1");
    // A slash at the end: a folder for the inputs that fail.
    fuzzer.arg(format!("-artifact_prefix={}/", failures.display()));
    // New inputs go into the first folder.
    shell::run_bounded(fuzzer.arg(&found).arg(corpus), 20, 60)
        .with_context(|| format!("the input stands in {}", failures.display()))
}
