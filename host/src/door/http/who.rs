//! Who sends a request: the checks on its head, then the authenticators. Whoever is turned away leaves a record.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::http::request::Parts;

use super::caller::Brought;
use super::{Mount, Refused, caller, era_of, local, rejected, reply, too_many_connections};
use crate::call::{self, Denial, Principal};
use crate::door::guard;
use crate::door::respond;
use crate::door::server::Peer;
use crate::pipeline::{Caller, Failure, TurnedAway};

impl Mount {
    /// Who sends this, if an authenticator knows them. Whoever is turned away here leaves a record.
    pub(super) async fn caller(
        &self,
        parts: &Parts,
        peer: &Peer,
    ) -> Result<(Arc<Caller>, Arc<Principal>), Refused> {
        let since = Instant::now();
        match self.known(parts, peer).await {
            Ok(known) => Ok(known),
            Err((denial, response)) => {
                let ip = peer.address().ip();
                let (address, network) = (ip.to_string(), network(ip));
                let asked = format!("{} {}", parts.method, self.path);
                let (door, network) = (self.house.door, network.as_str());
                let request = TurnedAway { door, address: &address, network, asked: &asked, since };
                self.house.pipeline.turned_away(request, &denial).await;
                Err(response)
            }
        }
    }

    async fn known(
        &self,
        parts: &Parts,
        peer: &Peer,
    ) -> Result<(Arc<Caller>, Arc<Principal>), (Denial, Refused)> {
        let turned = |message: &str, refused, response| {
            Err((Denial::new(refused, "rejected", message.to_owned()), response))
        };
        let headers = self.callers.headers();
        if let Err(rejection) = guard::head(parts, &self.hosts, &self.origins, headers) {
            return turned(&rejection.message, call::Refused::Forbidden, rejected(&rejection));
        }
        let era = era_of(parts);
        let code = respond::unauthenticated(era);
        let bearer = match guard::bearer(&parts.headers) {
            Ok(bearer) => bearer,
            Err(rejection) => {
                let response = self.unauthenticated(&rejection.message, true, code);
                return turned(&rejection.message, call::Refused::Unauthenticated, response);
            }
        };
        let far = if self.local { local::far(parts, peer).await } else { None };
        let (headers, ip) = (&parts.headers, peer.address().ip());
        let brought = Brought { bearer, headers, peer: ip, near: far.is_none() };
        if let Some(header) = self.callers.too_long(&brought) {
            let most = caller::MAX_CREDENTIAL;
            let text =
                format!("the credential in the header {header} is longer than {most} bytes, which none is");
            return turned(&text, call::Refused::Unauthenticated, self.unauthenticated(&text, true, code));
        }
        match self.callers.identify(&brought, &self.house.pipeline) {
            Ok((_, who)) if !peer.known(who.share()) => {
                let text = "too many of the caller's connections are open";
                turned(text, call::Refused::RateLimited, too_many_connections(era))
            }
            Ok(known) => Ok(known),
            Err(denial) if denial.lacks_scopes().is_some() => {
                let scopes = denial.lacks_scopes().unwrap_or_default().to_owned();
                let message =
                    respond::failed("null", &Failure::Denied(denial.clone()), era).unwrap_or_default();
                Err((denial, Box::new(self.lacking(&scopes, reply(respond::FORBIDDEN, message)))))
            }
            Err(mut denial) => {
                if let Some(far) = far {
                    denial.message = format!("{}; {far}", denial.message);
                }
                let brought = bearer.is_some() || self.callers.brought(&parts.headers);
                let response = self.not_known(&denial, brought, code);
                Err((denial, response))
            }
        }
    }
}

/// The addresses that one client may have: with IPv6 a provider gives out at least 2^64 of them at once.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}
