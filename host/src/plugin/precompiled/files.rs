//! Checks the owner of a file on the open descriptor, not by its name.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens what stands there under this very name, and does not wait for it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// It belongs to this user or root, and nobody else can write to it.
pub(super) fn ours_alone(meta: &Metadata) -> bool {
    let me = rustix::process::geteuid().as_raw();
    (meta.uid() == me || meta.uid() == 0) && meta.mode() & 0o022 == 0 && !meta.file_type().is_symlink()
}

/// And nobody else can read it.
pub(super) fn private(meta: &Metadata) -> bool {
    meta.is_file() && ours_alone(meta) && meta.mode() & 0o077 == 0
}
