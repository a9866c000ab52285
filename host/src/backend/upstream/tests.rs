//! An upstream that is a socket of this test, so that every byte of an answer can be chosen.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::Secret;
use crate::route::{From, Table};

/// Answers each connection with the next of these; an empty text closes it at once.
async fn server(
    answers: &'static [&'static str],
) -> (String, Arc<AtomicUsize>, Arc<parking_lot::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/base", listener.local_addr().unwrap());
    let (count, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(parking_lot::Mutex::new(Vec::new())));
    let (counted, noted) = (count.clone(), heard.clone());
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let answer = answers[counted.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)];
            let noted = noted.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 64 << 10];
                let read = stream.read(&mut request).await.unwrap_or(0);
                noted.lock().push(String::from_utf8_lossy(&request[..read]).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, count, heard)
}

fn upstream(url: &str) -> Upstream {
    let settings = rest::Upstream {
        name: "up".to_owned(),
        url: Secret::new(url),
        headers: Vec::new(),
        way: crate::config::Route::default(),
        timeout: Duration::from_secs(20),
        max_in_flight: 4,
        retries: 2,
        pass_headers: Vec::new(),
        max_answer: 1024,
    };
    Upstream::new(settings, Redaction::default())
}

fn asked(method: &str, change: impl FnOnce(&mut rest::Route)) -> Asked {
    let mut route = crate::route::sample(method, "/a/{id}");
    route.timeout = Duration::from_secs(20);
    change(&mut route);
    let entry = Table::new(&[route]).entries().next().unwrap().clone();
    let from = From { address: "127.0.0.1".parse().unwrap(), host: None, secure: false };
    Asked {
        entry,
        headers: HeaderMap::new(),
        content_type: None,
        from,
        head: false,
        dev: false,
        request_id: "r1".into(),
    }
}

const ARGUMENTS: &str = r#"{"path":{"id":"7"},"query":{"q":"x y"},"body":{"n": 1.0}}"#;
const OK: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\nconnection: x-hop, close\r\nx-hop: 1\r\n\r\nok";

#[tokio::test]
async fn a_request_goes_there_and_its_answer_comes_back() {
    let (url, _, heard) = server(&[OK]).await;
    let replied = upstream(&url).ask(&asked("POST", |_| ()), ARGUMENTS, Sent::Arguments, &[]).await.unwrap();
    assert_eq!((replied.status.as_u16(), &*replied.body), (200, &b"ok"[..]));
    assert_eq!(replied.headers.get("x-a").unwrap(), "b");
    assert!(replied.headers.get("x-hop").is_none() && replied.headers.get("connection").is_none());
    let heard = heard.lock()[0].clone();
    assert!(heard.starts_with("POST /base/a/7?q=x%20y HTTP/1.1\r\n"), "{heard}");
    assert!(heard.ends_with("{\"n\": 1.0}"), "the body is as it was sent: {heard}");
    assert!(heard.contains("x-request-id: r1") && heard.contains("x-forwarded-for: 127.0.0.1"), "{heard}");
}

#[tokio::test]
async fn what_may_have_had_an_effect_is_not_sent_again() {
    let broken: &[&str] = &["", "", OK];
    for (method, times, ends_well) in
        [("GET", 3, true), ("POST", 1, false), ("PUT", 1, false), ("DELETE", 1, false)]
    {
        let (url, count, _) = server(broken).await;
        let answer = upstream(&url).ask(&asked(method, |_| ()), ARGUMENTS, Sent::Arguments, &[]).await;
        assert_eq!((answer.is_ok(), count.load(Ordering::SeqCst)), (ends_well, times), "{method}");
    }
    let unwell: &[&str] = &["HTTP/1.1 503 S\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", OK];
    let (url, count, _) = server(unwell).await;
    let answer = upstream(&url).ask(&asked("GET", |_| ()), ARGUMENTS, Sent::Arguments, &[]).await.unwrap();
    assert_eq!((answer.status.as_u16(), count.load(Ordering::SeqCst)), (200, 2));
    let later: &[&str] =
        &["HTTP/1.1 503 S\r\ncontent-length: 0\r\nretry-after: 9\r\nconnection: close\r\n\r\n", OK];
    let (url, count, _) = server(later).await;
    let answer = upstream(&url).ask(&asked("GET", |_| ()), ARGUMENTS, Sent::Arguments, &[]).await.unwrap();
    assert_eq!((answer.status.as_u16(), count.load(Ordering::SeqCst)), (503, 1), "it named a time");
    let nobody =
        upstream("http://127.0.0.1:1").ask(&asked("POST", |_| ()), ARGUMENTS, Sent::Arguments, &[]).await;
    assert!(matches!(nobody, Err(UpstreamError::Unreachable(_))));
}

#[tokio::test]
async fn answers_have_bounds_of_bytes_and_of_time() {
    let (url, ..) = server(&["HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n"]).await;
    let answer = upstream(&url).ask(&asked("GET", |_| ()), ARGUMENTS, Sent::Arguments, &[]).await;
    assert!(matches!(answer, Err(UpstreamError::TooLarge(1024))));
    let (url, ..) = server(&["HTTP/1.1 200 OK\r\ncontent-length: 20\r\nconnection: close\r\n\r\nhalf"]).await;
    let answer = upstream(&url).ask(&asked("GET", |_| ()), ARGUMENTS, Sent::Arguments, &[]).await;
    assert!(matches!(answer, Err(UpstreamError::Protocol(_))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let asked = asked("GET", |route| route.timeout = Duration::from_millis(300));
    let answer = upstream(&silent).ask(&asked, ARGUMENTS, Sent::Arguments, &[]).await;
    assert!(matches!(answer, Err(UpstreamError::Timeout(_))));
}

#[tokio::test]
async fn a_stream_goes_through_and_holds_its_place() {
    let (url, ..) = server(&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"]).await;
    let up = upstream(&url);
    let asked = asked("POST", |route| route.stream = true);
    let chunks =
        futures_util::stream::iter([Ok(Bytes::from_static(b"one")), Ok(Bytes::from_static(b"two"))]).boxed();
    let replied = up.ask(&asked, ARGUMENTS, Sent::Streamed(chunks), &[]).await.unwrap();
    assert_eq!(up.places.available_permits(), 3);
    let all: Vec<Bytes> = replied.rest.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(all.concat(), b"hello");
    assert_eq!(up.places.available_permits(), 4);
}
