//! A request that is no HTTP: the parser answers it by itself and says nothing but a status. Here its answer gets a body that
//! says what was wrong, as every other refusal does (RFC 9457).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the parser's answer begins with, the reason that stands for it, and what to do.
const ANSWERS: [(&str, u16, &str, &str, &str); 3] = [
    ("HTTP/1.1 400 ", 400, "Bad Request", "bad_request", "this is no HTTP request: send one by RFC 9112"),
    ("HTTP/1.1 414 ", 414, "URI Too Long", "too_long", "the request line is too long: send less of it"),
    (
        "HTTP/1.1 431 ",
        431,
        "Request Header Fields Too Large",
        "headers_too_large",
        "the headers are too long or too many: send fewer",
    ),
];

/// A socket whose answers of the parser have a body.
pub(super) struct Unparsed<I> {
    io: I,
    /// What is written in place of the parser's words.
    instead: Bytes,
}

impl<I> Unparsed<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, instead: Bytes::new() }
    }

    pub(super) fn into_inner(self) -> I {
        self.io
    }
}

/// The answer in place of the parser's, if these bytes are one. All others that this program gives have more headers.
fn instead(bytes: &[u8]) -> Option<Bytes> {
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let (_, status, title, reason, detail) = ANSWERS.iter().find(|(start, ..)| head.starts_with(start))?;
    let own = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        ["connection", "content-length", "date"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    if !head.split("\r\n").skip(1).all(own) || !head.contains("content-length: 0") {
        return None;
    }
    let id = uuid::Uuid::now_v7();
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":\"{detail}\",\"reason\":\"{reason}\",\"request_id\":\"{id}\"}}\n"
    );
    let length = body.len();
    let head = head.replace("content-length: 0", &format!("content-length: {length}"));
    Some(Bytes::from(format!(
        "{head}\r\ncontent-type: application/problem+json\r\nx-request-id: {id}\r\n\r\n{body}"
    )))
}

impl<I: AsyncWrite + Unpin> Unparsed<I> {
    /// Writes all that stands in place of something else.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes these bytes for the parser's, if they are. They count as written once what stands for them is.
    fn poll_taken(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.instead.is_empty() {
            if !bytes.starts_with(b"HTTP/1.1 4") {
                return None;
            }
            self.instead = instead(bytes)?;
        }
        // hyper offers the same bytes again until they are taken.
        Some(self.poll_instead(cx).map_ok(|()| bytes.len()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Unparsed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Unparsed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_taken(cx, bytes) {
            Some(taken) => taken,
            None => Pin::new(&mut self.io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The parser's answer is one piece.
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        let alone = slices.iter().filter(|slice| !slice.is_empty()).count() == 1;
        match alone.then(|| self.poll_taken(cx, first)).flatten() {
            Some(taken) => taken,
            None => Pin::new(&mut self.io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parsers_own_words_are_replaced() {
        let own = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let text = instead(own.as_bytes()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert!(
            head.contains(&format!("content-length: {}", body.len())) && head.contains("connection: close"),
            "{text}"
        );
        assert!(body.contains("\"reason\":\"headers_too_large\""), "{body}");
        for other in [
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nx-request-id: 1\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nabc",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
        ] {
            assert_eq!(instead(other.as_bytes()), None, "{other}");
        }
    }
}
