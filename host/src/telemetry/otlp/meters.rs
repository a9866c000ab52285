//! The metrics once more, for OTLP: every number that Prometheus can ask for is counted here as well. The part that
//! counts finds its number by labels once and keeps a handle, so that counting is one step of an atomic number.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::encode;
use super::numbers::Number;
use super::sender::Sender;
use crate::telemetry::counted::{Buckets, Prometheus, change};

/// More numbers than this are not sent: backends that change their names would fill the memory. Prometheus has them all.
const MAX_SERIES: usize = 20_000;

/// Everything that is counted, by name and labels.
#[derive(Default)]
pub(in crate::telemetry) struct Series {
    all: Mutex<HashMap<Key, Number>>,
    full: AtomicBool,
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Series({})", self.all.lock().len())
    }
}

impl Series {
    /// The number of this key; none if there are too many, or another kind of number has the key.
    fn of(&self, key: &Key, new: impl FnOnce() -> Number) -> Option<Number> {
        let mut all = self.all.lock();
        if let Some(known) = all.get(key) {
            return Some(known.clone());
        }
        if all.len() >= MAX_SERIES {
            drop(all);
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "telemetry: only the first {MAX_SERIES} metrics are sent by OTLP; /metrics has all"
                );
            }
            return None;
        }
        Some(all.entry(key.clone()).or_insert_with(new).clone())
    }

    /// All of it, as it is now, and how much that is.
    fn encode(&self, resource: &ResourceAttributesWithSchema, since: SystemTime) -> (Vec<u8>, u64) {
        let all: Vec<(Key, Number)> =
            self.all.lock().iter().map(|(key, number)| (key.clone(), number.clone())).collect();
        (encode::metrics(&all, resource, since), all.len() as u64)
    }
}

/// Sends all metrics, again and again, and once more at the end.
pub(super) async fn send(
    series: Arc<Series>,
    since: SystemTime,
    every: Duration,
    (mut sender, resource): (Sender, Arc<ResourceAttributesWithSchema>),
    stop: CancellationToken,
) {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once.
    beat.tick().await;
    loop {
        let ends = tokio::select! {
            _ = beat.tick() => false,
            () = stop.cancelled() => true,
        };
        if ends {
            sender.hurry();
        }
        let (series, resource) = (series.clone(), resource.clone());
        // Thousands of them take a while, in which the runtime's threads have calls to serve. An error is the runtime's end.
        let encoded = tokio::task::spawn_blocking(move || series.encode(&resource, since)).await;
        if let Ok((body, count)) = encoded {
            sender.send(body, count).await;
        }
        if ends {
            return sender.close();
        }
    }
}

/// Counts for Prometheus and for OTLP.
pub(in crate::telemetry) struct Both {
    pub(in crate::telemetry) prometheus: Prometheus,
    pub(in crate::telemetry) series: Arc<Series>,
}

/// One number in both places.
struct Twice<H, N>(H, Arc<N>);

impl CounterFn for Twice<Counter, AtomicU64> {
    fn increment(&self, value: u64) {
        self.0.increment(value);
        self.1.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.absolute(value);
        self.1.fetch_max(value, Ordering::Relaxed);
    }
}

impl GaugeFn for Twice<Gauge, AtomicU64> {
    fn increment(&self, value: f64) {
        self.0.increment(value);
        change(&self.1, |level| level + value);
    }

    fn decrement(&self, value: f64) {
        self.0.decrement(value);
        change(&self.1, |level| level - value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
        self.1.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl HistogramFn for Twice<Histogram, Buckets> {
    fn record(&self, value: f64) {
        self.0.record(value);
        self.1.add(value);
    }
}

impl Recorder for Both {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let first = self.prometheus.register_counter(key, metadata);
        match self.series.of(key, || Number::Count(Arc::default())) {
            Some(Number::Count(count)) => Counter::from_arc(Arc::new(Twice(first, count))),
            _ => first,
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let first = self.prometheus.register_gauge(key, metadata);
        match self.series.of(key, || Number::Level(Arc::default())) {
            Some(Number::Level(level)) => Gauge::from_arc(Arc::new(Twice(first, level))),
            _ => first,
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let first = self.prometheus.register_histogram(key, metadata);
        let new = || Number::Buckets(Arc::new(Buckets::new(key.name())));
        match self.series.of(key, new) {
            Some(Number::Buckets(spread)) => Histogram::from_arc(Arc::new(Twice(first, spread))),
            _ => first,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{self as proto, metric, number_data_point};
    use prost::Message as _;

    use super::encode::CUMULATIVE;
    use super::*;

    /// What would be sent, by name.
    fn sent(series: &Series) -> BTreeMap<String, proto::Metric> {
        let resource = ResourceAttributesWithSchema::default();
        let (body, count) = series.encode(&resource, SystemTime::now());
        let request = ExportMetricsServiceRequest::decode(&*body).unwrap();
        let metrics = request.resource_metrics[0].scope_metrics[0].metrics.clone();
        assert!(count >= metrics.len() as u64);
        metrics.into_iter().map(|metric| (metric.name.clone(), metric)).collect()
    }

    fn sum(metric: &proto::Metric) -> Vec<i64> {
        let Some(metric::Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        assert!(sum.is_monotonic && sum.aggregation_temporality == CUMULATIVE);
        let value = |point: &proto::NumberDataPoint| match point.value {
            Some(number_data_point::Value::AsInt(value)) => value,
            _ => panic!("{point:?}"),
        };
        let mut values: Vec<i64> = sum.data_points.iter().map(value).collect();
        values.sort_unstable();
        values
    }

    #[test]
    fn what_prometheus_counts_is_sent() {
        let series = Arc::new(Series::default());
        let prometheus = Prometheus::new(PrometheusBuilder::new().build_recorder());
        let render = prometheus.renderer();
        let both = Both { prometheus, series: series.clone() };
        metrics::with_local_recorder(&both, || {
            for _ in 0..2 {
                metrics::counter!("c_total", "tool" => "a").increment(1);
            }
            metrics::counter!("c_total", "tool" => "b").increment(5);
            let level = metrics::gauge!("g_bytes");
            level.set(7.0);
            level.increment(3.0);
            level.decrement(1.0);
            for value in [0.000_4, 0.000_5, 0.25, 1_000.0] {
                metrics::histogram!("x_duration_seconds").record(value);
            }
        });
        let sent = sent(&series);
        assert_eq!(sum(&sent["c_total"]), [2, 5]);
        let Some(metric::Data::Gauge(gauge)) = &sent["g_bytes"].data else { panic!() };
        assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(9.0)));
        assert_eq!((&*sent["g_bytes"].unit, &*sent["x_duration_seconds"].unit), ("By", "s"));
        let Some(metric::Data::Histogram(histogram)) = &sent["x_duration_seconds"].data else { panic!() };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (4, Some(1_000.250_9)));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        // A value that is a bound belongs to what is below it.
        assert_eq!((point.bucket_counts[0], *point.bucket_counts.last().unwrap()), (2, 1));
        let text = render();
        assert!(text.contains("c_total{tool=\"a\"} 2") && text.contains("g_bytes 9"), "{text}");
    }

    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let series = Arc::new(Series::default());
        let both = Both {
            prometheus: Prometheus::new(PrometheusBuilder::new().build_recorder()),
            series: series.clone(),
        };
        metrics::with_local_recorder(&both, || {
            for number in 0..MAX_SERIES + 50 {
                metrics::counter!("c_total", "tool" => number.to_string()).increment(1);
            }
        });
        assert_eq!(series.all.lock().len(), MAX_SERIES);
    }
}
