//! What comes over a connection of the HTTP door: heads and bodies, framed well or not.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::any;
use sentinel_gateway::door::guard::{self, Hosts, Origins};
use sentinel_gateway::door::server::{self, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A served router, and what its handlers were given.
struct Stage {
    runtime: Runtime,
    address: std::net::SocketAddr,
    bodies: Arc<Mutex<Vec<usize>>>,
}

fn limits() -> Limits {
    Limits { max_body: 4096, max_header_bytes: 8192, ..Limits::default() }
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let bodies: Arc<Mutex<Vec<usize>>> = Arc::default();
        let seen = bodies.clone();
        let hosts = Arc::new(Hosts::new::<&str>(address.ip(), &[]).unwrap());
        let origins = Arc::new(Origins::new::<&str>(address.ip(), &[]).unwrap());
        let handler = move |request: Request| {
            let (seen, hosts, origins) = (seen.clone(), hosts.clone(), origins.clone());
            async move {
                let (parts, body): (_, Body) = request.into_parts();
                if let Err(rejection) = guard::head(&parts, &hosts, &origins, &[]) {
                    return rejection.status.into_response();
                }
                match server::read_body(body, &limits()).await {
                    Ok(body) => {
                        seen.lock().unwrap().push(body.len());
                        StatusCode::OK.into_response()
                    }
                    Err(error) => error.status().into_response(),
                }
            }
        };
        let app = Router::new().fallback(any(handler));
        runtime.spawn(server::serve(listener, app, limits(), std::future::pending::<()>(), || PATIENCE));
        Stage { runtime, address, bodies }
    })
}

/// Whatever is sent, the connection ends soon after the client has said all, nothing larger than the limit was read, and
/// what came back begins as HTTP does.
pub(crate) fn connection(data: &[u8]) {
    let stage = stage();
    stage.bodies.lock().unwrap().clear();
    let answer = stage.runtime.block_on(async {
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        // The other side may have closed before all is written.
        let _ = stream.write_all(data).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        // A reset is an end, too.
        assert!(read.is_ok(), "the connection did not end");
        answer
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
    let bodies = stage.bodies.lock().unwrap();
    assert!(bodies.iter().all(|length| *length <= limits().max_body), "{bodies:?}");
    assert!(bodies.iter().sum::<usize>() <= data.len(), "more was read than was sent");
}
