//! The HTTP headers of the stateless era: what of a message they repeat, and how a value is spelled in them.
//!
//! Rule: MCP 2026-07-28, "Transports", streamable HTTP, standard and custom headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::{STATELESS, splice};

/// A header that repeats one argument of a tool: its name and the argument's JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    pub header: String,
    pub pointer: String,
}

/// Where the thing a request is about stands in its params.
#[must_use]
pub fn name_pointer(method: &str) -> Option<&'static str> {
    Some(match method {
        "tools/call" | "prompts/get" => "/name",
        "resources/read" => "/uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "/taskId",
        _ => return None,
    })
}

/// The headers that repeat a request's body.
#[must_use]
pub fn of_request(method: &str, params: &str, mirrored: &[Mirrored]) -> Vec<(String, String)> {
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
pub fn text_at(params: &str, pointer: &str) -> Option<String> {
    let json = splice::get(params, pointer)?;
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b'n' | b'{' | b'[' => None,
        _ => Some(json.to_owned()),
    }
}

/// Spells a value so that a header can carry it.
#[must_use]
pub fn encode(value: &str) -> String {
    let safe = value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim() == value;
    if safe && !(value.starts_with("=?base64?") && value.ends_with("?=")) {
        return value.to_owned();
    }
    format!("=?base64?{}?=", STANDARD.encode(value))
}

/// Reads such a value; none if it says base64 and is not.
#[must_use]
pub fn decode(value: &str) -> Option<String> {
    let value = value.trim_matches([' ', '\t']);
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(coded) => String::from_utf8(STANDARD.decode(coded).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}

/// The arguments of a tool that its schema wants repeated in headers (`x-mcp-header`).
///
/// # Errors
/// What is wrong with an annotation; a client over HTTP must not offer such a tool.
pub fn mirrored(schema: &RawValue) -> Result<Vec<Mirrored>, String> {
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
            let header = header.as_str().filter(|header| is_token(header));
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
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

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

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(value in "\\PC{0,20}|=\\?base64\\?[a-z]{0,4}\\?=| x ") {
            prop_assert_eq!(decode(&encode(&value)), Some(value));
        }
    }
}
