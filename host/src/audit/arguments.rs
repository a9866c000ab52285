//! Texts of clients and servers in the form of the record: without secrets, and cut to the length that a record allows.

use crate::redact::{Redactor, is_json, quote};

/// Writes `text` as a JSON string of at most `limit` bytes of text, without the secrets in it.
pub(super) fn string(redactor: &Redactor, text: &str, limit: usize, out: &mut Vec<u8>) {
    let (clean, whole) = redactor.head(text, limit);
    if whole && clean.len() <= limit {
        return quote(&clean, out);
    }
    quote(&format!("{}…", &clean[..clean.floor_char_boundary(limit)]), out);
}

/// Writes the arguments of a call, which may be any text, as one JSON value without secrets or line breaks.
///
/// Nothing becomes `null`; what is no JSON becomes a string; what is longer than `limit` becomes an object with the length
/// and the BLAKE3 digest of the redacted text and its beginning.
pub(super) fn arguments(redactor: &Redactor, raw: &str, limit: usize, out: &mut Vec<u8>) {
    let start = out.len();
    if raw.trim_ascii().is_empty() {
        out.extend_from_slice(b"null");
    } else if is_json(raw) {
        redactor.json(raw, out);
    } else {
        quote(&redactor.text(raw), out);
    }
    if out.len() - start > limit {
        cut(limit, start, out);
    }
}

/// Replaces what was written from `start` on.
fn cut(limit: usize, start: usize, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let full = out.get(start..).unwrap_or_default();
    let (bytes, digest) = (full.len(), blake3::hash(full).to_hex());
    // Half, because quotes and backslashes of the JSON text double when it becomes a string. The end may be in
    // the middle of a character.
    let prefix = full.get(..limit / 2).unwrap_or(full);
    let prefix = prefix.utf8_chunks().next().map_or("", |chunk| chunk.valid()).to_owned();
    out.truncate(start);
    // Writing into memory cannot fail.
    let _infallible =
        write!(out, r#"{{"truncated":true,"bytes":{bytes},"blake3":"{}","prefix":"#, digest.as_str());
    quote(&prefix, out);
    out.push(b'}');
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::redact::{REDACTED, Redaction, Secrets};

    fn redaction() -> Redaction {
        Redaction::new(&Secrets { values: vec!["hunter22".to_owned()], ..Secrets::default() })
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_no_json_becomes_a_string() {
        let clean = |raw: &str| written(|out| arguments(&redaction().current(), raw, 1 << 20, out));
        assert_eq!(clean("{oops \n hunter22"), r#""{oops \n [redacted]""#);
        assert_eq!(clean(""), "null");
        assert_eq!(clean(r#"["\ud800x\n"]"#), "[\"\u{fffd}x\\n\"]");
    }

    #[test]
    fn long_arguments_keep_their_digest_and_their_beginning() {
        let raw = json!({"p": format!("hunter22 {}", "\"".repeat(200))}).to_string();
        let cut = written(|out| arguments(&redaction().current(), &raw, 64, out));
        let cut: Value = serde_json::from_str(&cut).unwrap();
        let full = raw.replace("hunter22", REDACTED);
        assert_eq!(cut["blake3"], blake3::hash(full.as_bytes()).to_hex().as_str());
        assert_eq!(cut["bytes"], full.len());
        assert_eq!(cut["prefix"], &full[..32]);
    }

    #[test]
    fn what_is_kept_of_long_arguments_ends_with_a_whole_character() {
        let raw = json!({"p": "é✓".repeat(500)}).to_string();
        for limit in 256..280 {
            let cut = written(|out| arguments(&redaction().current(), &raw, limit, out));
            let cut: Value = serde_json::from_str(&cut).unwrap();
            let prefix = cut["prefix"].as_str().unwrap();
            assert!(raw.starts_with(prefix) && prefix.len() > limit / 2 - 4, "{limit}: {prefix}");
        }
    }

    #[test]
    fn a_text_is_cut_where_no_secret_is_torn() {
        for padding in 0..40 {
            let text = format!("{}{}", "x ".repeat(8_000 + padding), "hunter22 ".repeat(50_000));
            let cut = written(|out| string(&redaction().current(), &text, 4096, out));
            assert!(cut.ends_with("…\"") && cut.len() <= 4104 && !cut.contains("hunt"), "{cut}");
        }
        // All of the window is secrets, so what is left of it is short.
        let cut = written(|out| string(&redaction().current(), &"hunter22".repeat(10_000), 4096, out));
        assert!(!cut.contains("hunt"), "{cut}");
    }
}
