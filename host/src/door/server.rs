//! An accept loop of our own, because `axum::serve` hides the settings that keep slow and greedy clients harmless.
//!
//! Every connection has a timer, every body has a limit and a least pace ([`read_body`]), and the number of connections
//! is bounded. A connection that stalls is cut; a request under way at the stop is finished.

mod activity;
mod body;
mod certificate;
mod connection;
mod multiplexed;
mod places;
mod proxied;
mod self_wake;
mod tls;
mod unparsed;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub use body::{BodyError, read_body};
pub use certificate::Certificate;
pub use places::Peer;
pub(crate) use tls::Tls;
pub use unparsed::{Hears, NoRequest};

use super::log_limit::LogLimit;
use crate::config::Network;
use places::{Places, Seat};

/// How many clients over [`Limits::max_connections`] are told so at a time; further ones are closed without a word.
const REFUSALS: usize = 64;

/// How many connections may wait for a place at a time; further ones are refused at once.
const WAITING: usize = 64;

/// What one client may cost. A connection holds at most about `max_header_bytes + max_body` bytes and 128 KiB of
/// buffers, so the memory at risk is that times `max_connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a request's head to its last; of the first request, from the accept. Else the
    /// connection is closed (slowloris). Default 10 s.
    pub header_timeout: Duration,
    /// What a body gets before its pace counts: it must be complete within this time plus one second per
    /// `min_body_rate` bytes that came. A floor lets a large body take its time and still ends a trickle; a fixed
    /// time alone would be too short for the one or too long for the other. Default 10 s.
    pub body_timeout: Duration,
    /// The floor in bytes per second; 0 means the whole body within `body_timeout`. Default 16 KiB/s.
    pub min_body_rate: u32,
    /// Request line and headers, in bytes; also the trailers of a chunked body. Over it: 431. Default 32 KiB.
    pub max_header_bytes: usize,
    /// Header lines of one request. Over it: 431. Default 100.
    pub max_headers: usize,
    /// Bytes of a body, chunk framing not counted. Over it: 413. Default 4 MiB.
    pub max_body: usize,
    /// Connections at once. When they are all taken those that rest make room, strangers' first. If none does within a
    /// second, the next one is told 503 and closed: a client left waiting in the kernel's queue would learn nothing and
    /// could not try another gateway. Default 1024.
    pub max_connections: usize,
    /// Connections from one address (an IPv4 address, an IPv6 network of 64 bits) over which no credential was accepted.
    /// One more takes the place of the one that has rested longest. Default 256.
    pub max_per_address: usize,
    /// How long a connection may rest between two requests, and how long a client may leave a response untaken.
    /// A handler at work and a quiet event stream do not count. Longer than the 90 s for which common clients keep
    /// connections, so that it is they who close and no request meets a closing door. Default 120 s.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            min_body_rate: 16 << 10,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_body: 4 << 20,
            max_connections: 1024,
            max_per_address: 256,
            idle_timeout: Duration::from_secs(120),
        }
    }
}

/// What answers the requests. It can be replaced while connections are open: the next request of each finds the new one.
#[derive(Clone)]
pub struct App(Arc<Served>);

struct Served {
    router: ArcSwap<TowerToHyperService<Router>>,
    /// Without it connections are plain.
    tls: ArcSwapOption<Tls>,
    /// Who hears of what is no request.
    hears: ArcSwapOption<Hears>,
    /// The proxies that say whose connection they pass on.
    proxies: ArcSwap<Vec<Network>>,
    /// The places of the listener, once it is served.
    places: OnceLock<Arc<Places>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl From<Router> for App {
    fn from(router: Router) -> Self {
        let router = ArcSwap::from_pointee(TowerToHyperService::new(router));
        Self(Arc::new(Served {
            router,
            tls: ArcSwapOption::empty(),
            hears: ArcSwapOption::empty(),
            proxies: ArcSwap::default(),
            places: OnceLock::new(),
        }))
    }
}

impl App {
    /// What answers the next request.
    fn router(&self) -> Arc<TowerToHyperService<Router>> {
        self.0.router.load_full()
    }

    /// From now on requests are answered by this.
    pub fn replace(&self, router: Router) {
        self.0.router.store(Arc::new(TowerToHyperService::new(router)));
    }

    /// From now on new connections begin with a handshake, with this certificate; or with none.
    pub(crate) fn secure(&self, tls: Option<Tls>) {
        self.0.tls.store(tls.map(Arc::new));
    }

    /// From now on this hears of what is no request.
    pub fn told(&self, hears: Option<Hears>) {
        self.0.hears.store(hears.map(Arc::new));
    }

    /// From now on these begin each new connection with the PROXY protocol.
    pub fn behind(&self, proxies: &[Network]) {
        self.0.proxies.store(Arc::new(proxies.to_vec()));
    }

    fn is_proxy(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        self.0.proxies.load().iter().any(|network| network.holds(ip))
    }

    /// From now on so many connections may be open at once, and of one address so many over which no credential was accepted.
    pub fn bound(&self, max_connections: usize, max_per_address: usize) {
        if let Some(places) = self.0.places.get() {
            places.bound(max_connections, max_per_address);
        }
    }
}

/// Serves until `stop` ends, then drains: no new connections, resting ones closed, requests under way finished.
/// Long streams are the application's to end at the same signal. What is left after `grace`, which is asked for at the stop,
/// is cut.
///
/// Dropping the future cuts everything at once. Handlers find the other end as the extension [`Peer`], and say by it
/// whose credential they accepted; one whose client goes away is dropped. Bodies are limited by [`read_body`] only: a handler must read them with it.
pub async fn serve(
    listener: TcpListener,
    app: impl Into<App>,
    limits: Limits,
    stop: impl Future,
    grace: impl FnOnce() -> Duration,
) {
    let draining = CancellationToken::new();
    let (app, places) = (app.into(), Places::new(&limits));
    // One application is served by one listener.
    let _ = app.0.places.set(places.clone());
    let shared = Arc::new(Shared {
        app,
        limits,
        places,
        waiting: Semaphore::new(WAITING),
        refusals: Semaphore::new(REFUSALS),
        full: LogLimit::default(),
        draining: draining.clone(),
    });
    let mut connections = JoinSet::new();
    let mut pause = Pause::default();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let Some(wait) = pause.after(&error) else { continue };
                tracing::warn!("no connection can be accepted for {wait:?}: {error}");
                tokio::select! {
                    _ = &mut stop => break,
                    () = tokio::time::sleep(wait) => continue,
                }
            }
        };
        pause = Pause::default();
        let seat = shared.places.enter(peer.ip());
        connections.spawn(Arc::clone(&shared).take(stream, peer, seat));
    }
    drop(listener);
    draining.cancel();
    let grace = grace();
    let finished = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!(
            "{} connections were still busy {grace:?} after the stop and are cut",
            connections.len()
        );
        connections.shutdown().await;
    }
}

/// What the connections of one listener have in common.
struct Shared {
    app: App,
    limits: Limits,
    places: Arc<Places>,
    waiting: Semaphore,
    refusals: Semaphore,
    full: LogLimit,
    draining: CancellationToken,
}

impl Shared {
    /// Serves a connection, or tells its client why not.
    async fn take(self: Arc<Self>, mut stream: TcpStream, mut peer: SocketAddr, seat: Option<Arc<Seat>>) {
        let seated = |stream: &TcpStream, peer, seat| {
            connection::Seated(Peer::new(peer, stream.local_addr().ok(), seat))
        };
        let Some(mut seat) = (match seat {
            None => self.wait(peer).await,
            found => found,
        }) else {
            return self.refuse(stream, peer).await;
        };
        if self.app.is_proxy(peer) {
            // The proxy's place, until it is known whose connection this is.
            let _proxys = seated(&stream, peer, Arc::clone(&seat));
            let Some(client) = self.passed_on(&mut stream, peer).await else { return };
            let place = match self.places.enter(client.ip()) {
                None => self.wait(client).await,
                found => found,
            };
            let Some(place) = place else { return self.refuse(stream, client).await };
            (peer, seat) = (client, place);
        }
        no_delay(&stream, peer);
        let seated = seated(&stream, peer, seat);
        let Some(tls) = self.app.0.tls.load_full() else {
            return connection::run(stream, seated, self.app.clone(), self.limits, self.draining.clone())
                .await;
        };
        // A handshake is part of the first head.
        let shaken = tokio::select! {
            () = self.draining.cancelled() => return,
            shaken = tokio::time::timeout(self.limits.header_timeout, tls.accept(stream)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let seated = seated.secure(tls::certificate(&stream));
                let (app, draining) = (self.app.clone(), self.draining.clone());
                if tls::speaks_http2(&stream) {
                    // Much larger than the other, so it takes no room in the tasks of those.
                    Box::pin(multiplexed::run(stream, seated, app, self.limits, draining)).await;
                } else {
                    connection::run(stream, seated, app, self.limits, draining).await;
                }
            }
            Ok(Err(error)) => tracing::debug!(%peer, "the TLS handshake failed: {error}"),
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
        }
    }

    /// Whose connection a proxy passes on: its own if it does not say; none if it does not speak as it should.
    async fn passed_on(&self, stream: &mut TcpStream, proxy: SocketAddr) -> Option<SocketAddr> {
        let read = tokio::select! {
            () = self.draining.cancelled() => return None,
            read = tokio::time::timeout(proxied::PATIENCE, proxied::read(stream)) => read,
        };
        match read {
            Ok(Ok(client)) => return Some(client.unwrap_or(proxy)),
            // A health check connects and closes.
            Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => {
                tracing::debug!(%proxy, "the connection ended before its PROXY header: {error}");
            }
            Ok(Err(error)) => tracing::warn!(%proxy, "the connection was closed: {error}"),
            Err(_) => tracing::warn!(%proxy, "the connection was closed: no PROXY header came in time"),
        }
        None
    }

    /// A place after a short wait: of forty clients that come in one millisecond all are at work in the next, so that
    /// none rests and could make room for one more.
    async fn wait(&self, peer: SocketAddr) -> Option<Arc<Seat>> {
        let _waits = self.waiting.try_acquire().ok()?;
        tokio::select! {
            () = self.draining.cancelled() => None,
            seat = self.places.wait(peer.ip()) => seat,
        }
    }

    /// All places are taken by connections that work.
    async fn refuse(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(_slot) = self.refusals.try_acquire() else { return };
        metrics::counter!("sentinel_http_refusals_total", "status" => "503").increment(1);
        if let Some(more) = self.full.may(std::time::Instant::now()) {
            let also =
                if more == 0 { String::new() } else { format!(" ({more} more since the last such line)") };
            let most = self.places.most();
            tracing::warn!(%peer, "refused: {most} connections are open and none of them rests{also}");
        }
        connection::turn_away(stream).await;
    }
}

/// Small messages must not wait for the acknowledgement of the one before (about 40 ms each).
fn no_delay(stream: &TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "TCP_NODELAY: {error}");
    }
}

/// A handler that panics loses its connection and nothing else.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended in a panic: {error}");
    }
}

/// How long to pause after a failed accept: the kernel reports a lack of file descriptors or memory at once, so trying
/// again at once would spin.
#[derive(Debug, Default)]
struct Pause(Option<Duration>);

impl Pause {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    /// None if the error was the client's (it went away while it waited): the next one may be accepted at once.
    fn after(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return None;
        }
        let wait = self.0.map_or(Self::FIRST, |last| (last * 2).min(Self::LONGEST));
        self.0 = Some(wait);
        Some(wait)
    }
}
