//! The parts of a call that have spans of their own: what plugins were asked, and what a server was asked.

use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind};
use opentelemetry_sdk::trace::Span;

use super::attributes::{FLAGS, Problem, cancelled, close, name, target, transport};
use super::{Recorded, current};
use crate::call::Call;

/// A step of the current call that begins now and has a span of its own.
#[derive(Debug)]
pub struct Step {
    call: Arc<Recorded>,
    began: SystemTime,
}

/// Begins one, if the current call is recorded.
#[must_use]
pub fn step() -> Option<Step> {
    current().map(|call| Step { call, began: SystemTime::now() })
}

impl Step {
    /// It was a question to a plugin, answered with this word; a plugin that failed has a fault of this kind.
    pub fn plugin(self, name: &str, hook: &'static str, verdict: &'static str, fault: Option<&'static str>) {
        let builder = SpanBuilder::from_name(format!("plugin {name} {hook}"))
            .with_kind(SpanKind::Internal)
            .with_start_time(self.began)
            .with_attributes([
                KeyValue::new("sentinel.plugin.name", name.to_owned()),
                KeyValue::new("sentinel.plugin.hook", hook),
                KeyValue::new("sentinel.plugin.verdict", verdict),
            ]);
        let mut span = self.call.child(builder);
        let problem = fault.map(|kind| Problem { kind: kind.into(), code: None });
        close(&mut span, problem.as_ref());
    }
}

/// What a server is asked within the current call.
#[derive(Debug)]
pub struct Outgoing {
    span: Option<Span>,
}

impl Outgoing {
    /// Begins it. `reached` is the host and the port of a server that is spoken to over HTTP.
    #[must_use]
    pub fn begin(call: &Call, reached: Option<(&str, Option<u16>)>) -> Option<Self> {
        let recorded = current()?;
        let tracing = recorded.tracing;
        let mut attributes = vec![tracing.text("mcp.method.name", &call.method)];
        attributes.extend(target(tracing, call, &call.target.upstream));
        attributes.extend(transport(reached.is_some()));
        if let Some((host, port)) = reached {
            attributes.push(tracing.text("server.address", host));
            attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        }
        let builder = SpanBuilder::from_name(name(tracing, call, &call.target.upstream))
            .with_kind(SpanKind::Client)
            .with_attributes(attributes);
        Some(Self { span: Some(recorded.child(builder)) })
    }

    /// What the server is told of it: the values of `traceparent` and `tracestate`.
    #[must_use]
    pub fn told(&self) -> Option<(String, Option<String>)> {
        let context = self.span.as_ref()?.span_context();
        let flags = context.trace_flags().to_u8() & FLAGS;
        let parent = format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id());
        let state = context.trace_state().header();
        Some((parent, (!state.is_empty()).then_some(state)))
    }

    /// Says how it ended.
    pub fn end(mut self, problem: Option<&Problem>) {
        if let Some(mut span) = self.span.take() {
            close(&mut span, problem);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            close(&mut span, Some(&cancelled()));
        }
    }
}
