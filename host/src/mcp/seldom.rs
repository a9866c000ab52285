//! Names that few messages hold. Reading a message to its end to learn that a member is not there is most of the work of reading
//! it, and the same question is asked of each.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// In a longer text the members are looked for at once: it would be read as a whole for the name alone, strings and all.
const SHORT: usize = 8 << 10;

/// The name of such a member.
pub(crate) struct Seldom(LazyLock<Finder<'static>>);

impl Seldom {
    /// One that is found like this; the search is prepared when it is first used.
    #[must_use]
    pub(crate) const fn new(finder: fn() -> Finder<'static>) -> Self {
        Self(LazyLock::new(finder))
    }

    /// Whether it is certain that no member of this name is anywhere in a text. An escape could spell one, so a text with any
    /// is not certain.
    #[must_use]
    pub(crate) fn is_missing(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.len() <= SHORT && self.0.find(bytes).is_none() && memchr::memchr(b'\\', bytes).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_missing_only_if_that_is_certain() {
        static TASK: Seldom = Seldom::new(|| Finder::new("taskId"));
        assert!(TASK.is_missing(r#"{"content":[]}"#));
        assert!(TASK.is_missing(""));
        for unsure in [r#"{"taskId":1}"#, r#"{"a":"taskId"}"#, r#"{"task\u0049d":1}"#, r#"{"a":"\n"}"#] {
            assert!(!TASK.is_missing(unsure), "{unsure}");
        }
        assert!(!TASK.is_missing(&" ".repeat(SHORT + 1)));
    }
}
