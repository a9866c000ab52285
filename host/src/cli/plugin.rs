//! `plugin`: makes a plugin, builds it, asks it what a file of cases says, and shows what it is and wants before it is trusted.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use sentinel_gateway::config::CompileLimits;
use sentinel_gateway::plugin::{Artifact, Engine, load_artifact, precompile};
use sentinel_gateway::text::line;

mod build;
mod new;
mod test;
mod vendor;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a project for a plugin, in any folder: it builds, is tested and loads as it is
    New(new::Options),
    /// Build a project into a component that imports nothing but the gateway's own interfaces
    Build(build::Options),
    /// Put the build before the last in its place again, and the last in its
    Rollback {
        /// The component
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
    },
    /// Ask a plugin what a file of cases says, and compare its answers
    Test(test::Options),
    /// Show a plugin's digest, roles and everything it would be able to touch
    Inspect {
        /// The component
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        /// How long compiling it may take
        #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
        compile_secs: u32,
    },
    /// Compile every plugin of a folder into its cache, so that no start has to
    Precompile {
        /// The folder with the `.wasm` files
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// How long compiling each may take
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
        compile_secs: u32,
    },
}

pub(crate) fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::New(options) => new::execute(&options),
        Command::Build(options) => build::execute(&options),
        Command::Rollback { file } => build::roll_back(&file),
        Command::Test(options) => test::execute(&options),
        Command::Inspect { file, compile_secs } => {
            let artifact = load_artifact(&engine(compile_secs)?, &file, None, None)?;
            super::say(&describe(&file, &artifact))
        }
        Command::Precompile { dir, compile_secs } => {
            let engine = engine(compile_secs)?;
            let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
                .with_context(|| format!("cannot read {}", dir.display()))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
                .collect();
            files.sort();
            anyhow::ensure!(!files.is_empty(), "no .wasm file in {}", dir.display());
            for file in &files {
                precompile(&engine, file).with_context(|| file.display().to_string())?;
            }
            super::say(&format!("{} plugins are compiled", files.len()))
        }
    }
}

fn engine(compile_secs: u32) -> anyhow::Result<Engine> {
    let time = Duration::from_secs(compile_secs.into());
    Engine::new()
        .map(|engine| engine.compiling(CompileLimits { time, ..CompileLimits::default() }))
        .map_err(|error| anyhow::anyhow!("the WebAssembly engine cannot start: {error:#}"))
}

fn describe(file: &Path, artifact: &Artifact) -> String {
    let manifest = &artifact.manifest;
    let mut text = format!("{}\n", file.display());
    if !manifest.name.is_empty() {
        // The manifest comes from the plugin, so it is not trusted yet.
        let said = format!("{} {}: {}", manifest.name, manifest.version, manifest.description);
        let _ = writeln!(text, "  {}", line(&said));
    }
    let _ = writeln!(text, "  sha256   {}", artifact.digest);
    let roles: Vec<&str> =
        artifact.exports.iter().map(String::as_str).filter(|role| *role != "lifecycle").collect();
    let _ = writeln!(text, "  roles    {}", line(&roles.join(", ")));
    let foreign: Vec<&String> =
        artifact.imports.iter().filter(|import| !import.starts_with("sentinel:plugin/")).collect();
    let pure =
        if foreign.is_empty() { "yes: it can reach nothing but the gateway's own interfaces" } else { "no" };
    let _ = writeln!(text, "  pure     {pure}");
    let _ = writeln!(text, "  imports");
    for import in &artifact.imports {
        let _ = writeln!(text, "    {}", line(import));
    }
    text
}
