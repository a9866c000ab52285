//! Finds keys that two readers would read differently: a key that stands twice in one object, and a spelling that only
//! some readers take for a name of the protocol.
//!
//! Of two members with one name the gateway reads the first and many servers the last, so what was judged would not be
//! what is done (RFC 8259, section 4: the behaviour is unpredictable). The same holds for spellings of one name, see
//! [`super::members`].

use std::borrow::Cow;
use std::collections::HashSet;

use smallvec::SmallVec;

use super::members::Level;
use super::scan;

/// Objects and arrays within each other.
const MAX_DEPTH: usize = 1 << 16;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    #[error("the key {0:?} stands twice in one object")]
    Doubled(String),
    #[error("the key {0:?} is not `{1}`, and some servers would read it as that: spell it `{1}`")]
    Misspelled(String, &'static str),
    #[error("it is nested more than {MAX_DEPTH} times")]
    Deep,
}

/// An object or an array that is open.
struct Open<'a> {
    /// Where its keys begin among all keys; none in an array.
    keys: Option<usize>,
    level: &'static Level,
    /// Where there are more than [`FEW`], all of its keys.
    many: Option<HashSet<Cow<'a, str>>>,
}

/// Up to so many keys are compared one by one, because that is quicker than hashing.
const FEW: usize = 8;

/// Scans a valid JSON text once; `level` says which names the protocol has there. Nearly every message needs only the
/// stack.
///
/// # Errors
/// The first key that stands twice, however it is spelled, or that could be taken for another; or too much nesting.
pub(super) fn check(text: &str, level: &'static Level) -> Result<(), Ambiguous> {
    let mut open: SmallVec<[Open<'_>; 8]> = SmallVec::new();
    // The keys of all open objects, the outermost first.
    let mut keys: SmallVec<[Cow<'_, str>; 24]> = SmallVec::new();
    let (mut key_next, mut next) = (false, level);
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                if open.len() >= MAX_DEPTH {
                    return Err(Ambiguous::Deep);
                }
                key_next = *byte == b'{';
                open.push(Open { keys: key_next.then_some(keys.len()), level: next, many: None });
            }
            b'}' | b']' => {
                if let Some(Open { keys: Some(start), .. }) = open.pop() {
                    keys.truncate(start);
                }
                key_next = false;
            }
            b',' => match open.last() {
                Some(Open { keys: Some(_), .. }) => key_next = true,
                Some(array) => (key_next, next) = (false, array.level),
                None => key_next = false,
            },
            b'"' => {
                let start = at;
                // A string without an end goes to the end of the text.
                at = scan::string_end(bytes, at).map_or(bytes.len(), |end| end - 1);
                if std::mem::take(&mut key_next)
                    && let Some(object) = open.last_mut()
                    && let Some(quoted) = text.get(start..=at)
                {
                    let key = plain(quoted);
                    let short = |key: &str| key.chars().take(64).collect();
                    next =
                        object.level.inside(&key).map_err(|name| Ambiguous::Misspelled(short(&key), name))?;
                    if !object.is_new(&keys, &key) {
                        return Err(Ambiguous::Doubled(short(&key)));
                    }
                    if let Some(many) = &mut object.many {
                        many.insert(key.clone());
                    }
                    keys.push(key);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

impl<'a> Open<'a> {
    /// Whether the object does not have this key yet.
    fn is_new(&mut self, keys: &[Cow<'a, str>], key: &str) -> bool {
        let own = keys.get(self.keys.unwrap_or(keys.len())..).unwrap_or_default();
        if own.len() < FEW {
            return !own.iter().any(|other| other == key);
        }
        !self.many.get_or_insert_with(|| own.iter().cloned().collect()).contains(key)
    }
}

fn plain(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or("");
    if inner.contains('\\') {
        serde_json::from_str::<String>(quoted).map_or(Cow::Borrowed(inner), Cow::Owned)
    } else {
        Cow::Borrowed(inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::members::FREE;
    use super::*;

    fn check(text: &str) -> Result<(), Ambiguous> {
        super::check(text, &FREE)
    }

    #[test]
    fn a_key_that_stands_twice_is_found_however_it_is_spelled() {
        for text in [
            r#"{"name":"a","name":"b"}"#,
            r#"{"name":"a","n\u0061me":"b"}"#,
            r#"{"a":[{"x":{}},{"y":1,"z":"y","y":2}]}"#,
            r#"{"a":{"b":1},"c":2, "a" : 3}"#,
            r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"c":1}"#,
            r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"j":1}"#,
            r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"h":1}"#,
        ] {
            assert!(matches!(check(text), Err(Ambiguous::Doubled(_))), "{text}");
        }
        for text in [
            r#"{"a":{"a":{"a":"a"}},"b":["a","a"],"c":"\"c\":\"c\""}"#,
            r#"[{"a":1},{"a":1}]"#,
            r#""{\"a\":1,\"a\":2}""#,
            "{}",
            "7",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(check(&"[".repeat(70_000)), Err(Ambiguous::Deep));
    }

    proptest! {
        #[test]
        fn it_ends_whatever_the_text_is(text in "[\\[\\]{}:,\"\\\\a1 é]{0,32}") {
            let _ = check(&text);
        }
    }
}
