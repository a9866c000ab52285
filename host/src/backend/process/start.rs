//! Starts keepers, from the one thread that forks them.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use super::keeper;
use super::kin::{self, Kept};
use super::spawner::on_spawn_thread;
use crate::files::{this_program, umask_of_children};

/// A keeper that waits to be told what to start. Its pipes will be the child's.
pub(super) struct Keeper {
    pub(super) process: Child,
    pub(super) line: UnixStream,
    pub(super) kept: Kept,
}

pub(super) async fn keeper(name: &str) -> io::Result<Keeper> {
    if !keeper::is_possible() {
        return Err(io::Error::other("this program has no keeper: its `main` must ask for one first"));
    }
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let line = UnixStream::from_std(ours)?;
    let (command, handle) = (command(name, theirs.into()), Handle::current());
    let (process, kept) = on_spawn_thread(move || {
        let _context = handle.enter();
        let mut command = command;
        let process = command.spawn()?;
        let pid = process.id().ok_or_else(|| io::Error::other("the keeper has no process id"))?;
        Ok((process, kin::keep(pid)))
    })
    .await?;
    Ok(Keeper { process, line, kept })
}

fn command(name: &str, line: OwnedFd) -> Command {
    let mut command = std::process::Command::new(this_program());
    // The command of the child comes over the line, because other processes can read a process's arguments and
    // environment.
    command.arg0("sentinel-gateway").args([keeper::COMMAND, &line.as_raw_fd().to_string(), name]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Files of servers are the servers' own concern, so they get the umask that the gateway was started with.
    let umask = umask_of_children();
    let before_exec = move || {
        if let Some(umask) = umask {
            rustix::process::umask(umask);
        }
        // A session of its own: no terminal to read from or write to, and a mark by which all below it are known.
        rustix::process::setsid()?;
        // The one descriptor that is passed on, besides the three pipes.
        rustix::io::fcntl_setfd(&line, rustix::io::FdFlags::empty())?;
        Ok(())
    };
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe code may run. The closure makes three raw system calls; it takes
    // no lock, allocates nothing, and owns nothing but a descriptor.
    unsafe {
        command.pre_exec(before_exec);
    }
    // Not killed when it is dropped: it ends by itself when its line does, and only then has it done its work.
    Command::from(command)
}
