//! Finds keys that two readers would read differently: a key that stands twice in one object, and a spelling that only
//! some readers take for a name of the protocol.
//!
//! Of two members with one name the gateway reads the first and many servers the last, so what was judged would not be
//! what is done (RFC 8259, section 4: the behaviour is unpredictable). The same holds for spellings of one name, see
//! [`super::members`].

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

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
    check_noting(text, level, &mut [])
}

/// The same, which also says where the values of some members of the outermost object stand.
pub(super) fn check_noting(
    text: &str,
    level: &'static Level,
    wanted: &mut [(&str, Option<Range<usize>>)],
) -> Result<(), Ambiguous> {
    // The one of them whose value is being read, and where its key ended.
    let mut noting: Option<(usize, usize)> = None;
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
                if open.len() == 1 {
                    note(text, &mut noting, at, wanted);
                }
                if let Some(Open { keys: Some(start), .. }) = open.pop() {
                    keys.truncate(start);
                }
                key_next = false;
            }
            b',' => match open.last() {
                Some(Open { keys: Some(_), .. }) => {
                    if open.len() == 1 {
                        note(text, &mut noting, at, wanted);
                    }
                    key_next = true;
                }
                Some(array) => (key_next, next) = (false, array.level),
                None => key_next = false,
            },
            b'"' => {
                let (start, outermost) = (at, open.len() == 1);
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
                    if outermost {
                        noting =
                            wanted.iter().position(|(name, _)| *name == key).map(|which| (which, at + 1));
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

/// Writes down where a value ends that began after the key and its colon.
fn note(
    text: &str,
    noting: &mut Option<(usize, usize)>,
    end: usize,
    wanted: &mut [(&str, Option<Range<usize>>)],
) {
    let Some((which, key_end)) = noting.take() else { return };
    let Some(value) = text.get(key_end..end).and_then(|rest| rest.trim_start().strip_prefix(':')) else {
        return;
    };
    let start = end - value.trim_start().len();
    if let Some((_, place)) = wanted.get_mut(which) {
        *place = Some(start..start + value.trim().len());
    }
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

    #[test]
    fn the_members_that_are_wanted_are_where_the_splicer_finds_them() {
        for text in [
            r#"{"arguments":{"arguments":1,"_meta":[2]},"name":"x","_meta":{"a":"}"}}"#,
            r#" { "_meta" : {} , "arguments" : "a,b" } "#,
            r#"{"argument\u0073":[1,{"b":2}] , "x":{"_meta":1}}"#,
            r#"{"arguments":7}"#,
            r#"{"arguments":null,"a":"_meta"}"#,
            r#"["arguments",{"_meta":1}]"#,
            "{}",
            "7",
        ] {
            let mut wanted = [("arguments", None), ("_meta", None)];
            check_noting(text, &FREE, &mut wanted).unwrap();
            for (name, place) in wanted {
                let found = place.map(|place| &text[place]);
                assert_eq!(found, crate::mcp::splice::get(text, &format!("/{name}")), "{name} in {text}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_ends_whatever_the_text_is(text in "[\\[\\]{}:,\"\\\\a1 é]{0,32}") {
            let _ = check(&text);
        }
    }
}
