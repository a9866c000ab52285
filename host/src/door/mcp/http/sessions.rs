//! The sessions of the handshake era: bounded in number, bound to the caller who opened them, and ended when unused.
//!
//! Each caller may have a share of them, which shrinks as they are taken. When there is no place for a newcomer, a session
//! in which nothing was ever asked makes room, taken from the caller with most of those; then an idle one, taken from the
//! caller with most sessions. One with a call under way, or with a stream that is read, never does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::conversation::{Conversation, Owner};
use super::super::subscribers::{Listener, Subscribers, Subscription};
use crate::call::shares::{Crowd, Look, Place, Shares, may_have};
use crate::call::{Principal, Share};
use crate::pipeline::Pipeline;

/// How long a client may take until it first asks something; after that its session may make room for any other.
const FIRST: Duration = Duration::from_secs(60);
/// Bytes that all sessions keep together: what their clients said of themselves, and what waits for them. Each caller may
/// have a share.
const MAX_KEPT: usize = 64 << 20;
/// So many callers are asked for a session that can go.
const ASKED: usize = 16;
/// The least time between two searches for unused sessions when one is opened.
const SWEEP: Duration = Duration::from_secs(1);

/// All open sessions of one mount.
#[derive(Debug)]
pub struct Sessions {
    pipeline: Arc<Pipeline>,
    subscribers: Arc<Subscribers>,
    /// At most so many at once, and how long each stays without a request, in milliseconds; a reload may change both.
    max: AtomicUsize,
    idle_ms: AtomicU64,
    began: Instant,
    kept: Arc<Shares>,
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    open: HashMap<Arc<str>, Open>,
    /// The same by caller, those apart in which nothing was asked.
    crowd: Crowd<(Share, Stage), Arc<str>>,
    swept: Option<Instant>,
}

/// Whether something was asked in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Stage {
    New,
    Used,
}

#[derive(Debug)]
struct Open {
    conversation: Arc<Conversation>,
    /// The caller who opened it; for everybody else the id names no session.
    owner: String,
    used: Instant,
    number: u64,
    _kept: Place,
    _subscription: Subscription,
}

impl Open {
    fn busy(&self) -> bool {
        self.conversation.listens() || !self.conversation.tasks().is_empty()
    }
}

impl Sessions {
    /// `idle`: how long a session stays without a request.
    #[must_use]
    pub fn new(
        pipeline: Arc<Pipeline>,
        subscribers: Arc<Subscribers>,
        max: usize,
        idle: Duration,
    ) -> Arc<Self> {
        let (began, kept) = (Instant::now(), Shares::new(MAX_KEPT));
        let (max, idle_ms) = (AtomicUsize::new(max), AtomicU64::new(milliseconds(idle)));
        Arc::new(Self { pipeline, subscribers, max, idle_ms, began, kept, room: Mutex::default() })
    }

    /// From now on there may be so many, and each stays so long. Those that are open stay, even if they are too many.
    pub fn bound(&self, max: usize, idle: Duration) {
        self.max.store(max, Ordering::Relaxed);
        self.idle_ms.store(milliseconds(idle), Ordering::Relaxed);
    }

    fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms.load(Ordering::Relaxed))
    }

    /// Open sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.room.lock().open.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a session in, if need be in the place of another.
    ///
    /// # Errors
    /// In words: its caller has as many as may be theirs, or there is no place.
    pub(super) fn add(&self, conversation: Arc<Conversation>, owner: &Principal) -> Result<(), &'static str> {
        if self.len() >= self.max() {
            self.sweep();
        }
        let share = owner.share();
        let kept = conversation.client_info().map_or(0, |client_info| client_info.length());
        let kept = self.kept.take(share, kept);
        let kept = kept
            .map_err(|_| "what your sessions keep of `clientInfo` and `capabilities` is too much: end one")?;
        conversation.count_kept(self.kept.clone(), share);
        conversation.belongs_to(Owner::Known(Arc::new(owner.clone())));
        let mut room = self.room.lock();
        let gone = self.made_room(&mut room, share)?;
        let listener: Arc<dyn Listener> = conversation.clone();
        let subscription = self.subscribers.subscribe(&listener);
        let id = conversation.session().id().clone();
        let number = room.crowd.insert((share, Stage::New), self.at(Instant::now()), id.clone());
        let owner = owner.identity();
        let used = Instant::now();
        room.open
            .insert(id, Open { conversation, owner, used, number, _kept: kept, _subscription: subscription });
        drop(room);
        if let Some(gone) = gone {
            tracing::debug!("a session made room for another");
            self.close(&gone);
        }
        Ok(())
    }

    /// Makes sure that there is a place for one more session of this caller. Returns the session that had to go for it.
    fn made_room(&self, room: &mut Room, share: Share) -> Result<Option<Open>, &'static str> {
        let held = room.held(share);
        let max = self.max();
        if may_have(held, 1, max.saturating_sub(room.open.len()), max) {
            return Ok(None);
        }
        let now = Instant::now();
        let victim = if held > 0 {
            // A caller who forgets sessions loses the forgotten ones.
            self.longest(room, (share, Stage::New), now).filter(|number| self.forgotten(room, *number, now))
        } else {
            self.of_another(room, now)
        };
        match victim {
            Some(number) => Ok(room.take(number)),
            None if held > 0 => Err("too many sessions of yours are open: end one with DELETE"),
            None => Err("too many sessions are open: try again later, or raise http.max_sessions"),
        }
    }

    /// A session that makes room for a caller who has none.
    fn of_another(&self, room: &mut Room, now: Instant) -> Option<u64> {
        for stage in [Stage::New, Stage::Used] {
            let most = room.crowd.largest().map(|(_, holder)| holder).filter(|(_, of)| *of == stage);
            let most: Vec<_> = most.take(ASKED).collect();
            for holder in most {
                let Some(number) = self.longest(room, holder, now) else { continue };
                // A caller's only session is kept, unless it was never used.
                if room.held(holder.0) > 1 || (stage == Stage::New && self.forgotten(room, number, now)) {
                    return Some(number);
                }
            }
        }
        None
    }

    /// The session that has rested longest of those.
    fn longest(&self, room: &mut Room, holder: (Share, Stage), now: Instant) -> Option<u64> {
        let Room { open, crowd, .. } = room;
        crowd.longest(holder, self.at(now), |id| {
            let Some(session) = open.get(id) else { return Look::Busy };
            if session.busy() {
                Look::Busy
            } else if holder.1 == Stage::New && session.conversation.session().used() {
                Look::Moved((holder.0, Stage::Used))
            } else {
                Look::Since(self.at(session.used))
            }
        })
    }

    /// Whether nothing was asked in a session for longer than a client takes to begin.
    fn forgotten(&self, room: &Room, number: u64, now: Instant) -> bool {
        let session = room.crowd.get(number).and_then(|id| room.open.get(id));
        session.is_some_and(|session| now.duration_since(session.used) > FIRST)
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn find(&self, id: &str, who: &Principal) -> Option<Arc<Conversation>> {
        let mut room = self.room.lock();
        let session = room.open.get_mut(id)?;
        if !who.is(&session.owner) {
            return None;
        }
        session.used = Instant::now();
        Some(session.conversation.clone())
    }

    /// Ends a session: its calls are cancelled and its connections closed.
    pub(super) fn end(&self, id: &Arc<str>) {
        let gone = self.room.lock().end(id);
        if let Some(gone) = gone {
            self.close(&gone);
        }
    }

    fn close(&self, gone: &Open) {
        gone.conversation.session().cancel_all();
        gone.conversation.detach();
        self.pipeline.forget(gone.conversation.session().id());
    }

    /// As [`Self::expire`], but not again for every newcomer when all places are taken.
    fn sweep(&self) {
        let now = Instant::now();
        let mut room = self.room.lock();
        if room.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP) {
            return;
        }
        room.swept = Some(now);
        drop(room);
        self.expire();
    }

    fn expire(&self) {
        let idle = self.idle();
        let mut room = self.room.lock();
        let mut late = Vec::new();
        for (id, session) in &mut room.open {
            if session.busy() {
                // The time without a request begins with its end.
                session.used = Instant::now();
            } else if session.used.elapsed() >= idle {
                late.push(id.clone());
            }
        }
        let late: Vec<Open> = late.iter().filter_map(|id| room.end(id)).collect();
        drop(room);
        for session in &late {
            session.conversation.detach();
            self.pipeline.forget(session.conversation.session().id());
        }
    }

    /// Ends unused sessions from time to time; at `stop` it ends all.
    pub(crate) async fn look_after(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let beat = (self.idle() / 4).clamp(Duration::from_millis(250), Duration::from_secs(60));
            tokio::select! {
                () = tokio::time::sleep(beat) => self.expire(),
                () = stop.cancelled() => break,
            }
        }
    }

    /// Waits for the calls under way, then cancels them.
    pub async fn drain(&self, grace: Duration) {
        let all: Vec<_> = self.room.lock().open.values().map(|open| open.conversation.clone()).collect();
        let ended = async {
            for conversation in &all {
                conversation.tasks().close();
                conversation.tasks().wait().await;
            }
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            all.iter().for_each(|conversation| conversation.session().cancel_all());
        }
        let room = std::mem::take(&mut *self.room.lock());
        room.open.values().for_each(|open| self.close(open));
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Room {
    /// How many sessions a caller has.
    fn held(&self, share: Share) -> usize {
        [Stage::New, Stage::Used].into_iter().map(|stage| self.crowd.held((share, stage))).sum()
    }

    fn take(&mut self, number: u64) -> Option<Open> {
        let id = self.crowd.remove(number)?;
        self.open.remove(&id)
    }

    fn end(&mut self, id: &Arc<str>) -> Option<Open> {
        let gone = self.open.remove(id)?;
        self.crowd.remove(gone.number);
        Some(gone)
    }
}
