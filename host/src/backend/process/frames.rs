//! What the gateway and a keeper say to each other: JSON, each message behind its length. The end of the stream is a
//! message too: it tells the reader that the other side is gone.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::config::Sandbox;

/// The longest message. The kernel takes some MiB of arguments and environment; bytes are spelled as numbers here.
const LONGEST: usize = 32 << 20;

/// The program to start, with everything it is started with. Not for logs: the environment holds secrets.
#[derive(Deserialize, Serialize)]
pub(super) struct Start {
    pub(super) command: String,
    pub(super) args: Vec<String>,
    /// All of its environment.
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) sandbox: Option<Sandbox>,
}

/// From the gateway to the keeper.
#[derive(Deserialize, Serialize)]
pub(super) enum Command {
    /// The first one, and only that.
    Start(Box<Start>),
    /// SIGTERM to the server's group.
    Terminate,
    /// The server and all it started must go now.
    Kill,
}

/// From the keeper to the gateway.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Report {
    Started {
        pid: u32,
    },
    /// The server could not be started.
    Refused {
        /// What the system said, if that is all there is to say.
        errno: Option<i32>,
        message: String,
    },
    /// The server has ended and is reaped, and nothing is left of what it started.
    Ended {
        /// As `wait` gave it.
        status: i32,
    },
}

fn pack(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(|_| io::ErrorKind::InvalidInput)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

fn length(head: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(head)).ok().filter(|length| *length <= LONGEST);
    length.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The gateway's side.
pub(super) async fn send(line: &mut OwnedWriteHalf, command: &Command) -> io::Result<()> {
    line.write_all(&pack(command)?).await
}

/// The gateway's side.
pub(super) async fn receive(line: &mut OwnedReadHalf) -> io::Result<Report> {
    let mut head = [0; 4];
    line.read_exact(&mut head).await?;
    let mut body = vec![0; length(head)?];
    line.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// The keeper's side.
pub(super) fn write(mut line: impl io::Write, report: &Report) -> io::Result<()> {
    line.write_all(&pack(report)?)
}

/// The keeper's side.
pub(super) fn read<T: DeserializeOwned>(mut line: impl io::Read) -> io::Result<T> {
    let mut head = [0; 4];
    line.read_exact(&mut head)?;
    let mut body = vec![0; length(head)?];
    line.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}
