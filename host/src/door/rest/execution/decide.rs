//! What people see of requests that wait, and their decisions: operators' commands, which come through the pipeline like calls.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::refusal::Refusal;
use super::super::{DOOR, Exchange, respond};
use super::{Known, page};
use crate::approval::{Risk, Vote, time};
use crate::control::{ApprovalSummary, Command, ControlError, Report, Request, ShownApproval, VERSION};
use crate::door::control;
use crate::mcp::Params;
use crate::pipeline::Operation;
use crate::route::problem::Problem;
use crate::route::{Misfit, Place};

/// Most requests in one answer.
const MOST: u32 = 10_000;
/// So many without being asked for more.
const USUAL: u32 = 1_000;

/// What comes with a decision.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    /// Why; it stands in the record, and who asked reads it.
    #[serde(default)]
    note: String,
    /// Of what the person saw: the `ETag` of the approval, too.
    digest: Option<String>,
}

impl Exchange<'_> {
    /// What waits.
    pub(super) async fn pending(&self, known: Known<'_>) -> Result<Response, Box<Refusal>> {
        let (mut all, mut limit) = (false, USUAL);
        for part in self.parts.uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("all", "true")) => all = true,
                Some(("all", "false")) => {}
                Some(("limit", number)) if number.parse().is_ok_and(|number: u32| number <= MOST) => {
                    limit = number.parse().unwrap_or(USUAL);
                }
                _ => {
                    let name = part.split('=').next().unwrap_or_default().to_owned();
                    let detail = format!("`all` is true or false, `limit` a number up to {MOST}");
                    return Err(Refusal::misfits(vec![Misfit { place: Place::Parameter(name), detail }]));
                }
            }
        }
        let report = self.operate(known, Command::ApprovalsList { all, limit }, "").await?;
        let Report::Approvals(found) = report else { return Err(other()) };
        let list: Vec<Value> = found.iter().map(line).collect();
        Ok(page(StatusCode::OK, &json!({ "count": list.len(), "approvals": list })))
    }

    /// One approval: for those who may see what waits all of it, and for who asked how it stands.
    pub(super) async fn one(&self, known: Known<'_>, id: &str) -> Result<Response, Box<Refusal>> {
        let own = Command::ApprovalsOwn { id: id.to_owned() };
        let shown = match self.front.pipeline.asked_by(id, &known.who.subject).await {
            true => self.operate(known, own, "").await?,
            false => self.operate(known, Command::ApprovalsShow { id: id.to_owned() }, "").await?,
        };
        let Report::Approval(shown) = shown else { return Err(other()) };
        let mut response = page(StatusCode::OK, &facts(&shown));
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", shown.digest)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        Ok(response)
    }

    /// A person's decision. A high risk is approved only by who repeats the digest of what they saw.
    pub(super) async fn decide(
        &self,
        known: Known<'_>,
        id: &str,
        vote: Vote,
        body: Body,
    ) -> Result<Response, Box<Refusal>> {
        let decision: Decision = self.said(known, body).await?.unwrap_or_default();
        let seen = decision.digest.clone().or_else(|| self.if_match());
        let digest = match seen {
            Some(digest) => digest,
            None => {
                let show = Command::ApprovalsShow { id: id.to_owned() };
                let Report::Approval(shown) = self.operate(known, show, "").await? else {
                    return Err(other());
                };
                if vote == Vote::Approve && shown.risk == Risk::High.as_str() {
                    let text = "what has a high risk is approved with the digest of what you saw: send it as `digest`, or its ETag \
                                as If-Match";
                    let problem = Problem::new(StatusCode::PRECONDITION_REQUIRED, "digest_required", text);
                    return Err(Refusal::new(problem));
                }
                shown.digest
            }
        };
        let command = Command::ApprovalsReview { id: id.to_owned(), vote, digest };
        let said = self.operate(known, command, &decision.note).await?;
        Ok(done(id, &said))
    }

    /// Takes a request back.
    pub(super) async fn cancel(
        &self,
        known: Known<'_>,
        id: &str,
        body: Body,
    ) -> Result<Response, Box<Refusal>> {
        let decision: Decision = self.said(known, body).await?.unwrap_or_default();
        let said =
            self.operate(known, Command::ApprovalsCancel { id: id.to_owned() }, &decision.note).await?;
        Ok(done(id, &said))
    }

    /// The digest in `If-Match` (RFC 9110, section 13.1.1).
    fn if_match(&self) -> Option<String> {
        let value = self.parts.headers.get(header::IF_MATCH)?.to_str().ok()?.trim();
        Some(value.strip_prefix('"')?.strip_suffix('"')?.to_owned())
    }

    async fn operate(&self, known: Known<'_>, command: Command, note: &str) -> Result<Report, Box<Refusal>> {
        let plane = self.front.plane.as_ref().and_then(|plane| plane.get()).and_then(|plane| plane.upgrade());
        let Some(plane) = plane else {
            return Err(respond::busy("the gateway starts or stops: ask again in a moment"));
        };
        let (name, method) = command.names();
        let request = Request { version: VERSION, command, reason: note.to_owned(), token: None };
        let params = control::params(&request)
            .and_then(|json| Params::read(method, json).map_err(|error| error.to_string()));
        let params = params.map_err(|detail| {
            Refusal::misfits(vec![Misfit { place: Place::Pointer(String::new()), detail }])
        })?;
        let operation = Operation { caller: known.caller, door: DOOR, name, method, params: &params };
        match self.front.pipeline.operate(operation, &request, &*plane).await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => Err(refused(&error)),
            Err(failure) => Err(respond::failed(&failure, self.front.dev)),
        }
    }
}

/// A command that was not done, which is on record.
fn refused(error: &ControlError) -> Box<Refusal> {
    let status = super::status(error.word()).unwrap_or(match error {
        ControlError::Unknown(_) => StatusCode::NOT_FOUND,
        ControlError::Busy { .. } | ControlError::Refused(_) | ControlError::Approval(_) => {
            StatusCode::CONFLICT
        }
        ControlError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    });
    Refusal::recorded(Problem::new(status, error.word(), error.to_string()))
}

fn other() -> Box<Refusal> {
    let text = "the gateway answered something else";
    Refusal::recorded(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", text))
}

fn done(id: &str, report: &Report) -> Response {
    let text = if let Report::Done(text) = report { text.as_str() } else { "" };
    page(StatusCode::OK, &json!({ "id": id, "approval_id": id, "message": text }))
}

fn line(summary: &ApprovalSummary) -> Value {
    json!({
        "id": summary.id,
        "approval_id": summary.id,
        "status": summary.state.as_str(),
        "risk": summary.risk.to_ascii_uppercase(),
        "requested_by": summary.requester,
        "command": summary.target,
        "backend": summary.backend,
        "digest": summary.digest,
        "created_at": time(summary.created_ms),
        "expires_at": time(summary.ends_ms),
    })
}

fn facts(shown: &ShownApproval) -> Value {
    let mut facts = json!({
        "id": shown.id,
        "approval_id": shown.id,
        "status": shown.state.as_str(),
        "risk": shown.risk.to_ascii_uppercase(),
        "requested_by": shown.requester,
        "command": shown.target,
        "backend": shown.backend,
        "digest": shown.digest,
        "created_at": time(shown.created_ms),
        "expires_at": time(shown.ends_ms),
        "approved_by": shown.approvers,
        "consumed_by": shown.consumed_by,
        "detail": shown.why,
    });
    if !shown.text.is_empty() {
        facts["text"] = shown.text.as_str().into();
    }
    facts
}
