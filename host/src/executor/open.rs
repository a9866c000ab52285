//! Opens what a command is run with: without links, once, and as it will be used.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ring::digest::{Context, SHA256};
use rustix::fs::{
    CWD, FileType, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags, fcntl_add_seals, fstat, memfd_create,
    openat2,
};
use rustix::io::Errno;

/// The largest program that is copied, in bytes.
const PROGRAM: u64 = 256 << 20;

/// A file as it will be used, with the SHA-256 of just that.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    pub(super) sha256: [u8; 32],
    pub(super) size: u64,
}

/// Why a file is not used: in words, without its content.
pub(super) type Why = String;

fn why(path: &Path, error: Errno) -> Why {
    match error {
        Errno::LOOP => format!("{}: there is a link on the way to it", path.display()),
        Errno::XDEV => format!("{}: it is not below its folder", path.display()),
        error => format!("{}: {}", path.display(), io::Error::from(error)),
    }
}

/// A folder, to work in or to look below.
pub(super) fn folder(path: &Path) -> Result<OwnedFd, Why> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS)
        .map_err(|error| why(path, error))
}

/// The program. One that its owner could change while it is looked at is copied first, and so is one that is pinned; what
/// is run is what was looked at.
pub(super) fn program(path: &Path, pinned: bool) -> Result<Opened, Why> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(CWD, path, flags, Mode::empty(), resolve).map_err(|error| why(path, error))?;
    let stat = fstat(&fd).map_err(|error| why(path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        return Err(format!("{}: it is no program", path.display()));
    }
    if stat.st_mode & 0o6000 != 0 {
        return Err(format!("{}: it would run with the rights of its owner (set-user-id)", path.display()));
    }
    let mut file = File::from(fd);
    if pinned || stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
        return copied(path, file, PROGRAM, true);
    }
    let mut digest = Context::new(&SHA256);
    let size = pour(&mut file, u64::MAX, |bytes| {
        digest.update(bytes);
        Ok(())
    });
    let size = size.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Opened { fd: file.into(), sha256: finish(digest), size })
}

/// A file below a folder, copied: what the command reads is what the digest is of, whatever becomes of the file.
pub(super) fn operand(beneath: &Path, below: &str, most: u64) -> Result<Opened, Why> {
    let path = beneath.join(below);
    let root = folder(beneath)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let fd =
        openat2(root.as_fd(), below, flags, Mode::empty(), resolve).map_err(|error| why(&path, error))?;
    let stat = fstat(&fd).map_err(|error| why(&path, error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(format!("{}: it is no regular file", path.display()));
    }
    copied(&path, File::from(fd), most, false)
}

/// A text that a command reads on its stdin.
pub(super) fn text(text: &str) -> io::Result<OwnedFd> {
    let mut file = memory(false)?;
    file.write_all(text.as_bytes())?;
    seal(&mut file)?;
    Ok(file.into())
}

fn copied(path: &Path, mut from: File, most: u64, run: bool) -> Result<Opened, Why> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut to = memory(run).map_err(failed)?;
    let mut digest = Context::new(&SHA256);
    let size = pour(&mut from, most, |bytes| {
        digest.update(bytes);
        to.write_all(bytes)
    });
    let size = size.map_err(failed)?;
    seal(&mut to).map_err(failed)?;
    Ok(Opened { fd: to.into(), sha256: finish(digest), size })
}

/// Reads all of a file, in pieces, as long as it is not longer than it may be.
fn pour(from: &mut File, most: u64, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut buffer = vec![0_u8; 128 << 10];
    let mut size = 0_u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        size = size.saturating_add(read as u64);
        if size > most {
            return Err(io::Error::other(format!("it is longer than {most} bytes")));
        }
        each(&buffer[..read])?;
    }
}

/// A file in memory that is not written to any more once it is sealed.
fn memory(run: bool) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let kind = if run { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    match memfd_create("sentinel-executor", flags | kind) {
        // Linux before 6.3 has no such kinds, and every such file may be run.
        Err(Errno::INVAL) => Ok(memfd_create("sentinel-executor", flags).map(File::from)?),
        made => Ok(made.map(File::from)?),
    }
}

fn seal(file: &mut File) -> io::Result<()> {
    file.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    Ok(fcntl_add_seals(file, seals)?)
}

fn finish(digest: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    bytes
}
