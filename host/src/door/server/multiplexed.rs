//! One connection of HTTP/2 (RFC 9113), where TLS has agreed on it: many requests at once, so what a connection is doing is
//! what all its streams together do.
//!
//! hyper bounds what a client can open, reset and leave unread. What is added here: a connection without a request ends after
//! a while, one whose client takes nothing of a response is cut, and the drain lets the requests under way end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::connection::{LEAVING, Seated};
use super::{App, Limits, Peer};

/// Requests at once on one connection.
const STREAMS: u32 = 100;
/// Bytes of a body that may come before they are read: of one stream, and of all.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer that wait for the client, for each stream.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that a client may have opened and given up before the gateway has looked at them (CVE-2023-44487), and those that
/// it makes the gateway give up; after that the connection ends.
const RESETS: usize = 20;
/// How often a client that says nothing is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);

/// Serves one connection until the client, the timer or the drain ends it, or until it makes room for another.
pub(super) async fn run<I>(io: I, seated: Seated, app: App, limits: Limits, draining: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = seated.0.clone();
    let _seated = seated;
    let (address, seat) = (peer.address(), Arc::clone(peer.seat()));
    let work = Work::default();
    let streams = Arc::new(Streams::new(Arc::clone(seat.activity())));
    let service = Door { app, peer, streams: Arc::clone(&streams), max_headers: limits.max_headers };
    let mut http = http2::Builder::new(work.clone());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    let mut connection = http.serve_connection(TokioIo::new(io), service);

    let mut drain = pin!(draining.cancelled());
    let (mut told, mut wakes) = (false, false);
    // When it ends whatever its streams do: after a request to leave.
    let mut last: Option<Instant> = None;
    let pause = (limits.header_timeout.min(limits.idle_timeout) / 4)
        .clamp(Duration::from_millis(20), Duration::from_secs(5));
    let mut clock = pin!(tokio::time::sleep(pause));
    let ended = std::future::poll_fn(|cx| {
        if !std::mem::replace(&mut wakes, true) {
            // Once is enough: this future is always polled with the same waker.
            seat.wake(cx.waker());
        }
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Some(ended));
        }
        let leaves = last.is_none() && seat.has_to_leave();
        if leaves {
            last = Instant::now().checked_add(LEAVING);
        }
        if leaves || !told && drain.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Some(ended));
            }
        }
        loop {
            ready!(clock.as_mut().poll(cx));
            let now = Instant::now();
            clock.as_mut().reset(now + pause);
            work.tidy();
            seat.note(streams.since());
            if let Some(complaint) = streams.complaint(&limits, now) {
                tracing::debug!(peer = %address, "the connection was cut: {complaint}");
                return Poll::Ready(None);
            }
            if last.is_some_and(|last| last <= now && streams.at_work() == 0) {
                tracing::debug!(peer = %address, "the connection was closed: it made room for another one");
                return Poll::Ready(None);
            }
        }
    })
    .await;
    if let Some(Err(error)) = ended {
        tracing::debug!(peer = %address, "the connection broke: {error}");
    }
}

/// The requests of one connection, each a task: with the connection they end.
#[derive(Clone, Default)]
struct Work(Arc<Mutex<JoinSet<()>>>);

impl Work {
    /// Forgets those that have ended.
    fn tidy(&self) {
        let mut tasks = self.0.lock();
        while let Some(ended) = tasks.try_join_next() {
            super::report(ended);
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Work {
    fn execute(&self, future: F) {
        let mut tasks = self.0.lock();
        while let Some(ended) = tasks.try_join_next() {
            super::report(ended);
        }
        tasks.spawn(future);
    }
}

/// What the streams of one connection are doing.
struct Streams {
    began: Instant,
    /// Of the connection as a whole, for those who look for one that rests.
    activity: Arc<Activity>,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    /// Requests that are with the application, or whose answers are under way.
    at_work: Vec<Arc<Stream>>,
    /// Since when that is so, or since when there is none.
    since: Option<Instant>,
    /// Whether there has been one.
    served: bool,
}

/// One request.
struct Stream {
    /// Milliseconds since the connection began at which a part of the answer was handed over that the client has not taken
    /// yet; 0 while the application is at work.
    offered: AtomicU64,
}

impl Streams {
    fn new(activity: Arc<Activity>) -> Self {
        Self { began: Instant::now(), activity, all: Mutex::default() }
    }

    fn begin(&self) -> Arc<Stream> {
        let stream = Arc::new(Stream { offered: AtomicU64::new(0) });
        let mut all = self.all.lock();
        if all.at_work.is_empty() {
            self.activity.serve();
            all.since = Some(Instant::now());
        }
        all.served = true;
        all.at_work.push(Arc::clone(&stream));
        stream
    }

    fn end(&self, stream: &Arc<Stream>) {
        let mut all = self.all.lock();
        all.at_work.retain(|known| !Arc::ptr_eq(known, stream));
        if all.at_work.is_empty() {
            self.activity.rest();
            all.since = Some(Instant::now());
        }
    }

    fn at_work(&self) -> usize {
        self.all.lock().at_work.len()
    }

    fn since(&self) -> Instant {
        self.all.lock().since.unwrap_or(self.began)
    }

    /// Milliseconds since the connection began, never 0.
    fn now(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Why the connection is to be cut, if it is.
    fn complaint(&self, limits: &Limits, now: Instant) -> Option<&'static str> {
        let all = self.all.lock();
        if all.at_work.is_empty() {
            let patience = if all.served { limits.idle_timeout } else { limits.header_timeout };
            let rests = now.saturating_duration_since(all.since.unwrap_or(self.began));
            return (rests >= patience).then_some("no request for too long");
        }
        let now = self.now(now);
        let patience = u64::try_from(limits.idle_timeout.as_millis()).unwrap_or(u64::MAX);
        let stalled = all.at_work.iter().any(|stream| {
            let offered = stream.offered.load(Ordering::Relaxed);
            offered != 0 && now.saturating_sub(offered) >= patience
        });
        stalled.then_some("the client did not take its response")
    }
}

/// The application as hyper calls it.
struct Door {
    app: App,
    peer: Peer,
    streams: Arc<Streams>,
    max_headers: usize,
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (streams, stream) = (Arc::clone(&self.streams), self.streams.begin());
        let under_way = UnderWay { streams, stream };
        if request.headers().len() > self.max_headers {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Box::pin(async move { Ok(response.map(|body| Outgoing { body, under_way })) });
        }
        let mut request = request.map(Body::new);
        named(&mut request);
        request.extensions_mut().insert(self.peer.clone());
        let answer = self.app.router().call(request);
        Box::pin(
            async move { answer.await.map(|response| response.map(|body| Outgoing { body, under_way })) },
        )
    }
}

/// RFC 9113, section 8.3.1: the name that the client called is `:authority`, and `Host` need not be there. What reads a request
/// looks for `Host`.
fn named<B>(request: &mut Request<B>) {
    if request.headers().contains_key(header::HOST) {
        return;
    }
    let authority = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    if let Some(Ok(name)) = authority {
        request.headers_mut().insert(header::HOST, name);
    }
}

/// A request under way; dropped when its answer has gone or nobody wants it any more.
struct UnderWay {
    streams: Arc<Streams>,
    stream: Arc<Stream>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.streams.end(&self.stream);
    }
}

/// An answer's body, that tells since when the client has not taken what it was given.
struct Outgoing {
    body: Body,
    under_way: UnderWay,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let UnderWay { streams, stream } = &self.under_way;
        let offered = if frame.is_ready() { streams.now(Instant::now()) } else { 0 };
        stream.offered.store(offered, Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_rests_stalls_or_works_as_its_streams_do() {
        let limits = Limits::default();
        let streams = Streams::new(Arc::default());
        let at = |seconds: u64| streams.began + Duration::from_secs(seconds);
        assert!(streams.complaint(&limits, at(9)).is_none());
        assert!(streams.complaint(&limits, at(11)).is_some(), "no first request");
        let (one, two) = (streams.begin(), streams.begin());
        assert!(streams.complaint(&limits, at(10_000)).is_none(), "the application may take its time");
        one.offered.store(streams.now(at(10)), Ordering::Relaxed);
        assert!(streams.complaint(&limits, at(100)).is_none());
        assert_eq!(streams.complaint(&limits, at(131)), Some("the client did not take its response"));
        streams.end(&one);
        streams.end(&one);
        assert_eq!((streams.at_work(), streams.complaint(&limits, at(131))), (1, None));
        streams.end(&two);
        assert!(streams.complaint(&limits, at(100)).is_none());
        assert_eq!(streams.complaint(&limits, at(200)), Some("no request for too long"));
    }

    #[test]
    fn the_name_that_was_called_is_the_host() {
        let request = |uri: &str| Request::builder().uri(uri).body(());
        let mut plain = request("https://api.example.org:8443/pets").unwrap_or_default();
        named(&mut plain);
        assert_eq!(
            plain.headers().get(header::HOST),
            Some(&HeaderValue::from_static("api.example.org:8443"))
        );
        let mut both = request("https://api.example.org/pets").unwrap_or_default();
        both.headers_mut().insert(header::HOST, HeaderValue::from_static("other.example.org"));
        named(&mut both);
        assert_eq!(both.headers().get(header::HOST), Some(&HeaderValue::from_static("other.example.org")));
    }
}
