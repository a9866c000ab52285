//! What a caller of the HTTP API gets: the answer of a target, or a problem document. It is the only place where a failure
//! of a call gets its status here.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use super::challenge::challenge;
use super::compress::Whole;
use super::refusal::Refusal;
use crate::call::{Denial, DenialKind, Told};
use crate::config::rest::RouteAuth;
use crate::pipeline::{Answer, AnswerKind, BackendError, Failure};
use crate::route::problem::{MEDIA_TYPE, Problem};
use crate::route::{Misfit, Place};

/// The answer to a request that went its way.
pub(super) fn answer(answer: Result<Answer, Failure>, dev: bool) -> Result<Response, Box<Refusal>> {
    let Answer { kind, payload, .. } = answer.map_err(|failure| failed(&failure, dev))?;
    let head = match kind {
        AnswerKind::Http(head) => *head,
        // No route leads to a backend that answers so.
        AnswerKind::Result | AnswerKind::RpcError { .. } | AnswerKind::Exit { .. } => {
            let text = "the target did not answer this request";
            return Err(Refusal::recorded(Problem::new(
                StatusCode::BAD_GATEWAY,
                "backend_protocol_error",
                text,
            )));
        }
    };
    let mut response = match head.streamed.and_then(|body| body.take()) {
        Some(rest) => Response::new(Body::from_stream(rest)),
        None => {
            let mut response = Response::new(Body::from(payload.text().clone()));
            response.extensions_mut().insert(Whole);
            response
        }
    };
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    Ok(response)
}

/// A problem as an answer.
pub(super) fn problem(problem: &Problem, id: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (problem.status, headers, Body::from(Bytes::from(problem.document(id)))).into_response()
}

/// Adds what plugins want the caller to be told. Where an upstream has limits of its own, it says so in the same fields, and
/// the caller should see both. Two dates of an end would be no date, so the first one stands: the gateway's own, which is of
/// this path.
pub(super) fn tell(told: &Told, headers: &mut HeaderMap) {
    let mut dated: Vec<&str> = Vec::new();
    for (name, value) in told.headers() {
        let Ok(value) = HeaderValue::from_str(&value) else { continue };
        if !matches!(name, "deprecation" | "sunset") {
            headers.append(HeaderName::from_static(name), value);
        } else if !dated.contains(&name) {
            dated.push(name);
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// To a caller whose own share is used up, or while nothing is left for anybody.
pub(super) fn busy(text: &str) -> Box<Refusal> {
    later(Refusal::new(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", text)), 1)
}

/// With the seconds after which it is worth coming back.
fn later(mut refusal: Box<Refusal>, seconds: u64) -> Box<Refusal> {
    refusal.problem.facts.insert("retry_after".to_owned(), seconds.into());
    refusal.with(header::RETRY_AFTER, HeaderValue::from(seconds))
}

/// A failure of a call. It is on record.
pub(super) fn failed(failure: &Failure, dev: bool) -> Box<Refusal> {
    let of = |status: StatusCode, reason: &str, text: String| {
        Refusal::recorded(Problem::new(status, reason, text))
    };
    let text = failure.to_string();
    match failure {
        Failure::Denied(denial) => denied(denial),
        Failure::Unknown { .. } | Failure::Method(_) => {
            of(StatusCode::NOT_FOUND, "not_found", "no route is at this path".to_owned())
        }
        Failure::Unlisted { .. } => later(of(StatusCode::SERVICE_UNAVAILABLE, "backend_not_listed", text), 2),
        Failure::Params(_) => of(StatusCode::BAD_REQUEST, "invalid_arguments", text),
        Failure::Backend(error) => backend(error, dev),
        Failure::Audit(_) => of(StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable", text),
        // The same request again continues it.
        Failure::Pending(waiting) => {
            let mut refusal = of(StatusCode::ACCEPTED, "pending_approval", waiting.sentence());
            if let serde_json::Value::Object(facts) = waiting.to_json() {
                refusal.problem.facts.extend(facts.into_iter().filter(|(name, _)| name != "status"));
            }
            later(refusal, waiting.retry_after())
        }
        // Its client has gone.
        Failure::Cancelled => of(StatusCode::REQUEST_TIMEOUT, "cancelled", text),
    }
}

fn denied(denial: &Denial) -> Box<Refusal> {
    let overloaded = denial.reason == "overloaded";
    let status = match denial.kind {
        DenialKind::InvalidArguments
            if matches!(&*denial.reason, "idempotency_running" | "unknown_outcome") =>
        {
            StatusCode::CONFLICT
        }
        DenialKind::InvalidArguments if denial.reason == "idempotency_mismatch" => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        DenialKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        DenialKind::RateLimited if overloaded => StatusCode::SERVICE_UNAVAILABLE,
        DenialKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        DenialKind::Forbidden => StatusCode::FORBIDDEN,
        DenialKind::InvalidArguments => StatusCode::BAD_REQUEST,
        DenialKind::UnknownMethod => StatusCode::NOT_FOUND,
        DenialKind::Killed | DenialKind::CircuitOpen | DenialKind::Unavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let mut problem = Problem::new(status, &denial.reason, denial.message.clone());
    for (name, value) in &denial.details {
        match (denial.kind, name.as_str()) {
            (DenialKind::InvalidArguments, "pointer") => {
                let place = Place::of_arguments(value);
                problem.errors.push(Misfit { place, detail: denial.message.clone() });
            }
            // RFC 9457, section 3.2: names of members.
            (_, name) if is_member(name) => {
                problem.facts.insert(name.to_owned(), value.as_str().into());
            }
            _ => {}
        }
    }
    let mut refusal = Refusal::recorded(problem);
    if let Some(scopes) = denial.lacks_scopes() {
        refusal = refusal.with(header::WWW_AUTHENTICATE, challenge(RouteAuth::Jwt, true, Some(scopes)));
    } else if denial.kind == DenialKind::Unauthenticated {
        refusal = refusal.with(header::WWW_AUTHENTICATE, challenge(RouteAuth::Jwt, true, None));
    }
    let seconds = denial.retry_after.map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0));
    match (seconds, status) {
        (Some(seconds), _) => later(refusal, seconds),
        (None, StatusCode::SERVICE_UNAVAILABLE) if denial.kind == DenialKind::CircuitOpen => {
            later(refusal, 1)
        }
        (None, _) => refusal,
    }
}

fn is_member(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() >= 3
        && name.bytes().all(letter)
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(
            name,
            "type" | "title" | "status" | "detail" | "instance" | "reason" | "request_id" | "errors"
        )
}

/// Causes are the operator's business and stay in the log and on record, unless an API is being developed.
fn backend(error: &BackendError, dev: bool) -> Box<Refusal> {
    let name = |backend: &str| format!("\"{backend}\"");
    let (status, reason, text) = match error {
        BackendError::Unreachable { backend, .. } => {
            (StatusCode::BAD_GATEWAY, "backend_unreachable", format!("{} is not available", name(backend)))
        }
        BackendError::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "backend_timeout", error.to_string()),
        BackendError::Protocol { backend, .. } => (
            StatusCode::BAD_GATEWAY,
            "backend_protocol_error",
            format!("{} did not answer properly", name(backend)),
        ),
        BackendError::TooLarge { backend, .. } => (
            StatusCode::BAD_GATEWAY,
            "answer_too_large",
            format!("the answer of {} is too long", name(backend)),
        ),
        BackendError::Unkept { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "answer_not_kept", error.to_string())
        }
        BackendError::Status { status: 400, said, .. } => {
            (StatusCode::BAD_REQUEST, "invalid_arguments", said.to_string())
        }
        BackendError::Status { .. } => (StatusCode::BAD_GATEWAY, "backend_http_status", error.to_string()),
        BackendError::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "backend_busy", error.to_string()),
        BackendError::Stopped { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "backend_stopped", error.to_string())
        }
        // The pipeline makes a refusal of it, which is worded as such.
        BackendError::Refused(denial) => (StatusCode::FORBIDDEN, "refused", denial.message.clone()),
        BackendError::Share { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", error.to_string()),
    };
    let text = if dev { error.to_string() } else { text };
    let refusal = Refusal::recorded(Problem::new(status, reason, text));
    match error {
        BackendError::Busy { .. } | BackendError::Share { .. } => later(refusal, 1),
        BackendError::Unreachable { again: Some(again), .. } => later(refusal, again.as_secs() + 1),
        _ => refusal,
    }
}
