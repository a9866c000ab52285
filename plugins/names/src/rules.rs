//! The names of a tool, and whether rules mean it.

use std::borrow::Cow;

use crate::fold::{safe, shown_as};
use crate::glob::Patterns;

/// Longest pattern in a rule.
const MAX_PATTERN: usize = 1_024;

/// The names of one tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    /// Its name among the tools of all servers: the plain name if that is its own by the order of the file, else
    /// with the backend before it.
    pub shown: &'a str,
    /// Its server's own name for it.
    pub own: &'a str,
    /// The name of its backend, which holds neither `/` nor `*`.
    pub backend: &'a str,
}

/// The names and patterns of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Those without a `/`.
    bare: Patterns,
    /// Of those with one, what fits the backend and what fits its own name for the tool.
    owned: Vec<(Patterns, Patterns)>,
}

impl Rules {
    /// Compiles the patterns of a rule.
    pub fn new<'text>(patterns: impl IntoIterator<Item = &'text str>) -> Self {
        let mut bare = Vec::new();
        let mut owned = Vec::new();
        for pattern in patterns {
            match pattern.split_once('/') {
                Some((backend, own)) => owned.push((Patterns::new([backend]), Patterns::new([own]))),
                None => bare.push(pattern),
            }
        }
        Self { bare: Patterns::new(bare), owned }
    }

    /// Whether a rule that takes something away means the tool: any of its names is enough.
    #[must_use]
    pub fn hits(&self, tool: &Names<'_>) -> bool {
        self.owns(tool)
            || (!self.bare.is_empty()
                && (self.placed(tool)
                    || self.bare.matches(tool.own)
                    || matches!(safe(tool.own), Cow::Owned(name) if self.bare.matches(&name))
                    || tool.renamed().is_some_and(|name| self.bare.matches(name))))
    }

    /// Whether a rule that allows something means the tool. The server's own name counts where the tool is shown under it,
    /// be it in other characters: a plain name belongs to one server, and an own name to whichever server chooses it. Nor
    /// does a name count that it is not shown under: `git_hub_list` is what the tool `hub_list` of a backend `git` might
    /// be called, and the tool `list` of a backend `git_hub` is.
    #[must_use]
    pub fn grants(&self, tool: &Names<'_>) -> bool {
        self.owns(tool)
            || (!self.bare.is_empty()
                && (self.bare.matches(tool.shown)
                    || (shown_as(tool.own, tool.shown) && self.bare.matches(tool.own))))
    }

    fn owns(&self, tool: &Names<'_>) -> bool {
        self.owned.iter().any(|(backend, own)| backend.matches(tool.backend) && own.matches(tool.own))
    }

    /// By the name it is shown under, or would be if another had that.
    fn placed(&self, tool: &Names<'_>) -> bool {
        self.bare.matches(tool.shown)
            || self.bare.matches_joined(tool.backend, tool.own)
            || (tool.own != tool.shown && self.bare.matches_joined(tool.backend, tool.shown))
            || tool.safe_joined().is_some_and(|name| self.bare.matches_spelled(tool.backend, &name))
    }
}

impl<'a> Names<'a> {
    /// The name that the operator gave the tool, where it is shown with the backend before it.
    pub(crate) fn renamed(&self) -> Option<&'a str> {
        let rest = self.shown.strip_prefix(self.backend)?.strip_prefix('_')?;
        (self.shown != self.own && rest != self.own).then_some(rest)
    }

    /// `backend_own` in safe characters, if that is another name.
    pub(crate) fn safe_joined(&self) -> Option<String> {
        let plain = self.backend.len() + 1 + self.own.len() <= crate::MAX_SAFE
            && self.own.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if plain {
            return None;
        }
        let joined = format!("{}_{}", self.backend, self.own);
        match safe(&joined) {
            Cow::Owned(name) => Some(name),
            Cow::Borrowed(_) => None,
        }
    }
}

/// What a pattern says about the backend, if it says anything.
#[must_use]
pub fn backend_part(pattern: &str) -> Option<&str> {
    pattern.split_once('/').map(|(backend, _)| backend)
}

/// Whether a single pattern, or a part of one, fits the whole text.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    Patterns::new([pattern]).matches(text)
}

/// Whether this can stand in a rule.
///
/// # Errors
/// Why it would match nothing, or not what its author thinks.
pub fn check(pattern: &str) -> Result<(), &'static str> {
    if pattern.is_empty() || pattern.trim() != pattern {
        return Err("is empty or starts or ends with a blank: it would match nothing");
    }
    if pattern.len() > MAX_PATTERN {
        return Err("is longer than 1024 bytes");
    }
    if pattern.contains(|char: char| char.is_control() || "?[]{}\\".contains(char)) {
        return Err(
            "holds a character that no pattern has: only `*` has a meaning, and it may stand for this one",
        );
    }
    if pattern.split_once('/').is_some_and(|(backend, own)| backend.is_empty() || own.is_empty()) {
        return Err("has a `/` with nothing before or after it: write backend/tool, or backend/*");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn names<'a>(shown: &'a str, own: &'a str, backend: &'a str) -> Names<'a> {
        Names { shown, own, backend }
    }

    fn hits(pattern: &str, tool: Names<'_>) -> bool {
        Rules::new([pattern]).hits(&tool)
    }

    fn grants(pattern: &str, tool: Names<'_>) -> bool {
        Rules::new([pattern]).grants(&tool)
    }

    #[test]
    fn a_denial_holds_by_every_name() {
        let dotted = names("files_delete", "files.delete", "srv");
        for pattern in [
            "files_delete",
            "files.delete",
            "srv/files.delete",
            "srv/*",
            "*/files.delete",
            "s*/f*",
            "files.*",
            "*",
        ] {
            assert!(hits(pattern, dotted) && grants(pattern, dotted), "{pattern}");
        }
        for pattern in ["srv_files_delete", "srv_files.delete", "srv_*"] {
            assert!(hits(pattern, dotted) && !grants(pattern, dotted), "{pattern}");
        }
        for pattern in ["files", "delete", "srv/files_delete", "srv/delete", "other/*", "srv", "Files.delete"]
        {
            assert!(!hits(pattern, dotted) && !grants(pattern, dotted), "{pattern}");
        }
    }

    #[test]
    fn an_allowance_does_not_let_a_namesake_through() {
        let namesake = names("two_deploy", "deploy", "two");
        assert!(hits("deploy", namesake) && !grants("deploy", namesake) && !grants("dep*", namesake));
        for pattern in ["two_deploy", "two/deploy", "two/*", "*/deploy", "two_*", "*"] {
            assert!(hits(pattern, namesake) && grants(pattern, namesake), "{pattern}");
        }
        // One that the operator renamed keeps its own name, but is not allowed by it.
        let renamed = names("say", "echo", "one");
        assert!(hits("echo", renamed) && !grants("echo", renamed) && grants("say", renamed));
        assert!(hits("say", names("one_say", "echo", "one")));
    }

    #[test]
    fn a_slash_in_a_name_of_a_server_names_no_backend() {
        let posing = names("x_sandbox_read", "sandbox/read", "x");
        assert!(!hits("sandbox/read", posing) && !grants("sandbox/read", posing));
        assert!(hits("x/sandbox/read", posing) && grants("x/sandbox/read", posing));
        let unsafe_names = names("sandbox/read", "sandbox/read", "x");
        assert!(!grants("sandbox/read", unsafe_names) && !grants("sandbox/*", unsafe_names));
    }

    #[test]
    fn a_name_that_was_cut_is_denied_by_its_whole() {
        let own = format!("{}.x", "long".repeat(20));
        let shown = safe(&own).into_owned();
        let tool = names(&shown, &own, "srv");
        assert!(hits(&own, tool) && hits(&shown, tool) && grants(&own, tool) && hits("long*", tool));
        let prefixed = safe(&format!("srv_{own}")).into_owned();
        assert!(hits(&prefixed, tool));
        let second = names(&prefixed, &own, "srv");
        assert!(hits(&shown, second) && !grants(&shown, second), "by the name of its first");
    }

    #[test]
    fn what_cannot_stand_in_a_rule_is_told() {
        for good in ["a", "a/b", "*/b", "a/*", "a/b/c", "files.delete", "ü", "a b"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", " a", "a ", "/b", "a/", "/", "a?", "a[b]", "a\nb", &"x".repeat(1_025)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
