//! The program that runs now, to be started again for work that wants a process of its own.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Leads to the file that runs, also when another has taken its name since.
const RUNNING: &str = "/proc/self/exe";

/// The file to start for another process of this program.
#[must_use]
pub(crate) fn this_program() -> PathBuf {
    let running = Path::new(RUNNING);
    match std::env::current_exe() {
        Ok(named) if !running.exists() || is_another(running, &named) => named,
        _ => running.to_owned(),
    }
}

/// Whether an emulator runs this program, which then writes files of its own.
#[must_use]
pub(crate) fn is_emulated() -> bool {
    std::env::current_exe().is_ok_and(|named| is_another(Path::new(RUNNING), &named))
}

/// Under an emulator (valgrind, say) the link leads to the emulator, and only the name that it gives leads to us. A file that
/// was replaced or removed has no name any more.
fn is_another(running: &Path, named: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    identity(named).is_some_and(|named| identity(running).is_some_and(|running| running != named))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_file_that_runs_unless_an_emulator_runs_it() {
        assert_eq!(this_program(), Path::new(RUNNING));
        assert!(!is_emulated());
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        std::fs::write(&one, "").unwrap();
        assert!(!is_another(&one, &other), "its name leads nowhere");
        std::fs::write(&other, "").unwrap();
        assert!(is_another(&one, &other));
        assert!(!is_another(&one, &one));
    }
}
