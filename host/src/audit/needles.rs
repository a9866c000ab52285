//! Finds known secret values in text, in every spelling in which they usually travel.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// What stands in the record in place of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// Shorter values are not searched for: they would match by accident and make the record unreadable.
const MIN_SECRET_BYTES: usize = 4;

/// A piece of base64 cut at an unknown boundary must be at least this long (36 bits) to be searched for.
const MIN_FRAGMENT_CHARS: usize = 6;

/// All spellings of all known secrets.
pub(super) struct Needles {
    /// Of matches that begin at one place the longest is found, so that a secret which begins with another one
    /// disappears whole. None: there is no secret.
    automaton: Option<AhoCorasick>,
}

impl Needles {
    /// Prepares the search for `secrets`: as they are, JSON-escaped, and in base64 at any alignment
    /// (`Authorization: Basic` encodes the password after a name of any length).
    pub(super) fn new(secrets: &[String]) -> Self {
        let mut patterns: Vec<Box<[u8]>> = Vec::new();
        for secret in
            secrets.iter().flat_map(|s| [s.as_str(), s.trim()]).filter(|s| s.len() >= MIN_SECRET_BYTES)
        {
            patterns.push(secret.as_bytes().into());
            // In JSON, and in JSON that is itself a string in JSON.
            let once = serde_json::Value::from(secret).to_string();
            let twice = serde_json::Value::from(&once[1..once.len() - 1]).to_string();
            patterns.extend([once, twice].map(|quoted| quoted.as_bytes()[1..quoted.len() - 1].into()));
            for engine in [&STANDARD, &URL_SAFE] {
                let whole = engine.encode(secret);
                patterns.push(whole.trim_end_matches('=').as_bytes().into());
                patterns.push(whole.into_bytes().into());
                patterns.extend((0..3).filter_map(|lead| fragment(engine, secret.as_bytes(), lead)));
            }
        }
        patterns.retain(|pattern| pattern.len() >= MIN_SECRET_BYTES);
        if patterns.is_empty() {
            return Self { automaton: None };
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns);
        // It fails for more states than 32 bits can number: for secrets of gigabytes, which no configuration holds.
        Self { automaton: Some(automaton.unwrap_or_else(|error| panic!("too many secrets: {error}"))) }
    }

    /// Whether a secret occurs in `text`.
    pub(super) fn hit(&self, text: &str) -> bool {
        self.find(text.as_bytes(), 0).is_some()
    }

    /// The text with every secret replaced; borrowed if there was none.
    pub(super) fn scrub<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some((mut start, mut end)) = self.find(text.as_bytes(), 0) else { return Cow::Borrowed(text) };
        let mut clean = String::with_capacity(text.len());
        let mut copied = 0;
        loop {
            // The patterns are UTF-8, so a match begins and ends at character boundaries.
            clean.push_str(&text[copied..start]);
            clean.push_str(REDACTED);
            copied = end;
            match self.find(text.as_bytes(), end) {
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
        Some((found.start(), found.end()))
    }
}

impl std::fmt::Debug for Needles {
    /// Never shows a pattern: each of them is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let patterns = self.automaton.as_ref().map_or(0, AhoCorasick::patterns_len);
        write!(f, "Needles({patterns} patterns)")
    }
}

/// The characters that every base64 text contains in which `secret` is preceded by `lead` bytes (modulo 3) and
/// followed by anything: those whose six bits all belong to the secret.
fn fragment(engine: &impl base64::Engine, secret: &[u8], lead: usize) -> Option<Box<[u8]>> {
    let mut padded = vec![0_u8; lead];
    padded.extend_from_slice(secret);
    let encoded = engine.encode(&padded);
    let first = (lead * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    let piece = encoded.as_bytes().get(first..last)?;
    (piece.len() >= MIN_FRAGMENT_CHARS).then(|| piece.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(secret: &str) -> Needles {
        Needles::new(&[secret.to_owned()])
    }

    #[test]
    fn finds_every_spelling() {
        let secret = "p\"ss\\w0rd-Grünkohl";
        let needles = needles(secret);
        assert_eq!(needles.scrub(&format!("a {secret} b {secret}")), "a [redacted] b [redacted]");
        assert_eq!(needles.scrub(r#"{"k":"p\"ss\\w0rd-Grünkohl"}"#), r#"{"k":"[redacted]"}"#);
        for lead in ["", "u", "us", "use", "user"] {
            let basic = STANDARD.encode(format!("{lead}:{secret}:tail"));
            let clean = needles.scrub(&basic).into_owned();
            assert!(clean.contains(REDACTED), "{lead}: {basic} stays {clean}");
        }
        assert_eq!(needles.scrub(&URL_SAFE.encode(secret)), REDACTED);
    }

    #[test]
    fn short_values_are_left_alone_and_longer_ones_win() {
        assert!(!needles("abc").hit("abc"));
        let both = Needles::new(&["token".to_owned(), "token-long".to_owned()]);
        assert_eq!(both.scrub("x token-long token"), "x [redacted] [redacted]");
    }
}
