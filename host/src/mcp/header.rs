//! The HTTP headers of the stateless era: what of a message they repeat, and how a value is spelled in them.
//!
//! Rule: MCP 2026-07-28, "Transports", streamable HTTP, standard and custom headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sentinel_names::headers;
use serde_json::value::RawValue;

use super::{STATELESS, splice};

/// A header that repeats one argument of a tool: its name and the argument's JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirrored {
    pub header: String,
    pub pointer: String,
}

/// The JSON pointer to the target of a request in its params.
#[must_use]
pub(crate) fn name_pointer(method: &str) -> Option<&'static str> {
    Some(match method {
        "tools/call" | "prompts/get" => "/name",
        "resources/read" => "/uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "/taskId",
        _ => return None,
    })
}

/// The headers that repeat a request's body.
#[must_use]
pub(crate) fn of_request(method: &str, params: &str, mirrored: &[Mirrored]) -> Vec<(String, String)> {
    let mut headers = vec![
        ("mcp-protocol-version".to_owned(), STATELESS.to_owned()),
        ("mcp-method".to_owned(), encode(method)),
    ];
    let name = name_pointer(method).and_then(|pointer| text_at(params, pointer));
    headers.extend(name.map(|name| ("mcp-name".to_owned(), encode(&name))));
    for Mirrored { header, pointer } in mirrored {
        if let Some(value) = text_at(params, &format!("/arguments{pointer}")) {
            headers.push((format!("mcp-param-{}", header.to_ascii_lowercase()), encode(&value)));
        }
    }
    headers
}

/// A string, integer or boolean as the text a header has for it; none for null and what cannot be one.
#[must_use]
pub(crate) fn text_at(params: &str, pointer: &str) -> Option<String> {
    let json = splice::get(params, pointer)?;
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b'n' | b'{' | b'[' => None,
        _ => Some(json.to_owned()),
    }
}

/// The beginning and the end of an encoded value.
const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// Why the value of a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("a header value holds bytes that are not ASCII: send it as =?base64?<Base64 of the UTF-8>?=")]
    NotAscii,
    #[error("a header value in =?base64?…?= is not Base64 of UTF-8: encode the value again, with padding")]
    NotBase64,
}

/// Spells a value so that a header can carry it: plain if made of visible ASCII and inner spaces and not looking
/// like the encoded form. [`decode`] reads it back.
#[must_use]
pub fn encode(value: &str) -> String {
    let safe = value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim() == value;
    if safe && !looks_encoded(value) {
        return value.to_owned();
    }
    format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(value))
}

/// Wider than what [`decode`] takes for encoded: a reader that ignores case must not be misled either.
fn looks_encoded(value: &str) -> bool {
    value.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
        && value.ends_with(SUFFIX)
}

/// Reads such a value: optional white space off (RFC 9110, 5.5), Base64 undone.
///
/// # Errors
/// Bytes outside ASCII, or an encoded form that is not Base64 of UTF-8.
pub fn decode(value: &[u8]) -> Result<String, Unreadable> {
    let text = std::str::from_utf8(value.trim_ascii()).ok().filter(|text| text.is_ascii());
    let text = text.ok_or(Unreadable::NotAscii)?;
    let Some(coded) = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return Ok(text.to_owned());
    };
    let bytes = STANDARD.decode(coded).map_err(|_| Unreadable::NotBase64)?;
    String::from_utf8(bytes).map_err(|_| Unreadable::NotBase64)
}

/// The arguments of a tool that its schema wants repeated in headers (`x-mcp-header`).
///
/// # Errors
/// What is wrong with an annotation; a client over HTTP must not offer such a tool.
pub(crate) fn mirrored(schema: &RawValue) -> Result<Vec<Mirrored>, String> {
    // Most schemas have none, and are not read for it.
    if !schema.get().contains("x-mcp-header") {
        return Ok(Vec::new());
    }
    let value: serde_json::Value =
        serde_json::from_str(schema.get()).map_err(|error| format!("its schema cannot be read: {error}"))?;
    let mut found: Vec<Mirrored> = Vec::new();
    let reachable = collect(&value, "", &mut found)?;
    if count(&value) != reachable {
        return Err("`x-mcp-header` stands where no single argument is meant".to_owned());
    }
    for (index, one) in found.iter().enumerate() {
        if found[..index].iter().any(|other| other.header.eq_ignore_ascii_case(&one.header)) {
            return Err(format!("`x-mcp-header` {:?} is there twice", one.header));
        }
    }
    Ok(found)
}

/// Follows `properties` only: how many annotations stand where exactly one argument is meant.
fn collect(schema: &serde_json::Value, at: &str, found: &mut Vec<Mirrored>) -> Result<usize, String> {
    let mut reachable = 0;
    let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) else {
        return Ok(0);
    };
    for (name, property) in properties {
        let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        if let Some(header) = property.get("x-mcp-header") {
            let header = header.as_str().filter(|header| headers::is_name(header));
            let header = header.ok_or("`x-mcp-header` is no header name")?;
            let kind = property.get("type").and_then(serde_json::Value::as_str);
            if !matches!(kind, Some("string" | "integer" | "boolean")) {
                return Err(format!("`x-mcp-header` {header:?} is on no string, integer or boolean"));
            }
            reachable += 1;
            found.push(Mirrored { header: header.to_owned(), pointer: pointer.clone() });
        }
        reachable += collect(property, &pointer, found)?;
    }
    Ok(reachable)
}

fn count(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Object(map) => {
            map.iter().map(|(key, value)| usize::from(key == "x-mcp-header") + count(value)).sum()
        }
        serde_json::Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// RFC 9110, 5.6.2.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schema(text: &str) -> Result<Vec<Mirrored>, String> {
        mirrored(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn a_request_is_repeated_in_its_headers() {
        let mirrored = [Mirrored { header: "Region".into(), pointer: "/region".into() }];
        let headers = of_request("tools/call", r#"{"name":"é","arguments":{"region":"eu"}}"#, &mirrored);
        let value = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("mcp-method"), Some("tools/call"));
        assert_eq!(value("mcp-name"), Some("=?base64?w6k=?="));
        assert_eq!(value("mcp-param-region"), Some("eu"));
        assert_eq!(
            of_request("tools/call", r#"{"name":"t","arguments":{"region":null}}"#, &mirrored).len(),
            3
        );
    }

    #[test]
    fn annotations_are_checked() {
        let found =
            schema(r#"{"properties":{"a":{"properties":{"b/c":{"type":"integer","x-mcp-header":"B"}}}}}"#);
        assert_eq!(found.unwrap(), [Mirrored { header: "B".into(), pointer: "/a/b~1c".into() }]);
        for bad in [
            r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}"#,
            r#"{"properties":{"a":{"items":{"type":"string","x-mcp-header":"A"}}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
        ] {
            assert!(schema(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_plain_or_encoded() {
        for plain in ["tools/call", "a b", ""] {
            assert_eq!(encode(plain), plain);
        }
        assert_eq!(encode("Zürich"), "=?base64?WsO8cmljaA==?=");
        for odd in [" a", "a ", "\ta", "a\nb", "=?base64?YQ==?=", "=?BASE64?YQ==?=", "\u{7f}"] {
            assert!(encode(odd).starts_with(PREFIX), "{odd:?}");
        }
        assert_eq!(decode(b" \tplain \t"), Ok("plain".to_owned()));
        assert_eq!(decode(b" =?base64?WsO8cmljaA==?= "), Ok("Zürich".to_owned()));
        assert_eq!(decode(b"=?base64?="), Ok("=?base64?=".to_owned()));
        for broken in [&b"=?base64?W?="[..], b"=?base64?YQ?=", b"=?base64?/w==?=", b"=?base64?a b=?="] {
            assert_eq!(decode(broken), Err(Unreadable::NotBase64), "{broken:?}");
        }
        assert_eq!(decode(b"Z\xfcrich"), Err(Unreadable::NotAscii));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(value in any::<String>()) {
            let written = encode(&value);
            prop_assert!(written.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{written:?}");
            prop_assert_eq!(decode(written.as_bytes()), Ok(value));
        }

        #[test]
        fn what_looks_encoded_survives(value in "=\\?(base64|BASE64)\\?[a-z]{0,4}\\?=| x ") {
            prop_assert_eq!(decode(encode(&value).as_bytes()), Ok(value));
        }

        #[test]
        fn plain_text_stays_readable(text in "[!-~]([ -~]{0,30}[!-~])?") {
            prop_assume!(!text.starts_with("=?"));
            prop_assert_eq!(encode(&text), text);
        }

        #[test]
        fn what_can_be_read_can_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(text) = decode(&bytes) {
                prop_assert_eq!(decode(encode(&text).as_bytes()), Ok(text));
            }
        }
    }
}
