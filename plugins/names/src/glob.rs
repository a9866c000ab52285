//! Patterns with `*`, compiled once and matched in linear time, so that no name can make a call slow.

use std::cmp::Ordering;

/// A set of texts and patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// Sorted.
    exact: Vec<Box<str>>,
    globs: Vec<Glob>,
}

/// A pattern with at least one `*`: a start, pieces in their order, an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    prefix: Box<str>,
    middle: Box<[Box<str>]>,
    suffix: Box<str>,
}

impl Patterns {
    /// Compiles texts and patterns; `*` stands for any number of characters, also none.
    pub fn new<'text>(patterns: impl IntoIterator<Item = &'text str>) -> Self {
        let mut compiled = Self::default();
        for pattern in patterns {
            match Glob::new(pattern) {
                Some(glob) => compiled.globs.push(glob),
                None => compiled.exact.push(pattern.into()),
            }
        }
        compiled.exact.sort_unstable();
        compiled
    }

    /// Whether one of them fits the whole text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.exact.binary_search_by(|known| (**known).cmp(text)).is_ok()
            || self.globs.iter().any(|glob| glob.matches(text))
    }

    /// Whether one of them fits `head_tail`. A pattern has to name all of `head_`: an operator who writes `re*` means tools,
    /// and not all that a backend called `repos` has. The text is only made if there is a pattern that must see it.
    #[must_use]
    pub(crate) fn matches_joined(&self, head: &str, tail: &str) -> bool {
        let compared = |known: &str| -> Ordering {
            let joined = head.bytes().chain(std::iter::once(b'_')).chain(tail.bytes());
            known.bytes().cmp(joined)
        };
        if self.exact.binary_search_by(|known| compared(known)).is_ok() {
            return true;
        }
        let mut naming = self.globs.iter().filter(|glob| glob.names(head)).peekable();
        if naming.peek().is_none() {
            return false;
        }
        let joined = format!("{head}_{tail}");
        naming.any(|glob| glob.matches(&joined))
    }

    /// The same of a text that is joined already, in whatever spelling.
    #[must_use]
    pub(crate) fn matches_spelled(&self, head: &str, joined: &str) -> bool {
        self.exact.binary_search_by(|known| (**known).cmp(joined)).is_ok()
            || self.globs.iter().any(|glob| glob.names(head) && glob.matches(joined))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.globs.is_empty()
    }
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        let (prefix, rest) = pattern.split_once('*')?;
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').filter(|piece| !piece.is_empty()).map(Box::from).collect();
        Some(Self { prefix: prefix.into(), middle, suffix: suffix.into() })
    }

    /// Whether it begins with `head_`, in letters.
    fn names(&self, head: &str) -> bool {
        self.prefix.strip_prefix(head).is_some_and(|rest| rest.starts_with('_'))
    }

    /// Taking the first place of every piece is enough: a later one only leaves less for the rest. So nothing is tried
    /// twice, and `str::find` is linear itself.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(&*self.prefix) else { return false };
        let Some(mut rest) = rest.strip_suffix(&*self.suffix) else { return false };
        for piece in &self.middle {
            match rest.find(&**piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Patterns::new([pattern]).matches(text)
    }

    #[test]
    fn a_star_stands_for_anything_and_nothing() {
        let yes = [
            ("*", ""),
            ("*", "delete"),
            ("delete*", "delete"),
            ("delete*", "delete_repo"),
            ("*_repo", "delete_repo"),
            ("d*e*o", "delete_repo"),
            ("a**b", "ab"),
            ("*aba", "ababa"),
            ("ü*", "über"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_covers_the_whole_text() {
        let no = [
            ("delete", "delete_repo"),
            ("delete*", "undelete"),
            ("a*a", "a"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
            ("", "delete"),
            ("Delete*", "delete"),
        ];
        for (pattern, text) in no {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_longer() {
        // Trying every split would take more than 2^40 steps for this one.
        let pattern = format!("{}b", "a*".repeat(40));
        assert!(!matches(&pattern, &"a".repeat(100_000)));
    }

    /// The definition, by trying every split.
    fn oracle(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| oracle(rest, &text[skip..])),
            Some((first, rest)) => {
                text.split_first().is_some_and(|(head, tail)| head == first && oracle(rest, tail))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,8}") {
            let wanted = oracle(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
            prop_assert_eq!(matches(&pattern, &text), wanted);
        }

        #[test]
        fn a_name_in_two_parts_fits_what_names_the_first_and_fits_the_whole(
            patterns in proptest::collection::vec("[ab_*]{0,5}", 0..5), head in "[ab]{0,3}", tail in "[ab_]{0,4}",
        ) {
            let joined = format!("{head}_{tail}");
            let fits = |pattern: &String| {
                matches(pattern, &joined) && (!pattern.contains('*') || pattern.starts_with(&format!("{head}_")))
            };
            let wanted = patterns.iter().any(fits);
            let patterns = Patterns::new(patterns.iter().map(String::as_str));
            prop_assert_eq!(patterns.matches_joined(&head, &tail), wanted);
            prop_assert_eq!(patterns.matches_spelled(&head, &joined), wanted);
        }
    }
}
