//! Which operations of a document are wanted.

use super::operation::Operation;

/// Patterns by tag, id and method; an empty list takes everything. `*` stands for any characters.
#[derive(Clone, Debug, Default)]
pub struct Pick {
    pub tags: Vec<String>,
    pub ids: Vec<String>,
    pub methods: Vec<String>,
}

impl Pick {
    /// Whether an operation is wanted: by each of the lists that is not empty.
    #[must_use]
    pub fn takes(&self, operation: &Operation) -> bool {
        let any = |wanted: &[String], has: &[&str]| {
            wanted.is_empty() || has.iter().any(|word| wanted.iter().any(|pattern| fits(pattern, word)))
        };
        let tags: Vec<&str> = operation.tags.iter().map(String::as_str).collect();
        any(&self.tags, &tags)
            && any(&self.ids, &[operation.id.as_str()])
            && (self.methods.is_empty()
                || self.methods.iter().any(|method| method.eq_ignore_ascii_case(&operation.method)))
    }

    /// The patterns that no operation fits: a spelling mistake would otherwise only make the list shorter.
    #[must_use]
    pub fn unmatched<'a>(&'a self, operations: &[Operation]) -> Vec<(&'static str, &'a str)> {
        let tag = |pattern: &str| {
            operations.iter().any(|operation| operation.tags.iter().any(|tag| fits(pattern, tag)))
        };
        let id = |pattern: &str| operations.iter().any(|operation| fits(pattern, &operation.id));
        let method =
            |word: &str| operations.iter().any(|operation| operation.method.eq_ignore_ascii_case(word));
        let tags = self.tags.iter().filter(|pattern| !tag(pattern)).map(|pattern| ("tag", pattern.as_str()));
        let ids = self.ids.iter().filter(|pattern| !id(pattern)).map(|pattern| ("id", pattern.as_str()));
        let methods = self.methods.iter().filter(|word| !method(word)).map(|word| ("method", word.as_str()));
        tags.chain(ids).chain(methods).collect()
    }
}

/// Whether a word fits a pattern; the length of both bounds the work.
fn fits(pattern: &str, word: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == word };
    let Some(mut word) = word.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match word.find(part) {
            Some(at) => word = &word[at + part.len()..],
            None => return false,
        }
    }
    word.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, word, expected) in [
            ("pets", "pets", true),
            ("pets", "pets2", false),
            ("pets/*", "pets/list", true),
            ("*list*", "pets/list-all", true),
            ("*a*b", "xaxb", true),
            ("*a*b", "xbxa", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, word), expected, "{pattern} {word}");
        }
    }
}
