//! The door of the HTTP API: a request for a route becomes a call, and its answer, or a problem document, goes back.
//!
//! ```text
//! head fits? → path has one meaning? → which route? → preflight → who? → media types, body → pipeline → answer
//! ```
//!
//! Rule: RFC 9110 for statuses and headers, RFC 9457 for problems. It stands beside MCP on the same listener: what is not
//! MCP's path comes here.

mod body;
mod challenge;
mod client;
mod compress;
mod execution;
mod health;
mod locate;
mod media;
mod once;
mod refusal;
mod refuse;
mod respond;
mod unbroken;
mod who;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::locate::Route;
use self::refusal::Refusal;
use self::unbroken::Unbroken;
use super::cors;
use super::guard::{self, Hosts, Origins};
use super::server::{Hears, Limits, Peer};
use crate::call::{About, Json, Told};
use crate::config::Hops;
use crate::control::ControlPlane;
use crate::mcp::Params;
use crate::mcp::client::{Client, Nobody};
use crate::pipeline::{Backend, BackendStatus, CallRequest, Once, Pipeline};
use crate::route::problem::Problem;
use crate::route::{Asked, Found, From, Matched, Read, Table, path};
use crate::telemetry::context::Carried;

use super::mcp::http::{Callers, Room};

/// The name of this door for guards and the record.
const DOOR: &str = "rest";

/// The headers of an answer that a page may read, besides those that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "WWW-Authenticate, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, traceparent, Idempotent-Replayed, ETag, Location, Deprecation, Sunset",
);

/// What the routes of a gateway are served with.
#[derive(Debug)]
pub struct Front {
    pub pipeline: Arc<Pipeline>,
    pub hosts: Hosts,
    pub origins: Origins,
    pub limits: Limits,
    pub callers: Arc<Callers>,
    /// Proxies in front of the gateway.
    pub hops: Hops,
    /// Bytes of large bodies that are under way.
    pub room: Room,
    /// Refusals say more, for whoever develops an API; only on a loopback address.
    pub dev: bool,
    /// Whether answers are compressed for clients that accept it.
    pub compression: bool,
    /// The OpenAPI document of the routes, and its tag.
    pub document: Option<(Bytes, HeaderValue)>,
    /// Programs of engines, by name, for `/health`.
    pub programs: Vec<(String, String)>,
    /// Requests whose clients have gone.
    pub left: TaskTracker,
    /// There is no client that a backend could ask something.
    pub nobody: Arc<dyn Client>,
    /// What was done under an `Idempotency-Key`; none without a folder for it.
    pub once: Option<Arc<Once>>,
    /// No session.
    pub session: Arc<str>,
    /// Carries out what people decide about approvals; none where that is not done over HTTP.
    pub plane: Option<Arc<OnceLock<Weak<dyn ControlPlane>>>>,
}

impl Front {
    /// The executors, and whether each was there of late.
    fn executors(&self) -> Vec<(String, bool)> {
        let generation = self.pipeline.current();
        let executors = generation.backends().filter(|backend| matches!(backend, Backend::Exec(_)));
        executors
            .map(|backend| (backend.name().to_string(), backend.status() == BackendStatus::Ready))
            .collect()
    }

    /// The client of every call, and the session: there is none.
    #[must_use]
    pub fn nobody() -> (Arc<dyn Client>, Arc<str>) {
        (Nobody::new(), "".into())
    }
}

/// Serves every request that no other router takes.
pub fn router(front: Arc<Front>) -> Router {
    let compression = front.compression;
    let router = Router::new().fallback(api).with_state(front);
    if compression { router.layer(compress::layer()) } else { router }
}

async fn api(
    State(front): State<Arc<Front>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    serve(front, peer, request).await
}

/// Puts on record what is no request, for a server of this door.
pub fn records(front: &Arc<Front>) -> Hears {
    let front = front.clone();
    Arc::new(move |refused| {
        let (front, left) = (front.clone(), front.left.clone());
        tokio::spawn(left.track_future(async move { front.unparsed(&refused).await }));
    })
}

/// Serves a request that is not MCP's.
async fn serve(front: Arc<Front>, peer: Peer, request: Request) -> Response {
    let cancelled = CancellationToken::new();
    let left = front.left.clone();
    let work = Box::pin(served(front, peer, request, cancelled.clone()));
    Unbroken::new(work, cancelled, left).await
}

/// Whether an entity tag is in a list of such, or the list is of all (RFC 9110, section 13.1.2: the weak comparison).
fn is_among(list: &HeaderValue, tag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let (Ok(list), Ok(tag)) = (list.to_str(), tag.to_str()) else { return false };
    list.split(',').map(str::trim).any(|known| known == "*" || opaque(known) == opaque(tag))
}

/// One request, with what its record and its answer need.
struct Exchange<'a> {
    front: &'a Front,
    parts: &'a Parts,
    peer: &'a Peer,
    /// Where it came from.
    address: IpAddr,
    /// What plugins may know of it besides.
    about: About,
    id: Arc<str>,
    since: Instant,
}

async fn served(front: Arc<Front>, peer: Peer, request: Request, cancelled: CancellationToken) -> Response {
    let (parts, body) = request.into_parts();
    let id: Arc<str> = uuid::Uuid::now_v7().to_string().into();
    let address = client::address(peer.address().ip(), &parts.headers, &front.hops);
    let told = Arc::new(Told::default());
    let exchange = Exchange {
        address,
        about: About {
            address: Some(address.to_canonical().to_string().into()),
            told: Some(told.clone()),
            definition: None,
        },
        front: &front,
        parts: &parts,
        peer: &peer,
        id: id.clone(),
        since: Instant::now(),
    };
    let mut response = match exchange.answer(body, &cancelled).await {
        Ok(response) => response,
        Err(refusal) => exchange.turn_away(*refusal).await,
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    respond::tell(&told, response.headers_mut());
    cors::forget(response.headers_mut());
    cors::readable(&parts.headers, &front.origins, EXPOSED, response)
}

impl Exchange<'_> {
    async fn answer(&self, body: Body, cancelled: &CancellationToken) -> Result<Response, Box<Refusal>> {
        let (front, parts) = (self.front, self.parts);
        self.head()?;
        let sent = parts.uri.path();
        path::check(sent).map_err(|error| Refusal::path(&error))?;
        let query = parts.uri.query().filter(|query| !query.is_empty());
        query.map_or(Ok(()), path::check_query).map_err(|error| Refusal::path(&error))?;
        // The call will look for the route once more, in the generation that it belongs to.
        let generation = front.pipeline.current();
        let table = generation.routes();
        if cors::is_preflight(parts)
            && let Some(allow) = table.allowed(sent)
        {
            return Ok(cors::preflight(parts, allow.clone()));
        }
        let matched = match table.find(&parts.method, sent) {
            Found::Route(matched) => matched,
            Found::Method(allow) => return Err(Refusal::method(&parts.method, allow)),
            Found::Ambiguous => {
                let text = "after its escapes are read, the path would be another route's: write the characters themselves";
                return Err(Refusal::new(Problem::new(StatusCode::BAD_REQUEST, "ambiguous_path", text)));
            }
            Found::Nothing => {
                let page = execution::Page::at(sent).filter(|_| front.plane.is_some());
                return match page {
                    Some(page) => Box::pin(self.execution(page, body, cancelled)).await,
                    None => self.own_page(table),
                };
            }
        };
        self.route(&matched, query, body, cancelled).await
    }

    /// What holds for every request, whatever its path.
    fn head(&self) -> Result<(), Box<Refusal>> {
        let (front, parts) = (self.front, self.parts);
        let bad = |rejection: guard::Rejection| Refusal::rejected(&rejection);
        guard::singles(&parts.headers, front.callers.headers()).map_err(bad)?;
        guard::framing(parts).map_err(bad)?;
        if let Err(mut rejection) = guard::host(parts, &front.hosts) {
            if rejection.status == StatusCode::FORBIDDEN {
                // RFC 9110, section 15.5.20: the request is not for this server.
                rejection.status = StatusCode::MISDIRECTED_REQUEST;
            }
            return Err(bad(rejection));
        }
        guard::origin(&parts.headers, &front.origins).map_err(bad)?;
        if let Some(name) = parts.headers.keys().find(|name| name.as_str().contains('_')) {
            // Servers behind may read `x_a` as `x-a`, which the policies did not see.
            let text =
                format!("the header {name} has an underscore, which some servers read as `-`: leave it out");
            return Err(Refusal::new(Problem::new(StatusCode::BAD_REQUEST, "bad_header", text)));
        }
        Ok(())
    }

    /// Pages of the gateway's own, where no route is.
    fn own_page(&self, table: &Table) -> Result<Response, Box<Refusal>> {
        let path = self.parts.uri.path();
        let reads = matches!(self.parts.method, Method::GET | Method::HEAD);
        let page = match path {
            _ if table.is_empty() && self.front.plane.is_none() => None,
            "/openapi.json" => self.front.document.as_ref().map(|document| self.document(document)),
            "/health" => Some(health::health(&self.front.programs, &self.front.executors(), self.front.dev)),
            "/health/shallow" => Some(health::shallow()),
            _ => None,
        };
        match page {
            Some(page) if reads => Ok(page),
            Some(_) => Err(Refusal::method(&self.parts.method, &HeaderValue::from_static("GET, HEAD"))),
            None => Err(Refusal::new(Problem::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "no route is at this path",
            ))),
        }
    }

    fn document(&self, (bytes, tag): &(Bytes, HeaderValue)) -> Response {
        let known =
            self.parts.headers.get_all(header::IF_NONE_MATCH).iter().any(|known| is_among(known, tag));
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::ETAG, tag.clone()),
        ];
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let mut response = (StatusCode::OK, headers, Body::from(bytes.clone())).into_response();
        response.extensions_mut().insert(compress::Whole);
        response
    }

    async fn route(
        &self,
        matched: &Matched<'_, '_>,
        query: Option<&str>,
        body: Body,
        cancelled: &CancellationToken,
    ) -> Result<Response, Box<Refusal>> {
        let (front, parts, entry) = (self.front, self.parts, matched.entry);
        if let (Some(farewell), Some(told)) = (&entry.farewell, &self.about.told) {
            farewell.tell(told, &entry.route, &matched.values);
        }
        media::accept(&entry.route, &parts.headers)?;
        let (caller, who) = self.caller(entry.route.auth).await?;
        // From here on the caller is known, so the guards count whatever becomes of the request.
        let known = refuse::Known { caller: &caller, entry };
        let taken = match self.take(entry, body, &who).await {
            Ok(taken) => taken,
            Err(refusal) => return Err(self.counted(&known, refusal, cancelled).await),
        };
        let read = Read { values: &matched.values, query, headers: &parts.headers, json: taken.json() };
        let params = read.params(&entry.route).map_err(Refusal::misfits);
        let params = params.and_then(|text| {
            Params::read("tools/call", Json::from(text)).map_err(|ambiguous| Refusal::ambiguous(&ambiguous))
        });
        let params = match params {
            Ok(params) => params,
            Err(refusal) => return Err(self.counted(&known, refusal, cancelled).await),
        };
        let repeat = match self.repeat(entry, &params, &taken) {
            Ok(repeat) => repeat,
            Err(refusal) => return Err(self.counted(&known, refusal, cancelled).await),
        };
        let asked = Asked {
            entry: entry.clone(),
            headers: parts.headers.clone(),
            content_type: taken.content_type(&parts.headers),
            from: From {
                address: self.address,
                host: parts.headers.get(header::HOST).cloned(),
                secure: self.peer.is_secure(),
            },
            head: matched.head,
            dev: front.dev,
            request_id: self.id.clone(),
        };
        let trace = Carried::of_headers(&parts.headers);
        let route = Route::new(Arc::new(asked), parts.uri.path(), self.about.clone());
        let (body, over) = taken.parts();
        let request = CallRequest {
            params: Some(&params),
            trace: trace.as_deref(),
            body: body.as_ref(),
            locate: Some(&route),
            repeat: repeat.as_ref(),
            ..self.request(&caller, entry)
        };
        let answer = front.pipeline.handle(request, cancelled).await;
        if over.is_over() {
            return Err(Refusal::recorded(body::too_large(entry.route.max_body)).closing());
        }
        respond::answer(answer, front.dev)
    }

    fn request<'r>(
        &'r self,
        caller: &'r crate::pipeline::Caller,
        entry: &'r crate::route::Entry,
    ) -> CallRequest<'r> {
        CallRequest {
            caller,
            door: DOOR,
            session: &self.front.session,
            rpc_id: Some(&self.id),
            method: &entry.asked,
            params: None,
            client: &self.front.nobody,
            trace: None,
            body: None,
            locate: None,
            repeat: None,
        }
    }
}
