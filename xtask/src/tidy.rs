//! The rules of the house as code: they hold because a test says so, not because somebody remembers.

mod circles;
mod layers;
mod promises;
mod report;
mod source;
mod tree;

use std::fs;

use anyhow::{Context as _, bail};

use crate::workspace::Workspace;

/// A file that belongs to the project.
#[derive(Debug)]
struct File {
    /// From the root of the project, with `/`.
    path: String,
    /// None if it is no text.
    text: Option<String>,
}

/// Checks every rule and prints each breach.
///
/// # Errors
/// If a rule is broken, or a file cannot be read.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let breaches = breaches(workspace)?;
    for breach in &breaches {
        println!("{breach}");
    }
    match breaches.len() {
        0 => {
            println!("tidy");
            Ok(())
        }
        1 => bail!("1 breach of the rules of the house"),
        n => bail!("{n} breaches of the rules of the house"),
    }
}

/// Prints what is large, and what is public for nobody.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn report(workspace: &Workspace) -> anyhow::Result<()> {
    print!("{}", report::report(&read(workspace)?));
    Ok(())
}

/// Everything that is not as it should be, one line each, in a fixed order.
fn breaches(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let files = read(workspace)?;
    let mut breaches = tree::check(&files);
    breaches.extend(source::check(&files));
    breaches.extend(layers::check(&files));
    breaches.extend(circles::check(&files));
    breaches.extend(promises::check(&files));
    Ok(breaches)
}

/// The files of the project.
fn read(workspace: &Workspace) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    for path in tree::files(&workspace.root)? {
        let full = workspace.root.join(&path);
        let content = match fs::read(&full) {
            Ok(content) => content,
            // Deleted, but not yet in a commit.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            // A link to a folder; what is in it has its own path.
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", full.display())),
        };
        files.push(File { path, text: String::from_utf8(content).ok() });
    }
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let breaches = breaches(&Workspace::find().unwrap()).unwrap();
        assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
    }
}
