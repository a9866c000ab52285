//! Sends spans and metrics to a collector in the OpenTelemetry protocol (OTLP over HTTP, protobuf), if the file names one.
//!
//! Nothing of it is on the way of a call: a span goes into a queue that is bounded in number and in bytes, and is counted as
//! lost if there is no room; everything else is done by two tasks of their own.

mod encode;
mod meters;
mod numbers;
mod sender;
mod spans;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanLimits};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) use self::meters::{Both, Series};
use self::sender::Sender;
use super::trace::Tracing;
use crate::redact::Redaction;

/// What the parts of the gateway are called in what is sent.
const SCOPE: &str = "sentinel-gateway";
/// How long the gateway waits at its end for spans and metrics that are not sent yet.
const FAREWELL: Duration = Duration::from_secs(3);
/// Most attributes of a span; ours have about a dozen.
const MAX_ATTRIBUTES: u32 = 32;

/// The collector, and how much is recorded.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// The collector's address; `/v1/traces` and `/v1/metrics` follow it.
    pub endpoint: String,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Certificates (PEM) to trust besides the system's.
    pub ca: Option<String>,
    pub traces: bool,
    pub metrics: bool,
    /// The share of calls that are recorded, from 0 to 1.
    pub sample_ratio: f64,
    /// A client's `traceparent` says whether its calls are recorded.
    pub clients_decide: bool,
    /// How long one attempt to send may take.
    pub timeout: Duration,
    /// How often metrics are sent.
    pub metrics_interval: Duration,
    /// How many bytes waiting spans may take together.
    pub max_queue_bytes: usize,
    /// Attributes of this gateway in everything that is sent.
    pub attributes: Vec<(String, String)>,
}

impl fmt::Debug for Settings {
    /// Without the endpoint and the headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("traces", &self.traces)
            .field("metrics", &self.metrics)
            .field("sample_ratio", &self.sample_ratio)
            .finish_non_exhaustive()
    }
}

/// The tasks that send spans and metrics.
#[derive(Debug)]
pub struct Otlp {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Otlp {
    /// Starts sending. `series` are the metrics, which are counted from now on. Needs a Tokio runtime.
    ///
    /// # Errors
    /// There can be no HTTP client.
    pub(super) fn start(
        settings: &Settings,
        series: Option<Arc<Series>>,
        redaction: Redaction,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let resource = resource(settings);
        let told = Arc::new(ResourceAttributesWithSchema::from(&resource));
        let mut tasks = Vec::new();
        if settings.traces {
            let sender = Sender::new(settings, "v1/traces", "spans")?;
            let (queue, batches) = spans::queue(settings.max_queue_bytes);
            tasks.push(tokio::spawn(batches.send(sender, told.clone(), stop.clone())));
            let limits = SpanLimits { max_attributes_per_span: MAX_ATTRIBUTES, ..SpanLimits::default() };
            let provider = SdkTracerProvider::builder()
                .with_span_processor(queue)
                // Which calls are recorded is decided before their spans are made.
                .with_sampler(Sampler::AlwaysOn)
                .with_span_limits(limits)
                .with_resource(resource)
                .build();
            let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
            let tracing = Tracing {
                tracer: provider.tracer_with_scope(scope),
                ratio: settings.sample_ratio,
                clients_decide: settings.clients_decide,
                redaction,
            };
            tracing.begin();
        }
        if let Some(series) = series {
            let sender = Sender::new(settings, "v1/metrics", "metrics")?;
            tasks.push(tokio::spawn(meters::send(
                series,
                SystemTime::now(),
                settings.metrics_interval,
                (sender, told),
                stop.clone(),
            )));
        }
        Ok(Self { stop, tasks })
    }

    /// Sends what is left, as long as that is quick.
    pub(super) async fn close(self) {
        self.stop.cancel();
        let all = futures_util::future::join_all(self.tasks);
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("the collector of telemetry did not take the last spans and metrics in time");
        }
    }
}

/// The description of this gateway, from the file only and never from `OTEL_*` variables.
fn resource(settings: &Settings) -> Resource {
    let own = [
        ("service.name", "sentinel-gateway"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.language", "rust"),
    ];
    let said = settings.attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    // Two gateways are two sources of numbers, though all else is the same: each client may have started one.
    let instance = KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string());
    let pid = KeyValue::new("process.pid", i64::from(std::process::id()));
    // A later attribute takes the place of an earlier one of its name.
    let all =
        own.into_iter().map(|(key, value)| KeyValue::new(key, value)).chain([instance, pid]).chain(said);
    Resource::builder_empty().with_attributes(all).build()
}
