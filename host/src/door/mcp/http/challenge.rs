//! The header `WWW-Authenticate`: tells a client that was refused which credential it needs.
//!
//! Rule: RFC 6750, section 3; RFC 9728, section 5.1; MCP "Authorization", scope challenge.

use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::Resource;

/// The challenge for a caller who is not known. One who brought no credential is not told that it is wrong.
pub(super) fn unknown(resource: Option<&Resource>, path: &str, brought: bool) -> String {
    let mut facts = Vec::from_iter(brought.then(|| "error=\"invalid_token\"".to_owned()));
    facts.extend(resource.map(|resource| metadata(resource, path)));
    if let Some(resource) = resource.filter(|resource| !resource.scopes.is_empty()) {
        facts.push(format!("scope=\"{}\"", resource.scopes.join(" ")));
    }
    if facts.is_empty() {
        // RFC 6750: at least one parameter.
        facts.push("realm=\"sentinel-gateway\"".to_owned());
    }
    format!("Bearer {}", facts.join(", "))
}

/// The challenge for a known caller whose token was not granted these scopes.
pub(super) fn lacking(scopes: &str, resource: Option<&Resource>, path: &str) -> String {
    let mut facts = vec!["error=\"insufficient_scope\"".to_owned()];
    // The text comes from a plugin; a character that no scope may have could end the parameter early.
    let speakable = |b: u8| b == b' ' || (b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if !scopes.is_empty() && scopes.bytes().all(speakable) {
        facts.push(format!("scope=\"{scopes}\""));
    }
    facts.extend(resource.map(|resource| metadata(resource, path)));
    format!("Bearer {}", facts.join(", "))
}

/// The same response with the challenge.
pub(super) fn with(mut response: Response, challenge: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// The address of the metadata that says where tokens come from.
fn metadata(resource: &Resource, path: &str) -> String {
    let origin = origin_of(&resource.uri);
    format!("resource_metadata=\"{origin}/.well-known/oauth-protected-resource{path}\"")
}

fn origin_of(uri: &str) -> &str {
    let start = uri.find("://").map_or(0, |at| at + 3);
    uri[start..].find('/').map_or(uri, |slash| &uri[..start + slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(scopes: &[&str]) -> Resource {
        Resource {
            uri: "https://mcp.example.org/mcp".to_owned(),
            authorization_servers: Vec::new(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            supported: Vec::new(),
        }
    }

    const PLACE: &str =
        "resource_metadata=\"https://mcp.example.org/.well-known/oauth-protected-resource/mcp/dev\"";

    #[test]
    fn a_stranger_is_told_where_tokens_come_from() {
        let told = |resource: Option<&Resource>, brought| unknown(resource, "/mcp/dev", brought);
        assert_eq!(told(None, false), "Bearer realm=\"sentinel-gateway\"");
        assert_eq!(told(None, true), "Bearer error=\"invalid_token\"");
        assert_eq!(told(Some(&resource(&[])), false), format!("Bearer {PLACE}"));
        let all = format!("Bearer error=\"invalid_token\", {PLACE}, scope=\"a b\"");
        assert_eq!(told(Some(&resource(&["a", "b"])), true), all);
    }

    #[test]
    fn who_lacks_a_scope_is_told_which() {
        let told = |scopes, resource: Option<&Resource>| lacking(scopes, resource, "/mcp/dev");
        let all = format!("Bearer error=\"insufficient_scope\", scope=\"mcp:admin\", {PLACE}");
        assert_eq!(told("mcp:admin", Some(&resource(&["a"]))), all);
        assert_eq!(told("a b", None), "Bearer error=\"insufficient_scope\", scope=\"a b\"");
        for forged in ["", "a\", resource_metadata=\"https://evil", "a\\", "a\r\nSet-Cookie: x", "ä"] {
            assert_eq!(told(forged, None), "Bearer error=\"insufficient_scope\"", "{forged}");
        }
    }
}
