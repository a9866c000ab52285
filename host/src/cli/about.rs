//! `completions` and `man`: what the command line says of itself, for shells and for `man`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;

const NAME: &str = "sentinel-gateway";

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write a page for every command into this folder, instead of printing the first
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(shell: Shell, command: &clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(command), NAME, &mut script);
    let mut script = String::from_utf8(script)?;
    if shell == Shell::Bash {
        // The generator (4.6) spells a name with a hyphen in two ways, so that its script finds no subcommand.
        script = script.replace("sentinel__subcmd__gateway", "sentinel__gateway");
    }
    super::say_as_it_is(&script)
}

/// The command without its hidden ones, which some generators offer all the same.
fn visible(command: &clap::Command) -> clap::Command {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(commands.cloned())
}

pub(crate) fn man(options: &Man, command: clap::Command) -> anyhow::Result<ExitCode> {
    match &options.dir {
        Some(dir) => pages(dir, command),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            super::say_as_it_is(&String::from_utf8(page)?)
        }
    }
}

fn pages(dir: &Path, command: clap::Command) -> anyhow::Result<ExitCode> {
    let what = || format!("cannot write pages into {}", dir.display());
    std::fs::create_dir_all(dir).with_context(what)?;
    clap_mangen::generate_to(command, dir).with_context(what)?;
    Ok(ExitCode::SUCCESS)
}
