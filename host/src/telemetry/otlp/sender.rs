//! Sends one kind of telemetry to the collector, and says in the log when that fails and when it works again: each once, with
//! how much was lost meanwhile.

use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client};

use super::{Settings, encode};
use crate::outbound::{self, explain};

/// Attempts for one request, while the collector was there the last time.
const ATTEMPTS: u32 = 3;
/// The pause before the second; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// So much of an answer is read.
const MAX_ANSWER: usize = 64 << 10;
const MAX_SAID: usize = 200;

#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    url: String,
    headers: HeaderMap,
    timeout: Duration,
    /// The kind of telemetry: `spans`.
    what: &'static str,
    /// Why the last request failed; it was said.
    failing: Option<String>,
    /// How many were lost since the last log line about it.
    lost: u64,
    /// There is no time for a second attempt.
    hurry: bool,
}

/// Why an attempt failed.
struct Failed {
    why: String,
    /// In how long it may be tried again; none if the same would follow.
    again: Option<Duration>,
}

impl Sender {
    /// # Errors
    /// There can be no HTTP client.
    pub(super) fn new(settings: &Settings, path: &str, what: &'static str) -> anyhow::Result<Self> {
        let ca = match &settings.ca {
            Some(pem) => Certificate::from_pem_bundle(pem.as_bytes()).context("telemetry.otlp.ca_file")?,
            None => Vec::new(),
        };
        let builder =
            || outbound::builder().connect_timeout(Duration::from_secs(5)).pool_max_idle_per_host(1);
        let client = outbound::trusting(builder, &ca).context("no HTTP client for telemetry")?;
        let slash = if settings.endpoint.ends_with('/') { "" } else { "/" };
        let mut headers = settings.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(Self {
            client,
            url: format!("{}{slash}{path}", settings.endpoint),
            headers,
            timeout: settings.timeout,
            what,
            failing: None,
            lost: 0,
            hurry: false,
        })
    }

    /// From now on everything is tried once: the gateway ends.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Notes that so many were lost before they came here.
    pub(super) fn lost(&mut self, count: u64) {
        if count > 0 {
            self.count(0, count);
            if self.lost == 0 && self.failing.is_none() {
                tracing::warn!(
                    "telemetry: there is no room for {count} {}, which are lost: more are recorded than the collector \
                     takes; lower sample_ratio, or raise max_queue_bytes of [telemetry.otlp]",
                    self.what
                );
            }
            self.lost += count;
        }
    }

    /// Sends a request that holds so many of them. Whatever becomes of it, the caller goes on.
    pub(super) async fn send(&mut self, body: Vec<u8>, count: u64) {
        let body = bytes::Bytes::from(body);
        let attempts = if self.hurry || self.failing.is_some() { 1 } else { ATTEMPTS };
        let mut pause = PAUSE;
        let mut result = self.attempt(body.clone()).await;
        for _ in 1..attempts {
            let Err(Failed { again: Some(asked), .. }) = &result else { break };
            tokio::time::sleep((*asked).max(pause).min(MAX_PAUSE)).await;
            pause *= 2;
            result = self.attempt(body.clone()).await;
        }
        match result {
            Ok(None) => self.went(count),
            Ok(Some((rejected, why))) => {
                self.count(count.saturating_sub(rejected), 0);
                self.failed(rejected.min(count), &format!("it refuses some: {why}"));
            }
            Err(Failed { why, .. }) => self.failed(count, &why),
        }
    }

    /// Logs at the end how many were lost and not reported yet.
    pub(super) fn close(self) {
        if self.lost > 0 {
            tracing::warn!("telemetry: {} {} were lost by the end", self.lost, self.what);
        }
    }

    async fn attempt(&self, body: bytes::Bytes) -> Result<Option<(u64, String)>, Failed> {
        let request = self.client.post(&self.url).headers(self.headers.clone()).timeout(self.timeout);
        let mut response = request
            .body(body)
            .send()
            .await
            .map_err(|error| Failed { why: explain(error), again: Some(Duration::ZERO) })?;
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut answer = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            if answer.len() + chunk.len() > MAX_ANSWER {
                break;
            }
            answer.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(encode::rejected(&answer));
        }
        // OTLP, "Failures": these may go away by themselves, the others not.
        let passes = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let again = passes.then(|| asked.map_or(Duration::ZERO, Duration::from_secs));
        Err(Failed { why: format!("it answers with HTTP status {status}"), again })
    }

    fn went(&mut self, count: u64) {
        self.count(count, 0);
        if self.failing.take().is_some() {
            tracing::info!(
                "telemetry: the collector takes {} again; {} were lost meanwhile",
                self.what,
                self.lost
            );
            self.lost = 0;
        }
    }

    fn failed(&mut self, count: u64, why: &str) {
        self.count(0, count);
        self.lost += count;
        if self.failing.is_none() {
            let why = &why[..why.floor_char_boundary(MAX_SAID)];
            tracing::warn!(
                "telemetry: the collector ([telemetry.otlp] endpoint) does not take {}: {why}; they are lost until it does, \
                 and calls go on as before",
                self.what
            );
            self.failing = Some(why.to_owned());
        }
    }

    fn count(&self, sent: u64, lost: u64) {
        for (count, outcome) in [(sent, "sent"), (lost, "lost")] {
            if count > 0 {
                metrics::counter!("sentinel_telemetry_total", "what" => self.what, "outcome" => outcome)
                    .increment(count);
            }
        }
    }
}
