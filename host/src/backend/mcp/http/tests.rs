//! The promises of the HTTP transport, against a server that answers exactly what a test scripts.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::super::transport::Transport;
use super::*;

const LONG: Duration = Duration::from_secs(20);

/// What arrived at the server.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What the server does about it.
enum Reply {
    /// These bytes, then the connection ends.
    Raw(String),
    /// These bytes, then silence.
    Hold(String),
}

struct Server {
    url: String,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Server {
    async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let (told, seen) = mpsc::unbounded_channel();
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), told.clone()));
            }
        });
        Self { url, seen }
    }

    async fn next(&mut self) -> Seen {
        timeout(LONG, self.seen.recv()).await.unwrap().unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<impl Fn(&Seen) -> Reply>,
    told: mpsc::UnboundedSender<Seen>,
) {
    let mut text = Vec::new();
    let head = loop {
        if let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let lines = String::from_utf8(text[..head].to_vec()).unwrap();
    let mut lines = lines.lines();
    let method = lines.next().unwrap().split(' ').next().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: reqwest::header::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    let length: usize =
        headers.get("content-length").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
    while text.len() < head + 4 + length {
        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let seen = Seen { method, headers, body: String::from_utf8(text[head + 4..].to_vec()).unwrap() };
    let reply = script(&seen);
    let _ = told.send(seen);
    match reply {
        Reply::Raw(bytes) => {
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
        Reply::Hold(bytes) => {
            let _ = stream.write_all(bytes.as_bytes()).await;
            // Until the client hangs up, which the test is told.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            let _ = told.send(Seen {
                method: "HANGUP".to_owned(),
                headers: HeaderMap::new(),
                body: String::new(),
            });
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn json(body: &str) -> Reply {
    Reply::Raw(answer("200 OK", "content-type: application/json\r\n", body))
}

fn plain(status: &str) -> Reply {
    Reply::Raw(answer(status, "", ""))
}

fn stream(events: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n{events}")
}

fn spec(url: &str) -> HttpSpec {
    let headers =
        vec![("x-key".to_owned(), "hush".to_owned()), ("Connection".to_owned(), "upgrade".to_owned())];
    HttpSpec {
        name: "test".to_owned(),
        url: url.to_owned(),
        headers,
        route: Route::default(),
        max_body: 1000.into(),
        redaction: Redaction::default(),
        spool: None,
        times: Arc::new(Times::new(LONG, LONG)),
    }
}

fn connect(server: &Server) -> Transport {
    open(&spec(&server.url), client::client(&Route::default()).unwrap())
}

fn request(id: u64, method: &str) -> Outgoing {
    let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\"}}").into();
    Outgoing { id: Some(id), method: method.to_owned(), body, headers: Vec::new() }
}

fn notification(method: &str) -> Outgoing {
    let body = Bytes::from(format!("{{\"method\":\"{method}\"}}"));
    Outgoing { id: None, method: method.to_owned(), body, headers: Vec::new() }
}

fn result(id: u64) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}")
}

async fn next(wire: &mut Transport) -> Incoming {
    timeout(LONG, wire.receiver.recv()).await.unwrap()
}

async fn text(wire: &mut Transport) -> String {
    match next(wire).await {
        Incoming::Message(body) | Incoming::About { message: body, .. } => {
            String::from_utf8(body.text().to_vec()).unwrap()
        }
        other => panic!("not a message: {other:?}"),
    }
}

async fn failure(wire: &mut Transport) -> (u64, TransportError) {
    match next(wire).await {
        Incoming::Failed { id, error } => (id, error),
        other => panic!("not a failure: {other:?}"),
    }
}

#[tokio::test]
async fn a_session_from_initialize_to_delete() {
    let mut server = Server::start(|seen| match seen.method.as_str() {
        "POST" if seen.body.contains("initialize\"") => Reply::Raw(answer(
            "200 OK",
            "content-type: application/json\r\nmcp-session-id: s-1\r\n",
            &result(1),
        )),
        "POST" if seen.body.contains("\"id\":2") => json(&result(2)),
        "POST" => plain("202 Accepted"),
        "GET" => Reply::Hold(stream("data: {\"method\":\"notifications/tools/list_changed\"}\n\n")),
        _ => plain("204 No Content"),
    })
    .await;
    let mut wire = connect(&server);
    wire.sender.try_send(request(1, "initialize")).unwrap();
    assert_eq!(text(&mut wire).await, result(1));
    let first = server.next().await;
    assert_eq!(first.header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!((first.header("x-key"), first.header("connection")), (Some("hush"), None));
    assert_eq!((first.header("mcp-session-id"), first.header("mcp-protocol-version")), (None, None));

    // What follows `initialized` never overtakes it.
    wire.sender.try_send(notification("notifications/initialized")).unwrap();
    let mut call = request(2, "tools/list");
    call.headers.push(("X-Trace".to_owned(), "t".to_owned()));
    wire.sender.try_send(call).unwrap();
    assert!(server.next().await.body.contains("initialized"));
    assert_eq!(text(&mut wire).await, result(2));
    let second = server.next().await;
    assert_eq!((second.header("mcp-session-id"), second.header("x-trace")), (Some("s-1"), Some("t")));

    wire.control.set_protocol_version("2025-11-25");
    assert!(text(&mut wire).await.contains("list_changed"));
    let get = server.next().await;
    assert_eq!((get.method.as_str(), get.header("mcp-session-id")), ("GET", Some("s-1")));
    assert_eq!(
        (get.header("accept"), get.header("mcp-protocol-version")),
        (Some("text/event-stream"), Some("2025-11-25"))
    );

    assert_eq!((wire.control.pid(), wire.control.stderr_tail()), (None, String::new()));
    let Transport { sender, mut receiver, control } = wire;
    timeout(LONG, control.stop(LONG)).await.unwrap();
    assert!(matches!(receiver.recv().await, Incoming::Closed(why) if why == "stopped"));
    assert_eq!(sender.try_send(request(3, "ping")), Err(TransportError::Closed("stopped".to_owned())));
    let (mut last, mut delete) = (server.next().await, None);
    while delete.is_none() {
        if last.method == "DELETE" {
            delete = Some(last);
            break;
        }
        assert_eq!(last.method, "HANGUP");
        last = server.next().await;
    }
    assert_eq!(delete.unwrap().header("mcp-session-id"), Some("s-1"));
}

#[tokio::test]
async fn the_standing_stream_is_open_before_the_first_call() {
    let mut server = Server::start(|seen| match seen.method.as_str() {
        "POST" if seen.body.contains("\"id\":2") => json(&result(2)),
        "POST" => plain("202 Accepted"),
        _ => Reply::Hold(stream("")),
    })
    .await;
    let mut wire = connect(&server);
    wire.control.set_protocol_version("2025-11-25");
    wire.sender.try_send(notification("notifications/initialized")).unwrap();
    wire.sender.try_send(request(2, "tools/call")).unwrap();
    assert_eq!(text(&mut wire).await, result(2));
    let seen = [server.next().await, server.next().await, server.next().await];
    assert!(seen[..2].iter().any(|seen| seen.method == "GET"));
    assert!(seen[2].body.contains("tools/call"));
}

#[tokio::test]
async fn a_stream_delivers_in_order_until_the_answer() {
    let events = format!(
        ": hi\n\ndata: {{\"method\":\"notifications/progress\"}}\n\nevent: ping\ndata: 1\n\ndata: {}\n\n",
        result(7)
    );
    let server = Server::start(move |_| Reply::Hold(stream(&events))).await;
    let mut wire = connect(&server);
    wire.sender.try_send(request(7, "tools/call")).unwrap();
    assert!(text(&mut wire).await.contains("progress"));
    assert_eq!(text(&mut wire).await, result(7));
}

#[tokio::test]
async fn a_broken_stream_is_resumed_after_the_last_event() {
    let mut server = Server::start(|seen| match (seen.method.as_str(), seen.header("last-event-id")) {
        ("POST", _) => Reply::Raw(stream("id: e1\nretry: 1\ndata: \n\nid: lost\ndata: {")),
        ("GET", Some("e1")) => Reply::Raw(stream("id: e2\ndata: {\"method\":\"n\"}\n\n")),
        ("GET", Some("e2")) => Reply::Raw(stream(&format!("data: {}\n\n", result(1)))),
        _ => plain("400 Bad Request"),
    })
    .await;
    let mut wire = connect(&server);
    wire.sender.try_send(request(1, "tools/call")).unwrap();
    assert_eq!(text(&mut wire).await, "{\"method\":\"n\"}");
    assert_eq!(text(&mut wire).await, result(1));
    let methods = [server.next().await.method, server.next().await.method, server.next().await.method];
    assert_eq!(methods, ["POST", "GET", "GET"]);
}

#[tokio::test]
async fn resuming_in_vain_ends_after_three_times() {
    let mut server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Reply::Raw(stream("id: e1\nretry: 1\ndata\n\n")),
        _ => plain("503 Service Unavailable"),
    })
    .await;
    let mut wire = connect(&server);
    wire.sender.try_send(request(1, "tools/call")).unwrap();
    let (id, error) = failure(&mut wire).await;
    assert!(id == 1 && matches!(&error, TransportError::Protocol(why) if why.contains("3 times")), "{error}");
    drop(wire);
    let mut methods = Vec::new();
    while let Ok(seen) = server.seen.try_recv() {
        methods.push(seen.method);
    }
    assert_eq!(methods, ["POST", "GET", "GET", "GET"]);
}

#[tokio::test]
async fn a_stream_without_ids_cannot_be_resumed() {
    let server = Server::start(|_| Reply::Raw(stream("data: {\"id\":2,\"result\":1}\n\n"))).await;
    let mut wire = connect(&server);
    wire.sender.try_send(request(1, "tools/call")).unwrap();
    assert_eq!(text(&mut wire).await, "{\"id\":2,\"result\":1}");
    assert!(
        matches!(failure(&mut wire).await, (1, TransportError::Protocol(why)) if why.contains("ended before the answer"))
    );
}

#[tokio::test]
async fn a_session_that_is_lost_again_at_once_fails_the_request_and_closes_once() {
    let server = Server::start(|seen| {
        if seen.body.contains("initialize") {
            return Reply::Raw(answer("200 OK", "mcp-session-id: s-1\r\n", &result(1)));
        }
        if seen.body.contains("slow") { Reply::Hold(String::new()) } else { plain("404 Not Found") }
    })
    .await;
    let mut wire = connect(&server);
    wire.sender.try_send(request(1, "initialize")).unwrap();
    assert_eq!(text(&mut wire).await, result(1));
    wire.sender.try_send(request(2, "slow")).unwrap();
    wire.sender.try_send(request(3, "ping")).unwrap();
    // It may be given out under the same id again.
    assert!(matches!(next(&mut wire).await, Incoming::Renewed));
    assert_eq!(failure(&mut wire).await, (3, TransportError::SessionLost));
    for _ in 0..2 {
        assert!(
            matches!(next(&mut wire).await, Incoming::Closed(why) if why == "the server no longer knows the session")
        );
    }
    let reason = "the server no longer knows the session".to_owned();
    assert_eq!(wire.sender.send(request(4, "ping")).await, Err(TransportError::Closed(reason)));
}

#[tokio::test]
async fn refusals_carry_status_wait_and_beginning_or_the_json_rpc_error() {
    let server = Server::start(|seen| {
        let long = format!("slow\x1b[2J down {}", "x".repeat(500));
        Reply::Raw(match seen.body.as_str() {
            body if body.contains("\"id\":1,") => {
                answer("429 Too Many Requests", "retry-after: 7\r\n", &long)
            }
            body if body.contains("\"id\":2,") => {
                answer("400 Bad Request", "", "{\"error\":{\"code\":-32602},\"id\":2}")
            }
            body if body.contains("\"id\":3,") => answer("400 Bad Request", "", "{\"error\":{},\"id\":null}"),
            body if body.contains("\"id\":4,") => answer("302 Found", "location: /elsewhere\r\n", ""),
            body if body.contains("\"id\":5,") => answer("404 Not Found", "", ""),
            body if body.contains("\"id\":6,") => answer("202 Accepted", "", ""),
            body if body.contains("\"id\":7,") => answer("200 OK", "content-type: text/html\r\n", "<html>"),
            body if body.contains("\"id\":8,") => answer("200 OK", "", &format!("[{}]", result(8))),
            _ => answer("200 OK", "", &result(99)),
        })
    })
    .await;
    let mut wire = connect(&server);
    let mut ask = async |id| {
        wire.sender.try_send(request(id, "ping")).unwrap();
        next(&mut wire).await
    };
    let Incoming::Failed { id: 1, error: TransportError::Status { status: 429, retry_after, said } } =
        ask(1).await
    else {
        panic!("not 429")
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    let said = said.to_string();
    assert!(said.starts_with("slow\\u{1b}[2J down xx") && said.len() <= 330, "{said}");
    assert!(matches!(ask(2).await, Incoming::Message(body) if body.text().starts_with(b"{\"error\"")));
    let is_status = |item: Incoming, code| matches!(&item, Incoming::Failed { error: TransportError::Status { status, .. }, .. } if *status == code);
    assert!(is_status(ask(3).await, 400) && is_status(ask(4).await, 302) && is_status(ask(5).await, 404));
    for id in [6, 7, 9] {
        assert!(matches!(ask(id).await, Incoming::Failed { error: TransportError::Protocol(_), .. }), "{id}");
    }
    assert!(matches!(ask(8).await, Incoming::Message(body) if body.text().starts_with(b"[")));
}

#[tokio::test]
async fn bodies_and_events_over_the_limit_are_refused() {
    let server = Server::start(|seen| {
        let big = "x".repeat(2000);
        if seen.body.contains("\"id\":1,") {
            return json(&format!("{{\"id\":1,\"result\":\"{big}\"}}"));
        }
        if seen.body.contains("\"id\":2,") {
            // No length: counted as it arrives, and it never ends.
            return Reply::Hold(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{{\"id\":2,\"r\":\"{big}"
            ));
        }
        Reply::Hold(stream(&format!("data: {{\"id\":3,\"result\":\"{big}\"}}\n\n")))
    })
    .await;
    let mut wire = connect(&server);
    for id in 1..=3 {
        wire.sender.try_send(request(id, "ping")).unwrap();
        assert_eq!(failure(&mut wire).await, (id, TransportError::TooLarge { limit: 1000 }));
    }
}

#[tokio::test]
async fn an_answer_that_is_not_quite_one_is_delivered() {
    let bodies = [
        r#"{"jsonrpc":"2.0","id":1,"result":{"x":NaN}}"#,
        r#"{"jsonrpc":"2.0","id":"2","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}"#,
        r#"[{"jsonrpc":"2.0","id":5,"result":{}}]"#,
    ];
    let server = Server::start(move |seen| {
        let body =
            bodies.iter().enumerate().find(|(at, _)| seen.body.contains(&format!("\"id\":{},", at + 1)));
        let body = body.map_or("", |(_, body)| body);
        if seen.body.contains("stream") {
            Reply::Raw(stream(&format!("data: {body}\n\n")))
        } else {
            json(body)
        }
    })
    .await;
    for method in ["ping", "stream"] {
        let mut wire = connect(&server);
        for (at, body) in bodies.iter().enumerate() {
            let id = u64::try_from(at).unwrap() + 1;
            wire.sender.try_send(request(id, method)).unwrap();
            let nameless =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32700,"message":"m"}}}}"#);
            let expected = if body.contains("error") { nameless } else { (*body).to_owned() };
            // Mending is the reader's work, not the transport's.
            assert_eq!(text(&mut wire).await, expected);
        }
    }
}

#[tokio::test]
async fn silence_ends_an_exchange() {
    let server = Server::start(|seen| {
        let begun = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"id\":";
        Reply::Hold(if seen.body.contains("\"id\":1,") { String::new() } else { begun.to_owned() })
    })
    .await;
    let spec = spec(&server.url);
    let mut wire = open(&spec, client::client(&Route::default()).unwrap());
    // The operator changes it while the transport is open.
    spec.times.set(LONG, Duration::from_millis(50));
    for id in 1..=2 {
        wire.sender.try_send(request(id, "ping")).unwrap();
        let (failed, error) = failure(&mut wire).await;
        assert!(
            failed == id && matches!(&error, TransportError::Protocol(why) if why.contains("50ms")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn who_cannot_be_reached_did_not_see_the_message() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/?key=hush", listener.local_addr().unwrap());
    drop(listener);
    let mut broken = spec("http://x");
    broken.headers = vec![("a b".to_owned(), "hush".to_owned())];
    for spec in [spec(&url), spec("no url hush"), spec("file:///hush"), broken] {
        let mut wire = open(&spec, client::client(&Route::default()).unwrap());
        wire.sender.try_send(request(5, "ping")).unwrap();
        let (id, error) = failure(&mut wire).await;
        assert!(id == 5 && matches!(error, TransportError::Unreachable(_)), "{error}");
        assert!(!error.to_string().contains("hush") && !format!("{spec:?}").contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn an_abandoned_request_hangs_up_and_is_not_reported() {
    let mut server = Server::start(|seen| {
        if seen.body.contains("\"id\":1,") { Reply::Hold(String::new()) } else { json(&result(2)) }
    })
    .await;
    let mut wire = connect(&server);
    wire.sender.try_send(request(1, "slow")).unwrap();
    assert_eq!(server.next().await.method, "POST");
    wire.sender.abandon(1);
    assert_eq!(server.next().await.method, "HANGUP");
    // Abandoned before it was sent: this test's one thread has not run the dispatcher in between.
    wire.sender.try_send(request(3, "never")).unwrap();
    wire.sender.abandon(3);
    wire.sender.try_send(request(2, "ping")).unwrap();
    assert_eq!(text(&mut wire).await, result(2));
    assert!(server.next().await.body.contains("ping"));
    let Transport { mut receiver, control, .. } = wire;
    timeout(LONG, control.stop(LONG)).await.unwrap();
    assert!(matches!(receiver.recv().await, Incoming::Closed(_)));
}

#[tokio::test]
async fn hanging_requests_leave_a_way_for_notifications() {
    let mut server = Server::start(|seen| {
        if seen.body.contains("\"id\"") { Reply::Hold(String::new()) } else { plain("202 Accepted") }
    })
    .await;
    let wire = connect(&server);
    for id in 0..REQUESTS as u64 + 10 {
        wire.sender.send(request(id, "hang")).await.unwrap();
    }
    wire.sender.send(notification("notifications/cancelled")).await.unwrap();
    let mut requests = 0;
    let cancelled = async {
        loop {
            let seen = server.next().await;
            requests += usize::from(seen.body.contains("hang"));
            if seen.body.contains("cancelled") {
                break;
            }
        }
    };
    timeout(LONG, cancelled).await.unwrap();
    assert!(requests <= REQUESTS);
    // And a transport whose every request hangs still stops.
    timeout(LONG, wire.control.stop(Duration::from_millis(20))).await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_standing_stream_is_asked_once() {
    for status in ["405 Method Not Allowed", "501 Not Implemented", "404 Not Found", "200 OK"] {
        let server = Server::start(move |_| plain(status)).await;
        let link = Arc::new(Link::new(&spec(&server.url), client::client(&Route::default()).unwrap()));
        let (incoming, mut receiver) = transport::incoming();
        let (start, closing) = (CancellationToken::new(), CancellationToken::new());
        start.cancel();
        timeout(LONG, listen::run(Arc::clone(&link), incoming, start, closing)).await.unwrap();
        assert!(receiver.recv().await.is_none() && !link.closed.is_cancelled(), "{status}");
        let mut seen = server.seen;
        assert_eq!(seen.try_recv().unwrap().method, "GET");
        assert!(seen.try_recv().is_err(), "{status}");
    }
}

#[tokio::test]
async fn the_standing_stream_is_reconnected_where_it_broke_off() {
    let mut server = Server::start(|seen| match seen.header("last-event-id") {
        None => Reply::Raw(stream("id: g1\ndata: {\"method\":\"a\"}\n\n")),
        Some("g1") => {
            Reply::Hold(stream(&format!("data: {}\n\ndata: {{\"method\":\"b\"}}\n\n", "x".repeat(2000))))
        }
        Some(_) => plain("400 Bad Request"),
    })
    .await;
    let mut wire = connect(&server);
    wire.control.set_protocol_version("2025-11-25");
    assert_eq!(text(&mut wire).await, "{\"method\":\"a\"}");
    assert!(matches!(next(&mut wire).await, Incoming::Oversized { limit: 1000, .. }));
    assert_eq!(text(&mut wire).await, "{\"method\":\"b\"}");
    assert_eq!(server.next().await.header("last-event-id"), None);
    assert_eq!(server.next().await.header("last-event-id"), Some("g1"));
}
