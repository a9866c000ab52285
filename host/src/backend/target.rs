//! What answers routes: HTTP APIs and programs, in one type. They outlive a generation as long as their settings stay the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::BackendError;
use super::engine::{Ask, Engine, EngineError, Judged};
use super::upstream::{Chunks, Sent, Upstream, UpstreamError};
use crate::call::{Json, Outcome};
use crate::config::{Config, rest};
use crate::mcp::splice;
use crate::policy::Permitted;
use crate::redact::Redaction;
use crate::route::Asked;
use crate::route::problem::{MEDIA_TYPE, Problem};

/// What answers a route.
#[derive(Clone, Debug)]
pub enum Target {
    /// An HTTP API.
    Upstream(Arc<Upstream>),
    /// A program.
    Engine(Arc<Engine>),
}

/// An answer for a caller of the HTTP API.
pub struct HttpAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The body, if it is still arriving.
    pub rest: Option<Chunks>,
    /// What guards hear.
    pub outcome: Outcome,
    /// What operators read of an answer that is a failure.
    pub complaint: Option<String>,
}

impl std::fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is answered is not for logs.
        f.debug_struct("HttpAnswer")
            .field("status", &self.status)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// All targets of a generation, by name.
#[derive(Debug, Default)]
pub struct Targets(HashMap<String, Target>);

impl Targets {
    /// Those of a configuration; the ones of before whose settings are the same go on.
    #[must_use]
    pub fn following(&self, config: &Config) -> Self {
        let mut all = HashMap::new();
        for settings in &config.upstreams {
            let known = match self.0.get(&settings.name) {
                Some(Target::Upstream(known)) if known.settings() == settings => Some(known.clone()),
                _ => None,
            };
            let upstream =
                known.unwrap_or_else(|| Arc::new(Upstream::new(settings.clone(), config.redaction.clone())));
            all.insert(settings.name.clone(), Target::Upstream(upstream));
        }
        for settings in &config.engines {
            let known = match self.0.get(&settings.name) {
                Some(Target::Engine(known)) if known.settings() == settings => Some(known.clone()),
                _ => None,
            };
            let engine =
                known.unwrap_or_else(|| Arc::new(Engine::new(settings.clone(), config.redaction.clone())));
            all.insert(settings.name.clone(), Target::Engine(engine));
        }
        Self(all)
    }

    /// The one of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Target> {
        self.0.get(name)
    }

    /// Ends the processes that wait for calls.
    pub fn stop(&self) {
        for target in self.0.values() {
            if let Target::Engine(engine) = target {
                engine.stop();
            }
        }
    }
}

impl Target {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Upstream(upstream) => upstream.name(),
            Self::Engine(engine) => engine.name(),
        }
    }

    /// Host and port, for spans.
    #[must_use]
    pub fn reached(&self) -> Option<(&str, Option<u16>)> {
        match self {
            Self::Upstream(upstream) => upstream.reached(),
            Self::Engine(_) => None,
        }
    }

    /// Does a call that was permitted. `params` are those that rewriters changed, `headers` those that they set, with the
    /// trace context. Dropped, it gives up.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn call(
        &self,
        permitted: &Permitted,
        asked: &Asked,
        (params, headers): (Option<&Json>, &[(String, String)]),
        body: Sent,
    ) -> Result<HttpAnswer, BackendError> {
        let call = permitted.call();
        let arguments = splice::get(params.unwrap_or(&call.params).get(), "/arguments").unwrap_or("{}");
        match self {
            Self::Upstream(upstream) => {
                let replied = upstream.ask(asked, arguments, body, headers).await;
                let replied = replied.map_err(|error| of_upstream(upstream, error))?;
                let outcome = outcome(replied.status);
                let complaint = (outcome != Outcome::Success)
                    .then(|| format!("answered with HTTP status {}", replied.status));
                let super::upstream::Replied { status, headers, body, rest } = replied;
                Ok(HttpAnswer { status, headers, body, rest, outcome, complaint })
            }
            Self::Engine(engine) => {
                let rest::Target::Engine { operation, args, .. } = &asked.entry.route.target else {
                    return Err(protocol(engine.name(), engine.redaction(), "the route is not an engine's"));
                };
                let ask = Ask {
                    operation,
                    arguments,
                    subject: &call.principal.subject,
                    request_id: &asked.request_id,
                };
                let body = match &body {
                    Sent::Whole(bytes) => Some(bytes.clone()),
                    Sent::Arguments => {
                        splice::get(arguments, "/body").map(|text| Bytes::copy_from_slice(text.as_bytes()))
                    }
                    Sent::Streamed(_) => None,
                };
                let judged = engine.ask(ask, args, body.as_ref(), asked.entry.route.timeout).await;
                let judged = judged.map_err(|error| of_engine(engine, error))?;
                judged_answer(engine, judged, asked)
            }
        }
    }
}

fn judged_answer(engine: &Engine, judged: Judged, asked: &Asked) -> Result<HttpAnswer, BackendError> {
    let outcome = judged.outcome();
    let mut headers = HeaderMap::new();
    match judged {
        Judged::Done(body) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(HttpAnswer { status: StatusCode::OK, headers, body, rest: None, outcome, complaint: None })
        }
        Judged::Failed { status, reason, message } => {
            let message = engine.redaction().text(&message).into_owned();
            // What a program says of its own insides is for operators, unless an API is being developed.
            let detail =
                if asked.dev { message.clone() } else { "the request could not be answered".to_owned() };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
            let body = Problem::new(status, &reason, detail).document(&asked.request_id).into();
            Ok(HttpAnswer { status, headers, body, rest: None, outcome, complaint: Some(message) })
        }
        Judged::Garbage(why) => Err(protocol(engine.name(), engine.redaction(), &why)),
    }
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
