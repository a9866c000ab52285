//! The life of one backend: starting → ready → down → starting …, for as long as the gateway lives.
//!
//! During a start the log says what is being waited for. When the server is gone, `restart` says when it is tried again, and
//! `eras` which message it gets first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::complaint::Complaint;
use super::eras::Eras;
use super::errand::Own;
use super::fleet::ServerFleet;
use super::open::OpenError;
use super::peer::Peer;
use super::progress::{ClientCapabilities, Negotiated, Stage};
use super::pump::Pump;
use super::restart::{Cause, Life, Next, Restarts};
use super::transport::{Control, Transport, TransportError};
use super::wanted::STOPPED;
use super::{PeerError, Server, Status, listing, negotiate, reading};
use crate::mcp::Era;
use crate::mcp::catalog::List;
use crate::redact::Words;

/// How often the log says what is being waited for.
const REPORT: Duration = Duration::from_secs(10);
/// How long a stopped server may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Why a connection ended.
enum End {
    /// The gateway shuts down, or the connection must be made anew for another client.
    Asked {
        again: bool,
    },
    /// An operator has ordered something.
    Ordered,
    Lost(Words, Cause),
}

/// What is known of one connection when it has ended.
#[derive(Default)]
struct Track {
    /// When it was up.
    up: Mutex<Option<Instant>>,
    /// It, once there is one.
    peer: Mutex<Option<Arc<Peer>>>,
}

/// Starts a server; returns at once.
pub(super) fn launch(fleet: &Arc<ServerFleet>, backend: &Arc<Server>) {
    let task = run(backend.clone(), fleet.clone(), fleet.client.subscribe());
    fleet.tasks.spawn(task);
}

async fn run(backend: Arc<Server>, fleet: Arc<ServerFleet>, mut client: ClientCapabilities) {
    let mut eras = recall(&backend).await;
    let process = backend.reached.is_none();
    // How often a server that is only connected to was started is not ours to count.
    let limit = || process.then(|| backend.settings.load().max_restarts);
    let fresh = || Restarts::new(limit());
    let mut restarts = fresh();
    let mut complaint = Complaint::default();
    loop {
        let (turn, stopped) = backend.wanted.last();
        if stopped {
            if !halt(&backend, &fleet, turn).await {
                break;
            }
            (restarts, complaint) = (fresh(), Complaint::default());
            continue;
        }
        backend.progress.is_at(Stage::Opening);
        backend.status.send_replace(Status::Starting);
        backend.story.begins();
        backend.wanted.obeys(turn);
        let (began, track) = (Instant::now(), Track::default());
        let end = live(&backend, &fleet, &mut client, &mut eras, &track, turn).await;
        backend.peer.store(None);
        let (reason, cause) = match end {
            End::Asked { again: true } => continue,
            End::Asked { again: false } => break,
            End::Ordered => {
                backend.story.is_gone(None);
                restarts = fresh();
                continue;
            }
            End::Lost(reason, cause) => (reason, cause),
        };
        backend.story.is_gone(Some(&reason));
        if eras.lost(backend.progress.stage()) {
            tracing::info!(
                backend = %backend.name,
                "the server ended when it was asked `server/discover` ({reason}); it is started once more and greeted with `initialize`"
            );
            continue;
        }
        let answered = track.peer.lock().as_ref().is_some_and(|peer| peer.served());
        let life = Life { began, ended: Instant::now(), up: *track.up.lock(), answered, cause };
        restarts.limit(limit());
        let next = restarts.after(&life, noise());
        complaint.say(&backend.name, restarts.in_a_row().max(1), &reason, cause);
        if process && !backend.settings.load().restart_on_exit {
            if !stay_down(&backend, &fleet, reason, turn).await {
                break;
            }
            continue;
        }
        if !rest(&backend, &fleet, reason, next, turn).await {
            break;
        }
    }
    backend.status.send_replace(Status::Stopped);
}

/// Stays down until an operator wants it again. False if the gateway stops.
async fn halt(backend: &Arc<Server>, fleet: &Arc<ServerFleet>, turn: u64) -> bool {
    tracing::info!(backend = %backend.name, "an operator has stopped the backend; calls of it are refused");
    backend.status.send_replace(Status::Down { reason: STOPPED.into(), again: None });
    fleet.changed(backend);
    backend.wanted.obeys(turn);
    tokio::select! {
        () = backend.stopping() => false,
        () = backend.wanted.turned(turn) => true,
    }
}

/// Stays down as the operator said in the file: a server that goes stays gone, until an order or other settings want it
/// again. False if the gateway stops.
async fn stay_down(backend: &Arc<Server>, fleet: &Arc<ServerFleet>, reason: Words, turn: u64) -> bool {
    let mut settings = backend.settings.changes();
    backend.status.send_replace(Status::Down { reason, again: None });
    fleet.changed(backend);
    loop {
        if backend.settings.load().restart_on_exit {
            return true;
        }
        tokio::select! {
            () = backend.stopping() => return false,
            () = backend.wanted.turned(turn) => return true,
            // The other end is ours.
            _ = settings.changed() => {}
        }
    }
}

/// What earlier starts have shown; read on a thread that may block.
async fn recall(backend: &Arc<Server>) -> Eras {
    let of = |backend: &Server| {
        let process = backend.reached.is_none();
        Eras::recall(backend.remembered.clone(), backend.settings.load().era, process)
    };
    let reading = backend.clone();
    match tokio::task::spawn_blocking(move || of(&reading)).await {
        Ok(eras) => eras,
        // The runtime shuts down; so does the gateway.
        Err(_) => of(backend),
    }
}

/// Waits until it is tried again: at the time that stands in its status, which a call or an operator may bring forward, or
/// when an operator has ordered something. False if the gateway stops.
async fn rest(backend: &Arc<Server>, fleet: &Arc<ServerFleet>, reason: Words, next: Next, turn: u64) -> bool {
    *backend.soonest.lock() = next.soonest;
    let mut status = backend.status.subscribe();
    backend.status.send_replace(Status::Down { reason, again: Some(next.again) });
    fleet.changed(backend);
    loop {
        let again = match *status.borrow_and_update() {
            Status::Down { again: Some(again), .. } => again,
            Status::Down { again: None, .. } | Status::Starting | Status::Ready | Status::Stopped => {
                return true;
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(again.into()) => return true,
            _ = status.changed() => {}
            () = backend.wanted.turned(turn) => return true,
            () = backend.stopping() => return false,
        }
    }
}

fn noise() -> u8 {
    let noise = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8) % 256;
    u8::try_from(noise).unwrap_or(0)
}

/// One connection from its opening to its end.
async fn live(
    backend: &Arc<Server>,
    fleet: &Arc<ServerFleet>,
    client: &mut ClientCapabilities,
    eras: &mut Eras,
    track: &Track,
    turn: u64,
) -> End {
    let opening = reporting(backend, String::new, backend.opener.open(&backend.settings));
    let opened = tokio::select! {
        opened = opening => opened,
        () = backend.stopping() => return End::Asked { again: false },
        () = backend.wanted.turned(turn) => return End::Ordered,
    };
    let Transport { sender, receiver, control } = match opened {
        Ok(wire) => wire,
        Err(OpenError { error, lasting }) => {
            let cause = if lasting { Cause::Lasting } else { Cause::Passing };
            return End::Lost(backend.words(&error.to_string()), cause);
        }
    };
    let peer = Arc::new(Peer::new(backend.name.clone(), sender));
    *track.peer.lock() = Some(peer.clone());
    let mut pump = Pump { backend, fleet, peer: peer.clone(), receiver };
    let talk = async {
        let coming_up = come_up(backend, fleet, &peer, &control, client, eras, track);
        match reporting(backend, || control.last_words(), coming_up).await {
            Ok((met, unread)) => stay(backend, fleet, &peer, client, &met, &unread).await,
            Err(end) => end,
        }
    };
    let end = tokio::select! {
        reason = pump.run() => End::Lost(reason, Cause::Passing),
        end = talk => end,
        // In order, as below: a session is deleted, a child may end by itself.
        () = backend.stopping() => End::Asked { again: false },
        () = backend.wanted.turned(turn) => End::Ordered,
    };
    backend.peer.store(None);
    match &end {
        End::Lost(reason, _) => peer.end(&reason.to_string()),
        End::Asked { .. } => peer.end("the gateway ended the connection"),
        End::Ordered => peer.end("an operator has ended the connection"),
    }
    if matches!(end, End::Lost(..)) {
        for line in control.stderr_tail().lines() {
            tracing::debug!(backend = %backend.name, "the server wrote to stderr before it ended: {line}");
        }
    }
    control.stop(STOP_GRACE).await;
    end
}

/// Waits for the work, and logs at intervals what is being waited for.
async fn reporting<T>(backend: &Server, last_words: impl Fn() -> String, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let began = Instant::now();
    loop {
        match tokio::time::timeout(REPORT, &mut work).await {
            Ok(done) => return done,
            Err(_) => {
                let stage = backend.progress.stage();
                let Some(waited_for) = stage.waited_for() else { continue };
                // Waiting for a client is no fault of the server; it is logged once.
                if stage == Stage::Client && began.elapsed() >= 2 * REPORT {
                    continue;
                }
                let stderr = last_words();
                let said = if stderr.is_empty() { "" } else { "; last stderr: " };
                let seconds = began.elapsed().as_secs();
                tracing::info!(
                    backend = %backend.name, seconds, "backend is still starting, waiting for {waited_for}{said}{stderr}"
                );
            }
        }
    }
}

/// Holds the first exchange and reads the lists; then the backend is ready for calls.
async fn come_up(
    backend: &Arc<Server>,
    fleet: &Arc<ServerFleet>,
    peer: &Arc<Peer>,
    control: &Control,
    client: &mut ClientCapabilities,
    eras: &mut Eras,
    track: &Track,
) -> Result<(Negotiated, Vec<List>), End> {
    let lost = |what: &str, error: &PeerError| {
        let cause = match error {
            PeerError::Transport(TransportError::Status { status: 401 | 403 | 407, .. }) => Cause::Lasting,
            PeerError::Transport(TransportError::Status { retry_after: Some(after), .. }) => {
                Cause::Asked(*after)
            }
            PeerError::Transport(_)
            | PeerError::Timeout { .. }
            | PeerError::Garbage(_)
            | PeerError::Endless(_) => Cause::Passing,
        };
        End::Lost(backend.words(&format!("{what}: {error}")), cause)
    };
    let met = negotiate::negotiate(peer, backend, eras.first(), client, &backend.progress).await;
    let met = met.map_err(|error| lost("the handshake failed", &error))?;
    let Negotiated { info, .. } = &met;
    backend.shakes_hands.store(info.handshake, std::sync::atomic::Ordering::Relaxed);
    if peer.era() == Era::Handshake {
        control.set_protocol_version(&info.version);
    }
    let patience = backend.settings.load().start_timeout;
    let offers = reading::offers(peer, info, patience, &backend.progress).await;
    let (mut offers, unread) = offers.map_err(|error| lost("its lists cannot be read", &error))?;
    // A list that cannot be read now stays as it was when it was read last.
    let known = backend.original().unwrap_or_default();
    unread.iter().for_each(|list| offers.set(*list, known.get(*list).to_vec()));
    fleet.offer(backend, offers).await;
    tracing::info!(backend = %backend.name, version = %info.version, pid = control.pid(), "backend is ready");
    if let Some(write) = eras.met(&met) {
        tokio::task::spawn_blocking(write);
    }
    fleet.introduced_itself(backend, info.clone());
    backend.progress.is_at(Stage::Up);
    *track.up.lock() = Some(Instant::now());
    backend.peer.store(Some(peer.clone()));
    backend.story.is_up(control.pid());
    backend.status.send_replace(Status::Ready);
    fleet.changed(backend);
    Ok((met, unread))
}

/// Asks the server at intervals whether it is alive.
async fn stay(
    backend: &Arc<Server>,
    fleet: &Arc<ServerFleet>,
    peer: &Arc<Peer>,
    client: &mut ClientCapabilities,
    met: &Negotiated,
    unread: &[List],
) -> End {
    let stateless = peer.era() == Era::Stateless;
    let listening = listing::listen(peer, &met.info);
    tokio::pin!(listening);
    let mut listens = stateless;
    let rereading = reading::reread(backend, fleet, unread);
    tokio::pin!(rereading);
    let mut incomplete = !unread.is_empty();
    let mut pings = true;
    let mut settings = backend.settings.changes();
    let mut beat = heartbeat(backend).await;
    loop {
        tokio::select! {
            // The other end is ours.
            _ = settings.changed() => beat = heartbeat(backend).await,
            _ = beat.tick() => {
                if let Err(error) = is_well(backend, peer, &mut pings).await {
                    let reason = backend.words(&format!("it no longer answers: {error}"));
                    return End::Lost(reason, Cause::Passing);
                }
            }
            () = &mut rereading, if incomplete => incomplete = false,
            () = &mut listening, if listens => {
                // Not offered, or it ended: the lists are read again with the next connection.
                listens = false;
            }
            changed = client.changed(), if !stateless => {
                // Another client with other abilities: capabilities are said once per connection.
                if changed.is_err() || *client.borrow_and_update() != met.declared {
                    return End::Asked { again: changed.is_ok() };
                }
            }
        }
    }
}

/// Beats as often as the settings say, for the first time when that time is over.
async fn heartbeat(backend: &Server) -> tokio::time::Interval {
    let mut beat = tokio::time::interval(backend.settings.load().health_interval);
    beat.tick().await;
    beat
}

/// Asks a server whether it is alive. Any answer shows that it is. A server may leave a ping unanswered for other
/// reasons: it works on a call and does one thing at a time, or it does not know pings and ignores them. So before it
/// is given up it is asked for something that every server must know, and from then on the gateway always asks that.
async fn is_well(backend: &Server, peer: &Peer, pings: &mut bool) -> Result<(), PeerError> {
    let patience = backend.settings.load().timeout;
    let question = match peer.era() {
        Era::Stateless => Own::Discover,
        Era::Handshake if *pings => Own::Ping,
        Era::Handshake => Own::List(List::Tools),
    };
    let Err(error) = listing::ask(peer, question, None, patience).await else { return Ok(()) };
    match &error {
        PeerError::Transport(TransportError::Status { .. } | TransportError::Busy) => Ok(()),
        PeerError::Timeout { .. } if peer.may_be_silent(patience) => Ok(()),
        PeerError::Transport(
            TransportError::Closed(_) | TransportError::SessionLost | TransportError::Unreachable(_),
        ) => Err(error),
        _ if *pings && peer.era() == Era::Handshake => {
            listing::ask(peer, Own::List(List::Tools), None, patience).await.map_err(|_| error)?;
            *pings = false;
            tracing::info!(backend = %backend.name, "the server does not answer a ping, but it is alive: it is asked for its tools instead");
            Ok(())
        }
        _ => Err(error),
    }
}
