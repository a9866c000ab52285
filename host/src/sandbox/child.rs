//! What every child of a supervising process does before it becomes another program.

use std::io;

use rustix::process::{Pid, Resource, Rlimit, Signal};

/// Has this process, which `parent` has just made, end with its parent. It is safe to call between fork and exec: it makes
/// system calls only.
///
/// # Errors
/// The parent is gone already, or the kernel refuses.
pub(crate) fn end_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above; then nobody would send the signal.
    if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
}

/// Bounds a resource of this process and of all that it starts, for good. It is as safe to call as [`end_with`].
///
/// # Errors
/// The limit is lower already.
pub(crate) fn bound(resource: Resource, most: u64) -> io::Result<()> {
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}
