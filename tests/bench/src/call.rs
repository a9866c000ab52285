//! The one call that is measured, and how its answer is judged: every call has a text of its own, so that an
//! answer that was mixed up, cut short or kept from an earlier call cannot pass for the right one.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Calls of the tool `echo` with texts of one length.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    /// The tool's name, as the other side shows it.
    tool: String,
    /// What fills a text up to its length.
    padding: String,
    bytes: usize,
}

/// A message, as far as a caller must understand it.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<Answer<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(default)]
    is_error: bool,
    #[serde(borrow, default)]
    content: Vec<Content<'a>>,
}

#[derive(Debug, Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
}

/// What a message is to the one who called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The right answer to the call of this number.
    Good(u64),
    /// A notification or a request of the other side: no answer at all.
    Aside,
    /// Anything else, and why.
    Wrong(String),
}

impl Calls {
    /// Calls of `tool` with texts of `bytes` bytes, or a few more if the number of a call needs them.
    pub(crate) fn new(tool: &str, bytes: usize) -> Self {
        Self { tool: tool.to_owned(), padding: "x".repeat(bytes), bytes }
    }

    /// Appends the request with this number.
    pub(crate) fn request(&self, number: u64, into: &mut Vec<u8>) {
        let tool = &self.tool;
        // Writing to a vector does not fail.
        let _ = write!(
            into,
            r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":""#
        );
        let start = into.len();
        let _ = write!(into, "call {number} ");
        let head = into.len() - start;
        into.extend_from_slice(self.rest(head).as_bytes());
        into.extend_from_slice(br#""}}}"#);
    }

    /// Judges a message.
    pub(crate) fn judge(&self, message: &[u8]) -> Verdict {
        let wrong = |why: &str| Verdict::Wrong(format!("{why}: {}", shown(message)));
        let parsed: Message<'_> = match serde_json::from_slice(message) {
            Ok(parsed) => parsed,
            Err(error) => return wrong(&format!("no answer ({error})")),
        };
        if parsed.method.is_some() {
            return Verdict::Aside;
        }
        let Some(number) = parsed.id.and_then(|id| id.get().parse::<u64>().ok()) else {
            return wrong("an answer without our id");
        };
        if parsed.error.is_some() {
            return wrong("an error");
        }
        let Some(answer) = parsed.result else { return wrong("neither result nor error") };
        let [content] = answer.content.as_slice() else { return wrong("not one content") };
        if answer.is_error {
            return wrong("the tool failed");
        }
        let head = content.text.strip_prefix("call ").and_then(|rest| rest.split_once(' '));
        let good = head.is_some_and(|(digits, rest)| {
            digits.parse() == Ok(number) && rest == self.rest("call  ".len() + digits.len())
        });
        if good { Verdict::Good(number) } else { wrong("another text than was sent") }
    }

    /// What follows a head of so many bytes.
    fn rest(&self, head: usize) -> &str {
        &self.padding[..self.bytes.saturating_sub(head)]
    }
}

/// The beginning of a message, for people.
pub(crate) fn shown(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(&message[..message.len().min(300)]);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn answer(id: u64, text: &str) -> Vec<u8> {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
            .into_bytes()
    }

    fn text_of(calls: &Calls, number: u64) -> String {
        let mut request = Vec::new();
        calls.request(number, &mut request);
        let value: serde_json::Value = serde_json::from_slice(&request).unwrap();
        value["params"]["arguments"]["text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn every_text_has_the_length_and_is_another() {
        let calls = Calls::new("echo", 100);
        assert_eq!(text_of(&calls, 7).len(), 100);
        assert_eq!(text_of(&calls, 123_456).len(), 100);
        assert_ne!(text_of(&calls, 7), text_of(&calls, 8));
    }

    #[test]
    fn only_the_own_text_under_the_own_id_is_good() {
        let calls = Calls::new("echo", 100);
        let (mine, other) = (text_of(&calls, 7), text_of(&calls, 8));
        assert_eq!(calls.judge(&answer(7, &mine)), Verdict::Good(7));
        for bad in
            [answer(8, &mine), answer(7, &other), answer(7, &mine[..99]), answer(7, &format!("{mine}x"))]
        {
            assert!(matches!(calls.judge(&bad), Verdict::Wrong(_)), "{}", shown(&bad));
        }
    }

    #[test]
    fn failures_are_wrong_and_notifications_are_not_answers() {
        let calls = Calls::new("echo", 10);
        let bad: [&[u8]; 4] = [
            br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}"#,
            br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"call 1 xxx"}],"isError":true}}"#,
            br#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            b"<html>",
        ];
        for message in bad {
            assert!(matches!(calls.judge(message), Verdict::Wrong(_)), "{}", shown(message));
        }
        let aside = br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
        assert_eq!(calls.judge(aside), Verdict::Aside);
    }
}
