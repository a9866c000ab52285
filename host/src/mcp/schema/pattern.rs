//! Patterns: from the regular expressions of ECMA-262, which JSON Schema means, to those of the `regex` engine, whose time
//! is linear in the text. A pattern without an equivalent there (look-around, back-references), or with one that would
//! be too large, is not translated.

use std::fmt;

use regex_syntax::Parser;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

mod class;
mod spelling;

/// Longest pattern that is read.
const MAX_BYTES: usize = 16 << 10;
/// Most states of one pattern. The engine needs up to about 50 bytes for each.
const MAX_STATES: f64 = 20_000.0;
/// Deepest nesting of one pattern.
const MAX_NEST: u32 = 100;

/// A pattern as the engine takes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    pub(super) text: String,
    /// It is one only for those who read patterns as browsers do without the flag `u`; many validators set it.
    pub(super) loose: bool,
    /// How many states its machine has, roughly: the steps that one byte of text costs at most.
    pub(super) states: f64,
    /// What else it demands of a text's length, where that was split off: at least, at most.
    pub(super) length: Option<(u32, Option<u32>)>,
}

/// Why a pattern is not used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Engines whose time is not bounded take it.
    Beyond(String),
    /// It is no pattern of ECMA-262.
    Wrong(String),
}

impl Unread {
    /// Whether others understand it.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Beyond(_))
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Beyond(why) | Self::Wrong(why)) = self;
        f.write_str(why)
    }
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        if why == spelling::LOOK || why == spelling::BACK { Self::Beyond(why) } else { Self::Wrong(why) }
    }
}

/// Translates a pattern, or says why it cannot be.
pub(super) fn translate(pattern: &str) -> Result<Pattern, Unread> {
    if pattern.len() > MAX_BYTES {
        return Err(Unread::Beyond(format!("it is longer than {MAX_BYTES} bytes")));
    }
    let (text, loose) = spelling::translate(pattern)?;
    let hir = regex_syntax::ParserBuilder::new()
        .nest_limit(MAX_NEST)
        .build()
        .parse(&text)
        .map_err(|error| Unread::Wrong(bare(&error)))?;
    let whole = states(&hir);
    if whole <= MAX_STATES {
        return Ok(Pattern { text, loose, states: whole, length: None });
    }
    let too_large = || Unread::Beyond(format!("its machine would have more than {MAX_STATES} states"));
    simpler(&hir).map(|simpler| Pattern { loose, ..simpler }).ok_or_else(too_large)
}

/// The reason without the drawing around it.
fn bare(error: &regex_syntax::Error) -> String {
    let reason = match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it cannot be read".to_owned(),
    };
    format!("it is no regular expression: {reason}")
}

/// The same without counting as far: found anywhere, `x{1,50000}` is `x`; `^x{1,50000}$` is `^x{1,}$` and a length, if
/// `x` is one character.
fn simpler(hir: &Hir) -> Option<Pattern> {
    let (counted, anchored) = match hir.kind() {
        HirKind::Repetition(counted) => (counted, false),
        HirKind::Concat(parts) => match parts.as_slice() {
            [start, counted, end]
                if *start.kind() == HirKind::Look(Look::Start) && *end.kind() == HirKind::Look(Look::End) =>
            {
                let HirKind::Repetition(counted) = counted.kind() else { return None };
                (counted, matches!(counted.sub.kind(), HirKind::Class(_)))
            }
            _ => return None,
        },
        _ => return None,
    };
    let is_anchored = matches!(hir.kind(), HirKind::Concat(_));
    let (text, length) = if anchored {
        (format!("^(?:{})*$", counted.sub), Some((counted.min, counted.max)))
    } else if is_anchored {
        return None;
    } else {
        (format!("(?:{}){{{}}}", counted.sub, counted.min), None)
    };
    let hir = Parser::new().parse(&text).ok()?;
    let states = states(&hir);
    (states <= MAX_STATES).then_some(Pattern { text, loose: false, states, length })
}

/// How many states the machine of an expression has, roughly and rather too many.
fn states(hir: &Hir) -> f64 {
    let several = |parts: &[Hir]| parts.iter().map(states).sum::<f64>();
    match hir.kind() {
        HirKind::Empty => 0.0,
        HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => 1.0,
        HirKind::Literal(literal) => count(literal.0.len()),
        HirKind::Class(Class::Unicode(class)) => {
            let beyond_ascii = class.ranges().iter().any(|range| range.end() > '\x7f');
            count(class.ranges().len()) * if beyond_ascii { 4.0 } else { 1.0 } + 1.0
        }
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or_else(|| repetition.min.saturating_add(1)).max(1);
            f64::from(times) * (states(&repetition.sub) + 1.0)
        }
        HirKind::Capture(capture) => states(&capture.sub) + 2.0,
        HirKind::Concat(parts) => several(parts),
        HirKind::Alternation(parts) => several(parts) + 1.0,
    }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        let found = translate(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let schema = serde_json::json!({"pattern": found.text});
        let options = jsonschema::PatternOptions::regex();
        jsonschema::options().with_pattern_options(options).build(&schema).unwrap().is_valid(&text.into())
    }

    #[test]
    fn spellings_of_ecma_script_mean_the_same() {
        // As a JavaScript engine answers (with the flag u, or without where that is an error).
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("^{[a-z]+}$", &["{a}"], &["a", "{}"]),
            ("^a{,3}$", &["a{,3}"], &["aa"]),
            ("^x{2}y]$", &["xxy]"], &["xy]"]),
            ("^[^]$", &["a", "\n", "é"], &["", "ab"]),
            ("^[]$", &[], &["", "a"]),
            (r"^\d\D\w\W\s\S$", &["1a_! x", "0é_é\u{feff}é"], &["٣a_! x", "1aé! x"]),
            (r"^[\d-x]+$", &["1-x"], &["y"]),
            (r"^[^\W]$", &["a", "_"], &["é", "-"]),
            (r"^\/a\-b\_\@$", &["/a-b_@"], &["a"]),
            (r"^\cJ\x41\u0042\u{43}\0$", &["\nABC\0"], &["ABC"]),
            (r"^\ud83d\ude00$", &["😀"], &["x"]),
            ("^.$", &["a", "é"], &["\n", "\r", "\u{2028}"]),
            (r"\bfoo\b", &["a foo b"], &["afoo"]),
            (r"^(?<year>\d{4})-(?:\d{2})$", &["2026-01"], &["26-01"]),
            ("^[a&&b~~c]$", &["a", "&", "~"], &["d"]),
            ("^[[a]$", &["[", "a"], &["]"]),
            (r"^[\b]$", &["\u{8}"], &["b"]),
            (r"^\p{Lu}$", &["É"], &["é"]),
            ("^a{2,3}?$", &["aa", "aaa"], &["a"]),
            ("", &["", "anything"], &[]),
            (r"^(|a)$", &["", "a"], &["b"]),
            ("^#x y$", &["#x y"], &["#xy"]),
        ];
        for (pattern, good, bad) in cases {
            for text in *good {
                assert!(fits(pattern, text), "{pattern} takes {text:?}");
            }
            for text in *bad {
                assert!(!fits(pattern, text), "{pattern} does not take {text:?}");
            }
        }
    }

    #[test]
    fn what_has_no_equivalent_is_refused() {
        let long = "a".repeat(MAX_BYTES + 1);
        let nested = format!("{}a{}", "(".repeat(500), ")".repeat(500));
        for pattern in [
            "(?=a)",
            "(?!a)b",
            "(?<=a)b",
            "(?<!a)b",
            r"(a)\1",
            r"(?<n>a)\k<n>",
            "[z-a]",
            "(",
            ")",
            "*a",
            "a{3,2}",
            "[a",
            r"\",
            r"\ud800",
            "{1}",
            "((a{1000}){1000}){1000}",
            "^a.{1,50000}b$",
            r"(\p{L}{100}){100}",
            &long,
            &nested,
        ] {
            assert!(translate(pattern).is_err(), "{pattern}: {:?}", translate(pattern));
        }
    }

    #[test]
    fn what_strict_readers_refuse_is_known() {
        for strict in [r"^\d{2,}[\w\-]\.\/\u{43}$", "^(?:a|b)*$", r"[^\]\[]", "a{2}", r"\p{Lu}"] {
            assert!(!translate(strict).unwrap().loose, "{strict}");
        }
        for loose in ["^{[a-z]+}$", r"\-", r"\_", "a]", "a}", "a{,3}", r"[\w-x]", r"\u12", r"\x1"] {
            assert!(translate(loose).unwrap().loose, "{loose}");
        }
        for (pattern, elsewhere) in
            [("(?=a)", true), (r"(a)\1", true), ("(?i)a", false), ("(?P<n>a)", false), ("(", false)]
        {
            assert_eq!(translate(pattern).unwrap_err().is_elsewhere(), elsewhere, "{pattern}");
        }
    }

    #[test]
    fn counting_far_is_not_needed() {
        let anywhere = translate(".{1,50000}").unwrap();
        assert!(anywhere.states < 100.0 && anywhere.length.is_none(), "{anywhere:?}");
        assert!(fits(".{2,50000}", "ab") && !fits(".{2,50000}", "a\n"));
        let all = translate("^[^]{3,50000}$").unwrap();
        assert_eq!(all.length, Some((3, Some(50_000))));
        assert!(all.states < 100.0);
    }
}
