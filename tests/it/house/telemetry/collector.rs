//! A collector of OpenTelemetry: what it was sent, by OTLP over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode as Code};
use prost::Message as _;
use tokio::runtime::Runtime;

use crate::support::eventually;

/// A name, labels, a value.
pub(super) type Number = (String, Vec<(String, String)>, f64);

/// A request that it was sent.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

#[derive(Debug, Default)]
struct Inside {
    taken: Mutex<Vec<Taken>>,
    /// What it answers with; 200 if there is none.
    status: Mutex<Option<u16>>,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Collector {
    address: SocketAddr,
    inside: Arc<Inside>,
    runtime: Option<Runtime>,
}

impl Collector {
    pub(super) fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// At an address that is known before.
    pub(super) fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Arc::<Inside>::default();
        let router = Router::new().fallback(take).with_state(inside.clone());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await
        });
        Self { address, inside, runtime: Some(runtime) }
    }

    /// The keys that send everything here at once.
    pub(super) fn section(&self, more: &str) -> String {
        section(&self.address.to_string(), more)
    }

    pub(super) fn answers(&self, status: Option<u16>) {
        *self.inside.status.lock().unwrap() = status;
    }

    pub(super) fn taken(&self) -> Vec<Taken> {
        self.inside.taken.lock().unwrap().clone()
    }

    /// All spans that it has taken.
    pub(super) fn spans(&self) -> Vec<Seen> {
        let requests = self.taken().into_iter().filter(|taken| taken.path == "/v1/traces");
        let requests = requests.map(|taken| ExportTraceServiceRequest::decode(taken.body).unwrap());
        let resources = requests.flat_map(|request| request.resource_spans);
        resources
            .flat_map(|of| {
                let resource = pairs(&of.resource.unwrap().attributes);
                let scopes = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                scopes.map(move |span| Seen { span, resource: resource.clone() })
            })
            .collect()
    }

    /// The spans, once one is there that fits.
    pub(super) fn await_span(&self, what: &str, fits: impl Fn(&Seen) -> bool) -> Seen {
        eventually(what, || self.spans().into_iter().find(|span| fits(span)))
    }

    /// The numbers of the last request for metrics: names, labels, values. Of a histogram it is how often.
    pub(super) fn metrics(&self) -> Vec<Number> {
        let last = self.taken().into_iter().rfind(|taken| taken.path == "/v1/metrics");
        let Some(last) = last else { return Vec::new() };
        let request = ExportMetricsServiceRequest::decode(last.body).unwrap();
        let scopes = request.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
        let mut all = Vec::new();
        for metric in scopes.flat_map(|scope| scope.metrics) {
            let name = &metric.name;
            let mut add = |labels: &[KeyValue], value| all.push((name.clone(), pairs(labels), value));
            match metric.data.unwrap() {
                metric::Data::Sum(sum) => sum.data_points.iter().for_each(|p| add(&p.attributes, number(p))),
                metric::Data::Gauge(gauge) => {
                    gauge.data_points.iter().for_each(|p| add(&p.attributes, number(p)));
                }
                metric::Data::Histogram(all) => {
                    all.data_points.iter().for_each(|p| add(&p.attributes, p.count as f64));
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Everything goes to this address at once.
pub(super) fn section(address: &str, more: &str) -> String {
    format!("[telemetry.otlp]\nendpoint = \"http://{address}\"\nmetrics_interval_secs = 0.2\n{more}")
}

async fn take(State(inside): State<Arc<Inside>>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = *inside.status.lock().unwrap();
    if status.is_none() {
        let path = uri.path().to_owned();
        inside.taken.lock().unwrap().push(Taken { path, headers, body });
    }
    status.map_or(StatusCode::OK, |status| StatusCode::from_u16(status).unwrap())
}

fn number(point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint) -> f64 {
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Of;
    match point.value {
        Some(Of::AsInt(value)) => value as f64,
        Some(Of::AsDouble(value)) => value,
        None => panic!("{point:?}"),
    }
}

fn pairs(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(value) => value.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |pair: &KeyValue| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref()).unwrap();
        (pair.key.clone(), text(value))
    };
    attributes.iter().map(pair).collect()
}

/// A span as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) span: Span,
    pub(super) resource: Vec<(String, String)>,
}

impl Seen {
    pub(super) fn name(&self) -> &str {
        &self.span.name
    }

    pub(super) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(super) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// Empty if it has none.
    pub(super) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    pub(super) fn failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == Code::Error as i32)
    }

    /// An attribute; empty if it is not there.
    pub(super) fn said(&self, key: &str) -> String {
        let all = pairs(&self.span.attributes);
        all.into_iter().find(|(name, _)| name == key).map(|(_, value)| value).unwrap_or_default()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
