//! Tool patterns with `*`, compiled once and matched in linear time, so that no name can make a call slow.

use std::collections::HashSet;

/// A set of names and patterns.
#[derive(Debug, Default)]
pub struct Matcher {
    exact: HashSet<String>,
    globs: Vec<Glob>,
}

/// A pattern with at least one `*`: a start, pieces in their order, an end.
#[derive(Debug)]
struct Glob {
    prefix: String,
    middle: Vec<String>,
    suffix: String,
}

impl Matcher {
    /// Compiles names and patterns; `*` stands for any number of characters, also none.
    pub fn new<'text>(patterns: impl IntoIterator<Item = &'text str>) -> Self {
        let mut matcher = Self::default();
        for pattern in patterns {
            match Glob::new(pattern) {
                Some(glob) => matcher.globs.push(glob),
                None => drop(matcher.exact.insert(pattern.to_owned())),
            }
        }
        matcher
    }

    /// Whether one of them matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.exact.contains(name) || self.globs.iter().any(|glob| glob.matches(name))
    }
}

impl Glob {
    fn new(pattern: &str) -> Option<Self> {
        let (prefix, rest) = pattern.split_once('*')?;
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle = middle.split('*').filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
        Some(Self { prefix: prefix.to_owned(), middle, suffix: suffix.to_owned() })
    }

    /// Taking the first place of every piece is enough: a later one only leaves less for the rest. So
    /// nothing is tried twice, and `str::find` is linear itself.
    fn matches(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(self.suffix.as_str()) else { return false };
        for piece in &self.middle {
            match rest.find(piece.as_str()) {
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

    fn matches(pattern: &str, name: &str) -> bool {
        Matcher::new([pattern]).matches(name)
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
        for (pattern, name) in yes {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_covers_the_whole_name() {
        let no = [
            ("delete", "delete_repo"),
            ("delete*", "undelete"),
            ("a*a", "a"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
            ("A*", "a"),
        ];
        for (pattern, name) in no {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_stays_linear() {
        // A backtracking matcher needs about 2^40 steps for this one.
        let pattern = format!("{}b", "a*".repeat(40));
        assert!(!matches(&pattern, &"a".repeat(100_000)));
    }

    /// The definition, by trying every split.
    fn oracle(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skip| oracle(rest, &name[skip..])),
            Some((first, rest)) => {
                name.split_first().is_some_and(|(head, tail)| head == first && oracle(rest, tail))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,8}") {
            let wanted = oracle(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>());
            prop_assert_eq!(matches(&pattern, &name), wanted);
        }
    }
}
