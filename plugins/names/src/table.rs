//! Values by names and patterns, of which the most telling counts.

use std::collections::HashMap;

use crate::{Names, Rules};

/// Values by name or pattern. For one tool the most specific counts: a name before a pattern, of names one that has the
/// backend in it before one that has not, the shown one before the server's own, and of patterns the one with more letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<T> {
    /// By what stands in the rule, `backend/own` included.
    exact: HashMap<Box<str>, T>,
    /// With most letters first.
    patterns: Vec<(Rules, T)>,
}

impl<T> Table<T> {
    /// Of two patterns with as many letters the earlier one counts.
    pub fn new<'text>(entries: impl IntoIterator<Item = (&'text str, T)>) -> Self {
        let mut exact = HashMap::new();
        let mut patterns = Vec::new();
        for (key, value) in entries {
            // A backend that is written as a pattern makes the whole one.
            if key.contains('*') {
                let letters = key.chars().filter(|char| *char != '*').count();
                patterns.push((letters, (Rules::new([key]), value)));
            } else {
                exact.insert(key.into(), value);
            }
        }
        patterns.sort_by_key(|(letters, _)| std::cmp::Reverse(*letters));
        Self { exact, patterns: patterns.into_iter().map(|(_, entry)| entry).collect() }
    }

    /// The value for a tool.
    #[must_use]
    pub fn get(&self, tool: &Names<'_>) -> Option<&T> {
        self.by_name(tool).or_else(|| {
            let fitting = self.patterns.iter().find(|(rules, _)| rules.hits(tool));
            fitting.map(|(_, value)| value)
        })
    }

    fn by_name(&self, tool: &Names<'_>) -> Option<&T> {
        if self.exact.is_empty() {
            return None;
        }
        // In a rule a `/` names a backend, in a server's own name it is a letter.
        let bare = |name: &str| if name.contains('/') { None } else { self.exact.get(name) };
        let Names { shown, own, backend } = *tool;
        self.exact
            .get(&*format!("{backend}/{own}"))
            .or_else(|| bare(&format!("{backend}_{own}")))
            .or_else(|| bare(&format!("{backend}_{shown}")))
            .or_else(|| tool.safe_joined().and_then(|name| bare(&name)))
            .or_else(|| bare(shown))
            .or_else(|| bare(own))
            .or_else(|| bare(&crate::safe(own)))
            .or_else(|| tool.renamed().and_then(bare))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_counts() {
        let table = Table::new([
            ("*", 0),
            ("read_*", 1),
            ("read_file*", 2),
            ("read_file", 3),
            ("two_read_file", 4),
            ("three/read_file", 5),
            ("four/*", 6),
        ]);
        let of = |shown: &str, own: &str, backend: &str| table.get(&Names { shown, own, backend }).copied();
        assert_eq!(of("write", "write", "one"), Some(0));
        assert_eq!(of("read_dir", "read_dir", "one"), Some(1));
        assert_eq!(of("read_files", "read_files", "one"), Some(2));
        assert_eq!(of("read_file", "read_file", "one"), Some(3));
        assert_eq!(of("five_read_file", "read_file", "five"), Some(3), "by its own name");
        assert_eq!(of("two_read_file", "read_file", "two"), Some(4));
        assert_eq!(of("read_file", "read_file", "two"), Some(4), "by the name it would have");
        assert_eq!(of("three_read_file", "read_file", "three"), Some(5));
        assert_eq!(of("run", "run", "four"), Some(6));
        assert_eq!(of("run", "run", "fo"), Some(0));
    }

    #[test]
    fn a_slash_in_an_own_name_names_no_backend() {
        let table = Table::new([("sandbox/read", 1)]);
        let posing = Names { shown: "sandbox/read", own: "sandbox/read", backend: "x" };
        assert_eq!(table.get(&posing), None);
    }

    #[test]
    fn every_rule_that_hits_has_a_value() {
        let keys = ["a", "b_a", "b/a", "a.c", "b_*", "*/a", "x"];
        let tools =
            [("a", "a", "b"), ("b_a", "a", "b"), ("a_c", "a.c", "b"), ("b_x", "a", "b"), ("x", "a", "c")];
        for key in keys {
            for (shown, own, backend) in tools {
                let tool = Names { shown, own, backend };
                assert_eq!(
                    Table::new([(key, ())]).get(&tool).is_some(),
                    Rules::new([key]).hits(&tool),
                    "{key} {tool:?}"
                );
            }
        }
    }
}
