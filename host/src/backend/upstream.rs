//! An HTTP API behind routes.
//!
//! A request is made of what the policies saw, its answer is read whole unless the route streams, and it is sent again only
//! where that can have no second effect.

mod request;
mod retry;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::{Client, Response, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::retry::{Budget, Miss};
use super::Chunks;
use super::mcp::http::client::Clients;
use super::mcp::http::was_not_looked_at;
use crate::config::rest;
use crate::mcp::splice;
use crate::outbound::explain;
use crate::redact::Redaction;
use crate::route::Asked;

/// A body that is sent.
pub(crate) enum Sent {
    /// It is JSON and stands in the arguments, or there is none.
    Arguments,
    /// These bytes.
    Whole(Bytes),
    /// It is still arriving.
    Streamed(Chunks),
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Arguments => "Arguments",
            Self::Whole(_) => "Whole",
            Self::Streamed(_) => "Streamed",
        })
    }
}

/// What an upstream answered.
pub(crate) struct Replied {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body, if the route streams.
    pub(crate) rest: Option<Chunks>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("it already works on {0} requests")]
    Busy(usize),
    #[error("there is no connection: {0}")]
    Unreachable(String),
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error("its answer is longer than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Protocol(String),
    /// A rewriter made a request of it that cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(String),
}

/// An upstream, and what is under way there.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    settings: rest::Upstream,
    /// Its address, without a slash at the end.
    base: String,
    client: Result<Client, String>,
    places: Arc<Semaphore>,
    budget: Budget,
    redaction: Redaction,
}

impl Upstream {
    /// One with a client for its way.
    #[must_use]
    pub fn new(settings: rest::Upstream, redaction: Redaction) -> Self {
        let client = Clients::default().of(&settings.way).map_err(|error| error.to_string());
        Self {
            name: settings.name.as_str().into(),
            base: settings.url.expose().trim_end_matches('/').to_owned(),
            client,
            places: Arc::new(Semaphore::new(settings.max_in_flight)),
            budget: Budget::new(Instant::now()),
            redaction,
            settings,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &rest::Upstream {
        &self.settings
    }

    /// What takes secrets out of what it says.
    pub(crate) fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// Host and port, for spans.
    #[must_use]
    pub fn reached(&self) -> Option<(&str, Option<u16>)> {
        let rest = self.base.split_once("://")?.1;
        let authority = rest.split('/').next().unwrap_or(rest);
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => Some((host, port.parse().ok())),
            _ => Some((authority, None)),
        }
    }

    /// Sends a request and reads the answer. Dropped, it closes the connection.
    ///
    /// # Errors
    /// There is no answer that could be passed on.
    pub(crate) async fn ask(
        &self,
        asked: &Asked,
        arguments: &str,
        body: Sent,
        extra: &[(String, String)],
    ) -> Result<Replied, UpstreamError> {
        let timeout = asked.entry.route.timeout;
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| UpstreamError::Busy(self.settings.max_in_flight))?;
        let work = self.attempts(asked, arguments, body, extra);
        let began = Instant::now();
        let head =
            tokio::time::timeout(timeout, work).await.map_err(|_| UpstreamError::Timeout(timeout))??;
        let status = head.status();
        if status.is_informational() {
            return Err(UpstreamError::Protocol(format!("it answered with {status}, which is no answer")));
        }
        let mut headers = request::answered(head.headers());
        self.own_location(&mut headers);
        if asked.entry.route.stream {
            let rest = Some(streamed(head, timeout, place));
            return Ok(Replied { status, headers, body: Bytes::new(), rest });
        }
        let left = timeout.saturating_sub(began.elapsed());
        let whole = tokio::time::timeout(left, whole(head, self.settings.max_answer));
        let body = whole.await.map_err(|_| UpstreamError::Timeout(timeout))??;
        drop(place);
        Ok(Replied { status, headers, body, rest: None })
    }

    async fn attempts(
        &self,
        asked: &Asked,
        arguments: &str,
        body: Sent,
        extra: &[(String, String)],
    ) -> Result<Response, UpstreamError> {
        let client = self.client.as_ref().map_err(|why| UpstreamError::Unreachable(why.clone()))?;
        let place =
            request::place(asked, arguments).map_err(|error| UpstreamError::Request(error.to_string()))?;
        let url = Url::parse(&format!("{}{place}", self.base));
        let url = url.map_err(|error| UpstreamError::Request(error.to_string()))?;
        let method = if asked.head { Method::HEAD } else { asked.entry.route.method.clone() };
        let json = splice::get(arguments, "/body").filter(|_| matches!(body, Sent::Arguments));
        let headers = request::headers(&self.settings, asked, arguments, extra, json.is_some());
        let (whole, mut streamed) = match (body, json) {
            (Sent::Whole(bytes), _) => (Some(bytes), None),
            (Sent::Streamed(chunks), _) => (None, Some(chunks)),
            (Sent::Arguments, json) => (json.map(|text| Bytes::copy_from_slice(text.as_bytes())), None),
        };
        self.budget.request(Instant::now());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            let streams = streamed.is_some();
            request = match (streamed.take(), &whole) {
                (Some(chunks), _) => request.body(reqwest::Body::wrap_stream(chunks)),
                (None, Some(bytes)) => request.body(bytes.clone()),
                (None, None) => request,
            };
            if attempt > 1 {
                request = request.header("x-sentinel-attempt", attempt);
            }
            let sent = request.send().await;
            let miss = match &sent {
                Ok(response) if unwell(response) => Miss::Unwell,
                Ok(_) => return sent.map_err(|error| UpstreamError::Protocol(explain(error))),
                Err(error) if error.is_connect() || was_not_looked_at(error) => Miss::Unseen,
                Err(_) => Miss::Broken,
            };
            let again = attempt <= self.settings.retries
                && !streams
                && retry::may(&method, miss)
                && self.budget.take(Instant::now());
            if !again {
                return sent.map_err(|error| match miss {
                    Miss::Unseen => UpstreamError::Unreachable(self.said(&explain(error))),
                    Miss::Broken | Miss::Unwell => UpstreamError::Protocol(
                        self.said(&format!("the connection broke off: {}", explain(error))),
                    ),
                });
            }
            tokio::time::sleep(retry::pause(attempt, chance())).await;
        }
    }

    fn said(&self, text: &str) -> String {
        self.redaction.text(text).into_owned()
    }

    /// A redirect to the upstream's own address is one to ours.
    fn own_location(&self, headers: &mut HeaderMap) {
        let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else {
            return;
        };
        let rest = location.strip_prefix(self.base.as_str()).filter(|rest| rest.starts_with('/'));
        if let Some(own) = rest.and_then(|rest| rest.parse().ok()) {
            headers.insert(header::LOCATION, own);
        }
    }
}

/// A status that says nothing of the request, without a time at which to come back.
fn unwell(response: &Response) -> bool {
    matches!(response.status().as_u16(), 502..=504) && !response.headers().contains_key(header::RETRY_AFTER)
}

/// A number between 0 and 1, so that those who failed together do not come back together.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}

async fn whole(mut response: Response, limit: usize) -> Result<Bytes, UpstreamError> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(UpstreamError::TooLarge(limit));
    }
    let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
    loop {
        let next = response.chunk().await;
        let next = next
            .map_err(|error| UpstreamError::Protocol(format!("its answer broke off: {}", explain(error))))?;
        let Some(chunk) = next else { break };
        if first.len() + joined.len() + chunk.len() > limit {
            return Err(UpstreamError::TooLarge(limit));
        }
        if first.is_empty() && joined.is_empty() {
            first = chunk;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut first));
            joined.extend_from_slice(&chunk);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// The body as it arrives; silence for longer than `idle` ends it. The place at the upstream is held until then.
fn streamed(response: Response, idle: Duration, place: OwnedSemaphorePermit) -> Chunks {
    let stream = futures_util::stream::unfold((Some(response), place), move |(response, place)| async move {
        let mut response = response?;
        match tokio::time::timeout(idle, response.chunk()).await {
            Ok(Ok(Some(chunk))) => Some((Ok(chunk), (Some(response), place))),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some((Err(io::Error::other(explain(error))), (None, place))),
            Err(_) => {
                let text = format!("the upstream said nothing for {idle:?}");
                Some((Err(io::Error::new(io::ErrorKind::TimedOut, text)), (None, place)))
            }
        }
    });
    stream.boxed()
}
