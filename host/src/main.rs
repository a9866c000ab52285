//! The `sentinel-gateway` binary: parse, run, print one chain of errors, exit code.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
