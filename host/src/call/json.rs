//! A JSON text that a parser has accepted, shared instead of copied: the params of a request are read, judged, rewritten
//! and sent on as the bytes they came in.

use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::value::RawValue;

/// One JSON value as it was spelled. Clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(ByteString);

impl Json {
    /// `{}`.
    #[must_use]
    pub fn empty() -> Self {
        Self(ByteString::from_static("{}"))
    }

    /// A part of a message, without copying it. A part that is not of this message is copied.
    #[must_use]
    pub fn shared(message: &Bytes, part: &RawValue) -> Self {
        let part = part.get();
        let (start, within) = (part.as_ptr().addr(), message.as_ptr_range());
        let inside = start >= within.start.addr() && start + part.len() <= within.end.addr();
        let shared = inside.then(|| ByteString::try_from(message.slice_ref(part.as_bytes())).ok()).flatten();
        shared.map_or_else(|| part.into(), Self)
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }
}

impl From<&RawValue> for Json {
    fn from(value: &RawValue) -> Self {
        value.get().into()
    }
}

/// For texts that are known to be JSON, such as one valid text spliced into another.
impl From<String> for Json {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// As for [`String`].
impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

// What callers send is not for logs.
impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_shares_the_bytes_of_its_message() {
        let message = Bytes::from_static(br#"{"params": {"a":"\u00e9"} }"#);
        #[derive(serde::Deserialize)]
        struct Whole<'a> {
            #[serde(borrow)]
            params: &'a RawValue,
        }
        let Ok(whole) = serde_json::from_slice::<Whole<'_>>(&message) else { panic!("it is JSON") };
        let shared = Json::shared(&message, whole.params);
        assert_eq!(shared.get(), r#"{"a":"\u00e9"}"#);
        assert_eq!(shared.get().as_ptr(), whole.params.get().as_ptr());
        let other = Bytes::from_static(b"{}");
        assert_eq!(Json::shared(&other, whole.params), shared, "copied");
    }
}
