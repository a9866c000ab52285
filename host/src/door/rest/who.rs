//! Who sends a request: as the route wants it to be found out.

use std::sync::Arc;

use axum::http::{StatusCode, header};

use super::challenge::challenge;
use super::refusal::Refusal;
use super::{Exchange, respond};
use crate::call::{Credential, Denial, DenialKind, Principal};
use crate::config::rest::RouteAuth;
use crate::door::guard;
use crate::door::mcp::http::{Brought, MAX_CREDENTIAL, is_crowded, local};
use crate::door::strangers::network;
use crate::pipeline::{Caller, Failure};
use crate::route::problem::Problem;

/// What callers of routes for everybody are called, before their network.
const ANONYMOUS: &str = "anonymous";
/// The beginning of a program's key that is sent as a bearer token.
const KEY: &str = "sk-";
/// The header of a program's key.
const KEY_HEADER: &str = "x-api-key";

impl Exchange<'_> {
    /// Who sends this, if an authenticator knows them, or if nobody is asked.
    pub(super) async fn caller(
        &self,
        auth: RouteAuth,
    ) -> Result<(Arc<Caller>, Arc<Principal>), Box<Refusal>> {
        if auth == RouteAuth::None {
            return Ok(self.anonymous());
        }
        let (parts, front) = (self.parts, self.front);
        let unknown = |text: String, brought: bool| {
            Refusal::new(Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", text))
                .with(header::WWW_AUTHENTICATE, challenge(auth, brought, None))
        };
        let bearer = guard::bearer(&parts.headers).map_err(|rejection| match rejection.status {
            StatusCode::UNAUTHORIZED => unknown(rejection.message, true),
            _ => Refusal::rejected(&rejection),
        })?;
        let key = self.brings_key();
        match auth {
            RouteAuth::Jwt if key => {
                return Err(unknown("this route takes a token, not the key of a program".to_owned(), true));
            }
            RouteAuth::ApiKey if !key && bearer.is_some() => {
                return Err(unknown("this route takes the key of a program, not a token".to_owned(), true));
            }
            RouteAuth::Jwt | RouteAuth::ApiKey | RouteAuth::None => {}
        }
        let generation = front.pipeline.current();
        let far = if generation.takes_local() { local::far(parts, self.peer).await } else { None };
        let brought = Brought {
            bearer,
            headers: &parts.headers,
            peer: self.peer.address().ip(),
            near: far.is_none(),
            certificate: self.peer.certificate(),
        };
        if let Some(name) = front.callers.too_long(&brought) {
            return Err(unknown(
                format!(
                    "the credential in the header {name} is longer than {MAX_CREDENTIAL} bytes, which none is"
                ),
                true,
            ));
        }
        match front.callers.identify(&brought, &generation).await {
            Ok((_, who)) if !self.peer.known(who.share()) => {
                let text = "too many connections of yours are open: wait for a call on one to end";
                Err(respond::busy(text).closing())
            }
            Ok(known) => Ok(known),
            Err(denial) if is_crowded(&denial) => Err(respond::busy(&denial.message)),
            Err(denial) => {
                let came = bearer.is_some() || front.callers.brought(&parts.headers);
                Err(self.not_known(auth, denial, came))
            }
        }
    }

    /// Whether it brings the key of a program, and not a token.
    pub(super) fn brings_key(&self) -> bool {
        let headers = &self.parts.headers;
        guard::bearer(headers).is_ok_and(|bearer| bearer.is_some_and(|bearer| bearer.starts_with(KEY)))
            || headers.contains_key(KEY_HEADER)
    }

    /// RFC 6750, section 3. A caller who brought no credential is not told that it is wrong, and one whose credential cannot
    /// be checked right now is not told to throw it away.
    fn not_known(&self, auth: RouteAuth, denial: Denial, brought: bool) -> Box<Refusal> {
        if let Some(scopes) = denial.lacks_scopes() {
            let challenge = challenge(auth, true, Some(scopes));
            let mut refusal = respond::failed(&Failure::Denied(denial.clone()), self.front.dev);
            refusal.recorded = false;
            return refusal.with(header::WWW_AUTHENTICATE, challenge);
        }
        if denial.kind == DenialKind::Unavailable {
            let mut refusal = respond::failed(&Failure::Denied(denial), self.front.dev);
            refusal.recorded = false;
            return refusal;
        }
        Refusal::new(Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", denial.message))
            .with(header::WWW_AUTHENTICATE, challenge(auth, brought, None))
    }

    /// The caller of a route for everybody, known by the network.
    fn anonymous(&self) -> (Arc<Caller>, Arc<Principal>) {
        let address = self.address;
        let who = Principal {
            subject: format!("{ANONYMOUS}@{}", network(address)),
            role: ANONYMOUS.to_owned(),
            issuer: None,
            audience: None,
            token_id: None,
            expires_at: None,
            claims: vec![("peer.ip".to_owned(), address.to_canonical().to_string())],
        };
        let credential = Credential { door: "http", bearer: None, attrs: Vec::new() };
        (Arc::new(Caller::anonymous(credential, who.clone())), Arc::new(who))
    }
}
