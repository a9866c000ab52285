//! Waiting for backends that have just been started: a client's first list should be whole, and most clients never ask again.
//!
//! Nothing is waited for that is remembered from an earlier start, nothing past the time that the operator gave, and nothing
//! that has failed once and is not tried again at once.

use std::sync::Arc;
use std::time::Instant;

use super::{Merging, Registry};
use crate::backend::mcp::{PAUSE_PATIENCE, Server};

impl Registry {
    /// Waits until every backend is up, has failed once or is remembered; never past the time given after the start. The
    /// lists are then as whole as they can be.
    pub async fn settled(&self) {
        let deadline = self.started + self.patience;
        self.until(deadline, |registry, merging| merging.settled || registry.all_known(merging)).await;
        let mut merging = self.merging.lock();
        if !merging.settled {
            merging.settled = true;
            // A backend that is not there by now keeps no name out of the first list.
            merging.impatient |= self.started.elapsed() >= self.patience;
            // Under the lock: a task that finds it settled finds the lists, too.
            self.merge(&mut merging);
        }
    }

    /// The same for what a server says of itself, which is less: it may take half of the time. A client that waits for its
    /// greeting and then for its first list waits no longer than for one of them, and a single request is never held for
    /// longer than the shortest time-outs of clients.
    pub(crate) async fn introduced(&self) {
        let deadline = self.started + self.patience / 2;
        self.until(deadline, |registry, merging| merging.settled || registry.all_known(merging)).await;
    }

    /// Whether [`Self::introduced`] would wait.
    #[must_use]
    pub(crate) fn is_introduced(&self) -> bool {
        let merging = self.merging.lock();
        merging.settled || self.started.elapsed() >= self.patience / 2 || self.all_known(&merging)
    }

    /// Waits until every backend has come up or failed since the start, remembered or not, within the same time: what had to
    /// be corrected of what is remembered is corrected by then, and is told once.
    pub async fn met(&self) {
        self.until(self.started + self.patience, |registry, _| registry.all_met()).await;
    }

    pub(super) async fn until(&self, deadline: tokio::time::Instant, done: impl Fn(&Self, &Merging) -> bool) {
        let mut moves = self.moves.subscribe();
        let all = async {
            loop {
                moves.borrow_and_update();
                if done(self, &self.merging.lock()) || moves.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout_at(deadline, all) => {}
            () = self.stopping() => {}
        }
    }

    /// Whether it is known of every backend what it offers, or that it offers nothing for now.
    pub(super) fn all_known(&self, merging: &Merging) -> bool {
        merging.recalled && self.backends.iter().all(|backend| backend.is_known())
    }

    fn all_met(&self) -> bool {
        self.backends.iter().all(|backend| backend.has_failed() || backend.has_spoken())
    }

    /// The backends that have not said since the start what they offer, in the file's order.
    #[must_use]
    pub fn unlisted(&self) -> Vec<Arc<Server>> {
        self.backends.iter().filter(|backend| !backend.has_spoken()).cloned().collect()
    }

    /// Those of them that may come to offer something under this name.
    #[must_use]
    pub(crate) fn may_offer(&self, name: &str) -> Vec<Arc<Server>> {
        let begins =
            |backend: &Server| name.strip_prefix(&*backend.name).is_some_and(|rest| rest.starts_with('_'));
        let somebodys = self.backends.iter().any(|backend| begins(backend));
        let mut found = self.unlisted();
        let plain = |backend: &Arc<Server>| {
            let member = self.place(backend).and_then(|place| self.members.get(place));
            member.is_some_and(|member| !member.settings.always_prefix)
        };
        found.retain(|backend| if somebodys { begins(backend) } else { plain(backend) });
        found
    }

    /// Whether one of these may have been listed in a moment.
    #[must_use]
    pub(crate) fn are_coming(&self, backends: &[Arc<Server>]) -> bool {
        let soon = Instant::now() + PAUSE_PATIENCE;
        backends.iter().any(|backend| backend.is_coming(soon))
    }

    /// Whether the names of backends that are not known are still kept for them.
    #[must_use]
    pub(crate) fn is_patient(&self) -> bool {
        !self.merging.lock().impatient && !self.backends.iter().all(|backend| backend.is_known())
    }
}
