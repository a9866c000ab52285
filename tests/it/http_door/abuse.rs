//! What hurts servers: clients that are slow, greedy, foreign or malformed. It costs them something and others nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Door, NEWEST, request, tool};
use super::raw::{Ending, Raw, headers, post};
use crate::support::{Setup, eventually};

/// The longest that a small call of somebody else may take meanwhile. Generous: the machine is shared.
const UNHARMED: Duration = Duration::from_secs(3);

/// Does something bad while another client calls on and on, each on a new connection and an old one; that one's every
/// call must succeed, and soon.
fn unharmed<T>(door: &Door, bad: impl FnOnce() -> T) -> T {
    let good = door.client("good").hello(NEWEST);
    let (address, over) = (&door.address, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let (mut count, mut worst) = (0, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let since = Instant::now();
                let fresh = Raw::sent(address, closing(&good).as_bytes()).ending();
                assert_eq!(fresh.status(), 200, "{fresh:?}");
                assert_eq!(good.structured("echo")["name"], "echo");
                (count, worst) = (count + 1, worst.max(since.elapsed()));
            }
            (count, worst)
        });
        // Told even if the bad thing fails, or the test would wait for ever.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(bad));
        over.store(true, Ordering::Relaxed);
        let (count, worst) = calls.join().unwrap();
        let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(count > 0 && worst < UNHARMED, "{count} calls, the slowest took {worst:?}");
        done
    })
}

/// A call on a connection that ends with it.
fn closing(client: &Client) -> String {
    post(&client.with("connection", "close"), &request("tools/call", &tool("echo", json!({}))).to_string())
}

/// The start of a POST that promises a body of this length.
fn promising(client: &Client, length: usize) -> String {
    format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {length}\r\n\r\n", headers(client))
}

#[test]
fn heads_and_bodies_that_do_not_come_are_not_waited_for() {
    let door = Door::echo();
    let bad = door.client("bad");
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let endings: Vec<(&str, Ending)> = unharmed(&door, || {
        let stuck = (0..60).map(|number| match number % 3 {
            0 => ("nothing", Raw::connect(&door.address)),
            1 => ("half a head", Raw::sent(&door.address, head.as_bytes())),
            _ => ("half a body", Raw::sent(&door.address, format!("{}{{", promising(&bad, 1000)).as_bytes())),
        });
        let stuck: Vec<_> = stuck.collect();
        // Some say something all the time, and never all of it.
        let mut trickles: Vec<Raw> = (0..10)
            .map(|number| {
                let body = promising(&bad, 1_000_000);
                Raw::sent(&door.address, if number % 2 == 0 { head.as_bytes() } else { body.as_bytes() })
            })
            .collect();
        eventually("the end of those who trickle", || {
            trickles.retain_mut(|raw| raw.trickle(b' '));
            trickles.is_empty().then_some(())
        });
        stuck.into_iter().map(|(what, raw)| (what, raw.ending())).collect()
    });
    for (what, ending) in endings {
        assert!(ending.closed, "{what}: still open: {ending:?}");
        match what {
            "half a body" => assert_eq!(ending.status(), 408, "{what}: {ending:?}"),
            _ => assert!(matches!(ending.status(), 0 | 408), "{what}: {ending:?}"),
        }
    }
}

#[test]
fn answers_that_nobody_reads_hold_up_nobody() {
    const EACH: usize = 4;
    let keys = "prefix = true";
    let door = Door::open(Setup::echo().backend("other", &[], keys), "");
    let bad = door.client("bad").hello(NEWEST);
    let deaf: Vec<Raw> = unharmed(&door, || {
        // More than the system keeps for a client that does not read.
        let requests = |last: usize| -> String {
            let one = |number: usize| {
                let client = if number == last { bad.with("connection", "close") } else { bad.clone() };
                post(
                    &client,
                    &request("tools/call", &tool("other_big", json!({"bytes": 6_000_000}))).to_string(),
                )
            };
            (1..=last).map(one).collect()
        };
        let deaf = (0..2).map(|_| Raw::sent(&door.address, requests(EACH).as_bytes())).collect();
        let good = door.client("cat").hello(NEWEST);
        // The answer to the first of each is more than half of that, and until it is taken the next is not read.
        eventually("the calls", || (good.structured("other_calls")["big"].as_u64()? >= 2).then_some(()));
        deaf
    });
    // A slow client gets everything all the same.
    for raw in deaf {
        let ending = raw.ending();
        assert_eq!((ending.closed, ending.responses()), (true, EACH));
        assert_eq!(ending.text.matches("200 OK").count(), EACH);
    }
}

#[test]
fn only_so_many_connections_and_the_next_is_told() {
    let door = Door::open(Setup::echo(), "max_connections = 4");
    let [ann, bob] = ["ann", "bob"].map(|name| door.client(name).with("connection", "close").hello(NEWEST));
    // Connections that work on a call make room for nobody. One caller may have all but one of so few.
    let slow = request("tools/call", &tool("slow", json!({"ms": 60_000}))).to_string();
    let held: Vec<Raw> = [&ann, &ann, &ann, &bob]
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            let body = slow.replacen("\"id\":", &format!("\"id\":9{number}"), 1);
            Raw::sent(&door.address, post(client, &body).as_bytes())
        })
        .collect();
    door.gateway.await_audit("the calls", |rows| {
        (rows.iter().filter(|row| row["tool"] == "slow").count() == held.len()).then_some(())
    });
    let busy = Raw::sent(&door.address, closing(&ann).as_bytes()).ending();
    assert!(busy.closed && busy.status() == 503, "{busy:?}");
    assert!(busy.text.to_lowercase().contains("retry-after"), "{busy:?}");
    drop(held);
    eventually("a free connection", || {
        let ending = Raw::sent(&door.address, closing(&ann).as_bytes()).ending();
        (ending.status() == 200).then_some(())
    });
}

#[test]
fn a_body_over_the_limit_is_refused_however_it_comes() {
    const LIMIT: usize = 65_536;
    let door = Door::open(Setup::echo().gateway(&format!("max_message_bytes = {LIMIT}")), "");
    let session = door.client("ann").hello(NEWEST);
    let padded = |length: usize| {
        let bare = request("tools/call", &tool("echo", json!({}))).to_string();
        format!("{bare}{}", " ".repeat(length - bare.len()))
    };
    assert_eq!(session.post_text(padded(LIMIT)).status, 200, "the limit itself is allowed");
    unharmed(&door, || {
        let whole = session.post_text(padded(LIMIT + 1));
        assert_eq!((whole.status, whole.value()["error"]["code"].as_i64()), (413, Some(-32600)), "{whole:?}");
        // Refused for its promised length alone, before a byte of the body.
        for length in [LIMIT + 1, 1 << 40] {
            let ending = Raw::sent(&door.address, promising(&session, length).as_bytes()).ending();
            assert!(ending.closed && ending.status() == 413, "{length}: {ending:?}");
            let polite = promising(&session.with("expect", "100-continue"), length);
            let ending = Raw::sent(&door.address, polite.as_bytes()).ending();
            assert!(ending.closed && ending.status() == 413, "{length}: {ending:?}");
        }
        // Without a promise, in chunks, for ever.
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{}Transfer-Encoding: chunked\r\n\r\n",
            headers(&session)
        );
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
        let raw = Raw::sent(&door.address, (head + &chunk.repeat(LIMIT / 0x1000 + 1)).as_bytes());
        let ending = raw.ending();
        assert!(ending.closed && ending.status() == 413, "{ending:?}");
    });
    assert_eq!(session.structured("calls")["echo"].as_u64().map(|calls| calls > 0), Some(true));
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let door = Door::echo();
    let client = door.client("ann");
    unharmed(&door, || {
        for (what, more) in [
            ("a long header", format!("X-Long: {}\r\n", "a".repeat(100_000))),
            ("many headers", "X-Many: a\r\n".repeat(1_000)),
            ("many long headers", format!("X-Both: {}\r\n", "a".repeat(5_000)).repeat(100)),
        ] {
            let text = format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{}{more}\r\n", headers(&client));
            let ending = Raw::sent(&door.address, text.as_bytes()).ending();
            assert!(ending.closed && ending.status() == 431, "{what}: {ending:?}");
        }
    });
}

#[test]
fn only_our_own_names_are_answered_to() {
    let door = Door::open(Setup::echo(), "allowed_hosts = [\"mcp.example.org\", \"other.example:8443\"]");
    let client = door.client("ann");
    let port = door.address.rsplit_once(':').unwrap().1;
    let of = |path: &str, host: &str| {
        let call = client.with("connection", "close");
        let body = request("ping", &json!({})).to_string();
        let method = if path == "/mcp" { "POST" } else { "GET" };
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{}Content-Length: {length}\r\n\r\n{body}",
            headers(&call)
        );
        Raw::sent(&door.address, text.as_bytes()).ending().status()
    };
    for path in ["/mcp", "/mcp/health"] {
        for host in [
            "localhost",
            "127.0.0.1",
            "[::1]",
            "LOCALHOST",
            &format!("127.0.0.1:{port}"),
            "localhost:1",
            "mcp.example.org",
            "MCP.example.org:443",
            "other.example:8443",
        ] {
            assert_eq!(of(path, host), 200, "{path} of {host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:9200",
            "other.example",
            "other.example:1",
            "0.0.0.0",
            "192.168.0.1",
            "sub.mcp.example.org",
        ] {
            assert_eq!(of(path, host), 403, "{path} of {host}");
        }
        for host in ["", "localhost@evil.example", "evil.example/localhost", "localhost:port", "a b", "[::1"]
        {
            assert_eq!(of(path, host), 400, "{path} of {host:?}");
        }
    }
}

#[test]
fn foreign_web_pages_are_refused_before_anything_happens() {
    let door = Door::open(Setup::echo(), "allowed_origins = [\"https://app.example\"]");
    let session = door.client("ann").hello(NEWEST);
    for origin in ["https://app.example", "http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"] {
        let page = session.with("origin", origin);
        assert_eq!(page.structured("echo")["name"], "echo", "{origin}");
    }
    let calls = session.structured("calls")["echo"].clone();
    for origin in [
        "https://evil.example",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil",
        "null",
        "",
        "*",
        "https://localhost.evil.example",
        "file://",
        "https://evil.example, https://app.example",
    ] {
        let page = session.with("origin", origin);
        let (modern, body) =
            door.client("ann").with("origin", origin).modern("tools/call", &tool("echo", json!({})));
        let answers = [
            ("a call", page.request("tools/call", &tool("echo", json!({})))),
            ("a stateless call", modern.post(&body)),
            ("the stream", page.with("accept", "text/event-stream").get()),
            ("an end", page.delete()),
            ("the health", page.at("/mcp/health").get()),
            ("without a token", page.without("authorization").request("ping", &json!({}))),
        ];
        for (what, answer) in answers {
            assert_eq!(answer.status, 403, "{what} of {origin:?}: {answer:?}");
            assert!(answer.header("access-control-allow-origin").is_none(), "{what} of {origin:?}");
        }
    }
    let asked = session
        .with("origin", "https://evil.example")
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "authorization,content-type")
        .options();
    assert!(asked.status >= 400 && asked.header("access-control-allow-origin").is_none(), "{asked:?}");
    assert_eq!(session.structured("calls")["echo"], calls, "nothing was called");
}

#[test]
fn bodies_that_are_not_json_are_not_read() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    let call = request("tools/call", &tool("echo", json!({}))).to_string();
    // What a web page may send without asking first, and other things that are not JSON.
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonp",
        "text/json",
        "application/json-rpc",
        "*/*",
        "",
    ] {
        assert_eq!(session.with("content-type", media).post_text(call.clone()).status, 415, "{media:?}");
    }
    assert_eq!(session.without("content-type").post_text(call.clone()).status, 415);
    let twice = session.twice("content-type", "application/json").post_text(call.clone());
    assert!(matches!(twice.status, 400 | 415), "{twice:?}");
    assert!(session.structured("calls")["echo"].is_null(), "nothing was called");
    for media in ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=\"utf-8\""]
    {
        assert_eq!(session.with("content-type", media).post_text(call.clone()).status, 200, "{media}");
    }
}

#[test]
fn a_stream_is_for_those_who_say_that_they_read_one() {
    let door = Door::echo();
    let silent = door.client("ann").hello(NEWEST).without("accept").with("connection", "close");
    let call = request("tools/list", &json!({})).to_string();
    let ending = Raw::sent(&door.address, post(&silent, &call).as_bytes()).ending();
    assert!(ending.status() == 200 && ending.text.contains("application/json"), "{ending:?}");
    let text = format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\n{}\r\n", headers(&silent));
    let ending = Raw::sent(&door.address, text.as_bytes()).ending();
    assert_eq!(ending.status(), 406, "{ending:?}");
}

#[test]
fn other_paths_and_methods_lead_nowhere() {
    let door = Door::echo();
    let ann = door.client("ann");
    for path in ["/", "//mcp", "/mcp//", "/mcp/x", "/MCP", "/metrics", "/admin", "/.env"] {
        let answer = ann.at(path).post(&request("ping", &json!({})));
        assert!(matches!(answer.status, 404 | 405), "{path}: {answer:?}");
    }
    for method in ["PUT", "PATCH", "TRACE", "HEADX", "OPTIONS"] {
        let text = format!(
            "{method} /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Echo: canary\r\n\r\n"
        );
        let ending = Raw::sent(&door.address, text.as_bytes()).ending();
        assert!(
            (400..600).contains(&ending.status()) && !ending.text.contains("canary"),
            "{method}: {ending:?}"
        );
    }
}
