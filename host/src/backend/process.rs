//! Child processes, for every backend that runs a program: a child gets a clean environment and a process group of
//! its own, is reaped the moment it dies, and never outlives the gateway. Nor does anything that it started.
//!
//! Between the gateway and each child stands a keeper: this program once more, under a hidden command (`keeper`). It
//! starts the child, adopts whatever loses its parent below it, passes on how the child ended, and ends all that is
//! left: when the child ends, when it is told to, and when the gateway is gone, however that came about. The child
//! reads and writes the gateway's own pipes; no byte goes through the keeper.

mod family;
mod frames;
pub(super) mod keeper;
pub(super) mod kin;
mod reaper;
mod sandbox;
mod spawner;
mod start;
pub(crate) mod stderr;

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use std::{fmt, io};

use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::frames::{Command, Report, Start};
use self::reaper::Reaper;
use self::stderr::Tail;
use crate::config::{Sandbox, is_inherited};
use crate::redact::Redaction;

/// The size of a pipe to a server: a large message is carried over in pieces of this size. The kernel's default is 64
/// KiB, and memory is used only as far as the pipe is filled.
const PIPE_SIZE: usize = 256 << 10;
/// How long [`ChildHandle::stop`] waits after SIGKILL. Only a child stuck in the kernel takes longer; it is reaped later.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// How long a keeper may take to say that the child runs. It takes milliseconds, unless the program is on a disk that
/// does not answer.
const START: Duration = Duration::from_secs(30);

/// The program to run.
#[derive(Clone)]
pub(crate) struct ChildSpec {
    /// The backend, for log lines.
    pub name: String,
    /// The program, looked up in `PATH` if it has no slash. Never given to a shell.
    pub command: String,
    /// Its arguments, each one argument.
    pub args: Vec<String>,
    /// Its environment, over what every child inherits.
    pub env: Vec<(String, String)>,
    /// Its working directory; the gateway's if absent.
    pub cwd: Option<PathBuf>,
    /// What it may reach; everything that the gateway's user may, if absent.
    pub sandbox: Option<Sandbox>,
    /// What takes secrets out of its stderr and out of log lines.
    pub redaction: Redaction,
}

// The environment and the secrets are not for logs; arguments may hold secrets too.
impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        let mut out = f.debug_struct("ChildSpec");
        out.field("name", &self.name).field("command", &self.command).field("args", &self.args.len());
        out.field("env", &names).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

/// A started child.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its standard input. Its owner closes it when [`closing`](Self::closing) is cancelled.
    pub stdin: ChildStdin,
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Cancelled when an orderly stop begins: write what is queued, then close stdin.
    pub closing: CancellationToken,
    /// Ends the child; dropped, it kills the child and all it started.
    pub handle: ChildHandle,
}

/// Owns the life of a child. Dropping it kills the child and all it started.
#[derive(Debug)]
pub(crate) struct ChildHandle {
    watcher: Watcher,
}

/// Follows a child without owning it.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pid: u32,
    tail: Tail,
    orders: watch::Sender<StopRequest>,
    exit: watch::Receiver<Option<Exit>>,
    gone: CancellationToken,
}

/// How a child ended. It has been reaped, and all it had started is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// What the kernel said; nothing if the keeper could not pass it on.
    pub status: Option<ExitStatus>,
    /// Somebody asked for it.
    pub ordered: bool,
    /// It took a signal from here: closing stdin was not enough, or not tried.
    pub forced: bool,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status.and_then(|status| status.code()), self.status.and_then(|status| status.signal())) {
            (Some(code), _) => write!(f, "exited with code {code}"),
            (None, Some(signal)) => write!(f, "was killed by signal {signal}"),
            (None, None) => f.write_str("ended in an unknown way"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopRequest {
    None,
    /// Close stdin, wait half, SIGTERM, wait the other half, SIGKILL.
    InOrder(Duration),
    Kill,
}

/// Starts a child. Needs a Tokio runtime.
///
/// # Errors
/// The program does not exist or may not be run, the working directory does not exist, the sandbox cannot be made, or
/// no process can.
pub(crate) async fn spawn(spec: &ChildSpec) -> io::Result<Running> {
    // Everything else may be a secret of another backend.
    let inherited = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_inherited));
    let own = spec.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let start = Start {
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: inherited.chain(own).collect(),
        cwd: spec.cwd.clone(),
        sandbox: spec.sandbox.clone(),
    };
    let (name, redaction) = (spec.name.clone(), spec.redaction.clone());
    // A task of its own: the caller may stop waiting at any moment, and what has been started must be ended then. If
    // nobody takes the result any more it is dropped, and dropping a `ChildHandle` ends its child.
    tokio::spawn(begin(name, start, redaction)).await.map_err(io::Error::other)?
}

async fn begin(name: String, start: Start, redaction: Redaction) -> io::Result<Running> {
    let start::Keeper { mut process, line, kept } = start::keeper(&name).await?;
    let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    let (mut reports, mut commands) = line.into_split();
    let asked = async {
        frames::send(&mut commands, &Command::Start(Box::new(start))).await?;
        frames::receive(&mut reports).await
    };
    let pid = match timeout(START, asked).await {
        Ok(Ok(Report::Started { pid })) => Ok(pid),
        Ok(Ok(Report::Refused { errno: Some(errno), .. })) => Err(io::Error::from_raw_os_error(errno)),
        Ok(Ok(Report::Refused { message, .. })) => Err(io::Error::other(message)),
        Ok(Ok(Report::Ended { .. })) => Err(io::Error::other("its keeper process spoke out of turn")),
        Ok(Err(error)) => Err(io::Error::other(format!("its keeper process ended: {error}"))),
        Err(_) => Err(io::Error::other(format!("it had not been started after {} s", START.as_secs()))),
    };
    let (pid, stdin, stdout, stderr) = match (pid, stdin, stdout, stderr) {
        (Ok(pid), Some(stdin), Some(stdout), Some(stderr)) => (pid, stdin, stdout, stderr),
        (pid, ..) => {
            // It ends by itself, because the other end of its connection is closed.
            drop((reports, commands));
            reaper::see_off(&mut process).await;
            drop(kept);
            return Err(pid.err().unwrap_or_else(|| io::Error::other("the child's pipes are missing")));
        }
    };
    for pipe in [stdin.as_fd(), stdout.as_fd()] {
        // Where the system's allowance for a user is used up, it stays as small as it was.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_SIZE);
    }
    let tail = Tail::default();
    let drain = stderr::drain(name.clone(), stderr, redaction, tail.clone());
    let (orders, orders_seen) = watch::channel(StopRequest::None);
    let (exit_told, exit) = watch::channel(None);
    let (closing, gone) = (CancellationToken::new(), CancellationToken::new());
    let reaper = Reaper {
        name,
        keeper: process,
        kept,
        reports,
        commands,
        orders: orders_seen,
        closing: closing.clone(),
        gone: gone.clone(),
        stderr: tokio::spawn(drain),
    };
    tokio::spawn(reaper.run(exit_told));
    let watcher = Watcher { pid, tail, orders, exit, gone };
    Ok(Running { stdin, stdout, closing, handle: ChildHandle { watcher } })
}

impl ChildHandle {
    /// The child's process id, which is also its group's; not that of its keeper.
    #[must_use]
    pub(crate) fn pid(&self) -> u32 {
        self.watcher.pid
    }

    /// The last 64 KiB of its stderr, secrets replaced.
    #[must_use]
    pub(crate) fn stderr_tail(&self) -> String {
        self.watcher.tail.text()
    }

    /// Follows the child without owning it.
    #[must_use]
    pub(crate) fn watcher(&self) -> Watcher {
        self.watcher.clone()
    }

    /// Ends the child: its stdin is closed, after `grace / 2` its group gets SIGTERM, after `grace` SIGKILL. What it
    /// started ends with it. Returns once it is reaped, at the latest five seconds after SIGKILL.
    pub(crate) async fn stop(self, grace: Duration) {
        self.watcher.stop(grace);
        let mut watcher = self.watcher.clone();
        // Dropping `self` afterwards orders the kill again, which then finds no process.
        if timeout(grace.saturating_add(AFTER_KILL), watcher.exited()).await.is_err() {
            tracing::error!(pid = self.pid(), "the child still runs five seconds after SIGKILL");
        }
    }
}

impl Drop for ChildHandle {
    fn drop(&mut self) {
        self.watcher.order(StopRequest::Kill);
    }
}

impl Watcher {
    /// Waits until the child is reaped and all it started is dead. Cancel safe.
    pub(crate) async fn exited(&mut self) -> Exit {
        let unknown = Exit { status: None, ordered: true, forced: true };
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(unknown),
            // The runtime is shutting down and dropped the reaper; the keeper sees its line closed and ends the child.
            Err(_) => unknown,
        }
    }

    /// Cancelled as soon as the child is dead: nothing new will be written to its pipes.
    #[must_use]
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Begins an orderly stop, see [`ChildHandle::stop`]; false if somebody else had ordered one, or worse.
    pub(crate) fn stop(&self, grace: Duration) -> bool {
        self.order(StopRequest::InOrder(grace))
    }

    /// The last lines of stderr, short and on one line; empty if there are none.
    #[must_use]
    pub(crate) fn last_words(&self) -> String {
        self.tail.last_words()
    }

    /// Orders only ever get more severe.
    fn order(&self, order: StopRequest) -> bool {
        self.orders.send_if_modified(|current| {
            let rank = |order: StopRequest| match order {
                StopRequest::None => 0,
                StopRequest::InOrder(_) => 1,
                StopRequest::Kill => 2,
            };
            let severer = rank(order) > rank(*current);
            if severer {
                *current = order;
            }
            severer
        })
    }
}

/// The test program is its own keeper, as the gateway is: before the tests' `main`, which is not ours, it looks whether
/// it was started to be one. So the tests of servers go the way that production goes.
#[cfg(test)]
mod harness {
    #[allow(clippy::exit, reason = "there is no main to return from")]
    extern "C" fn keep() {
        if let Some(code) = super::keeper::serve_if_asked() {
            std::process::exit(i32::from(code));
        }
    }

    #[used]
    #[expect(unsafe_code, reason = "the only place that comes before a main that is not ours")]
    // SAFETY: the section holds pointers to functions that take no argument they need and return nothing, as this one is.
    // The standard library keeps its arguments in the same way, and earlier.
    #[unsafe(link_section = ".init_array")]
    static KEEP: extern "C" fn() = keep;
}
