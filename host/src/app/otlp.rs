//! Translates the configuration of telemetry into the settings of the sender.

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Config;
use crate::telemetry::otlp::Settings;
use crate::telemetry::{self, Watch};

/// Starts counting, and recording calls if a collector is named.
pub(super) fn watch(config: &Config) -> anyhow::Result<Watch> {
    let settings = settings(config)?;
    telemetry::watch(settings.as_ref(), &config.redaction)
}

fn settings(config: &Config) -> anyhow::Result<Option<Settings>> {
    let Some(otlp) = &config.telemetry.otlp else { return Ok(None) };
    let mut headers = HeaderMap::new();
    for (name, value) in &otlp.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).context("telemetry.otlp.headers")?;
        let mut value = HeaderValue::from_str(value.expose()).context("telemetry.otlp.headers")?;
        // Kept out of every debug output.
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(Some(Settings {
        endpoint: otlp.endpoint.expose().to_owned(),
        headers,
        ca: otlp.ca.clone(),
        traces: otlp.traces,
        metrics: otlp.metrics,
        sample_ratio: otlp.sample_ratio,
        clients_decide: otlp.clients_decide,
        timeout: otlp.timeout,
        metrics_interval: otlp.metrics_interval,
        max_queue_bytes: otlp.max_queue_bytes,
        attributes: otlp.attributes.clone(),
    }))
}
