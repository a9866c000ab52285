//! Reads a request's body within its size and its time: half a body must not hold memory for ever.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::Limits;

/// A body's buffer is at most this many times as large as the part that has arrived.
const GROWTH: usize = 8;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {limit} bytes: send less, or raise the gateway's limit")]
    TooLarge { limit: usize },
    #[error("only {received} bytes of the body came within {within:?}: send it again, faster")]
    TooSlow { received: usize, within: Duration },
    /// The client went away, or its chunk framing is wrong.
    #[error("the body broke off or its chunks are malformed: send it again, complete")]
    Broken(#[source] axum::Error),
}

impl BodyError {
    /// 413, 408 or 400.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl Limits {
    /// The time a body may have taken when this much of it has come.
    pub(super) fn body_time(&self, received: usize) -> Duration {
        let earned = match self.min_body_rate {
            0 => Duration::ZERO,
            rate => Duration::from_millis((received as u64).saturating_mul(1000) / u64::from(rate)),
        };
        self.body_timeout.saturating_add(earned)
    }
}

/// The whole body, if it keeps `max_body` and the pace of `body_timeout` and `min_body_rate`.
///
/// A declared length over the limit is refused before a byte is read, and then a client that asked
/// (`Expect: 100-continue`) never sends the body. A body in one piece is not copied.
///
/// # Errors
/// [`BodyError`]. The connection does not serve another request then: the rest of the body is in the way.
pub async fn read_body(mut body: Body, limits: &Limits) -> Result<Bytes, BodyError> {
    let limit = limits.max_body;
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    let started = Instant::now();
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let received = whole.len().max(joined.len());
        let within = limits.body_time(received);
        let next = match started.checked_add(within) {
            Some(deadline) => tokio::time::timeout_at(deadline, body.frame())
                .await
                .map_err(|_| BodyError::TooSlow { received, within })?,
            None => body.frame().await,
        };
        let Some(frame) = next else { break };
        // A frame that is not data is a trailer, and trailers have no meaning here.
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        if data.len() > limit - received {
            return Err(BodyError::TooLarge { limit });
        }
        if received == 0 {
            whole = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            if joined.capacity() - joined.len() < data.len() {
                // The more has arrived, the more of the declared length is reserved; so most bytes are copied once.
                let left = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
                joined.reserve(data.len() + left.min(GROWTH * received));
            }
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
}
