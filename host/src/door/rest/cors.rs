//! What a browser needs before it lets a web page of another origin call (WHATWG Fetch, "CORS protocol"). Only pages of the
//! allowed origins are told anything, and each only of its own origin.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::Front;
use crate::door::guard;

/// The headers of an answer that a page may read, besides those that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "WWW-Authenticate, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, traceparent, Idempotent-Replayed, ETag, Location, Deprecation, Sunset",
);
/// How long a browser need not ask again, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// The longest list of headers that is answered.
const MAX_ASKED: usize = 4_096;

/// Whether a browser asks here what a page may do. A plain `OPTIONS` is a request like any other.
pub(super) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that, before any credential is looked at, because a browser asks without the page's.
pub(super) fn preflight(parts: &Parts, allow: &HeaderValue) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow.clone());
    let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(asked) = asked.filter(|asked| is_list_of_names(asked.as_bytes())) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    let vary = "Access-Control-Request-Method, Access-Control-Request-Headers";
    headers.append(header::VARY, HeaderValue::from_static(vary));
    response
}

impl Front {
    /// The same answer, so that the page that asked for it may read it, if its origin is allowed.
    pub(super) fn readable(&self, asked: &HeaderMap, mut response: Response) -> Response {
        let headers = response.headers_mut();
        // What an upstream says of pages is not ours to say.
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            headers.remove(name);
        }
        let Some(origin) = asked.get(header::ORIGIN) else { return response };
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if guard::origin(asked, &self.origins).is_ok() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
        response
    }
}

fn is_list_of_names(list: &[u8]) -> bool {
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b',' | b' ' | b'.');
    list.len() <= MAX_ASKED && list.iter().all(name)
}
