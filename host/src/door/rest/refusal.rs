//! A request that is not served, as the parts of this door say it to each other.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};

use crate::door::guard::Rejection;
use crate::mcp::Ambiguous;
use crate::route::path::PathError;
use crate::route::problem::Problem;
use crate::route::{Misfit, Place};

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
