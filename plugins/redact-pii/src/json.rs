//! Goes through a JSON text and hands over what a person could read in it: the texts, the keys and the long numbers. What is not
//! changed stays byte for byte as it was.

use std::borrow::Cow;

/// The shortest number that is looked at: no shorter one is that of a card.
const LONG_NUMBER: usize = 13;

/// The text with every text, key and long number in it replaced by what `change` makes of it; none if nothing changes. Texts are
/// handed over as they read, without escapes, so that no spelling of a character hides anything.
///
/// # Errors
/// The first error of `change`.
pub(crate) fn changed<E>(
    json: &str,
    change: &mut impl FnMut(&str) -> Result<Option<String>, E>,
) -> Result<Option<String>, E> {
    let bytes = json.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => end_of_text(bytes, at),
            b'-' | b'0'..=b'9' => end_of_number(bytes, at),
            _ => {
                at += 1;
                continue;
            }
        };
        let token = &json[at..end];
        let new = if bytes[at] == b'"' {
            change(&readable(token))?
        } else if token.len() >= LONG_NUMBER {
            change(token)?
        } else {
            None
        };
        if let Some(new) = new {
            out.push_str(&json[copied..at]);
            out.push_str(&serde_json::Value::String(new).to_string());
            copied = end;
        }
        at = end;
    }
    if copied == 0 {
        return Ok(None);
    }
    out.push_str(&json[copied..]);
    Ok(Some(out))
}

/// What a text between quotes reads as.
fn readable(token: &str) -> Cow<'_, str> {
    let inner = token.get(1..token.len() - 1).unwrap_or_default();
    if inner.contains('\\') {
        return serde_json::from_str(token).map_or(Cow::Borrowed(inner), Cow::Owned);
    }
    Cow::Borrowed(inner)
}

fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let number = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    start + bytes[start..].iter().take_while(number).count()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn without_a(json: &str) -> Option<String> {
        let mut change = |text: &str| Ok::<_, ()>(text.contains('a').then(|| text.replace('a', "\"")));
        changed(json, &mut change).unwrap()
    }

    #[test]
    fn only_what_changes_is_written_anew() {
        let json = "{ \"k\" : 1.50, \"x\\u0061\":[\"b\\/\", \"ca\"] }";
        assert_eq!(without_a(json).unwrap(), "{ \"k\" : 1.50, \"x\\\"\":[\"b\\/\", \"c\\\"\"] }");
        assert_eq!(without_a("[1, true, null, \"b\"]"), None);
    }

    #[test]
    fn a_long_number_is_looked_at_and_a_short_one_is_not() {
        let mut seen = Vec::new();
        let mut note = |text: &str| {
            seen.push(text.to_owned());
            Ok::<_, ()>(None)
        };
        assert_eq!(changed("[4111111111111111,-1e5,\"t\"]", &mut note), Ok(None));
        assert_eq!(seen, ["4111111111111111", "t"]);
    }

    proptest! {
        /// What comes out is JSON again, and what went in if nothing is changed.
        #[test]
        fn json_stays_json(texts in proptest::collection::vec("\\PC{0,20}", 0..6)) {
            let json = serde_json::json!({ "texts": texts }).to_string();
            prop_assert_eq!(changed(&json, &mut |_: &str| Ok::<_, ()>(None)).unwrap(), None);
            if let Some(changed) = without_a(&json) {
                let read: serde_json::Value = serde_json::from_str(&changed).unwrap();
                let expected: Vec<String> = texts.iter().map(|text| text.replace('a', "\"")).collect();
                // The key `texts` has no `a`.
                prop_assert_eq!(&read["texts"], &serde_json::json!(expected));
            }
        }
    }
}
