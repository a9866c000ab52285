//! Runs one command within its walls, passes on what it says, and ends all of it.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ring::digest::{Context, SHA256};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, WaitOptions, pidfd_open};

use super::resolve::Resolved;
use super::wire::{tell, timespec};
use super::{open, walls};
use crate::command::Word;
use crate::command::frames::{Ended, PIECE, Reply, Stream};
use crate::sandbox::{Cage, child};

/// How long what a command left behind is killed for.
const SWEEP: Duration = Duration::from_secs(3);

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStarted {
    #[error("{0}")]
    Walls(String),
    #[error("the program was not started: {0}")]
    Program(#[from] io::Error),
}

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    since: Instant,
}

/// Starts it. The program, its folder and its files are those that were opened; no name is looked up again.
pub(super) fn start(resolved: &Resolved<'_>) -> Result<Running, NotStarted> {
    let command = resolved.command;
    let cage =
        Cage::build(&walls::of_command(command), Some(&command.executable)).map_err(NotStarted::Walls)?;
    let mut files = resolved.files.iter();
    let mut process = std::process::Command::new(by_descriptor("/proc/self/fd", resolved.program.fd.as_fd()));
    process.arg0(&command.executable).env_clear();
    process.envs(command.env.iter().map(|(name, value)| (name, value)));
    for word in command.words(&resolved.filled) {
        match word {
            Word::Text(text) => process.arg(text),
            Word::File { before, after, .. } => {
                let file = files.next().ok_or_else(|| io::Error::other("a file was not opened"))?;
                process.arg(format!("{before}{}{after}", by_descriptor("/dev/fd", file.fd.as_fd())))
            }
        };
    }
    let stdin = match resolved.filled.stdin() {
        Some(text) => Stdio::from(open::text(text)?),
        None => Stdio::null(),
    };
    process.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let inherited: Vec<i32> = resolved.files.iter().map(|file| file.fd.as_raw_fd()).collect();
    let (cwd, limits, mut cage) = (resolved.cwd.as_raw_fd(), command.limits, Some(cage));
    let worker = rustix::process::getpid();
    let before_exec = move || {
        rustix::process::setsid()?;
        child::end_with(worker)?;
        rustix::process::fchdir(borrow(cwd))?;
        for file in &inherited {
            fcntl_setfd(borrow(*file), FdFlags::empty())?;
        }
        child::bound(Resource::Core, 0)?;
        child::bound(Resource::Cpu, limits.cpu_secs)?;
        child::bound(Resource::Fsize, limits.file_bytes)?;
        cage.take().map_or(Ok(()), Cage::enter)
    };
    #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
    // SAFETY: this process has one thread, so no lock can be held by another at the fork. The closure makes system calls, and
    // uses descriptors that this process keeps open until the child runs.
    unsafe {
        process.pre_exec(before_exec);
    }
    let child = process.spawn()?;
    Ok(Running { child, since: Instant::now() })
}

/// A descriptor's own path, under which the child finds it.
fn by_descriptor(folder: &str, fd: BorrowedFd<'_>) -> String {
    format!("{folder}/{}", fd.as_raw_fd())
}

fn borrow(fd: i32) -> BorrowedFd<'static> {
    #[expect(unsafe_code, reason = "the closure before exec can own numbers only")]
    // SAFETY: the worker keeps these descriptors open while the child is started, and the child has copies of them.
    unsafe {
        BorrowedFd::borrow_raw(fd)
    }
}

/// One of the two outputs.
struct Output {
    from: Option<OwnedFd>,
    stream: Stream,
    digest: Context,
    total: u64,
    /// How many more bytes are passed on.
    left: usize,
}

impl Output {
    fn new(from: Option<impl Into<OwnedFd>>, stream: Stream, left: usize) -> Self {
        Self { from: from.map(Into::into), stream, digest: Context::new(&SHA256), total: 0, left }
    }

    /// Reads what is there. True if something was.
    fn read(&mut self, client: BorrowedFd<'_>, heard: &mut bool) -> io::Result<bool> {
        let Some(from) = &self.from else { return Ok(false) };
        let mut buffer = [0_u8; PIECE];
        let read = match rustix::io::read(from, &mut buffer[..]) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if read == 0 {
            self.from = None;
            return Ok(false);
        }
        let bytes = &buffer[..read];
        self.digest.update(bytes);
        self.total += read as u64;
        let shown = &bytes[..read.min(self.left)];
        self.left -= shown.len();
        if !shown.is_empty() && *heard {
            *heard = tell(client, &Reply::Output { stream: self.stream, bytes: shown.to_vec() }).is_ok();
        }
        Ok(true)
    }

    fn finish(self) -> (u64, [u8; 32]) {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.digest.finish().as_ref());
        (self.total, digest)
    }
}

impl Running {
    /// Waits for its end, at most as long as it may take and as long as somebody listens. Whatever it started is dead then.
    pub(super) fn wait(mut self, resolved: &Resolved<'_>, client: BorrowedFd<'_>) -> io::Result<Ended> {
        let most = resolved.command.max_output;
        let mut outputs = [
            Output::new(self.child.stdout.take(), Stream::Stdout, most),
            Output::new(self.child.stderr.take(), Stream::Stderr, most),
        ];
        for output in outputs.iter().filter_map(|output| output.from.as_ref()) {
            rustix::io::ioctl_fionbio(output, true)?;
        }
        let deadline = self.since + resolved.command.timeout;
        let (mut heard, mut timed_out) = (true, false);
        let waited = self.until_end(&mut outputs, client, deadline, &mut heard, &mut timed_out);
        let status = self.end();
        // What stood in the pipes when it ended was said by it; whoever could say more is dead.
        for output in &mut outputs {
            while Instant::now() < deadline + SWEEP && output.read(client, &mut heard)? {}
        }
        waited?;
        let status = status?;
        let [stdout, stderr] = outputs.map(Output::finish);
        Ok(Ended {
            execution: String::new(),
            code: status.code().unwrap_or(-1),
            signal: status.signal().unwrap_or(0),
            timed_out,
            micros: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            totals: [stdout.0, stderr.0],
            digests: [stdout.1, stderr.1],
        })
    }

    fn until_end(
        &self,
        outputs: &mut [Output; 2],
        client: BorrowedFd<'_>,
        deadline: Instant,
        heard: &mut bool,
        timed_out: &mut bool,
    ) -> io::Result<()> {
        let pid = self.pid().ok_or_else(|| io::Error::other("the command has no process id"))?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                *timed_out = true;
                return Ok(());
            }
            if !*heard {
                return Ok(());
            }
            let timeout = timespec(left);
            let mut fds = vec![PollFd::new(&ended, PollFlags::IN), PollFd::new(&client, PollFlags::IN)];
            for output in outputs.iter() {
                if let Some(from) = &output.from {
                    fds.push(PollFd::new(from, PollFlags::IN));
                }
            }
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let (over, gone) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if over {
                return Ok(());
            }
            // Nothing is said to us any more; only that the client is gone.
            *heard &= !gone;
            for output in outputs.iter_mut() {
                output.read(client, heard)?;
            }
        }
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Kills it with all that it started, and reaps them.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // Not reaped yet, so its id is nobody else's.
        if let Some(pid) = self.pid() {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let status = self.child.wait();
        // What has left the group is a child of this process by now, because its parent is dead.
        let since = Instant::now();
        loop {
            let left = children()?;
            for child in &left {
                let _ = rustix::process::kill_process(*child, Signal::KILL);
            }
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            if left.is_empty() || since.elapsed() > SWEEP {
                return status;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// The children of this process, which has one thread.
pub(super) fn children() -> io::Result<Vec<Pid>> {
    let me = rustix::process::getpid().as_raw_nonzero();
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{me}/task/{me}/children"))?.read_to_string(&mut text)?;
    Ok(text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect())
}
