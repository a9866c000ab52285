//! The sockets for commands: a Unix socket for each gateway, those of one configuration in one folder.
//!
//! The folder has the mode 0700 and each socket 0600, so only the user who runs the gateways comes this far. A socket is
//! called after the process that listens on it. What a gateway left behind that was killed is swept by the next one, under a
//! lock, so that nobody takes a socket for dead that is just being made.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout};

use super::{Answer, MAX_ANSWER, Request};
use crate::files::{self, FileError, Links, Trust};

/// The ending of a socket's name.
const ENDING: &str = ".sock";
/// How long another gateway may take to make its own.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// How long connecting and writing a request may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The system takes no longer path for a socket (`sun_path`).
const MAX_PATH: usize = 100;

/// Why there is no socket, or no answer from one.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error(transparent)]
    Files(#[from] FileError),
    #[error("{}: {source}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("another gateway listens on {}", path.display())]
    Taken { path: PathBuf },
    #[error("another gateway holds {} for {} s", path.display(), PATIENCE.as_secs())]
    Locked { path: PathBuf },
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the answer cannot be read: {0}")]
    Garbled(String),
}

/// A socket that commands come through; it is gone when this is dropped.
#[derive(Debug)]
pub struct Socket {
    pub listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What cannot be removed is swept by the next gateway.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens in this folder, which is made if need be, under the number of this process.
///
/// # Errors
/// The folder is open to others, or no socket can be made in it.
pub async fn listen(folder: &Path, trust: &Trust) -> Result<Socket, SocketError> {
    let folder = trust.private_dir(folder, Links::Refused)?;
    let _lock = lock(&folder).await?;
    sweep(&folder).await;
    let path = folder.join(format!("{}{ENDING}", std::process::id()));
    if UnixStream::connect(short(&path)?.path()).await.is_ok() {
        // Two machines, or two containers, with one folder.
        return Err(SocketError::Taken { path });
    }
    let unusable = |source: io::Error| SocketError::Unusable { path: path.clone(), source };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    let listener = UnixListener::bind(short(&path)?.path()).map_err(unusable)?;
    let socket = Socket { listener, path: path.clone() };
    // Nobody else comes into the folder; the socket says so itself as well.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).map_err(unusable)?;
    Ok(socket)
}

/// Removes sockets on which nobody listens.
async fn sweep(folder: &Path) {
    for (_, path) in found(folder).unwrap_or_default() {
        let Ok(short) = short(&path) else { continue };
        let connected = UnixStream::connect(short.path()).await;
        if connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            // Another gateway may have been quicker.
            let _ = std::fs::remove_file(&path);
        }
    }
}

async fn lock(folder: &Path) -> Result<File, SocketError> {
    let path = folder.join("sockets.lock");
    let file = files::open_private(&path)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => tokio::time::sleep(PAUSE).await,
            Err(Errno::WOULDBLOCK) => return Err(SocketError::Locked { path }),
            Err(error) => return Err(SocketError::Unusable { path, source: error.into() }),
        }
    }
}

/// The sockets in a folder with the processes they are called after, in their order. Whether somebody listens shows when
/// one is asked.
///
/// # Errors
/// The folder cannot be read; one that is not there holds none.
pub fn found(folder: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let socket = |path: PathBuf| {
        let pid = path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok()?;
        Some((pid, path))
    };
    let mut found: Vec<_> = entries.flatten().filter_map(|entry| socket(entry.path())).collect();
    found.sort();
    Ok(found)
}

/// Sends a request and reads the answer. None if nobody listens there any more.
///
/// # Errors
/// Nobody may connect, or no answer comes within `patience`.
pub async fn ask(path: &Path, request: &Request, patience: Duration) -> Result<Option<Answer>, SocketError> {
    let unusable = |source: io::Error| SocketError::Unusable { path: path.to_owned(), source };
    let short = short(path)?;
    let connecting = timeout(CONNECT, UnixStream::connect(short.path()));
    let mut stream = match connecting.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error))
            if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
        {
            return Ok(None);
        }
        Ok(Err(error)) => return Err(unusable(error)),
        Err(_) => return Err(SocketError::Silent(CONNECT)),
    };
    let mut line = serde_json::to_vec(request).map_err(|error| SocketError::Garbled(error.to_string()))?;
    line.push(b'\n');
    // A gateway that refuses a request before it has read all of it still sends an answer.
    let written = timeout(CONNECT, stream.write_all(&line)).await;
    let mut answer = Vec::new();
    let limited = (&mut stream).take(MAX_ANSWER as u64 + 1);
    tokio::pin!(limited);
    match timeout(patience, limited.read_to_end(&mut answer)).await {
        Err(_) => return Err(SocketError::Silent(patience)),
        Ok(Err(error)) if answer.is_empty() => return Err(unusable(error)),
        Ok(_) => {}
    }
    if answer.len() > MAX_ANSWER {
        return Err(SocketError::Garbled(format!("it is over {MAX_ANSWER} bytes")));
    }
    if answer.is_empty() {
        return match written {
            Ok(Err(error)) => Err(unusable(error)),
            _ => Err(SocketError::Garbled("the gateway hung up".to_owned())),
        };
    }
    serde_json::from_slice(&answer).map(Some).map_err(|error| SocketError::Garbled(error.to_string()))
}

/// A path that the system takes for a socket: a long one goes by way of its open folder.
enum Short {
    AsItIs(PathBuf),
    Through { path: PathBuf, _folder: rustix::fd::OwnedFd },
}

impl Short {
    fn path(&self) -> &Path {
        match self {
            Self::AsItIs(path) | Self::Through { path, .. } => path,
        }
    }
}

fn short(path: &Path) -> Result<Short, SocketError> {
    if path.as_os_str().len() < MAX_PATH {
        return Ok(Short::AsItIs(path.to_owned()));
    }
    let unusable = |source: io::Error| SocketError::Unusable { path: path.to_owned(), source };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(unusable(Errno::INVAL.into()));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty()).map_err(|error| unusable(error.into()))?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(Short::Through { path, _folder: folder })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::{Command, VERSION};
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn status() -> Request {
        Request { version: VERSION, command: Command::Status, reason: String::new(), token: None }
    }

    /// A folder whose sockets' paths are longer than the system takes.
    fn deep(dir: &Path) -> PathBuf {
        dir.join("d".repeat(60)).join("e".repeat(60))
    }

    #[tokio::test]
    async fn a_socket_is_its_users_alone_found_by_its_process_and_gone_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        for folder in [dir.path().join("c"), deep(dir.path())] {
            let socket = listen(&folder, &Trust::default()).await.unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&folder), mode(socket.path())), (0o700, 0o600));
            assert_eq!(found(&folder).unwrap(), [(std::process::id(), socket.path().to_owned())]);
            let taken = listen(&folder, &Trust::default()).await.unwrap_err();
            assert!(matches!(taken, SocketError::Taken { .. }), "{taken}");
            let path = socket.path().to_owned();
            let asked = status();
            let asking = ask(&path, &asked, LONG);
            let answering = async {
                // The first two have looked whether somebody listens: to sweep, and to take the name.
                for _ in 0..2 {
                    drop(socket.listener.accept().await.unwrap());
                }
                let (mut stream, _) = socket.listener.accept().await.unwrap();
                let mut line = vec![0; serde_json::to_vec(&asked).unwrap().len() + 1];
                stream.read_exact(&mut line).await.unwrap();
                assert_eq!(serde_json::from_slice::<Request>(&line).unwrap(), asked);
                stream.write_all(br#"{"error":{"reason":"r","message":"m"}}"#).await.unwrap();
            };
            let (answer, ()) = tokio::join!(asking, answering);
            assert!(matches!(answer.unwrap(), Some(Answer::Error { .. })));
            drop(socket);
            assert_eq!(found(&folder).unwrap(), []);
            assert_eq!(ask(&path, &asked, LONG).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn what_nobody_listens_on_is_swept_and_the_rest_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("c");
        let socket = listen(&folder, &Trust::default()).await.unwrap();
        let alive = folder.join("1.sock");
        let other = UnixListener::bind(&alive).unwrap();
        drop(UnixListener::bind(folder.join("2.sock")).unwrap());
        std::fs::write(folder.join("orders.json"), "{}").unwrap();
        assert_eq!(ask(&folder.join("2.sock"), &status(), LONG).await.unwrap(), None);
        sweep(&folder).await;
        let left: Vec<u32> = found(&folder).unwrap().into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(left, [1, std::process::id()]);
        assert!(folder.join("orders.json").exists());
        drop((socket, other));
    }

    #[tokio::test]
    async fn a_folder_that_is_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("c");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let refused = listen(&folder, &Trust::default()).await.unwrap_err();
        assert!(matches!(refused, SocketError::Files(_)), "{refused}");
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_for_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let socket = listen(&dir.path().join("c"), &Trust::default()).await.unwrap();
        let silent = ask(socket.path(), &status(), Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(silent, SocketError::Silent(_)), "{silent}");
    }
}
