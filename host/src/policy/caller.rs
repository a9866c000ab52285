//! A caller's credential and what an authenticator made of it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::chain::Chain;
use crate::call::{Credential, Denial, Principal};
use crate::plugin::Auth;
use crate::queue::Budget;

/// Bytes of notifications and questions that may wait for one caller to read them, in all of its sessions together.
const UNREAD_BYTES: u32 = 8 << 20;

/// Somebody at a door. The authenticator's answer is kept until it expires, so that a call costs a comparison.
#[derive(Debug)]
pub struct Caller {
    credential: Arc<Credential>,
    known: ArcSwapOption<Known>,
    unread: Budget,
}

#[derive(Debug)]
struct Known {
    principal: Arc<Principal>,
    until_ms: u64,
}

impl Caller {
    #[must_use]
    pub fn new(credential: Credential) -> Self {
        Self {
            credential: Arc::new(credential),
            known: ArcSwapOption::empty(),
            unread: Budget::new(UNREAD_BYTES),
        }
    }

    /// What may wait until this caller reads it.
    #[must_use]
    pub fn unread(&self) -> &Budget {
        &self.unread
    }

    pub(super) fn identify(&self, chain: &Chain, now_ms: u64) -> Result<Arc<Principal>, Denial> {
        if let Some(known) = &*self.known.load()
            && now_ms < known.until_ms
        {
            return Ok(known.principal.clone());
        }
        match chain.authenticate(&self.credential) {
            Ok(Auth::Accepted { principal, cache_until_ms }) => {
                let principal = Arc::new(principal);
                let until_ms = cache_until_ms.unwrap_or(0);
                self.known.store(Some(Arc::new(Known { principal: principal.clone(), until_ms })));
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

/// The chain turns a last abstention into a refusal; should that ever change, nobody gets in by it.
fn unreachable_abstain() -> Result<Arc<Principal>, Denial> {
    Err(Denial::new(
        crate::call::Refused::Unauthenticated,
        "no_credential",
        "no authenticator accepted the credential",
    ))
}
