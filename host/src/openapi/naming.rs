//! Names that every client accepts: letters, digits, `_` and `-`, no more than 64.

use std::collections::HashSet;

/// Longest name of an operation; longer ones are refused by clients of MCP.
pub(super) const MAX_ID: usize = 64;

/// The name in those characters; everything between is one `_`.
pub(super) fn plain(name: &str) -> String {
    let mut out = String::new();
    for character in name.chars() {
        if out.len() >= MAX_ID {
            break;
        }
        if character.is_ascii_alphanumeric() || character == '-' {
            out.push(character);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    let trimmed = out.trim_matches('_');
    if trimmed.is_empty() { "operation".to_owned() } else { trimmed.to_owned() }
}

/// The name itself, or with the first number behind it that makes it free.
pub(super) fn free(name: &str, taken: &HashSet<String>, longest: usize) -> String {
    if !taken.contains(name) {
        return name.to_owned();
    }
    let mut number = 2_u64;
    loop {
        let end = format!("_{number}");
        let room = name.len().min(longest.saturating_sub(end.len()));
        // Names are ASCII.
        let candidate = format!("{}{end}", &name[..room]);
        if !taken.contains(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_clients_accept() {
        assert_eq!(plain("get /pets/{petId}"), "get_pets_petId");
        assert_eq!(plain("repos/list-for.user"), "repos_list-for_user");
        assert_eq!(plain("…"), "operation");
        assert_eq!(plain(&"x".repeat(100)).len(), 64);
        let taken = HashSet::from(["a".to_owned(), "a_2".to_owned(), "x".repeat(64)]);
        assert_eq!(free("a", &taken, MAX_ID), "a_3");
        assert_eq!(free(&"x".repeat(64), &taken, MAX_ID), format!("{}_2", "x".repeat(62)));
    }
}
