//! `[telemetry]` as it is typed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Seconds;

/// Traces and metrics for other systems, besides the log and `/metrics`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawTelemetry {
    /// Traces and metrics for a collector of OpenTelemetry. Without this section nothing is sent anywhere.
    pub(in crate::config) otlp: Option<RawOtlp>,
}

/// Traces and metrics for a collector of OpenTelemetry (OTLP over HTTP, protobuf). Variables of the environment such as
/// OTEL_EXPORTER_OTLP_ENDPOINT have no effect by themselves; a value can name them: "${OTEL_EXPORTER_OTLP_ENDPOINT}".
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawOtlp {
    /// The collector's address, such as "http://127.0.0.1:4318"; `/v1/traces` and `/v1/metrics` are added to it. `${NAME}`
    /// and `${file:PATH}` are replaced. No proxy is used.
    pub(in crate::config) endpoint: Option<String>,
    /// Headers of every request, such as a key: "${NAME}" and "${file:PATH}" as in `headers` of a backend.
    pub(in crate::config) headers: BTreeMap<String, String>,
    /// A file of certificates (PEM) to trust for an endpoint with https, besides the system's.
    pub(in crate::config) ca_file: Option<String>,
    /// Send a trace of each call: the call, each plugin that was asked, what the server was asked. No arguments and no
    /// results. Servers are told of it, in `_meta` and over HTTP in headers (W3C Trace Context).
    pub(in crate::config) traces: bool,
    /// Send the metrics that /metrics has.
    pub(in crate::config) metrics: bool,
    /// The share of calls that are traced, from 0 to 1. The other ones cost nothing, and what their clients say of a trace
    /// goes to the server as it came.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(in crate::config) sample_ratio: f64,
    /// Whether a client that sends a `traceparent` decides if its call is traced (by the flag "sampled" in it), instead of
    /// sample_ratio. Then one client can fill the queue.
    pub(in crate::config) clients_decide: bool,
    /// How long one request to the collector may take.
    #[schemars(range(max = 600.0))]
    pub(in crate::config) timeout_secs: Seconds,
    /// How often metrics are sent.
    #[schemars(range(min = 0.1, max = 86_400.0))]
    pub(in crate::config) metrics_interval_secs: Seconds,
    /// How much memory spans that wait for the collector may take, in bytes; more of them are lost, and counted.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub(in crate::config) max_queue_bytes: usize,
    /// Attributes of this gateway in everything that is sent, such as `"deployment.environment.name" = "production"` or
    /// another `"service.name"` than "sentinel-gateway". `${NAME}` is replaced.
    pub(in crate::config) attributes: BTreeMap<String, String>,
}

impl Default for RawOtlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            ca_file: None,
            traces: true,
            metrics: true,
            sample_ratio: 1.0,
            clients_decide: false,
            timeout_secs: Seconds(10.0),
            metrics_interval_secs: Seconds(60.0),
            max_queue_bytes: 8 << 20,
            attributes: BTreeMap::new(),
        }
    }
}
