//! What becomes of a request that is not served: the problem document for its sender, the count, and the row on record.

use std::time::Instant;

use axum::http::header;
use axum::response::Response;
use tokio_util::sync::CancellationToken;

use super::locate::Refused;
use super::refusal::Refusal;
use super::{DOOR, Exchange, Front, execution, respond};
use crate::call::{Denial, DenialKind};
use crate::door::server::NoRequest;
use crate::door::strangers::network;
use crate::pipeline::{CallRequest, Caller, Failure, TurnedAway};
use crate::route::Entry;
use crate::route::problem::Problem;

/// A caller who is known, with the route that was asked for.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) caller: &'a Caller,
    pub(super) entry: &'a Entry,
}

impl Exchange<'_> {
    /// A refusal to a known caller before the guards were asked about the request. They count it, and it is on record; a
    /// caller who comes too often hears that instead.
    pub(super) async fn counted(
        &self,
        known: &Known<'_>,
        mut refusal: Box<Refusal>,
        cancelled: &CancellationToken,
    ) -> Box<Refusal> {
        let detail = refusal.problem.detail.clone().unwrap_or_default();
        refusal.recorded = true;
        let refused = Refused(&detail, self.about.clone());
        let request = CallRequest { locate: Some(&refused), ..self.request(known.caller, known.entry) };
        match self.front.pipeline.handle(request, cancelled).await {
            Ok(_) | Err(Failure::Params(_)) => refusal,
            Err(failure) => respond::failed(&failure, self.front.dev),
        }
    }

    /// What its sender is told; counted and on record.
    pub(super) async fn turn_away(&self, refusal: Refusal) -> Response {
        let Refusal { problem, headers, recorded } = refusal;
        let status = problem.status;
        metrics::counter!("sentinel_http_refusals_total", "status" => status.as_u16().to_string())
            .increment(1);
        if !recorded {
            self.note(&problem).await;
        }
        let mut response = respond::problem(&problem, &self.id);
        // Where it can be looked at how it stands.
        if let Some(location) = execution::location(&problem).filter(|_| self.front.plane.is_some()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        for (name, value) in headers {
            response.headers_mut().insert(name, value);
        }
        response
    }

    /// Every arrival leaves a row; those of one network share rows when they come in crowds.
    async fn note(&self, problem: &Problem) {
        let kind = match problem.status.as_u16() {
            401 => DenialKind::Unauthenticated,
            403 | 421 => DenialKind::Forbidden,
            429 => DenialKind::RateLimited,
            500.. => DenialKind::Unavailable,
            _ => DenialKind::InvalidArguments,
        };
        let denial = Denial::new(kind, &problem.reason, problem.detail.clone().unwrap_or_default());
        let path: String = self.parts.uri.path().chars().take(80).collect();
        let asked = format!("{} {path}", self.parts.method);
        let (address, source) = (self.address.to_string(), network(self.address));
        let request = TurnedAway {
            door: DOOR,
            who: None,
            address: &address,
            source: &source,
            asked: &asked,
            rpc_id: &self.id,
            since: self.since,
        };
        self.front.pipeline.turned_away(request, &denial).await;
    }
}

impl Front {
    /// Records what the parser refused.
    pub(super) async fn unparsed(&self, refused: &NoRequest) {
        let NoRequest { peer, status, reason, detail, id } = refused;
        metrics::counter!("sentinel_http_refusals_total", "status" => status.to_string()).increment(1);
        let denial = Denial::new(DenialKind::InvalidArguments, reason, *detail);
        let ip = peer.ip().to_canonical();
        let (address, source) = (ip.to_string(), network(ip));
        let request = TurnedAway {
            door: DOOR,
            who: None,
            address: &address,
            source: &source,
            asked: "no HTTP request",
            rpc_id: id,
            since: Instant::now(),
        };
        self.pipeline.turned_away(request, &denial).await;
    }
}
