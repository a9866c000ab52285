//! Encodes the messages of the protocol, in protobuf.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;

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
