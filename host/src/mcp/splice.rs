//! Changes single values of a JSON text and copies the rest byte for byte.
//!
//! The scanner trusts that the text is valid JSON (it always comes out of a parser); on anything else it
//! gives up with an error, never with a panic.

use std::borrow::Cow;
use std::ops::Range;

use super::scan;

/// One change. Pointers are RFC 6901.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Writes a JSON text, making missing keys on the way; `-` as last step appends to an array.
    Set { pointer: String, json: String },
    /// Writes only where there is no value yet.
    Default { pointer: String, json: String },
    /// Removes a member or element; nothing happens where there is none.
    Remove { pointer: String },
    /// Gives a member another key in the same place; nothing happens where there is none.
    Rename { pointer: String, name: String },
}

impl Edit {
    /// By how many bytes the text may grow, with quotes, colons, braces and a comma.
    fn room(&self) -> usize {
        match self {
            Self::Set { pointer, json } | Self::Default { pointer, json } => {
                4 * pointer.len() + json.len() + 8
            }
            Self::Remove { .. } => 0,
            Self::Rename { name, .. } => name.len() + 2,
        }
    }
}

/// Steps of a pointer. Readers of JSON give up soon after that many levels; serde_json at 128.
const MAX_STEPS: usize = 100;

/// Why an edit cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    #[error("`{0}` is not a JSON pointer (RFC 6901)")]
    Pointer(String),
    #[error("`{0}` leads through a value that has no members")]
    NotAContainer(String),
    #[error("`{0}` is past the end of the array")]
    OutOfBounds(String),
    #[error("`{0}` would collide with a member of that name")]
    Collision(String),
    /// The pointer is too long. Missing levels are made, so a plugin's long pointer would make a text that no parser
    /// can read.
    #[error("the pointer has more than {MAX_STEPS} steps")]
    Deep,
    #[error("the text is not valid JSON")]
    Malformed,
}

/// The JSON text at a pointer.
#[must_use]
pub fn get<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    let mut range = trim(text, 0..text.len());
    if pointer.is_empty() {
        return text.get(range);
    }
    for step in pointer.strip_prefix('/')?.split('/') {
        range = child(text, range, &unescaped(step)?).ok()??.value;
    }
    text.get(range)
}

/// Makes the edits one after the other.
///
/// # Errors
/// The first edit that cannot be made; nothing is changed then.
pub fn apply(text: &str, edits: &[Edit]) -> Result<String, SpliceError> {
    let more: usize = edits.iter().map(Edit::room).sum();
    let mut edited = String::with_capacity(text.len() + more);
    edited.push_str(text);
    for edit in edits {
        apply_one(&mut edited, edit)?;
    }
    Ok(edited)
}

fn apply_one(text: &mut String, edit: &Edit) -> Result<(), SpliceError> {
    match edit {
        Edit::Set { pointer, json } => write(text, pointer, json, true),
        Edit::Default { pointer, json } => write(text, pointer, json, false),
        Edit::Remove { pointer } => {
            if let Some((_, found)) = locate(text, pointer)? {
                text.replace_range(found.with_comma, "");
            }
            Ok(())
        }
        Edit::Rename { pointer, name } => {
            let Some((parent, found)) = locate(text, pointer)? else { return Ok(()) };
            let key = found.key.ok_or_else(|| SpliceError::NotAContainer(pointer.clone()))?;
            if child(text, parent, name)?.is_some_and(|other| other.value != found.value) {
                return Err(SpliceError::Collision(name.clone()));
            }
            text.replace_range(key, &super::message::quoted(name));
            Ok(())
        }
    }
}

/// The member at a pointer and the container it is in; none where a step is missing.
fn locate(text: &str, pointer: &str) -> Result<Option<(Range<usize>, Member)>, SpliceError> {
    let tokens = tokens(pointer)?;
    let mut parent = trim(text, 0..text.len());
    let mut found: Option<Member> = None;
    for token in &tokens {
        if let Some(member) = found.take() {
            parent = member.value;
        }
        match child(text, parent.clone(), token)? {
            Some(member) => found = Some(member),
            None => return Ok(None),
        }
    }
    Ok(found.map(|member| (parent, member)))
}

fn write(text: &mut String, pointer: &str, json: &str, replace: bool) -> Result<(), SpliceError> {
    let tokens = tokens(pointer)?;
    let mut range = trim(text, 0..text.len());
    for (depth, token) in tokens.iter().enumerate() {
        if let Some(member) = child(text, range.clone(), token)? {
            range = member.value;
            continue;
        }
        // From here on nothing exists: build the rest as nested objects and insert it before the bracket.
        let mut value = json.to_owned();
        for missing in tokens[depth + 1..].iter().rev() {
            value = format!("{{{}:{value}}}", super::message::quoted(missing));
        }
        let end = range.end.checked_sub(1).ok_or(SpliceError::Malformed)?;
        let closed = text.as_bytes().get(end).is_some_and(|last| matches!(last, b'}' | b']'));
        if !closed && matches!(text.as_bytes().get(range.start), Some(b'{' | b'[')) {
            return Err(SpliceError::Malformed);
        }
        let empty = text.get(range.start + 1..end).is_none_or(|inner| inner.trim().is_empty());
        let comma = if empty { "" } else { "," };
        let member = match text.as_bytes().get(range.start) {
            Some(b'{') => format!("{comma}{}:{value}", super::message::quoted(token)),
            Some(b'[') if token == "-" => format!("{comma}{value}"),
            Some(b'[') => return Err(SpliceError::OutOfBounds(pointer.to_owned())),
            _ => return Err(SpliceError::NotAContainer(pointer.to_owned())),
        };
        text.insert_str(end, &member);
        return Ok(());
    }
    if replace {
        text.replace_range(range, json);
    }
    Ok(())
}

/// Splits a JSON pointer into its steps.
///
/// # Errors
/// [`SpliceError::Pointer`] if it neither is empty nor begins with `/`, or holds a `~` that is no escape;
/// [`SpliceError::Deep`] if it has too many steps.
pub fn tokens(pointer: &str) -> Result<Vec<Cow<'_, str>>, SpliceError> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = || SpliceError::Pointer(pointer.to_owned());
    let rest = pointer.strip_prefix('/').ok_or_else(wrong)?;
    if memchr::memchr_iter(b'/', rest.as_bytes()).nth(MAX_STEPS - 1).is_some() {
        return Err(SpliceError::Deep);
    }
    let steps = rest.split('/');
    steps.map(|step| unescaped(step).ok_or_else(wrong)).collect()
}

/// One step of a JSON pointer as the key it stands for; none if it holds a `~` that is no escape.
fn unescaped(step: &str) -> Option<Cow<'_, str>> {
    if !step.contains('~') {
        return Some(Cow::Borrowed(step));
    }
    let escapes = step.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    escapes.then(|| Cow::Owned(step.replace("~1", "/").replace("~0", "~")))
}

#[derive(Clone, Debug)]
struct Member {
    key: Option<Range<usize>>,
    value: Range<usize>,
    /// The member with the one comma that goes when it goes.
    with_comma: Range<usize>,
}

/// The member of an object or array by its key or index.
fn child(text: &str, container: Range<usize>, token: &str) -> Result<Option<Member>, SpliceError> {
    let bytes = text.as_bytes();
    let object = match bytes.get(container.start) {
        Some(b'{') => true,
        Some(b'[') => false,
        _ => return Ok(None),
    };
    let mut at = container.start + 1;
    let mut index = 0usize;
    let mut previous_end = None;
    loop {
        at = skip_space(bytes, at);
        match bytes.get(at) {
            Some(b'}' | b']') => return Ok(None),
            Some(b',') => {
                at += 1;
                continue;
            }
            Some(_) => {}
            None => return Err(SpliceError::Malformed),
        }
        let start = at;
        let mut key = None;
        if object {
            let end = skip_value(bytes, at)?;
            key = Some(at..end);
            at = skip_space(bytes, end);
            if bytes.get(at) != Some(&b':') {
                return Err(SpliceError::Malformed);
            }
            at = skip_space(bytes, at + 1);
        }
        let end = skip_value(bytes, at)?;
        let hit = match &key {
            Some(key) => key_is(text.get(key.clone()).ok_or(SpliceError::Malformed)?, token),
            None => token.parse() == Ok(index) && (token == "0" || !token.starts_with('0')),
        };
        if hit {
            let after = skip_space(bytes, end);
            let with_comma = match (previous_end, bytes.get(after)) {
                (Some(previous), _) => previous..end,
                (None, Some(b',')) => start..skip_space(bytes, after + 1),
                (None, _) => start..end,
            };
            return Ok(Some(Member { key, value: at..end, with_comma }));
        }
        previous_end = Some(end);
        index += 1;
        at = end;
    }
}

fn key_is(quoted: &str, token: &str) -> bool {
    match quoted.get(1..quoted.len().saturating_sub(1)) {
        Some(plain) if !plain.contains('\\') => plain == token,
        _ => serde_json::from_str::<String>(quoted).is_ok_and(|key| key == token),
    }
}

fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let start = skip_space(text.as_bytes(), range.start);
    let end = text[..range.end].trim_end().len().max(start);
    start..end
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The end of the value that starts here.
fn skip_value(bytes: &[u8], start: usize) -> Result<usize, SpliceError> {
    let mut at = start;
    let mut depth = 0usize;
    loop {
        match bytes.get(at).ok_or(SpliceError::Malformed)? {
            b'"' => at = scan::string_end(bytes, at).ok_or(SpliceError::Malformed)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1).ok_or(SpliceError::Malformed)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth > 0 => {
                at += 1;
                continue;
            }
            _ => {
                let scalar = at;
                while !matches!(
                    bytes.get(at),
                    None | Some(
                        b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'{' | b'['
                    )
                ) {
                    at += 1;
                }
                if at == scalar {
                    return Err(SpliceError::Malformed);
                }
            }
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(pointer: &str, json: &str) -> Edit {
        Edit::Set { pointer: pointer.to_owned(), json: json.to_owned() }
    }
    fn remove(pointer: &str) -> Edit {
        Edit::Remove { pointer: pointer.to_owned() }
    }

    #[test]
    fn a_pointer_with_too_many_steps_makes_nothing() {
        let set =
            |steps: usize| apply("{}", &[Edit::Set { pointer: "/a".repeat(steps), json: "1".to_owned() }]);
        assert!(set(MAX_STEPS).is_ok());
        assert_eq!(set(MAX_STEPS + 1), Err(SpliceError::Deep));
        assert_eq!(set(500_000), Err(SpliceError::Deep));
    }

    #[test]
    fn only_the_edited_value_changes() {
        let text = r#"{ "a" : 1.50, "b":[1, {"c":"x"}],"d":null }"#;
        assert_eq!(
            apply(text, &[set("/b/1/c", "true")]).unwrap(),
            r#"{ "a" : 1.50, "b":[1, {"c":true}],"d":null }"#
        );
        assert_eq!(get(text, "/a"), Some("1.50"));
        assert_eq!(get(text, "/b/1/c"), Some("\"x\""));
        assert_eq!(get(text, "/b/2"), None);
    }

    #[test]
    fn missing_keys_are_made_and_arrays_are_appended_to() {
        assert_eq!(apply("{}", &[set("/a/b", "1")]).unwrap(), r#"{"a":{"b":1}}"#);
        assert_eq!(apply(r#"{"x":[1]}"#, &[set("/x/-", "2")]).unwrap(), r#"{"x":[1,2]}"#);
        assert_eq!(apply(r#"{"x":[1]}"#, &[set("/x/3", "2")]), Err(SpliceError::OutOfBounds("/x/3".into())));
        assert_eq!(apply(r#"{"x":1}"#, &[set("/x/y", "2")]), Err(SpliceError::NotAContainer("/x/y".into())));
        let keep = Edit::Default { pointer: "/x".into(), json: "9".into() };
        assert_eq!(apply(r#"{"x":1}"#, &[keep]).unwrap(), r#"{"x":1}"#);
    }

    #[test]
    fn text_after_the_value_is_malformed() {
        assert_eq!(apply("{}é", &[set("/a", "1")]), Err(SpliceError::Malformed));
    }

    #[test]
    fn removing_takes_one_comma_along() {
        assert_eq!(apply(r#"{"a":1, "b":2}"#, &[remove("/a")]).unwrap(), r#"{"b":2}"#);
        assert_eq!(apply(r#"{"a":1, "b":2}"#, &[remove("/b")]).unwrap(), r#"{"a":1}"#);
        assert_eq!(apply(r#"{"a":1}"#, &[remove("/a")]).unwrap(), "{}");
        assert_eq!(apply(r#"{"a":1}"#, &[remove("/z")]).unwrap(), r#"{"a":1}"#);
        assert_eq!(apply("[1,2,3]", &[remove("/1")]).unwrap(), "[1,3]");
    }

    #[test]
    fn renaming_keeps_place_and_value_and_never_overwrites() {
        let rename = |name: &str| Edit::Rename { pointer: "/a".into(), name: name.into() };
        assert_eq!(apply(r#"{"a":1,"b":2}"#, &[rename("c")]).unwrap(), r#"{"c":1,"b":2}"#);
        assert_eq!(apply(r#"{"a":1,"b":2}"#, &[rename("b")]), Err(SpliceError::Collision("b".into())));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-z\"\\\\é/~]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a-c/~\"]{1,2}", inner), 0..4)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        /// The scanner agrees with a real parser about what is where, and edits leave valid JSON.
        #[test]
        fn agrees_with_serde_json(value in json(), key in "[a-c/~\"]{1,2}", pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let pointer = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
            let found = get(&text, &pointer).map(|found| serde_json::from_str::<serde_json::Value>(found).unwrap());
            prop_assert_eq!(found.as_ref(), value.pointer(&pointer));
            if value.is_object() {
                let edited: serde_json::Value = serde_json::from_str(&apply(&text, &[set(&pointer, "[7]")]).unwrap()).unwrap();
                prop_assert_eq!(edited.pointer(&pointer), Some(&serde_json::json!([7])));
                let mut removed = value;
                removed.as_object_mut().unwrap().shift_remove(&key);
                let cut: serde_json::Value = serde_json::from_str(&apply(&text, &[remove(&pointer)]).unwrap()).unwrap();
                prop_assert_eq!(cut, removed);
            }
        }

        /// Whatever the text is, the scanner ends and does not panic.
        #[test]
        fn never_panics(text in "[\\[\\]{}:,\"\\\\a1 é]{0,24}", pointer in "(/[a01-]){0,3}") {
            let _ = get(&text, &pointer);
            let _ = apply(&text, &[set(&pointer, "1")]);
            let _ = apply(&text, &[remove(&pointer)]);
        }
    }
}
