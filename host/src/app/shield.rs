//! Protects the gateway's own secrets before it reads any: its environment, its memory and its descriptors are closed
//! to every other process of its user, because the servers it starts are such processes.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Makes this process undumpable and takes core dumps from it and all it starts. First of all in `main`.
///
/// `/proc/PID/environ`, `mem`, `maps`, `fd` and the like belong to root then, and only who has `CAP_SYS_PTRACE` may trace it.
/// This process may still open its own `/proc/self/fd` and `/proc/self/exe`, but no other file there that has no `r` for all.
/// Exec makes a process dumpable again: each program that we start has to do this for itself, as its own `main`.
///
/// # Errors
/// The system refuses, which Linux does not.
pub fn shield() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A core that is piped to a program is not held by the limit; it is held by this.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
