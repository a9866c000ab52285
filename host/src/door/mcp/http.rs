//! The HTTP door: MCP's streamable HTTP for both eras at one path, behind checks on every request.
//!
//! Rule: MCP 2025-11-25 and 2026-07-28, "Transports", streamable HTTP; RFC 9728 for the metadata.

mod caller;
mod challenge;
mod events;
mod kin;
pub(in crate::door) mod local;
mod mirror;
mod refusal;
mod room;
mod sessions;
mod who;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

pub use self::caller::Callers;
pub(in crate::door) use self::caller::{Brought, MAX_CREDENTIAL, is_crowded};
pub use self::refusal::Lines;
use self::refusal::{Refusal, Refused, overloaded, refused, rejected, status, too_many_connections};
pub use self::room::Room;
pub use self::sessions::Sessions;
use self::work::Work;
use super::conversation::{Conversation, Dispatch, Endpoint, Noticed};
use super::line::{self, Out, Outbound, Outbox};
use crate::call::{self, Denial, Json, Principal};
use crate::door::cors;
use crate::door::guard::{self, Form, Hosts, Origins};
use crate::door::server::{self, Limits, Peer};
use crate::mcp::envelope::{self, Message};
use crate::mcp::{Era, REVISIONS, STATELESS, code, era, message};
use crate::pipeline::Caller;
use crate::session::Session;
use crate::telemetry::context::Carried;

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
/// What a page may be allowed to do here.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
/// The headers of an answer that a page may read, besides those that every page may.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate, MCP-Protocol-Version, Retry-After");

/// One MCP endpoint.
#[derive(Debug)]
pub struct Mount {
    /// `/mcp`.
    pub path: String,
    pub endpoint: Endpoint,
    pub hosts: Hosts,
    pub origins: Origins,
    pub limits: Limits,
    pub callers: Arc<Callers>,
    pub sessions: Arc<Sessions>,
    /// Requests of one session under way at once.
    pub max_in_flight: usize,
    /// Bytes of large messages that are under way, in all mounts together.
    pub room: Room,
    /// How long nothing may be said to a client that waits for an answer or listens.
    pub keep_alive: Duration,
    /// Log lines about what is refused.
    pub lines: Lines,
    /// The metadata that says where tokens come from (RFC 9728); none if they do not come from an authorization server.
    pub resource: Option<Resource>,
}

/// The protected resource's metadata (RFC 9728, section 2).
#[derive(Clone, Debug)]
pub struct Resource {
    /// The gateway's own URI, as tokens name it in `aud`.
    pub uri: String,
    pub authorization_servers: Vec<String>,
    /// The scopes that a client should ask for first.
    pub scopes: Vec<String>,
    /// All scopes that calls may need.
    pub supported: Vec<String>,
}

/// The routes of all mounts; the first is the main one. A slash at the end makes no difference. What is at none of their
/// paths goes to the HTTP API, if there is one.
pub fn router(mounts: Vec<Arc<Mount>>, api: Option<Router>) -> Router {
    let mut router = Router::new();
    if let Some(api) = api {
        router = router.merge(api);
    } else if let Some(main) = mounts.first() {
        router = router.merge(Router::new().fallback(nowhere).with_state(main.clone()));
    }
    for mount in mounts {
        let metadata = format!("/.well-known/oauth-protected-resource{}", mount.path);
        let own = get(standing).post(post).delete(farewell).fallback(otherwise);
        let read = |page: MethodRouter<Arc<Mount>>| page.fallback(otherwise);
        let mut live = Router::new();
        for slash in ["", "/"] {
            live = live
                .route(&format!("{}{slash}", mount.path), own.clone())
                .route(&format!("{}/health{slash}", mount.path), read(get(health)))
                .route(&format!("{metadata}{slash}"), read(get(protected_resource)));
        }
        router = router.merge(live.with_state(mount));
    }
    router
}

/// Whether a request says that it is of the stateless era.
fn says_stateless(parts: &Parts) -> bool {
    parts.headers.get(VERSION).is_some_and(|version| version == STATELESS)
}

fn era_of(parts: &Parts) -> Era {
    if says_stateless(parts) { Era::Stateless } else { Era::Handshake }
}

fn reply(status: u16, body: Bytes) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

impl Mount {
    /// The caller could not be identified. A token that cannot be checked right now is not a wrong one: the answer must
    /// not make the client throw it away.
    fn not_known(&self, denial: &Denial, brought: bool, code: i64) -> Refused {
        if denial.kind != call::DenialKind::Unavailable {
            return self.unauthenticated(denial, brought, code);
        }
        let mut response = status(503, code::INTERNAL_ERROR, &denial.message, &denial.reason);
        let seconds =
            denial.retry_after.map_or(1, |after| after.as_secs() + u64::from(after.subsec_nanos() > 0));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        Refusal::new(response, denial.clone())
    }

    /// RFC 6750, section 3, and RFC 9728, section 5.1. A caller who brought no credential is not told that it is wrong.
    fn unauthenticated(&self, denial: &Denial, brought: bool, code: i64) -> Refused {
        let challenge = challenge::unknown(self.resource.as_ref(), &self.path, brought);
        // The gateway's own reasons are one: there is nothing that a client could do about each.
        let own = ["no_credential", "credentials_differ", "rejected"].contains(&&*denial.reason);
        let reason = if own { "unauthenticated" } else { &denial.reason };
        let response = status(401, code, &denial.message, reason);
        Refusal::new(challenge::with(response, &challenge), denial.clone())
    }

    fn lacking(&self, scopes: &str, response: Response) -> Response {
        challenge::with(response, &challenge::lacking(scopes, self.resource.as_ref(), &self.path))
    }

    /// What is sent: whatever became of a request, for the page that asked if it was one.
    async fn answer(
        &self,
        answer: Result<Response, Refused>,
        parts: &Parts,
        peer: &Peer,
        since: Instant,
    ) -> Response {
        let response = match answer {
            Ok(response) => response,
            // What is rare is on the heap, so that the future of every request stays small: it is copied on its way.
            Err(refused) => Box::pin(self.turn_away(refused, parts, peer, since)).await,
        };
        cors::readable(&parts.headers, &self.origins, EXPOSED, response)
    }

    /// What holds for every request.
    fn head(&self, parts: &Parts) -> Result<(), Refused> {
        guard::head(parts, &self.hosts, &self.origins, self.callers.headers())
            .map_err(|rejection| rejected(&rejection))
    }

    /// A request for a path that nothing is served at, unless a browser asks what a page may do.
    async fn elsewhere(
        &self,
        parts: &Parts,
        peer: &Peer,
        refused: impl FnOnce() -> Refused + Send,
    ) -> Response {
        let since = Instant::now();
        let answer = self.head(parts).and_then(|()| {
            if cors::is_preflight(parts) { Ok(cors::preflight(parts, METHODS)) } else { Err(refused()) }
        });
        self.answer(answer, parts, peer, since).await
    }

    /// The answer to a request that went its way.
    async fn answered(
        &self,
        queue: Outbox,
        conversation: &Arc<Conversation>,
        guard: Option<events::CancelOnDrop>,
        (work, form): (Option<Work>, Form),
    ) -> Response {
        let mut response = events::respond(queue, conversation, guard, work, self.ways(form)).await;
        match response.extensions_mut().remove::<events::Lacking>() {
            Some(events::Lacking(scopes)) => self.lacking(&scopes, response),
            None => response,
        }
    }

    fn ways(&self, form: Form) -> events::Ways<'_> {
        events::Ways { form, stopping: &self.endpoint.stopping, keep_alive: self.keep_alive }
    }

    /// A conversation for one request of the stateless era.
    fn of_its_own(
        &self,
        parts: &Parts,
        peer: &Peer,
        method: &str,
        who: &Principal,
    ) -> Result<Arc<Conversation>, Refused> {
        if method == "subscriptions/listen" {
            guard::accept_events(&parts.headers).map_err(|rejection| rejected(&rejection))?;
            if !peer.held(who.share()) {
                return Err(too_many_connections(Era::Stateless));
            }
        }
        let session = Session::new("stateless", self.max_in_flight);
        Ok(Conversation::new(self.endpoint.clone(), session))
    }

    /// The conversation a request belongs to; 404 for another's as for none, so that ids cannot be tried out.
    fn session(&self, parts: &Parts, who: &Principal) -> Result<Arc<Conversation>, Refused> {
        let Some(id) = parts.headers.get(SESSION).and_then(|id| id.to_str().ok()) else {
            let text = "this request needs the header Mcp-Session-Id that `initialize` was answered with";
            return Err(refused(400, code::INVALID_REQUEST, text, "session_missing"));
        };
        let Some(conversation) = self.sessions.find(id, who) else {
            let text = "there is no such session (any more): send `initialize` again";
            return Err(refused(404, code::INVALID_REQUEST, text, "session_unknown"));
        };
        if let Some(version) = parts.headers.get(VERSION)
            && !version.to_str().is_ok_and(|version| REVISIONS.contains(&version))
        {
            let text = format!(
                "the header MCP-Protocol-Version names no revision spoken here: {}",
                REVISIONS.join(", ")
            );
            return Err(refused(400, code::INVALID_REQUEST, &text, "unsupported_version"));
        }
        Ok(conversation)
    }
}

async fn post(
    State(mount): State<Arc<Mount>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let since = Instant::now();
    let (parts, body) = request.into_parts();
    let answer = work::small(posted(&mount, &parts, &peer, body)).await;
    mount.answer(answer, &parts, &peer, since).await
}

async fn posted(mount: &Arc<Mount>, parts: &Parts, peer: &Peer, body: Body) -> Result<Response, Refused> {
    let (caller, who) = mount.caller(parts, peer).await?;
    taken(mount, parts, peer, (&caller, &who), body).await.map_err(|refused| refused.by(&who))
}

/// A message of a caller who is known.
async fn taken(
    mount: &Arc<Mount>,
    parts: &Parts,
    peer: &Peer,
    (caller, who): (&Arc<Caller>, &Arc<Principal>),
    body: Body,
) -> Result<Response, Refused> {
    let bad = |rejection: guard::Rejection| rejected(&rejection);
    guard::content_type_json(&parts.headers).map_err(bad)?;
    let form = guard::accept_rpc(&parts.headers).map_err(bad)?;
    let held = mount.room.take(&body, &mount.limits, who.share());
    let held = held.map_err(|full| overloaded(full.text(), era_of(parts)).closing())?;
    let body = server::read_body(body, &mount.limits).await.map_err(|error| {
        refused(error.status().as_u16(), code::INVALID_REQUEST, &error.to_string(), "body").closing()
    })?;
    let (stream, queue) = line::stream(caller);
    let out = Out::new(stream, caller.clone()).holding(held).within(Carried::of_headers(&parts.headers));
    let says_stateless = says_stateless(parts);
    match envelope::parse(&body) {
        Ok(Message::Request { id, method, params }) => {
            let params = params.map(|params| Json::shared(&body, params));
            let text = params.as_ref().map_or("{}", Json::get);
            let (conversation, guard, work, reply) = if says_stateless
                || era::is_stateless(Some(text))
                || method == "server/discover"
            {
                mirror::check(mount, parts, id, &method, text).map_err(|refused| refused.asking(&method))?;
                let conversation = mount.of_its_own(parts, peer, &method, who)?;
                // A connection that is closed is a request that is cancelled (2026-07-28, "Cancellation").
                let guard = events::CancelOnDrop(conversation.clone());
                let reply = conversation.receive_stateless(id, &method, params, &out);
                (conversation, Some(guard), None, reply)
            } else if method == "initialize" && !parts.headers.contains_key(SESSION) {
                return Box::pin(initialize(mount, caller, who, &body, form)).await;
            } else if method == "ping" && !parts.headers.contains_key(SESSION) {
                // Allowed before `initialize` is done.
                return Ok(events::at_once(form, message::result(id.get(), "{}")));
            } else {
                let conversation = mount.session(parts, who).map_err(|refused| refused.asking(&method))?;
                // Nothing is awaited while the work is at hand: it would be part of this future, too.
                let (work, reply) = match conversation.dispatch(id, &method, params, &out) {
                    Dispatch::Run(work) => (Some(Work::new(work, conversation.tasks())), None),
                    Dispatch::Spawned => (None, None),
                    Dispatch::Reply(reply) => (None, Some(reply)),
                };
                (conversation, None, work, reply)
            };
            if let Some(reply) = reply {
                Box::pin(mount.refused_call(&method, &reply, parts, peer, who)).await;
                // The first message of a queue that is read below.
                let _infallible = out.try_send(reply);
            }
            drop(out);
            Ok(mount.answered(queue, &conversation, guard, (work, form)).await)
        }
        Ok(Message::Notification { method, params }) if says_stateless => {
            Box::pin(noticed(mount, parts, caller, &method, params)).await
        }
        Ok(Message::Notification { .. } | Message::Response { .. }) => {
            let conversation = mount.session(parts, who)?;
            Box::pin(conversation.receive(&body, &out)).await;
            Ok(StatusCode::ACCEPTED.into_response())
        }
        Err(_) if body.trim_ascii_start().first() == Some(&b'[') => {
            let conversation = mount.session(parts, who)?;
            Box::pin(conversation.receive(&body, &out)).await;
            drop(out);
            Ok(mount.answered(queue, &conversation, None, (None, form)).await)
        }
        Err(error) => Ok(reply(400, super::conversation::complaint(&error))),
    }
}

/// A notification of the stateless era.
async fn noticed(
    mount: &Arc<Mount>,
    parts: &Parts,
    caller: &Arc<Caller>,
    method: &str,
    params: Option<&RawValue>,
) -> Result<Response, Refused> {
    mirror::check(mount, parts, RawValue::NULL, method, params.map_or("{}", |params| params.get()))?;
    let session = Session::new("stateless", mount.max_in_flight);
    let conversation = Conversation::new(mount.endpoint.clone(), session);
    match conversation.noticed(method, params, caller) {
        // Of MCP's own, this era has none here: a request is cancelled by closing its connection.
        Noticed::Done => {}
        // There is no session that the log could name it for, so its sender is told.
        Noticed::Dropped(why) => {
            return Err(refused(400, code::INVALID_REQUEST, &why, "not_taken").asking(method));
        }
        // Refused or not, it is on record.
        Noticed::Run(work) => {
            if let Err(failure) = work.await {
                tracing::debug!("a notification was not passed on: {failure}");
            }
        }
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

/// A new session (2025-11-25, "Session Management").
async fn initialize(
    mount: &Arc<Mount>,
    caller: &Arc<Caller>,
    who: &Principal,
    body: &Bytes,
    form: Form,
) -> Result<Response, Refused> {
    let failed = |text: &str| refused(503, code::INTERNAL_ERROR, text, "overloaded");
    let id = mount.endpoint.suspended.id().map_err(|error| failed(&error.to_string()))?;
    let session = Session::new(&id, mount.max_in_flight);
    let conversation = Conversation::new(mount.endpoint.clone(), session);
    let (stream, mut queue) = line::stream(caller);
    let out = Out::new(stream, caller.clone());
    conversation.receive(body, &out).await;
    drop(out);
    let answer = match queue.recv().await {
        Some(Outbound::Last { message, .. }) => message,
        Some(Outbound::Part(_)) | None => return Err(failed("initialize was not answered")),
    };
    let mut response = events::at_once(form, answer.text().clone());
    if conversation.client_info().is_some() {
        mount.sessions.add(conversation, who).map_err(|text| overloaded(text, Era::Handshake))?;
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(SESSION, value);
        }
    }
    Ok(response)
}

/// The session's standing stream.
async fn standing(
    State(mount): State<Arc<Mount>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let since = Instant::now();
    let (parts, _) = request.into_parts();
    let open = |who: &Principal| {
        if says_stateless(&parts) {
            return Err(Mount::not_here());
        }
        guard::accept_events(&parts.headers).map_err(|rejection| rejected(&rejection))?;
        let conversation = mount.session(&parts, who)?;
        mount.may_stand(who)?;
        // A stream takes up its connection for as long as it stands.
        if !peer.held(who.share()) {
            return Err(too_many_connections(Era::Handshake));
        }
        Ok(conversation)
    };
    let answer = mount.caller(&parts, &peer).await.and_then(|(caller, who)| {
        let conversation = open(&who).map_err(|refused| refused.by(&who))?;
        let (out, queue) = line::stream(&caller);
        conversation.attach_stream(out);
        // Switched off in between, it was not among the streams that were ended.
        if let Err(refused) = mount.may_stand(&who) {
            conversation.detach();
            return Err(refused.by(&who));
        }
        Ok(events::standing(queue, mount.ways(Form::Events)))
    });
    mount.answer(answer, &parts, &peer, since).await
}

async fn farewell(
    State(mount): State<Arc<Mount>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let since = Instant::now();
    let (parts, _) = request.into_parts();
    let end = |who: &Principal| {
        if says_stateless(&parts) {
            return Err(Mount::not_here());
        }
        mount.session(&parts, who)
    };
    let answer = mount.caller(&parts, &peer).await.and_then(|(_, who)| {
        let conversation = end(&who).map_err(|refused| refused.by(&who))?;
        mount.sessions.end(conversation.session().id());
        Ok(StatusCode::NO_CONTENT.into_response())
    });
    mount.answer(answer, &parts, &peer, since).await
}

/// Every other method: a browser asks what a page may do, or the request is a mistake.
async fn otherwise(
    State(mount): State<Arc<Mount>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let own = parts.uri.path().trim_end_matches('/') == mount.path;
    let methods = if own { "GET, POST, DELETE" } else { "GET" };
    mount.elsewhere(&parts, &peer, || Mount::no_such_method(&parts, methods)).await
}

/// Every other path.
async fn nowhere(
    State(mount): State<Arc<Mount>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    mount.elsewhere(&parts, &peer, || mount.not_found(&parts)).await
}

/// The version that runs, for a load balancer that routes to this mount.
async fn health(
    State(mount): State<Arc<Mount>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let since = Instant::now();
    let (parts, _) = request.into_parts();
    let body = || {
        json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "protocolVersions": era::all_revisions(),
            "sessions": mount.sessions.len(),
            "generation": mount.endpoint.pipeline.current().id(),
        })
    };
    let answer = mount.head(&parts).map(|()| reply(200, body().to_string().into()));
    mount.answer(answer, &parts, &peer, since).await
}

/// RFC 9728, section 3: where tokens for this gateway come from. Open to all.
async fn protected_resource(
    State(mount): State<Arc<Mount>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let since = Instant::now();
    let (parts, _) = request.into_parts();
    let answer = mount.head(&parts).and_then(|()| {
        let text =
            "no authorization server is configured ([http.oauth]): bring a token that its operator gave out";
        let resource = mount.resource.as_ref();
        let resource = resource.ok_or_else(|| refused(404, code::INVALID_REQUEST, text, "not_found"))?;
        let mut body = json!({
            "resource": resource.uri,
            "authorization_servers": resource.authorization_servers,
            "bearer_methods_supported": ["header"],
        });
        if !resource.supported.is_empty() {
            body["scopes_supported"] = resource.supported.clone().into();
        }
        Ok(reply(200, body.to_string().into()))
    });
    mount.answer(answer, &parts, &peer, since).await
}
