//! The HTTP door: MCP's streamable HTTP for both eras at one path, behind checks on every request.
//!
//! Rule: MCP 2025-11-25 and 2026-07-28, "Transports", streamable HTTP; RFC 9728 for the metadata.

mod caller;
mod challenge;
mod events;
mod kin;
mod local;
mod mirror;
mod room;
mod sessions;
mod who;
mod work;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

pub use self::caller::Callers;
pub use self::room::Room;
pub use self::sessions::Sessions;
use self::work::Work;
use super::conversation::{Conversation, House, TakenUp};
use super::guard::{self, Hosts, Origins, Rejection};
use super::line::{self, Out, Outbound, Outbox};
use super::notices::Noticed;
use super::respond;
use super::server::{self, Limits, Peer};
use crate::call::{self, Denial, Json, Principal};
use crate::mcp::envelope::{self, Message};
use crate::mcp::{Era, REVISIONS, STATELESS, code, era, message};
use crate::pipeline::Caller;
use crate::session::Session;

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// One MCP endpoint.
#[derive(Debug)]
pub struct Mount {
    /// `/mcp`.
    pub path: String,
    pub house: House,
    pub hosts: Hosts,
    pub origins: Origins,
    pub limits: Limits,
    pub callers: Callers,
    pub sessions: Arc<Sessions>,
    /// Requests of one session under way at once.
    pub max_in_flight: usize,
    /// Bytes of large messages that are under way, in all mounts together.
    pub room: Room,
    /// Whoever comes from this machine may be its user, without a credential.
    pub local: bool,
    /// What says where tokens come from (RFC 9728); none if they are not an authorization server's.
    pub resource: Option<Resource>,
}

/// The protected resource's metadata (RFC 9728, section 2).
#[derive(Clone, Debug)]
pub struct Resource {
    /// The gateway's own URI, as tokens name it in `aud`.
    pub uri: String,
    pub authorization_servers: Vec<String>,
    /// What a client asks for to begin with.
    pub scopes: Vec<String>,
    /// All that calls may need.
    pub supported: Vec<String>,
}

/// The routes of all mounts.
pub fn router(mounts: Vec<Arc<Mount>>) -> Router {
    let mut router = Router::new();
    for mount in mounts {
        let metadata = format!("/.well-known/oauth-protected-resource{}", mount.path);
        let live = Router::new()
            .route(&mount.path, get(standing).post(post).delete(farewell))
            .route(&format!("{}/health", mount.path), get(health))
            .route(&metadata, get(protected_resource))
            .with_state(mount);
        router = router.merge(live);
    }
    router
}

/// The answer to a request that is not served.
type Refused = Box<Response>;

/// A request that is not served, in the words of the door.
fn rejected(rejection: &Rejection) -> Refused {
    refused(rejection.status.as_u16(), code::INVALID_REQUEST, &rejection.message, "rejected")
}

fn refused(code: u16, rpc: i64, text: &str, reason: &str) -> Refused {
    Box::new(status(code, rpc, text, reason))
}

fn status(status: u16, code: i64, text: &str, reason: &str) -> Response {
    let body = message::error("null", code, text, &json!({ "reason": reason }));
    reply(status, body)
}

/// To a caller whose own share is used up. HTTP has a status and a header for it, too.
fn overloaded(text: &str, era: Era) -> Refused {
    let data = json!({ "reason": "overloaded", "retryAfter": 1 });
    let mut response = reply(503, message::error("null", respond::overloaded(era), text, &data));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Box::new(response)
}

/// To a caller who holds more connections than are theirs, all of them at work.
fn too_many_connections(era: Era) -> Refused {
    let mut refused =
        overloaded("too many connections of yours are open: wait for a call on one to end", era);
    refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    refused
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
    /// Nobody could say who this is: a token that cannot be checked right now is not a wrong one, and whoever holds it
    /// must not throw it away.
    fn not_known(&self, denial: &Denial, brought: bool, code: i64) -> Refused {
        if denial.refused != call::Refused::Unavailable {
            return self.unauthenticated(&denial.message, brought, code);
        }
        let mut response = status(503, code::INTERNAL_ERROR, &denial.message, &denial.reason);
        let seconds =
            denial.retry_after.map_or(1, |after| after.as_secs() + u64::from(after.subsec_nanos() > 0));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        Box::new(response)
    }

    /// RFC 6750, section 3, and RFC 9728, section 5.1. Whoever brought nothing is not told that it is wrong.
    fn unauthenticated(&self, text: &str, brought: bool, code: i64) -> Refused {
        let challenge = challenge::unknown(self.resource.as_ref(), &self.path, brought);
        Box::new(challenge::with(status(401, code, text, "unauthenticated"), &challenge))
    }

    fn lacking(&self, scopes: &str, response: Response) -> Response {
        challenge::with(response, &challenge::lacking(scopes, self.resource.as_ref(), &self.path))
    }

    /// The answer to a request that went its way.
    async fn answered(
        &self,
        queue: Outbox,
        guard: Option<events::CancelOnDrop>,
        work: Option<Work>,
    ) -> Response {
        let mut response = events::respond(queue, guard, work, &self.house.stopping).await;
        match response.extensions_mut().remove::<events::Lacking>() {
            Some(events::Lacking(scopes)) => self.lacking(&scopes, response),
            None => response,
        }
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
    let (parts, body) = request.into_parts();
    match posted(&mount, &parts, &peer, body).await {
        Ok(response) => response,
        Err(refused) => *refused,
    }
}

async fn posted(mount: &Arc<Mount>, parts: &Parts, peer: &Peer, body: Body) -> Result<Response, Refused> {
    let (caller, who) = mount.caller(parts, peer).await?;
    guard::content_type_json(&parts.headers).map_err(|rejection| rejected(&rejection))?;
    guard::accept_rpc(&parts.headers).map_err(|rejection| rejected(&rejection))?;
    let held = mount.room.take(&body, &mount.limits, who.share()).map_err(|full| {
        let mut refused = overloaded(full.text(), era_of(parts));
        // The body is in the way of another request.
        refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        refused
    })?;
    let body = server::read_body(body, &mount.limits).await.map_err(|error| {
        let mut response = status(error.status().as_u16(), code::INVALID_REQUEST, &error.to_string(), "body");
        // The rest of the body is in the way of another request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Box::new(response)
    })?;
    let (stream, queue) = line::stream(&caller);
    let out = Out::new(stream, caller.clone()).holding(held);
    let says_stateless = says_stateless(parts);
    match envelope::parse(&body) {
        Ok(Message::Request { id, method, params }) => {
            let params = params.map(|params| Json::shared(&body, params));
            let text = params.as_ref().map_or("{}", Json::get);
            if says_stateless || era::is_stateless(Some(text)) || method == "server/discover" {
                mirror::check(mount, parts, id, &method, text)?;
                if method == "subscriptions/listen" && !peer.held(who.share()) {
                    return Err(too_many_connections(Era::Stateless));
                }
                let session = Session::new("stateless", mount.max_in_flight);
                let conversation = Conversation::new(mount.house.clone(), session);
                // A connection that is closed is a request that is cancelled (2026-07-28, "Cancellation").
                let guard = events::CancelOnDrop(conversation.clone());
                conversation.hear_stateless(id, &method, params, &out);
                drop(out);
                return Ok(mount.answered(queue, Some(guard), None).await);
            }
            if method == "initialize" && !parts.headers.contains_key(SESSION) {
                return initialize(mount, &caller, &who, &body).await;
            }
            if method == "ping" && !parts.headers.contains_key(SESSION) {
                // Allowed before `initialize` is done.
                return Ok(reply(200, message::result(id.get(), "{}")));
            }
            let conversation = mount.session(parts, &who)?;
            let work = match conversation.taken_up(id, &method, params, &out) {
                TakenUp::ToDo(work) => Some(Work::new(work, conversation.tasks())),
                TakenUp::Away => None,
                TakenUp::Answered(reply) => {
                    // The first message of a queue that is read below.
                    let _infallible = out.try_send(reply);
                    None
                }
            };
            drop(out);
            Ok(mount.answered(queue, None, work).await)
        }
        Ok(Message::Notification { method, params }) if says_stateless => {
            mirror::check(mount, parts, RawValue::NULL, &method, params.map_or("{}", |params| params.get()))?;
            let session = Session::new("stateless", mount.max_in_flight);
            let conversation = Conversation::new(mount.house.clone(), session);
            match conversation.noticed(&method, params, &caller) {
                // Of MCP's own, this era has none here: a request is cancelled by closing its connection.
                Noticed::Done => {}
                // There is no session that the log could name it for, so its sender is told.
                Noticed::Dropped(why) => return Err(refused(400, code::INVALID_REQUEST, &why, "not_taken")),
                // Refused or not, it is on record.
                Noticed::ToDo(work) => {
                    if let Err(failure) = work.await {
                        tracing::debug!("a notification was not passed on: {failure}");
                    }
                }
            }
            Ok(StatusCode::ACCEPTED.into_response())
        }
        Ok(Message::Notification { .. } | Message::Response { .. }) => {
            let conversation = mount.session(parts, &who)?;
            conversation.hear(&body, &out).await;
            Ok(StatusCode::ACCEPTED.into_response())
        }
        Err(_) if body.trim_ascii_start().first() == Some(&b'[') => {
            let conversation = mount.session(parts, &who)?;
            conversation.hear(&body, &out).await;
            drop(out);
            Ok(mount.answered(queue, None, None).await)
        }
        Err(error) => Ok(reply(400, super::conversation::complaint(&error))),
    }
}

/// A new session (2025-11-25, "Session Management").
async fn initialize(
    mount: &Arc<Mount>,
    caller: &Arc<Caller>,
    who: &Principal,
    body: &Bytes,
) -> Result<Response, Refused> {
    let failed = |text: &str| refused(503, code::INTERNAL_ERROR, text, "overloaded");
    let id = mount.house.parking.id().map_err(|error| failed(&error.to_string()))?;
    let session = Session::new(&id, mount.max_in_flight);
    let conversation = Conversation::new(mount.house.clone(), session);
    let (stream, mut queue) = line::stream(caller);
    let out = Out::new(stream, caller.clone());
    conversation.hear(body, &out).await;
    drop(out);
    let answer = match queue.recv().await {
        Some(Outbound::Last { message, .. }) => message,
        Some(Outbound::Part(_)) | None => return Err(failed("initialize was not answered")),
    };
    let mut response = reply(200, answer.text().clone());
    if conversation.hello().is_some() {
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
    let (parts, _) = request.into_parts();
    let open = async {
        let (caller, who) = mount.caller(&parts, &peer).await?;
        if says_stateless(&parts) {
            return Err(Box::new(not_here()));
        }
        guard::accept_events(&parts.headers).map_err(|rejection| rejected(&rejection))?;
        let conversation = mount.session(&parts, &who)?;
        // A stream takes up its connection for as long as it stands.
        if !peer.held(who.share()) {
            return Err(too_many_connections(Era::Handshake));
        }
        Ok((caller, conversation))
    };
    match open.await {
        Ok((caller, conversation)) => {
            let (out, queue) = line::stream(&caller);
            conversation.stand(out);
            events::stream(None, queue, None, &mount.house.stopping)
        }
        Err(refused) => *refused,
    }
}

fn not_here() -> Response {
    let text = format!("revision {STATELESS} has POST only");
    let mut response = status(405, code::INVALID_REQUEST, &text, "method_not_allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

async fn farewell(
    State(mount): State<Arc<Mount>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let end = async {
        let (_, who) = mount.caller(&parts, &peer).await?;
        if says_stateless(&parts) {
            return Err(Box::new(not_here()));
        }
        mount.session(&parts, &who)
    };
    match end.await {
        Ok(conversation) => {
            mount.sessions.end(conversation.session().id());
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refused) => *refused,
    }
}

/// The live version, for whoever routes to this mount (H1).
async fn health(State(mount): State<Arc<Mount>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(rejection) = guard::head(&parts, &mount.hosts, &mount.origins, mount.callers.headers()) {
        return *rejected(&rejection);
    }
    let body = json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "protocolVersions": era::all_revisions(),
        "sessions": mount.sessions.len(),
    });
    reply(200, body.to_string().into())
}

/// RFC 9728, section 3: where tokens for this gateway come from. Open to all.
async fn protected_resource(State(mount): State<Arc<Mount>>) -> Response {
    let Some(resource) = &mount.resource else {
        return status(
            404,
            code::INVALID_REQUEST,
            "no authorization server is configured ([http.oauth])",
            "not_found",
        );
    };
    let mut body = json!({
        "resource": resource.uri,
        "authorization_servers": resource.authorization_servers,
        "bearer_methods_supported": ["header"],
    });
    if !resource.supported.is_empty() {
        body["scopes_supported"] = resource.supported.clone().into();
    }
    reply(200, body.to_string().into())
}
