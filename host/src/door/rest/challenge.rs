//! The header `WWW-Authenticate` of a route (RFC 6750, section 3).

use axum::http::HeaderValue;

use crate::config::rest::RouteAuth;

/// The challenge of a route: a token, or a key, which RFC 6750 has no word for.
pub(super) fn challenge(auth: RouteAuth, brought: bool, scopes: Option<&str>) -> HeaderValue {
    let speakable = |scopes: &&str| {
        !scopes.is_empty()
            && scopes.bytes().all(|b| b == b' ' || b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    let text = match (auth, scopes) {
        (_, Some(scopes)) => {
            let scopes = Some(scopes).filter(speakable).map(|scopes| format!(", scope=\"{scopes}\""));
            format!("Bearer error=\"insufficient_scope\"{}", scopes.unwrap_or_default())
        }
        (RouteAuth::ApiKey, None) => "ApiKey realm=\"sentinel-gateway\", header=\"X-API-Key\"".to_owned(),
        (_, None) if brought => "Bearer error=\"invalid_token\"".to_owned(),
        (_, None) => "Bearer realm=\"sentinel-gateway\"".to_owned(),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"))
}
