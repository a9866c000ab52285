//! A caller's credential and what an authenticator made of it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::chain::Chain;
use crate::call::{Credential, Denial, DenialKind, Principal};
use crate::plugin::Auth;
use crate::queue::Budget;

/// Bytes of notifications and questions that may wait for one caller to read them, in all of its sessions together.
const UNREAD_BYTES: u32 = 8 << 20;

/// A caller at a door. The authenticator's answer is kept until it expires, so that a call costs only a comparison.
#[derive(Debug)]
pub struct Caller {
    /// The credential; none for a caller who is remembered beyond the request that brought it.
    credential: ArcSwapOption<Credential>,
    known: ArcSwapOption<Known>,
    unread: Budget,
}

/// The epoch of what does not depend on any authenticator. No policy gets there.
const ANY: u64 = u64::MAX;

#[derive(Debug)]
struct Known {
    principal: Arc<Principal>,
    until_ms: u64,
    /// Who said so.
    epoch: u64,
}

/// A point in time, and the number of the authenticators that count then; equal numbers mean the same authenticators.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) epoch: u64,
    pub(super) ms: u64,
}

impl Caller {
    #[must_use]
    pub fn new(credential: Credential) -> Self {
        Self {
            credential: ArcSwapOption::from_pointee(credential),
            known: ArcSwapOption::empty(),
            unread: Budget::new(UNREAD_BYTES),
        }
    }

    /// A caller whom nobody asks who they are, because what they call is for everybody.
    #[must_use]
    pub(crate) fn anonymous(credential: Credential, principal: Principal) -> Self {
        let known = Known { principal: Arc::new(principal), until_ms: u64::MAX, epoch: ANY };
        Self { known: ArcSwapOption::from_pointee(known), ..Self::new(credential) }
    }

    /// A caller whom a door knows by another proof than a credential, as the operator's file says.
    #[must_use]
    pub(crate) fn vouched(credential: Credential, principal: Principal) -> Self {
        Self::anonymous(credential, principal)
    }

    /// A caller whom an authenticator has accepted for ever.
    #[cfg(test)]
    pub(crate) fn accepted(credential: Credential, principal: Principal) -> Self {
        let known = Known { principal: Arc::new(principal), until_ms: u64::MAX, epoch: 0 };
        Self { known: ArcSwapOption::from_pointee(known), ..Self::new(credential) }
    }

    /// The same caller has another credential from now on: the one client on stdio, whose credential the configuration
    /// names.
    pub fn bring(&self, credential: Credential) {
        self.credential.store(Some(Arc::new(credential)));
        self.known.store(None);
    }

    /// Whether the credential is no longer at hand, and only who the caller is.
    #[must_use]
    pub fn is_remembered(&self) -> bool {
        self.credential.load().is_none()
    }

    /// The budget for messages that wait until this caller reads them.
    #[must_use]
    pub fn unread(&self) -> &Budget {
        &self.unread
    }

    /// The same caller, with unread messages counted in this budget: that of the same person with another token.
    #[must_use]
    pub fn counted_in(self, unread: &Budget) -> Self {
        Self { unread: unread.clone(), ..self }
    }

    /// The same caller without the credential, to be remembered: the identity may stay in memory for hours, the token
    /// may not. `None` for a caller whom no authenticator has accepted.
    #[must_use]
    pub fn remembered(&self) -> Option<Self> {
        let known = ArcSwapOption::from(Some(self.known.load_full()?));
        Some(Self { credential: ArcSwapOption::empty(), known, unread: self.unread.clone() })
    }

    /// A remembered caller with the credential of this request, because what is known of the caller ends soon.
    #[must_use]
    pub fn again(&self, credential: Credential) -> Self {
        let known = ArcSwapOption::from(self.known.load_full());
        Self { credential: ArcSwapOption::from_pointee(credential), known, unread: self.unread.clone() }
    }

    /// Who the caller is, if that is known to hold until that moment.
    pub(super) fn known_until(&self, moment: Moment) -> Option<Arc<Principal>> {
        let known = self.known.load();
        let holds = |known: &&Arc<Known>| {
            moment.ms < known.until_ms && (known.epoch == ANY || moment.epoch == known.epoch)
        };
        known.as_ref().filter(holds).map(|known| known.principal.clone())
    }

    /// `accepted` hears of whoever an authenticator accepts, and not of one who is known already.
    pub(super) fn identify(
        &self,
        chain: &Chain,
        now: Moment,
        accepted: impl FnOnce(&Principal),
    ) -> Result<Arc<Principal>, Denial> {
        if let Some(principal) = self.known_until(now) {
            return Ok(principal);
        }
        let Some(credential) = self.credential.load_full() else {
            let text = "the credential has to be looked at again, since the request came in: send the request once more";
            return Err(Denial::new(DenialKind::Unauthenticated, "expired", text));
        };
        match chain.authenticate(&credential) {
            Ok(Auth::Accepted { principal, cache_until_ms }) => {
                accepted(&principal);
                let principal = Arc::new(principal);
                let until_ms = cache_until_ms.unwrap_or(0);
                let known = Known { principal: principal.clone(), until_ms, epoch: now.epoch };
                self.known.store(Some(Arc::new(known)));
                Ok(principal)
            }
            Ok(Auth::Abstain) => unreachable_abstain(),
            Err(denial) => {
                self.known.store(None);
                Err(denial)
            }
        }
    }
}

/// The chain turns a last abstention into a refusal, so this cannot happen; if it ever did, the caller is refused.
fn unreachable_abstain() -> Result<Arc<Principal>, Denial> {
    Err(Denial::new(DenialKind::Unauthenticated, "no_credential", "no authenticator accepted the credential"))
}
