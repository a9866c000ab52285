//! One request of a transport: where it goes, with which headers, and along which redirects.

use std::net::IpAddr;

use bytes::Bytes;
use parking_lot::RwLock;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};

use super::super::transport::TransportError;
use super::{HttpSpec, Link, client, headers};
use crate::outbound::explain;
use crate::redact::Words;

/// Redirects in a row that are followed.
const HOPS: usize = 3;

/// Where every request goes, and the headers it always has.
#[derive(Debug)]
pub(super) struct Target {
    url: Url,
    headers: HeaderMap,
    /// The encodings in which bodies may be compressed.
    encodings: HeaderValue,
    /// The address to which the server has moved permanently.
    moved: RwLock<Option<Url>>,
    /// The proxy on the way, for messages.
    proxy: Option<String>,
    /// Whether it is reached by TLS, and the gateway has no certificate of its own to show.
    is_nameless: bool,
}

impl Target {
    pub(super) fn new(spec: &HttpSpec) -> Result<Self, TransportError> {
        // The URL may hold a credential: the error names the problem, not the text.
        let url = Url::parse(&spec.url)
            .map_err(|error| TransportError::Unreachable(format!("its URL is not one: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TransportError::Unreachable("its URL is neither http nor https".to_owned()));
        }
        let mut headers = HeaderMap::new();
        headers::extend(&mut headers, &spec.headers)?;
        // On this machine compressing costs more than it saves.
        let encodings = if is_local(&url) { "identity" } else { "gzip, deflate, br" };
        Ok(Self {
            is_nameless: url.scheme() == "https" && spec.route.identity.is_none(),
            url,
            headers,
            encodings: HeaderValue::from_static(encodings),
            moved: RwLock::new(None),
            proxy: client::shown(&spec.route),
        })
    }

    /// Whether the url is like those of servers of 2024-11-05.
    pub(super) fn is_of_old_form(&self) -> bool {
        self.url.path().trim_end_matches('/').ends_with("/sse")
    }

    fn place(&self) -> Url {
        self.moved.read().clone().unwrap_or_else(|| self.url.clone())
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// One request.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    method: Method,
    accept: &'static str,
    extra: &'a [(String, String)],
    body: Option<Bytes>,
    /// Another address than the target's.
    url: Option<&'a Url>,
    session: Option<&'a HeaderValue>,
    last_event: Option<&'a str>,
    /// Whether it says which revision was agreed on.
    versioned: bool,
}

impl<'a> Sending<'a> {
    pub(super) fn post(body: Bytes, extra: &'a [(String, String)]) -> Self {
        let accept = "application/json, text/event-stream";
        Self { accept, extra, body: Some(body), ..Self::bare(Method::POST) }
    }

    pub(super) fn get(last_event: Option<&'a str>) -> Self {
        Self { accept: "text/event-stream", last_event, ..Self::bare(Method::GET) }
    }

    pub(super) fn delete() -> Self {
        Self::bare(Method::DELETE)
    }

    fn bare(method: Method) -> Self {
        Self {
            method,
            accept: "*/*",
            extra: &[],
            body: None,
            url: None,
            session: None,
            last_event: None,
            versioned: true,
        }
    }

    pub(super) fn to(self, url: &'a Url) -> Self {
        Self { url: Some(url), ..self }
    }

    pub(super) fn within(self, session: Option<&'a HeaderValue>) -> Self {
        Self { session, ..self }
    }

    /// The first words of a session, before anything was agreed on.
    pub(super) fn unversioned(self) -> Self {
        Self { versioned: false, ..self }
    }
}

/// Sends a request and waits for the head of the answer, however long that takes. Redirects that keep method and body are
/// followed within the origin; no credential leaves it.
///
/// # Errors
/// There is no answer, or it points elsewhere.
pub(super) async fn send(link: &Link, request: &Sending<'_>) -> Result<Response, TransportError> {
    let target = link.target.as_ref().map_err(Clone::clone)?;
    let mut url = request.url.cloned().unwrap_or_else(|| target.place());
    for _ in 0..=HOPS {
        let sent = prepare(link, target, request, url.clone())?.send().await;
        let response = sent.map_err(|error| transport(target, error))?;
        let Some(location) = location(&response) else { return Ok(response) };
        let status = response.status();
        let next = url.join(&location).ok();
        let follows = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        match next {
            Some(mut next) if follows && next.origin() == url.origin() && next.username().is_empty() => {
                next.set_fragment(None);
                let for_good = status == StatusCode::PERMANENT_REDIRECT || differ_by_a_slash(&url, &next);
                if for_good && request.url.is_none() {
                    *target.moved.write() = Some(next.clone());
                }
                url = next;
            }
            next => {
                let place = next.map_or(location, |next| String::from(as_safe_as(&url, next)));
                let text = format!("it points to {place}; if that is the server, write it as `url`");
                return Err(redirected(status, link.redaction.words(&text)));
            }
        }
    }
    let text = format!("it redirects more than {HOPS} times in a row");
    Err(redirected(StatusCode::TEMPORARY_REDIRECT, link.redaction.words(&text)))
}

fn redirected(status: StatusCode, said: Words) -> TransportError {
    TransportError::Status { status: status.as_u16(), retry_after: None, said }
}

/// Where an answer points to, if that is all it says.
fn location(response: &Response) -> Option<String> {
    const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
    if !REDIRECTS.contains(&response.status().as_u16()) {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// A server behind a proxy that ends TLS often does not know that, and redirects to its own address with plain http.
fn as_safe_as(url: &Url, mut next: Url) -> Url {
    if url.scheme() == "https" && next.scheme() == "http" && url.host_str() == next.host_str() {
        // Both are schemes that change into each other.
        let _ = next.set_scheme("https");
        let _ = next.set_port(url.port());
    }
    next
}

/// Whether two addresses differ only by a slash at the end: frameworks redirect so, with various statuses.
fn differ_by_a_slash(one: &Url, other: &Url) -> bool {
    one.path().trim_end_matches('/') == other.path().trim_end_matches('/') && one.query() == other.query()
}

fn prepare(
    link: &Link,
    target: &Target,
    request: &Sending<'_>,
    url: Url,
) -> Result<reqwest::RequestBuilder, TransportError> {
    let mut headers = target.headers.clone();
    if request.versioned
        && let Some(version) = link.version.read().clone()
    {
        headers.insert(headers::PROTOCOL_VERSION, version);
    }
    headers::extend(&mut headers, request.extra)?;
    if let Some(session) = request.session {
        headers.insert(headers::SESSION, session.clone());
    }
    headers.insert(ACCEPT, HeaderValue::from_static(request.accept));
    // An id with bytes that no header can carry is as good as none.
    if let Some(last) = request.last_event.and_then(|last| HeaderValue::from_bytes(last.as_bytes()).ok()) {
        headers.insert(headers::LAST_EVENT_ID, last);
    }
    let mut builder = link.client.request(request.method.clone(), url);
    match &request.body {
        Some(body) => {
            headers.insert(ACCEPT_ENCODING, target.encodings.clone());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            builder = builder.body(body.clone());
        }
        // A proxy that compresses a stream may hold its events back.
        None => {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
    }
    Ok(builder.headers(headers))
}

/// [`TransportError::Unreachable`] only if there was no connection, or if the connection says itself that the request was
/// not looked at. In all other cases the server may have acted.
fn transport(target: &Target, error: reqwest::Error) -> TransportError {
    let unseen = error.is_connect() || error.is_builder() || was_not_looked_at(&error);
    let mut text = explain(error);
    for (sign, hint) in [
        ("UnknownIssuer", "an authority of your own is named by tls.ca_file"),
        ("CertificateRequired", "the gateway's own is named by tls.cert_file"),
    ] {
        if text.contains(sign) {
            text = format!("{text} ({hint})");
        }
    }
    // With TLS 1.3 the server judges our certificate when for us the handshake is over. What it says of it is lost where the
    // connection ends before it was read.
    let ended =
        ["connection closed", "Connection reset", "Broken pipe"].iter().any(|sign| text.contains(sign));
    if target.is_nameless && ended {
        text.push_str(
            " (servers that ask for a certificate end it so: the gateway's own is named by tls.cert_file)",
        );
    }
    if let Some(proxy) = &target.proxy {
        text = format!("{text}, through the proxy {proxy}");
    }
    if unseen {
        TransportError::Unreachable(text)
    } else {
        TransportError::Protocol(format!("the connection broke off: {text}"))
    }
}

/// RFC 9113, section 8.7: a stream that was refused, or that is above the last one a connection that is given up will take,
/// may be sent again whatever it asks for. The client does it twice; this is for what it gave back.
pub(in crate::backend) fn was_not_looked_at(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let given_up = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (refused || given_up);
        }
        cause = error.source();
    }
    false
}
