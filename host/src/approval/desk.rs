//! What the rest of the gateway uses: asks, waits, decides and uses up, away from the threads that serve calls.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use super::action::{self, Action, Draft};
use super::keeper::Keeper;
use super::notes::{Event, Note, Notes};
use super::postgres::Postgres;
use super::store::{Caps, Changed, Store, StoreError, Summary};
use super::{Approval, Need, Person, Refusal, Review, State, Vote, display};
use crate::config;
use crate::files::Trust;
use crate::redact::Redaction;
use crate::state::Clock;

/// How long a waiting call sleeps at most before it looks at its approval without having been told: another gateway of the
/// same file may have taken the decision and died before it could tell.
const LOOK: Duration = Duration::from_secs(5);
/// How often old approvals are removed, in milliseconds.
const SWEEP_MS: u64 = 3_600_000;
/// Most of a list.
pub(super) const MOST: u32 = 10_000;
/// Longest note of a reviewer, in bytes.
const MAX_NOTE: usize = 500;

/// The approvals of this gateway, for all endpoints and all generations.
#[derive(Debug)]
pub struct Approvals {
    file: Option<(PathBuf, Trust)>,
    /// The database that is used instead.
    database: Option<config::Secret>,
    settings: ArcSwap<config::Approvals>,
    clock: Clock,
    redaction: Redaction,
    /// Opened when it is needed first, and again if that failed.
    store: Mutex<Option<Arc<Keeper>>>,
    /// The calls that wait, by approval.
    waiting: Mutex<HashMap<String, Waiters>>,
    swept_ms: AtomicU64,
    /// Where notes are left for those outside.
    notes: Notes,
}

#[derive(Debug, Default)]
struct Waiters {
    count: usize,
    changed: Arc<Notify>,
}

/// A question, and what it came to.
#[derive(Clone, Debug)]
pub struct Asked {
    pub approval: Approval,
    pub action: Action,
}

/// What runs: the stored params with what belongs to the present request, and who approved it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub params: String,
    pub approval: Approval,
}

/// An approval as people see it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub approval: Approval,
    /// The canonical text; see [`display`].
    pub text: String,
    /// What would be called.
    pub target: String,
    /// Where.
    pub backend: String,
}

/// A call that waits; counted until it is dropped.
#[derive(Debug)]
struct Place<'a> {
    approvals: &'a Approvals,
    id: &'a str,
    changed: Arc<Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.approvals.waiting.lock();
        if let Some(waiters) = waiting.get_mut(self.id) {
            waiters.count -= 1;
            if waiters.count == 0 {
                waiting.remove(self.id);
            }
        }
    }
}

impl Approvals {
    /// Approvals that are kept in this file; without one nobody can be asked.
    #[must_use]
    pub fn new(settings: config::Approvals, trust: Trust, clock: Clock, redaction: Redaction) -> Arc<Self> {
        Arc::new(Self {
            file: settings.path.clone().map(|path| (path, trust)),
            database: settings.postgres.clone(),
            settings: ArcSwap::from_pointee(settings),
            clock,
            redaction,
            store: Mutex::default(),
            waiting: Mutex::default(),
            swept_ms: AtomicU64::new(0),
            notes: Notes::default(),
        })
    }

    /// What happens to approvals from now on.
    #[must_use]
    pub fn notes(&self) -> broadcast::Receiver<Note> {
        self.notes.read()
    }

    /// The moment, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    fn note(&self, event: Event, id: &str) {
        self.notes.leave(event, id);
    }

    /// Ends what is over. Otherwise that happens when somebody asks next.
    pub(super) async fn end_overdue(self: &Arc<Self>) -> Result<(), Refusal> {
        let now_ms = self.clock.unix_ms();
        self.with(move |store| store.expire(now_ms)).await
    }

    /// Puts other limits in force; the file stays.
    pub fn bound(&self, settings: config::Approvals) {
        self.settings.store(Arc::new(settings));
    }

    /// The limits in force.
    #[must_use]
    pub fn settings(&self) -> Arc<config::Approvals> {
        self.settings.load_full()
    }

    /// What a guard wants, in words that may be kept and shown.
    #[must_use]
    pub fn need(&self, guard: &str, request: &crate::plugin::ApprovalRequest) -> Need {
        Need::new(guard, request, &self.settings.load(), &self.redaction)
    }

    /// Asks for an approval of a call: the one that the caller names, the one that is open already, or a new one.
    ///
    /// # Errors
    /// `not_exact`, `too_large`, `too_many_pending`, `approvals_unavailable`; of one that the caller names what became of it.
    pub async fn ask(
        self: &Arc<Self>,
        draft: &Draft<'_>,
        needs: Vec<Need>,
        generation: u64,
    ) -> Result<Asked, Refusal> {
        let action = Action::new(draft)?;
        let named = action::named(draft.call.params.get());
        let named = named.as_deref().map(checked).transpose()?;
        let requester = Person {
            subject: draft.call.principal.subject.clone(),
            role: draft.call.principal.role.clone(),
            door: draft.call.door.to_owned(),
        };
        let target = (draft.call.target.backend.clone(), draft.call.target.name.clone());
        let settings = self.settings.load();
        let caps = Caps {
            of_caller: settings.max_pending_per_caller,
            of_target: settings.max_pending_per_target,
            in_all: MOST,
        };
        let now_ms = self.clock.unix_ms();
        let keep = u64::try_from(settings.keep.as_millis()).unwrap_or(u64::MAX);
        let sweep = self.is_time_to_sweep(now_ms).then(|| now_ms.saturating_sub(keep));
        drop(settings);
        let this = self.clone();
        let asked = self.with(move |store| {
            if let Some(before_ms) = sweep {
                let removed = store.forget(before_ms)?;
                tracing::debug!(removed, "old approvals were removed");
            }
            if let Some(id) = named {
                let found = store.find(&id, now_ms)?.map(|(approval, _, _)| approval);
                return Ok(continued(found, &id, &requester, action));
            }
            let id = format!("appr_{}", uuid::Uuid::now_v7().simple());
            let new = Approval::new(id, action.digest().to_owned(), requester, needs, generation, now_ms);
            let own = new.id.clone();
            let asked = store.ask(&action, (&target.0, &target.1), caps, new, now_ms)?;
            if asked.as_ref().is_ok_and(|asked| asked.id == own) {
                count("requested");
                this.note(Event::Requested, &own);
            }
            Ok(asked.map(|approval| Asked { approval, action }))
        });
        asked.await?
    }

    /// Waits until an approval is not pending any more, for as long as `patience`. Gives it as it is then.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn decided(self: &Arc<Self>, id: &str, patience: Duration) -> Result<Approval, Refusal> {
        let until = tokio::time::Instant::now() + patience;
        // Before the first look, so that no decision falls in between.
        let place = self.place(id);
        loop {
            let changed = place.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let approval = self.get(id).await?;
            let now_ms = self.clock.unix_ms();
            let left = Duration::from_millis(approval.decide_by_ms.saturating_sub(now_ms));
            let now = tokio::time::Instant::now();
            if approval.state != State::Pending || now >= until {
                return Ok(approval);
            }
            // One millisecond more, so that its time is over when it is looked at.
            let sleep = (until - now).min(LOOK).min(left + Duration::from_millis(1));
            let _either = tokio::time::timeout(sleep, changed).await;
        }
    }

    /// Takes a person's decision.
    ///
    /// # Errors
    /// See [`Approval::review`]; `unknown_approval`.
    pub async fn review(
        self: &Arc<Self>,
        id: &str,
        by: Person,
        vote: Vote,
        digest_seen: &str,
        note: &str,
    ) -> Result<Approval, Refusal> {
        let note = self.redaction.excerpt(note, MAX_NOTE);
        let at_ms = self.clock.unix_ms();
        let review = Review { by, vote, note, at_ms, digest_seen: digest_seen.trim().to_owned() };
        let changed = self.change(id, move |approval| approval.review(review)).await?;
        changed.result.map(|_| changed.approval)
    }

    /// Notes that a capability token for an approval is handed out; gives the moment until which it holds, in milliseconds
    /// since 1970.
    ///
    /// # Errors
    /// See [`Approval::hand_out`]; `unknown_approval`.
    pub async fn hand_out(self: &Arc<Self>, id: &str, most: Duration) -> Result<u64, Refusal> {
        let now_ms = self.clock.unix_ms();
        let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let changed = self.change(id, move |approval| approval.hand_out(most_ms, now_ms)).await?;
        changed.result
    }

    /// Takes a request back.
    ///
    /// # Errors
    /// It has ended already; `unknown_approval`.
    pub async fn cancel(self: &Arc<Self>, id: &str, why: &str) -> Result<Approval, Refusal> {
        let (why, now_ms) = (self.redaction.excerpt(why, MAX_NOTE), self.clock.unix_ms());
        let changed = self.change(id, move |approval| approval.cancel(&why, now_ms)).await?;
        changed.result.map(|()| changed.approval)
    }

    /// Uses an approval up for one call. When this returns it is on the disk, and no other call can use it.
    ///
    /// # Errors
    /// See [`Approval::consume`].
    pub async fn consume(
        self: &Arc<Self>,
        id: &str,
        digest: &str,
        needs: Vec<Need>,
        call: &str,
        present: &str,
    ) -> Result<Stored, Refusal> {
        let (digest, call, now_ms) = (digest.to_owned(), call.to_owned(), self.clock.unix_ms());
        let changed =
            self.change(id, move |approval| approval.consume(&digest, &needs, &call, now_ms)).await?;
        changed.result?;
        let params = action::joined(&changed.params, present)?;
        Ok(Stored { params, approval: changed.approval })
    }

    /// An approval as it is.
    ///
    /// # Errors
    /// `unknown_approval`, `approvals_unavailable`.
    pub async fn get(self: &Arc<Self>, id: &str) -> Result<Approval, Refusal> {
        self.find(id).await.map(|(approval, _, _)| approval)
    }

    /// An approval as people see it.
    ///
    /// # Errors
    /// `unknown_approval`, `approvals_unavailable`.
    pub async fn show(self: &Arc<Self>, id: &str) -> Result<Shown, Refusal> {
        let (approval, action, ran) = self.find(id).await?;
        let text = display::text(&approval, &action, ran, |raw| self.redaction.without_known(raw));
        let stored: serde_json::Value = serde_json::from_str(&action).unwrap_or_default();
        let at = |pointer: &str| {
            stored.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
        };
        Ok(Shown { approval, text, target: at("/target/name"), backend: at("/target/backend") })
    }

    /// What waits, oldest first; or the newest of all.
    ///
    /// # Errors
    /// `approvals_unavailable`.
    pub async fn list(self: &Arc<Self>, all: bool, limit: u32) -> Result<Vec<Summary>, Refusal> {
        let now_ms = self.clock.unix_ms();
        self.with(move |store| store.list(all, limit.min(MOST), now_ms)).await
    }

    /// How many calls wait for this approval.
    #[cfg(test)]
    pub(super) fn waiters(&self, id: &str) -> usize {
        self.waiting.lock().get(id).map_or(0, |waiters| waiters.count)
    }

    async fn find(self: &Arc<Self>, id: &str) -> Result<(Approval, String, u64), Refusal> {
        let (wanted, now_ms) = (checked(id)?, self.clock.unix_ms());
        let found = self.with(move |store| store.find(&wanted, now_ms)).await?;
        found.ok_or_else(|| unknown(id))
    }

    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        id: &str,
        change: impl FnOnce(&mut Approval) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Changed<T>, Refusal> {
        let wanted = checked(id)?;
        let changed = self.with(move |store| store.change(&wanted, change)).await?;
        if let Some(Changed { approval, moved: true, result: Ok(_), .. }) = &changed {
            count(approval.state.as_str());
            self.note(Event::of(approval.state), &approval.id);
        }
        // Also if nothing changed: another gateway may have changed it, and its decision is repeated here.
        if let Some(waiters) = self.waiting.lock().get(id) {
            waiters.changed.notify_waiters();
        }
        changed.ok_or_else(|| unknown(id))
    }

    /// Works with the store on a thread for that.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Keeper) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let store = this.open()?;
            let done = work(&store).map_err(|error| Refusal::unavailable(crate::text::with_causes(&error)));
            for id in store.ended() {
                count("expired");
                this.note(Event::Expired, &id);
            }
            done
        });
        done.await.map_err(Refusal::unavailable)?
    }

    fn open(&self) -> Result<Arc<Keeper>, Refusal> {
        if self.file.is_none() && self.database.is_none() {
            return Err(Refusal::new(
                "approvals_unavailable",
                "nobody can be asked, because there is no place for approvals: set [approvals] path",
            ));
        }
        let mut store = self.store.lock();
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        let opened = match (&self.database, &self.file) {
            (Some(url), _) => Postgres::open(url.expose())
                .map(Keeper::Postgres)
                .map_err(|error| Refusal::unavailable(crate::text::with_causes(&error)))?,
            (None, Some((path, trust))) => Store::open(path, trust).map(Keeper::Sqlite).map_err(|error| {
                Refusal::unavailable(format_args!("{}: {}", path.display(), crate::text::with_causes(&error)))
            })?,
            (None, None) => return Err(Refusal::unavailable("there is no place for them")),
        };
        Ok(store.insert(Arc::new(opened)).clone())
    }

    fn place<'a>(&'a self, id: &'a str) -> Place<'a> {
        let mut waiting = self.waiting.lock();
        let waiters = waiting.entry(id.to_owned()).or_default();
        waiters.count += 1;
        let changed = waiters.changed.clone();
        drop(waiting);
        Place { approvals: self, id, changed }
    }

    fn is_time_to_sweep(&self, now_ms: u64) -> bool {
        let last = self.swept_ms.load(Ordering::Relaxed);
        now_ms.saturating_sub(last) >= SWEEP_MS
            && self.swept_ms.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// For people who watch: how many were asked for, and what became of them.
fn count(event: &'static str) {
    metrics::counter!("sentinel_approvals_total", "event" => event).increment(1);
}

/// The approval that a caller names, if it is theirs, for this very call, and not over.
fn continued(
    found: Option<Approval>,
    id: &str,
    requester: &Person,
    action: Action,
) -> Result<Asked, Refusal> {
    // That there is one of somebody else is nobody's business.
    let approval = found
        .filter(|approval| approval.requester.subject == requester.subject)
        .ok_or_else(|| unknown(id))?;
    if approval.digest != action.digest() {
        return Err(Refusal::new(
            "changed",
            format!(
                "{id} was asked for another call: what is called now differs from it, in its arguments, its target or its \
                 caller; without naming {id} it is a request of its own"
            ),
        ));
    }
    if approval.state.is_final() { Err(approval.over()) } else { Ok(Asked { approval, action }) }
}

/// An id that can be one of an approval.
fn checked(id: &str) -> Result<String, Refusal> {
    let digits = id.strip_prefix("appr_").filter(|rest| rest.len() == 32);
    match digits {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(id.to_owned()),
        _ => Err(unknown(id)),
    }
}

/// The refusal of an id that is none.
pub(crate) fn unknown(id: &str) -> Refusal {
    let id: String = id.chars().take(64).collect();
    Refusal::new("unknown_approval", format!("there is no approval {id:?}"))
}
