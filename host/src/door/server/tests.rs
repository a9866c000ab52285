//! Clients that are slow, greedy or too many, over raw sockets.

#![allow(clippy::unwrap_used, reason = "tests")]
//! Raw TCP against a served router. Waiting is always for a socket or a channel, with [`PATIENCE`] as the outer limit.

mod bodies;
mod drain;
mod smuggling;
mod units;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Limits, Peer, read_body, serve};
use crate::door::guard;

/// Longer than anything here takes on a busy machine; running into it fails the test.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(3600);

fn limits() -> Limits {
    Limits {
        header_timeout: LONG,
        body_timeout: LONG,
        idle_timeout: LONG,
        max_body: 1000,
        ..Limits::default()
    }
}

/// What the handlers tell the test and the test tells them.
struct Stage {
    /// A word when `/wait` or `/stream` is entered and when it is left.
    told: mpsc::UnboundedReceiver<&'static str>,
    /// Lets `/wait` answer.
    go: Arc<Semaphore>,
    /// What `/stream` sends; closed, it ends.
    stream: mpsc::UnboundedSender<Bytes>,
}

struct Told(mpsc::UnboundedSender<&'static str>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send("left");
    }
}

fn app(limits: Limits) -> (Router, Stage) {
    let (tell, told) = mpsc::unbounded_channel();
    let (stream, source) = mpsc::unbounded_channel();
    let go = Arc::new(Semaphore::new(0));
    let source = Arc::new(tokio::sync::Mutex::new(source));
    let gate = Arc::clone(&go);
    let telling = tell.clone();
    let wait = move || {
        let (gate, tell) = (Arc::clone(&gate), telling.clone());
        async move {
            let _ = tell.send("entered");
            let _left = Told(tell);
            gate.acquire().await.unwrap().forget();
            "waited\n"
        }
    };
    let streaming = move || {
        let (source, tell) = (Arc::clone(&source), tell.clone());
        async move {
            let _ = tell.send("entered");
            let source = source.lock_owned().await;
            let events =
                futures_util::stream::unfold((source, Told(tell)), |(mut source, left)| async move {
                    let event = source.recv().await?;
                    Some((Ok::<_, std::convert::Infallible>(event), (source, left)))
                });
            Response::new(Body::from_stream(events))
        }
    };
    let router = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .route("/peer", get(|Extension(peer): Extension<Peer>| async move { peer.address().to_string() }))
        .route("/echo", post(move |request| echo(request, limits)))
        .route("/wait", get(wait))
        .route("/stream", get(streaming))
        .route("/panic", get(|| async { panic!("on purpose") as &str }));
    (router, Stage { told, go, stream })
}

/// Checks the framing as the real doors do, and gives the body back.
async fn echo(request: Request, limits: Limits) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(no) = guard::singles(&parts.headers, &[]).and_then(|()| guard::framing(&parts)) {
        return (no.status, no.message).into_response();
    }
    match read_body(body, &limits).await {
        Ok(bytes) => bytes.into_response(),
        Err(error) => (error.status(), error.to_string()).into_response(),
    }
}

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    done: JoinHandle<()>,
    stage: Stage,
}

async fn start(limits: Limits, grace: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, stage) = app(limits);
    let (stop, stopped) = oneshot::channel::<()>();
    let done = tokio::spawn(serve(listener, router, limits, stopped, move || grace));
    Server { address, stop: Some(stop), done, stage }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of its own and reads until the server closes.
    async fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect().await;
        socket.write_all(bytes.as_ref()).await.unwrap();
        rest(&mut socket).await
    }

    async fn hear(&mut self, word: &str) {
        assert_eq!(timeout(PATIENCE, self.stage.told.recv()).await.unwrap(), Some(word));
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn ended(self) {
        timeout(PATIENCE, self.done).await.expect("the server has to end").unwrap();
    }
}

/// Everything until the server closes; a reset ends it like an end, with what came before.
async fn rest(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("the server has to close");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything up to and with these bytes.
async fn until(socket: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.push(timeout(PATIENCE, socket.read_u8()).await.expect("an answer has to come").unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// Whether the server neither speaks nor closes for this long.
async fn silent(socket: &mut TcpStream, time: Duration) -> bool {
    timeout(time, socket.peek(&mut [0])).await.is_err()
}

/// One byte after the other, each as soon as the socket stayed silent for a moment, until the server speaks or closes.
async fn trickle(socket: &mut TcpStream, bytes: impl Iterator<Item = u8>) -> String {
    for byte in bytes {
        if socket.write_all(&[byte]).await.is_err() {
            break;
        }
        if !silent(socket, SHORT / 6).await {
            break;
        }
    }
    rest(socket).await
}

fn post_of(length: usize) -> String {
    format!("POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")
}

fn code(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_knows_its_peer() {
    let server = start(limits(), LONG).await;
    let mut socket = server.connect().await;
    let me = socket.local_addr().unwrap().to_string();
    for _ in 0..3 {
        socket.write_all(b"GET /peer HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        assert_eq!(code(&until(&mut socket, &me).await), "200");
    }
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HTTP/1.1\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let pipelined = rest(&mut socket).await;
    assert_eq!(pipelined.matches("hello").count(), 2, "{pipelined}");
}

#[tokio::test]
async fn a_slow_head_is_cut_however_it_trickles() {
    let server = start(Limits { header_timeout: SHORT, ..limits() }, LONG).await;
    let started = Instant::now();
    assert_eq!(server.ask("").await, "", "a connection that says nothing");
    assert_eq!(server.ask("GET / HTTP/1.1\r\nhost: loc").await, "", "half a head");
    assert!(started.elapsed() >= SHORT * 2, "both were given their time");
    let mut socket = server.connect().await;
    let endless = b"GET / HTTP/1.1\r\n".iter().copied().chain(b"x: y\r\n".iter().copied().cycle().take(1000));
    assert_eq!(trickle(&mut socket, endless).await, "");
    assert!(started.elapsed() < PATIENCE, "the trickle did not buy time");
    assert_eq!(code(&server.ask("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await), "200");
}

#[tokio::test]
async fn a_slow_head_on_a_reused_connection_is_cut_too() {
    let server = start(Limits { header_timeout: SHORT, ..limits() }, LONG).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until(&mut socket, "hello\n").await;
    assert_eq!(
        trickle(&mut socket, b"GET / HTTP/1.1\r\nx: ".iter().copied().chain((0..1000).map(|_| b'y'))).await,
        ""
    );
}

#[tokio::test]
async fn a_resting_connection_outlives_the_time_for_heads() {
    let server = start(Limits { header_timeout: SHORT, ..limits() }, LONG).await;
    let mut socket = server.connect().await;
    for _ in 0..2 {
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        until(&mut socket, "hello\n").await;
        assert!(silent(&mut socket, SHORT * 3).await, "it was closed while it rested");
    }
}

#[tokio::test]
async fn a_resting_connection_is_closed_in_the_end() {
    let server = start(Limits { idle_timeout: SHORT, ..limits() }, LONG).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until(&mut socket, "hello\n").await;
    let rested = Instant::now();
    assert_eq!(rest(&mut socket).await, "");
    assert!(rested.elapsed() >= SHORT / 2);
}

#[tokio::test]
async fn a_slow_handler_is_not_an_idle_connection() {
    let all_short = Limits { header_timeout: SHORT, idle_timeout: SHORT, ..limits() };
    let mut server = start(all_short, LONG).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
    server.hear("entered").await;
    assert!(silent(&mut socket, SHORT * 3).await, "it was cut while the application worked");
    server.stage.go.add_permits(1);
    assert_eq!(code(&until(&mut socket, "waited\n").await), "200");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let mut server = start(Limits { idle_timeout: SHORT, ..limits() }, LONG).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /stream HTTP/1.1\r\n\r\n").await.unwrap();
    server.hear("entered").await;
    // More than the kernel holds for both ends.
    for _ in 0..64 {
        server.stage.stream.send(Bytes::from(vec![b'x'; 1 << 20])).unwrap();
    }
    server.hear("left").await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_handler_along() {
    let mut server = start(limits(), LONG).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
    server.hear("entered").await;
    drop(socket);
    server.hear("left").await;
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let server = start(limits(), LONG).await;
    assert_eq!(server.ask("GET /panic HTTP/1.1\r\n\r\n").await, "");
    assert_eq!(code(&server.ask("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await), "200");
}

#[tokio::test]
async fn a_large_head_is_told_so() {
    let small = Limits { max_header_bytes: 2000, max_headers: 5, ..limits() };
    let server = start(small, LONG).await;
    assert_eq!(code(&server.ask(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2000))).await), "431");
    assert_eq!(code(&server.ask(format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(3000))).await), "431");
    assert_eq!(code(&server.ask(format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(6))).await), "431");
    let fits = format!("GET / HTTP/1.1\r\n{}connection: close\r\n\r\n", "x: y\r\n".repeat(4));
    assert_eq!(code(&server.ask(fits).await), "200");
}

#[tokio::test]
async fn one_client_too_many_is_told_so_and_the_next_is_served() {
    let mut server = start(Limits { max_connections: 1, ..limits() }, LONG).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /wait HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    server.hear("entered").await;
    let second = server.ask("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(code(&second), "503", "{second}");
    let (head, body) = second.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{second}");
    server.stage.go.add_permits(1);
    assert_eq!(code(&rest(&mut first).await), "200");
    drop(first);
    // The slot is free when the task of the first has ended, a moment after its socket.
    let freed =
        async { while code(&server.ask("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await) != "200" {} };
    timeout(PATIENCE, freed).await.expect("the slot has to become free");
}

#[tokio::test]
async fn one_client_too_many_waits_a_moment_for_a_place() {
    let mut server = start(Limits { max_connections: 1, ..limits() }, LONG).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /wait HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    server.hear("entered").await;
    let mut second = server.connect().await;
    second.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    server.stage.go.add_permits(1);
    assert_eq!(code(&rest(&mut first).await), "200");
    assert_eq!(code(&rest(&mut second).await), "200");
}

#[tokio::test]
async fn connections_over_the_limit_do_not_pile_up() {
    let server = start(Limits { max_connections: 0, ..limits() }, LONG).await;
    let mut silent = Vec::new();
    for _ in 0..super::WAITING + super::REFUSALS + 20 {
        silent.push(server.connect().await);
    }
    for mut socket in silent {
        let answer = rest(&mut socket).await;
        assert!(answer.is_empty() || code(&answer) == "503", "{answer}");
    }
}
