//! `plan`: several commands in stages, each of which people approve, with validation and a way back.
//!
//! It is a client of a gateway whose approvals are served over HTTP (`[approvals] http = true`), and has no rights of its own: each
//! command is asked for, approved and run as any caller's is. What was done is kept beside the plan, so that a plan that was
//! interrupted goes on where it was, and nothing is run a second time because of that.

mod drive;
mod file;
mod kept;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use sentinel_gateway::config::{self, Config};
use sentinel_gateway::{app, text};

use self::drive::{Ended, Gateway};
use self::file::{Part, Plan, Step};
use self::kept::{Kept, State};

const EXAMPLES: &str = "\
Examples:
  sentinel-gateway plan check plans/deploy.toml       every command is one that the configuration has
  sentinel-gateway plan run plans/deploy.toml         asks for each command, waits for people, runs it, and validates
  sentinel-gateway plan status plans/deploy.toml
  sentinel-gateway plan rollback plans/deploy.toml    the way back from the stages that were begun, the last first

Who asks is whoever the token in SENTINEL_TOKEN names. Who decides does so with `sentinel-gateway approvals`.";

/// The variable with the token of who runs the plan.
const TOKEN: &str = "SENTINEL_TOKEN";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look whether every command of the plan is one that the configuration has
    Check(File),
    /// Run the plan, or go on with it
    Run(Run),
    /// Show how far it is
    Status(File),
    /// Run the way back from the stages that were begun, the last first
    Rollback(Run),
}

#[derive(Debug, Args)]
struct File {
    /// The plan
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    /// The plan
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    /// Where the gateway serves approvals; by default gateway.listen of the configuration
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How long to wait for people to decide about one command, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 3_600)]
    wait: u64,
    /// Of a command about which it is not known whether it ran, because this was interrupted in that moment: take it for done, or
    /// run it again
    #[arg(long, value_enum, value_name = "WHAT")]
    unknown: Option<Unknown>,
}

/// What to take a command for about which nobody knows whether it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Unknown {
    Done,
    Again,
}

pub(super) fn execute(config: &Path, options: Options) -> anyhow::Result<ExitCode> {
    match options.command {
        Command::Check(File { plan }) => check(config, &plan),
        Command::Status(File { plan }) => {
            let (plan, kept) = (Plan::read(&plan)?, Kept::read(&plan)?);
            super::say(&shown(&plan, &kept))
        }
        Command::Run(run) => go(config, &run, false),
        Command::Rollback(run) => go(config, &run, true),
    }
}

/// Every mistake at once.
fn check(config: &Path, path: &Path) -> anyhow::Result<ExitCode> {
    let (plan, config) = (Plan::read(path)?, config::load(config, &app::environment)?);
    let mistakes = mistakes(&plan, &config);
    if mistakes.is_empty() {
        let count = plan.steps().count();
        return super::say(&format!(
            "{}: {} stages, {count} commands, all of them known",
            plan.name,
            plan.stages.len()
        ));
    }
    for mistake in &mistakes {
        super::complain(&format!("{}: {mistake}", path.display()));
    }
    Ok(ExitCode::from(2))
}

fn mistakes(plan: &Plan, config: &Config) -> Vec<String> {
    let executors: Vec<_> =
        config.executors.iter().filter(|executor| executor.environment == plan.environment).collect();
    if executors.is_empty() {
        return vec![format!("no executor is for the environment {:?}", plan.environment)];
    }
    let mut mistakes = Vec::new();
    for step in plan.steps() {
        let refused = executors.iter().map(|executor| executor.commands.recognise(&step.line).err());
        let refused: Option<Vec<_>> = refused.collect();
        if let Some(why) = refused.and_then(|refused| refused.into_iter().next()) {
            let slot = if why.slot.is_empty() { String::new() } else { format!("{}: ", why.slot) };
            mistakes.push(format!("{}: {:?}: {slot}{}", step.place(), step.line, why.message));
        }
    }
    mistakes
}

/// Runs the steps that are not done yet, forward or back.
fn go(config: &Path, run: &Run, back: bool) -> anyhow::Result<ExitCode> {
    let plan = Plan::read(&run.plan)?;
    let mut kept = Kept::read(&run.plan)?;
    let _held = kept.hold()?;
    ensure!(
        kept.is_of(&plan) || !kept.has_begun(),
        "{} has changed since it was begun: put it back as it was, or begin anew by removing {}",
        run.plan.display(),
        kept.path().display()
    );
    kept.begin(&plan);
    let found = config::load(config, &app::environment)?;
    let found_mistakes = mistakes(&plan, &found);
    ensure!(found_mistakes.is_empty(), "{}", found_mistakes.join("\n"));
    let url = match &run.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            ensure!(
                found.http.is_some(),
                "the configuration has no [http]: say where the gateway is with --url"
            );
            format!("http://{}", found.gateway.listen)
        }
    };
    let token = std::env::var(TOKEN).with_context(|| format!("{TOKEN}, the token of who runs the plan"))?;
    let runtime = super::runtime()?;
    let gateway = Gateway::new(url, token, &plan)?;
    let steps: Vec<Step> = if back {
        plan.way_back(|stage| kept.has_touched(stage))
    } else {
        ensure!(
            !kept.is_rolled_back(),
            "it was rolled back: begin anew by removing {}",
            kept.path().display()
        );
        plan.way_there()
    };
    if back {
        kept.roll_back()?;
    }
    for step in steps {
        match kept.state(&step) {
            State::Done => continue,
            State::Running if run.unknown == Some(Unknown::Done) => {
                kept.set(&step, State::Done, None)?;
                continue;
            }
            State::Running if run.unknown == Some(Unknown::Again) => kept.set(&step, State::Open, None)?,
            State::Open | State::Waiting | State::Running | State::Failed => {}
        }
        super::say(&format!("{}: {}", step.place(), step.line))?;
        let ended = runtime.block_on(gateway.step(&step, &mut kept, Duration::from_secs(run.wait)))?;
        match ended {
            Ended::Well(execution) => {
                super::say(&format!("  done ({execution})"))?;
            }
            Ended::Badly { code, output } => {
                super::complain(&format!("  failed with the exit code {code}\n{}", text::lines(&output)));
                let next = match step.part {
                    Part::Rollback => {
                        "the way back stands still here: it goes on with `plan rollback` when this works"
                    }
                    Part::Command | Part::Validate => {
                        "the plan stands still here: `plan run` tries this command again, `plan rollback` goes back"
                    }
                };
                super::complain(next);
                return Ok(ExitCode::from(1));
            }
            Ended::Refused(why) => {
                super::complain(&format!("  not run: {why}"));
                return Ok(ExitCode::from(1));
            }
            Ended::Unknown => {
                super::complain(
                    "  whether it ran is not known, because this was interrupted in that moment: look at the executor's record, and \
                     go on with --unknown done or --unknown again",
                );
                return Ok(ExitCode::from(1));
            }
        }
    }
    super::say(if back { "rolled back" } else { "the plan is done" })
}

/// How far a plan is.
fn shown(plan: &Plan, kept: &Kept) -> String {
    let mut out = format!("{} in {}\n", plan.name, plan.environment);
    if !kept.is_of(plan) && kept.has_begun() {
        out += "THE PLAN HAS CHANGED SINCE IT WAS BEGUN\n";
    }
    for step in plan.steps() {
        out += &format!("  {:<8} {}: {}\n", kept.state(&step).as_str(), step.place(), step.line);
    }
    if kept.is_rolled_back() {
        out += "it is being rolled back, or was\n";
    }
    out
}

/// A file that may be this long, as text.
fn read(path: &Path) -> anyhow::Result<String> {
    const MOST: u64 = 1 << 20;
    let length = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if length > MOST {
        bail!("{} is longer than {MOST} bytes", path.display());
    }
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
