//! The spans of a call: one for the call, one for each time a plugin is asked, one for what a server is asked. Names and
//! attributes are those of OpenTelemetry's conventions for MCP and GenAI; the gateway's own begin with `sentinel.`.
//!
//! Arguments, results and what plugins or servers say are in no span. What comes from outside (names, ids, URIs) is redacted
//! and of bounded length. While nothing is recorded, which is so unless the file says otherwise, a call costs one look at
//! whether it is.

mod attributes;
mod parts;

use std::cell::RefCell;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator, SdkTracer, Span};
use parking_lot::Mutex;

pub use self::attributes::Problem;
use self::attributes::{cancelled, close, name, of_request, remote, target};
pub use self::parts::{Outgoing, Step, step};
use super::context::{self, Carried, Parent};
use crate::call::Call;
use crate::mcp::method;
use crate::redact::Redaction;

/// The longest value of an attribute, in bytes.
const MAX_VALUE: usize = 256;

/// What makes spans, once a gateway records any.
static TRACING: OnceLock<Tracing> = OnceLock::new();

thread_local! {
    /// The recorded call that this thread works on.
    static CURRENT: RefCell<Option<Arc<Recorded>>> = const { RefCell::new(None) };
}

/// Makes spans, and decides which calls have any.
#[derive(Debug)]
pub(super) struct Tracing {
    pub(super) tracer: SdkTracer,
    /// The share of calls that are recorded.
    pub(super) ratio: f64,
    /// A client's `traceparent` says whether its calls are recorded.
    pub(super) clients_decide: bool,
    pub(super) redaction: Redaction,
}

impl Tracing {
    /// From now on calls are recorded, for as long as the process runs.
    pub(super) fn begin(self) {
        // A second one would be a second gateway in one process, which there is not.
        let _ = TRACING.set(self);
    }

    /// The same decision in every system that sees this trace and has the same ratio, because it is taken by the trace's id.
    fn records(&self, parent: Option<Parent>) -> bool {
        match parent {
            Some(parent) if self.clients_decide => parent.is_sampled(),
            _ if self.ratio >= 1.0 => true,
            _ if self.ratio <= 0.0 => false,
            Some(parent) => self.is_chosen(parent.trace),
            None => self.is_chosen(RandomIdGenerator::default().new_trace_id().to_bytes()),
        }
    }

    fn is_chosen(&self, trace: [u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace;
        let drawn = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        (drawn as f64) < self.ratio * (1_u64 << 63) as f64
    }

    fn text(&self, key: &'static str, value: &str) -> KeyValue {
        KeyValue::new(key, self.redaction.excerpt(value, MAX_VALUE))
    }
}

/// Whether any call is recorded.
#[must_use]
pub(crate) fn is_on() -> bool {
    TRACING.get().is_some()
}

/// A call whose spans are recorded.
#[derive(Debug)]
struct Recorded {
    tracing: &'static Tracing,
    /// Of the call's own span.
    context: SpanContext,
    span: Mutex<Span>,
}

impl Recorded {
    fn child(&self, builder: SpanBuilder) -> Span {
        let parent = Context::new().with_remote_span_context(self.context.clone());
        self.tracing.tracer.build_with_context(builder, &parent)
    }
}

/// What the span of a call begins with.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The JSON-RPC id as it was spelled.
    pub id: Option<&'a str>,
    pub session: &'a str,
    pub door: &'static str,
    pub version: &'static str,
    /// `_meta` of its params.
    pub meta: Option<&'a str>,
    /// What came with its HTTP request.
    pub carried: Option<&'a Carried>,
}

/// The span of a call; it records nothing if the call is not to be recorded. One that is dropped early was cancelled.
#[derive(Debug)]
pub(crate) struct CallSpan(Option<Arc<Recorded>>);

impl CallSpan {
    /// Begins it, if the call is to be recorded. The parent is what `_meta` names, which belongs to the message, and else
    /// what the headers name, which belong to the HTTP request and may be of a proxy.
    #[must_use]
    pub(crate) fn begin(request: &Request<'_>) -> Self {
        let Some(tracing) = TRACING.get() else { return Self(None) };
        let told = request.meta.and_then(context::of_meta);
        let carried = request.carried.and_then(|carried| Some((carried.parent()?, carried)));
        let on_the_wire = carried.map(|(parent, _)| parent);
        let parent = told.as_ref().map(|(parent, _)| *parent).or(on_the_wire);
        if !tracing.records(parent) {
            return Self(None);
        }
        let known = method::is_of_protocol(request.method);
        let mut builder =
            SpanBuilder::from_name(if known { request.method.to_owned() } else { "request".to_owned() })
                .with_kind(SpanKind::Server)
                .with_attributes(of_request(tracing, request));
        if let (Some(_), Some((wire, carried))) = (&told, carried) {
            let context = remote(wire, carried.tracestate());
            builder = builder.with_links(vec![Link::with_context(context)]);
        }
        let state = match &told {
            Some((_, state)) => state.as_deref(),
            None => carried.and_then(|(_, carried)| carried.tracestate()),
        };
        let around = match parent {
            Some(parent) => Context::new().with_remote_span_context(remote(parent, state)),
            None => Context::new(),
        };
        let span = tracing.tracer.build_with_context(builder, &around);
        let context = span.span_context().clone();
        Self(Some(Arc::new(Recorded { tracing, context, span: Mutex::new(span) })))
    }

    /// One that records nothing.
    #[must_use]
    pub(crate) fn none() -> Self {
        Self(None)
    }

    #[must_use]
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Does a call's work, with its span at hand for all parts of it.
    pub(crate) async fn over<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            let _entered = self.0.as_ref().map(Entered::of);
            work.as_mut().poll(context)
        })
        .await
    }

    /// Says how it ended.
    pub(crate) fn end(mut self, problem: Option<&Problem>) {
        if let Some(call) = self.0.take() {
            let mut span = call.span.lock();
            close(&mut span, problem);
        }
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            close(&mut call.span.lock(), Some(&cancelled()));
        }
    }
}

/// While it is held, this thread works on that call.
struct Entered(Option<Arc<Recorded>>);

impl Entered {
    fn of(call: &Arc<Recorded>) -> Self {
        Self(CURRENT.replace(Some(call.clone())))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

fn current() -> Option<Arc<Recorded>> {
    is_on().then(|| CURRENT.with_borrow(Clone::clone)).flatten()
}

/// Says what the current call is about, once that is known, and which generation of the configuration does it. The name is the
/// catalog's, whatever the client used.
pub fn about(call: &Call, generation: u64) {
    let Some(recorded) = current() else { return };
    let tracing = recorded.tracing;
    let mut span = recorded.span.lock();
    span.update_name(name(tracing, call, &call.target.name));
    span.set_attributes(target(tracing, call, &call.target.name));
    // By this the record finds the span, and the span the record.
    span.set_attribute(KeyValue::new("sentinel.call.id", call.id.clone()));
    span.set_attribute(KeyValue::new("sentinel.generation", i64::try_from(generation).unwrap_or(i64::MAX)));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;
    use crate::redact::Secrets;

    fn tracing(ratio: f64, clients_decide: bool) -> Tracing {
        let tracer = SdkTracerProvider::builder().build().tracer("t");
        let secrets = Secrets { values: vec!["hunter22".to_owned()], ..Secrets::default() };
        Tracing { tracer, ratio, clients_decide, redaction: Redaction::new(&secrets) }
    }

    fn parent(number: u64, flags: u8) -> Parent {
        let mut trace = [7; 16];
        // What a good generator makes of consecutive numbers.
        trace[8..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Parent { trace, span: [1; 8], flags }
    }

    #[test]
    fn the_same_trace_is_recorded_everywhere_or_nowhere() {
        let (few, many) = (tracing(0.2, false), tracing(0.6, false));
        let chosen = |tracing: &Tracing| (1..=1_000).filter(|n| tracing.records(Some(parent(*n, 0)))).count();
        assert!((150..250).contains(&chosen(&few)) && (550..650).contains(&chosen(&many)));
        // What is recorded with the smaller ratio is recorded with the larger one.
        assert!((1..=1_000).all(|n| !few.records(Some(parent(n, 1))) || many.records(Some(parent(n, 0)))));
        let without = (0..1_000).filter(|_| few.records(None)).count();
        assert!((100..320).contains(&without), "{without}");
        let (none, all) = (tracing(0.0, false), tracing(1.0, false));
        assert!((1..=100).all(|n| !none.records(Some(parent(n, 1))) && all.records(Some(parent(n, 0)))));
        assert!(!none.records(None) && all.records(None));
    }

    #[test]
    fn a_client_decides_only_where_it_may() {
        let theirs = tracing(0.0, true);
        assert!(theirs.records(Some(parent(1, 1))) && theirs.records(Some(parent(1, 3))));
        assert!(!theirs.records(Some(parent(1, 0))) && !theirs.records(None));
        let theirs = tracing(1.0, true);
        assert!(!theirs.records(Some(parent(1, 0))) && theirs.records(None));
    }

    #[test]
    fn what_comes_from_outside_is_clean_and_short() {
        let tracing = tracing(1.0, false);
        let text = tracing.text("k", &format!("hunter22\n\u{1b}[2J{}", "x".repeat(9_000))).value.to_string();
        assert!(!text.contains("hunter22") && !text.contains('\n') && !text.contains('\u{1b}'), "{text:?}");
        assert!(text.len() < MAX_VALUE + 64, "{}", text.len());
    }
}
