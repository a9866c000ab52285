//! The transport to an MCP server that is a child process: one line is one message. Reading and writing are two tasks,
//! so a server that does not read never keeps the gateway from hearing it.
//!
//! Rule: MCP, "Transports", stdio: newline-delimited JSON, nothing else on stdout, stderr is for logging.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use memchr::{memchr, memchr2, memmem};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::transport::{
    self, Control, Driver, End, Incoming, OpenError, Outgoing, Receiver, Sender, Transport, TransportError,
};
use crate::backend::limit::MessageLimit;
use crate::backend::process::{self, ChildHandle, ChildSpec, Running, Watcher};
use crate::backend::spool::{Gather, Spool, TooLong, WINDOW};
use crate::config::Sandbox;
use crate::mcp::mend::head_id;
use crate::queue;
use crate::redact::Redaction;
use crate::text;

/// One read asks for at least this much.
const READ_SIZE: usize = 16 * 1024;
/// Queued messages are joined into one write up to this size.
const WRITE_SIZE: usize = 64 * 1024;
/// Messages from this size on are not copied to be joined with others.
const LARGE: usize = 16 * 1024;
/// Once the child is dead its pipe is read until it has been silent this long: a daemon may still hold it open.
const DEAD_SILENCE: Duration = Duration::from_millis(250);
/// A child that closed stdin or stdout is of no use any more; it may take this long to end by itself.
const DEAF_GRACE: Duration = Duration::from_secs(2);

/// The server to run.
#[derive(Clone)]
pub(crate) struct StdioSpec {
    /// The backend, for log lines.
    pub name: String,
    /// The program, looked up in `PATH` if it has no slash. Never given to a shell.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, over HOME, LOGNAME, PATH, SHELL, TERM, USER, LANG and TZ.
    pub env: Vec<(String, String)>,
    /// Its working directory; the gateway's if absent.
    pub cwd: Option<PathBuf>,
    /// What it may reach; everything that the gateway's user may, if absent.
    pub sandbox: Option<Sandbox>,
    /// The longest line accepted from it, in bytes, without the line feed; with a spool, what of it stays in memory.
    pub max_line: MessageLimit,
    /// Where longer answers go.
    pub spool: Option<Arc<Spool>>,
    /// What takes secrets out of its stderr and out of log lines.
    pub redaction: Redaction,
}

// The environment and the secrets are not for logs; arguments may hold secrets too.
impl fmt::Debug for StdioSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        let mut out = f.debug_struct("StdioSpec");
        out.field("name", &self.name).field("command", &self.command).field("args", &self.args.len());
        out.field("env", &names)
            .field("cwd", &self.cwd)
            .field("max_line", &self.max_line)
            .finish_non_exhaustive()
    }
}

/// Starts the server and opens the transport to it. Needs a Tokio runtime.
///
/// # Errors
/// [`TransportError::Unreachable`] if the program cannot be started; it lasts if that is not for want of memory or processes.
pub(crate) async fn open(spec: &StdioSpec) -> Result<Transport, OpenError> {
    let child = ChildSpec {
        name: spec.name.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        cwd: spec.cwd.clone(),
        sandbox: spec.sandbox.clone(),
        redaction: spec.redaction.clone(),
    };
    let cannot = |error: std::io::Error| OpenError {
        lasting: is_lasting(&error),
        error: TransportError::Unreachable(format!("cannot start `{}`: {error}", spec.command)),
    };
    let Running { stdin, stdout, closing, handle } = process::spawn(&child).await.map_err(cannot)?;
    let (sender, outgoing) = transport::outgoing();
    let (incoming, receiver) = transport::incoming();
    let end = Arc::new(End::default());
    let watcher = handle.watcher();
    let lines = Lines {
        buffer: BytesMut::new(),
        limit: spec.max_line.clone(),
        spool: spec.spool.clone(),
        long: None,
        incoming: incoming.clone(),
        noise: Noise { name: spec.name.clone(), redaction: spec.redaction.clone(), lines: 0 },
    };
    let reader = tokio::spawn(lines.read(stdout, watcher.gone()));
    let writer = tokio::spawn(write(stdin, outgoing, closing, watcher.gone()));
    tokio::spawn(attend(watcher, reader, writer, incoming, Arc::clone(&end)));
    Ok(Transport {
        sender: Sender::new(sender, Arc::clone(&end), None),
        receiver: Receiver::new(receiver, end),
        control: Control::new(handle),
    })
}

impl Driver for ChildHandle {
    fn stop(self: Box<Self>, grace: Duration) -> BoxFuture<'static, ()> {
        Box::pin(ChildHandle::stop(*self, grace))
    }

    fn pid(&self) -> Option<u32> {
        Some(ChildHandle::pid(self))
    }

    fn stderr_tail(&self) -> String {
        ChildHandle::stderr_tail(self)
    }

    fn last_words(&self) -> String {
        self.watcher().last_words()
    }
}

/// Whether a program will not start either when it is tried again: there is none of this name or in this folder, it may not be
/// run, or it is no program.
fn is_lasting(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied | NotADirectory | IsADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())
}

type Task<T> = tokio::task::JoinHandle<T>;

/// Waits for the end, ends a child that can no longer be reached, and gives the reason once its output is read.
async fn attend(
    mut watcher: Watcher,
    mut reader: Task<()>,
    mut writer: Task<Option<String>>,
    incoming: queue::Sender<Incoming>,
    end: Arc<End>,
) {
    let mut read_all = false;
    let defect = tokio::select! {
        biased;
        _ = watcher.exited() => None,
        _ = &mut reader => { read_all = true; Some("closed its standard output".to_owned()) }
        Ok(Some(problem)) = &mut writer => Some(problem),
    };
    // A pipe also closes because the child is just ending, by itself or because it is being stopped.
    let deaf = defect.filter(|_| watcher.stop(DEAF_GRACE));
    let exit = watcher.exited().await;
    let mut reason = match deaf {
        Some(defect) if exit.forced => format!("{defect} and {exit}"),
        None if exit.ordered => format!("stopped: {exit}"),
        _ => exit.to_string(),
    };
    let words = watcher.last_words();
    if !words.is_empty() {
        reason = format!("{reason}; last stderr: {words}");
    }
    end.set(reason);
    if !read_all {
        // What the child said before it died is still delivered; `Closed` follows when the last sender is gone.
        drop(incoming);
        let _ = reader.await;
    }
}

/// Writes until the queue ends, the child is dead or an orderly stop has written what was queued; then closes
/// stdin. Some text: the child cannot be written to.
async fn write(
    mut stdin: impl AsyncWrite + Unpin,
    mut queue: queue::Receiver<Outgoing>,
    closing: CancellationToken,
    gone: CancellationToken,
) -> Option<String> {
    let mut buffer = Vec::new();
    let mut open = true;
    loop {
        let first = tokio::select! {
            biased;
            () = gone.cancelled() => return None,
            () = closing.cancelled(), if open => {
                open = false;
                queue.close();
                continue;
            }
            first = queue.recv() => first?,
        };
        let mut large = append(&mut buffer, first.body);
        while large.is_none()
            && buffer.len() < WRITE_SIZE
            && let Ok(next) = queue.try_recv()
        {
            large = append(&mut buffer, next.body);
        }
        let end = if large.is_some() { &b"\n"[..] } else { b"" };
        let large = large.unwrap_or_default().chain(end);
        let mut all = Buf::chain(buffer.as_slice(), large);
        tokio::select! {
            () = gone.cancelled() => return None,
            written = stdin.write_all_buf(&mut all) => {
                if let Err(error) = written {
                    return Some(format!("closed its standard input ({})", error.kind()));
                }
            }
        }
        buffer.clear();
        buffer.shrink_to(WRITE_SIZE);
    }
}

/// Appends one line, or hands it back, without its line feed, if it is better written as it is.
///
/// A line break inside a message can only be whitespace between JSON tokens (inside strings it is escaped), but
/// written as it is it would cut the message in two and let a caller forge the second.
fn append(buffer: &mut Vec<u8>, body: Bytes) -> Option<Bytes> {
    let broken = memchr2(b'\n', b'\r', &body).is_some();
    if body.len() >= LARGE && !broken {
        return Some(body);
    }
    let start = buffer.len();
    buffer.extend_from_slice(&body);
    if let Some(line) = buffer.get_mut(start..).filter(|_| broken) {
        line.iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    }
    buffer.push(b'\n');
    None
}

/// Cuts stdout into messages.
struct Lines {
    buffer: BytesMut,
    limit: MessageLimit,
    spool: Option<Arc<Spool>>,
    /// The line that is arriving, if it is too long for the buffer.
    long: Option<Gather>,
    incoming: queue::Sender<Incoming>,
    noise: Noise,
}

/// The byte order mark, which some systems write before a text in UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The receiver is gone.
struct Deserted;

impl Lines {
    async fn read(mut self, mut stdout: impl AsyncRead + Unpin, gone: CancellationToken) {
        // Up to here the buffer holds no line feed.
        let mut searched = 0;
        loop {
            while let Some(end) = memchr(b'\n', self.buffer.get(searched..).unwrap_or_default()) {
                let line = self.buffer.split_to(searched + end + 1).freeze();
                searched = 0;
                if self.line(line).await.is_err() {
                    return;
                }
            }
            // One more than the limit, because the line may yet end with a carriage return.
            if self.long.is_some() || self.buffer.len() > self.longest() {
                let mut long = self.long.take().unwrap_or_else(|| self.gather(&self.buffer));
                long.push(&self.buffer);
                self.buffer.clear();
                long.settle().await;
                self.long = Some(long);
            }
            searched = self.buffer.len();
            // A line that is long already gets as much again, so that a large answer is few reads.
            self.buffer.reserve(READ_SIZE.max(self.buffer.len()));
            let read = tokio::select! {
                biased;
                read = stdout.read_buf(&mut self.buffer) => read,
                () = gone.cancelled() => match timeout(DEAD_SILENCE, stdout.read_buf(&mut self.buffer)).await {
                    Ok(read) => read,
                    Err(_) => Ok(0),
                },
            };
            if !read.is_ok_and(|count| count > 0) {
                break;
            }
        }
        // The last line of a server that ended without a line feed.
        let rest = self.buffer.split().freeze();
        if !rest.is_empty() || self.long.is_some() {
            let _ = self.line(rest).await;
        }
    }

    /// The most the buffer holds of one line, in bytes.
    fn longest(&self) -> usize {
        let longest = self.limit.get() + 1;
        if self.spool.is_some() { longest.min(WINDOW) } else { longest }
    }

    /// Takes in a long line; only what looks like a message may go to the disk.
    fn gather(&self, line: &[u8]) -> Gather {
        let message = matches!(line.trim_ascii_start().first(), Some(b'{' | b'['));
        Gather::new(self.spool.clone().filter(|_| message), self.limit.get())
    }

    async fn line(&mut self, line: Bytes) -> Result<(), Deserted> {
        let long = self.long.take().or_else(|| (line.len() > self.longest() + 1).then(|| self.gather(&line)));
        let item = if let Some(mut long) = long {
            long.push(&line);
            let head = head_id(long.head());
            match long.finish().await {
                Ok(message) => Incoming::Message(message),
                Err(TooLong { limit }) => Incoming::Oversized { limit, answers: head },
            }
        } else {
            let text = line.trim_ascii();
            match text.first() {
                _ if text.len() > self.limit.get() => {
                    Incoming::Oversized { limit: self.limit.get(), answers: head_id(text) }
                }
                None => return Ok(()),
                Some(b'{' | b'[') => Incoming::Message(line.slice_ref(text).into()),
                // A byte order mark, or printed text without a line feed before the message: the parser tells them apart.
                Some(_) if text.starts_with(BOM) || memmem::find(text, b"\"jsonrpc\"").is_some() => {
                    Incoming::Message(line.slice_ref(text).into())
                }
                Some(_) => {
                    self.noise.report(text);
                    return Ok(());
                }
            }
        };
        self.incoming.send(item).await.map_err(|_| Deserted)
    }
}

/// How many stray lines of a server's stdout are logged one by one; after that a line is logged when their number
/// doubles.
const NOISE: u64 = 3;

/// Lines that are no messages: a server's banner or a stray print. They are logged and otherwise ignored.
struct Noise {
    name: String,
    redaction: Redaction,
    lines: u64,
}

impl Noise {
    fn report(&mut self, text: &[u8]) {
        self.lines += 1;
        if self.lines <= NOISE || self.lines.is_power_of_two() {
            let lines = self.lines;
            let line = self.redaction.excerpt(&String::from_utf8_lossy(text), text::SHORT);
            tracing::warn!(
                backend = self.name,
                lines,
                line,
                "the server wrote a line that is not JSON to stdout"
            );
        }
    }
}

#[cfg(test)]
mod tests;
