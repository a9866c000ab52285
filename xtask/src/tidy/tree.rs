//! Which files the project has, and what may stand where.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell;

use super::File;

/// What the root holds; tool settings are dotfiles.
const ROOT: [&str; 12] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "LICENSE",
    "host",
    "plugins",
    "wit",
    "config",
    "tests",
    "xtask",
];

/// Folders that tools fill; the same as in `.gitignore`.
const GENERATED: [&str; 6] = [".git", "target", "node_modules", ".venv", ".cache", "dist"];

/// The files that are, or would be, part of a commit. In a copy without its history: those that no tool made.
pub(super) fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z"])
        .current_dir(root);
    let mut files: Vec<String> = match shell::output(&mut git) {
        Ok(list) if root.join(".git").exists() => list.split_terminator('\0').map(str::to_owned).collect(),
        _ => {
            let mut found = Vec::new();
            walk(root, "", &mut found)?;
            found
        }
    };
    files.sort();
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if !entry.file_type()?.is_dir() {
            found.push(path);
        } else if !GENERATED.contains(&name.as_str()) {
            walk(&entry.path(), &format!("{path}/"), found)?;
        }
    }
    Ok(())
}

pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut strangers: Vec<&str> = Vec::new();
    for File { path, text } in files {
        let top = path.split('/').next().unwrap_or_default();
        if !top.starts_with('.') && !ROOT.contains(&top) && !strangers.contains(&top) {
            strangers.push(top);
            breaches.push(format!("{top}: the root of the project does not hold this"));
        }
        if path == "mod.rs" || path.ends_with("/mod.rs") {
            breaches.push(format!("{path}: a module is named by its file, not by mod.rs"));
        }
        let lockfile = path.ends_with("package-lock.json");
        for (number, line) in text.iter().flat_map(|text| text.lines()).enumerate() {
            if let Some(place) = machine_path(line) {
                let number = number + 1;
                breaches.push(format!("{path}:{number}: {place} exists on one machine only"));
            }
            if lockfile && line.trim_start().starts_with("\"resolved\":") {
                let number = number + 1;
                breaches.push(format!(
                    "{path}:{number}: names a registry; install with --omit-lockfile-registry-resolved"
                ));
            }
        }
    }
    breaches
}

/// The first absolute path in a line that only the machine of an author can have.
fn machine_path(line: &str) -> Option<&'static str> {
    // Written in two halves, or this file would name them.
    let places = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/fa", "rm/")];
    places.into_iter().find(|place| {
        line.match_indices(place).any(|(at, _)| {
            // Within a longer path or an address it is only a name.
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| !(c.is_alphanumeric() || "._-~}>*]".contains(c)))
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: Some(text.to_owned()) }
    }

    #[test]
    fn a_stranger_in_the_root_is_named_once() {
        let files =
            [file("notes/a.md", ""), file("notes/b.md", ""), file("host/a.md", ""), file(".ci/run", "")];
        assert_eq!(check(&files), ["notes: the root of the project does not hold this"]);
    }

    #[test]
    fn paths_of_one_machine_are_found_but_not_their_namesakes() {
        let place = concat!("/wo", "rk/");
        assert!(machine_path(&format!("cd {place}main")).is_some());
        assert!(machine_path(&format!("\"file://{place}main\"")).is_some());
        assert!(machine_path(&format!("https://example.org{place}main")).is_none());
        assert!(machine_path(&format!("some{place}main")).is_none());
    }

    #[test]
    fn mod_rs_is_refused() {
        assert_eq!(check(&[file("host/src/a/mod.rs", "")]).len(), 1);
        assert!(check(&[file("host/src/a/method.rs", "")]).is_empty());
    }

    #[test]
    fn without_git_the_folders_of_tools_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["host/a.rs", "target/b.rs", "tests/fixtures/node/node_modules/c.js"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert_eq!(files(dir.path()).unwrap(), ["host/a.rs"]);
    }
}
