//! The `sentinel-gateway` binary: parse, run, print one chain of errors, exit code.

use std::process::ExitCode;

mod cli;

/// A call makes some 60 small allocations (`tests/it/allocations.rs`), and often one thread frees what another
/// allocated: the pattern that the system's allocator is slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
