//! Finds keys that stand twice in one object. Of two members with one name the gateway reads the first and many servers
//! the last, so what was judged would not be what is done (RFC 8259, section 4: the behaviour is unpredictable).

use std::borrow::Cow;
use std::collections::HashSet;

use super::scan;

/// Objects and arrays within each other.
const MAX_DEPTH: usize = 1 << 16;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    #[error("the key {0:?} stands twice in one object")]
    Doubled(String),
    #[error("it is nested more than {MAX_DEPTH} times")]
    Deep,
}

/// One scan of a valid JSON text.
///
/// # Errors
/// The first key that stands twice, however it is spelled; or too much nesting.
pub fn check(text: &str) -> Result<(), Ambiguous> {
    // None: an array. Some: the keys of an object so far.
    let mut open: Vec<Option<Keys<'_>>> = Vec::new();
    let mut key_next = false;
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                if open.len() >= MAX_DEPTH {
                    return Err(Ambiguous::Deep);
                }
                key_next = *byte == b'{';
                open.push(key_next.then(Keys::default));
            }
            b'}' | b']' => {
                open.pop();
                key_next = false;
            }
            b',' => key_next = matches!(open.last(), Some(Some(_))),
            b'"' => {
                let start = at;
                // One that does not end ends the text.
                at = scan::string_end(bytes, at).map_or(bytes.len(), |end| end - 1);
                if std::mem::take(&mut key_next)
                    && let Some(Some(keys)) = open.last_mut()
                    && let Some(quoted) = text.get(start..=at)
                {
                    let key = plain(quoted);
                    if !keys.insert(key.clone()) {
                        return Err(Ambiguous::Doubled(key.chars().take(64).collect()));
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The keys of one object.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Cow<'a, str>>,
    /// Where there are more than [`FEW`], all of them.
    many: HashSet<Cow<'a, str>>,
}

/// So many keys are sooner compared than hashed.
const FEW: usize = 8;

impl<'a> Keys<'a> {
    /// False if it was there.
    fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if self.few.len() < FEW {
            let new = !self.few.contains(&key);
            self.few.push(key);
            return new;
        }
        if self.many.is_empty() {
            self.many.extend(self.few.iter().cloned());
        }
        self.many.insert(key)
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

    use super::*;

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
