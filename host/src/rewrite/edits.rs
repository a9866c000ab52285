//! What a rewriter may make of a message: the same that a client may send. An edit that is not allowed undoes all of its hook.

use sentinel_names::headers;
use serde_json::value::RawValue;

use crate::mcp::splice::{self, Edit};
use crate::plugin::Edits;

/// Levels within each other, as in a client's message: common readers of JSON give up at this depth.
const DEEPEST: usize = 128;

/// Makes the edits if every one of them is allowed; all or none.
pub(super) fn checked(
    text: &str,
    edits: &Edits,
    request: bool,
    most: usize,
) -> Result<Option<String>, String> {
    for (name, value) in &edits.headers {
        if !headers::is_name(name) || value.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(format!("`{}` is not a valid header", name.escape_debug()));
        }
        if headers::owner(name).is_some() {
            return Err(format!("the header `{}` is the gateway's", name.to_ascii_lowercase()));
        }
    }
    for edit in &edits.body {
        let pointer = pointer_of(edit);
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(format!("`{pointer}` is not a JSON pointer; write `/{pointer}`"));
        }
        let first = pointer.split('/').nth(1);
        if request && matches!(first, None | Some("name" | "uri" | "_meta" | "ref")) {
            return Err(format!("`{pointer}` is pinned: a rewriter cannot change the target"));
        }
        valid_json(edit)?;
    }
    if edits.body.is_empty() {
        return Ok(None);
    }
    let text = splice::apply(text, &edits.body).map_err(|error| error.to_string())?;
    fits(&text, most)?;
    Ok(Some(text))
}

pub(super) fn pointer_of(edit: &Edit) -> &str {
    match edit {
        Edit::Set { pointer, .. }
        | Edit::Default { pointer, .. }
        | Edit::Remove { pointer }
        | Edit::Rename { pointer, .. } => pointer,
    }
}

pub(super) fn valid_json(edit: &Edit) -> Result<(), String> {
    match edit {
        Edit::Set { pointer, json } | Edit::Default { pointer, json } => {
            is_json(json, pointer.matches('/').count())
                .map_err(|why| format!("the value for `{pointer}` {why}"))
        }
        Edit::Remove { .. } | Edit::Rename { .. } => Ok(()),
    }
}

/// Whether a message is within the limit of its size.
pub(super) fn fits(text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        return Err(format!("the rewritten message is {} bytes long, the limit is {most}", text.len()));
    }
    Ok(())
}

/// Whether a text is JSON that every reader can read where it is put, below so many levels.
pub(super) fn is_json(json: &str, below: usize) -> Result<(), String> {
    serde_json::from_str::<&RawValue>(json).map_err(|error| format!("is not JSON: {error}"))?;
    match below + depth(json) {
        ..=DEEPEST => Ok(()),
        deep => Err(format!("is nested {deep} times, the limit is {DEEPEST}")),
    }
}

/// How many levels of a JSON text are within each other.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'{' | b'[' if !text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    fn set(pointer: &str, json: &str) -> Edits {
        let edit = Edit::Set { pointer: pointer.to_owned(), json: json.to_owned() };
        Edits { body: vec![edit], ..Edits::default() }
    }
    fn header(name: &str, value: &str) -> Edits {
        Edits { headers: vec![(name.to_owned(), value.to_owned())], ..Edits::default() }
    }

    #[test]
    fn the_target_of_a_request_is_pinned() {
        for pointer in ["", "/name", "/uri", "/_meta/x", "/ref/name"] {
            assert!(checked("{}", &set(pointer, "1"), true, MOST).is_err(), "{pointer}");
        }
        assert_eq!(
            checked("{}", &set("/arguments/x", "1"), true, MOST).unwrap().unwrap(),
            r#"{"arguments":{"x":1}}"#
        );
    }

    #[test]
    fn framing_and_credential_headers_are_the_gateways() {
        for name in ["Host", "content-length", "Authorization", "Mcp-Session-Id", "proxy-x", "a b", ""] {
            assert!(checked("{}", &header(name, "v"), true, MOST).is_err(), "{name}");
        }
        assert!(checked("{}", &header("X-Team", "a\r\nb"), true, MOST).is_err());
        assert!(checked("{}", &header("X-Team", "blue"), true, MOST).is_ok());
    }

    #[test]
    fn values_must_be_json() {
        assert!(checked("{}", &set("/arguments/x", "{oops"), true, MOST).is_err());
    }

    #[test]
    fn what_is_made_is_no_deeper_and_no_longer_than_what_clients_send() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let made = |json: &str| checked("{}", &set("/arguments/x", json), true, MOST);
        assert!(made(&deep(DEEPEST - 2)).is_ok());
        assert!(made(&deep(DEEPEST - 1)).unwrap_err().contains("nested"));
        assert!(made(&deep(100_000)).unwrap_err().contains("nested"));
        let brackets = format!("\"{}\\\"\"", "[".repeat(1_000));
        assert!(made(&brackets).is_ok(), "in a text they are no levels");
        assert!(made(&format!("\"{}\"", "x".repeat(MOST))).unwrap_err().contains("limit"));
    }
}
