//! The hidden command behind [`confined`]: this program as a child of itself, doing one kind of work under limits.
//! Another kind is one more line here and a function that takes bytes and returns bytes.

use std::process::ExitCode;

use clap::ValueEnum;
use sentinel_gateway::{confined, plugin};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Work {
    /// A component in, its native code out.
    Compile,
}

pub(crate) fn execute(work: Work) -> anyhow::Result<ExitCode> {
    Ok(match work {
        Work::Compile => confined::serve(plugin::compile_here)?,
    })
}
