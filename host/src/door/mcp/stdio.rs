//! The stdio door: one client that spawned the gateway, newline-delimited JSON on stdin and stdout (MCP "stdio").

use std::future::poll_fn;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use memchr::memchr2;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::conversation::{Conversation, Endpoint, Owner, StdioClient};
use super::line::{self, Out, Outbox};
use super::lines::{Line, Lines};
use super::pour::Pour;
use super::subscribers::Listener;
use crate::mcp::payload::Payload;
use crate::pipeline::Caller;
use crate::session::Session;

/// Messages are joined into one write up to about this size.
const WRITE_SIZE: usize = 64 << 10;

/// Bounds of the door. A reload may change them; the next line finds that.
#[derive(Debug)]
pub struct Limits {
    max_message: AtomicUsize,
    max_in_flight: AtomicUsize,
}

impl Limits {
    /// `max_message`: the longest line, in bytes; `max_in_flight`: requests under way at once.
    #[must_use]
    pub fn new(max_message: usize, max_in_flight: usize) -> Arc<Self> {
        let (max_message, max_in_flight) = (AtomicUsize::new(max_message), AtomicUsize::new(max_in_flight));
        Arc::new(Self { max_message, max_in_flight })
    }

    /// Puts other bounds in the place of these.
    pub fn bound(&self, max_message: usize, max_in_flight: usize) {
        self.max_message.store(max_message, Ordering::Relaxed);
        self.max_in_flight.store(max_in_flight, Ordering::Relaxed);
    }

    fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    fn max_in_flight(&self) -> usize {
        self.max_in_flight.load(Ordering::Relaxed)
    }
}

type Input = Pin<Box<dyn AsyncRead + Send>>;
type Output = Pin<Box<dyn AsyncWrite + Send>>;

/// Serves until the client closes stdin, stdout breaks, or `stop` ends. Then waits for the calls under way,
/// but not past `grace`.
///
/// # Errors
/// Stdin or stdout cannot be used.
pub async fn serve(
    endpoint: Endpoint,
    limits: Arc<Limits>,
    caller: Arc<Caller>,
    stop: impl Future<Output = ()>,
    grace: impl FnOnce() -> std::time::Duration,
) -> std::io::Result<()> {
    let (out, queue) = line::stream(&caller);
    let writer = tokio::spawn(write(output()?, queue));
    let session = Session::new("stdio", limits.max_in_flight());
    let conversation = Conversation::new(endpoint.clone(), session.clone());
    conversation.attach_stream(out.clone());
    conversation.belongs_to(Owner::Caller(caller.clone()));
    let out = Out::new(out, caller);
    endpoint.pipeline.sole_client(StdioClient::new(conversation.clone()));
    let listener: Arc<dyn Listener> = conversation.clone();
    let subscription = endpoint.subscribers.subscribe(&listener);
    drop(listener);
    let mut lines = Lines::new(input()?, limits.max_message());
    tokio::pin!(stop);
    loop {
        lines.bound(limits.max_message());
        session.bound(limits.max_in_flight());
        tokio::select! {
            line = lines.next() => match line? {
                Some(Line::Message(line)) => {
                    conversation.receive(&line, &out).await;
                    if lines.more() {
                        after_you().await;
                    }
                }
                Some(Line::TooLong(head)) => conversation.too_long(&head, limits.max_message(), &out).await,
                None => break,
            },
            () = &mut stop => break,
        }
    }
    // Stop accepting → finish what is under way, or cancel it.
    endpoint.stopping.cancel();
    conversation.tasks().close();
    if tokio::time::timeout(grace(), conversation.tasks().wait()).await.is_err() {
        session.cancel_all();
        conversation.tasks().wait().await;
    }
    drop(subscription);
    conversation.detach();
    drop((conversation, out));
    writer.await.unwrap_or(Ok(()))
}

/// Lets what was begun last go first. Of requests that come together the runtime begins the last one first, unless it gets
/// to it in between; servers that take one after the other should get them as they were sent.
async fn after_you() {
    let mut asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        // Not `yield_now`, which puts a look at the sockets before every line.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn write(mut output: Output, mut queue: Outbox) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(WRITE_SIZE);
    while let Some(message) = queue.recv().await {
        buffer.clear();
        let mut long = push(&mut buffer, message.into_message());
        while long.is_none()
            && buffer.len() < WRITE_SIZE
            && let Ok(message) = queue.try_recv()
        {
            long = push(&mut buffer, message.into_message());
        }
        let mut written = output.write_all(&buffer).await;
        if let Some(long) = long.filter(|_| written.is_ok()) {
            written = pour(&mut output, Pour::new(long, true)).await;
        }
        if let Err(error) = written {
            // The client is gone. Its replies go nowhere, but calls under way still end in order.
            tracing::debug!("a message cannot be written to stdout: {error}");
            queue.close();
            while queue.recv().await.is_some() {}
            return Ok(());
        }
        output.flush().await?;
    }
    Ok(())
}

/// One message on one line: a newline inside (whitespace between tokens, as pretty-printers make) becomes a space.
/// One that is not whole is handed back, for it must not be together in memory.
fn push(buffer: &mut Vec<u8>, message: Payload) -> Option<Payload> {
    if !message.is_whole() {
        return Some(message);
    }
    let start = buffer.len();
    buffer.extend_from_slice(message.text());
    if memchr2(b'\n', b'\r', &buffer[start..]).is_some() {
        buffer[start..]
            .iter_mut()
            .filter(|byte| matches!(**byte, b'\n' | b'\r'))
            .for_each(|byte| *byte = b' ');
    }
    buffer.push(b'\n');
    None
}

/// Writes a long message. One that cannot be read to its end leaves half a line, after which nothing more can be said.
async fn pour(output: &mut Output, mut message: Pour) -> std::io::Result<()> {
    while let Some(piece) = message.next().await {
        output.write_all(&piece?).await?;
    }
    output.write_all(b"\n").await
}

/// Stdin without a helper thread where it is a pipe or a socket, as MCP clients make it.
fn input() -> std::io::Result<Input> {
    let stdin = std::io::stdin();
    if let Ok(pipe) = pipe::OpenOptions::new().open_receiver("/proc/self/fd/0") {
        return Ok(Box::pin(pipe));
    }
    match socket(stdin.as_fd()) {
        Some(socket) => Ok(Box::pin(socket)),
        None => Ok(Box::pin(tokio::io::stdin())),
    }
}

fn output() -> std::io::Result<Output> {
    let stdout = std::io::stdout();
    if let Ok(pipe) = pipe::OpenOptions::new().open_sender("/proc/self/fd/1") {
        return Ok(Box::pin(pipe));
    }
    match socket(stdout.as_fd()) {
        Some(socket) => Ok(Box::pin(socket)),
        None => Ok(Box::pin(tokio::io::stdout())),
    }
}

fn socket(descriptor: std::os::fd::BorrowedFd<'_>) -> Option<UnixStream> {
    let copy = std::os::unix::net::UnixStream::from(descriptor.try_clone_to_owned().ok()?);
    // Anything else than a Unix socket has no such address.
    copy.local_addr().ok()?;
    copy.set_nonblocking(true).ok()?;
    UnixStream::from_std(copy).ok()
}
