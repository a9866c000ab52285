//! Where traces and metrics go, as it is checked.

use std::time::Duration;

use super::Secret;

/// Telemetry: traces and metrics for other systems.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Telemetry {
    /// Traces and metrics for a collector of OpenTelemetry.
    pub otlp: Option<Otlp>,
}

/// How a collector of OpenTelemetry is reached, and what it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// Its address, without the paths.
    pub endpoint: Secret,
    /// Headers of every request.
    pub headers: Vec<(String, Secret)>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca: Option<String>,
    /// Traces of calls.
    pub traces: bool,
    /// Metrics.
    pub metrics: bool,
    /// The share of calls that are traced.
    pub sample_ratio: f64,
    /// A client's `traceparent` decides instead.
    pub clients_decide: bool,
    /// How long one request may take.
    pub timeout: Duration,
    /// How often metrics are sent.
    pub metrics_interval: Duration,
    /// How much memory waiting spans may take.
    pub max_queue_bytes: usize,
    /// Attributes of this gateway in all that is sent.
    pub attributes: Vec<(String, String)>,
}
