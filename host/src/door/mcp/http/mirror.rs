//! The headers of a stateless request must say what its body says. Otherwise a proxy that routes by the headers and a
//! server that acts on the body could be made to disagree (2026-07-28, "Transports", header validation).

use axum::http::request::Parts;
use serde_json::json;
use serde_json::value::RawValue;

use super::refusal::Refusal;
use super::{Mount, Refused, reply};
use crate::call::{self, Denial};
use crate::mcp::{code, header, message, splice};

/// Compares every header that repeats something.
pub(super) fn check(
    mount: &Mount,
    parts: &Parts,
    id: &RawValue,
    method: &str,
    params: &str,
) -> Result<(), Refused> {
    let version = splice::get(params, "/_meta/io.modelcontextprotocol~1protocolVersion");
    let version = version.and_then(|version| serde_json::from_str::<String>(version).ok());
    let mut wanted = vec![("mcp-method".to_owned(), Some(method.to_owned()))];
    // Without a version in the body the request is refused for that.
    wanted.extend(version.map(|version| ("mcp-protocol-version".to_owned(), Some(version))));
    if let Some(pointer) = header::name_pointer(method) {
        wanted.push(("mcp-name".to_owned(), header::text_at(params, pointer)));
    }
    if method == "tools/call"
        && let Some(name) = header::text_at(params, "/name")
    {
        for mirrored in mount.endpoint.pipeline.mirrored(&name) {
            let value = header::text_at(params, &format!("/arguments{}", mirrored.pointer));
            wanted.push((format!("mcp-param-{}", mirrored.header.to_ascii_lowercase()), value));
        }
    }
    for (name, value) in wanted {
        let sent = match parts.headers.get(name.as_str()) {
            Some(sent) => {
                Some(header::decode(sent.as_bytes()).map_err(|error| mismatch(id, &error.to_string()))?)
            }
            None => None,
        };
        if sent != value {
            let text = match (&sent, &value) {
                (None, _) => format!("the header {name} is missing: it must repeat what the body says"),
                (Some(_), None) => format!("the header {name} repeats something that is not in the body"),
                (Some(_), Some(_)) => format!("the header {name} and the body say different things"),
            };
            return Err(mismatch(id, &text));
        }
    }
    Ok(())
}

fn mismatch(id: &RawValue, text: &str) -> Refused {
    let data = json!({ "reason": "header_mismatch" });
    let response = reply(400, message::error(id.get(), code::HEADER_MISMATCH, text, &data));
    Refusal::new(response, Denial::new(call::DenialKind::InvalidArguments, "header_mismatch", text))
}
