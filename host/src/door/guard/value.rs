//! Header values as MCP 2026-07-28 writes them: plain when safe, else `=?base64?…?=`.

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Rejection;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// Reads the value of an `Mcp-*` header: optional white space off, Base64 undone.
///
/// # Errors
/// 400: bytes outside ASCII, or an encoded form that is not Base64 of UTF-8.
pub fn mcp_value(value: &HeaderValue) -> Result<String, Rejection> {
    let text = match std::str::from_utf8(trimmed(value)) {
        Ok(text) if text.is_ascii() => text,
        _ => {
            return Err(Rejection::bad(
                "a header value holds bytes that are not ASCII: send it as =?base64?<Base64 of the UTF-8>?=",
            ));
        }
    };
    let Some(inner) = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return Ok(text.to_owned());
    };
    let unreadable = || {
        Rejection::bad(
            "a header value in =?base64?…?= is not Base64 of UTF-8: encode the value again, with padding",
        )
    };
    String::from_utf8(STANDARD.decode(inner).map_err(|_| unreadable())?).map_err(|_| unreadable())
}

/// Writes the value of an `Mcp-*` header; [`mcp_value`] reads it back.
///
/// Plain if made of visible ASCII and inner spaces and not looking like the encoded form; the result is always a
/// valid header value.
#[must_use]
pub fn mcp_header(value: &str) -> String {
    let plain = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
        && !value.starts_with(' ')
        && !value.ends_with(' ')
        && !looks_encoded(value);
    if plain { value.to_owned() } else { format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(value)) }
}

/// Wider than what [`mcp_value`] decodes: a reader that ignores case must not be misled either.
fn looks_encoded(value: &str) -> bool {
    value.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
        && value.ends_with(SUFFIX)
}

/// Without the optional white space around it (RFC 9110 section 5.5: space and tab).
pub(super) fn trimmed(value: &HeaderValue) -> &[u8] {
    let bytes = value.as_bytes();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}
