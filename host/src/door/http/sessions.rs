//! The sessions of the handshake era: bounded, bound to whoever opened them, and gone when nobody uses them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::conversation::Conversation;
use super::super::hub::{Hub, Listener, Membership};
use crate::call::Principal;
use crate::pipeline::Pipeline;

/// With fewer sessions than this there is nothing to share.
const FEW: usize = 8;

/// All open sessions of one mount.
#[derive(Debug)]
pub struct Sessions {
    pipeline: Arc<Pipeline>,
    hub: Arc<Hub>,
    max: usize,
    idle: Duration,
    open: Mutex<HashMap<Arc<str>, Open>>,
}

#[derive(Debug)]
struct Open {
    conversation: Arc<Conversation>,
    /// Whoever else brings the id is not let in.
    owner: String,
    used: Instant,
    _membership: Membership,
}

impl Sessions {
    /// `idle`: how long a session stays without a request.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, hub: Arc<Hub>, max: usize, idle: Duration) -> Arc<Self> {
        Arc::new(Self { pipeline, hub, max, idle, open: Mutex::default() })
    }

    /// Open sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// False if there are too many, even after those are gone that nobody used.
    pub(super) fn add(&self, conversation: Arc<Conversation>, owner: &Principal) -> bool {
        if self.len() >= self.max {
            self.expire();
        }
        let owner = owner.identity();
        let mut open = self.open.lock();
        // Among many, one caller leaves a quarter to others.
        let share = if self.max < FEW { self.max } else { self.max / 4 * 3 };
        let theirs = open.values().filter(|session| session.owner == owner).count();
        if open.len() >= self.max || theirs >= share {
            return false;
        }
        let listener: Arc<dyn Listener> = conversation.clone();
        let membership = self.hub.join(&listener);
        let id = conversation.session().id().clone();
        open.insert(id, Open { conversation, owner, used: Instant::now(), _membership: membership });
        true
    }

    pub(super) fn find(&self, id: &str, who: &Principal) -> Option<Arc<Conversation>> {
        let mut open = self.open.lock();
        let session = open.get_mut(id)?;
        if !who.is(&session.owner) {
            return None;
        }
        session.used = Instant::now();
        Some(session.conversation.clone())
    }

    /// Ends a session: its calls are cancelled and its connections closed.
    pub(super) fn end(&self, id: &Arc<str>) {
        let gone = self.open.lock().remove(id);
        if let Some(gone) = gone {
            self.close(&gone);
        }
    }

    fn close(&self, gone: &Open) {
        gone.conversation.session().cancel_all();
        gone.conversation.leave();
        self.pipeline.forget(gone.conversation.session().id());
    }

    fn expire(&self) {
        let mut late = Vec::new();
        self.open.lock().retain(|_, session| {
            let busy = session.conversation.listens() || !session.conversation.tasks().is_empty();
            if busy {
                // The time without a request begins with its end.
                session.used = Instant::now();
            }
            let keep = busy || session.used.elapsed() < self.idle;
            if !keep {
                late.push(session.conversation.clone());
            }
            keep
        });
        for conversation in late {
            conversation.leave();
            self.pipeline.forget(conversation.session().id());
        }
    }

    /// Looks for sessions nobody uses, until `stop`; then ends all.
    pub async fn look_after(self: Arc<Self>, stop: CancellationToken) {
        let mut beat =
            tokio::time::interval((self.idle / 4).clamp(Duration::from_millis(250), Duration::from_secs(60)));
        loop {
            tokio::select! {
                _ = beat.tick() => self.expire(),
                () = stop.cancelled() => break,
            }
        }
    }

    /// Waits for the calls under way, then cancels them.
    pub async fn drain(&self, grace: Duration) {
        let all: Vec<_> = self.open.lock().values().map(|open| open.conversation.clone()).collect();
        let ended = async {
            for conversation in &all {
                conversation.tasks().close();
                conversation.tasks().wait().await;
            }
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            all.iter().for_each(|conversation| conversation.session().cancel_all());
        }
        let open: Vec<_> = self.open.lock().drain().map(|(_, open)| open).collect();
        open.iter().for_each(|open| self.close(open));
    }
}
