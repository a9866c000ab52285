//! JSON with values that no Rust type holds: numbers such as `1e400`, texts with half a surrogate pair. The rest of it
//! is read, and the places of such values are named, so that they can be judged by where they stand.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// How many levels are gone through, each with one scan of its content.
const MAX_DEPTH: usize = 32;
/// Places that are tried at once.
const MAX_PLACES: usize = 64;

/// A text as far as it can be read.
#[derive(Debug)]
pub(super) struct Partly {
    /// With `null` at the places that cannot be read.
    pub(super) value: Value,
    /// Where those are: their JSON pointers, with what is wrong there.
    pub(super) places: Vec<(String, &'static str)>,
}

/// Reads a text that is JSON and that `serde_json` cannot read as a [`Value`]. None if it is too odd for that: a key
/// that is no text, more than 32 levels, more than 64 such places.
pub(super) fn partly(text: &str) -> Option<Partly> {
    let mut places = Vec::new();
    let value = read(text, &mut String::new(), 0, &mut places)?;
    Some(Partly { value, places })
}

fn read(
    text: &str,
    pointer: &mut String,
    depth: usize,
    places: &mut Vec<(String, &'static str)>,
) -> Option<Value> {
    if depth > MAX_DEPTH || places.len() > MAX_PLACES {
        return None;
    }
    let end = pointer.len();
    let mut inside = |key: &str, value: &RawValue| {
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        let value = read(value.get(), pointer, depth + 1, places);
        pointer.truncate(end);
        value
    };
    let text = text.trim_ascii();
    match text.as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let members = members.into_iter().map(|(key, value)| Some((key.clone(), inside(&key, value)?)));
            members.collect::<Option<_>>().map(Value::Object)
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let items = items.into_iter().enumerate().map(|(at, value)| inside(&at.to_string(), value));
            items.collect::<Option<_>>().map(Value::Array)
        }
        first => Some(serde_json::from_str(text).unwrap_or_else(|_| {
            let what = match first {
                b'"' => "half a surrogate pair (such as \\ud800) stands in a text",
                _ => "the number is larger than a 64-bit float holds",
            };
            places.push((pointer.clone(), what));
            Value::Null
        })),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_read() {
        let read = partly(r#" {"a/b":[1, 1e400 ,{"c":"\ud800"}],"d":-1E999,"e":"\ud83d\ude00"} "#).unwrap();
        let places: Vec<&str> = read.places.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(places, ["/a~1b/1", "/a~1b/2/c", "/d"]);
        assert_eq!(read.value, serde_json::json!({"a/b": [1, null, {"c": null}], "d": null, "e": "😀"}));
    }

    #[test]
    fn what_is_too_odd_is_not_read() {
        assert!(partly(r#"{"\ud800":1e400}"#).is_none());
        assert!(partly(&format!("{}1e400{}", "[".repeat(40), "]".repeat(40))).is_none());
        assert!(partly(&format!("[{}1]", "1e400,".repeat(100))).is_none());
    }
}
