//! What stands between a client and the servers without a request: streams, subscriptions, what servers say of their own
//! accord. It was allowed once; whether it still is has to be asked again whenever something is switched off or on, and
//! whenever another generation is in force.

use std::sync::Arc;

use super::Pipeline;
use super::view::Looker;
use crate::call::{Denial, Principal, Target, TargetKind};
use crate::mcp::catalog::List;
use crate::plugin::Row;

impl Pipeline {
    /// Whether a caller may keep a stream or the like open. It is no call, so the guards are not asked.
    ///
    /// # Errors
    /// The caller is switched off, or everybody is.
    pub(crate) fn may_stand(&self, who: &Principal) -> Result<(), Denial> {
        self.current().policy().kill().check_caller(who)
    }

    /// The backend that a resource is at, for a caller who has just subscribed to it.
    pub(crate) fn home_of(&self, who: &Principal, uri: &str) -> Option<Arc<str>> {
        let found = self.lookup(&self.current(), TargetKind::Resource, uri, who)?;
        Some(found.target.backend)
    }

    /// Whether a caller may still hear of a resource at this backend: neither is switched off, and a list would show it. What
    /// policies cannot judge, and what the backend no longer has, is not heard of. Asks plugins, so it is for threads that may
    /// block.
    pub(crate) fn may_hear_of(
        &self,
        (who, session, door): (&Arc<Principal>, &Arc<str>, &'static str),
        backend: &Arc<str>,
        uri: &str,
    ) -> bool {
        let generation = self.current();
        let target = Target {
            kind: TargetKind::Resource,
            name: uri.into(),
            backend: backend.clone(),
            upstream: uri.into(),
        };
        if generation.find(backend).is_none() {
            return false;
        }
        let looker = Looker { who: who.clone(), session, door };
        let call = Arc::new(looker.call(self.audit.next_id(), List::Resources.wire().0));
        let policy = generation.policy();
        if policy.kill().check(&call, std::slice::from_ref(&target)).is_err() {
            return false;
        }
        let rows = [Row { kind: TargetKind::Resource, names: target.names() }];
        policy.visible(&call, &rows).is_ok_and(|visible| visible == [true])
    }

    /// Ends a subscription at its server, though the client did not ask for that. `sole`: the session is the one client of a
    /// gateway on stdio, whose connections are the shared ones.
    pub(crate) fn unsubscribe(&self, (session, sole): (&Arc<str>, bool), backend: &str, uri: &str) {
        self.fleet.unsubscribe((session, sole), backend, uri);
    }

    /// Has the servers that are switched off say nothing to clients any more, and the others speak again.
    pub(crate) fn mute(&self) {
        let generation = self.current();
        self.fleet.mute(|backend| generation.policy().kill().is_off(backend));
    }
}
