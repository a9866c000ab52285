//! A keeper: this program, started by a gateway with a hidden command, that starts one server and looks after it and all
//! that descends from it. No runtime, no configuration, no environment; two threads that sleep.
//!
//! One thread waits for children, which are the server and whatever lost its parent below it, and reaps them. The other
//! hears the gateway. When the server has ended, what is left is ended too, and then the keeper says how it went.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

use super::family;
use super::frames::{self, Command, Report};

mod launch;
mod signals;
mod slim;

/// The hidden command: `keep LINE NAME`.
pub(super) const COMMAND: &str = "keep";
/// How long the processes that a server left may take to end by themselves after SIGTERM …
const REST_GRACE: Duration = Duration::from_millis(250);
/// … and the server so long, when the gateway is gone. Its stdin is closed then, too.
const ORPHAN_GRACE: Duration = Duration::from_millis(500);
/// How long killing goes on. Only a process stuck in the kernel, or one that changed its user, takes longer; it is
/// left.
const KILLING: Duration = Duration::from_secs(5);
/// Between two looks at who is left.
const PAUSE: Duration = Duration::from_millis(2);

/// True once this program's `main` has asked [`serve_if_asked`]: only then does starting it again make a keeper.
static POSSIBLE: AtomicBool = AtomicBool::new(false);

pub(super) fn is_possible() -> bool {
    POSSIBLE.load(Ordering::Relaxed)
}

/// Serves as a keeper, if this process was started to be one, and returns its exit code. `main` asks first of all.
pub fn serve_if_asked() -> Option<u8> {
    POSSIBLE.store(true, Ordering::Relaxed);
    let mut args = std::env::args_os().skip(1);
    args.next().filter(|arg| arg == COMMAND)?;
    let line = args.next()?.to_str()?.parse().ok()?;
    Some(keep(line).unwrap_or(1))
}

fn keep(line: RawFd) -> io::Result<u8> {
    // SIGTERM for all of this name is meant for the gateway, which then tells its keepers.
    let mask = signals::block()?;
    rustix::thread::set_name(c"sentinel-keeper")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let line = UnixStream::from(claim(line)?);
    launch::seal()?;
    let Command::Start(start) = frames::read(&line)? else { return Err(io::ErrorKind::InvalidData.into()) };
    let server = match launch::server(&start, mask) {
        Ok(server) => server,
        Err(refused) => {
            frames::write(&line, &refused)?;
            return Ok(1);
        }
    };
    drop(start);
    let pid = server.as_raw_nonzero().get().unsigned_abs();
    // If the gateway is gone already, the other thread will find that out.
    let _ = frames::write(&line, &Report::Started { pid });
    launch::let_go();
    slim::forget_the_start();
    let ward = Arc::new(Ward { server, status: Mutex::default(), died: Condvar::new() });
    let (ears, theirs) = (line.try_clone()?, ward.clone());
    std::thread::Builder::new().name("ears".to_owned()).spawn(move || theirs.obey(&ears))?;
    let status = ward.wait();
    ward.end_the_rest();
    let _ = frames::write(&line, &Report::Ended { status: status.as_raw() });
    // For people who look with other tools; the gateway goes by the report.
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The descriptor that the gateway named.
fn claim(line: RawFd) -> io::Result<OwnedFd> {
    if line <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    #[expect(unsafe_code, reason = "a descriptor that came with exec has no owner yet")]
    // SAFETY: it is only asked for its flags here, which fails if it is not open.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(line) })?;
    #[expect(unsafe_code, reason = "a descriptor that came with exec has no owner yet")]
    // SAFETY: it is open, and nothing else in this process, which has just begun, knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(line) })
}

/// The server, and all that descends from it.
struct Ward {
    server: Pid,
    /// How the server ended. It is reaped only under this lock, so while the lock is held and this is empty the process
    /// id is still the server's.
    status: Mutex<Option<WaitStatus>>,
    died: Condvar,
}

impl Ward {
    /// Reaps until the server is among them.
    fn wait(&self) -> WaitStatus {
        loop {
            // Any child, and it is not reaped yet.
            match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) | Err(Errno::INTR) => {}
                // There is none, which cannot be while the server is not reaped.
                Err(_) => std::thread::sleep(PAUSE),
            }
            if let Some(status) = self.reap() {
                return status;
            }
        }
    }

    /// Reaps all that have ended. The group of the server dies with its leader.
    fn reap(&self) -> Option<WaitStatus> {
        let mut status = self.status.lock();
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if status.is_none() && matches!(rustix::process::waitid(WaitId::Pid(self.server), peek), Ok(Some(_)))
        {
            // While the dead leader is not reaped its id cannot be given to anybody else, so this hits only its group.
            let _ = rustix::process::kill_process_group(self.server, Signal::KILL);
        }
        while let Ok(Some((pid, ended))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.server {
                *status = Some(ended);
                self.died.notify_all();
            }
        }
        *status
    }

    /// Signals the server and its group, if it lives.
    fn signal(&self, signal: Signal) {
        let status = self.status.lock();
        if status.is_none() {
            // The only error is that nobody is left. A server may have left the group it was given.
            let _ = rustix::process::kill_process_group(self.server, signal);
            let _ = rustix::process::kill_process(self.server, signal);
        }
    }

    /// Does what the gateway says, until it is gone.
    fn obey(&self, line: &UnixStream) {
        loop {
            match frames::read(line) {
                Ok(Command::Terminate) => self.signal(Signal::TERM),
                Ok(Command::Kill) => return self.signal(Signal::KILL),
                Ok(Command::Start(_)) | Err(_) => break,
            }
        }
        signal_all(Signal::TERM);
        let mut status = self.status.lock();
        let until = Instant::now() + ORPHAN_GRACE;
        while status.is_none() && !self.died.wait_until(&mut status, until).timed_out() {}
        drop(status);
        self.signal(Signal::KILL);
    }

    /// The server is reaped: ends everything that it left.
    fn end_the_rest(&self) {
        if nobody_after(Duration::ZERO) {
            return;
        }
        signal_all(Signal::TERM);
        if nobody_after(REST_GRACE) {
            return;
        }
        let until = Instant::now() + KILLING;
        while Instant::now() < until {
            // A process that loses its parent here becomes our child at once, so the next round finds it.
            for child in family::children(rustix::process::getpid()) {
                let _ = rustix::process::kill_process(child, Signal::KILL);
            }
            signal_all(Signal::KILL);
            if nobody_after(PAUSE) {
                return;
            }
        }
    }
}

/// Signals everything below this process. An id is looked up and used within microseconds; for it to be another's by
/// then, the kernel must have gone through all other ids.
fn signal_all(signal: Signal) {
    for process in family::descendants(rustix::process::getpid()) {
        let _ = rustix::process::kill_process(process, signal);
    }
}

/// Reaps for so long, or until there is no descendant any more: each has an ancestor that is our child.
fn nobody_after(patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => continue,
            Err(_) => return true,
            Ok(None) => {}
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}
