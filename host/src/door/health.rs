//! The health server on its own port: `/health` (is the gateway alive?), `/ready` (can it serve?) and `/metrics`.
//!
//! Everybody who reaches the port learns two things, that the gateway lives and whether it can serve. Names, reasons and
//! numbers need the token. `Host` and `Origin` are checked as at the HTTP door: a web page must not read the answers by
//! pointing a host name of its own at this machine (DNS rebinding).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::guard::{self, Hosts, Origins};
use super::server::{self, Limits, Peer};
use crate::call::Share;
use crate::config::Secret;
use crate::pipeline::{BackendState, Pipeline};

/// Connections of probes and scrapers at once: of all, and of one address without the token.
const MAX_CONNECTIONS: usize = 64;
const MAX_PER_ADDRESS: usize = 16;
/// How long a request's head may take, and how long a connection may be idle. Probes are quick.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer under way may take when the gateway stops.
const GRACE: Duration = Duration::from_millis(500);

/// Renders the metrics in the Prometheus text format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// What the health server answers with, and to whom.
#[derive(Clone)]
pub struct Health {
    pub watched: Arc<ArcSwap<Watched>>,
    pub token: Option<Secret>,
    pub render: Render,
}

/// What it says something about, and to whom: a reload may change both.
#[derive(Debug)]
pub struct Watched {
    /// One for each endpoint; the first is the main one.
    pub pipelines: Vec<Arc<Pipeline>>,
    /// Names it may be reached by.
    pub hosts: Hosts,
    /// Web pages that may read it.
    pub origins: Origins,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("watched", &self.watched).finish_non_exhaustive()
    }
}

/// Listens on a port of its own.
///
/// # Errors
/// The address cannot be bound, for instance because another gateway has it.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop` ends. `/metrics` needs the bearer token; without a token it is closed.
pub async fn serve(listener: TcpListener, health: Health, stop: impl Future<Output = ()> + Send + 'static) {
    let app = Router::new()
        .route("/health", get(alive))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "here are /health, /ready and /metrics\n") })
        .layer(axum::middleware::from_fn_with_state(health.clone(), checked))
        .with_state(health);
    let limits = Limits {
        max_connections: MAX_CONNECTIONS,
        max_per_address: MAX_PER_ADDRESS,
        header_timeout: HEADER_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        ..Limits::default()
    };
    server::serve(listener, app, limits, stop, GRACE).await;
}

/// What holds for every request, whatever its path.
async fn checked(
    State(health): State<Health>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let local = peer.local().map(|local| local.ip());
    let watched = health.watched.load_full();
    let fits = guard::singles(&parts.headers, &[])
        .and_then(|()| guard::framing(&parts))
        .and_then(|()| guard::host_or_address(&parts, &watched.hosts, local))
        .and_then(|()| guard::origin(&parts.headers, &watched.origins));
    if let Err(refused) = fits {
        return (refused.status, format!("{}\n", refused.message)).into_response();
    }
    if health.knows(&parts.headers) {
        // Strangers must not take the places of those who monitor the gateway. More than enough are left.
        let _ = peer.known(Share::SOLE);
    }
    next.run(Request::from_parts(parts, body)).await
}

impl Health {
    /// Whether a request brings the token.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return false };
        let sent = guard::bearer(headers).ok().flatten().unwrap_or("");
        same(sent.as_bytes(), token.expose().as_bytes())
    }
}

/// It lives, and by which reading of the configuration.
async fn alive(State(health): State<Health>) -> Response {
    let generation = health.watched.load().pipelines.first().map(|pipeline| pipeline.current().id());
    Response::new(json!({ "status": "ok", "generation": generation }).to_string().into())
}

async fn ready(State(health): State<Health>, headers: HeaderMap) -> Response {
    let (mut reasons, mut backends) = (Vec::new(), Vec::new());
    for pipeline in &health.watched.load().pipelines {
        let readiness = pipeline.readiness();
        reasons.extend(readiness.reasons);
        backends.extend(readiness.backends);
    }
    if !backends.is_empty() && backends.iter().all(|backend| backend.down.is_some()) {
        let down = |backend: &BackendState| {
            format!("backend {}: {}", backend.name, backend.down.as_deref().unwrap_or_default())
        };
        reasons.push("no backend is up".to_owned());
        reasons.extend(backends.iter().map(down));
    }
    let ready = reasons.is_empty();
    let mut body = json!({ "ready": ready });
    if health.knows(&headers) {
        body["reasons"] = reasons.into();
        body["backends"] = backends.iter().map(shown).collect();
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn shown(backend: &BackendState) -> Value {
    json!({ "name": *backend.name, "up": backend.down.is_none(), "reason": backend.down })
}

async fn metrics(State(health): State<Health>, headers: HeaderMap) -> Response {
    if health.token.is_none() {
        return (StatusCode::FORBIDDEN, "metrics are closed: set HEALTH_TOKEN and send it as bearer token\n")
            .into_response();
    }
    if !health.knows(&headers) {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, "the bearer token is not HEALTH_TOKEN's\n")
            .into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (health.render)()).into_response()
}

/// Compares in a time that does not tell how much of it was right.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
