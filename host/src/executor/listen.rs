//! Starts an executor, and accepts its connections.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags};
use rustix::process::{Gid, Pid, Uid, WaitOptions};

use super::nonces::Nonces;
use super::record::Record;
use super::resolve::refuse;
use super::service::Service;
use super::settings::Settings;
use super::wire::{tell, timespec};
use super::{hex, launchers, now, open, run, walls, worker};
use crate::command::socket;
use crate::files::{Links, Trust, users};
use crate::sandbox::{Cage, child};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 64;
/// How often what is over is tidied up.
const TIDY: Duration = Duration::from_secs(60);
/// How often workers that have ended are looked for.
const REAP: Duration = Duration::from_millis(500);

/// Why an executor does not start. It never starts with less than it promises.
#[derive(Debug, thiserror::Error)]
#[error("the executor does not start: {0}")]
pub struct ExecutorError(String);

/// An executor that listens, behind its walls.
#[derive(Debug)]
pub struct Executor {
    service: Service,
    socket: OwnedFd,
    client: Uid,
}

fn failed(what: impl std::fmt::Display) -> ExecutorError {
    ExecutorError(what.to_string())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ExecutorError + '_ {
    move |error| failed(format_args!("{}: {error}", path.display()))
}

impl Executor {
    /// Opens everything, becomes the user it is to be, and goes behind its walls. After this it has no network.
    ///
    /// # Errors
    /// Anything is not as it has to be.
    pub fn open(settings: Settings) -> Result<Self, ExecutorError> {
        // A worker is forked from this process, and goes on with what the one thread knows.
        let threads = std::fs::read_dir("/proc/self/task").map_err(at(Path::new("/proc/self/task")))?.count();
        if threads != 1 {
            return Err(failed("it has several threads; this is a bug"));
        }
        run::children().map_err(|error| {
            failed(format_args!(
                "this kernel does not list the children of a process (CONFIG_PROC_CHILDREN): {error}"
            ))
        })?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(failed)?;
        let missing = walls::missing(&settings);
        if !missing.is_empty() {
            return Err(failed(missing.join("\n  ")));
        }
        let cleared = looked_at(&settings)?;
        let me = rustix::process::geteuid();
        let user = settings.user.as_deref().map(user).transpose()?;
        match user {
            None if me.is_root() => {
                return Err(failed(
                    "root runs it, so its commands would run as root: name a user (user = \"exec\")",
                ));
            }
            Some((uid, _)) if uid != me && !me.is_root() => {
                return Err(failed(
                    "only root can make it another user; start it as that user and leave out `user`",
                ));
            }
            _ => {}
        }
        let client = settings.client.as_deref().map(self::user).transpose()?.map_or(me, |(uid, _)| uid);
        make_dir(&settings.dir, user)?;
        let socket = listen(&settings.socket, client)?;
        if let Some((uid, gid)) = user.filter(|(uid, _)| *uid != me) {
            rustix::thread::set_thread_groups(&[gid]).map_err(failed)?;
            rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)?;
        }
        let dir = Trust::default().private_dir(&settings.dir, Links::Refused).map_err(failed)?;
        let record = Record::open(&dir).map_err(at(&dir))?;
        let nonces = Nonces::open(&dir).map_err(at(&dir))?;
        // From here on it has no door but those of its commands, and no sockets but the one it has.
        Cage::build(&walls::of_executor(&settings), None).map_err(failed)?.enter().map_err(|error| {
            failed(format_args!(
                "this system cannot hold its walls (Landlock of Linux 6.12, seccomp): {error}"
            ))
        })?;
        nonces.tidy(now()).map_err(at(&dir))?;
        Ok(Self { service: Service { settings, record, nonces, cleared }, socket, client })
    }

    /// Accepts connections until the process is ended.
    ///
    /// # Errors
    /// The socket is lost.
    pub fn serve(&self) -> Result<(), ExecutorError> {
        let mut workers: Vec<Pid> = Vec::new();
        let mut tidied = Instant::now();
        loop {
            while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
                workers.retain(|worker| *worker != pid);
            }
            if tidied.elapsed() > TIDY {
                tidied = Instant::now();
                if let Err(error) = self.service.nonces.tidy(now()) {
                    tracing::warn!("used tokens cannot be tidied up: {error}");
                }
            }
            let timeout = timespec(REAP);
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(failed(error)),
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let connection = match rustix::net::accept_with(&self.socket, flags) {
                Ok(connection) => connection,
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => {
                    tracing::error!("a connection was not accepted: {error}");
                    std::thread::sleep(REAP);
                    continue;
                }
            };
            if let Some(worker) = self.answer(&connection, workers.len()) {
                workers.push(worker);
            }
        }
    }

    /// Has a worker answer, unless the other side may not ask.
    fn answer(&self, connection: &OwnedFd, working: usize) -> Option<Pid> {
        let refused = |reason: &str, message: &str| {
            let _ = tell(connection, &refuse(reason, "", message));
        };
        match rustix::net::sockopt::socket_peercred(connection) {
            Ok(peer) if peer.uid == self.client => {}
            Ok(peer) => {
                tracing::warn!(uid = peer.uid.as_raw(), "another user than the gateway's was refused");
                refused("not_the_gateway", "this executor serves another user");
                return None;
            }
            Err(error) => {
                tracing::warn!("who connected cannot be told: {error}");
                refused("not_the_gateway", "who you are cannot be told");
                return None;
            }
        }
        if working >= self.service.settings.max_calls {
            refused("busy", "the executor works on as many calls as it may");
            return None;
        }
        let executor = rustix::process::getpid();
        #[expect(unsafe_code, reason = "rustix and the standard library have no fork")]
        // SAFETY: this process has one thread, as was made sure, so the child finds no lock held and no state half changed.
        let forked = unsafe { libc::fork() };
        match forked {
            0 => {
                let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
                if child::end_with(executor).is_ok() {
                    worker::serve(&self.service, connection, working + 1);
                }
                #[expect(
                    unsafe_code,
                    reason = "what the executor would do at its end is not the worker's to do"
                )]
                // SAFETY: it takes a number and does not return; what the worker wrote is on the disk.
                unsafe {
                    libc::_exit(0)
                }
            }
            pid if pid > 0 => Pid::from_raw(pid),
            _ => {
                tracing::error!("no worker can be started: {}", io::Error::last_os_error());
                refused("busy", "the executor cannot start another process");
                None
            }
        }
    }

    /// Where it listens, for people.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.service.settings.socket
    }
}

/// The digests of the programs that are not pinned; none of them is a launcher.
fn looked_at(settings: &Settings) -> Result<Vec<[u8; 32]>, ExecutorError> {
    let (mut cleared, mut wrong) = (Vec::new(), Vec::new());
    for command in &settings.commands {
        let judged = open::program(&command.executable, false).and_then(|program| match command.sha256 {
            Some(pin) if pin == program.sha256 => Ok(None),
            Some(_) => {
                Err(format!("{}: its SHA-256 is {}", command.executable.display(), hex(&program.sha256)))
            }
            None => launchers::refuse(&program, &command.executable).map(|()| Some(program.sha256)),
        });
        match judged {
            Ok(digest) => cleared.extend(digest),
            Err(why) => wrong.push(format!("command {:?}: {why}", command.name)),
        }
    }
    if wrong.is_empty() { Ok(cleared) } else { Err(failed(wrong.join("\n  "))) }
}

/// Listens with a socket that only this user can connect to.
fn listen(path: &Path, client: Uid) -> Result<OwnedFd, ExecutorError> {
    let folder = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let findings = Trust::default().inspect(&folder).map_err(failed)?;
    if let Some(finding) = findings.first() {
        return Err(failed(finding));
    }
    let address = SocketAddrUnix::new(path).map_err(|error| at(path)(error.into()))?;
    if let Ok(meta) = path.symlink_metadata() {
        if meta.mode() & 0o170_000 != 0o140_000 {
            return Err(failed(format_args!(
                "{}: there is something else in the place of the socket",
                path.display()
            )));
        }
        let probe = socket::new().map_err(failed)?;
        match rustix::net::connect(&probe, &address) {
            Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(at(path))?,
            _ => return Err(failed(format_args!("another executor listens on {}", path.display()))),
        }
    }
    let socket = socket::new().map_err(failed)?;
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(mask);
    bound.map_err(|error| at(path)(error.into()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(at(path))?;
    if client != rustix::process::geteuid() {
        chown(path, Some(client.as_raw()), None).map_err(at(path))?;
    }
    rustix::net::listen(&socket, BACKLOG).map_err(|error| at(path)(error.into()))?;
    Ok(socket)
}

/// Makes the folder of the record, for the user that the executor will be.
fn make_dir(path: &Path, user: Option<(Uid, Gid)>) -> Result<(), ExecutorError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at(path)(error)),
        Ok(()) => match user {
            Some((uid, gid)) => chown(path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(at(path)),
            None => Ok(()),
        },
    }
}

/// A user by name or number, with their group.
fn user(name: &str) -> Result<(Uid, Gid), ExecutorError> {
    let named = |user: &users::User| user.name == name || name.parse() == Ok(user.uid);
    let found = users::find(named).map_err(at(Path::new(users::TABLE)))?;
    let found = found.ok_or_else(|| failed(format_args!("there is no user {name:?}")))?;
    Ok((Uid::from_raw(found.uid), Gid::from_raw(found.gid)))
}
