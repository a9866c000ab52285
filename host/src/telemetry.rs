//! Logs on stderr (stdout belongs to the protocol), metrics for Prometheus, and spans and metrics for OpenTelemetry.

use std::sync::Arc;
use std::time::Duration;

pub mod context;
mod counted;
mod fields;
mod flood;
pub mod otlp;
pub mod trace;

use metrics_exporter_prometheus::PrometheusBuilder;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use self::counted::Prometheus;
use self::flood::Flood;

use crate::redact::Redaction;

/// How many buckets each histogram has, but for the one without a bound.
const BOUNDS: usize = 14;

/// Buckets of call durations, in seconds: from a fast pipe to a patient tool.
const BUCKETS: [f64; BOUNDS] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How often the exporter for Prometheus tidies up what it keeps.
const UPKEEP: Duration = Duration::from_secs(5);

/// The log of this process, while it runs.
#[derive(Debug)]
pub struct Log {
    flood: Flood,
    level: Level,
}

/// How much is logged. It can be changed while the process runs.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Log {
    /// Reports lines that were left out of the log and not reported yet, before the process ends.
    pub fn close(self) {
        self.flood.report();
    }

    /// How much is logged, to change it.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

impl Level {
    /// From now on as much is logged as this level, or this filter, says.
    ///
    /// # Errors
    /// The filter cannot be read; then everything stays as it was.
    pub fn set(&self, level: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(filter(level)?)?)
    }
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).map_err(|error| anyhow::anyhow!("log level `{level}`: {error}"))
}

/// Starts logging at a level: `info`, or a filter such as `info,sentinel_gateway::backend=debug`. Whatever is logged from
/// then on, by whichever part of the gateway, is on one line, free of what `redaction` hides, of bounded length, and bounded
/// in how often it comes. Needs a Tokio runtime.
///
/// # Errors
/// The filter cannot be read, or logging has been started before.
pub fn log(level: &str, redaction: Redaction) -> anyhow::Result<Log> {
    let log = log_at_once(level, redaction)?;
    tokio::spawn(log.flood.clone().reports());
    Ok(log)
}

/// The same for a process without a runtime: how many lines were left out is not said from time to time.
///
/// # Errors
/// The filter cannot be read, or logging has been started before.
pub fn log_at_once(level: &str, redaction: Redaction) -> anyhow::Result<Log> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let flood = Flood::new(redaction.clone());
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(fields::CleanFields(redaction))
        .with_writer(std::io::stderr)
        .with_ansi(shows_colours(&std::io::stderr()));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(flood.clone())
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))?;
    Ok(Log { flood, level: Level(handle) })
}

/// Whether colours may be written there: it is a terminal that can show them, and `NO_COLOR` is not set (no-color.org).
#[must_use]
pub fn shows_colours(stream: &impl std::io::IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Buckets of what a plugin takes, in seconds: most answer within microseconds.
const PLUGIN_BUCKETS: [f64; BOUNDS] = [
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.005,
    0.05,
    0.5,
    5.0,
];

/// The metric that has them.
pub(crate) const PLUGIN_DURATION: &str = "sentinel_plugin_duration_seconds";

/// The buckets of a metric.
fn buckets(name: &str) -> &'static [f64; BOUNDS] {
    if name == PLUGIN_DURATION { &PLUGIN_BUCKETS } else { &BUCKETS }
}

/// The recorder of metrics while the gateway runs.
pub struct Watch {
    /// Renders the metrics for Prometheus.
    pub render: Arc<dyn Fn() -> String + Send + Sync>,
    otlp: Option<otlp::Otlp>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("otlp", &self.otlp).finish_non_exhaustive()
    }
}

impl Watch {
    /// Sends the last spans and metrics to the collector, if there is one, before the process ends.
    pub async fn close(self) {
        if let Some(otlp) = self.otlp {
            otlp.close().await;
        }
    }
}

/// Starts counting, and recording calls if these settings say so. Needs a Tokio runtime.
///
/// # Errors
/// Another recorder is installed already, or there can be no HTTP client for the collector.
pub fn watch(otlp: Option<&otlp::Settings>, redaction: &Redaction) -> anyhow::Result<Watch> {
    let exporter = PrometheusBuilder::new().build_recorder();
    let upkeep = exporter.handle();
    let recorder = Prometheus::new(exporter);
    let render = recorder.renderer();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    let series = otlp.filter(|settings| settings.metrics).map(|_| Arc::<otlp::Series>::default());
    match &series {
        // Without a collector nothing is counted twice.
        None => metrics::set_global_recorder(recorder).map_err(|error| anyhow::anyhow!("{error}"))?,
        Some(series) => {
            let both = otlp::Both { prometheus: recorder, series: series.clone() };
            metrics::set_global_recorder(both).map_err(|error| anyhow::anyhow!("{error}"))?;
        }
    }
    let otlp = otlp.map(|settings| otlp::Otlp::start(settings, series, redaction.clone())).transpose()?;
    Ok(Watch { render: Arc::new(render), otlp })
}
