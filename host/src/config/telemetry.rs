//! Where traces and metrics go, as it is checked.

use super::Secret;
use crate::telemetry::otlp::Settings;

/// Telemetry: traces and metrics for other systems.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Telemetry {
    /// Traces and metrics for a collector of OpenTelemetry.
    pub otlp: Option<Otlp>,
}

/// How a collector of OpenTelemetry is reached, and what it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// What the sender works with.
    pub settings: Settings,
    /// Its address and the values of its headers, to be hidden from everything that is shown.
    pub secrets: Vec<Secret>,
}
