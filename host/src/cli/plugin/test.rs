//! `plugin test`: what a plugin answers to a file of cases.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use sentinel_gateway::app::trial::{Cases, Trial, Tried};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// What to ask it, and what it has to answer
    #[arg(long, value_name = "FILE.toml", default_value = "cases.toml")]
    cases: PathBuf,
    /// How long compiling it may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    compile_secs: u32,
}

pub(super) fn execute(options: &Options) -> anyhow::Result<ExitCode> {
    let shown = options.cases.display();
    let text = std::fs::read_to_string(&options.cases).with_context(|| format!("cannot read {shown}"))?;
    let cases: Cases = toml::from_str(&text).with_context(|| format!("{shown} is no file of cases"))?;
    ensure!(!cases.cases.is_empty(), "{shown} has no [[cases]], so nothing would be tested");
    let trial = Trial::load(&super::engine(options.compile_secs)?, &options.file, &cases)?;
    let tried = cases.cases.iter().map(|case| trial.run(case)).collect::<anyhow::Result<Vec<_>>>()?;
    let failed = tried.iter().filter(|tried| !tried.wrong.is_empty()).count();
    let mut text: String = tried.iter().map(line).collect();
    let _ = match failed {
        0 => writeln!(text, "{} cases passed", tried.len()),
        failed => writeln!(text, "{failed} of {} cases failed", tried.len()),
    };
    crate::cli::say(&text)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn line(tried: &Tried) -> String {
    let Tried { name, found, wrong } = tried;
    let passed = if wrong.is_empty() { "ok    " } else { "FAILED" };
    let (verdict, steps, micros) = (found.verdict.as_str(), found.fuel, found.took.as_secs_f64() * 1e6);
    let mut text = format!("{passed}  {verdict:<9} {steps:>9} steps {micros:>8.1} µs  {name}\n");
    for wrong in wrong {
        let _ = writeln!(text, "        {wrong}");
    }
    text
}
