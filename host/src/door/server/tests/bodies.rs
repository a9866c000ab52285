//! Bodies that are too slow or too large, and what their senders are told.

use super::*;

#[tokio::test]
async fn a_slow_body_is_told_so() {
    let slow = Limits { body_timeout: SHORT, min_body_rate: 1 << 20, ..limits() };
    let server = start(slow, LONG).await;
    let answer = server.ask(post_of(10) + "half").await;
    assert_eq!(code(&answer), "408", "{answer}");
    assert!(answer.contains("only 4 bytes of the body came"), "{answer}");
    let mut socket = server.connect().await;
    let answer = trickle(&mut socket, post_of(900).bytes().chain(std::iter::repeat_n(b'x', 899))).await;
    assert_eq!(code(&answer), "408", "{answer}");
}

#[tokio::test]
async fn a_large_body_is_told_so_before_and_while_it_comes() {
    let server = start(limits(), LONG).await;
    assert_eq!(code(&server.ask(post_of(1001)).await), "413");
    let mut chunked = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    chunked += &format!("1f4\r\n{}\r\n", "x".repeat(500));
    let over = chunked.clone() + &format!("1f5\r\n{}\r\n", "x".repeat(501));
    assert_eq!(code(&server.ask(over).await), "413");
    let full = chunked.clone() + &format!("1f4\r\n{}\r\n0\r\n\r\n", "x".repeat(500));
    let mut socket = server.connect().await;
    socket.write_all(full.as_bytes()).await.unwrap();
    assert_eq!(code(&until(&mut socket, &"x".repeat(1000)).await), "200");
    assert_eq!(
        code(&server.ask(post_of(1 << 20).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n")).await),
        "413"
    );
    socket = server.connect().await;
    socket
        .write_all(post_of(3).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(code(&until(&mut socket, "\r\n\r\n").await), "100");
    socket.write_all(b"yes").await.unwrap();
    assert_eq!(code(&until(&mut socket, "yes").await), "200");
}

#[tokio::test]
async fn the_refusal_reaches_a_client_that_is_still_sending() {
    let size = 600 << 10;
    let server = start(Limits { max_body: 512 << 10, ..limits() }, LONG).await;
    let mut socket = server.connect().await;
    socket.write_all(post_of(size).as_bytes()).await.unwrap();
    let answer = rest(&mut socket).await;
    assert_eq!(code(&answer), "413");
    assert!(answer.ends_with("raise the gateway's limit"), "{answer}");
    // The body comes all the same. A closed socket would answer its first bytes with a reset, and the next write
    // of a client would fail before it reads the answer.
    for _ in 0..100 {
        socket.write_all(&[b'x'; 4096]).await.expect("the server reads on");
    }
}
