//! Which ambiguous requests are refused, and by whom. A second request hidden in the first must never be answered.

use super::*;

const HIDDEN: &str = "GET / HTTP/1.1\r\nhost: hidden\r\n\r\n";

fn raw(lines: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n{body}")
}

#[tokio::test]
async fn hyper_refuses_these() {
    let server = start(limits(), LONG).await;
    for lines in [
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: +3\r\n",
        "content-length: -3\r\n",
        "content-length: 0x3\r\n",
        "content-length: 3, 3\r\n",
        "content-length: 3 3\r\n",
        "content-length:\r\n",
        "content-length: 99999999999999999999999\r\n",
        "content-length : 3\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding : chunked\r\n",
        "content-length: 3\r\ntransfer-encoding: gzip\r\n",
        "x: a\r\n content-length: 3\r\n",
        "x: a\0b\r\n",
        "x: a\rcontent-length: 3\r\n",
        "x y: a\r\n",
        ": a\r\n",
        "no colon\r\n",
    ] {
        let answer = server.ask(raw(lines, HIDDEN)).await;
        assert_eq!(code(&answer), "400", "{lines:?}: {answer}");
        assert!(!answer.contains("hello"), "{lines:?}: {answer}");
    }
    let old = server.ask("POST /echo HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(code(&old), "400", "{old}");
}

#[tokio::test]
async fn broken_chunks_end_the_request_and_the_connection() {
    let server = start(limits(), LONG).await;
    for chunks in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3_\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabcXX0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
    ] {
        let answer = server.ask(raw("transfer-encoding: chunked\r\n", &format!("{chunks}{HIDDEN}"))).await;
        assert_eq!(code(&answer), "400", "{chunks:?}: {answer}");
        assert!(!answer.contains("hello"), "{chunks:?}: {answer}");
    }
}

#[tokio::test]
async fn a_body_cut_short_never_reaches_the_application_as_whole() {
    let server = start(limits(), LONG).await;
    let mut socket = server.connect().await;
    socket.write_all((post_of(10) + "half").as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let answer = rest(&mut socket).await;
    assert!(answer.is_empty() || code(&answer) == "400", "{answer}");
}

/// RFC 9112 section 6.1 leaves a server two ways: refuse, or read the chunks and close. hyper takes the second and
/// removes the length before anybody sees it; so the chunks are the one truth and what follows is never read.
#[tokio::test]
async fn of_length_and_chunks_only_the_chunks_count_and_the_connection_ends() {
    let server = start(limits(), LONG).await;
    for lines in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\ncontent-length: 4\r\n",
    ] {
        let answer = server.ask(raw(lines, &format!("5\r\nabcde\r\n0\r\n\r\n{HIDDEN}"))).await;
        assert_eq!(code(&answer), "200", "{lines:?}: {answer}");
        assert!(answer.contains("connection: close") && answer.ends_with("abcde"), "{lines:?}: {answer}");
    }
}

#[tokio::test]
async fn the_guard_refuses_what_hyper_lets_pass() {
    let server = start(limits(), LONG).await;
    for (lines, expected) in [
        ("transfer-encoding: gzip, chunked\r\n", "501"),
        ("transfer-encoding: chunked, chunked\r\n", "501"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "400"),
        ("transfer-encoding: chunked\r\nhost: other\r\n", "400"),
        ("transfer-encoding: chunked\r\nmcp-method: a\r\nMcp-Method: b\r\n", "400"),
        ("transfer-encoding: chunked\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n", "400"),
        ("transfer-encoding: chunked\r\ncontent-encoding: gzip\r\n", "415"),
        ("transfer-encoding: chunked\r\nexpect: 200-ok\r\n", "417"),
    ] {
        let lines = format!("{lines}connection: close\r\n");
        let answer = server.ask(raw(&lines, "0\r\n\r\n")).await;
        assert_eq!(code(&answer), expected, "{lines:?}: {answer}");
    }
    // One length said twice is one length.
    let twice = raw("content-length: 3\r\ncontent-length: 3\r\nconnection: close\r\n", "yes");
    assert!(server.ask(twice).await.ends_with("yes"));
}

#[tokio::test]
async fn an_upgrade_changes_nothing() {
    let server = start(limits(), LONG).await;
    let answer = server
        .ask(format!("GET / HTTP/1.1\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n{HIDDEN}"))
        .await;
    assert_eq!((code(&answer), answer.matches("hello").count()), ("200", 1), "{answer}");
    let tunnel = server.ask("CONNECT other:80 HTTP/1.1\r\nhost: other:80\r\nconnection: close\r\n\r\n").await;
    assert!(!tunnel.starts_with("HTTP/1.1 2"), "{tunnel}");
    assert_eq!(server.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.matches("hello").count(), 0);
}
