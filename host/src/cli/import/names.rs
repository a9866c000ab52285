//! Names for backends: letters, digits, `_` and `-`, at most 48, each once.

use std::collections::HashSet;

/// The longest name of a backend.
const LONGEST: usize = 48;

/// The names that are given already.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    pub(super) fn new(taken: impl IntoIterator<Item = String>) -> Self {
        Self(taken.into_iter().collect())
    }

    /// A name as much like this one as the gateway allows, which nothing has yet.
    pub(super) fn give(&mut self, wanted: &str) -> String {
        let mut name = String::new();
        for letter in wanted.trim().chars() {
            let kept = letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
            let letter = if kept { letter } else { '-' };
            if !(letter == '-' && name.ends_with('-')) {
                name.push(letter);
            }
        }
        let name = name.trim_matches('-');
        let name: String = if name.is_empty() { "server" } else { name }.chars().take(LONGEST).collect();
        let mut given = name.clone();
        for number in 2..u32::MAX {
            if self.0.insert(given.clone()) {
                break;
            }
            let end = format!("-{number}");
            given = name.chars().take(LONGEST - end.len()).collect::<String>() + &end;
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_different() {
        let mut names = Names::new(["taken".to_owned()]);
        for (wanted, given) in [
            ("files", "files"),
            ("two words", "two-words"),
            ("two  words", "two-words-2"),
            ("@scope/name", "scope-name"),
            ("taken", "taken-2"),
            ("中文", "server"),
            ("日本", "server-2"),
            ("a_b-c", "a_b-c"),
        ] {
            assert_eq!(names.give(wanted), given, "{wanted}");
        }
        let long = "x".repeat(80);
        assert_eq!((names.give(&long).len(), names.give(&long).len()), (48, 48));
    }
}
