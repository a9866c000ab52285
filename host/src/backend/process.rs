//! Child care, shared by every backend that runs a program: a child gets a clean environment and a process group of
//! its own, is reaped the moment it dies, and never outlives the gateway nor leaves its own children behind.

pub(crate) mod stderr;

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fmt, io};

use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::stderr::Tail;
use crate::redact::Redaction;

/// Bytes that a pipe to a server takes before somebody has to wait: a large message is carried over in pieces of this
/// size. The kernel's own is 64 KiB, and memory is taken only as it is filled.
const PIPE_SIZE: usize = 256 << 10;
/// All that a child inherits of the gateway's environment. Everything else may be a secret of another backend.
const INHERITED: [&str; 8] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "TZ"];
/// How long the last words may take once the group is dead: a daemon that left the group may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long [`Care::stop`] waits after SIGKILL. Only a child stuck in the kernel takes longer; it is reaped later.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// The program to run.
#[derive(Clone)]
pub(crate) struct ChildSpec {
    /// The backend, for log lines.
    pub name: String,
    /// The program, looked up in `PATH` if it has no slash. Never given to a shell.
    pub command: String,
    /// Its arguments, each one argument.
    pub args: Vec<String>,
    /// Its environment, over the eight inherited variables.
    pub env: Vec<(String, String)>,
    /// Its working directory; the gateway's if absent.
    pub cwd: Option<PathBuf>,
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
    /// Ends the child; dropped, it kills the group.
    pub care: Care,
}

/// Owns the life of a child. Dropping it kills the process group.
#[derive(Debug)]
pub(crate) struct Care {
    watcher: Watcher,
}

/// Follows a child without owning it.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pid: u32,
    tail: Tail,
    orders: watch::Sender<Order>,
    exit: watch::Receiver<Option<Exit>>,
    gone: CancellationToken,
}

/// How a child ended. Its group has been killed and the child reaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// What the kernel said, unless it could not be asked.
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
enum Order {
    Run,
    /// Close stdin, wait half, SIGTERM, wait the other half, SIGKILL.
    Stop(Duration),
    Kill,
}

/// Starts a child. Needs a Tokio runtime; blocks for the few milliseconds of fork and exec.
///
/// # Errors
/// The program does not exist or may not be run, the working directory does not exist, or no process can be made.
pub(crate) fn spawn(spec: &ChildSpec) -> io::Result<Running> {
    let command = command(spec);
    let handle = Handle::current();
    let mut child = on_the_spawner(move || {
        let _context = handle.enter();
        let mut command = command;
        command.spawn()
    })?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
    let group = Group(Some(pid));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(io::Error::other("the child's pipes are missing"));
    };
    for pipe in [stdin.as_fd(), stdout.as_fd()] {
        // Where the system's allowance for a user is used up, it stays as small as it was.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_SIZE);
    }
    let tail = Tail::default();
    let drain = stderr::drain(spec.name.clone(), stderr, spec.redaction.clone(), tail.clone());
    let (orders, orders_seen) = watch::channel(Order::Run);
    let (exit_told, exit) = watch::channel(None);
    let (closing, gone) = (CancellationToken::new(), CancellationToken::new());
    let nurse = Nurse {
        death: Death::watch(pid),
        child,
        group,
        orders: orders_seen,
        closing: closing.clone(),
        gone: gone.clone(),
        stderr: tokio::spawn(drain),
    };
    tokio::spawn(nurse.tend(exit_told));
    let watcher = Watcher { pid: pid.as_raw_nonzero().get().unsigned_abs(), tail, orders, exit, gone };
    Ok(Running { stdin, stdout, closing, care: Care { watcher } })
}

impl Care {
    /// The child's process id, which is also its group's.
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

    /// Ends the child: its stdin is closed, after `grace / 2` its group gets SIGTERM, after `grace` SIGKILL. Returns
    /// once it is reaped, at the latest five seconds after SIGKILL.
    pub(crate) async fn stop(self, grace: Duration) {
        self.watcher.stop(grace);
        let mut watcher = self.watcher.clone();
        // Dropping `self` afterwards orders the kill again, which finds nobody.
        if timeout(grace.saturating_add(AFTER_KILL), watcher.exited()).await.is_err() {
            tracing::error!(pid = self.pid(), "a killed child has not gone yet");
        }
    }
}

impl Drop for Care {
    fn drop(&mut self) {
        self.watcher.order(Order::Kill);
    }
}

impl Watcher {
    /// Waits until the child is reaped and its group dead. Cancel safe.
    pub(crate) async fn exited(&mut self) -> Exit {
        let unknown = Exit { status: None, ordered: true, forced: true };
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(unknown),
            // The runtime is shutting down and dropped the nurse, whose group guard has killed the child.
            Err(_) => unknown,
        }
    }

    /// Cancelled as soon as the child is dead: nothing new will be written to its pipes.
    #[must_use]
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Begins an orderly stop, see [`Care::stop`]; false if somebody else had ordered one, or worse.
    pub(crate) fn stop(&self, grace: Duration) -> bool {
        self.order(Order::Stop(grace))
    }

    /// The last lines of stderr, short and on one line; empty if there are none.
    #[must_use]
    pub(crate) fn last_words(&self) -> String {
        self.tail.last_words()
    }

    /// Orders only ever get more severe.
    fn order(&self, order: Order) -> bool {
        self.orders.send_if_modified(|current| {
            let rank = |order: Order| match order {
                Order::Run => 0,
                Order::Stop(_) => 1,
                Order::Kill => 2,
            };
            let severer = rank(order) > rank(*current);
            if severer {
                *current = order;
            }
            severer
        })
    }
}

/// The one task that owns the child.
struct Nurse {
    death: Death,
    child: Child,
    group: Group,
    orders: watch::Receiver<Order>,
    closing: CancellationToken,
    gone: CancellationToken,
    stderr: JoinHandle<()>,
}

impl Nurse {
    async fn tend(mut self, told: watch::Sender<Option<Exit>>) {
        let (ordered, forced) = self.until_dead_or_killed().await;
        // While the dead leader is not reaped its id cannot be given to anybody else, so this hits only its group.
        self.group.signal(Signal::KILL);
        self.gone.cancel();
        let status = self.child.wait().await;
        self.group.0 = None;
        if timeout(LAST_WORDS, &mut self.stderr).await.is_err() {
            self.stderr.abort();
        }
        told.send_replace(Some(Exit { status: status.ok(), ordered, forced }));
    }

    /// Returns when the leader is dead, or must be killed: whether somebody ordered it, and whether by a signal.
    async fn until_dead_or_killed(&mut self) -> (bool, bool) {
        let Self { death, child, group, orders, closing, .. } = self;
        let grace = tokio::select! {
            biased;
            () = death.happened(child) => return (false, false),
            grace = stop_ordered(orders) => grace,
        };
        let Some(grace) = grace else { return (true, true) };
        let mut forced = false;
        let start = Instant::now();
        closing.cancel();
        for (deadline, signal) in [(start + grace / 2, Some(Signal::TERM)), (start + grace, None)] {
            tokio::select! {
                biased;
                () = death.happened(child) => return (true, forced),
                () = kill_ordered(orders) => return (true, true),
                () = sleep_until(deadline) => {}
            }
            if let Some(signal) = signal {
                group.signal(signal);
                forced = true;
            }
        }
        (true, true)
    }
}

/// The grace of a stop; `None` for a kill, and when nobody is left who could order one.
async fn stop_ordered(orders: &mut watch::Receiver<Order>) -> Option<Duration> {
    match orders.wait_for(|order| *order != Order::Run).await.as_deref() {
        Ok(Order::Stop(grace)) => Some(*grace),
        Ok(Order::Kill | Order::Run) | Err(_) => None,
    }
}

async fn kill_ordered(orders: &mut watch::Receiver<Order>) {
    // An error means that nobody is left: the same as a kill.
    let _ = orders.wait_for(|order| *order == Order::Kill).await;
}

/// Sees the leader die without reaping it.
struct Death(Option<AsyncFd<OwnedFd>>);

impl Death {
    fn watch(pid: Pid) -> Self {
        let Ok(descriptor) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Self(None) };
        #[expect(unsafe_code, reason = "Tokio has no safe way to await a descriptor of its owner's choice")]
        // SAFETY: the descriptor must stay open and the same while it is registered. It was just opened, and the
        // `AsyncFd` takes the `OwnedFd` itself, which nobody else can close or replace before it is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Self(registered.ok())
    }

    async fn happened(&self, child: &mut Child) {
        if let Some(descriptor) = &self.0
            && descriptor.readable().await.is_ok()
        {
            return;
        }
        // A kernel without pidfds: the leader is reaped before the group is killed. In between its id could be reused
        // only by a new process group, and only after the kernel has gone through all other ids.
        let _ = child.wait().await;
    }
}

/// Kills the process group when dropped, also when the runtime drops the nurse.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // The only error is that nobody is left.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn command(spec: &ChildSpec) -> Command {
    let mut command = std::process::Command::new(&spec.command);
    let inherited =
        INHERITED.iter().filter_map(|name| std::env::var_os(name).map(|value| (OsString::from(name), value)));
    command
        .args(&spec.args)
        .env_clear()
        .envs(inherited)
        .envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    let gateway = rustix::process::getpid();
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The gateway may have died before the line above; then nobody would send the signal.
        if rustix::process::getppid() != Some(gateway) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // A core dump would write the child's secrets to a disk.
        rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        Ok(())
    };
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe code may run. The closure makes three raw system calls; it
    // takes no lock, allocates nothing (`ErrorKind` into `io::Error` does not), and owns nothing but an integer.
    unsafe {
        command.pre_exec(before_exec);
    }
    let mut command = Command::from(command);
    // The last line of defence, should the nurse be dropped: the group guard kills, this lets Tokio reap.
    command.kill_on_drop(true);
    command
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs a job on the one thread that forks. The kernel sends the parent-death signal when the *thread* that forked
/// ends, not the process; a worker or blocking thread of the runtime may end any time and would take its children
/// along. This thread lives as long as the process.
fn on_the_spawner<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    static SPAWNER: OnceLock<Option<std::sync::mpsc::SyncSender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = std::sync::mpsc::sync_channel::<Job>(64);
        let run = move || {
            for job in queue {
                // A panic must not end the thread, and every child with it. The caller sees its reply missing.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            }
        };
        std::thread::Builder::new().name("spawner".to_owned()).spawn(run).ok().map(|_| jobs)
    });
    let unavailable = || io::Error::other("the thread that starts children is not available");
    let (reply, replied) = std::sync::mpsc::sync_channel(1);
    let job = Box::new(move || {
        // Nobody waits only if the caller panicked; then dropping the child kills it.
        let _ = reply.send(job());
    });
    spawner.as_ref().ok_or_else(unavailable)?.send(job).map_err(|_| unavailable())?;
    replied.recv().map_err(|_| unavailable())?
}
