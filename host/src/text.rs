//! Makes foreign text fit to be shown: in a log, on a terminal, in a message, in the record.
//!
//! Whatever a client, a server or a plugin said may hold characters that steer a terminal, begin a new line of the log,
//! reorder what is read or cannot be seen. Here they become escapes, in one place for the whole gateway.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write as _};

/// Most bytes of a foreign name or sentence in a log line or a message.
pub(crate) const SHORT: usize = 300;

/// Whether a character steers whatever shows it, instead of being shown: control characters, line and paragraph
/// separators, marks that change the direction of reading, and those that are invisible.
#[must_use]
pub(crate) fn is_harmful(character: char) -> bool {
    match character {
        '\u{20}'..='\u{7e}' => false,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        other => other.is_control(),
    }
}

/// The text on one line: `\n`, `\u{1b}`, `\u{202e}`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmful, |character, out| out.extend(character.escape_default()))
}

/// The same for a text of several lines: line breaks and tabs stay.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    let harmful = |character| !matches!(character, '\n' | '\t') && is_harmful(character);
    escaped(text, harmful, |character, out| out.extend(character.escape_default()))
}

/// A JSON text that means the same, with JSON's own escapes (`\u202e`). Line breaks and tabs stay: in valid JSON they
/// stand between the values only.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let harmful = |character| !matches!(character, '\n' | '\r' | '\t') && is_harmful(character);
    escaped(text, harmful, |character, out| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing into memory cannot fail.
            let _infallible = write!(out, "\\u{unit:04x}");
        }
    })
}

fn escaped(text: &str, harmful: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(&harmful) else { return Cow::Borrowed(text) };
    let mut safe = String::with_capacity(text.len() + 16);
    safe.push_str(&text[..first]);
    for character in text[first..].chars() {
        if harmful(character) { escape(character, &mut safe) } else { safe.push(character) }
    }
    Cow::Owned(safe)
}

/// The beginning of a foreign text on one line: at most `limit` bytes, and how long the whole is if it is longer.
/// Bytes that are no UTF-8 become `\xff`.
#[must_use]
pub(crate) fn excerpt(text: &[u8], limit: usize) -> String {
    beginning(text, limit, text.len())
}

/// [`excerpt`] of a text that is itself the beginning of one of `whole` bytes.
#[must_use]
pub fn beginning(text: &[u8], limit: usize, whole: usize) -> String {
    let trimmed = text.trim_ascii();
    let mut out = String::with_capacity(trimmed.len().min(limit) + 24);
    let mut fits = whole <= text.len();
    'chunks: for chunk in trimmed.utf8_chunks() {
        for character in chunk.valid().chars() {
            let start = out.len();
            if is_harmful(character) {
                out.extend(character.escape_default())
            } else {
                out.push(character)
            }
            if out.len() > limit {
                out.truncate(start);
                fits = false;
                break 'chunks;
            }
        }
        for byte in chunk.invalid() {
            if out.len() + 4 > limit {
                fits = false;
                break 'chunks;
            }
            // Writing into memory cannot fail.
            let _infallible = write!(out, "\\x{byte:02x}");
        }
    }
    if !fits {
        // Writing into memory cannot fail.
        let _infallible = write!(out, "… [{whole} bytes]");
    }
    out
}

/// An error with its causes, one after the other; a cause that was said already is left out.
#[must_use]
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

/// A foreign name, shown on one line and at most [`SHORT`] bytes of it.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a>(pub &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&excerpt(self.0.as_bytes(), SHORT))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_shown_moves_the_cursor_or_the_direction() {
        assert_eq!(line("a\u{1b}[2Jb\nc\u{202e}d\u{200b}"), r"a\u{1b}[2Jb\nc\u{202e}d\u{200b}");
        assert_eq!(lines("a\u{9b}2J\n\tb\r"), "a\\u{9b}2J\n\tb\\r");
        assert_eq!(line("Grünkohl ✓ 日本"), "Grünkohl ✓ 日本");
        assert!(matches!(line("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_stays_json_and_means_the_same() {
        let value = serde_json::json!({"a\u{202e}": ["\u{7f}\u{9b}\u{e0041}", 1]});
        let shown = json(&value.to_string()).into_owned();
        assert!(!shown.contains(is_harmful), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn an_excerpt_is_short_and_says_how_long_the_whole_is() {
        assert_eq!(excerpt(b"  a\x1b[31mb\n\xff  ", SHORT), r"a\u{1b}[31mb\n\xff");
        assert_eq!(excerpt("é".repeat(900).as_bytes(), 11), "ééééé… [1800 bytes]");
        assert_eq!(excerpt(&[0xff; 9], 9), r"\xff\xff… [9 bytes]");
        assert_eq!(Foreign("a\nb").to_string(), r"a\nb");
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Said {
            text: &'static str,
            source: Option<Box<Said>>,
        }
        let said = |text, source: Option<Said>| Said { text, source: source.map(Box::new) };
        let error = said("no answer: refused", Some(said("refused", Some(said("by the other end", None)))));
        assert_eq!(with_causes(&error), "no answer: refused: by the other end");
    }

    proptest! {
        #[test]
        fn no_form_holds_a_harmful_character(bytes in proptest::collection::vec(any::<u8>(), 0..80), limit in 0_usize..80) {
            let text = String::from_utf8_lossy(&bytes);
            prop_assert!(!line(&text).contains(is_harmful));
            prop_assert!(!lines(&text).replace(['\n', '\t'], "").contains(is_harmful));
            let short = excerpt(&bytes, limit);
            prop_assert!(!short.contains(is_harmful));
            prop_assert!(short.len() <= limit + "… [80 bytes]".len());
        }
    }
}
