//! The queue of ended spans, and the task that sends them in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{Context, Value};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::encode;
use super::sender::Sender;

/// Spans that wait to be sent, at most.
const MAX_QUEUE: usize = 8_192;
/// Spans in one request.
const BATCH: usize = 512;
/// How long a span waits for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);

/// The queue for spans that have ended. Putting one in never waits.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    held: Arc<Held>,
    max_bytes: usize,
}

/// Where they come out.
#[derive(Debug)]
pub(super) struct Batches {
    spans: mpsc::Receiver<SpanData>,
    held: Arc<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: AtomicUsize,
    /// For which there was no room, and that was not said yet.
    lost: AtomicU64,
}

/// A queue for so many bytes.
pub(super) fn queue(max_bytes: usize) -> (Queue, Batches) {
    let (sender, spans) = mpsc::channel(MAX_QUEUE);
    let held = Arc::new(Held::default());
    (Queue { spans: sender, held: held.clone(), max_bytes }, Batches { spans, held })
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let weight = weigh(&span);
        let before = self.held.bytes.fetch_add(weight, Ordering::Relaxed);
        if before + weight > self.max_bytes || self.spans.try_send(span).is_err() {
            self.held.bytes.fetch_sub(weight, Ordering::Relaxed);
            self.held.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// The task sends what is left.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// About what a span takes in memory: itself, its attributes, their texts.
fn weigh(span: &SpanData) -> usize {
    let text = |value: &Value| if let Value::String(text) = value { text.as_str().len() } else { 0 };
    let attributes: usize = span
        .attributes
        .iter()
        .map(|pair| size_of_val(pair) + pair.key.as_str().len() + text(&pair.value))
        .sum();
    let links = span.links.links.len() * 256;
    size_of::<SpanData>()
        + span.name.len()
        + attributes
        + links
        + span.span_context.trace_state().header().len()
}

impl Batches {
    /// Sends them until it is told to stop, and then what is left.
    pub(super) async fn send(
        mut self,
        mut sender: Sender,
        resource: Arc<ResourceAttributesWithSchema>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        while self.gather(&mut batch, &stop).await {
            self.send_batch(&mut batch, &mut sender, &resource).await;
        }
        self.spans.close();
        sender.hurry();
        // What was gathered, and what is in the queue.
        while self.spans.recv_many(&mut batch, BATCH).await > 0 || !batch.is_empty() {
            self.send_batch(&mut batch, &mut sender, &resource).await;
        }
        sender.lost(self.held.lost.swap(0, Ordering::Relaxed));
        sender.close();
    }

    /// Waits for a span, and a while for more; false if it is time to stop.
    async fn gather(&mut self, batch: &mut Vec<SpanData>, stop: &CancellationToken) -> bool {
        let mut until: Option<Instant> = None;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            let over = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.spans.recv_many(batch, room) => {
                    if received == 0 {
                        return false;
                    }
                    until.get_or_insert_with(|| Instant::now() + DELAY);
                }
                () = over => return true,
                () = stop.cancelled() => return false,
            }
        }
        true
    }

    async fn send_batch(
        &self,
        batch: &mut Vec<SpanData>,
        sender: &mut Sender,
        resource: &Arc<ResourceAttributesWithSchema>,
    ) {
        let (count, weight) = (batch.len() as u64, batch.iter().map(weigh).sum());
        sender.lost(self.held.lost.swap(0, Ordering::Relaxed));
        let (spans, resource) = (std::mem::take(batch), resource.clone());
        // Hundreds of them take a while, in which the runtime's threads have calls to serve.
        match tokio::task::spawn_blocking(move || encode::spans(spans, &resource)).await {
            Ok(body) => sender.send(body, count).await,
            // The runtime ends.
            Err(_) => sender.lost(count),
        }
        // Until now they were held, as a body.
        self.held.bytes.fetch_sub(weight, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use opentelemetry::KeyValue;
    use opentelemetry::trace::{Span as _, SpanBuilder, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_what_is_lost_is_counted() {
        let (queue, mut batches) = queue(64 << 10);
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let tracer = provider.tracer("t");
        let end = |bytes: usize| {
            let builder =
                SpanBuilder::from_name("s").with_attributes([KeyValue::new("text", "x".repeat(bytes))]);
            tracer.build(builder).end();
        };
        (0..100).for_each(|_| end(1_000));
        let held = batches.spans.len();
        assert!((20..64).contains(&held), "{held}");
        assert_eq!(batches.held.lost.load(Ordering::Relaxed), 100 - held as u64);
        // When some have left, there is room again.
        let stop = CancellationToken::new();
        let mut batch = Vec::new();
        assert!(batches.gather(&mut batch, &stop).await);
        assert_eq!(batch.len(), held);
        batches.held.bytes.fetch_sub(batch.iter().map(weigh).sum(), Ordering::Relaxed);
        assert_eq!(batches.held.bytes.load(Ordering::Relaxed), 0);
        end(1_000);
        assert_eq!(batches.spans.len(), 1);
        // One that alone is too large never fits.
        end(65 << 10);
        assert_eq!(batches.spans.len(), 1);
        stop.cancel();
        batch.clear();
        while batches.gather(&mut batch, &stop).await {}
    }
}
