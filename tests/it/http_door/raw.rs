//! HTTP byte by byte, for what no library would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::client::Client;
use crate::support::PATIENCE;

/// One connection.
#[derive(Debug)]
pub(crate) struct Raw(TcpStream);

/// What came until the other side closed.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) text: String,
    /// False if the connection was still open when the patience was over.
    pub(crate) closed: bool,
}

impl Ending {
    /// The status of the first response; 0 without one.
    pub(crate) fn status(&self) -> u16 {
        self.text.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// How many responses came.
    pub(crate) fn responses(&self) -> usize {
        self.text.matches("HTTP/1.1 ").count() + self.text.matches("HTTP/1.0 ").count()
    }
}

impl Raw {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// The same from another address of this machine's loopback.
    pub(crate) fn connect_from(from: Ipv4Addr, address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((from, 0).into()).unwrap();
            socket.connect(address.parse().unwrap()).await.unwrap().into_std().unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// The next response, if it has a length and a body; the connection goes on.
    pub(crate) fn response(&mut self) -> String {
        let mut text = String::new();
        let mut byte = [0; 1];
        loop {
            self.0.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.unwrap_or("0").parse().unwrap();
                if body.len() >= length {
                    return text;
                }
            }
        }
    }

    /// Connects and sends.
    pub(crate) fn sent(address: &str, bytes: &[u8]) -> Self {
        let mut raw = Self::connect(address);
        raw.send(bytes);
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Sends one byte more; false if the other side has closed.
    pub(crate) fn trickle(&mut self, byte: u8) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let mut waste = [0; 1024];
        let open = match self.0.read(&mut waste) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.0.set_nonblocking(false).unwrap();
        open && self.0.write_all(&[byte]).is_ok()
    }

    /// Everything until the other side closes.
    pub(crate) fn ending(mut self) -> Ending {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
        let closed = loop {
            match self.0.read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                // A reset closes too.
                Err(error) => break !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        };
        Ending { text: String::from_utf8_lossy(&bytes).into_owned(), closed }
    }

    /// What comes next; nothing once the other side has closed.
    pub(crate) fn some(&mut self) -> String {
        let mut buffer = [0; 8192];
        let count = self.0.read(&mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    /// Whether nothing has come for a moment: enough to know that a reply which was due at once is not there.
    pub(crate) fn silent(&mut self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let read = self.0.read(&mut [0; 1]);
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}

/// The head of a request with a client's headers, without `Host`, a length, and the empty line.
pub(crate) fn headers(client: &Client) -> String {
    client.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// A whole correct POST.
pub(crate) fn post(client: &Client, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {length}\r\n\r\n{body}",
        headers(client)
    )
}
