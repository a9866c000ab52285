//! The messages of the corpus, and the comparison of what was sent with what came out.

use serde_json::Deserializer;
use serde_json::value::RawValue;

/// Every odd spelling that a 64-bit machine can still hold.
const FIT: &str = include_str!("../../fixtures/corpus/fit.json");
/// Spellings that are JSON and that no machine type holds, one a line.
pub(super) const BEYOND: &str = include_str!("../../fixtures/corpus/beyond.jsonl");

pub(super) const REQUESTS: &str = include_str!("../../fixtures/corpus/requests.jsonl");
pub(super) const RESULTS: &str = include_str!("../../fixtures/corpus/results.jsonl");
pub(super) const ERRORS: &str = include_str!("../../fixtures/corpus/errors.jsonl");
pub(super) const NOTIFICATIONS: &str = include_str!("../../fixtures/corpus/notifications.jsonl");
pub(super) const TOLD: &str = include_str!("../../fixtures/corpus/told.jsonl");
pub(super) const QUESTIONS: &str = include_str!("../../fixtures/corpus/questions.jsonl");
pub(super) const LISTS: &str = include_str!("../../fixtures/corpus/lists.jsonl");
pub(super) const ANSWERS: &str = include_str!("../../fixtures/corpus/answers.jsonl");
pub(super) const HANDSHAKE: &str = include_str!("../../fixtures/corpus/handshake.jsonl");
pub(super) const STATELESS: &str = include_str!("../../fixtures/corpus/stateless.jsonl");

/// What of a stateless request's `_meta` belongs to the protocol (2026-07-28, "Requests").
pub(super) const REQUEST_META: [&str; 5] = [
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/logLevel",
    // Unique for one client only.
    "progressToken",
];
/// What else a stateless request has that one of the handshake era has not ("Multi Round-Trip Requests").
pub(super) const REQUEST: [&str; 2] = ["inputResponses", "requestState"];
/// What a stateless result has ("Results", "Caching").
pub(super) const RESULT: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
pub(super) const RESULT_META: [&str; 1] = ["io.modelcontextprotocol/serverInfo"];

/// Puts the odd spellings where the corpus says so.
pub(super) fn dressed(text: &str) -> String {
    text.replace("\"@odd\"", &odd()).replace("\"@fit\"", FIT.trim_end()).replace("\"@deep\"", &deep())
}

/// All odd spellings in one object.
fn odd() -> String {
    let beyond: Vec<&str> = BEYOND.lines().collect();
    let fit = FIT.trim_end();
    format!("{{\"fit\":{fit}, \"beyond\" : [{}]}}", beyond.join(" ,")).replace("\"@deep\"", &deep())
}

/// Deeper than parsers that recurse usually go.
fn deep() -> String {
    format!("{}{}", "[{\"\":".repeat(300), "}]".repeat(300)).replace(":}", ":0}")
}

/// The lines of a file of the corpus, each an object.
pub(super) fn lines(file: &str) -> Vec<String> {
    file.lines().map(dressed).collect()
}

/// The members of an object in their order, keys and values as they are spelled.
pub(super) fn members(object: &str) -> Vec<(&str, &str)> {
    let mut rest = object.trim_start().strip_prefix('{').unwrap_or_else(|| panic!("no object: {object}"));
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        if rest.starts_with('}') {
            return found;
        }
        let (key, after) = value(rest);
        let after = after.trim_start();
        let (value, after) = value(after.strip_prefix(':').unwrap_or_else(|| panic!("no member: {after}")));
        found.push((key, value));
        rest = after;
    }
}

/// The first value of a text, and what follows it.
fn value(text: &str) -> (&str, &str) {
    let mut values = Deserializer::from_str(text).into_iter::<&RawValue>();
    let value = values.next().unwrap().unwrap();
    (value.get(), &text[values.byte_offset()..])
}

/// The elements of an array as they are spelled.
pub(super) fn elements(array: &str) -> Vec<&str> {
    serde_json::from_str::<Vec<&RawValue>>(array).unwrap().into_iter().map(RawValue::get).collect()
}

/// A member by its key, as it is spelled.
pub(super) fn get<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    members(object).into_iter().find(|(spelled, _)| plain(spelled) == key).map(|(_, value)| value)
}

/// Whether a message is of this method. The words of one may stand in another: what a caller sends is kept as it came.
pub(super) fn is(message: &str, method: &str) -> bool {
    get(message, "method").is_some_and(|found| plain(found) == method)
}

/// A string without its escapes.
pub(super) fn plain(string: &str) -> String {
    serde_json::from_str(string).unwrap_or_else(|_| string.to_owned())
}

/// An object without these members and without these of its `_meta`: every other member, byte for byte and in order.
/// Only the space between them is not compared, where a key was put in or taken out. An empty `_meta` counts as none.
pub(super) fn bare(object: &str, own: &[&str], of_meta: &[&str]) -> Vec<String> {
    let mut left = Vec::new();
    for (key, value) in members(object) {
        if own.contains(&&*plain(key)) {
            continue;
        }
        if plain(key) == "_meta" && value.starts_with('{') {
            let inner = members(value).into_iter().filter(|(key, _)| !of_meta.contains(&&*plain(key)));
            left.extend(inner.map(|(key, value)| format!("_meta.{key}:{value}")));
        } else {
            left.push(format!("{key}:{value}"));
        }
    }
    // Where `_meta` stands is free: one side may have had none.
    left.sort_by_key(|member| member.starts_with("_meta."));
    left
}

/// Where two texts part, for people: they are long.
pub(super) fn difference(wanted: &str, got: &str) -> String {
    let at = wanted.bytes().zip(got.bytes()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| {
        let bytes = &text.as_bytes()[at.saturating_sub(60).min(text.len())..(at + 120).min(text.len())];
        String::from_utf8_lossy(bytes).into_owned()
    };
    format!("at byte {at}\n    wanted …{}…\n    got    …{}…", around(wanted), around(got))
}

#[test]
fn the_comparison_sees_what_it_should() {
    let odd = dressed(r#"{"a":"@odd","b":1.0,"_meta":{"x":"@deep"}}"#);
    let spelled: Vec<String> =
        members(&odd).into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    assert_eq!(format!("{{{}}}", spelled.join(",")), odd);
    let bared = bare(r#"{ "_meta":{"x":1.0,"y":2}, "n\u0061me" : 1E2,"ttlMs":0}"#, &RESULT, &["y"]);
    assert_eq!(bared, [r#""n\u0061me":1E2"#, r#"_meta."x":1.0"#]);
    assert_ne!(bare(r#"{"a":1.0}"#, &[], &[]), bare(r#"{"a":1}"#, &[], &[]));
    assert_ne!(bare(r#"{"a":1,"b":2}"#, &[], &[]), bare(r#"{"b":2,"a":1}"#, &[], &[]));
}
