//! Requests that two readers could cut apart differently: one of them is refused here, and nothing hidden in it runs.

use serde_json::json;

use super::client::{Door, NEWEST, request, tool};
use super::raw::{Raw, headers, post};

/// A name, the head's lines after the client's own, and the body with whatever follows it.
type Shape = (&'static str, String, String);

/// Shapes with a request hidden behind a call; `hidden` is that request.
fn shapes(call: &str, hidden: &str) -> Vec<Shape> {
    let length = call.len();
    let chunk = format!("{length:x}\r\n{call}\r\n0\r\n\r\n");
    let plain = format!("{call}{hidden}");
    let chunked = format!("{chunk}{hidden}");
    let line = |name: &'static str, line: &str| (name, format!("{line}\r\n"), plain.clone());
    let coded = |name: &'static str, line: &str| (name, format!("{line}\r\n"), chunked.clone());
    vec![
        line("two lengths", &format!("Content-Length: {length}\r\nContent-Length: {}", plain.len())),
        line(
            "two lengths, the short one last",
            &format!("Content-Length: {}\r\nContent-Length: 0", plain.len()),
        ),
        line("two lengths in one line", &format!("Content-Length: {length}, {}", plain.len())),
        line("a signed length", &format!("Content-Length: +{length}")),
        line("a negative length", "Content-Length: -1"),
        line("a hexadecimal length", &format!("Content-Length: 0x{length:x}")),
        line("a length with a fraction", &format!("Content-Length: {length}.0")),
        line("a length beyond all numbers", "Content-Length: 99999999999999999999999"),
        line("an empty length", "Content-Length:"),
        line("a space before the colon of the length", &format!("Content-Length : {length}")),
        line("a folded length", &format!("Content-Length:\r\n {length}")),
        coded("a coding that is none", "Transfer-Encoding: xchunked"),
        coded("a coding after chunked", "Transfer-Encoding: chunked, identity"),
        coded("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        coded("a tab before the colon of the coding", "Transfer-Encoding\t: chunked"),
        coded("a space before the coding's name", "X: y\r\n Transfer-Encoding: chunked"),
        coded("a vertical tab in the coding", "Transfer-Encoding: \u{b}chunked"),
        coded("a quoted coding", "Transfer-Encoding: \"chunked\""),
        coded("a NUL in a header", "X: a\0b\r\nTransfer-Encoding: chunked"),
        (
            "a chunk size beyond all numbers",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("fffffffffffffffff0\r\n{plain}"),
        ),
        ("a negative chunk size", "Transfer-Encoding: chunked\r\n".to_owned(), format!("-1\r\n{chunked}")),
        ("a chunk size with a prefix", "Transfer-Encoding: chunked\r\n".to_owned(), format!("0x{chunked}")),
        (
            "a chunk longer than it says",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("1\r\n{chunked}"),
        ),
        (
            "a bare line end in a chunk's extension",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("{length:x};a\n\r\n{call}\r\n0\r\n\r\n{hidden}"),
        ),
    ]
}

#[test]
fn what_can_be_cut_apart_in_two_ways_is_refused_and_nothing_hidden_runs() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    let call = request("tools/call", &tool("echo", json!({}))).to_string();
    let hidden = post(&session, &request("tools/call", &tool("fail", json!({}))).to_string());
    let head = format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{}", headers(&session));
    for (name, lines, rest) in shapes(&call, &hidden) {
        let ending = Raw::sent(&door.address, format!("{head}{lines}\r\n{rest}").as_bytes()).ending();
        assert!(ending.closed, "{name}: the connection stays open: {ending:?}");
        // Closing without a word is a refusal too.
        let refused = ending.text.is_empty() || (400..600).contains(&ending.status());
        assert!(refused && ending.responses() <= 1, "{name}: {ending:?}");
    }
    let calls = session.structured("calls");
    assert!(calls["fail"].is_null(), "a hidden request ran: {calls}");
    assert!(calls["echo"].is_null(), "a request that was refused ran: {calls}");
}

/// RFC 9112, section 6.1: refused, or read by the coding; but then the connection ends with it.
#[test]
fn a_length_beside_a_coding_ends_the_connection() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    let call = request("tools/call", &tool("echo", json!({}))).to_string();
    let hidden = post(&session, &request("tools/call", &tool("fail", json!({}))).to_string());
    let chunked = format!("{:x}\r\n{call}\r\n0\r\n\r\n", call.len());
    let head = format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{}", headers(&session));
    for (lines, body) in [
        (
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked", chunked.len() + hidden.len()),
            chunked.clone(),
        ),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked".to_owned(), chunked.clone()),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4".to_owned(), chunked.clone()),
        (
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked", 5 + hidden.len()),
            "0\r\n\r\n".to_owned(),
        ),
    ] {
        let ending =
            Raw::sent(&door.address, format!("{head}{lines}\r\n\r\n{body}{hidden}").as_bytes()).ending();
        assert!(ending.closed && ending.responses() <= 1, "{lines}: {ending:?}");
    }
    assert!(session.structured("calls")["fail"].is_null(), "a hidden request ran");
}

#[test]
fn other_versions_and_forms_of_http_open_nothing() {
    let door = Door::echo();
    let session = door.client("ann").hello(NEWEST);
    let call = request("tools/call", &tool("echo", json!({}))).to_string();
    let hidden = post(&session, &request("tools/call", &tool("fail", json!({}))).to_string());
    let own = headers(&session);
    let length = call.len();
    let chunked = format!("{length:x}\r\n{call}\r\n0\r\n\r\n");
    for (name, text) in [
        (
            "a coding on HTTP/1.0",
            format!(
                "POST /mcp HTTP/1.0\r\nHost: localhost\r\n{own}Transfer-Encoding: chunked\r\n\r\n{chunked}{hidden}"
            ),
        ),
        ("HTTP/2 with prior knowledge", format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{hidden}")),
        (
            "HTTP/9",
            format!("POST /mcp HTTP/9.9\r\nHost: localhost\r\n{own}Content-Length: {length}\r\n\r\n{call}"),
        ),
        ("HTTP/0.9", "GET /mcp/health\r\n\r\n".to_owned()),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned() + "\r\n\r\n"),
        ("a request line without an end", format!("POST /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000))),
        (
            "no host",
            format!("POST /mcp HTTP/1.1\r\n{own}Connection: close\r\nContent-Length: {length}\r\n\r\n{call}"),
        ),
        (
            "two hosts",
            format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n{own}Content-Length: {length}\r\n\r\n{call}"
            ),
        ),
        (
            "another host in the line",
            format!(
                "POST http://evil.example/mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{own}Content-Length: {length}\r\n\r\n{call}"
            ),
        ),
        (
            "a tunnel",
            "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        (
            "a compressed body",
            format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Encoding: gzip\r\n{own}Content-Length: {length}\r\n\r\n{call}"
            ),
        ),
        (
            "an unknown expectation",
            format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: the-unexpected\r\n{own}Content-Length: {length}\r\n\r\n{call}"
            ),
        ),
    ] {
        let ending = Raw::sent(&door.address, text.as_bytes()).ending();
        assert!(ending.closed && ending.responses() <= 1, "{name}: {ending:?}");
        let refused = ending.text.is_empty() || (400..600).contains(&ending.status());
        assert!(refused, "{name}: {ending:?}");
    }
    // Asking for another protocol is no reason to speak it, nor to pass over what follows.
    let upgrade = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n{own}Content-Length: {length}\r\n\r\n{call}"
    );
    let ending = Raw::sent(&door.address, format!("{upgrade}{hidden}").as_bytes()).ending();
    assert!(ending.closed && ending.responses() == 1 && ending.status() != 101, "{ending:?}");
    let calls = session.structured("calls");
    assert!(calls["fail"].is_null(), "a hidden request ran: {calls}");
    assert!(matches!(calls["echo"].as_u64(), None | Some(1)), "only the last may have run: {calls}");
}
