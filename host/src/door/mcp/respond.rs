//! The only place where a failure becomes an error code of JSON-RPC (JSON-RPC 2.0 §5.1). The stateless era forbids servers codes
//! of their own in the reserved range, so there the same refusals have codes outside of it.
//!
//! What the client sees says what happened and what to do; causes that are the operator's go to the log.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::line::Outbound;
use crate::call::{Denial, DenialKind, Outcome, TargetKind};
use crate::mcp::bounds::TooLong;
use crate::mcp::era::{result_to_stateless, server_info};
use crate::mcp::payload::Payload;
use crate::mcp::{Era, code, message, splice};
use crate::pipeline::{Answer, AnswerKind, BackendError, Failure, Waiting, tried_again};
use crate::session::{AdmitError, InFlight};

/// The answer to a request that was under way, and is no longer: none where its client asked for none, or has cancelled it.
pub(super) fn ended(
    id: &RawValue,
    answer: Result<Answer, Failure>,
    in_flight: InFlight,
    era: Era,
) -> Option<Outbound> {
    let cancelled = in_flight.cancelled.is_cancelled();
    drop(in_flight);
    let status = status(&answer, era);
    let message = reply(id.get(), answer, era)?;
    (!cancelled).then_some(Outbound::Last { message, status })
}

/// The reply to a request; none where the client asked for none (it cancelled).
pub(super) fn reply(id: &str, answer: Result<Answer, Failure>, era: Era) -> Option<Payload> {
    match answer {
        Ok(Answer { kind, outcome, payload }) => Some(match kind {
            AnswerKind::Result => payload.reworded(message::result(id, payload.json())),
            AnswerKind::RpcError { .. } => payload.reworded(message::error_object(id, payload.json())),
            AnswerKind::Http(_) | AnswerKind::Exit { .. } => {
                // A string that is elsewhere cannot be quoted in another string.
                let (said, outcome) = if payload.is_whole() {
                    (payload.json(), outcome)
                } else {
                    ("the answer is too long to be the result of a tool", Outcome::ToolError)
                };
                message::result(id, &tool_result(said, outcome, era)).into()
            }
        }),
        Err(Failure::Pending(waiting)) if waiting.of_tool => Some(pending(id, &waiting, era).into()),
        Err(failure) => failed(id, &failure, era).map(Payload::from),
    }
}

/// The result of a call of a tool that waits for a person. It is one of those that say `isError`, because the call was not
/// made: a model reads what to do, and no client takes it for what the tool gives back. The facts stand in `_meta`, because
/// `structuredContent` has to fit the tool's own schema, also in an error (MCP "Tools", output schema).
fn pending(id: &str, waiting: &Waiting, era: Era) -> Bytes {
    let result = json!({
        "content": [{ "type": "text", "text": waiting.sentence() }],
        "isError": true,
        "_meta": { APPROVAL: waiting.to_json() },
    })
    .to_string();
    let result = match era {
        Era::Handshake => result,
        Era::Stateless => result_to_stateless("tools/call", &result, &server_info()),
    };
    message::result(id, &result)
}

/// The member of `_meta` with the facts about a call that waits for a person.
const APPROVAL: &str = "sentinel-gateway/approval";

/// The answer of a backend that is no MCP server as the result of a tool (MCP "Tools", tool result).
fn tool_result(said: &str, outcome: Outcome, era: Era) -> String {
    let mut result = format!("{{\"content\":[{{\"type\":\"text\",\"text\":{}}}]", message::quoted(said));
    if said.starts_with('{') && serde_json::from_str::<&RawValue>(said).is_ok() {
        result.push_str(",\"structuredContent\":");
        result.push_str(said);
    }
    if outcome != Outcome::Success {
        result.push_str(",\"isError\":true");
    }
    result.push('}');
    match era {
        Era::Handshake => result,
        Era::Stateless => result_to_stateless("tools/call", &result, &server_info()),
    }
}

/// The HTTP status of an answer (2026-07-28, "Transports": errors of the protocol itself are 400). In both eras a
/// caller who lacks a scope is told so by 403 (MCP "Authorization", scope challenge).
pub(super) fn status(answer: &Result<Answer, Failure>, era: Era) -> u16 {
    match answer {
        Err(Failure::Denied(denial)) if denial.lacks_scopes().is_some() => FORBIDDEN,
        Err(Failure::Method(_)) if era == Era::Stateless => 404,
        Err(Failure::Denied(denial)) if era == Era::Stateless && denial.kind == DenialKind::UnknownMethod => {
            404
        }
        Ok(answer) if era == Era::Stateless => match answer.error_code() {
            Some(code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION) => 400,
            Some(code::METHOD_NOT_FOUND) => 404,
            _ => 200,
        },
        _ => 200,
    }
}

/// The status that has a challenge.
pub(super) const FORBIDDEN: u16 = 403;

/// The scopes that an answer with the status [`FORBIDDEN`] says are missing.
pub(super) fn lacking(message: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(message).ok()?;
    let reason = splice::get(text, "/error/data/reason")?;
    let scope = splice::get(text, "/error/data/scope").and_then(|scope| serde_json::from_str(scope).ok());
    (reason == "\"insufficient_scope\"").then(|| scope.unwrap_or_default())
}

/// A failure as an error message of JSON-RPC.
pub(crate) fn failed(id: &str, failure: &Failure, era: Era) -> Option<Bytes> {
    let text = said(failure);
    let (code, data) = match failure {
        // To this caller it is as unknown as a method that does not exist.
        Failure::Denied(denial) if denial.kind == DenialKind::UnknownMethod => {
            (code::METHOD_NOT_FOUND, Value::Null)
        }
        Failure::Denied(denial) => (denied(denial, era), facts(denial)),
        Failure::Unknown { kind: TargetKind::Resource, name } => {
            (code::INVALID_PARAMS, json!({ "reason": "unknown_target", "uri": name }))
        }
        Failure::Unknown { .. } => (code::INVALID_PARAMS, json!({ "reason": "unknown_target" })),
        // It may be there when it is asked for again.
        Failure::Unlisted { .. } => {
            (code::INVALID_PARAMS, json!({ "reason": "backend_not_listed", "retryAfter": LISTED_AFTER }))
        }
        Failure::Params(_) => (code::INVALID_PARAMS, json!({ "reason": "invalid_arguments" })),
        Failure::Method(_) => (code::METHOD_NOT_FOUND, Value::Null),
        // The caller's own doing, and no failure of the server.
        Failure::Backend(error @ BackendError::Share { .. }) => (overloaded(era), backend(error)),
        Failure::Backend(error) => (code::INTERNAL_ERROR, backend(error)),
        Failure::Audit(_) => (code::INTERNAL_ERROR, json!({ "reason": "audit_unavailable" })),
        // MCP "Cancellation": the receiver should not respond.
        Failure::Cancelled => return None,
        Failure::Pending(waiting) => (of_era(code::FORBIDDEN, era), waiting.to_json()),
    };
    Some(message::error(id, code, &text, &data))
}

/// The answer to a request with a part that is too long to be kept. An id that is too long is not repeated in it.
pub(super) fn too_long(id: &RawValue, error: TooLong) -> Bytes {
    let (id, code) = match error {
        TooLong::Id => ("null", code::INVALID_REQUEST),
        TooLong::Method => (id.get(), code::METHOD_NOT_FOUND),
        TooLong::Token => (id.get(), code::INVALID_PARAMS),
    };
    message::error(id, code, &error.to_string(), &json!({ "reason": "too_long" }))
}

/// The answer to a request that a session does not take up.
pub(super) fn not_admitted(id: &str, error: AdmitError, era: Era) -> Bytes {
    let (code, data) = match error {
        AdmitError::Doubled => (code::INVALID_REQUEST, json!({ "reason": "id_in_use" })),
        AdmitError::Full => (overloaded(era), json!({ "reason": "overloaded", "retryAfter": 1 })),
    };
    message::error(id, code, &error.to_string(), &data)
}

/// The text that a client reads about a failure: what became of its call, and what it can do about it. The reason why a
/// server is down or broke the protocol is left out, because it may hold what only operators should read. That a server
/// refused this very call, and how, is told.
fn said(failure: &Failure) -> String {
    if let Failure::Pending(waiting) = failure {
        return waiting.sentence();
    }
    let Failure::Backend(error) = failure else { return failure.to_string() };
    match error {
        BackendError::Unreachable { backend, again, .. } => {
            format!("backend \"{backend}\" is not available{}", tried_again(*again))
        }
        BackendError::Protocol { backend, .. } => {
            format!(
                "backend \"{backend}\" did not answer in the protocol; its operator finds the reason in the log"
            )
        }
        BackendError::Status { backend, status, said, .. }
            if !tells_the_caller(*status) || said.is_empty() =>
        {
            format!("backend \"{backend}\" answered with HTTP status {status}")
        }
        BackendError::Timeout { .. }
        | BackendError::TooLarge { .. }
        | BackendError::Unkept { .. }
        | BackendError::Status { .. }
        | BackendError::Busy { .. }
        | BackendError::Stopped { .. }
        | BackendError::Refused(_)
        | BackendError::Share { .. } => error.to_string(),
    }
}

/// Whether what a server says with a status is about the call: it was refused as the client's mistake, and not because of
/// the credentials, which are the gateway's own.
fn tells_the_caller(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 401 | 407)
}

fn denied(denial: &Denial, era: Era) -> i64 {
    let code = match denial.kind {
        DenialKind::Unauthenticated => code::UNAUTHENTICATED,
        DenialKind::Killed => code::KILLED,
        DenialKind::RateLimited => code::RATE_LIMITED,
        DenialKind::Forbidden => code::FORBIDDEN,
        DenialKind::CircuitOpen => code::CIRCUIT_OPEN,
        DenialKind::UnknownMethod => return code::METHOD_NOT_FOUND,
        DenialKind::InvalidArguments => return code::INVALID_PARAMS,
        DenialKind::Unavailable => return code::INTERNAL_ERROR,
    };
    of_era(code, era)
}

/// The code of a request of an unknown caller.
pub(super) fn unauthenticated(era: Era) -> i64 {
    of_era(code::UNAUTHENTICATED, era)
}

/// The code of a request that comes when its sender's share is used up.
pub(super) fn overloaded(era: Era) -> i64 {
    of_era(code::RATE_LIMITED, era)
}

/// A code of the gateway's own, as it is in this era.
fn of_era(code: i64, era: Era) -> i64 {
    match era {
        Era::Handshake => code,
        Era::Stateless => code + OUTSIDE,
    }
}

/// Seconds after which it is worth asking again for a name that a starting backend may offer.
const LISTED_AFTER: u64 = 2;

/// From -32001 to -31001: the last digits say the same.
const OUTSIDE: i64 = 1_000;

/// `data`: the stable reason, when to try again (whole seconds, rounded up), and the plugin's own facts.
fn facts(denial: &Denial) -> Value {
    let mut data = Map::new();
    for (name, value) in &denial.details {
        data.insert(name.clone(), Value::String(value.clone()));
    }
    data.insert("reason".to_owned(), Value::String(denial.reason.clone()));
    if let Some(after) = denial.retry_after {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        data.insert("retryAfter".to_owned(), seconds.into());
    }
    Value::Object(data)
}

fn backend(error: &BackendError) -> Value {
    match error {
        BackendError::Unreachable { backend, again, .. } => {
            let mut data = json!({ "reason": "backend_unreachable", "backend": **backend });
            if let Some(again) = again {
                data["retryAfter"] = (again.as_secs() + 1).into();
            }
            data
        }
        BackendError::Timeout { backend, .. } => json!({ "reason": "backend_timeout", "backend": **backend }),
        BackendError::Protocol { backend, .. } | BackendError::TooLarge { backend, .. } => {
            json!({ "reason": "backend_protocol_error", "backend": **backend })
        }
        // Nothing is said of another try: it would be another call.
        BackendError::Unkept { backend, .. } => {
            json!({ "reason": "answer_not_kept", "backend": **backend })
        }
        BackendError::Busy { backend, .. } => {
            json!({ "reason": "backend_busy", "backend": **backend, "retryAfter": 1 })
        }
        BackendError::Stopped { backend } => {
            json!({ "reason": "backend_stopped", "backend": **backend })
        }
        BackendError::Refused(denial) => json!({ "reason": denial.reason }),
        BackendError::Share { backend, .. } => {
            json!({ "reason": "overloaded", "backend": **backend, "retryAfter": 1 })
        }
        BackendError::Status { backend, status, retry_after, .. } => {
            let mut data = json!({ "reason": "backend_http_status", "backend": **backend, "status": status });
            if let Some(after) = retry_after {
                data["retryAfter"] = after.as_secs().into();
            }
            data
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wire(failure: &Failure) -> Value {
        serde_json::from_slice(&failed("\"a\"", failure, Era::Handshake).unwrap()).unwrap()
    }

    #[test]
    fn refusals_carry_their_code_reason_and_whole_seconds() {
        let mut denial = Denial::new(DenialKind::RateLimited, "rate_limited", "slow down");
        denial.retry_after = Some(Duration::from_millis(1001));
        assert_eq!(
            wire(&Failure::Denied(denial)),
            json!({"jsonrpc":"2.0","id":"a","error":{"code":-32004,"message":"slow down","data":{"reason":"rate_limited","retryAfter":2}}})
        );
    }

    #[test]
    fn a_client_hears_what_became_of_its_call_and_not_why_a_server_is_down() {
        let text = |error| wire(&Failure::Backend(error))["error"]["message"].as_str().unwrap().to_owned();
        let down = BackendError::Unreachable {
            counts: false,
            backend: "b".into(),
            reason: "login refused for key".into(),
            again: Some(Duration::from_millis(1500)),
        };
        assert!(down.to_string().contains("login refused"), "operators read why");
        assert_eq!(text(down.clone()), "backend \"b\" is not available; it is tried again within 2 s");
        assert_eq!(wire(&Failure::Backend(down))["error"]["data"]["retryAfter"], 2);
        let garbage = BackendError::Protocol { backend: "b".into(), reason: "key 5".into() };
        assert!(!text(garbage).contains("key 5"));
        for (status, heard) in
            [(400, true), (404, true), (422, true), (401, false), (407, false), (500, false), (302, false)]
        {
            let said = "at most 50".into();
            let error = BackendError::Status { backend: "b".into(), status, retry_after: None, said };
            assert_eq!(text(error).contains("at most 50"), heard, "{status}");
        }
    }

    #[test]
    fn what_is_no_mcp_answer_becomes_the_result_of_a_tool() {
        let said = |text: &str, outcome| {
            let kind = AnswerKind::Exit { code: 0, digest: [0; 32] };
            let answer = Answer { kind, outcome, payload: text.to_owned().into() };
            let message = reply("1", Ok(answer), Era::Handshake).unwrap();
            serde_json::from_slice::<Value>(message.text()).unwrap()["result"].clone()
        };
        assert_eq!(
            said("a\n\"b\"", Outcome::Success),
            json!({"content": [{"type": "text", "text": "a\n\"b\""}]})
        );
        let object = said(r#"{"a":1}"#, Outcome::ServerError);
        assert_eq!((&object["structuredContent"], &object["isError"]), (&json!({"a": 1}), &json!(true)));
        assert!(said(r#"{"a":"#, Outcome::Success).get("structuredContent").is_none());
    }

    #[test]
    fn every_refusal_has_its_own_code() {
        let code = |refused| {
            wire(&Failure::Denied(Denial::new(refused, "r", "m")))["error"]["code"].as_i64().unwrap()
        };
        assert_eq!(code(DenialKind::Unauthenticated), -32001);
        assert_eq!(code(DenialKind::Forbidden), -32003);
        assert_eq!(code(DenialKind::Killed), -32005);
        assert_eq!(code(DenialKind::CircuitOpen), -32007);
        assert_eq!(code(DenialKind::InvalidArguments), -32602);
        assert_eq!(code(DenialKind::Unavailable), -32603);
        assert_eq!(code(DenialKind::UnknownMethod), -32601);
        assert!(failed("1", &Failure::Cancelled, Era::Handshake).is_none());
    }

    /// 2026-07-28: a method that is not known is 404, and one that this caller may not know is not told from it.
    #[test]
    fn a_method_that_is_kept_from_a_caller_is_as_unknown_as_any() {
        let nobodys = Failure::Method("acme/run".to_owned());
        let text = "method `acme/run` is not known here";
        let kept = Failure::Denied(Denial::new(DenialKind::UnknownMethod, "unknown_method", text));
        for (era, wanted) in [(Era::Handshake, 200), (Era::Stateless, 404)] {
            assert_eq!(status(&Err(nobodys.clone()), era), wanted);
            assert_eq!(status(&Err(kept.clone()), era), wanted);
            assert_eq!(failed("1", &kept, era), failed("1", &nobodys, era));
        }
    }

    #[test]
    fn a_missing_scope_is_a_status_of_its_own_in_both_eras() {
        let mut denial = Denial::new(DenialKind::Forbidden, "insufficient_scope", "more");
        denial.details.push(("scope".to_owned(), "a b".to_owned()));
        let failure = Failure::Denied(denial);
        for (era, wanted) in [(Era::Handshake, -32003), (Era::Stateless, -31003)] {
            assert_eq!(status(&Err(failure.clone()), era), FORBIDDEN);
            let message = failed("1", &failure, era).unwrap();
            let value: Value = serde_json::from_slice(&message).unwrap();
            assert_eq!(value["error"]["code"], wanted);
            assert_eq!(lacking(&message).as_deref(), Some("a b"));
        }
        let other = Failure::Denied(Denial::new(DenialKind::Forbidden, "permission_denied", "no"));
        assert_eq!(status(&Err(other.clone()), Era::Handshake), 200);
        assert_eq!(lacking(&failed("1", &other, Era::Handshake).unwrap()), None);
    }
}
