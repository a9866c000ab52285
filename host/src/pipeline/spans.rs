//! The spans of a call: one begins where it arrives, one where it goes on to a server, and both end with its result. A
//! client's trace context goes on to the server: with our span as the parent, or unchanged if there is no span.

use futures_util::future::Either;

use super::{Answer, AnswerKind, CallRequest, Failure, meters, outcome};
use crate::backend::Backend;
use crate::call::{Call, Json, Outcome};
use crate::mcp::Params;
use crate::mcp::message;
use crate::mcp::splice::{self, Edit};
use crate::rewrite::Prepared;
use crate::telemetry::context::{BAGGAGE, Carried, TRACEPARENT, TRACESTATE};
use crate::telemetry::trace::{self, CallSpan, Outgoing, Problem, Request};

/// Does the work of a request within a span of its own, if the request is to be recorded. This is no `async fn`, and what it
/// does for a span is in memory of its own: a future that is handed to an `async fn` is in that one's future twice, and the
/// future of a call is copied on its way to the door.
pub(super) fn over<'a, T: 'a>(
    request: &CallRequest<'_>,
    work: impl Future<Output = Result<T, Failure>> + Send + 'a,
    problem: impl FnOnce(&Result<T, Failure>) -> Option<Problem> + Send + 'a,
) -> impl Future<Output = Result<T, Failure>> + Send {
    let span = begin(request);
    if !span.is_recorded() {
        return Either::Left(work);
    }
    let work = Box::pin(work);
    Either::Right(Box::pin(async move {
        let done = span.over(work).await;
        span.end(problem(&done).as_ref());
        done
    }))
}

fn begin(request: &CallRequest<'_>) -> CallSpan {
    if !trace::is_on() {
        return CallSpan::none();
    }
    CallSpan::begin(&Request {
        method: request.method,
        id: request.rpc_id,
        session: request.session,
        door: request.door,
        version: request.client.client_info().version,
        meta: request.params.and_then(Params::meta),
        carried: request.trace,
    })
}

/// Why a call failed, in a word.
pub(super) fn of_answer(done: &Result<Answer, Failure>) -> Option<Problem> {
    match done {
        Ok(answer) => of_outcome(answer),
        Err(failure) => Some(of_failure(failure)),
    }
}

/// A JSON-RPC error counts by its code, a response by its status, a program by its exit code.
fn of_outcome(answer: &Answer) -> Option<Problem> {
    if answer.outcome == Outcome::Success {
        return None;
    }
    let number = |number: i64| Problem { kind: number.to_string().into(), code: None };
    Some(match &answer.kind {
        AnswerKind::Result => Problem { kind: "tool_error".into(), code: None },
        AnswerKind::RpcError { code } => Problem {
            kind: code.map_or_else(|| "_OTHER".into(), |code| code.to_string().into()),
            code: *code,
        },
        AnswerKind::Http(head) => number(head.status.as_u16().into()),
        AnswerKind::Exit { code, .. } => number((*code).into()),
    })
}

/// The same of what has no answer of a server.
pub(super) fn of_list<T>(done: &Result<T, Failure>) -> Option<Problem> {
    done.as_ref().err().map(of_failure)
}

fn of_failure(failure: &Failure) -> Problem {
    Problem { kind: meters::kind(failure, outcome::refused_status(failure)).into(), code: None }
}

/// Begins the span of the request to a server, and writes the trace context into that request.
pub(super) fn outgoing(
    request: &CallRequest<'_>,
    call: &Call,
    prepared: &mut Prepared,
    backend: &Backend,
) -> Option<Outgoing> {
    let begun = trace::is_on().then(|| Outgoing::begin(call, backend.reached())).flatten();
    match begun.as_ref().and_then(Outgoing::told) {
        Some((parent, state)) => {
            let params = prepared.params.as_ref().unwrap_or(&call.params);
            // Params that cannot take it stay as they are: the server sees no parent, and the call goes on.
            if let Some(params) = within(params, &parent, state.as_deref()) {
                prepared.params = Some(params);
            }
            let baggage = request.trace.and_then(Carried::baggage).map(|text| (BAGGAGE, text.to_owned()));
            let state = state.map(|state| (TRACESTATE, state));
            let ours = [Some((TRACEPARENT, parent)), state, baggage].into_iter().flatten();
            prepared.headers.extend(ours.map(|(name, value)| (name.to_owned(), value)));
        }
        None => {
            let theirs = request.trace.into_iter().flat_map(Carried::headers);
            prepared.headers.extend(theirs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
    }
    begun
}

/// Params whose `_meta` names this span as their parent, in place of another.
fn within(params: &Json, parent: &str, state: Option<&str>) -> Option<Json> {
    let set =
        |key: &str, value: &str| Edit::Set { pointer: format!("/_meta/{key}"), json: message::quoted(value) };
    let mut edits = vec![set(TRACEPARENT, parent)];
    match state {
        Some(state) => edits.push(set(TRACESTATE, state)),
        // It belongs to the parent that ours takes the place of.
        None if splice::get(params.get(), "/_meta/tracestate").is_some() => {
            edits.push(Edit::Remove { pointer: format!("/_meta/{TRACESTATE}") });
        }
        None => {}
    }
    splice::apply(params.get(), &edits).ok().map(Json::from)
}

/// Says how it ended.
pub(super) fn answered(outgoing: Option<Outgoing>, done: &Result<Answer, Failure>) {
    if let Some(outgoing) = outgoing {
        outgoing.end(of_answer(done).as_ref());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_span_it_was_sent_in() {
        let into = |params: &str, state| within(&params.into(), "PARENT", state).unwrap().get().to_owned();
        assert_eq!(into("{}", None), r#"{"_meta":{"traceparent":"PARENT"}}"#);
        assert_eq!(
            into(r#"{"name":"x","_meta":{"progressToken":7,"traceparent":"old","tracestate":"a=1"}}"#, None),
            r#"{"name":"x","_meta":{"progressToken":7,"traceparent":"PARENT"}}"#
        );
        assert_eq!(
            into(r#"{"_meta":{"tracestate":"a=1","baggage":"b=2"}}"#, Some("c=3")),
            r#"{"_meta":{"tracestate":"c=3","baggage":"b=2","traceparent":"PARENT"}}"#
        );
        assert!(within(&"[]".into(), "PARENT", None).is_none());
    }

    #[test]
    fn an_error_counts_by_its_code() {
        let of = |kind, outcome| of_outcome(&Answer { kind, outcome, ..Answer::own("{}".to_owned()) });
        let error = |code| of(AnswerKind::RpcError { code }, Outcome::ToolError).unwrap();
        assert_eq!(error(Some(-32602)), Problem { kind: "-32602".into(), code: Some(-32602) });
        assert_eq!(error(None), Problem { kind: "_OTHER".into(), code: None });
        let failed = of(AnswerKind::Exit { code: 3, digest: [0; 32] }, Outcome::ServerError);
        assert_eq!(failed, Some(Problem { kind: "3".into(), code: None }));
        assert_eq!(of(AnswerKind::Result, Outcome::Success), None);
    }
}
