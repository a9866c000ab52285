//! The body of a request: read whole within its limits, or passed on while it arrives.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::refusal::Refusal;
use super::{Exchange, media, respond};
use crate::call::Principal;
use crate::call::shares::Place;
use crate::door::server::{self, BodyError, Limits};
use crate::pipeline::Body as Sent;
use crate::route::Entry;
use crate::route::problem::Problem;
use crate::route::read::is_json;

/// A body that was taken.
pub(super) struct Taken {
    json: Option<Bytes>,
    /// One that is no JSON, or that is still arriving.
    pub(super) body: Option<Sent>,
    over: Arc<AtomicBool>,
    /// Its room.
    held: Option<Arc<Place>>,
}

/// Whether a body that is passed on has become longer than it may be, and the room of one that is not.
pub(super) struct Over {
    flag: Arc<AtomicBool>,
    _held: Option<Arc<Place>>,
}

impl Over {
    pub(super) fn is_over(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl Taken {
    /// Its text, if it is JSON.
    pub(super) fn json(&self) -> Option<&str> {
        // Bytes that are no text were refused.
        self.json.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Its media type, where the arguments do not say it.
    pub(super) fn content_type(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        self.body.as_ref().and_then(|_| headers.get(header::CONTENT_TYPE).cloned())
    }

    /// What is sent on, and what is to be looked at afterwards.
    pub(super) fn parts(self) -> (Option<Sent>, Over) {
        (self.body, Over { flag: self.over, _held: self.held })
    }
}

pub(super) fn too_large(limit: usize) -> Problem {
    let text = format!("the body is larger than {limit} bytes, which is the limit of this route: send less");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", text)
}

impl Exchange<'_> {
    /// Takes the body of a request for a route, as far as the route wants one.
    pub(super) async fn take(
        &self,
        entry: &Entry,
        body: Body,
        who: &Principal,
    ) -> Result<Taken, Box<Refusal>> {
        let (route, headers) = (&entry.route, &self.parts.headers);
        let limits = Limits { max_body: route.max_body, ..self.front.limits };
        let nothing = body.size_hint().exact() == Some(0);
        let usual = matches!(route.method, Method::POST | Method::PUT | Method::PATCH);
        let over = Arc::new(AtomicBool::new(false));
        let empty = |over| Taken { json: None, body: None, over, held: None };
        let essence = media::essence(headers);
        match &route.body {
            None if nothing => return Ok(empty(over)),
            None if !usual => {
                let text = "this route takes no body: send none";
                return Err(
                    Refusal::new(Problem::new(StatusCode::BAD_REQUEST, "unexpected_body", text)).closing()
                );
            }
            Some(wanted) if nothing => {
                let says = headers.contains_key(header::CONTENT_LENGTH)
                    || headers.contains_key(header::TRANSFER_ENCODING);
                if wanted.required && !says {
                    let text = "this route needs a body, and the request does not say that it has one: send Content-Length";
                    return Err(Refusal::new(Problem::new(
                        StatusCode::LENGTH_REQUIRED,
                        "length_required",
                        text,
                    )));
                }
                if wanted.required && !wanted.content.iter().all(|media| is_json(media)) {
                    let text = "this route needs a body";
                    return Err(Refusal::new(Problem::new(StatusCode::BAD_REQUEST, "missing_body", text)));
                }
                return Ok(empty(over));
            }
            Some(wanted) if !essence.as_deref().is_some_and(|essence| media::takes(wanted, essence)) => {
                let text = format!(
                    "this route takes {}: say in Content-Type which it is",
                    wanted.content.join(", ")
                );
                let problem =
                    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text);
                return Err(Refusal::new(problem).closing());
            }
            None | Some(_) => {}
        }
        if body.size_hint().lower() > route.max_body as u64 {
            return Err(Refusal::new(too_large(route.max_body)).closing());
        }
        if route.stream {
            let body = Some(Sent::streamed(arriving(body, route.max_body, over.clone())));
            return Ok(Taken { json: None, body, over, held: None });
        }
        let held = self.front.room.take(&body, &limits, who.share());
        let held = held.map_err(|full| respond::busy(full.text()).closing())?;
        let bytes = server::read_body(body, &limits).await.map_err(|error| {
            let problem = match error {
                BodyError::TooLarge { .. } => too_large(route.max_body),
                BodyError::TooSlow { .. } => Problem::new(error.status(), "body_too_slow", error.to_string()),
                BodyError::Broken(_) => Problem::new(error.status(), "body_broken", error.to_string()),
            };
            Refusal::new(problem).closing()
        })?;
        if bytes.is_empty() {
            return Ok(empty(over));
        }
        // Without a type a body of a route that describes none is passed on as it is.
        if essence.as_deref().is_some_and(is_json) {
            if std::str::from_utf8(&bytes).is_err() {
                let text = "the body is not UTF-8, which JSON has to be (RFC 8259, section 8.1)";
                return Err(Refusal::new(Problem::new(StatusCode::BAD_REQUEST, "invalid_arguments", text)));
            }
            return Ok(Taken { json: Some(bytes), body: None, over, held });
        }
        Ok(Taken { json: None, body: Some(Sent::Whole(bytes)), over, held })
    }
}

/// The parts of a body as they arrive, until there are too many bytes.
fn arriving(
    body: Body,
    limit: usize,
    over: Arc<AtomicBool>,
) -> std::pin::Pin<Box<dyn futures_util::Stream<Item = io::Result<Bytes>> + Send>> {
    let mut left = limit;
    let parts = body.into_data_stream().map(move |part| {
        let part = part.map_err(io::Error::other)?;
        if part.len() > left {
            over.store(true, Ordering::Relaxed);
            return Err(io::Error::other("the body is larger than the route takes"));
        }
        left -= part.len();
        Ok(part)
    });
    parts.boxed()
}
