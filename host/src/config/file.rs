//! Reading the files that a configuration consists of, bounded and suspicious.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::problem::Problem;

/// No configuration or key file is longer; a path to something endless must not fill the memory.
const MAX_BYTES: u64 = 4 << 20;

/// No secret is longer.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// The text of the configuration file, unless somebody else may change it: whoever can write it decides
/// which programs the gateway starts.
///
/// # Errors
/// Why it cannot be read, or who may write to it.
pub(super) fn read_config(path: &Path) -> Result<String, Problem> {
    let text = read(path).map_err(|why| {
        let hint = "name it by --config FILE or SENTINEL_CONFIG";
        Problem::of_file(format!("the configuration cannot be read: {why}"), hint)
    })?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().map(|meta| meta.permissions().mode() & 0o777);
        // What cannot be told counts as open.
        let mode = mode.unwrap_or(0o777);
        if mode & 0o022 != 0 {
            let who = if mode & 0o002 != 0 { "everybody" } else { "its group" };
            let hint = format!("chmod go-w {}", path.display());
            return Err(Problem::of_file(format!("{who} may write to it (mode {mode:04o})"), hint));
        }
    }
    Ok(text)
}

/// A secret that stands in a file of its own: its text, without the line feed that editors put at the end.
///
/// # Errors
/// Why it cannot be read, for a person.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    let mut text = bounded(path, MAX_SECRET_BYTES)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    // As for variables: for a secret an empty value is none.
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) }
}

/// Who may read a file besides its owner; none if nobody, or if that cannot be told.
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

/// The text of a file.
///
/// # Errors
/// Why it cannot be read, for a person.
pub(super) fn read(path: &Path) -> Result<String, String> {
    bounded(path, MAX_BYTES)
}

fn bounded(path: &Path, max: u64) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err("it is a folder".to_owned());
    }
    let mut text = String::new();
    file.take(max + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > max {
        return Err(format!("it is longer than {max} bytes"));
    }
    Ok(text)
}
