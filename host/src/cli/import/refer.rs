//! Values that clients keep: references to variables in every client's spelling become the gateway's, and secrets that
//! stand there as they are become variables with names.

use std::collections::BTreeMap;
use std::path::Path;

use sentinel_gateway::redact::{Redaction, names_a_secret};

/// The variables of one import.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// Secrets that were written into a file: the name each has from now on, and its value.
    pub(super) literal: BTreeMap<String, String>,
    /// Where each of them stood.
    pub(super) places: BTreeMap<String, String>,
    /// Variables that the files name already, without a default.
    pub(super) named: Vec<String>,
}

/// Where relative paths and the words of editors for folders lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) folder: &'a Path,
    pub(super) home: Option<&'a str>,
}

/// A value in the gateway's spelling.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spelled {
    pub(super) text: String,
    /// Whether variables stand in it.
    pub(super) refers: bool,
}

impl Variables {
    /// A value with its references in the gateway's spelling.
    pub(super) fn spell(&mut self, typed: &str, around: Around<'_>) -> Spelled {
        let typed = &braced(typed);
        let (mut text, mut refers, mut rest) = (String::new(), false, typed.as_str());
        while let Some(start) = rest.find("${").or_else(|| rest.find("{env:")) {
            let (before, after) = rest.split_at(start);
            text.push_str(before);
            let opening = if after.starts_with("${") { 2 } else { 1 };
            let Some((inside, behind)) = after[opening..].split_once('}') else {
                // No reference: the characters themselves.
                text.push_str(&after.replace("${", "$${"));
                return Spelled { text, refers };
            };
            match self.reference(inside, around) {
                Some((spelled, variable)) => {
                    text.push_str(&spelled);
                    refers |= variable;
                }
                None => text.push_str(&format!("$${{{inside}}}")),
            }
            rest = behind;
        }
        text.push_str(rest);
        Spelled { text, refers }
    }

    /// The content between the braces of a reference, and whether it is a variable.
    fn reference(&mut self, inside: &str, around: Around<'_>) -> Option<(String, bool)> {
        let folder = || around.folder.display().to_string();
        match inside {
            "workspaceFolder" | "workspaceRoot" => return Some((folder(), false)),
            "workspaceFolderBasename" => {
                let name = around.folder.file_name().unwrap_or_default();
                return Some((name.to_string_lossy().into_owned(), false));
            }
            "userHome" => return Some((around.home?.to_owned(), false)),
            "/" | "pathSeparator" => return Some(("/".to_owned(), false)),
            _ => {}
        }
        if let Some(id) = inside.strip_prefix("input:") {
            let name = variable(id);
            self.name(&name);
            return Some((format!("${{{name}}}"), true));
        }
        let name = inside.strip_prefix("env:").unwrap_or(inside);
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        if !is_variable(name) {
            return None;
        }
        Some(match default {
            Some(default) => (format!("${{{name}:-{default}}}"), true),
            None => {
                self.name(name);
                (format!("${{{name}}}"), true)
            }
        })
    }

    fn name(&mut self, name: &str) {
        if !self.named.iter().any(|known| known == name) {
            self.named.push(name.to_owned());
        }
    }

    /// A variable for a secret that stood in a file: one name for one value, the wanted one if it is free.
    pub(super) fn literal(&mut self, wanted: &str, server: &str, value: &str, place: String) -> String {
        let own = variable(&format!("{server}_{wanted}"));
        let wanted = variable(wanted);
        for attempt in 0..u32::MAX {
            let name = match attempt {
                0 => wanted.clone(),
                1 => own.clone(),
                _ => format!("{own}_{attempt}"),
            };
            match self.literal.get(&name) {
                Some(known) if known != value => {}
                Some(_) => return format!("${{{name}}}"),
                // A name that somebody refers to holds another value.
                None if self.named.contains(&name) => {}
                None => {
                    self.literal.insert(name.clone(), value.to_owned());
                    self.places.insert(name.clone(), place);
                    return format!("${{{name}}}");
                }
            }
        }
        wanted
    }

    /// A value of an environment variable or a header: as it is, or with the secret in it by name.
    pub(super) fn secret(
        &mut self,
        server: &str,
        key: &str,
        typed: &str,
        place: String,
        around: Around<'_>,
    ) -> Spelled {
        let spelled = self.spell(typed, around);
        if spelled.refers || spelled.text.is_empty() || !is_secret(key, typed) {
            return spelled;
        }
        // `Bearer` and its like are no part of the secret.
        let (scheme, value) = match typed.split_once(' ') {
            Some((scheme, value)) if is_scheme(scheme) && !value.trim().is_empty() => {
                (format!("{scheme} "), value.trim())
            }
            _ => (String::new(), typed),
        };
        let wanted = if key.eq_ignore_ascii_case("authorization") {
            format!("{server}_TOKEN")
        } else {
            key.to_owned()
        };
        let text = format!("{scheme}{}", self.literal(&wanted, server, value, place));
        Spelled { text, refers: true }
    }
}

/// Whether a value is a secret, by its key or by its shape.
pub(super) fn is_secret(key: &str, value: &str) -> bool {
    let yes_or_no = matches!(value, "true" | "false" | "0" | "1" | "none" | "null" | "");
    !yes_or_no && (names_a_secret(key) || Redaction::default().text(value) != value)
}

/// `$NAME` where a word begins, as Gemini CLI and people write it, as `${NAME}`. A name is in capitals: what else begins with
/// `$` is text.
fn braced(typed: &str) -> String {
    let mut out = String::with_capacity(typed.len());
    let mut before = None;
    let mut rest = typed;
    while let Some(first) = rest.chars().next() {
        let begins = before.is_none_or(|c: char| c.is_whitespace() || matches!(c, '=' | ':' | '/' | '"'));
        let name = rest.strip_prefix('$').filter(|_| begins).map(|name| {
            let end = name.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
            &name[..end.unwrap_or(name.len())]
        });
        let behind = |name: &str| rest[1 + name.len()..].chars().next();
        match name {
            Some(name)
                if name.len() > 1
                    && is_variable(name)
                    && !behind(name).is_some_and(char::is_alphanumeric) =>
            {
                out.push_str(&format!("${{{name}}}"));
                before = name.chars().last();
                rest = &rest[1 + name.len()..];
            }
            _ => {
                out.push(first);
                before = Some(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "token", "apikey", "digest"].iter().any(|known| word.eq_ignore_ascii_case(known))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A name for a variable: capitals, digits and `_`.
pub(super) fn variable(text: &str) -> String {
    let mut name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    while name.contains("__") {
        name = name.replace("__", "_");
    }
    let name = name.trim_matches('_');
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return format!("VALUE_{name}").trim_end_matches('_').to_owned();
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Around<'static> {
        Around { folder: Path::new("/p/project"), home: Some("/home/ann") }
    }

    #[test]
    fn references_of_every_client() {
        let mut variables = Variables::default();
        for (typed, text) in [
            ("${A}", "${A}"),
            ("Bearer ${env:B}", "Bearer ${B}"),
            ("$CCC", "${CCC}"),
            ("Bearer $GEMINI_1", "Bearer ${GEMINI_1}"),
            ("pa$$WORD $5 $x ${A}$", "pa$$WORD $5 $x ${A}$"),
            ("${input:api-key}", "${API_KEY}"),
            ("{env:D}", "${D}"),
            ("${E:-none}", "${E:-none}"),
            ("${env:F:-x y}", "${F:-x y}"),
            ("${workspaceFolder}/data", "/p/project/data"),
            ("${userHome}${/}x", "/home/ann/x"),
            ("cost: $5 {a}", "cost: $5 {a}"),
            ("${not a name}", "$${not a name}"),
            ("${open", "$${open"),
            ("${A} and ${A}", "${A} and ${A}"),
        ] {
            assert_eq!(variables.spell(typed, around()).text, text, "{typed}");
        }
        assert_eq!(
            variables.named,
            ["A", "B", "CCC", "GEMINI_1", "API_KEY", "D"],
            "those with a default need not be set"
        );
    }

    #[test]
    fn secrets_get_names_and_equal_ones_the_same() {
        let mut variables = Variables::default();
        let mut spell =
            |server, key, value| variables.secret(server, key, value, String::new(), around()).text;
        assert_eq!(spell("git", "GITHUB_TOKEN", "ghp_0123456789"), "${GITHUB_TOKEN}");
        assert_eq!(spell("other", "GITHUB_TOKEN", "ghp_0123456789"), "${GITHUB_TOKEN}");
        assert_eq!(spell("third", "GITHUB_TOKEN", "ghp_another000"), "${THIRD_GITHUB_TOKEN}");
        assert_eq!(spell("notes", "Authorization", "Bearer abcdefgh12345"), "Bearer ${NOTES_TOKEN}");
        assert_eq!(spell("notes", "X-API-Key", "k-1"), "${X_API_KEY}");
        assert_eq!(spell("a", "LOG_LEVEL", "debug"), "debug");
        assert_eq!(spell("a", "API_KEY", "${API_KEY}"), "${API_KEY}");
        assert_eq!(variables.literal.len(), 4);
    }

    #[test]
    fn names_of_variables() {
        for (text, name) in
            [("api-key", "API_KEY"), ("1st", "VALUE_1ST"), ("ünï", "N"), ("__", "VALUE"), ("", "VALUE")]
        {
            assert_eq!(variable(text), name, "{text}");
        }
    }
}
