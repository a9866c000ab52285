//! The headers that a browser needs before it lets a web page of another origin call (WHATWG Fetch, "CORS protocol"); both doors
//! over HTTP answer with them.
//!
//! Only pages of allowed origins are told anything, and each only of its own origin, never of `*`. No answer allows
//! credentials that the browser adds by itself (cookies, client certificates): the gateway looks at none, so a page has to
//! hold the token that it calls with.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::guard::{self, Origins};

/// How long a browser need not ask again, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// The longest list of headers that is answered. A request's own headers are bounded, too.
const MAX_ASKED: usize = 4_096;
const ASKED_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Whether a browser asks here what a page may do. A plain `OPTIONS` is a request like any other.
pub(super) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that. It comes before authentication, because a browser asks without the page's token.
pub(super) fn preflight(parts: &Parts, methods: HeaderValue) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    // The origin may do all this, so it may send whatever headers it wants: none means more than it would from another
    // program. A list of our own would leave out `Mcp-Param-…`, and what tracing adds.
    let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(asked) = asked.filter(|asked| is_list_of_names(asked.as_bytes())) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    if parts.headers.get(ASKED_NETWORK).is_some_and(|asked| asked == "true") {
        headers.insert(ALLOW_NETWORK, HeaderValue::from_static("true"));
    }
    let vary = "Access-Control-Request-Method, Access-Control-Request-Headers";
    headers.append(header::VARY, HeaderValue::from_static(vary));
    response
}

/// The same answer, so that the page that asked for it may read it and its headers that are `exposed`, if its origin is allowed.
pub(super) fn readable(
    asked: &HeaderMap,
    origins: &Origins,
    exposed: HeaderValue,
    mut response: Response,
) -> Response {
    let Some(origin) = asked.get(header::ORIGIN) else { return response };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if guard::origin(asked, origins).is_ok() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// Takes out what an upstream says of pages: it is not the upstream's to say who may read an answer of the gateway.
pub(super) fn forget(headers: &mut HeaderMap) {
    for name in [
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
    ] {
        headers.remove(name);
    }
}

fn is_list_of_names(list: &[u8]) -> bool {
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b' ' | b'.');
    list.len() <= MAX_ASKED && list.iter().all(name)
}
