//! Finds out who sends a request: checks its head, then asks the authenticators.

use std::sync::Arc;

use axum::http::request::Parts;

use super::caller::Brought;
use super::refusal::{Refusal, overloaded};
use super::{Mount, Refused, caller, era_of, local, reply, too_many_connections};
use crate::call::{self, Denial, Principal};
use crate::door::guard;
use crate::door::mcp::respond;
use crate::door::server::Peer;
use crate::mcp::Era;
use crate::pipeline::{Caller, Failure};

impl Mount {
    /// Whether a caller may keep a stream open. One who is switched off may not, or it would be opened again at once.
    pub(super) fn may_stand(&self, who: &Principal) -> Result<(), Refused> {
        self.endpoint.pipeline.may_stand(who).map_err(|denial| {
            let failure = Failure::Denied(denial.clone());
            let message = respond::failed("null", &failure, Era::Handshake).unwrap_or_default();
            Refusal::new(reply(respond::FORBIDDEN, message), denial)
        })
    }

    /// Who sends this, if an authenticator knows them.
    pub(super) async fn caller(
        &self,
        parts: &Parts,
        peer: &Peer,
    ) -> Result<(Arc<Caller>, Arc<Principal>), Refused> {
        self.head(parts)?;
        let era = era_of(parts);
        let code = respond::unauthenticated(era);
        let unknown = |text: &str| {
            let denial = Denial::new(call::DenialKind::Unauthenticated, "rejected", text);
            self.unauthenticated(&denial, true, code)
        };
        let bearer = guard::bearer(&parts.headers).map_err(|rejection| unknown(&rejection.message))?;
        // One generation says both whether the user of this machine needs a credential and who that is.
        let generation = self.endpoint.pipeline.current();
        let far = if generation.takes_local() { local::far(parts, peer).await } else { None };
        let (headers, ip) = (&parts.headers, peer.address().ip());
        let brought =
            Brought { bearer, headers, peer: ip, near: far.is_none(), certificate: peer.certificate() };
        if let Some(header) = self.callers.too_long(&brought) {
            let most = caller::MAX_CREDENTIAL;
            return Err(unknown(&format!(
                "the credential in the header {header} is longer than {most} bytes, which none is"
            )));
        }
        match self.callers.identify(&brought, &generation).await {
            Ok((_, who)) if !peer.known(who.share()) => Err(too_many_connections(era).by(&who)),
            Ok(known) => Ok(known),
            Err(denial) if caller::is_crowded(&denial) => Err(overloaded(&denial.message, era)),
            Err(denial) if denial.lacks_scopes().is_some() => {
                let scopes = denial.lacks_scopes().unwrap_or_default().to_owned();
                let message =
                    respond::failed("null", &Failure::Denied(denial.clone()), era).unwrap_or_default();
                Err(Refusal::new(self.lacking(&scopes, reply(respond::FORBIDDEN, message)), denial))
            }
            Err(mut denial) => {
                if let Some(far) = far {
                    denial.message = format!("{}; {far}", denial.message);
                }
                let brought = bearer.is_some() || self.callers.brought(&parts.headers);
                Err(self.not_known(&denial, brought, code))
            }
        }
    }
}
