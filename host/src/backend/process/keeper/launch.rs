//! Starts the server, and lets go of everything that is the server's.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Resource};

use super::super::frames::{Report, Start};
use super::signals::Mask;
use crate::sandbox::{Cage, child};

/// Descriptors that somebody may have left open for the gateway, where the kernel cannot mark a range.
const DESCRIPTORS: i32 = 4096;

/// Marks descriptors to be closed when the server is executed: those that the gateway inherited, and the line to it.
pub(super) fn seal() -> io::Result<()> {
    #[expect(unsafe_code, reason = "rustix has no close_range")]
    // SAFETY: the call takes three numbers, closes nothing, and marks descriptors of this process.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return Ok(());
    }
    for descriptor in 3..DESCRIPTORS {
        #[expect(unsafe_code, reason = "the descriptor's owner is unknown")]
        // SAFETY: it is only marked; one that is not open gives an error, which means that there is nothing to do.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    }
    Ok(())
}

/// The file that will be executed, as the child will look it up.
fn program(start: &Start) -> Option<PathBuf> {
    let folder = start.cwd.clone().unwrap_or_default();
    if start.command.contains('/') {
        return Some(folder.join(&start.command)).filter(|program| program.is_file());
    }
    let (_, path) = start.env.iter().rev().find(|(name, _)| name == "PATH")?;
    let folders =
        path.as_bytes().split(|byte| *byte == b':').map(|each| folder.join(OsStr::from_bytes(each)));
    folders.map(|folder| folder.join(&start.command)).find(|program| program.is_file())
}

/// Starts the server on the three pipes of this process.
pub(super) fn server(start: &Start, mask: Mask) -> Result<Pid, Report> {
    let refused = |message: String| Report::Refused { errno: None, message };
    let mut cage = match &start.sandbox {
        Some(settings) => Some(Cage::build(settings, program(start).as_deref()).map_err(refused)?),
        None => None,
    };
    let mut command = Command::new(&start.command);
    command.args(&start.args).env_clear().envs(start.env.iter().map(|(name, value)| (name, value)));
    command.process_group(0);
    if let Some(cwd) = &start.cwd {
        command.current_dir(cwd);
    }
    let keeper = rustix::process::getpid();
    let before_exec = move || {
        child::end_with(keeper)?;
        // A core dump would write the child's secrets to a disk.
        child::bound(Resource::Core, 0)?;
        mask.restore()?;
        cage.take().map_or(Ok(()), Cage::enter)
    };
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: between fork and exec of a process with several threads only async-signal-safe code may run. This process
    // has one thread until the server is started, so no lock can be held by another.
    unsafe {
        command.pre_exec(before_exec);
    }
    match command.spawn() {
        Ok(child) => {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            pid.ok_or_else(|| refused("the server has no process id".to_owned()))
        }
        Err(error) if start.sandbox.is_some() => Err(refused(format!(
            "{error} (in its sandbox; what the program needs to start must be in sandbox.read)"
        ))),
        Err(error) => Err(Report::Refused { errno: error.raw_os_error(), message: error.to_string() }),
    }
}

/// Gives up the pipes and the folder of the server, so that its ends are the only ones.
pub(super) fn let_go() {
    // Neither fails on a system that could start a program.
    if let Ok(nothing) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&nothing);
        let _ = rustix::stdio::dup2_stdout(&nothing);
        let _ = rustix::stdio::dup2_stderr(&nothing);
    }
    let _ = rustix::process::chdir("/");
}
