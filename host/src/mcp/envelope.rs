//! Reads one JSON-RPC message without reading what is inside it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A message with its parts still in their own spelling.
#[derive(Debug)]
pub enum Message<'a> {
    Request { id: &'a RawValue, method: Cow<'a, str>, params: Option<&'a RawValue> },
    Notification { method: Cow<'a, str>, params: Option<&'a RawValue> },
    Response { id: &'a RawValue, body: Body<'a> },
}

/// What a response carries.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    Result(&'a RawValue),
    Error(&'a RawValue),
}

/// Why a text is no JSON-RPC message. `id` is set where the sender can still be answered by name.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError<'a> {
    #[error("not JSON: {0}")]
    Syntax(serde_json::Error),
    #[error("not a JSON-RPC 2.0 message: {reason}")]
    Shape { id: Option<&'a RawValue>, reason: &'static str },
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Keeps `"id": null` apart from no `id` at all: the first is a mistake, the second a notification.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads one message.
///
/// # Errors
/// [`EnvelopeError::Syntax`] for text that is not JSON (-32700), [`EnvelopeError::Shape`] for JSON that is
/// not a message (-32600).
pub fn parse(text: &[u8]) -> Result<Message<'_>, EnvelopeError<'_>> {
    let raw: Raw<'_> = serde_json::from_slice(text).map_err(|error| match error.classify() {
        // A duplicate key or a method that is no string: JSON all right, but no message.
        serde_json::error::Category::Data => {
            EnvelopeError::Shape { id: None, reason: "a member is missing, doubled or of the wrong type" }
        }
        _ => EnvelopeError::Syntax(error),
    })?;
    let shape = |reason| EnvelopeError::Shape { id: raw.id.filter(|id| valid_id(id)), reason };
    if raw.jsonrpc.as_deref() != Some("2.0") {
        return Err(shape("`jsonrpc` must be \"2.0\""));
    }
    if let Some(params) = raw.params
        && !params.get().starts_with(['{', '['])
    {
        return Err(shape("`params` must be an object"));
    }
    match (raw.id, raw.method, raw.result, raw.error) {
        (Some(id), Some(method), None, None) if valid_id(id) => {
            Ok(Message::Request { id, method, params: raw.params })
        }
        (None, Some(method), None, None) => Ok(Message::Notification { method, params: raw.params }),
        (Some(id), None, Some(result), None) if valid_id(id) => {
            Ok(Message::Response { id, body: Body::Result(result) })
        }
        (Some(id), None, None, Some(error)) => Ok(Message::Response { id, body: Body::Error(error) }),
        (Some(id), ..) if !valid_id(id) => Err(shape("`id` must be a string or an integer, never null")),
        _ => Err(shape("it is neither a request, a notification nor a response")),
    }
}

/// MCP "Requests": an id is a string or an integer of any size, never null.
fn valid_id(id: &RawValue) -> bool {
    let text = id.get();
    text.starts_with('"') || {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_size_and_sign_are_kept_as_they_are_spelled() {
        for id in ["1", "-7", "18446744073709551616", "\"a\\u0062\"", "0", "\"\""] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            let Message::Request { id: read, .. } = parse(text.as_bytes()).unwrap() else {
                panic!("a request")
            };
            assert_eq!(read.get(), id);
        }
    }

    #[test]
    fn a_null_id_is_a_mistake_and_not_a_notification() {
        let error = parse(br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#).unwrap_err();
        assert!(matches!(error, EnvelopeError::Shape { id: None, .. }));
        assert!(parse(br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#).is_err());
        assert!(parse(br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#).is_err());
    }

    #[test]
    fn null_results_survive() {
        let Message::Response { body: Body::Result(result), .. } =
            parse(br#"{"jsonrpc":"2.0","id":1,"result":null}"#).unwrap()
        else {
            panic!("a response")
        };
        assert_eq!(result.get(), "null");
    }

    #[test]
    fn broken_json_and_broken_messages_are_told_apart() {
        assert!(matches!(parse(b"{"), Err(EnvelopeError::Syntax(_))));
        assert!(matches!(parse(b"{}"), Err(EnvelopeError::Shape { .. })));
        assert!(matches!(
            parse(br#"{"jsonrpc":"2.0","id":3}"#),
            Err(EnvelopeError::Shape { id: Some(_), .. })
        ));
        assert!(matches!(
            parse(br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#),
            Err(EnvelopeError::Shape { .. })
        ));
    }
}
