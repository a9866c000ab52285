//! Starts and ends the child.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::Limits;
use crate::files::is_emulated;

/// How much less the child is worth to the scheduler than a call.
const NICE: i32 = 5;
/// Descriptors that somebody may have left open for us, where the kernel cannot close a range.
const DESCRIPTORS: i32 = 4096;

pub(super) fn start(program: &Path, arguments: &[&str], limits: &Limits) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().process_group(0).current_dir("/");
    // mimalloc would write to its memory in blocks of a GiB, all of which counts.
    command.env("MIMALLOC_ARENA_EAGER_COMMIT", "0").env("MIMALLOC_EAGER_COMMIT", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let gateway = rustix::process::getpid();
    let Limits { memory_bytes, processor, .. } = *limits;
    let emulated = is_emulated();
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The gateway may have died before the line above; then nobody would send the signal.
        if rustix::process::getppid() != Some(gateway) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let limit = |resource, soft: u64, hard: u64| {
            rustix::process::setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })
        };
        limit(Resource::Core, 0, 0)?;
        if !emulated {
            // It writes no files.
            limit(Resource::Fsize, 0, 0)?;
        }
        limit(Resource::Data, memory_bytes, memory_bytes)?;
        if let Some(processor) = processor {
            let seconds = processor.as_secs().max(1);
            limit(Resource::Cpu, seconds, seconds + 1)?;
        }
        // It may be nice already; then it stays so.
        let _ = rustix::process::setpriority_process(None, NICE);
        close_foreign();
        Ok(())
    };
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe code may run. The closure makes raw system calls; it takes no
    // lock, allocates nothing (`ErrorKind` into `io::Error` does not), and owns nothing but numbers.
    unsafe {
        command.pre_exec(before_exec);
    }
    on_spawn_thread(command)
}

/// Has exec close every descriptor that the gateway inherited: all but the three pipes. They may not be closed at once,
/// because one of them is the standard library's, to tell us that exec failed.
fn close_foreign() {
    #[expect(unsafe_code, reason = "rustix has no close_range")]
    // SAFETY: the call takes three numbers, closes nothing, and marks descriptors of this process, which is about to exec.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return;
    }
    for descriptor in 3..DESCRIPTORS {
        #[expect(unsafe_code, reason = "the descriptor's owner is unknown")]
        // SAFETY: it is only marked; one that is not open gives an error, which means that there is nothing to do.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    }
}

/// Kills the child with everything it started, and reaps it.
pub(super) fn end(child: &mut Child) -> Option<ExitStatus> {
    // Not yet reaped, so its id is nobody else's.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    let _ = child.kill();
    child.wait().ok()
}

pub(super) fn ran_out_of_processor(status: Option<ExitStatus>) -> bool {
    status.and_then(|status| status.signal()) == Some(Signal::XCPU.as_raw())
}

/// How it ended, and what it said.
pub(super) fn words(status: Option<ExitStatus>, said: &str) -> String {
    let how = match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => format!("exit code {code}"),
        Some((None, Some(signal))) => format!("signal {signal}"),
        _ => "nobody knows how".to_owned(),
    };
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Rust's own advice about backtraces says nothing.
    let said: Vec<&str> = said.into_iter().filter(|line| !line.starts_with("note: ")).collect();
    if said.is_empty() { how } else { format!("{how}; {}", said.join(" ")) }
}

type Job = (Command, SyncSender<io::Result<Child>>);

/// Forks on a thread that lives as long as the process: the kernel sends the parent-death signal when the *thread* that
/// forked ends, and the thread that asks for a worker may end any time.
fn on_spawn_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = sync_channel::<Job>(16);
        let run = move || {
            for (mut command, reply) in queue {
                // The receiver is gone only if the caller panicked; then the child is ended here.
                if let Err(std::sync::mpsc::SendError(Ok(mut child))) = reply.send(command.spawn()) {
                    end(&mut child);
                }
            }
        };
        std::thread::Builder::new().name("confined".to_owned()).spawn(run).ok().map(|_| jobs)
    });
    let unavailable = || io::Error::other("the thread that starts such processes is not available");
    let (reply, replied) = sync_channel(1);
    spawner.as_ref().ok_or_else(unavailable)?.send((command, reply)).map_err(|_| unavailable())?;
    replied.recv().map_err(|_| unavailable())?
}
