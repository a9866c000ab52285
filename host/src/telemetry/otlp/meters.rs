//! The metrics once more, for OTLP: every number that Prometheus can ask for is counted here as well. The part that
//! counts finds its number by labels once and keeps a handle, so that counting is one step of an atomic number.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusRecorder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{self as proto, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::SCOPE;
use super::sender::Sender;
use crate::telemetry::buckets;

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

#[derive(Clone)]
enum Number {
    Count(Arc<AtomicU64>),
    Level(Arc<AtomicU64>),
    Spread(Arc<Spread>),
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

    /// All of it, as it is now.
    fn encode(&self, resource: &ResourceAttributesWithSchema, since: SystemTime) -> (Vec<u8>, u64) {
        let all: Vec<(Key, Number)> =
            self.all.lock().iter().map(|(key, number)| (key.clone(), number.clone())).collect();
        let (start, now) = (nanos(since), nanos(SystemTime::now()));
        let mut named: BTreeMap<&str, proto::Metric> = BTreeMap::new();
        for (key, number) in &all {
            let metric = named.entry(key.name()).or_insert_with(|| empty(key.name(), number));
            add(metric, key, number, (start, now));
        }
        let scope = InstrumentationScope {
            name: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let metrics = named.into_values().collect();
        let scope_metrics = vec![proto::ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }];
        let attributes = resource.attributes.0.clone();
        let resource = Resource { attributes, ..Resource::default() };
        let whole = proto::ResourceMetrics { resource: Some(resource), scope_metrics, ..Default::default() };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![whole] };
        (request.encode_to_vec(), all.len() as u64)
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

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

const CUMULATIVE: i32 = proto::AggregationTemporality::Cumulative as i32;

/// A metric without its numbers.
fn empty(name: &str, number: &Number) -> proto::Metric {
    let data = match number {
        Number::Count(_) => metric::Data::Sum(proto::Sum {
            data_points: Vec::new(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        Number::Level(_) => metric::Data::Gauge(proto::Gauge::default()),
        Number::Spread(_) => metric::Data::Histogram(proto::Histogram {
            data_points: Vec::new(),
            aggregation_temporality: CUMULATIVE,
        }),
    };
    let unit = match name {
        _ if name.ends_with("_seconds") => "s",
        _ if name.ends_with("_bytes") => "By",
        _ => "",
    };
    proto::Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Default::default() }
}

fn add(metric: &mut proto::Metric, key: &Key, number: &Number, (start, now): (u64, u64)) {
    let attributes = key.labels().map(|label| attribute(label.key(), label.value())).collect();
    let point = |attributes, value| proto::NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(value),
        ..Default::default()
    };
    match (&mut metric.data, number) {
        (Some(metric::Data::Sum(sum)), Number::Count(count)) => {
            let count = i64::try_from(count.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
            sum.data_points.push(point(attributes, number_data_point::Value::AsInt(count)));
        }
        (Some(metric::Data::Gauge(gauge)), Number::Level(level)) => {
            let level = f64::from_bits(level.load(Ordering::Relaxed));
            gauge.data_points.push(point(attributes, number_data_point::Value::AsDouble(level)));
        }
        (Some(metric::Data::Histogram(histogram)), Number::Spread(spread)) => {
            histogram.data_points.push(spread.point(attributes, (start, now)));
        }
        // One name is one kind of number.
        _ => {}
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// How often which durations came.
struct Spread {
    bounds: &'static [f64],
    /// One more than bounds: what is above all of them.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Spread {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0.0_f64.to_bits()) }
    }

    fn point(&self, attributes: Vec<KeyValue>, (start, now): (u64, u64)) -> proto::HistogramDataPoint {
        let bucket_counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        proto::HistogramDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: now,
            count: bucket_counts.iter().sum(),
            sum: Some(f64::from_bits(self.sum.load(Ordering::Relaxed))),
            bucket_counts,
            explicit_bounds: self.bounds.to_vec(),
            ..Default::default()
        }
    }
}

impl HistogramFn for Spread {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        change(&self.sum, |sum| sum + value);
    }
}

/// Changes a number that is kept as the bits of an `f64`.
fn change(bits: &AtomicU64, new: impl Fn(f64) -> f64) {
    let next = |bits| Some(new(f64::from_bits(bits)).to_bits());
    // It never says no.
    let _ = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
}

/// Counts for Prometheus and for OTLP.
pub(in crate::telemetry) struct Both {
    pub(in crate::telemetry) prometheus: PrometheusRecorder,
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

impl HistogramFn for Twice<Histogram, Spread> {
    fn record(&self, value: f64) {
        self.0.record(value);
        self.1.record(value);
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
        let new = || Number::Spread(Arc::new(Spread::new(buckets(key.name()))));
        match self.series.of(key, new) {
            Some(Number::Spread(spread)) => Histogram::from_arc(Arc::new(Twice(first, spread))),
            _ => first,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

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
        let prometheus = PrometheusBuilder::new().build_recorder();
        let handle = prometheus.handle();
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
        let text = handle.render();
        assert!(text.contains("c_total{tool=\"a\"} 2") && text.contains("g_bytes 9"), "{text}");
    }

    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let series = Arc::new(Series::default());
        let both = Both { prometheus: PrometheusBuilder::new().build_recorder(), series: series.clone() };
        metrics::with_local_recorder(&both, || {
            for number in 0..MAX_SERIES + 50 {
                metrics::counter!("c_total", "tool" => number.to_string()).increment(1);
            }
        });
        assert_eq!(series.all.lock().len(), MAX_SERIES);
    }
}
