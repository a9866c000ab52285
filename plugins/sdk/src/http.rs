//! Outgoing HTTP, over standard WASI: for plugins whose manifest says `http = true` and whose operator named the hosts.
//!
//! The gateway sends the request and holds the bounds, whatever stands here: only to granted hosts, no redirects, in
//! limited time and size. [`Limits`] can only be narrower.

use std::fmt;
use std::time::Duration;

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

/// How much is read of a body at a time.
const CHUNK: u64 = 16 * 1024;

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the answer may be waited for.
    pub timeout: Duration,
    /// The longest body that is read.
    pub max_bytes: usize,
}

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status code.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name (in lower case), if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not an `http` or `https` URL.
    Url,
    /// The operator did not grant the host, or it is plain http to another machine.
    Denied,
    /// The host could not be reached, or not in time; the text is the gateway's.
    Unreachable(String),
    /// The body is longer than may be read.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("it is not an http or https URL"),
            Self::Denied => {
                f.write_str("the gateway does not let this plugin go there; its log names the host to grant")
            }
            Self::Unreachable(why) => f.write_str(why),
            Self::TooLong => f.write_str("the answer is too long"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::HttpRequestDenied => Self::Denied,
            ErrorCode::HttpRequestUriInvalid => Self::Url,
            ErrorCode::HttpResponseBodySize(_) => Self::TooLong,
            ErrorCode::ConnectionTimeout => Self::Unreachable("no connection in time".to_owned()),
            ErrorCode::HttpResponseTimeout => Self::Unreachable("no answer in time".to_owned()),
            ErrorCode::ConnectionLimitReached => {
                Self::Unreachable("too many requests of this plugin are under way".to_owned())
            }
            ErrorCode::InternalError(Some(why)) => Self::Unreachable(why),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// Asks for a document and waits for it.
///
/// # Errors
/// Whatever kept the answer from coming; an answer with an error status is an answer.
pub fn get(url: &str, limits: Limits) -> Result<Response, Error> {
    let (scheme, authority, path) = parts(url).ok_or(Error::Url)?;
    let request = OutgoingRequest::new(Fields::new());
    let prepared = request
        .set_method(&Method::Get)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(&path)));
    prepared.map_err(|()| Error::Url)?;
    let options = RequestOptions::new();
    let timeout = u64::try_from(limits.timeout.as_nanos()).unwrap_or(u64::MAX);
    // Where it cannot be set, the gateway's own limit stands.
    let _ = options.set_first_byte_timeout(Some(timeout));
    let future = outgoing_handler::handle(request, Some(options))?;
    let response = loop {
        match future.get() {
            Some(Ok(answer)) => break answer?,
            Some(Err(())) => return Err(Error::Unreachable("the answer was taken already".to_owned())),
            None => future.subscribe().block(),
        }
    };
    let headers = response.headers().entries();
    let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    Ok(Response { status: response.status(), headers, body: body(&response, limits.max_bytes)? })
}

/// Waits; the gateway bounds how long one call may wait in all.
pub fn pause(time: Duration) {
    monotonic_clock::subscribe_duration(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).block();
}

fn body(response: &IncomingResponse, max: usize) -> Result<Vec<u8>, Error> {
    let broken = || Error::Unreachable("the answer broke off".to_owned());
    let body: IncomingBody = response.consume().map_err(|()| broken())?;
    let stream = body.stream().map_err(|()| broken())?;
    let mut whole = Vec::new();
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(bytes) if whole.len() + bytes.len() > max => return Err(Error::TooLong),
            Ok(bytes) => whole.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(whole),
            Err(StreamError::LastOperationFailed(_)) => return Err(broken()),
        }
    }
}

/// Scheme, authority, and path with query.
fn parts(url: &str) -> Option<(Scheme, &str, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    (!authority.is_empty()).then_some((scheme, authority, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let taken = |url| parts(url).map(|(_, authority, path)| (authority.to_owned(), path));
        let is = |authority: &str, path: &str| Some((authority.to_owned(), path.to_owned()));
        assert_eq!(taken("https://a.example/keys?x=1#top"), is("a.example", "/keys?x=1"));
        assert_eq!(taken("HTTP://127.0.0.1:8443"), is("127.0.0.1:8443", "/"));
        assert_eq!(taken("https://a?b"), is("a", "/?b"));
        for bad in ["ftp://a/", "a/b", "https://", "https:///x"] {
            assert_eq!(taken(bad), None, "{bad}");
        }
    }
}
