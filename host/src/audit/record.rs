//! The form in which a call stands in the journal: written by hand into a reused buffer, read back with serde.

use std::borrow::Cow;
use std::cell::RefCell;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::arguments::{arguments, string};
use super::{Closing, Entry};
use crate::redact::{REDACTED, Redactor, quote};

/// Names are cut here: the store indexes some of them, and PostgreSQL indexes no value above 2704 bytes.
const MAX_NAME_BYTES: usize = 1024;
/// Error texts and notes are cut here.
const MAX_TEXT_BYTES: usize = 4096;
/// Texts of a refused call are cut here: a refusal costs its sender nothing, so many can come.
const MAX_REFUSED_TEXT_BYTES: usize = 1024;
/// More notes than this are left out of the record.
const MAX_NOTES: usize = 64;
/// A buffer that grew past this is given back after use.
pub(super) const KEPT_BUFFER_BYTES: usize = 256 * 1024;

/// One record as read back: what was intended, how it ended, or both.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    pub(super) call: i64,
    /// Microseconds since 1970.
    pub(super) at: i64,
    pub(super) intent: Option<Intent>,
    pub(super) outcome: Option<Outcome>,
}

/// What was going to happen.
#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub(super) rpc_id: String,
    pub(super) method: String,
    pub(super) subject: String,
    pub(super) role: String,
    pub(super) kind: String,
    pub(super) tool: String,
    pub(super) backend: String,
    pub(super) session: String,
    pub(super) arguments: Option<Box<RawValue>>,
    pub(super) sent: Option<Box<RawValue>>,
    /// None in a journal from before there was such a number.
    pub(super) generation: Option<i64>,
}

/// What became of it.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    pub(super) status: String,
    pub(super) error: Option<String>,
    pub(super) latency_us: u64,
    pub(super) notes: Option<Box<RawValue>>,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Longer arguments are cut, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) arguments: usize,
    /// Of a call that is refused.
    pub(super) refused: usize,
}

/// Builds the bytes of a record, redacted, and lends them to `with`.
///
/// This happens before the journal is locked, in a buffer of the thread: redacting long arguments delays nobody else.
///
/// A record with both beginning and end is of a call that was refused: its texts are cut shorter.
pub(super) fn build<T>(
    (redactor, limits): (&Redactor, Limits),
    call: u64,
    entry: Option<&Entry<'_>>,
    closing: Option<&Closing<'_>>,
    with: impl FnOnce(&[u8]) -> T,
) -> T {
    BUFFER.with_borrow_mut(|out| {
        out.clear();
        number(b"{\"call\":", call, out);
        let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default();
        number(b",\"at\":", now, out);
        if let Some(entry) = entry {
            let most =
                if closing.is_some() { limits.refused.min(limits.arguments) } else { limits.arguments };
            write_entry(redactor, most, entry, out);
        }
        if let Some(closing) = closing {
            let most = if entry.is_some() { MAX_REFUSED_TEXT_BYTES } else { MAX_TEXT_BYTES };
            write_closing(redactor, closing, most, out);
        }
        out.push(b'}');
        let result = with(out);
        if out.capacity() > KEPT_BUFFER_BYTES {
            *out = Vec::new();
        }
        result
    })
}

fn write_entry(redactor: &Redactor, max_arguments: usize, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let names: [(&[u8], &str); 8] = [
        (b",\"intent\":{\"rpc_id\":", entry.rpc_id),
        (b",\"method\":", entry.method),
        (b",\"subject\":", entry.subject),
        (b",\"role\":", entry.role),
        (b",\"kind\":", entry.kind),
        (b",\"tool\":", entry.tool),
        (b",\"backend\":", entry.backend),
        (b",\"session\":", entry.session),
    ];
    for (key, name) in names {
        out.extend_from_slice(key);
        string(redactor, name, MAX_NAME_BYTES, out);
    }
    number(b",\"generation\":", entry.generation, out);
    out.extend_from_slice(b",\"arguments\":");
    arguments(redactor, entry.arguments, max_arguments, out);
    if let Some(sent) = entry.sent {
        out.extend_from_slice(b",\"sent\":");
        arguments(redactor, sent, max_arguments, out);
    }
    out.push(b'}');
}

fn write_closing(redactor: &Redactor, closing: &Closing<'_>, most: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"outcome\":{\"status\":");
    quote(closing.status.as_str(), out);
    number(b",\"latency_us\":", u64::try_from(closing.latency.as_micros()).unwrap_or(u64::MAX), out);
    if let Some(error) = closing.error {
        out.extend_from_slice(b",\"error\":");
        string(redactor, error, most, out);
    }
    if !closing.notes.is_empty() {
        out.extend_from_slice(b",\"notes\":{");
        for (index, (key, value)) in closing.notes.iter().take(MAX_NOTES).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(redactor, key, MAX_NAME_BYTES, out);
            out.push(b':');
            let hidden = redactor.is_secret_key(key);
            string(redactor, if hidden { REDACTED } else { value }, most, out);
        }
        out.push(b'}');
    }
    out.push(b'}');
}

fn number(key: &[u8], value: u64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    out.extend_from_slice(key);
    // Writing a number into memory cannot fail.
    let _infallible = write!(out, "{value}");
}

/// Text as every store can hold it: PostgreSQL has no NUL, so its visible symbol stands for it.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{2400}")),
        false => Cow::Borrowed(text),
    }
}

/// Turns record bytes into a line of the journal: `<sequence> <crc32> <record>\n`.
///
/// THE SEAM: every stored byte of a record passes through this function, once, in the order of `sequence` and under
/// the journal's lock. A hash chain keeps the digest of the line before as state next to the sequence, adds its own
/// field here, and checks it in [`unseal`]; nothing else needs to know. The checksum finds accidents, not tampering.
pub(super) fn seal(sequence: u64, record: &[u8], line: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing into memory cannot fail.
    let _infallible = write!(line, "{sequence} {:08x} ", checksum(sequence, record));
    line.extend_from_slice(record);
    line.push(b'\n');
}

/// The sequence number and the record of one line without its line break, if the line is whole.
pub(super) fn unseal(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let sequence: u64 = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let sum = u32::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 16).ok()?;
    let record = parts.next()?;
    (sum == checksum(sequence, record)).then_some((sequence, record))
}

fn checksum(sequence: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_or_nothing() {
        let mut line = Vec::new();
        seal(7, br#"{"call":1}"#, &mut line);
        let whole = &line[..line.len() - 1];
        assert_eq!(unseal(whole), Some((7, br#"{"call":1}"#.as_slice())));
        for end in 0..whole.len() {
            assert_eq!(unseal(&whole[..end]), None, "cut at {end}");
        }
        for position in 0..whole.len() {
            let mut bent = whole.to_vec();
            bent[position] ^= 1;
            assert_eq!(unseal(&bent), None, "bent at {position}");
        }
    }
}
