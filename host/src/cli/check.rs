//! `check`: everything a start would need, without starting it.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sentinel_gateway::app::plugins::Loaded;
use sentinel_gateway::config::{Config, Problem};
use sentinel_gateway::redact::Words;
use sentinel_gateway::text::line;
use sentinel_gateway::{app, config};

mod names;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also start every backend and ask it for its tools
    #[arg(long)]
    probe: bool,
}

pub(crate) fn execute(path: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let (config, loaded) = app::check(path)?;
    let chain = loaded.chain.clone();
    let runtime = super::runtime()?;
    // An authenticator may have to fetch keys, which is done on a thread that may wait.
    let asked = config.clone();
    let verdict = runtime.block_on(runtime.spawn_blocking(move || app::caller(&asked, &chain)))?;
    if let Some(verdict) = &verdict {
        verdict.problems(&config)?;
    }
    let around = app::look(&config);
    let mut text = format!("{} is in order\n", path.display());
    if let Some(verdict) = &verdict {
        let _ = writeln!(text, "  {}", line(&verdict.to_string()));
    }
    for warning in config.warnings.iter().chain(&around.notes) {
        let _ = writeln!(text, "  warning: {}: {}", warning.key, line(&warning.message));
    }
    describe(&mut text, &config, &loaded);
    missing(&mut text, &around.missing);
    // Arguments and URLs may hold a password that is written into the file.
    super::say(&config.redaction.text(&text))?;
    let mut code = if around.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) };
    if options.probe && !runtime.block_on(probe(&config, loaded))? {
        code = ExitCode::from(1);
    }
    Ok(code)
}

fn describe(text: &mut String, config: &Config, loaded: &Loaded) {
    let _ = writeln!(text, "\nplugins, in the order they are asked");
    for plugin in loaded.chain.plugins().chain(loaded.rewriters.plugins()) {
        let _ = writeln!(text, "  {:<18} sha256 {}", plugin.name(), plugin.digest());
    }
    let _ = writeln!(text, "\nbackends");
    for backend in &config.backends {
        let how = match &backend.transport {
            _ if backend.absent.is_some() => "left out".to_owned(),
            config::TransportSettings::Stdio { command, args, sandbox, .. } => {
                let sandbox = if sandbox.is_some() { "  (in a sandbox)" } else { "" };
                let args: Vec<&str> = args.iter().map(config::Secret::expose).collect();
                format!("{}{sandbox}", line(&format!("stdio  {command} {}", args.join(" "))))
            }
            config::TransportSettings::Http { url, .. } => {
                line(&format!("http   {}", url.expose())).into_owned()
            }
        };
        let _ = writeln!(text, "  {:<18} {how}", backend.name);
    }
}

fn missing(text: &mut String, missing: &[Problem]) {
    if !missing.is_empty() {
        let _ = writeln!(text, "\nmissing on this machine");
    }
    for problem in missing {
        let _ = writeln!(text, "  {}: {}", problem.key, line(&problem.message));
        if let Some(hint) = &problem.hint {
            let _ = writeln!(text, "    hint: {}", line(hint));
        }
    }
}

/// Starts every backend, says how each did as soon as it is known, and whether all are well.
async fn probe(config: &Config, loaded: Loaded) -> anyhow::Result<bool> {
    super::say("\nprobe")?;
    let waiting = Waiting::new(config.backends.iter().map(|backend| backend.name.clone()).collect());
    let optional = |name: &str| config.backends.iter().any(|b| b.name == name && b.absent.is_some());
    let mut well = true;
    let report = app::probe(config, loaded, &mut |backend, result| {
        well &= result.is_ok() || optional(backend);
        waiting.tell(backend, &outcome(backend, result));
    })
    .await;
    waiting.end();
    let mut text = String::new();
    text.push_str(&names::text(&report.names));
    for problem in report.unmatched {
        let _ = writeln!(text, "\nwarning: {problem}");
    }
    if !text.is_empty() {
        super::say(&text)?;
    }
    Ok(well)
}

fn outcome(backend: &str, result: &Result<usize, Words>) -> String {
    match result {
        Ok(tools) => format!("  {backend:<18} up, {tools} tools"),
        Err(reason) => format!("  {backend:<18} DOWN: {reason}"),
    }
}

/// The progress bar on a terminal while servers start; without a terminal there is none.
struct Waiting {
    bar: ProgressBar,
    names: std::cell::RefCell<Vec<String>>,
}

impl Waiting {
    fn new(names: Vec<String>) -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        let waiting = Self { bar, names: names.into() };
        waiting.show();
        waiting
    }

    fn show(&self) {
        let names = self.names.borrow();
        self.bar.set_message(format!("waiting for {}", line(&names.join(", "))));
    }

    fn tell(&self, backend: &str, outcome: &str) {
        // The reader may have gone (`| head`); the servers are still ended in order.
        self.bar.suspend(|| drop(super::say(outcome)));
        self.names.borrow_mut().retain(|name| name != backend);
        self.show();
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
