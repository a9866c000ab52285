//! Encodes the messages of the protocol, in protobuf.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::Key;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{self as proto, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;

use super::SCOPE;
use super::numbers::Number;
use crate::telemetry::counted::Snapshot;

/// Every number is that since the start.
pub(super) const CUMULATIVE: i32 = proto::AggregationTemporality::Cumulative as i32;

/// A batch of spans.
pub(super) fn spans(batch: Vec<SpanData>, resource: &ResourceAttributesWithSchema) -> Vec<u8> {
    let resource_spans = group_spans_by_resource_and_scope(batch, resource);
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// How much of a request a collector has refused although it took the rest, and its reason. Both messages, that for spans and
/// that for metrics, have the same form.
pub(super) fn rejected(response: &[u8]) -> Option<(u64, String)> {
    let partial = ExportTraceServiceResponse::decode(response).ok()?.partial_success?;
    let count = u64::try_from(partial.rejected_spans).unwrap_or(0);
    (count > 0).then_some((count, partial.error_message))
}

/// All metrics, counted since then.
pub(super) fn metrics(
    all: &[(Key, Number)],
    resource: &ResourceAttributesWithSchema,
    since: SystemTime,
) -> Vec<u8> {
    let times = (nanos(since), nanos(SystemTime::now()));
    let mut named: BTreeMap<&str, proto::Metric> = BTreeMap::new();
    for (key, number) in all {
        add(named.entry(key.name()).or_insert_with(|| empty(key.name(), number)), key, number, times);
    }
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics = named.into_values().collect();
    let scope_metrics = vec![proto::ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }];
    let resource = Resource { attributes: resource.attributes.0.clone(), ..Resource::default() };
    let whole = proto::ResourceMetrics { resource: Some(resource), scope_metrics, ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![whole] }.encode_to_vec()
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A metric without its numbers.
fn empty(name: &str, number: &Number) -> proto::Metric {
    let data = match number {
        Number::Count(_) => metric::Data::Sum(proto::Sum {
            data_points: Vec::new(),
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
        }),
        Number::Level(_) => metric::Data::Gauge(proto::Gauge::default()),
        Number::Buckets(_) => metric::Data::Histogram(proto::Histogram {
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

/// Adds a number to its metric: from when to when it was counted, in nanoseconds since 1970.
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
        (Some(metric::Data::Histogram(histogram)), Number::Buckets(spread)) => {
            let Snapshot { bounds, counts, sum } = spread.snapshot();
            histogram.data_points.push(proto::HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: now,
                count: counts.iter().sum(),
                sum: Some(sum),
                bucket_counts: counts,
                explicit_bounds: bounds.to_vec(),
                ..Default::default()
            });
        }
        // One name is one kind of number.
        _ => {}
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}
