//! The story of a call for a route of the HTTP API. It is that of every call; only how its target is found and what it
//! answers with is different.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::repeat::{self, Begin, Repeat};
use super::{CallContext, CallRequest, Failure, Pipeline, outcome, spans};
use crate::audit::{Closing, Entry, Status};
use crate::backend::target::{HttpAnswer, Target as Backend};
use crate::backend::upstream::Sent;
use crate::call::{Call, Denial, DenialKind, Json, Outcome, Principal, Share, Target, TargetKind};
use crate::mcp::Params;
use crate::plugin::BackendResponse;
use crate::policy::Permitted;
use crate::rewrite::Rewriters;
use crate::route::{Asked, Found};
use crate::telemetry::trace;

/// A request for a route, besides what every call has.
#[derive(Debug)]
pub struct RouteRequest<'a> {
    /// The path as it was sent.
    pub path: &'a str,
    pub asked: &'a Asked,
    /// Whether it is to be done once, under which key.
    pub repeat: Option<&'a Repeat>,
}

impl Pipeline {
    /// Does one call for a route, or says why not. A call that is cancelled still ends in order, with its record.
    ///
    /// # Errors
    /// Any reason why the caller gets no answer of the target.
    pub async fn route(
        &self,
        request: CallRequest<'_>,
        route: RouteRequest<'_>,
        body: Sent,
        cancelled: &CancellationToken,
    ) -> Result<HttpAnswer, Failure> {
        spans::over(&request, self.route_call(request, route, body, cancelled), spans::of_list).await
    }

    /// A request of a caller who is known, which was refused before the guards were asked: they are asked now whether it
    /// comes too often, and it is on record.
    ///
    /// # Errors
    /// Always: [`Failure::Params`], or that the caller comes too often.
    pub async fn route_refused(&self, request: CallRequest<'_>, why: &str) -> Failure {
        let (generation, who) = self.live.admit(request.caller);
        let context = self.context(&generation, request, Instant::now());
        let (who, failure) = match who {
            Ok(who) => (Some(who), Failure::Params(why.to_owned())),
            Err(denial) => (None, denial.into()),
        };
        match self.refuse::<()>(&context, who.as_ref(), None, failure).await {
            Err(failure) => failure,
            Ok(()) => Failure::Params(why.to_owned()),
        }
    }

    async fn route_call(
        &self,
        request: CallRequest<'_>,
        route: RouteRequest<'_>,
        body: Sent,
        cancelled: &CancellationToken,
    ) -> Result<HttpAnswer, Failure> {
        let since = Instant::now();
        let (generation, who) = self.live.admit(request.caller);
        let context = self.context(&generation, request, since);
        let principal = match who {
            Ok(principal) => principal,
            Err(denial) => return self.refuse(&context, None, None, denial.into()).await,
        };
        if let Err(denial) = generation.policy().kill().check_caller(&principal) {
            return self.refuse(&context, Some(&principal), None, denial.into()).await;
        }
        let _place = match self.calls.take(Share::clone(&principal.share()), 1) {
            Ok(place) => place,
            Err(full) => {
                let denial = Denial::overloaded(if full.own {
                    "too many of your calls are under way: wait for one of them"
                } else {
                    "the gateway works on as many calls as it may: try again in a second or two"
                });
                return self.refuse(&context, Some(&principal), None, denial.into()).await;
            }
        };
        match found(&context, &route) {
            Ok(backend) => {
                let backend = backend.clone();
                self.route_deliver(&context, principal, (&route, &backend), body, cancelled).await
            }
            Err(failure) => self.refuse(&context, Some(&principal), None, failure).await,
        }
    }

    async fn route_deliver(
        &self,
        context: &CallContext<'_>,
        principal: Arc<Principal>,
        (route, backend): (&RouteRequest<'_>, &Backend),
        body: Sent,
        cancelled: &CancellationToken,
    ) -> Result<HttpAnswer, Failure> {
        let (policy, rewriters) = (context.generation.policy(), context.generation.rewriters());
        let entry = &route.asked.entry;
        let call = Arc::new(context.to_route(principal, route.asked));
        let _aloft = self.flights.take_off(&call, context.since);
        trace::about(&call, context.generation.id());
        let permitted = policy.decide(&call, entry.schema.as_deref());
        let permitted = match permitted {
            Ok(permitted) => permitted,
            Err(denial) => {
                return self.refuse(context, Some(&call.principal), Some(&call), denial.into()).await;
            }
        };
        let mut prepared = match rewriters.request(&permitted) {
            Ok(prepared) => prepared,
            Err(denial) => {
                return self.refuse(context, Some(&call.principal), Some(&call), denial.into()).await;
            }
        };
        let mut ticket = match route.repeat {
            None => None,
            Some(repeat) => match repeat.begin(&call).await {
                Ok(Begin::Work(ticket)) => ticket,
                Ok(Begin::Answered(answer)) => return self.replayed(context, &call, answer).await,
                Err(failure) => {
                    return self.refuse(context, Some(&call.principal), Some(&call), failure).await;
                }
            },
        };
        let intent =
            Entry { sent: context.sent(&prepared), ..context.entry(Some(&call.principal), Some(&call)) };
        self.recorded(self.audit.intent(context.id, &intent).await, &call.target.name, context)?;
        let outgoing = spans::outgoing_over_http(&context.request, &call, &mut prepared, backend.reached());
        if let Some(ticket) = &mut ticket {
            ticket.dispatched();
        }
        let sent = Instant::now();
        let parts = (prepared.params.as_ref(), prepared.headers.as_slice());
        let done = tokio::select! {
            biased;
            denial = policy.kill().killed(&call, &[]) => Err(denial.into()),
            () = cancelled.cancelled() => Err(Failure::Cancelled),
            denial = context.generation.ended() => Err(denial.into()),
            answer = Box::pin(backend.call(&permitted, route.asked, parts, body)) => answer.map_err(Failure::from),
        };
        let latency = sent.elapsed();
        spans::http_answered(outgoing, done.as_ref().err());
        let verdict = match &done {
            Ok(answer) => answer.outcome,
            Err(failure) => outcome::of_failure(failure),
        };
        let answer = done.and_then(|answer| http_rewritten(rewriters, &permitted, answer));
        if let Some(ticket) = ticket {
            let kept = repeat::kept(&answer);
            repeat::end(ticket, kept).await;
        }
        permitted.settle(verdict, latency);
        let status = match &answer {
            Ok(answer) if answer.outcome == Outcome::Success => Status::Success,
            Ok(_) => Status::Error,
            Err(failure) => outcome::refused_status(failure),
        };
        let error = match &answer {
            Ok(answer) => answer.complaint.clone(),
            Err(failure) => Some(failure.to_string()),
        };
        let closing = Closing {
            status,
            error: error.as_deref(),
            latency: context.since.elapsed(),
            notes: &prepared.notes,
        };
        self.recorded(self.audit.outcome(context.id, &closing).await, &call.target.name, context)?;
        self.meters.count(&call.target.name, status, answer.as_ref().err(), context.since.elapsed());
        answer
    }
}

impl Pipeline {
    /// Records that an answer was given again.
    async fn replayed(
        &self,
        context: &CallContext<'_>,
        call: &Call,
        answer: HttpAnswer,
    ) -> Result<HttpAnswer, Failure> {
        let notes = [("idempotent_replay".to_owned(), "true".to_owned())];
        let latency = context.since.elapsed();
        let closing = Closing { status: Status::Success, error: None, latency, notes: &notes };
        let entry = context.entry(Some(&call.principal), Some(call));
        self.recorded(self.audit.refused(context.id, &entry, &closing).await, &call.target.name, context)?;
        self.meters.count(&call.target.name, Status::Success, None, latency);
        Ok(answer)
    }
}

/// The target of a request, in the generation that the call belongs to.
fn found<'g>(context: &CallContext<'g>, route: &RouteRequest<'_>) -> Result<&'g Backend, Failure> {
    let entry = &route.asked.entry;
    let unknown = || Failure::Unknown { kind: TargetKind::Route, name: entry.route.id.clone() };
    let found = match context.generation.routes().find(&entry.route.method, route.path) {
        Found::Route(matched) => matched.entry,
        Found::Method(_) | Found::Nothing | Found::Ambiguous => return Err(unknown()),
    };
    // The configuration may have changed since the head of the request was judged.
    if !Arc::ptr_eq(found, entry) && found.route != entry.route {
        let text = "the configuration has changed while the request came in: send it once more";
        return Err(Failure::Denied(Denial::new(DenialKind::Unavailable, "route_changed", text)));
    }
    context.generation.targets().find(&entry.backend).ok_or_else(unknown)
}

/// An answer as the rewriters leave it, if it is JSON that was read whole.
fn http_rewritten(
    rewriters: &Rewriters,
    permitted: &Permitted,
    answer: HttpAnswer,
) -> Result<HttpAnswer, Failure> {
    if !rewriters.see_responses(&permitted.call().target.backend) {
        return Ok(answer);
    }
    if answer.rest.is_some() {
        // A rewriter may be there to remove something, so an answer that it cannot see whole goes to nobody.
        let text = "a rewriter has to see this answer, and it is not read whole: set stream = false";
        return Err(Failure::Denied(Denial::new(DenialKind::Unavailable, "answer_not_seen", text)));
    }
    if std::str::from_utf8(&answer.body).is_err()
        || serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_err()
    {
        return Ok(answer);
    }
    let seen = BackendResponse {
        is_error: answer.outcome != Outcome::Success,
        error_code: None,
        result: answer.body.clone(),
    };
    let changed = rewriters.response(permitted, &seen)?;
    Ok(match changed {
        Some(text) => HttpAnswer { body: Bytes::from(text), ..answer },
        None => answer,
    })
}

impl CallContext<'_> {
    fn to_route(&self, principal: Arc<Principal>, asked: &Asked) -> Call {
        let entry = &asked.entry;
        Call {
            id: self.id.to_string(),
            method: self.request.method.to_owned(),
            target: Target {
                kind: TargetKind::Route,
                name: entry.id.clone(),
                backend: entry.backend.clone(),
                upstream: entry.id.clone(),
            },
            principal,
            params: self.request.params.map_or_else(Json::empty, |params: &Params| params.json().clone()),
            session: self.request.session.clone(),
            door: self.request.door,
        }
    }
}
