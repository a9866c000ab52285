//! The health server on its own port (S9): is it alive, is it ready, and its metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use super::server::{self, Limits};
use crate::config::Secret;
use crate::pipeline::Pipeline;

/// Probes and scrapers at once.
const MAX_CONNECTIONS: usize = 64;
/// What an answer under way gets at the stop.
const GRACE: Duration = Duration::from_millis(500);

/// Renders the metrics in the Prometheus text format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
struct Health {
    /// One for each endpoint.
    pipelines: Arc<Vec<Arc<Pipeline>>>,
    token: Option<Secret>,
    render: Render,
}

/// Listens on a port of its own.
///
/// # Errors
/// The address cannot be bound, for instance because another gateway has it.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop` ends. `/metrics` needs the bearer token; without a token it is closed.
pub async fn serve(
    listener: TcpListener,
    pipelines: Vec<Arc<Pipeline>>,
    token: Option<Secret>,
    render: Render,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let app = Router::new()
        .route(
            "/health",
            get(|| async { axum::response::Response::new(json!({ "status": "ok" }).to_string()) }),
        )
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Health { pipelines: Arc::new(pipelines), token, render });
    let limits = Limits { max_connections: MAX_CONNECTIONS, ..Limits::default() };
    server::serve(listener, app, limits, stop, GRACE).await;
}

async fn ready(State(health): State<Health>) -> Response {
    let reasons: Vec<String> =
        health.pipelines.iter().flat_map(|pipeline| pipeline.readiness().reasons).collect();
    if reasons.is_empty() {
        return json!({ "status": "ready" }).to_string().into_response();
    }
    let body = json!({ "status": "not ready", "reasons": reasons }).to_string();
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(health): State<Health>, headers: HeaderMap) -> Response {
    let Some(token) = &health.token else {
        return (StatusCode::FORBIDDEN, "metrics are closed: set HEALTH_TOKEN and send it as bearer token\n")
            .into_response();
    };
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    if !same(sent.as_bytes(), token.expose().as_bytes()) {
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
