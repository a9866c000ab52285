//! Edits of a JSON text: a pointer, a value and the text, with zero bytes between them.

use sentinel_gateway::call::Json;
use sentinel_gateway::mcp::Params;
use sentinel_gateway::mcp::splice::{self, Edit};
use serde_json::Value;

/// What was set is found where it was set, everything else stays, and the text is JSON.
pub(crate) fn edit(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0).map(std::str::from_utf8);
    let (Some(Ok(pointer)), Some(Ok(json)), Some(Ok(text))) = (parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    // Both are JSON already where the gateway splices.
    let (Ok(value), Ok(before)) = (serde_json::from_str::<Value>(json), serde_json::from_str::<Value>(text))
    else {
        return;
    };
    let found = splice::get(text, pointer);
    let edit = Edit::Set { pointer: pointer.to_owned(), json: json.to_owned() };
    let Ok(after) = splice::apply(text, &[edit]) else { return };
    let after: Value =
        serde_json::from_str(&after).unwrap_or_else(|error| panic!("no JSON ({error}): {after}"));
    if pointer.is_empty() {
        assert_eq!(after, value);
        return;
    }
    // With a member twice, which of them is read is another question.
    if found.is_some() && Params::read("acme/x", Json::from(text)).is_ok() {
        assert_eq!(after.pointer(pointer), Some(&value), "{pointer} in {before}");
    }
}
