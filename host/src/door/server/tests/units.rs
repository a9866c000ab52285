//! The parts that need no socket: paces, pauses, and how many writes a response takes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::super::places::Places;
use super::super::{BodyError, Pause, connection};
use super::*;

#[test]
fn the_pace_of_a_body_is_a_floor() {
    let limits = Limits { body_timeout: Duration::from_secs(2), min_body_rate: 1000, ..limits() };
    assert_eq!(limits.body_time(0), Duration::from_secs(2));
    assert_eq!(limits.body_time(1500), Duration::from_millis(3500));
    let whole = Limits { min_body_rate: 0, ..limits };
    assert_eq!(whole.body_time(1 << 40), Duration::from_secs(2));
    let endless = Limits { body_timeout: Duration::MAX, min_body_rate: 1, ..limits };
    assert_eq!(endless.body_time(usize::MAX), Duration::MAX);
}

#[tokio::test]
async fn bodies_in_pieces_are_joined_within_the_limit() {
    let limits = Limits { max_body: 6, body_timeout: Duration::MAX, ..limits() };
    let body = |pieces: &'static [&'static str]| {
        Body::from_stream(futures_util::stream::iter(pieces.iter().map(|piece| Ok::<_, io::Error>(*piece))))
    };
    assert_eq!(read_body(Body::empty(), &limits).await.unwrap(), "");
    assert_eq!(read_body(body(&["abc"]), &limits).await.unwrap(), "abc");
    assert_eq!(read_body(body(&["", "abc", "", "d", "ef"]), &limits).await.unwrap(), "abcdef");
    let over = read_body(body(&["abc", "defg"]), &limits).await.unwrap_err();
    assert!(matches!(over, BodyError::TooLarge { limit: 6 }));
    assert_eq!(over.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let declared = read_body(Body::from("abcdefg"), &limits).await.unwrap_err();
    assert!(matches!(declared, BodyError::TooLarge { limit: 6 }));
    let failing = futures_util::stream::iter([Ok("abc"), Err(io::Error::other("gone"))]);
    let broken = read_body(Body::from_stream(failing), &limits).await.unwrap_err();
    assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
    let quick = Limits { body_timeout: SHORT, ..limits };
    let never = Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>());
    assert_eq!(read_body(never, &quick).await.unwrap_err().status(), StatusCode::REQUEST_TIMEOUT);
}

#[test]
fn a_want_of_descriptors_pauses_longer_and_longer() {
    let mut pause = Pause::default();
    // EMFILE
    let scarce = io::Error::from_raw_os_error(24);
    assert_eq!(pause.after(&scarce), Some(Pause::FIRST));
    assert_eq!(pause.after(&io::ErrorKind::ConnectionAborted.into()), None);
    assert_eq!(pause.after(&scarce), Some(Pause::FIRST * 2));
    for _ in 0..20 {
        pause.after(&scarce);
    }
    assert_eq!(pause.after(&scarce), Some(Pause::LONGEST));
}

/// A pipe that counts the writes into it.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_response_takes_one_write_and_an_event_another() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    let (router, stage) = app(limits());
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let seat = Places::new(&limits()).enter(address.ip()).unwrap();
    let served = tokio::spawn(connection::run(
        Counted(server, Arc::clone(&writes)),
        connection::Seated(Peer::new(address, None, seat)),
        router.into(),
        limits(),
        CancellationToken::new(),
    ));
    let mut answer = vec![0; 4096];
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let read = timeout(PATIENCE, client.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].ends_with(b"hello\n"), "head and body come together");
    assert_eq!(writes.swap(0, Ordering::Relaxed), 1);

    stage.stream.send(Bytes::from_static(b"data: 1\n\n")).unwrap();
    client.write_all(b"GET /stream HTTP/1.1\r\n\r\n").await.unwrap();
    let read = timeout(PATIENCE, client.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].ends_with(b"data: 1\n\n\r\n"), "the head does not go ahead of the first event");
    assert_eq!(writes.swap(0, Ordering::Relaxed), 1);
    stage.stream.send(Bytes::from_static(b"data: 2\n\n")).unwrap();
    let read = timeout(PATIENCE, client.read(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[..read], b"9\r\ndata: 2\n\n\r\n");
    assert_eq!(writes.swap(0, Ordering::Relaxed), 1);
    drop(client);
    timeout(PATIENCE, served).await.unwrap().unwrap();
}
