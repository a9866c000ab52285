//! A mistake in a configuration, described so that the reader can correct it at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake, or one thing worth a second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key as a person would write it: `backends[2].url`. Empty for the file as a whole.
    pub key: String,
    /// The line it stands on, counted from 1; for a missing key the line of the table it belongs into.
    pub line: Option<usize>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write or do instead.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of the file as a whole.
    #[must_use]
    pub fn of_file(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { key: String::new(), line: None, message: message.into(), hint: Some(hint.into()) }
    }

    /// The text under a file's name, without a final line break.
    fn write(&self, out: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
        write!(out, "{}", path.display())?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(out, ": {}", self.key)?;
        }
        write!(out, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(out, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Without the file's name, for a log line.
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(out, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        write!(out, "{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(out, " ({hint})")?;
        }
        Ok(())
    }
}

/// Everything that keeps a file from being used, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    path: PathBuf,
    pub(super) list: Vec<Problem>,
}

impl Problems {
    /// Sorts by line; what concerns the whole file comes first.
    #[must_use]
    pub fn new(path: &Path, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.line);
        Self { path: path.to_owned(), list }
    }

    /// The problems, at least one.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One block for each problem, as compilers do: `sentinel.toml:12: backends[2].url: …`.
impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            problem.write(out, &self.path)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The word among `known` that was probably meant by `typed`.
#[must_use]
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = typed.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_lowercase()), word))
        // A third of the letters may be wrong; beyond that a guess confuses more than it helps.
        .filter(|(distance, word)| *distance <= word.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
