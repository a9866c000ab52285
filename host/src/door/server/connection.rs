//! One connection: hyper reads and writes it, and a timer beside hyper cuts it when it stalls.
//!
//! hyper's own `header_read_timeout` starts when the last response ended, so it cannot tell a connection that rests
//! from a head that trickles: either resting connections die early, which loses the requests of clients that reuse
//! them, or slow heads live long. And it has no timer for a response that the client does not read. Hence
//! [`super::activity`].

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Phase, Watched};
use super::certificate::Certificate;
use super::places::Seat;
use super::self_wake::poll_while_self_woken;
use super::unparsed::Unparsed;
use super::{App, Limits, Peer};

/// hyper's buffers per direction; its own default of 400 KiB times a thousand connections is too much.
const BUFFER: usize = 64 << 10;

/// hyper's own number of headers. Setting it, even to this, moves them from the stack to the heap.
const HYPER_HEADERS: usize = 100;

/// How long the rest of a request that was refused midway is read and thrown away. Without it the kernel answers that
/// rest with a reset, and the client may lose the response that tells it why.
const LINGER: Duration = Duration::from_secs(1);

/// How far the timer is set ahead while the gateway works on the request.
const UNWATCHED: Duration = Duration::from_secs(3600);

/// To a client over the limit of connections.
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 164\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"the gateway has no free connection: try again in a second or two\",\"reason\":\"overloaded\"}\n";

/// How long a response may take to leave on a connection that makes room for another.
pub(super) const LEAVING: Duration = Duration::from_secs(5);

/// Serves one connection until the client, the timer or the drain ends it, or until it makes room for another.
pub(super) async fn run<I>(io: I, seated: Seated, app: App, limits: Limits, draining: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = seated.0.clone();
    let _seated = seated;
    let (address, seat) = (peer.address(), Arc::clone(peer.seat()));
    let activity = Arc::clone(seat.activity());
    let hears = app.0.hears.load().as_deref().cloned();
    let io = TokioIo::new(Watched::new(Unparsed::new(io, address, hears), Arc::clone(&activity)));
    let service = Door { app, peer, activity: Arc::clone(&activity) };
    let mut http = http1::Builder::new();
    http.half_close(false)
        .header_read_timeout(None::<Duration>)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes.max(BUFFER));
    if limits.max_headers != HYPER_HEADERS {
        http.max_headers(limits.max_headers);
    }
    let mut connection = http.serve_connection(io, service);

    let mut drain = pin!(draining.cancelled());
    let (mut told, mut wakes) = (false, false);
    let clock = pin!(tokio::time::sleep(limits.header_timeout));
    let mut timer = Timer::new(clock, activity.now());
    let ended = poll_while_self_woken(std::future::poll_fn(|cx| {
        if !std::mem::replace(&mut wakes, true) {
            // Once is enough: this future is always polled with the same waker.
            seat.wake(cx.waker());
        }
        if let Poll::Ready(ended) = connection.poll_without_shutdown(cx) {
            return Poll::Ready(Some(ended));
        }
        // After the first look at the socket, so that a request which already arrived counts as under way.
        let leaves = !timer.leaving && seat.has_to_leave();
        if leaves || !told && drain.as_mut().poll(cx).is_ready() {
            (told, timer.leaving) = (true, timer.leaving || leaves);
            Pin::new(&mut connection).graceful_shutdown();
            if let Poll::Ready(ended) = connection.poll_without_shutdown(cx) {
                return Poll::Ready(Some(ended));
            }
        }
        if timer.leaving && seat.may_be_cut() {
            return Poll::Ready(None);
        }
        let now = activity.now();
        if now != timer.seen || leaves {
            timer.set(now, &limits, &seat);
        }
        timer.poll(cx).map(|()| None)
    }))
    .await;

    match ended {
        None if timer.leaving => {
            tracing::debug!(peer = %address, "the connection was closed: it made room for another one")
        }
        None => {
            tracing::debug!(peer = %address, "the connection was cut: {}", Phase::of(timer.seen).complaint())
        }
        Some(ended) => {
            if let Err(error) = &ended {
                tracing::debug!(peer = %address, "the connection broke: {error}");
            }
            let parts = connection.into_parts();
            if ended.is_err() || activity.left_unread() || !parts.read_buf.is_empty() {
                linger(parts.io.into_inner().into_inner().into_inner(), limits.max_body).await;
            }
        }
    }
}

/// Rings when a connection has been at one thing for too long.
struct Timer<'c> {
    clock: Pin<&'c mut Sleep>,
    /// When it is to ring; the clock may be set to an earlier time. None while the gateway works on a request.
    due: Option<Instant>,
    /// What the connection was at when the timer was set.
    seen: u32,
    /// The connection makes room for another.
    leaving: bool,
}

impl<'c> Timer<'c> {
    /// One that rings when the clock does.
    fn new(clock: Pin<&'c mut Sleep>, seen: u32) -> Self {
        Self { due: Some(clock.deadline()), clock, seen, leaving: false }
    }

    /// Sets it for what the connection is at now.
    fn set(&mut self, now: u32, limits: &Limits, seat: &Seat) {
        self.seen = now;
        self.due = limits.patience(Phase::of(now)).and_then(|wait| {
            let now = Instant::now();
            seat.note(now);
            now.checked_add(if self.leaving { wait.min(LEAVING) } else { wait })
        });
        // A clock that rings too early is set again when it rings; most requests do not touch it.
        if let Some(due) = self.due.filter(|due| *due < self.clock.deadline()) {
            self.clock.as_mut().reset(due);
        }
    }

    /// Ready when it rings.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.clock.as_mut().poll(cx));
            let rang = self.clock.deadline();
            match self.due {
                Some(due) if due <= rang => return Poll::Ready(()),
                Some(due) => self.clock.as_mut().reset(due),
                // No timer is needed now; the next change of the phase sets one.
                None => self.clock.as_mut().reset(rang + UNWATCHED),
            }
        }
    }
}

/// Tells a client that the limit of connections is reached.
pub(super) async fn turn_away<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    // A client that does not take even this loses its connection all the same.
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, io.write_all(BUSY.as_bytes())).await {
        linger(io, BUFFER).await;
    }
}

/// Ends our side, then reads on for a moment, at most about `most` bytes.
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut io: I, most: usize) {
    let rest = async {
        io.shutdown().await?;
        let mut waste = vec![0; 8 << 10];
        let mut left = most;
        loop {
            let read = io.read(&mut waste).await?;
            if read == 0 || read > left {
                return io::Result::Ok(());
            }
            left -= read;
        }
    };
    // Time over, connection broken or client gone: it is over in every case.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// Gives the place of a connection back.
pub(super) struct Seated(pub(super) Peer);

impl Seated {
    /// The same, over TLS, with what the client has shown.
    pub(super) fn secure(mut self, certificate: Option<Arc<Certificate>>) -> Self {
        self.0.set_secure(certificate);
        self
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.0.seat().gone();
    }
}

/// The application as hyper calls it.
struct Door {
    app: App,
    peer: Peer,
    activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.activity.serve();
        let activity = Arc::clone(&self.activity);
        let mut request = request.map(|body| {
            let complete = body.is_end_stream();
            Body::new(Arriving { body, complete, activity: Arc::clone(&activity) })
        });
        request.extensions_mut().insert(self.peer.clone());
        let answer = self.app.0.router.load().call(request);
        Box::pin(async move { answer.await.map(|response| response.map(|body| Outgoing { body, activity })) })
    }
}

/// A request's body that tells whether it was read to its end.
struct Arriving {
    body: Incoming,
    complete: bool,
    activity: Arc<Activity>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.activity.await_body(frame.is_pending());
        let frame = ready!(frame);
        self.complete = frame.is_none() || self.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.activity.await_body(false);
        if !self.complete {
            self.activity.leave_unread();
        }
    }
}

/// A response's body whose end is the end of the request.
struct Outgoing {
    body: Body,
    activity: Arc<Activity>,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.activity.rest();
    }
}
