//! A request that is not served: the problem document for its sender, the count, and the row on record.

use super::client::network;
use super::{DOOR, Exchange, respond};
use crate::call::{Denial, DenialKind};
use crate::door::guard::Rejection;
use crate::mcp::Ambiguous;
use crate::pipeline::{Caller, Failure, TurnedAway};
use crate::route::path::PathError;
use crate::route::problem::Problem;
use crate::route::{Entry, Misfit, Place};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

/// A request that is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) problem: Problem,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Its row is on record.
    pub(super) recorded: bool,
}

impl Refusal {
    pub(super) fn new(problem: Problem) -> Box<Self> {
        Box::new(Self { problem, headers: Vec::new(), recorded: false })
    }

    /// One that the pipeline has on record.
    pub(super) fn recorded(problem: Problem) -> Box<Self> {
        Box::new(Self { problem, headers: Vec::new(), recorded: true })
    }

    pub(super) fn with(mut self: Box<Self>, name: HeaderName, value: HeaderValue) -> Box<Self> {
        self.headers.push((name, value));
        self
    }

    /// The same, and the connection ends: the unread rest of this request would be read as the next one.
    pub(super) fn closing(self: Box<Self>) -> Box<Self> {
        self.with(header::CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn path(error: &PathError) -> Box<Self> {
        let (status, reason) = match error {
            PathError::TooLong(_) => (StatusCode::URI_TOO_LONG, "too_long"),
            _ => (StatusCode::BAD_REQUEST, "bad_path"),
        };
        Self::new(Problem::new(status, reason, error.to_string()))
    }

    pub(super) fn rejected(rejection: &Rejection) -> Box<Self> {
        let reason = match rejection.status.as_u16() {
            403 => "origin_not_allowed",
            415 => "unsupported_media_type",
            417 => "expectation_failed",
            421 => "wrong_host",
            501 => "not_implemented",
            _ => "bad_request",
        };
        Self::new(Problem::new(rejection.status, reason, rejection.message.clone()))
    }

    pub(super) fn method(method: &Method, allow: &HeaderValue) -> Box<Self> {
        let method: String = method.as_str().chars().take(32).collect();
        let allowed = allow.to_str().unwrap_or_default();
        let text = format!("{method} is not a method of this path: it has {allowed}");
        Self::new(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text))
            .with(header::ALLOW, allow.clone())
    }

    pub(super) fn misfits(misfits: Vec<Misfit>) -> Box<Self> {
        let text = "parts of the request cannot be read: see `errors`";
        Self::new(Problem::new(StatusCode::BAD_REQUEST, "invalid_arguments", text).about(misfits))
    }

    pub(super) fn ambiguous(ambiguous: &Ambiguous) -> Box<Self> {
        let misfit = Misfit { place: Place::Pointer(String::new()), detail: ambiguous.to_string() };
        Self::misfits(vec![misfit])
    }
}

/// A caller who is known, with the route that was asked for.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) caller: &'a Caller,
    pub(super) entry: &'a Entry,
}

impl Exchange<'_> {
    /// A refusal to a known caller before the guards were asked about the request. They count it, and it is on record; a
    /// caller who comes too often hears that instead.
    pub(super) async fn counted(&self, known: &Known<'_>, mut refusal: Box<Refusal>) -> Box<Refusal> {
        let detail = refusal.problem.detail.clone().unwrap_or_default();
        refusal.recorded = true;
        let request = self.request(known.caller, known.entry);
        match self.front.pipeline.route_refused(request, &detail).await {
            Failure::Params(_) => refusal,
            failure => respond::failed(&failure, self.front.dev),
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
            since: self.since,
        };
        self.front.pipeline.turned_away(request, &denial).await;
    }
}
