//! The life of one backend: starting → ready → down → starting …, for as long as the gateway lives.
//!
//! A server that dies comes back at once the first time and after growing pauses when it keeps dying; a minute of
//! health wipes the slate clean. Past `max_restarts` it is still tried, but only at the longest pause.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::errand::Own;
use super::listing::{self, Greeting};
use super::peer::Peer;
use super::refresh;
use super::registry::Registry;
use super::wire::{Control, Incoming, Receiver, Wire, WireError};
use super::{Backend, PeerError, Status};
use crate::config::Transport;
use crate::mcp::Era;
use crate::mcp::catalog::{List, Offers};
use crate::mcp::payload::Payload;
use crate::redact::Words;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After this much health earlier deaths no longer count.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// The first pause before a list that could not be read is asked for again.
const FIRST_REREAD: Duration = Duration::from_secs(1);
/// How long a stopped server gets to go by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long to wait for a client's `initialize` before shaking hands without its capabilities.
const CLIENT_GRACE: Duration = Duration::from_millis(300);

/// What the client behind the gateway declared; `None` until it said hello.
pub(super) type ClientCapabilities = watch::Receiver<Option<Arc<str>>>;

/// Why a connection ended.
enum End {
    /// The gateway shuts down, or the connection must be made anew for another client.
    Asked {
        again: bool,
    },
    Lost(Words),
}

pub(super) async fn run(backend: Arc<Backend>, registry: Arc<Registry>, mut client: ClientCapabilities) {
    let mut deaths = 0u32;
    let mut complaint = Complaint::default();
    loop {
        backend.status.send_replace(Status::Starting);
        let born = Instant::now();
        let end = live(&backend, &registry, &mut client).await;
        backend.peer.store(None);
        let reason = match end {
            End::Asked { again: true } => continue,
            End::Asked { again: false } => break,
            End::Lost(reason) => reason,
        };
        if born.elapsed() >= FORGIVEN_AFTER {
            deaths = 0;
        }
        deaths = deaths.saturating_add(1);
        complaint.say(&backend.name, deaths, &reason);
        let process = matches!(backend.settings.transport, Transport::Stdio { .. });
        if process && !backend.settings.restart_on_exit {
            // Said by the operator: a server that goes stays gone.
            backend.status.send_replace(Status::Down { reason, again: None });
            registry.changed(&backend);
            registry.stopping().await;
            break;
        }
        let pause = if deaths > backend.settings.max_restarts { LONGEST_PAUSE } else { pause(deaths) };
        backend.status.send_replace(Status::Down { reason, again: Some(Instant::now() + pause) });
        registry.changed(&backend);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = registry.stopping() => break,
        }
    }
    backend.status.send_replace(Status::Stopped);
}

/// Why a backend is down, said once: one that is tried again and again for one reason would fill the log with it.
#[derive(Default)]
struct Complaint {
    said: Option<Words>,
}

impl Complaint {
    fn say(&mut self, backend: &str, deaths: u32, reason: &Words) {
        if self.said.as_ref() == Some(reason) {
            // The metric `sentinel_backend_healthy` and `/ready` go on saying so.
            if deaths.is_power_of_two() {
                tracing::warn!(backend, deaths, "backend is down, for the same reason as before");
            }
            return;
        }
        tracing::warn!(backend, deaths, "backend is down: {reason}");
        self.said = Some(reason.clone());
    }
}

/// Doubling pauses with up to a quarter of jitter, so that many backends do not come back in step.
fn pause(deaths: u32) -> Duration {
    if deaths <= 1 {
        return Duration::ZERO;
    }
    let pause = FIRST_PAUSE.saturating_mul(1 << (deaths - 2).min(16)).min(LONGEST_PAUSE);
    let noise = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), deaths) % 256;
    pause.mul_f64(1.0 + f64::from(u8::try_from(noise).unwrap_or(0)) / 1024.0)
}

/// One connection from its opening to its end.
async fn live(backend: &Arc<Backend>, registry: &Arc<Registry>, client: &mut ClientCapabilities) -> End {
    let opened = tokio::select! {
        opened = backend.opener.open(&backend.settings) => opened,
        () = registry.stopping() => return End::Asked { again: false },
    };
    let Wire { sender, receiver, control } = match opened {
        Ok(wire) => wire,
        Err(error) => return End::Lost(backend.words(&error.to_string())),
    };
    let peer = Arc::new(Peer::new(backend.name.clone(), sender));
    let mut pump = Pump { backend, registry, peer: peer.clone(), receiver };
    // The process is on its way already; the hello of the client normally comes while it starts.
    let _ = tokio::time::timeout(CLIENT_GRACE, client.wait_for(Option::is_some)).await;
    let declared = client.borrow_and_update().clone();
    let end = tokio::select! {
        end = pump.run() => end,
        end = talk(backend, registry, &peer, &control, client, declared) => end,
        // In order, as below: a session is deleted, a child may end by itself.
        () = registry.stopping() => End::Asked { again: false },
    };
    backend.peer.store(None);
    match &end {
        End::Lost(reason) => peer.end(&reason.to_string()),
        End::Asked { .. } => peer.end("the gateway ended the connection"),
    }
    if matches!(end, End::Lost(_)) {
        for line in control.stderr_tail().lines() {
            tracing::debug!(backend = %backend.name, "it wrote to stderr before: {line}");
        }
    }
    control.stop(STOP_GRACE).await;
    end
}

/// Moves messages from the wire to whoever they are for, until the wire ends.
struct Pump<'a> {
    backend: &'a Arc<Backend>,
    registry: &'a Arc<Registry>,
    peer: Arc<Peer>,
    receiver: Receiver,
}

impl Pump<'_> {
    fn hear(&self, raw: &Payload, about: Option<u64>) {
        self.peer.receive(raw, about, |message, client| {
            self.registry.spontaneous(self.backend, &self.peer, message, client);
        });
    }

    async fn run(&mut self) -> End {
        loop {
            match self.receiver.recv().await {
                Incoming::Message(raw) => self.hear(&raw, None),
                Incoming::About { id, message } => self.hear(&message, Some(id)),
                Incoming::Failed { id, error } => self.peer.fail(id, error),
                // On its own: reading lists needs this very pump.
                Incoming::Renewed => {
                    let (backend, registry) = (self.backend.clone(), self.registry.clone());
                    let peer = self.peer.clone();
                    tokio::spawn(async move {
                        peer.say_again(backend.settings.timeout).await;
                        read_again(&backend, &registry).await;
                    });
                }
                Incoming::Oversized { limit, answers } => {
                    tracing::warn!(backend = %self.backend.name, limit, "a message over the limit was discarded");
                    self.peer.oversized(limit, answers);
                }
                Incoming::Closed(reason) => return End::Lost(self.backend.words(&reason)),
            }
        }
    }
}

/// Shakes hands, lists, then keeps asking whether the server is well.
async fn talk(
    backend: &Arc<Backend>,
    registry: &Arc<Registry>,
    peer: &Arc<Peer>,
    control: &Control,
    client: &mut ClientCapabilities,
    declared: Option<Arc<str>>,
) -> End {
    let patience = backend.settings.timeout;
    let greeting = match listing::meet(peer, backend, declared.as_deref().unwrap_or("{}")).await {
        Ok(greeting) => greeting,
        Err(error) => return End::Lost(backend.words(&format!("the handshake failed: {error}"))),
    };
    let stateless = peer.era() == Era::Stateless;
    backend.shakes_hands.store(greeting.handshake, std::sync::atomic::Ordering::Relaxed);
    if !stateless {
        control.set_protocol_version(&greeting.version);
    }
    let unread = match offers(peer, &greeting, patience).await {
        Ok((mut offers, unread)) => {
            // What cannot be read now is what it was when it was read last.
            let known = registry.original(backend);
            unread.iter().for_each(|list| offers.set(*list, known.get(*list).to_vec()));
            registry.offer(backend, offers).await;
            unread
        }
        Err(error) => return End::Lost(backend.words(&format!("its lists cannot be read: {error}"))),
    };
    tracing::info!(backend = %backend.name, version = %greeting.version, pid = control.pid(), "backend is ready");
    let greeting_wants = greeting.clone();
    registry.greeted(backend, greeting);
    backend.peer.store(Some(peer.clone()));
    backend.status.send_replace(Status::Ready);
    registry.changed(backend);
    let listening = listing::listen(peer, &greeting_wants);
    tokio::pin!(listening);
    let mut listens = stateless;
    let rereading = reread(backend, registry, &unread);
    tokio::pin!(rereading);
    let mut incomplete = !unread.is_empty();
    let mut pings = true;
    let mut beat = tokio::time::interval(backend.settings.health_interval);
    beat.tick().await;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                if let Err(error) = is_well(backend, peer, &mut pings).await {
                    return End::Lost(backend.words(&format!("it no longer answers: {error}")));
                }
            }
            () = &mut rereading, if incomplete => incomplete = false,
            () = &mut listening, if listens => {
                // Not offered, or it ended: the lists are read again with the next connection.
                listens = false;
            }
            changed = client.changed(), if !stateless => {
                // Another client with other abilities: capabilities are said once per connection.
                if changed.is_err() || client.borrow_and_update().as_deref() != Some(declared.as_deref().unwrap_or("{}")) {
                    return End::Asked { again: changed.is_ok() };
                }
            }
        }
    }
}

/// Asks a server whether it is there. Whatever it answers, it is; and one that does not answer has many reasons not to: it works
/// on a call and does one thing at a time, or it knows no ping and is silent about that. So before it is given up it is asked
/// for something that it must know, and that is what it is asked from then on.
async fn is_well(backend: &Backend, peer: &Peer, pings: &mut bool) -> Result<(), PeerError> {
    let patience = backend.settings.timeout;
    let question = match peer.era() {
        Era::Stateless => Own::Discover,
        Era::Handshake if *pings => Own::Ping,
        Era::Handshake => Own::List(List::Tools),
    };
    let Err(error) = listing::ask(peer, question, None, patience).await else { return Ok(()) };
    match &error {
        PeerError::Wire(WireError::Status { .. } | WireError::Busy) => Ok(()),
        PeerError::Timeout { .. } if peer.may_be_silent(patience) => Ok(()),
        PeerError::Wire(WireError::Closed(_) | WireError::SessionLost | WireError::Unreachable(_)) => {
            Err(error)
        }
        _ if *pings && peer.era() == Era::Handshake => {
            listing::ask(peer, Own::List(List::Tools), None, patience).await.map_err(|_| error)?;
            *pings = false;
            tracing::info!(backend = %backend.name, "it does not answer a ping, and is there: it is asked for its tools instead");
            Ok(())
        }
        _ => Err(error),
    }
}

/// What a server offers, and the lists that it could not say. Without one of them the others are worth having; without any
/// the server is of no use.
async fn offers(
    peer: &Peer,
    greeting: &Greeting,
    patience: Duration,
) -> Result<(Offers, Vec<List>), PeerError> {
    let mut offers = Offers::default();
    let (mut read, mut unread) = (false, Vec::new());
    let mut first = None;
    for list in List::ALL {
        let capability = match list {
            List::Tools => "tools",
            List::Resources | List::Templates => "resources",
            List::Prompts => "prompts",
        };
        // Tools are asked for in any case: some servers forget to declare them.
        if list == List::Tools || greeting.has(capability) {
            match listing::drain(peer, list, patience).await {
                Ok(items) => {
                    read = true;
                    offers.set(list, items);
                }
                Err(PeerError::Wire(
                    error @ (WireError::Closed(_) | WireError::SessionLost | WireError::Unreachable(_)),
                )) => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::warn!(backend = %peer.name(), list = list.wire().1, "this list cannot be read, it is asked for again: {error}");
                    unread.push(list);
                    first.get_or_insert(error);
                }
            }
        }
    }
    match first {
        Some(error) if !read => Err(error),
        _ => Ok((offers, unread)),
    }
}

/// Reads all lists again, of a server that had forgotten the session: it may be another one by now. One at a time.
async fn read_again(backend: &Arc<Backend>, registry: &Arc<Registry>) {
    let (Some(peer), Some(greeting)) = (backend.peer(), registry.greeting(backend)) else { return };
    let Ok(_turn) = backend.rereading.try_lock() else { return };
    match offers(&peer, &greeting, backend.settings.timeout).await {
        Ok((offers, unread)) if unread.is_empty() => {
            registry.offer(backend, offers).await;
            registry.changed(backend);
            registry.remember(backend);
        }
        Ok(_) => {
            tracing::warn!(backend = %backend.name, "its lists cannot be read whole in the new session, the old ones stay")
        }
        Err(error) => {
            tracing::warn!(backend = %backend.name, "its lists cannot be read in the new session, the old ones stay: {error}");
        }
    }
}

/// Asks again for lists that could not be read, after growing pauses, until all are there.
async fn reread(backend: &Arc<Backend>, registry: &Arc<Registry>, unread: &[List]) {
    let mut unread = unread.to_vec();
    let mut pause = FIRST_REREAD;
    while !unread.is_empty() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let mut still = Vec::new();
        for list in unread {
            if refresh::refresh(backend, registry, &[list]).await.is_none() {
                still.push(list);
            }
        }
        unread = still;
    }
}
