//! Connections of their own for those who need one: in the handshake era capabilities, log level and subscriptions
//! belong to a connection, and a server's question does not say which request caused it. They are opened on demand,
//! bounded, and closed when nobody has used them for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peer::{Peer, Request};
use super::wire::{Control, Incoming, Receiver, Wire};
use super::{Backend, BackendError, PeerError, listing};
use crate::mcp::client::{Affinity, Client};
use crate::mcp::payload::Payload;

/// How long a stopped server gets to go by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// The connections of one backend that are not shared.
#[derive(Debug, Default)]
pub(super) struct Links {
    held: Mutex<HashMap<Affinity, Vec<Arc<Slot>>>>,
    tasks: TaskTracker,
}

/// One connection, or the place of one that is being made.
#[derive(Debug)]
pub(super) struct Slot {
    peer: OnceCell<Arc<Peer>>,
    /// Leased: one call at a time.
    busy: AtomicBool,
    used: Mutex<Instant>,
    /// Whose connection it is, for what the server says between calls.
    owner: Mutex<Option<Arc<dyn Client>>>,
    end: CancellationToken,
}

/// A connection in use by a call.
#[derive(Debug)]
pub(super) struct Held(Arc<Slot>);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.used.lock() = Instant::now();
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Slot {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            peer: OnceCell::new(),
            busy: AtomicBool::new(true),
            used: Mutex::new(Instant::now()),
            owner: Mutex::default(),
            end: CancellationToken::new(),
        })
    }

    fn idle_for(&self) -> Option<Duration> {
        let working = self.peer.get().is_some_and(|peer| peer.newest().is_some());
        (!working).then(|| self.used.lock().elapsed())
    }
}

impl Links {
    /// A place for a call: the session's own, or a free one for callers alike. None if there are too many.
    fn place(&self, affinity: &Affinity, limit: usize) -> Option<Arc<Slot>> {
        let mut held = self.held.lock();
        let lease = matches!(affinity, Affinity::Lease(_));
        let found = held.get(affinity).and_then(|slots| {
            slots.iter().find(|slot| !lease || !slot.busy.swap(true, Ordering::AcqRel)).cloned()
        });
        if found.is_some() {
            return found;
        }
        if held.values().map(Vec::len).sum::<usize>() >= limit {
            // The leased one that has been idle longest makes room; a session's own holds state and stays.
            let (_, idle) = held
                .iter()
                .filter(|(affinity, _)| matches!(affinity, Affinity::Lease(_)))
                .flat_map(|(_, slots)| slots)
                .filter(|slot| !slot.busy.load(Ordering::Acquire))
                .filter_map(|slot| Some((slot.idle_for()?, slot)))
                .max_by_key(|(idle, _)| *idle)?;
            let idle = idle.clone();
            idle.end.cancel();
            held.values_mut().for_each(|slots| slots.retain(|slot| !Arc::ptr_eq(slot, &idle)));
        }
        let slot = Slot::new();
        held.entry(affinity.clone()).or_default().push(slot.clone());
        Some(slot)
    }

    fn forget(&self, gone: &Arc<Slot>) {
        let mut held = self.held.lock();
        held.values_mut().for_each(|slots| slots.retain(|slot| !Arc::ptr_eq(slot, gone)));
        held.retain(|_, slots| !slots.is_empty());
    }

    /// The connection of a session, if it has one.
    pub(super) fn of(&self, session: &Arc<str>) -> Option<Arc<Peer>> {
        let held = self.held.lock();
        held.get(&Affinity::Session(session.clone()))?.first()?.peer.get().cloned()
    }

    /// Runs something that ends with the backend.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends a session's connection.
    pub(super) fn end(&self, affinity: &Affinity) {
        if let Some(slots) = self.held.lock().remove(affinity) {
            slots.iter().for_each(|slot| slot.end.cancel());
        }
    }

    /// Ends all and waits for their processes to be gone.
    pub(super) async fn stop(&self) {
        let all: Vec<_> = self.held.lock().drain().flat_map(|(_, slots)| slots).collect();
        all.iter().for_each(|slot| slot.end.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Backend {
    /// The connection this call needs to a server that shook hands.
    pub(super) async fn own(
        self: &Arc<Self>,
        affinity: &Affinity,
        client: &Arc<dyn Client>,
    ) -> Result<(Arc<Peer>, Held), BackendError> {
        let limit = self.settings.max_connections;
        let Some(slot) = self.links.place(affinity, limit) else {
            return Err(BackendError::Busy { backend: self.name.clone(), limit });
        };
        let held = Held(slot.clone());
        *slot.used.lock() = Instant::now();
        if matches!(affinity, Affinity::Session(_)) {
            *slot.owner.lock() = Some(client.clone());
        }
        // One opens, the others wait for it; after a failure the next one tries again.
        match slot.peer.get_or_try_init(|| self.connect(&slot, client)).await {
            Ok(peer) => Ok((peer.clone(), held)),
            Err(error) => {
                drop(held);
                self.links.forget(&slot);
                Err(self.failed(error))
            }
        }
    }

    async fn connect(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        client: &Arc<dyn Client>,
    ) -> Result<Arc<Peer>, PeerError> {
        let Wire { sender, receiver, control } = self.opener.open(&self.settings)?;
        let peer = Arc::new(Peer::new(sender));
        let (greeted, version) = tokio::sync::oneshot::channel();
        let care = care(self.clone(), slot.clone(), peer.clone(), receiver, control, version);
        self.links.tasks.spawn(care);
        let patience = self.settings.timeout;
        let hello = client.hello();
        let greeting = match listing::greet(&peer, hello.capabilities.get(), patience).await {
            Ok(greeting) => greeting,
            Err(error) => {
                slot.end.cancel();
                return Err(error);
            }
        };
        // The task that looks after the connection is there as long as its slot.
        let _ = greeted.send(greeting.version.clone());
        if let Some(level) = hello.log_level.as_ref().filter(|_| greeting.has("logging")) {
            let params = format!("{{\"level\":{}}}", level.get());
            let set = Request {
                method: "logging/setLevel",
                params: Some(&params),
                headers: Vec::new(),
                client: client.clone(),
                patience,
            };
            peer.request(set).await?;
        }
        tracing::debug!(backend = %self.name, "a connection of its own");
        Ok(peer)
    }
}

/// Looks after one connection until it ends, is ended, or nobody uses it.
async fn care(
    backend: Arc<Backend>,
    slot: Arc<Slot>,
    peer: Arc<Peer>,
    mut receiver: Receiver,
    control: Control,
    version: tokio::sync::oneshot::Receiver<String>,
) {
    let idle = backend.settings.idle_timeout;
    let mut beat = tokio::time::interval((idle / 2).max(Duration::from_millis(100)));
    tokio::pin!(version);
    let mut greeted = false;
    let reason = loop {
        tokio::select! {
            () = slot.end.cancelled() => break "the session ended".to_owned(),
            version = &mut version, if !greeted => {
                greeted = true;
                if let Ok(version) = version {
                    control.set_protocol_version(&version);
                }
            }
            _ = beat.tick() => {
                if !slot.busy.load(Ordering::Acquire) && slot.idle_for().is_some_and(|time| time > idle) {
                    break "nobody used it".to_owned();
                }
            }
            incoming = receiver.recv() => match incoming {
                Incoming::Message(raw) => hear(&backend, &slot, &peer, &raw, None),
                Incoming::About { id, message } => hear(&backend, &slot, &peer, &message, Some(id)),
                Incoming::Failed { id, error } => peer.fail(id, error),
                Incoming::Oversized { limit, answers } => peer.oversized(limit, answers),
                Incoming::Closed(reason) => break reason,
            }
        }
    };
    backend.links.forget(&slot);
    slot.owner.lock().take();
    peer.end(&reason);
    tracing::debug!(backend = %backend.name, "a connection of its own ended: {reason}");
    control.stop(STOP_GRACE).await;
}

fn hear(backend: &Arc<Backend>, slot: &Slot, peer: &Arc<Peer>, raw: &Payload, about: Option<u64>) {
    let Some((message, client)) = peer.receive(raw, about) else { return };
    let client = client.or_else(|| peer.newest()).or_else(|| slot.owner.lock().clone());
    // What is offered is read over the shared connection, which hears of it too.
    if !super::is_list_change(&message) {
        super::pass_on(&backend.name, peer, client, message);
    }
}
