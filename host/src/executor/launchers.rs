//! Finds launchers that go by another name: a copy of a shell is a shell.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::fstat;

use super::open::Opened;
use crate::command::{LAUNCHER_DIRECTORIES, is_launcher};

/// Refuses a program that is not pinned and that is one of this system's launchers under another name, as a link to the
/// same file or as a copy of it; and a script, which is run by an interpreter that its first line names.
///
/// # Errors
/// It is one.
pub(super) fn refuse(program: &Opened, path: &Path) -> Result<(), String> {
    let mut start = [0_u8; 2];
    let read = rustix::io::pread(&program.fd, &mut start[..], 0).map_err(|error| error.to_string())?;
    if read == 2 && start == *b"#!" {
        return Err(format!(
            "{} is a script, which an interpreter runs; pin it with sha256, or name a program",
            path.display()
        ));
    }
    let stat = fstat(&program.fd).map_err(|error| error.to_string())?;
    for folder in LAUNCHER_DIRECTORIES {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let launcher = entry.path();
            // Without the number behind the name, and through links: `python3` leads to `python3.11`.
            if !is_launcher(&launcher) {
                continue;
            }
            let Ok(known) = std::fs::metadata(&launcher) else { continue };
            let same = known.ino() == stat.st_ino && known.dev() == stat.st_dev;
            let alike = || known.len() == program.size && is_copy(&launcher, program);
            if same || alike() {
                return Err(format!(
                    "{} is {} under another name, which runs other programs, or code that it is given; pin it with sha256",
                    path.display(),
                    launcher.display()
                ));
            }
        }
    }
    Ok(())
}

fn is_copy(launcher: &Path, program: &Opened) -> bool {
    use ring::digest::{SHA256, digest};
    std::fs::read(launcher).is_ok_and(|bytes| digest(&SHA256, &bytes).as_ref() == program.sha256)
}
