//! `cargo xtask`: everything a person does to this project, in one place and in Rust, so that a machine
//! needs nothing but the toolchain to build, test, check and show it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to the person who started it"
)]

mod bench;
mod build;
mod conformance;
mod debian;
mod demo;
mod dist;
mod encode;
mod fixtures;
mod fuzz;
mod openapi;
mod shell;
mod test;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::build::Plan;
use crate::workspace::{Host, Workspace};

/// Builds, tests, checks and shows Sentinel Gateway.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the gateway and its plugins into target/debug (or target/release)
    Build {
        /// Optimised, and without the fixture backend
        #[arg(long)]
        release: bool,
        /// Also build the misbehaving plugins of tests/guests into target/guests
        #[arg(long)]
        guests: bool,
        /// Only the plugins, for a gateway that is built already
        #[arg(long, conflicts_with = "release")]
        plugins_only: bool,
    },
    /// Build, then run the gateway with the given arguments
    Run {
        /// Run the optimised build
        #[arg(long)]
        release: bool,
        /// What the gateway is started with
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build, then watch the gateway allow, refuse, limit, break, kill and record; with `exec`, a command that a person approves
    Demo {
        /// Another demo than the usual one
        #[arg(value_enum)]
        part: Option<demo::Part>,
        /// Use what the last build left
        #[arg(long)]
        no_build: bool,
    },
    /// Install what is missing, then build and test everything
    Test {
        /// Leave out the Node and Python servers; the tests that need them will fail
        #[arg(long)]
        no_fixtures: bool,
    },
    /// Run the official conformance suite against the fixture backend, alone and through the gateway
    Conformance(conformance::Options),
    /// Measure: single steps, the whole gateway, its peers beside it, and how the cost of a call grows
    Bench(bench::Options),
    /// Fuzz everything that reads foreign bytes, guided by coverage
    Fuzz(fuzz::Options),
    /// Import real OpenAPI documents, and show the documents the gateway makes to two linters
    Openapi(openapi::Options),
    /// Change the configuration five hundred times under load, in some minutes; no call may fail
    Reloads,
    /// Make the release archive in dist/
    Dist(dist::Options),
    /// Write config/schema.json from the configuration's types
    Schema,
    /// Install the Node and Python servers that the tests put behind the gateway
    Fixtures,
    /// Check the layers, the size of files and the other rules of the house
    Tidy {
        /// Print what is large and might be split, and what is public for nobody; nothing is checked
        #[arg(long)]
        report: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = Workspace::find().and_then(|workspace| perform(args.task, &workspace));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            shell::exit_code(&error)
        }
    }
}

fn perform(task: Task, workspace: &Workspace) -> anyhow::Result<()> {
    match task {
        Task::Build { plugins_only: true, guests, .. } => {
            build::plugins(workspace, &Plan { host: Host::Tests, guests })
        }
        Task::Build { release, guests, .. } => {
            build::run(workspace, &Plan { host: Host::profile(release), guests })
        }
        Task::Run { release, args } => {
            let host = Host::profile(release);
            build::run(workspace, &Plan { host, guests: false })?;
            Err(shell::replace(&workspace.gateway(host), &args))
        }
        Task::Demo { part, no_build } => {
            if !no_build {
                build::run(workspace, &Plan { host: Host::Debug, guests: false })?;
            }
            match part {
                None => demo::run(workspace),
                Some(demo::Part::Exec) => demo::exec::run(workspace),
            }
        }
        Task::Test { no_fixtures } => test::run(workspace, !no_fixtures),
        Task::Conformance(options) => conformance::run(workspace, &options),
        Task::Bench(options) => bench::run(workspace, &options),
        Task::Fuzz(options) => fuzz::run(workspace, &options),
        Task::Openapi(options) => openapi::run(workspace, &options),
        Task::Reloads => test::reloads(workspace),
        Task::Dist(options) => dist::run(workspace, &options),
        Task::Schema => dist::schema(workspace),
        Task::Fixtures => fixtures::run(workspace),
        Task::Tidy { report: false } => tidy::run(workspace),
        Task::Tidy { report: true } => tidy::report(workspace),
    }
}
