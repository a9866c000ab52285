//! Reading the files that a configuration consists of, bounded and suspicious.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::problem::Problem;

/// No configuration or key file is longer; a path to something endless must not fill the memory.
const MAX_BYTES: u64 = 4 << 20;

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

/// The text of a file.
///
/// # Errors
/// Why it cannot be read, for a person.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err("it is a folder".to_owned());
    }
    let mut text = String::new();
    let mut bounded = file.take(MAX_BYTES + 1);
    bounded.read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("it is longer than {MAX_BYTES} bytes"));
    }
    Ok(text)
}
