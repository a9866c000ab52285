//! `call`: one call through a configuration, with what every plugin said to it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use sentinel_gateway::app::{self, Once};
use sentinel_gateway::text::line;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The tool, as clients see it
    tool: String,
    /// Its arguments, a JSON object
    #[arg(value_name = "JSON", default_value = "{}")]
    arguments: String,
}

pub(super) fn execute(path: &Path, log_level: Option<&str>, options: &Options) -> anyhow::Result<ExitCode> {
    let read: serde_json::Value =
        serde_json::from_str(&options.arguments).context("the arguments are no JSON")?;
    ensure!(read.is_object(), "the arguments are no JSON object, such as {{\"path\": \"/tmp\"}}");
    let call = app::call_once(path, log_level, &options.tool, &options.arguments);
    let once = super::runtime()?.block_on(call)?;
    super::say(&text(&once))?;
    Ok(if once.answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn text(once: &Once) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{:<22} {:<13} {:<9} {:>9}", "plugin", "asked", "said", "µs");
    for step in &once.steps {
        let micros = step.took.as_secs_f64() * 1e6;
        let _ = writeln!(text, "{:<22} {:<13} {:<9} {micros:>9.1}", step.plugin, step.hook, step.said);
    }
    if once.steps.is_empty() {
        text.push_str("(no plugin was asked)\n");
    }
    let _ = match &once.answer {
        Ok(answer) => {
            writeln!(text, "\nanswered in {:.1} ms\n{}", once.took.as_secs_f64() * 1e3, line(answer))
        }
        Err(refusal) => {
            writeln!(text, "\nnot done, after {:.1} ms\n{}", once.took.as_secs_f64() * 1e3, line(refusal))
        }
    };
    text
}
