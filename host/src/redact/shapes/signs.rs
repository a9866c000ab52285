//! Where in a text a secret can be at all. Most of a long text (an encoded image, a log, prose) holds none of the signs that
//! every secret has near its beginning, and is passed over in blocks instead of letter by letter.

use aho_corasick::Span;
use aho_corasick::packed::{Config, MatchKind, Searcher};

/// The first byte of what may stand between a name and its value: `:`, `=`, `%3A`, `%3D`; also in a URL: `://`.
const SEPARATORS: [u8; 3] = [b':', b'=', b'%'];
/// Separators this near to each other are looked at together, in bytes.
const STRIDE: usize = 512;
/// A text up to this length is sooner looked at whole, in bytes.
const SHORT: usize = 128;
/// Bytes of a scheme (`bearer `, `basic `) before the part that is searched for.
const BEFORE: usize = 3;
/// The ends of the schemes; in any case.
const SCHEMES: [&str; 2] = ["rer ", "sic "];

/// The signs.
pub(super) struct Signs {
    /// What tokens begin with, and the ends of the schemes. None: this processor has no quick search for them, and every
    /// text is looked at from its beginning to its end.
    searcher: Option<Searcher>,
    /// A name begins at most so many bytes before its separator.
    reach: usize,
    /// The longest beginning, in bytes.
    longest: usize,
}

/// How far a text has been searched for signs.
pub(super) struct Search<'s, 't> {
    signs: &'s Signs,
    bytes: &'t [u8],
    separator: usize,
    other: usize,
    stretch: Stretch,
}

/// A part of a text: whatever leads to a secret and begins before its last byte begins in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: usize,
    /// The last place where a beginning is looked for.
    pub(super) last: usize,
    /// Where the longest beginning that begins there ends.
    pub(super) end: usize,
}

impl Signs {
    /// `beginnings` are those of tokens, spelled as here; of all others the longest has `longest` bytes, and its name's
    /// separator follows at most `reach` bytes behind where it begins.
    pub(super) fn new<'b>(beginnings: impl Iterator<Item = &'b str>, longest: usize, reach: usize) -> Self {
        let searcher = Config::new()
            .match_kind(MatchKind::LeftmostFirst)
            .builder()
            .extend(beginnings.map(str::to_owned).chain(SCHEMES.into_iter().flat_map(in_any_case)))
            .build();
        Self { searcher, reach, longest }
    }

    /// Those of nothing, so that nothing is passed over.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { searcher: None, reach: 0, longest: 0 }
    }

    /// The search of a text from its beginning.
    pub(super) fn search<'s, 't>(&'s self, text: &'t str) -> Search<'s, 't> {
        let bytes = text.as_bytes();
        let mut search = Search {
            signs: self,
            bytes,
            separator: 0,
            other: 0,
            stretch: Stretch { from: 0, last: bytes.len(), end: bytes.len() },
        };
        if self.searcher.is_some() && bytes.len() > SHORT {
            (search.separator, search.other) = (search.separator(0), search.other(0));
            search.stretch = search.stretch(0);
        }
        search
    }
}

impl Search<'_, '_> {
    /// The first stretch from `at` on in which something can begin; none if nothing can any more. `at` never goes back.
    pub(super) fn next(&mut self, at: usize) -> Option<Stretch> {
        if at > self.stretch.last {
            if self.separator < at {
                self.separator = self.separator(at);
            }
            if self.other < at {
                self.other = self.other(at);
            }
            self.stretch = self.stretch(at);
        }
        self.stretch.from = self.stretch.from.max(at);
        (self.stretch.from < self.bytes.len()).then_some(self.stretch)
    }

    fn stretch(&self, at: usize) -> Stretch {
        let (reach, longest) = (self.signs.reach, self.signs.longest);
        let first = self.separator.min(self.other);
        let before = |sign: usize, most: usize| {
            if sign < self.bytes.len() { sign.saturating_sub(most) } else { sign }
        };
        let from = before(self.separator, reach).min(before(self.other, BEFORE)).max(at);
        let near = self.bytes.get(first..self.bytes.len().min(first + STRIDE)).unwrap_or_default();
        let [one, two, three] = SEPARATORS;
        let last = first + memchr::memrchr3(one, two, three, near).unwrap_or(0);
        Stretch { from, last, end: self.bytes.len().min(last + longest) }
    }

    /// The next separator, or the end of the text.
    fn separator(&self, at: usize) -> usize {
        let [one, two, three] = SEPARATORS;
        let rest = self.bytes.get(at..).unwrap_or_default();
        memchr::memchr3(one, two, three, rest).map_or(self.bytes.len(), |found| at + found)
    }

    /// The next sign that is none, or the end of the text.
    fn other(&self, at: usize) -> usize {
        let (start, end) = (at.min(self.bytes.len()), self.bytes.len());
        let searcher = self.signs.searcher.as_ref();
        let found = searcher.and_then(|searcher| searcher.find_in(self.bytes, Span { start, end }));
        found.map_or(end, |found| found.start())
    }
}

/// A word in all spellings with small and capital letters.
fn in_any_case(word: &str) -> Vec<String> {
    word.chars().fold(vec![String::new()], |spellings, char| {
        let mut forms = vec![char.to_ascii_lowercase()];
        if char.is_ascii_alphabetic() {
            forms.push(char.to_ascii_uppercase());
        }
        let longer = |form: &char| {
            let form = *form;
            spellings.iter().map(move |spelling| format!("{spelling}{form}")).collect::<Vec<_>>()
        };
        forms.iter().flat_map(longer).collect()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn signs() -> Signs {
        Signs::new(["ghp_", "eyJ"].into_iter(), 11, 20)
    }

    fn stretches(text: &str) -> Vec<(usize, usize)> {
        let signs = signs();
        let mut search = signs.search(text);
        let (mut at, mut found) = (0, Vec::new());
        while let Some(stretch) = search.next(at) {
            found.push((stretch.from, stretch.last));
            at = stretch.last + 1;
        }
        found
    }

    #[test]
    fn a_text_without_a_sign_is_passed_over_and_a_sign_has_its_surroundings() {
        if signs().searcher.is_none() {
            // Nothing is ever passed over then.
            assert_eq!(stretches(&"x".repeat(90)), [(0, 90)]);
            return;
        }
        assert_eq!(stretches(&"x".repeat(100_000)), []);
        let far = "x".repeat(1_000);
        assert_eq!(stretches(&format!("{far}:{far}")), [(980, 1_000)]);
        assert_eq!(stretches(&format!("{far}BEAReR {far}ghp_{far}")), [(1_000, 1_003), (2_004, 2_007)]);
        assert_eq!(stretches(&format!("a=1&b=2{far}eyJ")), [(0, 5), (1_004, 1_007)]);
        // A short one is looked at whole.
        assert_eq!(stretches(""), []);
        assert_eq!(stretches("x"), [(0, 1)]);
    }

    #[test]
    fn all_spellings_of_the_schemes_are_searched_for() {
        let all = in_any_case("sic ");
        assert_eq!(all.len(), 8);
        assert!(all.iter().all(|spelling| spelling.eq_ignore_ascii_case("sic ")));
    }
}
