//! A disk that can be filled.

use std::path::{Path, PathBuf};

/// Mounts a disk of 8 MiB, for as long as it lives.
#[derive(Debug)]
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// None where this test may not mount: it needs root, as continuous integration has it in a container.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"];
        let done = std::process::Command::new("mount").args(mount).arg(at).output().ok()?;
        done.status.success().then(|| Self(at.to_owned()))
    }

    /// Full to the last page.
    pub(crate) fn fill(&self) {
        let mut filler = std::fs::File::create(self.0.join("filler")).unwrap();
        while std::io::Write::write(&mut filler, &[1; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// There is room again.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
