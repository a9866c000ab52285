//! As much of HTTP/1.1 as both ends of a measurement need: heads by `httparse`, bodies by length or in chunks, and
//! the events of a stream.

use anyhow::{Context as _, bail};

/// The longest head that is understood.
const MAX_HEAD: usize = 16 << 10;

/// A request, once its head is whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) post: bool,
    /// Bytes of the head.
    pub(crate) head: usize,
    /// Bytes of the body.
    pub(crate) body: usize,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes(usize),
    Chunked,
    /// The end of the connection.
    Close,
}

/// The head of a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes of the head.
    pub(crate) bytes: usize,
    pub(crate) length: Length,
    /// The body is a stream of events.
    pub(crate) events: bool,
    pub(crate) session: Option<String>,
}

/// Reads the head of a request; none if more bytes are needed.
///
/// # Errors
/// If it is no HTTP, or too long.
pub(crate) fn request(bytes: &[u8]) -> anyhow::Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes).context("no HTTP request")? {
        httparse::Status::Partial => too_long(bytes),
        httparse::Status::Complete(head) => {
            let post = request.method == Some("POST");
            let body = value(request.headers, "content-length").map_or(Ok(0), str::parse)?;
            if value(request.headers, "transfer-encoding").is_some() {
                bail!("a request in chunks");
            }
            Ok(Some(Request { post, head, body }))
        }
    }
}

/// Reads the head of a response; none if more bytes are needed.
///
/// # Errors
/// If it is no HTTP, or too long.
pub(crate) fn response(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes).context("no HTTP response")? {
        httparse::Status::Partial => too_long(bytes),
        httparse::Status::Complete(head) => {
            let status = response.code.unwrap_or_default();
            let chunked = value(response.headers, "transfer-encoding")
                .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
            let length = match value(response.headers, "content-length") {
                _ if chunked => Length::Chunked,
                Some(length) => Length::Bytes(length.trim().parse().context("no length")?),
                None if status == 202 || status == 204 => Length::Bytes(0),
                None => Length::Close,
            };
            let events = value(response.headers, "content-type")
                .is_some_and(|kind| kind.starts_with("text/event-stream"));
            let session = value(response.headers, "mcp-session-id").map(str::to_owned);
            Ok(Some(Head { status, bytes: head, length, events, session }))
        }
    }
}

fn too_long<T>(bytes: &[u8]) -> anyhow::Result<Option<T>> {
    if bytes.len() > MAX_HEAD {
        bail!("a head of more than {MAX_HEAD} bytes");
    }
    Ok(None)
}

fn value<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}

/// A body in chunks, put together as it arrives.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// Bytes of the current chunk that are still to come.
    left: usize,
    /// The line end behind a chunk is still to come.
    closing: bool,
}

impl Chunks {
    /// Moves what is there from `raw` to `body`; true at the end of the body. What is not whole stays in `raw`.
    ///
    /// # Errors
    /// If these are no chunks.
    pub(crate) fn take(&mut self, raw: &mut Vec<u8>, body: &mut Vec<u8>) -> anyhow::Result<bool> {
        let mut at = 0;
        let done = loop {
            if self.left > 0 {
                let count = self.left.min(raw.len() - at);
                body.extend_from_slice(&raw[at..at + count]);
                (self.left, at) = (self.left - count, at + count);
                if self.left > 0 {
                    break false;
                }
            }
            if self.closing {
                if raw.len() - at < 2 {
                    break false;
                }
                (self.closing, at) = (false, at + 2);
            }
            match httparse::parse_chunk_size(&raw[at..]) {
                Ok(httparse::Status::Partial) => break false,
                Ok(httparse::Status::Complete((line, 0))) => {
                    // The last chunk and the empty line; nobody here sends trailers.
                    if raw.len() - at < line + 2 {
                        break false;
                    }
                    at += line + 2;
                    break true;
                }
                Ok(httparse::Status::Complete((line, size))) => {
                    at += line;
                    self.left = usize::try_from(size)?;
                    self.closing = true;
                }
                Err(_) => bail!("no size of a chunk"),
            }
        };
        raw.drain(..at);
        Ok(done)
    }
}

/// The data of the events in a body that is whole.
pub(crate) fn events(body: &[u8]) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    let mut data: Option<Vec<u8>> = None;
    for line in body.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            events.extend(data.take().filter(|data| !data.is_empty()));
        } else if let Some(value) = line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            }
        }
    }
    events
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn heads_say_where_bodies_end() {
        let text = b"POST /mcp HTTP/1.1\r\nHost: a\r\ncontent-length: 12\r\n\r\n";
        assert_eq!(request(text).unwrap(), Some(Request { post: true, head: text.len(), body: 12 }));
        assert_eq!(request(&text[..20]).unwrap(), None);
        assert!(request(b"{}\r\n\r\n").is_err());
        let head =
            |more: &str| response(format!("HTTP/1.1 200 OK\r\n{more}\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!(head("Content-Length: 3\r\n").length, Length::Bytes(3));
        assert_eq!(head("Transfer-Encoding: chunked\r\n").length, Length::Chunked);
        assert_eq!(head("").length, Length::Close);
        assert!(head("Content-Type: text/event-stream; charset=utf-8\r\n").events);
        assert_eq!(head("MCP-Session-Id: a1\r\n").session.as_deref(), Some("a1"));
    }

    #[test]
    fn chunks_come_together_however_they_are_cut() {
        let wire = b"4\r\nWiki\r\n6;x=y\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n";
        for step in 1..wire.len() {
            let (mut chunks, mut raw, mut body) = (Chunks::default(), Vec::new(), Vec::new());
            let mut done = false;
            for piece in wire.chunks(step) {
                assert!(!done, "the end came too early");
                raw.extend_from_slice(piece);
                done = chunks.take(&mut raw, &mut body).unwrap();
            }
            assert!(done && raw.is_empty(), "in steps of {step}");
            assert_eq!(body, b"Wikipedia in \r\n\r\nchunks.");
        }
    }

    #[test]
    fn events_without_data_are_none() {
        let body = b"id: 1\ndata:\n\n: ping\n\nevent: message\r\ndata: {\"a\":1}\r\n\r\ndata: x\ndata: y\n\n";
        assert_eq!(events(body), [b"{\"a\":1}".to_vec(), b"x\ny".to_vec()]);
    }
}
