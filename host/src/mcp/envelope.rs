//! Reads one JSON-RPC message without reading what is inside it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::members;

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

/// The members of a message. Other members are ignored, unless some readers would take them for one of these.
#[derive(Default)]
struct Raw<'a> {
    jsonrpc: Option<Cow<'a, str>>,
    id: Option<&'a RawValue>,
    method: Option<Cow<'a, str>>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

/// A text that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

enum Member {
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    Other,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: de::Error>(self, key: &str) -> Result<Member, E> {
                Ok(match key {
                    "jsonrpc" => Member::Jsonrpc,
                    "id" => Member::Id,
                    "method" => Member::Method,
                    "params" => Member::Params,
                    "result" => Member::Result,
                    "error" => Member::Error,
                    _ => match members::ENVELOPE.inside(key) {
                        Ok(_) => Member::Other,
                        Err(name) => return Err(E::custom(format_args!("it could be read as `{name}`"))),
                    },
                })
            }
        }
        deserializer.deserialize_identifier(Key)
    }
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON-RPC message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut raw = Raw::default();
                let (mut named, mut spoken) = (false, false);
                while let Some(member) = map.next_key::<Member>()? {
                    let (place, name) = match member {
                        Member::Jsonrpc => {
                            once(&mut spoken, "jsonrpc")?;
                            raw.jsonrpc = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0);
                            continue;
                        }
                        Member::Method => {
                            once(&mut named, "method")?;
                            raw.method = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0);
                            continue;
                        }
                        Member::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                        Member::Id => (&mut raw.id, "id"),
                        Member::Params => (&mut raw.params, "params"),
                        Member::Result => (&mut raw.result, "result"),
                        Member::Error => (&mut raw.error, "error"),
                    };
                    // `"id": null` is kept apart from no `id` at all: the first is a mistake, the second a notification.
                    if place.replace(map.next_value()?).is_some() {
                        return Err(de::Error::duplicate_field(name));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Notes that a member has come.
fn once<E: de::Error>(seen: &mut bool, name: &'static str) -> Result<(), E> {
    if std::mem::replace(seen, true) { Err(E::duplicate_field(name)) } else { Ok(()) }
}

/// Reads one message.
///
/// # Errors
/// [`EnvelopeError::Syntax`] for text that is not JSON (-32700), [`EnvelopeError::Shape`] for JSON that is
/// not a message (-32600).
pub fn parse(text: &[u8]) -> Result<Message<'_>, EnvelopeError<'_>> {
    let raw = raw(text)?;
    let shape = |reason| EnvelopeError::Shape { id: raw.id.filter(|id| valid_id(id)), reason };
    if raw.jsonrpc.as_deref() != Some("2.0") {
        return Err(shape("`jsonrpc` must be \"2.0\""));
    }
    message(raw, false)
}

/// Reads one message of a server that leaves `jsonrpc` out, or writes `null` for members that a message does not have. What
/// it means is certain all the same.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_generously(text: &[u8]) -> Result<Message<'_>, EnvelopeError<'_>> {
    let mut raw = raw(text)?;
    let absent = |member: &mut Option<&RawValue>| {
        member.take_if(|value| value.get() == "null");
    };
    absent(&mut raw.params);
    if raw.method.is_some() {
        absent(&mut raw.id);
        absent(&mut raw.result);
    }
    if raw.method.is_some() || raw.result.is_some() {
        absent(&mut raw.error);
    }
    if raw.error.is_some() {
        absent(&mut raw.result);
    }
    message(raw, true)
}

/// The number that an id is, also where it is spelled as a text (`"7"`) or with a fraction (`7.0`).
#[must_use]
pub fn number(id: &str) -> Option<u64> {
    id.parse().ok().or_else(|| {
        let bare = id.strip_prefix('"').and_then(|id| id.strip_suffix('"')).unwrap_or(id);
        bare.strip_suffix(".0").unwrap_or(bare).parse().ok()
    })
}

fn raw(text: &[u8]) -> Result<Raw<'_>, EnvelopeError<'_>> {
    serde_json::from_slice(text).map_err(|error| match error.classify() {
        // A duplicate key or a method that is no string: JSON all right, but no message.
        serde_json::error::Category::Data => EnvelopeError::Shape {
            id: None,
            reason: "a member is missing, doubled, of the wrong type or in another spelling (`ID` for `id`)",
        },
        _ => EnvelopeError::Syntax(error),
    })
}

fn message(raw: Raw<'_>, generous: bool) -> Result<Message<'_>, EnvelopeError<'_>> {
    let shape = |reason| EnvelopeError::Shape { id: raw.id.filter(|id| valid_id(id)), reason };
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
        (Some(id), None, Some(result), None)
            if valid_id(id) || (generous && (id.get() == "null" || number(id.get()).is_some())) =>
        {
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

    #[test]
    fn what_a_server_writes_for_nothing_is_nothing() {
        for (text, kind) in [
            (r#"{"id":1,"result":{}}"#, "result"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, "result"),
            (r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"m"}}"#, "error"),
            (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, "result"),
            (r#"{"jsonrpc":"2.0","id":"1","method":null,"params":null,"result":{}}"#, "result"),
            (r#"{"jsonrpc":"2.0","id":null,"method":"notifications/progress","params":{}}"#, "notification"),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/x","params":null,"result":null,"error":null}"#,
                "notification",
            ),
        ] {
            let read = match parse_generously(text.as_bytes()).unwrap() {
                Message::Response { body: Body::Result(_), .. } => "result",
                Message::Response { body: Body::Error(_), .. } => "error",
                Message::Notification { .. } => "notification",
                Message::Request { .. } => "request",
            };
            assert_eq!(read, kind, "{text}");
        }
        for text in [
            r#"{"id":1}"#,
            r#"{"id":1,"result":{},"error":{}}"#,
            r#"{"level":"info","msg":"x"}"#,
            r#"{"id":1,"id":2,"result":{}}"#,
        ] {
            assert!(parse_generously(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!((number("7"), number("\"7\""), number("7.0")), (Some(7), Some(7), Some(7)));
        assert_eq!((number("\"a\""), number("null"), number("7.5"), number("-1")), (None, None, None, None));
    }

    #[test]
    fn a_member_has_one_spelling_and_stands_once() {
        for text in [
            r#"{"jsonrpc":"2.0","ID":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","param\u017f":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":null}"#,
            r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":null,"result":{}}"#,
        ] {
            assert!(matches!(parse(text.as_bytes()), Err(EnvelopeError::Shape { .. })), "{text}");
        }
        let vendors = br#"{"jsonrpc":"2.0","id":1,"m\u0065thod":"ping","trace":1,"x":{"ID":1}}"#;
        assert!(matches!(parse(vendors), Ok(Message::Request { .. })));
        assert!(matches!(
            parse(br#"{"jsonrpc":"2.0","id":1,"method":null,"result":{}}"#),
            Ok(Message::Response { .. })
        ));
    }
}
