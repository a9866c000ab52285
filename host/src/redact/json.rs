//! JSON without its secrets: rewritten token by token, without building a tree. Numbers keep their spelling, and depth
//! costs no stack.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::keys::Verdict;
use super::{Depth, REDACTED, Redactor, quote};
use crate::mcp::scan;

impl Redactor {
    /// Rewrites valid JSON without white space and secrets; says whether anything was redacted.
    pub(super) fn rewrite(&self, raw: &str, depth: Depth, out: &mut Vec<u8>) -> bool {
        let bytes = raw.as_bytes();
        let (mut at, mut redacted) = (0, false);
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => at += 1,
                b'"' => {
                    let end = string_end(bytes, at);
                    let token = &raw[at..end];
                    let colon = skip_space(bytes, end);
                    // In valid JSON a string is a key exactly if a colon follows it.
                    if bytes.get(colon) != Some(&b':') {
                        redacted |= self.json_string(token, depth, out);
                        at = end;
                        continue;
                    }
                    redacted |= self.json_string(token, depth.flat(), out);
                    out.push(b':');
                    at = skip_space(bytes, colon + 1);
                    if !depth.known_only && self.hides(&unescape(token).0, bytes.get(at)) {
                        quote(REDACTED, out);
                        at = value_end(bytes, at);
                        redacted = true;
                    }
                }
                b'-' | b'0'..=b'9' => {
                    let end = scalar_end(bytes, at);
                    if self.values.hit(&raw[at..end]) {
                        quote(REDACTED, out);
                        redacted = true;
                    } else {
                        out.extend_from_slice(&bytes[at..end]);
                    }
                    at = end;
                }
                other => {
                    out.push(other);
                    at += 1;
                }
            }
        }
        redacted
    }

    /// Whether the value that begins so is a secret under this key: `true`, `false` and `null` never are, and how many
    /// `tokens` there are is none.
    fn hides(&self, key: &str, first: Option<&u8>) -> bool {
        match first {
            None | Some(b't' | b'f' | b'n') => false,
            Some(b'-' | b'0'..=b'9') => self.keys.judge(key) == Verdict::Secret,
            Some(_) => self.keys.judge(key) != Verdict::Plain,
        }
    }

    /// Rewrites one string token (with its quotes), looking into it if it is JSON itself.
    fn json_string(&self, token: &str, depth: Depth, out: &mut Vec<u8>) -> bool {
        let (text, lossy) = unescape(token);
        let clean = self.within(&text, depth);
        let redacted = matches!(clean, Cow::Owned(_));
        if redacted || lossy {
            quote(&clean, out);
        } else {
            out.extend_from_slice(token.as_bytes());
        }
        redacted
    }
}

/// Valid JSON of any depth: this check does not recurse.
#[must_use]
pub(crate) fn is_json(raw: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(raw).is_ok()
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The position after the closing quote of the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    scan::string_end(bytes, at).unwrap_or(bytes.len())
}

/// The position after the number or word that begins at `at`.
fn scalar_end(bytes: &[u8], at: usize) -> usize {
    let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
    bytes[at..].iter().position(ends).map_or(bytes.len(), |length| at + length)
}

/// The position after the value that begins at `at`.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => at = string_end(bytes, at),
            Some(b'{' | b'[') => {
                depth += 1;
                at += 1;
            }
            Some(b'}' | b']') => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            Some(b',' | b':' | b' ' | b'\t' | b'\n' | b'\r') => at += 1,
            Some(_) => at = scalar_end(bytes, at),
        }
        if depth == 0 {
            return at;
        }
    }
}

/// The text of a valid string token, and whether it held half of a surrogate pair, which no text can contain.
fn unescape(token: &str) -> (Cow<'_, str>, bool) {
    let inner = token.strip_prefix('"').unwrap_or(token);
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    if !inner.contains('\\') {
        return (Cow::Borrowed(inner), false);
    }
    if let Ok(text) = serde_json::from_str::<String>(token) {
        return (Cow::Owned(text), false);
    }
    // Only a lone surrogate fails here: the token was checked. Everything around it is kept.
    let mut units = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        let unit = match (char, if char == '\\' { chars.next() } else { None }) {
            (_, Some('u')) => {
                let digits: String = chars.by_ref().take(4).collect();
                units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xFFFD));
                continue;
            }
            (_, Some('n')) => '\n',
            (_, Some('t')) => '\t',
            (_, Some('r')) => '\r',
            (_, Some('b')) => '\u{8}',
            (_, Some('f')) => '\u{c}',
            (_, Some(other)) => other,
            (plain, None) => plain,
        };
        units.extend_from_slice(unit.encode_utf16(&mut [0; 2]));
    }
    (Cow::Owned(String::from_utf16_lossy(&units)), true)
}
