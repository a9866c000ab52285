//! Counters and histograms that a call changes. The exporter for Prometheus keeps each value of a histogram until it is sorted
//! into its bucket, which costs memory and time on the call path; and several plugins are asked within a call, so that threads
//! would take the same numbers from each other's caches all the time. So what calls change is counted here: in buckets that
//! exist from the beginning, and for each plugin in one part for each of a few threads. It is added up when it is rendered, after
//! what the exporter renders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};
use metrics_exporter_prometheus::{LabelSet, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

use super::{BOUNDS, buckets};

/// Metrics of plugins have this many parts, because a call changes them a dozen times. Others have one.
const PARTS: usize = 4;

/// What the names of plugins' metrics begin with.
const OF_PLUGINS: &str = "sentinel_plugin_";

fn parts(name: &str) -> usize {
    if name.starts_with(OF_PLUGINS) { PARTS } else { 1 }
}

/// The part of this thread, of so many.
fn part(of: usize) -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed));
    if of == 1 { 0 } else { THREAD.with(|thread| thread % of) }
}

/// A number that grows, in parts that share no cache line.
#[derive(Debug)]
struct Count(Box<[CountPart]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct CountPart(AtomicU64);

impl Count {
    fn new(parts: usize) -> Self {
        Self((0..parts).map(|_| CountPart::default()).collect())
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|part| part.0.load(Ordering::Relaxed)).sum()
    }
}

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0[part(self.0.len())].0.fetch_add(value, Ordering::Relaxed);
    }

    /// The first part bears it: nothing of the gateway sets a counter that it also adds to.
    fn absolute(&self, value: u64) {
        self.0[0].0.fetch_max(value, Ordering::Relaxed);
    }
}

/// A histogram with fixed buckets. Adding a value changes two atomic numbers; it allocates and locks nothing, however many
/// come.
#[derive(Debug)]
pub(super) struct Buckets {
    bounds: &'static [f64; BOUNDS],
    parts: Box<[BucketsPart]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct BucketsPart {
    /// One more than bounds: what is above all of them.
    counts: [AtomicU64; BOUNDS + 1],
    /// The bits of an `f64`.
    sum: AtomicU64,
}

/// The same at one moment.
pub(super) struct Snapshot {
    pub(super) bounds: &'static [f64],
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
}

impl Buckets {
    pub(super) fn new(name: &str) -> Self {
        let parts = (0..parts(name)).map(|_| BucketsPart::default()).collect();
        Self { bounds: buckets(name), parts }
    }

    /// A value that is a bound belongs to what is below it.
    pub(super) fn add(&self, value: f64) {
        let part = &self.parts[part(self.parts.len())];
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        part.counts[bucket].fetch_add(1, Ordering::Relaxed);
        change(&part.sum, |sum| sum + value);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let count = |bucket: usize| -> u64 {
            self.parts.iter().map(|part| part.counts[bucket].load(Ordering::Relaxed)).sum()
        };
        Snapshot {
            bounds: self.bounds,
            counts: (0..=BOUNDS).map(count).collect(),
            sum: self.parts.iter().map(|part| f64::from_bits(part.sum.load(Ordering::Relaxed))).sum(),
        }
    }
}

/// Changes a number that is kept as the bits of an `f64`.
pub(super) fn change(bits: &AtomicU64, new: impl Fn(f64) -> f64) {
    let next = |bits| Some(new(f64::from_bits(bits)).to_bits());
    // It never says no.
    let _ = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

/// All that is counted here, by name and then by labels.
#[derive(Debug, Default)]
struct Counted {
    counters: BTreeMap<String, BTreeMap<Key, Arc<Count>>>,
    histograms: BTreeMap<String, BTreeMap<Key, Arc<Buckets>>>,
    descriptions: BTreeMap<String, SharedString>,
}

impl Counted {
    /// The text format of Prometheus.
    fn render(&self) -> String {
        let mut text = String::new();
        for (name, of_name) in &self.counters {
            self.head(&mut text, name, "counter");
            for (key, count) in of_name {
                let labels = LabelSet::from_key_and_global(key, &Default::default());
                write_metric_line::<&str, _>(&mut text, name, None, &labels, None, count.sum(), None);
            }
            text.push('\n');
        }
        for (name, of_name) in &self.histograms {
            self.head(&mut text, name, "histogram");
            for (key, histogram) in of_name {
                write_histogram(&mut text, key, &histogram.snapshot());
            }
            text.push('\n');
        }
        text
    }

    fn head(&self, text: &mut String, name: &str, kind: &str) {
        if let Some(description) = self.descriptions.get(name) {
            write_help_line(text, name, None, None, description);
        }
        write_type_line(text, name, None, None, kind);
    }
}

/// Each bucket holds those before it, too, and the last one all.
fn write_histogram(text: &mut String, key: &Key, shown: &Snapshot) {
    let (name, labels) = (key.name(), LabelSet::from_key_and_global(key, &Default::default()));
    let mut count = 0;
    for (bound, more) in shown.bounds.iter().zip(&shown.counts) {
        count += more;
        write_metric_line(text, name, Some("bucket"), &labels, Some(("le", bound)), count, None);
    }
    let count: u64 = shown.counts.iter().sum();
    write_metric_line(text, name, Some("bucket"), &labels, Some(("le", "+Inf")), count, None);
    write_metric_line::<&str, _>(text, name, Some("sum"), &labels, None, shown.sum, None);
    write_metric_line::<&str, _>(text, name, Some("count"), &labels, None, count, None);
}

/// The recorder for Prometheus: what calls change is counted here, everything else by the exporter.
#[derive(Debug)]
pub(super) struct Prometheus {
    exporter: PrometheusRecorder,
    counted: Arc<Mutex<Counted>>,
}

impl Prometheus {
    pub(super) fn new(exporter: PrometheusRecorder) -> Self {
        Self { exporter, counted: Arc::default() }
    }

    /// Renders everything that has been counted until then.
    pub(super) fn renderer(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let (handle, counted): (PrometheusHandle, _) = (self.exporter.handle(), self.counted.clone());
        move || handle.render() + &counted.lock().render()
    }
}

impl Recorder for Prometheus {
    fn describe_counter(&self, key: KeyName, _unit: Option<Unit>, description: SharedString) {
        self.counted.lock().descriptions.insert(key.as_str().to_owned(), description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, _unit: Option<Unit>, description: SharedString) {
        self.counted.lock().descriptions.insert(key.as_str().to_owned(), description);
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        let mut counted = self.counted.lock();
        let of_name = counted.counters.entry(key.name().to_owned()).or_default();
        let new = || Arc::new(Count::new(parts(key.name())));
        Counter::from_arc(of_name.entry(key.clone()).or_insert_with(new).clone())
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        let mut counted = self.counted.lock();
        let of_name = counted.histograms.entry(key.name().to_owned()).or_default();
        let new = || Arc::new(Buckets::new(key.name()));
        Histogram::from_arc(of_name.entry(key.clone()).or_insert_with(new).clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_histogram_is_rendered_as_prometheus_reads_it() {
        let prometheus = Prometheus::new(PrometheusBuilder::new().build_recorder());
        let render = prometheus.renderer();
        metrics::with_local_recorder(&prometheus, || {
            metrics::counter!("c_total").increment(1);
            let plugin = || metrics::counter!("sentinel_plugin_calls_total", "plugin" => "rbac");
            plugin().increment(2);
            let others = (0..9).map(|_| plugin()).map(|count| std::thread::spawn(move || count.increment(1)));
            others.for_each(|thread| thread.join().unwrap());
            metrics::describe_histogram!("x_duration_seconds", "how long it took");
            for (tool, value) in [("a\"b", 0.000_4), ("a\"b", 0.002), ("b", 1_000.0), ("a\"b", 0.5)] {
                metrics::histogram!("x_duration_seconds", "tool" => tool).record(value);
            }
        });
        let text = render();
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "# TYPE c_total counter",
            "c_total 1",
            r#"sentinel_plugin_calls_total{plugin="rbac"} 11"#,
            "# HELP x_duration_seconds how long it took",
            "# TYPE x_duration_seconds histogram",
            r#"x_duration_seconds_bucket{tool="a\"b",le="0.0005"} 1"#,
            r#"x_duration_seconds_bucket{tool="a\"b",le="0.0025"} 2"#,
            r#"x_duration_seconds_bucket{tool="a\"b",le="0.5"} 3"#,
            r#"x_duration_seconds_bucket{tool="a\"b",le="60"} 3"#,
            r#"x_duration_seconds_bucket{tool="a\"b",le="+Inf"} 3"#,
            r#"x_duration_seconds_count{tool="a\"b"} 3"#,
            r#"x_duration_seconds_bucket{tool="b",le="60"} 0"#,
            r#"x_duration_seconds_bucket{tool="b",le="+Inf"} 1"#,
            r#"x_duration_seconds_sum{tool="b"} 1000"#,
        ] {
            assert!(lines.contains(&line), "{line} in\n{text}");
        }
    }
}
