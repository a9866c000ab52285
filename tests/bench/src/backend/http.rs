//! The echo server over streamable HTTP: keep-alive, JSON answers, no sessions. One thread, because there are two
//! cores and the others need the second.

use std::io::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Options, Reply, answer};
use crate::client::wire;

#[allow(clippy::print_stdout, reason = "its parent reads the address from the first line")]
pub(super) fn serve(options: Options, port: u16, file: Option<&Path>) -> anyhow::Result<()> {
    let file: Option<Rc<[u8]>> = file.map(std::fs::read).transpose()?.map(Into::into);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let waiting = (!options.delay().is_zero()).then(|| {
        let (sender, waits) = channel();
        std::thread::spawn(move || clock(&waits));
        sender
    });
    runtime.block_on(tokio::task::LocalSet::new().run_until(async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("cannot listen")?;
        println!("listening {}", listener.local_addr()?);
        std::io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await.context("cannot accept")?;
            let (options, waiting, file) = (options.clone(), waiting.clone(), file.clone());
            // A connection that breaks is its client's business.
            tokio::task::spawn_local(async move {
                drop(connection(stream, &options, waiting.as_ref(), file.as_deref()).await)
            });
        }
    }))
}

/// Ends waits when they are over, which are all equally long. Tokio's own timer would make 12 ms of 10.
fn clock(waits: &Receiver<(Instant, oneshot::Sender<()>)>) {
    while let Ok((due, done)) = waits.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // The waiting connection may have hung up.
        let _ = done.send(());
    }
}

async fn connection(
    mut stream: TcpStream,
    options: &Options,
    waiting: Option<&Sender<(Instant, oneshot::Sender<()>)>>,
    file: Option<&[u8]>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut held = Vec::with_capacity(1 << 14);
    let (mut body, mut out) = (Vec::new(), Vec::new());
    loop {
        let request = loop {
            if let Some(request) = wire::request(&held)? {
                break request;
            }
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
        };
        let end = request.head + request.body;
        held.reserve(end.saturating_sub(held.len()));
        while held.len() < end {
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
        }
        body.clear();
        out.clear();
        let reply = match file {
            _ if request.post => answer(options, &held[request.head..end], &mut body),
            Some(file) => {
                body.extend_from_slice(file);
                Reply::AtOnce
            }
            None => Reply::None,
        };
        held.drain(..end);
        if reply == Reply::Delayed
            && let Some(waiting) = waiting
        {
            let (done, over) = oneshot::channel();
            waiting.send((Instant::now() + options.delay(), done)).context("the clock is gone")?;
            over.await.context("the clock is gone")?;
        }
        match (reply, request.post) {
            (Reply::None, true) => {
                out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            }
            (Reply::None, false) => {
                out.extend_from_slice(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n");
            }
            (Reply::AtOnce | Reply::Delayed, _) => {
                let length = body.len();
                write!(
                    out,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                )?;
                out.extend_from_slice(&body);
            }
        }
        stream.write_all(&out).await?;
    }
}
