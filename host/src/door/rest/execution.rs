//! Asking for commands, deciding about what waits, and running what was approved, over HTTP.
//!
//! ```text
//! POST /approvals/request      asks for an approval of a command     202 and where to look, 200 if nobody has to be asked
//! GET  /approvals/pending      what waits, for those who may see it
//! GET  /approvals/{id}         one of them; for who asked how it stands
//! POST /approvals/{id}/approve, /reject, /cancel                     a person's decision
//! POST /gateway/token          a capability token for an approved command
//! POST /gateway/execute        runs it, once
//! POST /commands/{name}        the same in one request, with the arguments as its body: 202 while it waits, and the same again
//!                              continues it
//! ```
//!
//! A command is the tool that MCP clients call: the same rules, the same approvals, the same record.

mod decide;
mod run;
mod target;

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::locate::Refused;
use super::refusal::Refusal;
use super::{DOOR, Exchange, media, respond};
use crate::approval::Vote;
use crate::call::Principal;
use crate::config::rest::RouteAuth;
use crate::door::server::{self, Limits};
use crate::pipeline::{CallRequest, Caller, Failure};
use crate::route::problem::Problem;
use crate::route::read::is_json;
use crate::route::{Misfit, Place};

/// The longest body, in bytes: a command with what it is given on its stdin, escaped.
const MAX_BODY: usize = 256 << 10;

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page<'p> {
    Ask,
    Pending,
    One(&'p str),
    Decide(&'p str, Vote),
    Cancel(&'p str),
    Token,
    Execute,
    Run(&'p str),
}

impl<'p> Page<'p> {
    /// The page at a path.
    pub(super) fn at(path: &'p str) -> Option<Self> {
        match path {
            "/approvals/request" => return Some(Self::Ask),
            "/approvals/pending" => return Some(Self::Pending),
            "/gateway/token" => return Some(Self::Token),
            "/gateway/execute" => return Some(Self::Execute),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/commands/") {
            return Some(Self::Run(name)).filter(|_| crate::command::is_name(name));
        }
        let rest = path.strip_prefix("/approvals/")?;
        let (id, deed) = match rest.split_once('/') {
            Some((id, deed)) => (id, Some(deed)),
            None => (rest, None),
        };
        if !id.starts_with("appr_") {
            return None;
        }
        match deed {
            None => Some(Self::One(id)),
            Some("approve") => Some(Self::Decide(id, Vote::Approve)),
            Some("reject") => Some(Self::Decide(id, Vote::Reject)),
            Some("cancel") => Some(Self::Cancel(id)),
            Some(_) => None,
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Pending | Self::One(_) => Method::GET,
            Self::Ask | Self::Decide(..) | Self::Cancel(_) | Self::Token | Self::Execute | Self::Run(_) => {
                Method::POST
            }
        }
    }

    /// What the record calls a request for it that comes to nothing.
    fn asked(self) -> &'static str {
        match self {
            Self::Ask => "approvals/request",
            Self::Pending => "control/approvals.list",
            Self::One(_) => "control/approvals.show",
            Self::Decide(_, Vote::Approve) => "control/approvals.approve",
            Self::Decide(_, Vote::Reject) => "control/approvals.reject",
            Self::Cancel(_) => "control/approvals.cancel",
            Self::Token => "gateway/token",
            Self::Execute => "gateway/execute",
            Self::Run(_) => "tools/call",
        }
    }
}

/// Where the approval of a problem can be looked at.
pub(super) fn location(problem: &Problem) -> Option<HeaderValue> {
    let waits = problem.status == StatusCode::ACCEPTED;
    let id = problem.facts.get("approval_id").filter(|_| waits)?.as_str()?;
    HeaderValue::from_str(&format!("/approvals/{id}")).ok()
}

/// A caller who is known, and what they want.
#[derive(Clone, Copy)]
struct Known<'a> {
    caller: &'a Caller,
    who: &'a Principal,
    page: Page<'a>,
}

impl Exchange<'_> {
    /// Serves one of these pages.
    pub(super) async fn execution(
        &self,
        page: Page<'_>,
        body: Body,
        cancelled: &CancellationToken,
    ) -> Result<Response, Box<Refusal>> {
        let method = page.method();
        if self.parts.method != method {
            let allow = HeaderValue::from_str(method.as_str()).unwrap_or(HeaderValue::from_static("GET"));
            return Err(Refusal::method(&self.parts.method, &allow));
        }
        let auth = if self.brings_key() { RouteAuth::ApiKey } else { RouteAuth::Jwt };
        let (caller, who) = self.caller(auth).await?;
        let known = Known { caller: &caller, who: &who, page };
        let answer = match page {
            Page::Ask => self.ask_approval(known, body, cancelled).await,
            Page::Token => self.token(known, body, cancelled).await,
            Page::Execute => self.execute(known, body, cancelled).await,
            Page::Run(name) => self.run_named(known, name, body, cancelled).await,
            Page::Pending => self.pending(known).await,
            Page::One(id) => self.one(known, id).await,
            Page::Decide(id, vote) => self.decide(known, id, vote, body).await,
            Page::Cancel(id) => self.cancel(known, id, body).await,
        };
        match answer {
            Ok(response) => Ok(response),
            Err(refusal) if refusal.recorded => Err(refusal),
            Err(refusal) => Err(self.noted(known, refusal, cancelled).await),
        }
    }

    /// A refusal to a known caller before the guards were asked. They count it, and it is on record.
    async fn noted(
        &self,
        known: Known<'_>,
        mut refusal: Box<Refusal>,
        cancelled: &CancellationToken,
    ) -> Box<Refusal> {
        let detail = refusal.problem.detail.clone().unwrap_or_default();
        refusal.recorded = true;
        let refused = Refused(&detail, self.about.clone());
        let request = CallRequest { locate: Some(&refused), ..self.called(known, known.page.asked()) };
        match self.front.pipeline.handle(request, cancelled).await {
            Ok(_) | Err(Failure::Params(_)) => refusal,
            Err(failure) => respond::failed(&failure, self.front.dev),
        }
    }

    /// A request of this caller, without params.
    fn called<'r>(&'r self, known: Known<'r>, method: &'r str) -> CallRequest<'r> {
        CallRequest {
            caller: known.caller,
            door: DOOR,
            session: &self.front.session,
            rpc_id: Some(&self.id),
            method,
            params: None,
            client: &self.front.nobody,
            trace: None,
            body: None,
            locate: None,
            repeat: None,
        }
    }

    /// What the body says; nothing where it may be left out and is.
    async fn said<T: DeserializeOwned>(
        &self,
        known: Known<'_>,
        body: Body,
    ) -> Result<Option<T>, Box<Refusal>> {
        let limits = Limits { max_body: MAX_BODY, ..self.front.limits };
        let held = self.front.room.take(&body, &limits, known.who.share());
        let _held = held.map_err(|full| respond::busy(full.text()).closing())?;
        let bytes = server::read_body(body, &limits).await.map_err(|error| {
            let reason = match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
                StatusCode::REQUEST_TIMEOUT => "body_too_slow",
                _ => "body_broken",
            };
            Refusal::new(Problem::new(error.status(), reason, error.to_string())).closing()
        })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if !media::essence(&self.parts.headers).as_deref().is_some_and(is_json) {
            let text = "this takes application/json: say so in Content-Type";
            let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text);
            return Err(Refusal::new(problem));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let misfit = Misfit { place: Place::Pointer(String::new()), detail: error.to_string() };
            Refusal::misfits(vec![misfit])
        })
    }

    /// The same where there has to be one.
    async fn wanted<T: DeserializeOwned>(&self, known: Known<'_>, body: Body) -> Result<T, Box<Refusal>> {
        let said = self.said(known, body).await?;
        said.ok_or_else(|| {
            let text = "this needs a body in JSON";
            Refusal::new(Problem::new(StatusCode::BAD_REQUEST, "missing_body", text))
        })
    }
}

/// An answer in JSON, which nobody keeps.
fn page(status: StatusCode, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, Body::from(body.to_string())).into_response()
}

/// The status of a refusal that is about an approval or a token; none for others.
fn status(reason: &str) -> Option<StatusCode> {
    Some(match reason {
        "self_approval" | "not_reviewer" | "wrong_environment" | "token_refused" => StatusCode::FORBIDDEN,
        "unknown_approval" => StatusCode::NOT_FOUND,
        "changed" | "already_decided" | "consumed" | "stale_policy" | "token_issued" | "rejected"
        | "cancelled" | "pending_approval" => StatusCode::CONFLICT,
        "expired" => StatusCode::GONE,
        "too_many_pending" => StatusCode::TOO_MANY_REQUESTS,
        "too_large" | "not_exact" => StatusCode::BAD_REQUEST,
        "approvals_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_one_page_or_none() {
        let id = "appr_0123456789abcdef0123456789abcdef";
        let at = |end: &str| format!("/approvals/{id}{end}");
        assert_eq!(Page::at("/approvals/request"), Some(Page::Ask));
        assert_eq!(Page::at("/approvals/pending"), Some(Page::Pending));
        assert_eq!(Page::at("/commands/say"), Some(Page::Run("say")));
        assert_eq!((Page::at("/commands/"), Page::at("/commands/a/b")), (None, None));
        assert_eq!(Page::at(&at("")), Some(Page::One(id)));
        assert_eq!(Page::at(&at("/approve")), Some(Page::Decide(id, Vote::Approve)));
        assert_eq!(Page::at(&at("/reject")), Some(Page::Decide(id, Vote::Reject)));
        assert_eq!(Page::at(&at("/cancel")), Some(Page::Cancel(id)));
        for none in ["/approvals", "/approvals/", "/approvals/other", "/gateway", "/gateway/token/x", "/x"] {
            assert_eq!(Page::at(none), None, "{none}");
        }
        for none in ["/", "/approve/", "/approve/x", "/delete"] {
            assert_eq!(Page::at(&at(none)), None, "{none}");
        }
    }
}
