//! `check`: everything a start would need, without starting it.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use sentinel_gateway::text::line;
use sentinel_gateway::{app, config};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also start every backend and ask it for its tools
    #[arg(long)]
    probe: bool,
}

pub(crate) fn execute(path: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let (config, loaded) = app::check(path)?;
    let mut text = format!("{} is in order\n", path.display());
    for warning in &config.warnings {
        let _ = writeln!(text, "  warning: {}: {}", warning.key, line(&warning.message));
    }
    let _ = writeln!(text, "\nplugins, in the order they are asked");
    for plugin in loaded.chain.plugins().chain(loaded.rewriters.plugins()) {
        let _ = writeln!(text, "  {:<18} sha256 {}", plugin.name(), plugin.digest());
    }
    let _ = writeln!(text, "\nbackends");
    for backend in &config.backends {
        let how = match &backend.transport {
            config::Transport::Stdio { command, args, sandbox, .. } => {
                let sandbox = if sandbox.is_some() { "  (in a sandbox)" } else { "" };
                let args: Vec<&str> = args.iter().map(config::Secret::expose).collect();
                format!("{}{sandbox}", line(&format!("stdio  {command} {}", args.join(" "))))
            }
            config::Transport::Http { url, .. } => line(&format!("http   {}", url.expose())).into_owned(),
        };
        let _ = writeln!(text, "  {:<18} {how}", backend.name);
    }
    // Arguments and URLs may hold a password that is written into the file.
    super::say(&config.redaction.text(&text))?;
    if !options.probe {
        return Ok(ExitCode::SUCCESS);
    }
    let report = super::runtime()?.block_on(app::probe(&config, loaded));
    let mut text = String::from("\nprobe\n");
    let mut code = ExitCode::SUCCESS;
    for (backend, result) in report.backends {
        let _ = match result {
            Ok(tools) => writeln!(text, "  {backend:<18} up, {tools} tools"),
            Err(reason) => {
                code = ExitCode::from(1);
                writeln!(text, "  {backend:<18} DOWN: {reason}")
            }
        };
    }
    if !report.renamed.is_empty() {
        text.push_str("\ntools that are not shown under their servers' own names\n");
    }
    for (shown, backend, own) in report.renamed {
        let _ = writeln!(text, "  {shown:<34} is {backend}/{}", own.escape_debug());
    }
    for problem in report.unmatched {
        let _ = writeln!(text, "\nwarning: {problem}");
    }
    super::say(&text)?;
    Ok(code)
}
