//! What answers routes, as backends: an HTTP API or a program, together with the request for a route that is at hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::engine::{Ask, Engine, EngineError, Judged};
use super::upstream::{Replied, Sent, Upstream, UpstreamError};
use super::{Answer, AnswerKind, Backend, BackendError, Body, Fleet, HttpHead, Request};
use crate::call::Outcome;
use crate::config::{Config, Secret, rest};
use crate::mcp::payload::Payload;
use crate::mcp::splice;
use crate::policy::Permitted;
use crate::redact::Redaction;
use crate::route::Asked;
use crate::route::problem::{MEDIA_TYPE, Problem};

/// A target, and the request for a route that it is to answer.
#[derive(Debug)]
pub struct Target<T> {
    it: Arc<T>,
    asked: Option<Arc<Asked>>,
}

// Derived, it would want its target to be one that can be cloned.
impl<T> Clone for Target<T> {
    fn clone(&self) -> Self {
        Self { it: self.it.clone(), asked: self.asked.clone() }
    }
}

impl<T> Target<T> {
    fn new(it: T) -> Self {
        Self { it: Arc::new(it), asked: None }
    }

    /// The same for this request.
    #[must_use]
    pub fn asked(&self, asked: Arc<Asked>) -> Self {
        Self { it: self.it.clone(), asked: Some(asked) }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.it, &other.it)
    }

    pub(super) fn holders(&self) -> usize {
        Arc::strong_count(&self.it)
    }

    pub(super) fn it(&self) -> &Arc<T> {
        &self.it
    }
}

/// The upstreams and engines of a configuration; those whose settings are the same go on.
#[must_use]
pub(crate) fn adopt(fleet: &Fleet, config: &Config) -> Vec<Backend> {
    let redaction = &config.redaction;
    let upstreams = config.upstreams.iter().map(|settings| {
        let rest::Upstream { url, headers, way, .. } = settings;
        let secrets =
            headers.iter().map(|(_, value)| value).chain([url]).chain(&way.proxy).chain(&way.identity);
        fleet.adopt(&settings.name, digest(&format!("{settings:?} {:?}", way.ca), secrets), || {
            Backend::Http(Target::new(Upstream::new(settings.clone(), redaction.clone())))
        })
    });
    let engines = config.engines.iter().map(|settings| {
        let secrets = settings.args.iter().chain(settings.env.iter().map(|(_, value)| value));
        fleet.adopt(&settings.name, digest(&format!("{settings:?}"), secrets), || {
            Backend::Engine(Target::new(Engine::new(settings.clone(), redaction.clone())))
        })
    });
    upstreams.chain(engines).collect()
}

/// Of settings as they are shown, and of the secrets that are not.
fn digest<'s>(shown: &str, secrets: impl Iterator<Item = &'s Secret>) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    let mut add = |part: &str| {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    };
    add(shown);
    secrets.map(Secret::expose).for_each(add);
    *hash.finalize().as_bytes()
}

impl Target<Upstream> {
    /// Sends a request that was permitted. Dropped, it closes the connection.
    pub(super) async fn call(
        &self,
        permitted: &Permitted,
        request: Request<'_>,
    ) -> Result<Answer, BackendError> {
        let upstream = &*self.it;
        let Some(asked) = &self.asked else { return Err(no_route(upstream.name(), upstream.redaction())) };
        let body = match request.body {
            None => Sent::Arguments,
            Some(Body::Whole(bytes)) => Sent::Whole(bytes.clone()),
            Some(body @ Body::Streamed(_)) => match body.take() {
                Some(chunks) => Sent::Streamed(chunks),
                None => {
                    return Err(protocol(upstream.name(), upstream.redaction(), "the body was read before"));
                }
            },
        };
        let replied = upstream.ask(asked, arguments(permitted, &request), body, &request.headers).await;
        let Replied { status, headers, body, rest } =
            replied.map_err(|error| of_upstream(upstream, error))?;
        let streamed = rest.map(Body::streamed);
        let head = HttpHead { status, headers, streamed, complaint: None };
        Ok(Answer {
            kind: AnswerKind::Http(Box::new(head)),
            outcome: outcome(status),
            payload: Payload::from(body),
        })
    }
}

impl Target<Engine> {
    /// Has a program do what was permitted. Dropped, it kills the process that works on it, with all that this started.
    pub(super) async fn call(
        &self,
        permitted: &Permitted,
        request: Request<'_>,
    ) -> Result<Answer, BackendError> {
        let engine = &*self.it;
        let missing = || no_route(engine.name(), engine.redaction());
        let asked = self.asked.as_ref().ok_or_else(missing)?;
        let rest::Target::Engine { operation, args, .. } = &asked.entry.route.target else {
            return Err(missing());
        };
        let arguments = arguments(permitted, &request);
        let subject = &permitted.call().principal.subject;
        let ask = Ask { operation, arguments, subject, request_id: &asked.request_id };
        let body = match request.body {
            Some(Body::Whole(bytes)) => Some(bytes.clone()),
            Some(Body::Streamed(_)) => None,
            None => splice::get(arguments, "/body").map(|text| Bytes::copy_from_slice(text.as_bytes())),
        };
        let judged = engine.ask(ask, args, body.as_ref(), asked.entry.route.timeout).await;
        judged_answer(engine, judged.map_err(|error| of_engine(engine, error))?, asked)
    }
}

/// The arguments of a call as the rewriters left them.
fn arguments<'a>(permitted: &'a Permitted, request: &Request<'a>) -> &'a str {
    let params = request.params.unwrap_or(&permitted.call().params);
    splice::get(params.get(), "/arguments").unwrap_or("{}")
}

fn judged_answer(engine: &Engine, judged: Judged, asked: &Asked) -> Result<Answer, BackendError> {
    let outcome = judged.outcome();
    let mut headers = HeaderMap::new();
    let (status, media, body, complaint) = match judged {
        Judged::Done(body) => (StatusCode::OK, "application/json", body, None),
        Judged::Failed { status, reason, message } => {
            let message = engine.redaction().text(&message).into_owned();
            // What a program says of its own insides is for operators, unless an API is being developed.
            let detail =
                if asked.dev { message.clone() } else { "the request could not be answered".to_owned() };
            let body = Problem::new(status, &reason, detail).document(&asked.request_id).into();
            (status, MEDIA_TYPE, body, Some(message))
        }
        Judged::Garbage(why) => return Err(protocol(engine.name(), engine.redaction(), &why)),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    let head = HttpHead { status, headers, streamed: None, complaint };
    Ok(Answer { kind: AnswerKind::Http(Box::new(head)), outcome, payload: Payload::from(body) })
}

fn no_route(backend: &Arc<str>, redaction: &Redaction) -> BackendError {
    protocol(backend, redaction, "it answers requests for routes only")
}

/// What a status says of a server: whether it is well is another question than whether the request was.
fn outcome(status: StatusCode) -> Outcome {
    match status.as_u16() {
        429 => Outcome::Throttled,
        408 | 500.. => Outcome::ServerError,
        400.. => Outcome::InvalidRequest,
        _ => Outcome::Success,
    }
}

fn protocol(backend: &Arc<str>, redaction: &Redaction, why: &str) -> BackendError {
    BackendError::Protocol { backend: backend.clone(), reason: redaction.words(why) }
}

fn unreachable(backend: &Arc<str>, redaction: &Redaction, why: &str) -> BackendError {
    BackendError::Unreachable {
        backend: backend.clone(),
        reason: redaction.words(why),
        counts: true,
        again: None,
    }
}

fn timeout(backend: &Arc<str>, after: Duration) -> BackendError {
    BackendError::Timeout { backend: backend.clone(), after, alive: false, endless: false }
}

fn of_upstream(upstream: &Upstream, error: UpstreamError) -> BackendError {
    let (backend, redaction) = (upstream.name(), upstream.redaction());
    match error {
        UpstreamError::Busy(limit) => BackendError::Busy { backend: backend.clone(), limit },
        UpstreamError::Unreachable(why) => unreachable(backend, redaction, &why),
        UpstreamError::Timeout(after) => timeout(backend, after),
        UpstreamError::TooLarge(limit) => BackendError::TooLarge { backend: backend.clone(), limit },
        error @ (UpstreamError::Protocol(_) | UpstreamError::Request(_)) => {
            protocol(backend, redaction, &error.to_string())
        }
    }
}

fn of_engine(engine: &Engine, error: EngineError) -> BackendError {
    let (backend, redaction) = (engine.name(), engine.redaction());
    match error {
        EngineError::Busy => {
            BackendError::Busy { backend: backend.clone(), limit: engine.settings().max_in_flight }
        }
        EngineError::Start(why) => unreachable(backend, redaction, &why),
        EngineError::Timeout(after) => timeout(backend, after),
        EngineError::Argument(error) => BackendError::Status {
            backend: backend.clone(),
            status: 400,
            retry_after: None,
            said: redaction.words(&error.to_string()),
        },
    }
}
