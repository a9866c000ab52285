//! What an HTTP request must look like before anything else looks at it: pure checks on its head.
//!
//! They prevent DNS rebinding and requests from foreign web pages (Host, Origin, media types), and they refuse what two
//! readers could understand differently (framing, repeated headers). Every check refuses when in doubt.

mod media;
mod names;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};

pub use media::Form;
pub(crate) use media::{accept_events, accept_rpc, content_type_json};
pub use names::{Hosts, ListError, Origins};

/// Headers that may appear once only. All `Mcp-*` headers and all that bring credentials belong to them too: see
/// [`singles`].
const SINGLE: [&str; 9] = [
    "authorization",
    "content-length",
    "content-type",
    "host",
    "origin",
    "proxy-authorization",
    "transfer-encoding",
    "x-api-key",
    "x-capability-token",
];

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub status: StatusCode,
    /// What happened and what to do next; fit for the client's eyes.
    pub message: String,
}

impl Rejection {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

/// Everything that holds for every request, whatever its method: [`singles`], [`framing`], [`host`] and [`origin`].
///
/// # Errors
/// The first check that says no.
pub fn head(
    parts: &Parts,
    hosts: &Hosts,
    origins: &Origins,
    credentials: &[String],
) -> Result<(), Rejection> {
    singles(&parts.headers, credentials)?;
    framing(parts)?;
    host(parts, hosts)?;
    origin(&parts.headers, origins)
}

/// No header twice that two readers could pick differently: what a proxy in front judged must be what is read here.
/// `credentials` are the headers that authenticators read.
///
/// # Errors
/// 400, naming the header.
pub(crate) fn singles(headers: &HeaderMap, credentials: &[String]) -> Result<(), Rejection> {
    // A map with as many values as names, which is nearly every one, repeats nothing.
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    for name in headers.keys() {
        // `MCP-Protocol-Version`, `Mcp-Session-Id`, `Mcp-Method`, `Mcp-Name` and every `Mcp-Param-*`.
        let single = name.as_str().starts_with("mcp-")
            || SINGLE.contains(&name.as_str())
            || credentials.iter().any(|credential| credential == name.as_str());
        if single && headers.get_all(name).iter().nth(1).is_some() {
            return Err(Rejection::bad(format!("the header {name} appears more than once: send it once")));
        }
    }
    Ok(())
}

/// Refuses the forms of request smuggling (RFC 9112 section 6.1) that hyper lets pass.
///
/// hyper 1.12 itself refuses differing lengths, signed lengths, codings that do not end in `chunked`, and codings on
/// HTTP/1.0. Of a request with both a length and a coding it removes the length, reads the chunks and closes the
/// connection, before this function can see it; the rule stands here for the day it does not.
///
/// # Errors
/// 400 for contradictory framing, 501 for a coding other than `chunked`, 415 for a compressed body, 417 for an
/// expectation other than `100-continue`.
pub fn framing(parts: &Parts) -> Result<(), Rejection> {
    let headers = &parts.headers;
    if let Some(coding) = headers.get(header::TRANSFER_ENCODING) {
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Err(Rejection::bad(
                "the request has both Content-Length and Transfer-Encoding: send one of them",
            ));
        }
        if parts.version < Version::HTTP_11 {
            return Err(Rejection::bad("HTTP/1.0 has no Transfer-Encoding: send Content-Length"));
        }
        if !trimmed(coding).eq_ignore_ascii_case(b"chunked") {
            let message = "the only Transfer-Encoding understood here is chunked: send the body plain";
            return Err(Rejection::new(StatusCode::NOT_IMPLEMENTED, message));
        }
    }
    for coding in headers.get_all(header::CONTENT_ENCODING) {
        if !trimmed(coding).eq_ignore_ascii_case(b"identity") {
            let message = "compressed bodies are not taken: send the body without Content-Encoding";
            return Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    }
    for expectation in headers.get_all(header::EXPECT) {
        if !trimmed(expectation).eq_ignore_ascii_case(b"100-continue") {
            let message = "the only Expect understood here is 100-continue: leave the header out";
            return Err(Rejection::new(StatusCode::EXPECTATION_FAILED, message));
        }
    }
    Ok(())
}

/// The request is meant for one of our names. A page whose own name was re-pointed at this machine (DNS rebinding)
/// still sends that name.
///
/// # Errors
/// 400 without a readable Host, or when the request line names another; 403 for a name that is not allowed.
pub fn host(parts: &Parts, allowed: &Hosts) -> Result<(), Rejection> {
    let mut values = parts.headers.get_all(header::HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Rejection::bad(
            "a request needs exactly one Host header: send the name you connected to",
        ));
    };
    let Some(name) = names::Authority::parse(trimmed(value)) else {
        return Err(Rejection::bad("the Host header is not a name with an optional port: correct it"));
    };
    // RFC 9112 section 3.2.2: the request line would win; here they have to agree.
    if let Some(authority) = parts.uri.authority()
        && names::Authority::parse(authority.as_str().as_bytes()).as_ref() != Some(&name)
    {
        return Err(Rejection::bad(
            "the request line and the Host header name different hosts: send one name",
        ));
    }
    if allowed.admit(&name) {
        return Ok(());
    }
    let message = format!(
        "the host {} is not served here: connect by an allowed name, or add it to the gateway's allowed hosts",
        shown(value.as_bytes())
    );
    Err(Rejection::new(StatusCode::FORBIDDEN, message))
}

/// Whether a request is addressed to a name of the loopback, whatever other names are allowed.
#[must_use]
pub(crate) fn by_loopback_name(parts: &Parts) -> bool {
    let host = parts.headers.get(header::HOST).map(trimmed);
    host.and_then(names::Authority::parse).is_some_and(|host| host.loopback())
}

/// The request is meant for one of our names, or for the very address its connection came to: a page whose name was
/// re-pointed at this machine sends that name, never an address.
///
/// # Errors
/// As for [`host`].
pub(crate) fn host_or_address(
    parts: &Parts,
    allowed: &Hosts,
    local: Option<IpAddr>,
) -> Result<(), Rejection> {
    let refused = match host(parts, allowed) {
        Err(refused) if refused.status == StatusCode::FORBIDDEN => refused,
        settled => return settled,
    };
    let sent = parts.headers.get(header::HOST).map(trimmed).and_then(names::Authority::parse);
    let addressed = local.is_some_and(|local| sent.is_some_and(|sent| sent.is(local)));
    if addressed { Ok(()) } else { Err(refused) }
}

/// No Origin (not a browser), or an allowed one.
///
/// # Errors
/// 403 (MCP "Streamable HTTP", security warning), or 400 if there are several.
pub fn origin(headers: &HeaderMap, allowed: &Origins) -> Result<(), Rejection> {
    let mut values = headers.get_all(header::ORIGIN).iter();
    let Some(value) = values.next() else { return Ok(()) };
    if values.next().is_some() {
        return Err(Rejection::bad("the header origin appears more than once: send it once"));
    }
    if allowed.admit(trimmed(value)) {
        return Ok(());
    }
    let message = format!(
        "web pages of the origin {} may not call this gateway: add it to the gateway's allowed origins if they should",
        shown(value.as_bytes())
    );
    Err(Rejection::new(StatusCode::FORBIDDEN, message))
}

/// The token of `Authorization: Bearer <token>`; none without the header. Tokens in the query are never looked at.
///
/// # Errors
/// 401 for another scheme or an unreadable token, 400 for several headers. The message never repeats the value.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Rejection::bad("the header authorization appears more than once: send it once"));
    }
    let refused = || {
        let message = "the Authorization header is not \"Bearer\", a space and a token: send it so";
        Rejection::new(StatusCode::UNAUTHORIZED, message)
    };
    let text = std::str::from_utf8(trimmed(value)).map_err(|_| refused())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(refused)?;
    let token = token.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer")
        || token.is_empty()
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(refused());
    }
    Ok(Some(token))
}

/// Without the optional white space around it (RFC 9110 section 5.5); a header value has no other.
fn trimmed(value: &HeaderValue) -> &[u8] {
    value.as_bytes().trim_ascii()
}

/// What a client sent, short and harmless enough for a message.
fn shown(value: &[u8]) -> String {
    let short = &value[..value.len().min(80)];
    format!("\"{}\"{}", short.escape_ascii(), if short.len() < value.len() { "…" } else { "" })
}
