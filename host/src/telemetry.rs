//! Logs on stderr (stdout belongs to the protocol) and metrics for Prometheus.

use std::sync::Arc;
use std::time::Duration;

mod fields;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tracing_subscriber::EnvFilter;

use crate::redact::Redaction;

/// Buckets of call durations, in seconds: from a fast pipe to a patient tool.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How often recorded durations are sorted into their buckets. Until then each takes memory of its own.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts logging at a level: `info`, or a filter such as `info,sentinel_gateway::backend=debug`. Whatever is logged from
/// then on, by whichever part of the gateway, is on one line, free of what `redaction` hides, and of bounded length.
///
/// # Errors
/// The filter cannot be read, or logging has been started before.
pub fn log(level: &str, redaction: Redaction) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(level).map_err(|error| anyhow::anyhow!("log level `{level}`: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(fields::CleanFields(redaction))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}

/// Starts counting; the function renders what was counted so far. Needs a Tokio runtime.
///
/// # Errors
/// Another recorder is installed already.
pub fn metrics() -> anyhow::Result<Arc<dyn Fn() -> String + Send + Sync>> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("duration_seconds".to_owned()), &BUCKETS)?
        .build_recorder();
    let handle = recorder.handle();
    let upkeep = recorder.handle();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    metrics::set_global_recorder(recorder).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Arc::new(move || handle.render()))
}
