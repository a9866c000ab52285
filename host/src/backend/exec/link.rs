//! One connection to an executor, without holding a thread.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, connect};
use tokio::io::unix::AsyncFd;

use crate::command::frames::{FRAME, Malformed, Reply};
use crate::command::socket;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// Nobody listens.
    #[error("nobody listens on its socket: {0}")]
    Away(io::Error),
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(io::Error),
    /// What came is no message of the protocol.
    #[error("it does not speak the protocol of executors")]
    Malformed(Malformed),
}

/// A connection on which a question was asked.
#[derive(Debug)]
pub(super) struct Link(AsyncFd<OwnedFd>);

impl Link {
    /// Connects and asks.
    pub(super) async fn ask(path: &Path, question: &[u8]) -> Result<Self, LinkError> {
        let link = Self(open(path).map_err(LinkError::Away)?);
        loop {
            let mut ready = link.0.writable().await.map_err(LinkError::Lost)?;
            match ready.try_io(|socket| socket::send(socket, question)) {
                Ok(Ok(())) => return Ok(link),
                // It was refused before the question was read; what it said about that can be read.
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(link),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(LinkError::Lost(error)),
                Err(_would_block) => {}
            }
        }
    }

    /// The next message; none if there will be no more.
    pub(super) async fn next(&self) -> Result<Option<Reply>, LinkError> {
        let (mut bytes, mut reset) = (vec![0_u8; FRAME], false);
        loop {
            let mut ready = self.0.readable().await.map_err(LinkError::Lost)?;
            match ready.try_io(|socket| socket::receive(socket, &mut bytes)) {
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(length)) => {
                    return Reply::decode(&bytes[..length]).map(Some).map_err(LinkError::Malformed);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(LinkError::Malformed(Malformed));
                }
                // It hung up before it had read the question; what it said before that is still there.
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset && !reset => reset = true,
                Ok(Err(error)) => return Err(LinkError::Lost(error)),
                Err(_would_block) => {}
            }
        }
    }
}

fn open(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let socket = socket::new()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {
            #[expect(unsafe_code, reason = "tokio has no safe way to wait for a seqpacket socket")]
            // SAFETY: an `OwnedFd` always names the same descriptor, and it is closed after it is taken off the reactor.
            let registered = unsafe { AsyncFd::register(socket) };
            registered.map_err(io::Error::from)
        }
        Err(Errno::AGAIN) => Err(io::Error::other("too many wait to be heard by it")),
        Err(error) => Err(error.into()),
    }
}
