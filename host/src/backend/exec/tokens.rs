//! Capability tokens as the gateway handles them: it makes one for a call that is permitted, or one that a caller brings later,
//! and looks at that one before anything else.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::BackendError;
use super::{Client, Resolved};
use crate::call::{Call, Denial, DenialKind};
use crate::capability::{Purpose, Token, TokenError};

/// A token that came with a call.
#[derive(Clone, Debug)]
pub(super) struct Brought {
    pub(super) token: Token,
    /// The approval that the call names.
    approval: Option<String>,
}

impl Client {
    /// The same for one call that brings this token and names this approval.
    #[must_use]
    pub fn bearing(&self, token: Token, approval: Option<String>) -> Self {
        Self { brought: Some(Brought { token, approval }), ..self.clone() }
    }

    /// Makes a token for what was prepared, which holds for so many seconds. `of` is the call or the approval that it belongs
    /// to.
    ///
    /// # Errors
    /// The system gave no random numbers.
    pub fn mint(
        &self,
        call: &Call,
        resolved: &Resolved,
        of: &str,
        seconds: u64,
    ) -> Result<Token, BackendError> {
        let purpose = Purpose {
            audience: &self.name,
            environment: &self.settings.environment,
            command: &call.target.upstream,
            subject: &call.principal.subject,
            call: of,
            digest: resolved.digest,
        };
        self.settings.key.mint(&purpose, now(), seconds).map_err(|error| {
            let denial = Denial::new(DenialKind::Unavailable, "unavailable", error.to_string());
            BackendError::Refused(Box::new(denial))
        })
    }

    /// The digest that a token is for, if it is good for this call. The executor will look for itself.
    pub(super) fn checked(
        &self,
        brought: &Brought,
        call: &Call,
        command: &str,
    ) -> Result<[u8; 32], BackendError> {
        let keys = [self.settings.key.verifier()];
        let refused = |reason: &str, text: String| {
            BackendError::Refused(Box::new(Denial::new(DenialKind::Forbidden, reason, text)))
        };
        let claims = brought.token.verify(&keys, &self.name, &self.settings.environment, now());
        let claims = claims.map_err(|error| match error {
            // The executor has the same words; the key is this gateway's here.
            TokenError::Invalid => refused(
                error.reason(),
                "the capability token cannot be read, or this gateway has not made it".to_owned(),
            ),
            error => refused(error.reason(), error.to_string()),
        })?;
        if claims.command != command {
            return Err(refused(TokenError::Command.reason(), TokenError::Command.to_string()));
        }
        if claims.subject != call.principal.subject {
            let text = "the capability token was handed out to another caller".to_owned();
            return Err(refused("token_refused", text));
        }
        if brought.approval.as_ref().is_some_and(|approval| *approval != claims.call) {
            let text = "the capability token was handed out for another approval".to_owned();
            return Err(refused("token_refused", text));
        }
        Ok(claims.digest)
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
