//! One message of the socket at a time, with a bound on its length and on the wait for it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::command::frames::{FRAME, Reply};
use crate::command::socket;

/// How long a connection may take to say what it wants, or to take in what it is told.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The next message; none if there will be no more.
///
/// # Errors
/// It does not come in time, or it is longer than a message may be.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<Vec<u8>>> {
    wait(&socket, PollFlags::IN)?;
    let mut bytes = vec![0_u8; FRAME];
    let length = socket::receive(&socket, &mut bytes)?;
    bytes.truncate(length);
    Ok((length > 0).then_some(bytes))
}

/// Sends a message.
///
/// # Errors
/// The other side is gone, or does not take it in.
pub(super) fn tell(socket: impl AsFd, reply: &Reply) -> io::Result<()> {
    let bytes = reply.encode();
    loop {
        match socket::send(&socket, &bytes) {
            Ok(()) => return Ok(()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => wait(&socket, PollFlags::OUT)?,
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

fn wait(socket: &impl AsFd, what: PollFlags) -> io::Result<()> {
    let timeout = timespec(PATIENCE);
    let mut fds = [PollFd::new(socket, what)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A duration as the kernel takes it.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
