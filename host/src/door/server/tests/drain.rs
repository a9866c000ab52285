//! The stop: what is under way is finished, what rests is closed, what lasts is cut.

use super::*;

#[tokio::test]
async fn a_request_under_way_is_finished_and_no_new_one_taken() {
    let mut server = start(limits(), LONG).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
    server.hear("entered").await;
    let mut resting = server.connect().await;
    resting.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until(&mut resting, "hello\n").await;
    let mut halfway = server.connect().await;
    halfway.write_all(b"GET / HT").await.unwrap();
    let stopped = Instant::now();
    server.stop();
    assert_eq!(rest(&mut resting).await, "", "the resting connection is closed");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    let _ = halfway.write_all(b"TP/1.1\r\n\r\n").await;
    let answer = rest(&mut halfway).await;
    assert!(answer.is_empty() || answer.contains("connection: close"), "{answer}");
    server.stage.go.add_permits(1);
    let answer = rest(&mut busy).await;
    assert_eq!(code(&answer), "200");
    assert!(answer.contains("connection: close") && answer.ends_with("waited\n"), "{answer}");
    server.ended().await;
    assert!(stopped.elapsed() < LONG / 2, "it did not wait for the grace to pass");
}

#[tokio::test]
async fn a_stream_ends_when_the_application_ends_it() {
    let mut server = start(limits(), LONG).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /stream HTTP/1.1\r\n\r\n").await.unwrap();
    server.stage.stream.send(Bytes::from_static(b"data: 1\n\n")).unwrap();
    until(&mut socket, "data: 1\n\n").await;
    server.stop();
    until(&mut socket, "\r\n").await;
    assert!(silent(&mut socket, SHORT).await, "it is still open");
    server.stage.stream.send(Bytes::from_static(b"data: bye\n\n")).unwrap();
    let (closed, _) = mpsc::unbounded_channel();
    server.stage.stream = closed;
    let last = rest(&mut socket).await;
    assert!(last.contains("data: bye\n\n") && last.ends_with("0\r\n\r\n"), "{last}");
    server.ended().await;
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut() {
    let mut server = start(limits(), SHORT).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
    server.hear("entered").await;
    server.stop();
    assert_eq!(rest(&mut socket).await, "");
    server.hear("left").await;
    server.ended().await;
}

#[tokio::test]
async fn dropping_the_server_cuts_everything() {
    let mut server = start(limits(), LONG).await;
    let mut socket = server.connect().await;
    socket.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
    server.hear("entered").await;
    server.done.abort();
    assert_eq!(rest(&mut socket).await, "");
    server.hear("left").await;
}
