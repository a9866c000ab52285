//! `plugin`: what an artifact is and wants, before it is trusted.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use sentinel_gateway::config::CompileLimits;
use sentinel_gateway::plugin::{Artifact, Engine, load_artifact, precompile};
use sentinel_gateway::text::line;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
    let engine = |seconds: u32| {
        let time = Duration::from_secs(seconds.into());
        Engine::new()
            .map(|engine| engine.compiling(CompileLimits { time, ..CompileLimits::default() }))
            .map_err(|error| anyhow::anyhow!("the WebAssembly engine cannot start: {error:#}"))
    };
    match command {
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
