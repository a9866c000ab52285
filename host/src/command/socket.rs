//! The socket between gateway and executor. It keeps messages apart (`SOCK_SEQPACKET`), and no call here waits: each side waits
//! in its own way.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// A new socket of this kind.
///
/// # Errors
/// The system has none left.
pub fn new() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends a message whole.
///
/// # Errors
/// `WouldBlock` while the other side has too much to read; else it is gone.
pub fn send(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    rustix::net::send(socket, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Receives a message whole, and says how long it is: 0 if there will be no more.
///
/// # Errors
/// `WouldBlock` while there is none; `InvalidData` if it is longer than `into`; else the connection broke.
pub fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    // With `TRUNC` the kernel says how long the message was, not how much of it fitted.
    let (_, length) = rustix::net::recv(socket, &mut *into, RecvFlags::TRUNC | RecvFlags::DONTWAIT)?;
    if length > into.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    Ok(length)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_whole_or_not_at_all() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut bytes = [0; 4];
        assert_eq!(receive(&other, &mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        send(&one, b"four").unwrap();
        send(&one, b"fives").unwrap();
        send(&one, b"1").unwrap();
        assert_eq!((receive(&other, &mut bytes).unwrap(), &bytes), (4, b"four"));
        assert_eq!(receive(&other, &mut bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!((receive(&other, &mut bytes).unwrap(), bytes[0]), (1, b'1'));
        drop(one);
        assert_eq!(receive(&other, &mut bytes).unwrap(), 0);
    }
}
