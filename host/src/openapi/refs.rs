//! References inside of a document.

use std::borrow::Cow;

use serde_json::Value;

/// Longest chain of references that lead to each other.
const MAX_CHAIN: usize = 64;

/// Why a reference leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefError {
    #[error("{0} refers to something outside of the document and its folder, which is not read")]
    External(String),
    #[error("{0} refers to an anchor; only references by JSON pointer are followed")]
    Anchor(String),
    #[error("nothing stands at {0}")]
    Nothing(String),
    #[error("{0} leads in a circle")]
    Circle(String),
}

/// The reference that an object is, if it is one.
pub(super) fn of(value: &Value) -> Option<&str> {
    value.get("$ref")?.as_str()
}

/// What a reference points to.
///
/// # Errors
/// See [`RefError`].
pub(super) fn get<'a>(root: &'a Value, reference: &str) -> Result<&'a Value, RefError> {
    let shown = || crate::text::excerpt(reference.as_bytes(), 120);
    let pointer = reference.strip_prefix('#').ok_or_else(|| RefError::External(shown()))?;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(RefError::Anchor(shown()));
    }
    root.pointer(&unescaped(pointer)).ok_or_else(|| RefError::Nothing(shown()))
}

/// The object itself, behind all references.
///
/// # Errors
/// See [`RefError`].
pub(super) fn follow<'a>(root: &'a Value, value: &'a Value) -> Result<&'a Value, RefError> {
    let mut at = value;
    for _ in 0..MAX_CHAIN {
        match of(at) {
            Some(reference) => at = get(root, reference)?,
            None => return Ok(at),
        }
    }
    Err(RefError::Circle(crate::text::excerpt(of(value).unwrap_or_default().as_bytes(), 120)))
}

/// A fragment of a URI writes some characters as `%7B`.
pub(super) fn unescaped(pointer: &str) -> Cow<'_, str> {
    if !pointer.contains('%') {
        return Cow::Borrowed(pointer);
    }
    let bytes = pointer.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte =
            digits.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).map_or(Cow::Borrowed(pointer), Cow::Owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_followed_to_their_end() {
        let root = json!({"a": {"$ref": "#/b"}, "b": {"$ref": "#/c~1d/x%20y"}, "c/d": {"x y": {"v": 1}},
            "loop": {"$ref": "#/pool"}, "pool": {"$ref": "#/loop"}});
        assert_eq!(follow(&root, &root["a"]).unwrap(), &json!({"v": 1}));
        let said = |value: Value| follow(&root, &value).unwrap_err();
        assert!(matches!(said(json!({"$ref": "#/loop"})), RefError::Circle(_)));
        assert!(matches!(said(json!({"$ref": "#/none"})), RefError::Nothing(_)));
        assert!(matches!(said(json!({"$ref": "http://169.254.169.254/"})), RefError::External(_)));
        assert!(matches!(said(json!({"$ref": "#Pet"})), RefError::Anchor(_)));
    }
}
