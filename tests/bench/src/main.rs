//! Measures Sentinel Gateway: itself, beside others who do a part of the same, and as it grows. `cargo xtask bench`
//! builds and starts it.
//!
//! `call` is what is measured and `load` how much of it at once, `client` makes the calls and `backend` answers them,
//! `contestant` is who stands between, `course` the order in which all of it happens, and `report` what people see.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to the person who started it"
)]

mod backend;
mod call;
mod client;
mod contestant;
mod course;
mod load;
mod proc;
mod record;
mod report;
mod rest;
mod result;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "sentinel-bench", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Be the server behind what is measured
    #[command(subcommand)]
    Backend(backend::Way),
    /// Measure
    Run(course::Options),
    /// Measure the HTTP API beside plain proxies
    Rest(rest::Options),
    /// Write the report from what was measured last
    Report(report::Options),
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Backend(way) => backend::serve(way),
        Task::Run(options) => course::run(&options),
        Task::Rest(options) => rest::run(&options),
        Task::Report(options) => report::write(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sentinel-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
