//! Reading the files that a configuration consists of, bounded and suspicious.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::problem::Problem;
use crate::files::{FileError, Finding, Trust};

/// No configuration or key file is longer; a path to something endless must not fill the memory.
const MAX_BYTES: u64 = 4 << 20;

/// No secret is longer.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// A configuration file as it was found.
pub(super) struct Configuration {
    pub(super) text: String,
    /// Who else may change it, or a folder on the way to it.
    pub(super) problems: Vec<Problem>,
}

/// Why a file is not read: what is wrong, each with what to do about it.
pub(super) type Unread = Vec<(String, String)>;

/// The text of the configuration file. If somebody else may change it, that is a problem like those in it, because the
/// file decides which programs the gateway starts; it is read all the same, so that all problems are told at once.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read_config(path: &Path, trust: &Trust) -> Result<Configuration, Problem> {
    let unreadable = |why: String| {
        let hint = "name it by --config FILE or SENTINEL_CONFIG";
        Problem::of_file(format!("the configuration cannot be read: {why}"), hint)
    };
    let (file, findings) = match trust.open(path) {
        Ok(file) => (file, Vec::new()),
        Err(FileError::Open(findings)) => {
            (File::open(path).map_err(|error| unreadable(error.to_string()))?, findings)
        }
        Err(FileError::Unusable { source, .. }) => return Err(unreadable(source.to_string())),
    };
    let text = bounded(file, MAX_BYTES).map_err(unreadable)?;
    let own = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let problem = |finding: Finding| {
        let message = if finding.path == own {
            finding.message
        } else {
            format!("{}, which it is found by: {}", finding.path.display(), finding.message)
        };
        Problem::of_file(message, finding.fix)
    };
    Ok(Configuration { text, problems: findings.into_iter().map(problem).collect() })
}

/// A secret that stands in a file of its own: its text, without the line feed that editors put at the end.
///
/// # Errors
/// Why it is not read.
pub(super) fn read_secret(path: &Path, trust: &Trust) -> Result<String, Unread> {
    let mut text = read_at_most(path, trust, MAX_SECRET_BYTES)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    // As for variables: for a secret an empty value is none.
    if text.is_empty() { Err(unread(path, "it is empty")) } else { Ok(text) }
}

/// Who may read a file besides its owner; `None` if nobody may, or if it cannot be told.
pub(super) fn other_readers(path: &Path) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().ok()?.permissions().mode();
        if mode & 0o004 != 0 {
            return Some("everybody");
        }
        if mode & 0o040 != 0 {
            return Some("its group");
        }
    }
    None
}

/// The text of a file that decides something, such as a key.
///
/// # Errors
/// Why it is not read.
pub(super) fn read(path: &Path, trust: &Trust) -> Result<String, Unread> {
    read_at_most(path, trust, MAX_BYTES)
}

fn read_at_most(path: &Path, trust: &Trust, max: u64) -> Result<String, Unread> {
    match trust.open(path) {
        Ok(file) => bounded(file, max).map_err(|why| unread(path, &why)),
        Err(FileError::Unusable { source, .. }) => Err(unread(path, &source.to_string())),
        Err(FileError::Open(findings)) => {
            let wrong =
                |finding: Finding| (format!("{}: {}", finding.path.display(), finding.message), finding.fix);
            Err(findings.into_iter().map(wrong).collect())
        }
    }
}

fn unread(path: &Path, why: &str) -> Unread {
    let message = format!("cannot read {}: {why}", path.display());
    vec![(message, "relative paths start at this file's folder".to_owned())]
}

fn bounded(file: File, max: u64) -> Result<String, String> {
    let mut text = String::new();
    file.take(max + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > max {
        return Err(format!("it is longer than {max} bytes"));
    }
    Ok(text)
}
