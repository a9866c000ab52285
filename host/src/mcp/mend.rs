//! Reads text that is not quite JSON. Servers write `NaN`, a comma too many, half a surrogate pair, bytes that are no
//! UTF-8, a byte order mark, two messages in one line, or stray words before or after a message. Each of these can be
//! understood in one way only, and refusing it would cost a caller an answer that was given. Text that could mean
//! several things is not read.
//!
//! A valid message is only searched for halves of surrogate pairs; all else here is for faulty ones.

use std::fmt;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::{envelope, splice};

/// Deepest nesting that is mended.
const MAX_DEPTH: usize = 256;
/// How many messages one text may hold: as many as a batch of the revision 2025-03-26 may usefully have.
const MAX_MESSAGES: usize = 1_024;

/// In how many bytes at the beginning the id of a message is looked for.
const HEAD: usize = 4096;

/// The faults of a text, one bit each, so that the faults that were logged for a connection can be remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oddities(u32);

impl Oddities {
    pub(crate) const BYTES: Self = Self(1);
    pub(crate) const MARK: Self = Self(2);
    pub(crate) const NUMBER: Self = Self(4);
    pub(crate) const COMMA: Self = Self(8);
    pub(crate) const HALF: Self = Self(16);
    pub(crate) const ESCAPE: Self = Self(32);
    pub(crate) const AROUND: Self = Self(64);
    pub(crate) const SEVERAL: Self = Self(128);
    pub(crate) const PYTHON: Self = Self(256);
    pub(crate) const FRAME: Self = Self(512);
    pub(crate) const ID: Self = Self(1024);
    pub(crate) const ERROR: Self = Self(2048);

    /// Each fault in words, with what the gateway does about it.
    const WORDS: [(Self, &str); 12] = [
        (Self::BYTES, "bytes that are no UTF-8, read as U+FFFD"),
        (Self::MARK, "a byte order mark, left out"),
        (Self::NUMBER, "NaN or Infinity, read as null"),
        (Self::COMMA, "a comma before a closing bracket, left out"),
        (Self::HALF, "half a surrogate pair, read as U+FFFD"),
        (Self::ESCAPE, "a control character or an unknown escape in a string, read as itself"),
        (Self::AROUND, "text beside a message in one line, left out"),
        (Self::SEVERAL, "several messages in one line, read one after the other"),
        (Self::PYTHON, "True, False or None, read as true, false and null"),
        (Self::FRAME, "a member of JSON-RPC that is missing or null where it must not be"),
        (Self::ID, "an id in another spelling than the request's"),
        (Self::ERROR, "an error that is no JSON-RPC error object, wrapped in one"),
    ];

    #[must_use]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    #[must_use]
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    #[must_use]
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Display for Oddities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (_, words) in Self::WORDS.iter().filter(|(oddity, _)| self.has(*oddity)) {
            f.write_str(if first { "" } else { "; " })?;
            f.write_str(words)?;
            first = false;
        }
        Ok(())
    }
}

/// The messages that could be read out of a text.
#[derive(Debug, Default)]
pub(crate) struct Mended {
    /// Messages, or what looks like some, in their order.
    pub texts: Vec<Bytes>,
    pub oddities: Oddities,
    /// There are words before the first message: the line may be a log line that quotes a message.
    pub quoted: bool,
}

/// Reads a text of a server that is no message as it stands. None if nothing in it can be read.
#[must_use]
pub(crate) fn mend(text: &[u8]) -> Option<Mended> {
    let mut mended = Mended::default();
    let text = String::from_utf8_lossy(text);
    if matches!(text, std::borrow::Cow::Owned(_)) {
        mended.oddities.add(Oddities::BYTES);
    }
    let mut rest = text.trim_ascii();
    while let Some(after) = rest.strip_prefix('\u{feff}') {
        mended.oddities.add(Oddities::MARK);
        rest = after.trim_ascii_start();
    }
    while let Some(at) = start(rest).filter(|_| mended.texts.len() < MAX_MESSAGES) {
        let out = String::with_capacity(rest.len() - at);
        let mut reader = Reader { text: rest, at, out, odd: Oddities::default() };
        // Anything inside a broken value may be data, and must not be taken for a message.
        if reader.value().is_none() {
            break;
        }
        note_around(&mut mended, &rest[..at]);
        mended.oddities.add(reader.odd);
        rest = &rest[reader.at..];
        split(&mut mended, reader.out);
    }
    if !mended.texts.is_empty() {
        note_around(&mut mended, rest);
    }
    if mended.texts.len() > 1 {
        mended.oddities.add(Oddities::SEVERAL);
    }
    (!mended.texts.is_empty()).then_some(mended)
}

/// Where an object may begin, or a list of objects.
fn start(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr2_iter(b'{', b'[', bytes).find(|at| {
        let next = bytes[at + 1..].trim_ascii_start().first();
        matches!((bytes[*at], next), (b'{', Some(b'"')) | (b'[', Some(b'{')))
    })
}

/// Notes the text beside a message, except what separates two messages.
fn note_around(mended: &mut Mended, text: &str) {
    if text.bytes().any(|byte| !byte.is_ascii_whitespace() && byte != b',') {
        mended.oddities.add(Oddities::AROUND);
        mended.quoted |= mended.texts.is_empty() && has_words(text);
    }
}

/// Whether a text has words. Control sequences of a terminal and progress bars have none.
fn has_words(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // ECMA-48: a bracket, parameters, and one letter that ends them.
            let mut parameters = chars.by_ref().skip_while(|c| *c == '[');
            let _ = parameters.find(|c| ('@'..='~').contains(c));
        } else if c.is_alphanumeric() {
            return true;
        }
    }
    false
}

/// A batch is its messages.
fn split(mended: &mut Mended, text: String) {
    if text.starts_with('[') {
        let parts: Vec<&serde_json::value::RawValue> = serde_json::from_str(&text).unwrap_or_default();
        let room = MAX_MESSAGES.saturating_sub(mended.texts.len());
        mended
            .texts
            .extend(parts.iter().take(room).map(|part| Bytes::copy_from_slice(part.get().as_bytes())));
    } else {
        mended.texts.push(text.into());
    }
}

/// Whether a text that is no JSON was certainly meant to be an answer.
#[must_use]
pub(crate) fn is_like_an_answer(text: &[u8]) -> bool {
    let has = |member: &str| memchr::memmem::find(text, member.as_bytes()).is_some();
    has("\"jsonrpc\"") && (has("\"result\"") || has("\"error\""))
}

/// The id that a message begins with; servers write it before the large part.
#[must_use]
pub(crate) fn head_id(text: &[u8]) -> Option<u64> {
    // The end may be in the middle of a character.
    let head = text.get(..HEAD).unwrap_or(text);
    let head = head.utf8_chunks().next()?.valid();
    envelope::number(splice::get(head, "/id")?)
}

/// Whether a text that is JSON otherwise has half of a surrogate pair. Many readers (Python's among them) refuse the
/// whole message for it, and servers that cut strings at a length produce it easily.
#[must_use]
pub(crate) fn has_half_pair(text: &[u8]) -> bool {
    static LOWER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\ud"));
    static UPPER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\uD"));
    [&LOWER, &UPPER].iter().any(|finder| finder.find_iter(text).any(|at| is_half(text, at)))
}

fn is_half(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    // An escaped backslash and a `u` are no escape.
    if before % 2 == 1 {
        return false;
    }
    match unit(text, at) {
        Some(0xd800..0xdc00) => !matches!(unit(text, at + 6), Some(0xdc00..0xe000)),
        Some(0xdc00..0xe000) => {
            !(at >= 6 && is_escape(text, at - 6) && matches!(unit(text, at - 6), Some(0xd800..0xdc00)))
        }
        _ => false,
    }
}

fn is_escape(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
}

/// The code unit of the escape `\uXXXX` at this place.
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

/// Copies one value and mends it on the way. It looks at strings, brackets, commas and words only; the parser finds out
/// whether the copy is JSON.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    out: String,
    odd: Oddities,
}

impl Reader<'_> {
    /// The value that begins here; none if it has no end.
    fn value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        let mut comma = false;
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if byte.is_ascii_whitespace() {
                self.at += 1;
                continue;
            }
            if matches!(byte, b'}' | b']') {
                if comma {
                    self.odd.add(Oddities::COMMA);
                }
                comma = false;
            } else if byte != b',' && std::mem::take(&mut comma) {
                self.out.push(',');
            }
            match byte {
                b'{' | b'[' if open.len() < MAX_DEPTH => {
                    open.push(if byte == b'{' { b'}' } else { b']' });
                    self.copy();
                }
                b'}' | b']' => {
                    if open.pop() != Some(byte) {
                        return None;
                    }
                    self.copy();
                    if open.is_empty() {
                        return Some(());
                    }
                }
                // Two commas in a row could mean several things.
                b',' if comma => return None,
                b',' => {
                    comma = true;
                    self.at += 1;
                }
                b':' => self.copy(),
                b'"' => self.string()?,
                _ => self.word()?,
            }
        }
    }

    fn copy(&mut self) {
        self.out.push_str(&self.text[self.at..=self.at]);
        self.at += 1;
    }

    /// A number or a word.
    fn word(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(rest.len());
        let word = &rest[..end];
        let (read, odd) = match word {
            "" => return None,
            "NaN" | "nan" | "-NaN" | "-nan" | "Infinity" | "-Infinity" | "+Infinity" | "inf" | "-inf"
            | "+inf" | "undefined" => ("null", Oddities::NUMBER),
            "True" => ("true", Oddities::PYTHON),
            "False" => ("false", Oddities::PYTHON),
            "None" => ("null", Oddities::PYTHON),
            word => (word, Oddities::default()),
        };
        self.odd.add(odd);
        self.out.push_str(read);
        self.at += end;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.copy();
        loop {
            let rest = &self.text[self.at..];
            let end = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\') || byte < b' ')?;
            self.out.push_str(&rest[..end]);
            self.at += end;
            match rest.as_bytes()[end] {
                b'"' => {
                    self.copy();
                    return Some(());
                }
                b'\\' => self.escape()?,
                control => {
                    self.odd.add(Oddities::ESCAPE);
                    self.out.push_str(&format!("\\u{control:04x}"));
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.out.push_str(&self.text[self.at..self.at + 2]);
                self.at += 2;
            }
            b'u' if unit(bytes, self.at).is_some() => {
                let pair = matches!(unit(bytes, self.at), Some(0xd800..0xdc00))
                    && matches!(unit(bytes, self.at + 6), Some(0xdc00..0xe000));
                let half = !pair && matches!(unit(bytes, self.at), Some(0xd800..0xe000));
                let length = if pair { 12 } else { 6 };
                if half {
                    self.odd.add(Oddities::HALF);
                    self.out.push('\u{fffd}');
                } else {
                    self.out.push_str(&self.text[self.at..self.at + length]);
                }
                self.at += length;
            }
            // As in the path of a Windows file or in a pattern: the author meant the backslash.
            _ => {
                self.odd.add(Oddities::ESCAPE);
                self.out.push_str("\\\\");
                self.at += 1;
            }
        }
        Some(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
