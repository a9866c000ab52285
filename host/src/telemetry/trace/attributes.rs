//! What spans say: names and attributes, and how they end.

use std::borrow::Cow;
use std::str::FromStr as _;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::Span;

use super::super::context::Parent;
use super::{Request, Tracing};
use crate::call::{Call, TargetKind};
use crate::mcp::method;

/// The longest name in the name of a span, in bytes.
const MAX_TARGET: usize = 128;
/// The flags of W3C Trace Context that there are: sampled, random.
pub(super) const FLAGS: u8 = 3;

/// Why something that has a span failed: a word of a small set, and the code of a JSON-RPC error if there was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: Cow<'static, str>,
    pub code: Option<i64>,
}

pub(super) fn cancelled() -> Problem {
    Problem { kind: "cancelled".into(), code: None }
}

pub(super) fn close(span: &mut Span, problem: Option<&Problem>) {
    if let Some(problem) = problem {
        if let Some(code) = problem.code {
            span.set_attribute(KeyValue::new("rpc.response.status_code", code.to_string()));
        }
        span.set_attribute(KeyValue::new("error.type", problem.kind.clone()));
        // Without a message: what plugins and servers say may repeat arguments.
        span.set_status(Status::error(""));
    }
    span.end();
}

/// What the span of a call begins with.
pub(super) fn of_request(tracing: &Tracing, request: &Request<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        tracing.text("mcp.method.name", request.method),
        KeyValue::new("mcp.protocol.version", request.version),
        KeyValue::new("sentinel.door", request.door),
    ];
    attributes.extend(transport(request.door == "http"));
    if let Some(id) = request.id.filter(|id| *id != "null") {
        // As it was spelled, but for the quotes of a text.
        let plain = id.strip_prefix('"').and_then(|id| id.strip_suffix('"')).unwrap_or(id);
        attributes.push(tracing.text("jsonrpc.request.id", plain));
    }
    // Requests of the stateless era belong to no session, and a pipe has no id of one.
    if request.door == "http" && request.session != "stateless" {
        attributes.push(tracing.text("mcp.session.id", request.session));
    }
    attributes
}

pub(super) fn transport(http: bool) -> impl Iterator<Item = KeyValue> {
    let named = http.then(|| KeyValue::new("network.protocol.name", "http"));
    std::iter::once(KeyValue::new("network.transport", if http { "tcp" } else { "pipe" })).chain(named)
}

/// What is called, by the name that `name` is.
pub(super) fn target(tracing: &Tracing, call: &Call, name: &str) -> Vec<KeyValue> {
    let mut attributes = vec![tracing.text("sentinel.backend", &call.target.backend)];
    match (call.target.kind, call.method.as_str()) {
        (TargetKind::Tool, method) => {
            attributes.push(tracing.text("gen_ai.tool.name", name));
            if method == "tools/call" {
                attributes.push(KeyValue::new("gen_ai.operation.name", "execute_tool"));
            }
        }
        (TargetKind::Prompt, _) => attributes.push(tracing.text("gen_ai.prompt.name", name)),
        (TargetKind::Resource, _) => attributes.push(tracing.text("mcp.resource.uri", name)),
        _ => {}
    }
    attributes
}

/// `tools/call NAME`. A URI is in no name: there are too many of them.
pub(super) fn name(tracing: &Tracing, call: &Call, target: &str) -> String {
    let method = if method::is_of_protocol(&call.method) { call.method.as_str() } else { "request" };
    match call.target.kind {
        TargetKind::Tool | TargetKind::Prompt => {
            format!("{method} {}", tracing.redaction.excerpt(target, MAX_TARGET))
        }
        _ => method.to_owned(),
    }
}

pub(super) fn remote(parent: Parent, state: Option<&str>) -> SpanContext {
    let state = state.and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let (trace, span) = (TraceId::from_bytes(parent.trace), SpanId::from_bytes(parent.span));
    SpanContext::new(trace, span, TraceFlags::new(parent.flags & FLAGS), true, state)
}
