//! Takes secrets out of what a client sent before any of it reaches the disk.
//!
//! The JSON text is rewritten token by token, without building a tree: numbers keep their spelling, and depth costs
//! no stack. Two rules: a value under a key that names a secret goes, whatever its type; a known secret value goes,
//! wherever it stands.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::needles::{Needles, REDACTED};
use crate::mcp::scan;

/// Keys whose values are never recorded: compared without case and punctuation, with what the key ends in
/// (`access_token` is a token, `max_tokens` is not), or as the plural of the whole key.
const SECRET_KEYS: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "authorization",
    "cookie",
    "privatekey",
    "credential",
    "accesskey",
    "clientsecret",
    "secretkey",
];

/// How many levels of JSON inside a JSON string are looked into.
const MAX_NESTING: u8 = 4;

/// The compiled rules.
#[derive(Debug)]
pub(super) struct Redactor {
    /// Lower case, letters and digits only.
    keys: Vec<Vec<u8>>,
    needles: Needles,
    max_arguments: usize,
    max_refused: usize,
}

impl Redactor {
    /// The built-in keys and `keys`; the values `secrets`; arguments longer than `max_arguments` bytes are cut.
    pub(super) fn new(keys: &[String], secrets: &[String], max_arguments: usize) -> Self {
        let keys = SECRET_KEYS.into_iter().chain(keys.iter().map(String::as_str));
        let keys = keys.map(|key| letters(key).collect::<Vec<u8>>()).filter(|key| !key.is_empty()).collect();
        Self { keys, needles: Needles::new(secrets), max_arguments, max_refused: max_arguments }
    }

    /// With a smaller limit for the arguments of calls that are refused.
    pub(super) fn for_refused(self, max_refused: usize) -> Self {
        Self { max_refused: max_refused.min(self.max_arguments), ..self }
    }

    /// Writes `text` as a JSON string of at most `limit` bytes of text, without the secrets in it.
    pub(super) fn string(&self, text: &str, limit: usize, out: &mut Vec<u8>) {
        let clean = self.needles.scrub(text);
        if clean.len() <= limit {
            return quote(&clean, out);
        }
        quote(&format!("{}…", &clean[..clean.floor_char_boundary(limit)]), out);
    }

    /// Whether values under this key are secret.
    pub(super) fn is_secret_key(&self, key: &str) -> bool {
        self.keys.iter().any(|word| {
            let ends_so = |key: &str| {
                let mut rest = letters_backwards(key);
                word.iter().rev().all(|&letter| rest.next() == Some(letter)).then_some(rest.next().is_none())
            };
            match ends_so(key) {
                Some(_) => true,
                None => key.strip_suffix(['s', 'S']).and_then(ends_so) == Some(true),
            }
        })
    }

    /// Writes the arguments of a call, which may be any text, as one JSON value without secrets or line breaks.
    ///
    /// Nothing becomes `null`; what is no JSON becomes a string; what is too long becomes an object with the length
    /// and the BLAKE3 digest of the redacted text and its beginning.
    pub(super) fn arguments(&self, raw: &str, out: &mut Vec<u8>) {
        self.arguments_within(self.max_arguments, raw, out);
    }

    /// The same for a call that is refused.
    pub(super) fn arguments_of_refused(&self, raw: &str, out: &mut Vec<u8>) {
        self.arguments_within(self.max_refused, raw, out);
    }

    fn arguments_within(&self, limit: usize, raw: &str, out: &mut Vec<u8>) {
        let start = out.len();
        // What will be cut becomes a string, whatever it is.
        let long = raw.len() > limit;
        if raw.trim_ascii().is_empty() {
            out.extend_from_slice(b"null");
        } else if long || is_json(raw) {
            out.reserve(raw.len());
            self.json(raw, MAX_NESTING, out);
        } else {
            self.string(raw, usize::MAX, out);
        }
        if long && out.len() - start <= limit && !is_json(raw) {
            out.truncate(start);
            self.string(raw, usize::MAX, out);
        }
        if out.len() - start > limit {
            cut(limit, start, out);
        }
    }

    /// Rewrites valid JSON without white space and secrets; says whether anything was redacted.
    fn json(&self, raw: &str, nesting: u8, out: &mut Vec<u8>) -> bool {
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
                        redacted |= self.json_string(token, nesting, out);
                        at = end;
                        continue;
                    }
                    redacted |= self.json_string(token, 0, out);
                    out.push(b':');
                    at = skip_space(bytes, colon + 1);
                    if self.is_secret_key(&unescape(token).0) {
                        quote(REDACTED, out);
                        at = value_end(bytes, at);
                        redacted = true;
                    }
                }
                b'-' | b'0'..=b'9' => {
                    let end = scalar_end(bytes, at);
                    if self.needles.hit(&raw[at..end]) {
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

    /// Rewrites one string token (with its quotes), looking into it if it is JSON itself.
    fn json_string(&self, token: &str, nesting: u8, out: &mut Vec<u8>) -> bool {
        let (text, lossy) = unescape(token);
        if nesting > 0 && text.trim_start().starts_with(['{', '[', '"']) && is_json(&text) {
            let mut inner = Vec::with_capacity(text.len());
            if self.json(&text, nesting - 1, &mut inner) {
                self.string(&String::from_utf8_lossy(&inner), usize::MAX, out);
                return true;
            }
        }
        let clean = self.needles.scrub(&text);
        let redacted = matches!(clean, Cow::Owned(_));
        if redacted || lossy {
            quote(&clean, out);
        } else {
            out.extend_from_slice(token.as_bytes());
        }
        redacted
    }
}

/// Replaces what was written from `start` on by its digest and its beginning.
fn cut(limit: usize, start: usize, out: &mut Vec<u8>) {
    let full = out.get(start..).unwrap_or_default();
    let head = format!(
        r#"{{"truncated":true,"bytes":{},"blake3":"{}","prefix":"#,
        full.len(),
        blake3::hash(full).to_hex()
    );
    // Half, because quotes and backslashes of the JSON text double when it becomes a string. The end may be in
    // the middle of a character.
    let prefix = full.get(..limit / 2).unwrap_or(full);
    let prefix = prefix.utf8_chunks().next().map_or("", |chunk| chunk.valid()).to_owned();
    out.truncate(start);
    out.extend_from_slice(head.as_bytes());
    quote(&prefix, out);
    out.push(b'}');
}

/// Writes a JSON string.
pub(super) fn quote(text: &str, out: &mut Vec<u8>) {
    // Writing a string into memory cannot fail.
    let _infallible = serde_json::to_writer(out, text);
}

/// Valid JSON of any depth: this check does not recurse.
fn is_json(raw: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(raw).is_ok()
}

fn letters(key: &str) -> impl Iterator<Item = u8> {
    key.bytes().filter(|b| b.is_ascii_alphanumeric() || !b.is_ascii()).map(|b| b.to_ascii_lowercase())
}

fn letters_backwards(key: &str) -> impl Iterator<Item = u8> {
    key.bytes().rev().filter(|b| b.is_ascii_alphanumeric() || !b.is_ascii()).map(|b| b.to_ascii_lowercase())
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

#[cfg(test)]
mod tests;
