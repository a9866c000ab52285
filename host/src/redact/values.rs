//! Finds known secret values in text, in every spelling in which they usually travel.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::REDACTED;

/// Shorter values are not searched for: they would match by accident and make every text unreadable.
const MIN_SECRET_BYTES: usize = 4;

/// Lines of a multi-line secret shorter than this are not secrets by themselves (`}` is not).
const MIN_LINE_BYTES: usize = 6;

/// A piece of base64 cut at an unknown boundary must be at least this long (36 bits) to be searched for.
const MIN_FRAGMENT_CHARS: usize = 6;

/// How often a text is decoded: `%2533` is `%33` is `3`.
const MAX_DECODINGS: usize = 4;

/// How many bytes of a secret are searched for; the rest is compared where they were found. A secret may be a file of
/// 64 KiB, and the search takes many times the memory of its patterns.
const MAX_HEAD: usize = 128;

/// The most lines of a secret that are secrets by themselves.
const MAX_LINES: usize = 512;

/// All spellings of all known secrets.
#[derive(Default)]
pub(super) struct Values {
    /// Of matches that begin at one place the longest is found, so that a secret which begins with another one
    /// disappears whole. None: there is no secret.
    automaton: Option<AhoCorasick>,
    /// For each pattern of the automaton the ways in which it goes on, beyond its first [`MAX_HEAD`] bytes.
    rests: Vec<Vec<Box<[u8]>>>,
    /// The longest spelling, in bytes.
    longest: usize,
}

impl Values {
    /// Prepares the search for `secrets`: as they are, line by line (a key file is printed so), escaped for JSON and for
    /// URLs, and in base64 at any alignment (`Authorization: Basic` encodes the password after a name of any length).
    pub(super) fn new(secrets: &[String]) -> Self {
        let mut spellings: BTreeSet<Vec<u8>> = BTreeSet::new();
        // A password in a URL is encoded there and used decoded.
        let decoded: Vec<String> = secrets.iter().filter_map(|secret| in_percents(secret)).collect();
        let all = secrets.iter().chain(&decoded);
        let long_enough = |secret: &&str| secret.len() >= MIN_SECRET_BYTES;
        for secret in all.clone().flat_map(|secret| [secret.as_str(), secret.trim()]).filter(long_enough) {
            spellings.insert(secret.into());
            spellings.extend(in_json(secret));
            spellings.extend(in_urls(secret));
            for engine in [&STANDARD, &URL_SAFE] {
                let whole = engine.encode(secret);
                spellings.insert(whole.trim_end_matches('=').into());
                spellings.extend((0..3).filter_map(|lead| fragment(engine, secret.as_bytes(), lead)));
                spellings.insert(whole.into_bytes());
            }
        }
        for line in all.flat_map(|secret| lines(secret)) {
            spellings.insert(line.into());
            spellings.extend(in_json(line));
        }
        spellings.retain(|spelling| spelling.len() >= MIN_SECRET_BYTES);
        let Some(longest) = spellings.iter().map(Vec::len).max() else { return Self::default() };
        let mut heads: Vec<Vec<u8>> = Vec::new();
        let mut rests: Vec<Vec<Box<[u8]>>> = Vec::new();
        // They are sorted, so those that begin alike follow each other.
        for mut spelling in spellings {
            let rest = spelling.split_off(spelling.len().min(MAX_HEAD));
            if heads.last() != Some(&spelling) {
                heads.push(spelling);
                rests.push(Vec::new());
            }
            if let Some(rests) = rests.last_mut().filter(|_| !rest.is_empty()) {
                rests.push(rest.into());
            }
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&heads);
        // It fails for more states than 32 bits can number: for millions of secrets, which no configuration holds.
        let automaton = automaton.unwrap_or_else(|error| panic!("too many secrets: {error}"));
        Self { automaton: Some(automaton), rests, longest }
    }

    /// The longest spelling of a secret, in bytes: so much at the end of a cut text may be the beginning of one.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Whether a secret occurs in `text`.
    pub(super) fn hit(&self, text: &str) -> bool {
        self.find(text.as_bytes(), 0).is_some()
    }

    /// The text with every secret replaced; borrowed if there was none.
    pub(super) fn scrub<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.automaton.is_none() {
            return Cow::Borrowed(text);
        }
        let mut clean = self.replaced(text);
        let mut form: Option<String> = None;
        for _ in 0..MAX_DECODINGS {
            // Any letter may be spelled as an escape: `s\u0033cret`, `s%33cret`. Then the text is shown decoded.
            let Some(next) = decoded_once(form.as_deref().unwrap_or(&clean)) else { break };
            if self.hit(&next) {
                clean = Cow::Owned(self.replaced(&next).into_owned());
                form = None;
            } else {
                form = Some(next);
            }
        }
        clean
    }

    fn replaced<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some((mut start, mut end)) = self.find(text.as_bytes(), 0) else { return Cow::Borrowed(text) };
        let mut clean = String::with_capacity(text.len());
        let mut copied = 0;
        loop {
            // The patterns are UTF-8, so a match begins at a character boundary; one that breaks off may end between.
            clean.push_str(&text[copied..start]);
            clean.push_str(REDACTED);
            copied = text.ceil_char_boundary(end);
            match self.find(text.as_bytes(), copied) {
                Some(next) => (start, end) = next,
                None => break,
            }
        }
        clean.push_str(&text[copied..]);
        Cow::Owned(clean)
    }

    /// The first match at or after `from`: its start and its end.
    fn find(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        let found = self.automaton.as_ref()?.find(Input::new(text).range(from..))?;
        let after = &text[found.end()..];
        let goes_on = |rest: &[u8]| rest.iter().zip(after).take_while(|(one, other)| one == other).count();
        let rests = self.rests.get(found.pattern().as_usize()).map_or(&[][..], Vec::as_slice);
        let more = rests.iter().map(|rest| goes_on(rest)).max().unwrap_or_default();
        Some((found.start(), found.end() + more))
    }
}

impl std::fmt::Debug for Values {
    /// Never shows a pattern: each of them is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let patterns = self.automaton.as_ref().map_or(0, AhoCorasick::patterns_len);
        write!(f, "Values({patterns} patterns)")
    }
}

/// The lines of a secret that has several.
fn lines(secret: &str) -> impl Iterator<Item = &str> {
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE_BYTES);
    lines.take(if secret.contains('\n') { MAX_LINES } else { 0 })
}

/// Inside a JSON string, and inside one that is itself in a string: as most writers escape, with `\/`, and with all of
/// Unicode as `\u`.
fn in_json(secret: &str) -> Vec<Vec<u8>> {
    let quoted = |text: &str| {
        let json = serde_json::Value::from(text).to_string();
        json[1..json.len() - 1].to_owned()
    };
    let once = quoted(secret);
    let mut ascii = String::new();
    for char in once.chars() {
        if char.is_ascii() {
            ascii.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing into memory cannot fail.
            let _infallible = write!(ascii, "\\u{unit:04x}");
        }
    }
    [quoted(&once), once.replace('/', "\\/"), ascii, once].into_iter().map(String::into_bytes).collect()
}

/// Percent-encoded: everything that may be, as `encodeURIComponent` leaves it, as a form sends it, and each with small
/// letters.
fn in_urls(secret: &str) -> Vec<Vec<u8>> {
    let encode = |kept: &[u8], small: bool, plus: bool| {
        let mut out = String::new();
        for byte in secret.bytes() {
            // Writing into memory cannot fail.
            let _infallible = match byte {
                b' ' if plus => write!(out, "+"),
                _ if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) || kept.contains(&byte) => {
                    write!(out, "{}", char::from(byte))
                }
                _ if small => write!(out, "%{byte:02x}"),
                _ => write!(out, "%{byte:02X}"),
            };
        }
        out.into_bytes()
    };
    let mut all = Vec::new();
    for small in [false, true] {
        all.push(encode(b"~", small, false));
        all.push(encode(b"~!*'()", small, false));
        all.push(encode(b"*", small, true));
        // In a path or a query most servers leave these as they are.
        all.push(encode(b"~!$&'()*+,;=:@/?", small, false));
    }
    all
}

/// The text with one layer of escapes less; none if there is none.
fn decoded_once(text: &str) -> Option<String> {
    let unescaped = in_escapes(text);
    in_percents(unescaped.as_deref().unwrap_or(text)).or(unescaped)
}

/// The text with `\u0033` as `3`; none if there is no such thing in it. Halves of surrogate pairs stay.
fn in_escapes(text: &str) -> Option<String> {
    decoded(text, b"\\u", 4, |digits, out| {
        let char = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let char = char.and_then(char::from_u32)?;
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        Some(())
    })
}

/// The text with `%33` as `3`; none if there is no such thing in it.
fn in_percents(text: &str) -> Option<String> {
    decoded(text, b"%", 2, |digits, out| {
        let byte = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())?;
        out.push(byte);
        Some(())
    })
}

fn decoded(
    text: &str,
    marker: &[u8],
    digits: usize,
    decode: impl Fn(&[u8], &mut Vec<u8>) -> Option<()>,
) -> Option<String> {
    let bytes = text.as_bytes();
    let mut next = memchr::memmem::find(bytes, marker)?;
    let (mut out, mut copied, mut any) = (Vec::with_capacity(bytes.len()), 0, false);
    loop {
        out.extend_from_slice(&bytes[copied..next]);
        let from = next + marker.len();
        let found = bytes.get(from..from + digits).filter(|found| found.iter().all(u8::is_ascii_hexdigit));
        copied = match found.and_then(|found| decode(found, &mut out)) {
            Some(()) => {
                any = true;
                from + digits
            }
            None => {
                out.extend_from_slice(marker);
                from
            }
        };
        match memchr::memmem::find(&bytes[copied..], marker) {
            Some(found) => next = copied + found,
            None => break,
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    any.then(|| String::from_utf8_lossy(&out).into_owned())
}

/// The characters that every base64 text contains in which `secret` is preceded by `lead` bytes (modulo 3) and
/// followed by anything: those whose six bits all belong to the secret.
fn fragment(engine: &impl base64::Engine, secret: &[u8], lead: usize) -> Option<Vec<u8>> {
    let mut padded = vec![0_u8; lead];
    padded.extend_from_slice(secret);
    let encoded = engine.encode(&padded);
    let first = (lead * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    let piece = encoded.as_bytes().get(first..last)?;
    (piece.len() >= MIN_FRAGMENT_CHARS).then(|| piece.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(secret: &str) -> Values {
        Values::new(&[secret.to_owned()])
    }

    #[test]
    fn finds_every_spelling() {
        let secret = "p\"ss\\w0rd/Grünkohl +";
        let values = values(secret);
        assert_eq!(values.scrub(&format!("a {secret} b {secret}")), "a [redacted] b [redacted]");
        for spelling in [
            r#"p\"ss\\w0rd/Grünkohl +"#,
            r#"p\"ss\\w0rd\/Grünkohl +"#,
            r#"p\"ss\\w0rd/Gr\u00fcnkohl +"#,
            r#"p\\\"ss\\\\w0rd/Grünkohl +"#,
            "p%22ss%5Cw0rd%2FGr%C3%BCnkohl%20%2B",
            "p%22ss%5cw0rd%2fGr%c3%bcnkohl%20%2b",
            "p%22ss%5Cw0rd%2FGr%C3%BCnkohl+%2B",
            "p%22ss%5Cw0rd/Gr%C3%BCnkohl%20+",
            r#"\u0070\"ss\\w0rd/Grünkohl +"#,
            "%70%22s%73%5Cw0%72d%2FGr%C3%BCnk%6Fhl%20%2B",
            "%2570%22s%73%5Cw0%72d%2FGr%C3%BCnk%6Fhl%20%2B",
        ] {
            assert_eq!(values.scrub(&format!("({spelling})")), "([redacted])", "{spelling}");
        }
        for lead in ["", "u", "us", "use", "user"] {
            let basic = STANDARD.encode(format!("{lead}:{secret}:tail"));
            let clean = values.scrub(&basic).into_owned();
            assert!(clean.contains(REDACTED), "{lead}: {basic} stays {clean}");
        }
        assert_eq!(values.scrub(&URL_SAFE.encode(secret)), REDACTED);
    }

    #[test]
    fn a_key_of_many_lines_is_found_line_by_line() {
        let values = values("-----BEGIN KEY-----\nabcdefgh\nijklmnop\n}\n");
        assert_eq!(values.scrub("it holds abcdefgh and {}"), "it holds [redacted] and {}");
        assert!(values.hit("ijklmnop"));
    }

    #[test]
    fn a_secret_of_any_length_is_found_whole_and_in_part() {
        let secret: String = ('a'..='z').cycle().take(64 << 10).chain("é!".chars()).collect();
        let values = values(&secret);
        assert_eq!(values.scrub(&format!("<{secret}>")), "<[redacted]>");
        assert_eq!(values.scrub(&format!("<{}>", &secret[..5_000])), "<[redacted]>");
        // It breaks off in the middle of a character.
        let torn = secret.replace('é', "è");
        assert_eq!(values.scrub(&format!("<{torn}>")), "<[redacted]!>");
        let same = self::values(&"x".repeat(64 << 10));
        assert_eq!(same.scrub(&"x".repeat(200 << 10)), "[redacted]".repeat(4));
    }

    #[test]
    fn short_values_are_left_alone_and_longer_ones_win() {
        assert!(!values("abc").hit("abc"));
        let both = Values::new(&["token".to_owned(), "token-long".to_owned()]);
        assert_eq!(both.scrub("x token-long token"), "x [redacted] [redacted]");
    }
}
