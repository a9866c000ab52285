//! Files that decide what the gateway does, or hold what it did: opened only if nobody else can have changed them.
//!
//! A user who may write to a file, or to a folder on the way to it, decides what the gateway reads there. So the whole way
//! is looked at, each link followed by hand, as sshd does with `StrictModes`: each folder and the file itself must belong to
//! root or to the user of this process, and neither their group nor everybody may write to them. A folder with the sticky
//! bit (`/tmp`) may be open to all, because there nobody renames or removes what belongs to another; what is used in it has
//! an owner that is looked at like any other. A group that may write counts as others, whatever its members are now: they
//! change without the gateway. Access control lists need no look of their own, because the mode of the
//! group shows the most that they give.
//!
//! What the gateway records goes into folders of mode 0700 and files of mode 0600, which are not followed through links.
//! Because the way was found safe before a file is opened by its name, nobody could exchange anything in between.
//!
//! Two things are taken from the machine's operator on trust: a read-only mount (only root mounts; how Kubernetes shows a
//! `ConfigMap`, whose own folder everybody may write to by its mode), and the folders of `gateway.trusted_folders`.

mod owner;
mod program;
mod umask;
pub mod users;
mod walk;

use std::fmt;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

pub use program::{is_emulated, this_program};
pub use umask::{narrow_umask, umask_of_children};
use walk::Way;

/// Something that is open to others, and what closes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it: `everybody may write to it (mode 0666)`.
    pub message: String,
    /// The command to type.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; type: {}", self.path.display(), self.message, self.fix)
    }
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened or made.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could be opened, but others may change it, or read what is private. Never empty.
    #[error("{}", list(.0))]
    Open(Vec<Finding>),
}

impl FileError {
    fn unusable(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Unusable { path: path.to_owned(), source: source.into() }
    }

    /// Whether the file is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unusable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The operator's word about folders, besides what the system says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Folders that are not judged, nor those above them: nobody else can reach them (volumes of a container). What
    /// lies in them is judged.
    pub folders: Vec<PathBuf>,
}

/// Whether the last part of a path may be a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// A person named it.
    Followed,
    /// The gateway made it, so a link is not what it made.
    Refused,
}

impl Trust {
    /// Opens a file that decides something, to be read. Links are followed; what they lead to is judged.
    ///
    /// # Errors
    /// It cannot be opened, is no file, or others may change it.
    pub fn open(&self, path: &Path) -> Result<File, FileError> {
        let way = Way::to(path)?;
        if way.handed_over {
            // The process that started this one has opened it for us: `/dev/fd/3`, `/dev/stdin`.
            return File::open(path).map_err(|error| FileError::unusable(path, error));
        }
        if way.is_missing() {
            return Err(FileError::unusable(path, Errno::NOENT));
        }
        let mut options = OpenOptions::new();
        // Opening a pipe must not wait for somebody who writes into it.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = options.read(true).custom_flags(flag(flags)).open(&way.end);
        let file = file.map_err(|error| FileError::unusable(path, error))?;
        let meta = file.metadata().map_err(|error| FileError::unusable(path, error))?;
        if meta.is_dir() {
            return Err(FileError::unusable(path, io::Error::other("it is a folder")));
        }
        if !meta.is_file() {
            return Err(FileError::unusable(path, io::Error::other("it is not a file")));
        }
        let mut findings = way.findings(self);
        findings.extend(owner::judge(&way.end, &meta));
        if findings.is_empty() { Ok(file) } else { Err(FileError::Open(findings)) }
    }

    /// Everything that is open to others about a file or folder and the way to it; what is not there is open to nobody.
    ///
    /// # Errors
    /// The way cannot be seen.
    pub fn inspect(&self, path: &Path) -> Result<Vec<Finding>, FileError> {
        let way = Way::to(path)?;
        let mut findings = way.findings(self);
        if !way.handed_over && !way.covered_by(self) && !way.is_missing() {
            let meta = way.end.symlink_metadata().map_err(|error| FileError::unusable(path, error))?;
            findings.extend(if meta.is_dir() {
                owner::judge_folder(&way.end, &meta)
            } else {
                owner::judge(&way.end, &meta)
            });
        }
        Ok(findings)
    }

    /// Makes a folder for this user alone, with its parents, or makes sure that the one which is there is such a one.
    /// Returns its real path.
    ///
    /// # Errors
    /// It cannot be made, or others have access to it, or may change the way to it.
    pub fn private_dir(&self, path: &Path, links: Links) -> Result<PathBuf, FileError> {
        let way = self.way_to_private(path, links)?;
        let mut findings = way.findings(self);
        if way.is_missing() {
            if !findings.is_empty() {
                return Err(FileError::Open(findings));
            }
            if way.missing.iter().any(|part| part == "..") {
                return Err(FileError::unusable(path, Errno::NOENT));
            }
            let mut folder = way.end.clone();
            for part in &way.missing {
                folder.push(part);
                match DirBuilder::new().mode(0o700).create(&folder) {
                    // Another instance may have been quicker; what it made is judged below.
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(FileError::unusable(&folder, error));
                    }
                    _ => {}
                }
            }
            let meta = folder.symlink_metadata().map_err(|error| FileError::unusable(&folder, error))?;
            findings.extend(judge_private_dir(&folder, &meta)?);
            return if findings.is_empty() { Ok(folder) } else { Err(FileError::Open(findings)) };
        }
        findings.extend(self.judge_end(&way)?);
        if findings.is_empty() { Ok(way.end) } else { Err(FileError::Open(findings)) }
    }

    /// What [`Self::private_dir`] would complain of, without making anything.
    ///
    /// # Errors
    /// The way cannot be seen, or something else stands in its place.
    pub fn inspect_private_dir(&self, path: &Path, links: Links) -> Result<Vec<Finding>, FileError> {
        let way = self.way_to_private(path, links)?;
        let mut findings = way.findings(self);
        if !way.is_missing() {
            findings.extend(self.judge_end(&way)?);
        }
        Ok(findings)
    }

    fn way_to_private(&self, path: &Path, links: Links) -> Result<Way, FileError> {
        if links == Links::Refused
            && let Some(finding) = link(path)
        {
            return Err(FileError::Open(vec![finding]));
        }
        Way::to(path)
    }

    fn judge_end(&self, way: &Way) -> Result<Vec<Finding>, FileError> {
        let meta = way.end.symlink_metadata().map_err(|error| FileError::unusable(&way.end, error))?;
        if way.covered_by(self) && meta.is_dir() {
            return Ok(Vec::new());
        }
        judge_private_dir(&way.end, &meta)
    }
}

/// Makes a new file that only this user may read and write. The folder must have been found private.
///
/// # Errors
/// It cannot be made, or something has its name.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600).custom_flags(flag(OFlags::NOFOLLOW)).open(path)
}

/// Opens a file of the gateway's own to append to it, or makes it; what is there must belong to this user alone.
///
/// # Errors
/// It cannot be opened, is a link or no file, or others have access to it.
pub fn open_private(path: &Path) -> Result<File, FileError> {
    if let Some(finding) = link(path) {
        return Err(FileError::Open(vec![finding]));
    }
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flag(flags));
    let file = options.open(path).map_err(|error| FileError::unusable(path, error))?;
    let meta = file.metadata().map_err(|error| FileError::unusable(path, error))?;
    match judge_private_file(path, &meta)? {
        findings if findings.is_empty() => Ok(file),
        findings => Err(FileError::Open(findings)),
    }
}

/// What is open to others about a file of the gateway's own; one that is not there is open to nobody.
///
/// # Errors
/// It cannot be seen, or is no file.
pub fn inspect_private_file(path: &Path) -> Result<Vec<Finding>, FileError> {
    match path.symlink_metadata() {
        Ok(meta) => judge_private_file(path, &meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FileError::unusable(path, error)),
    }
}

/// What is open to others about a folder of the gateway's own below one that was found private.
///
/// # Errors
/// It cannot be seen, or is no folder.
pub fn inspect_private_folder(path: &Path) -> Result<Vec<Finding>, FileError> {
    if let Some(finding) = link(path) {
        return Ok(vec![finding]);
    }
    let meta = path.symlink_metadata().map_err(|error| FileError::unusable(path, error))?;
    judge_private_dir(path, &meta)
}

/// Takes from everybody else what they may read of a folder of the gateway's own; one that others may write to stays as
/// it is, to be refused.
pub fn tighten(path: &Path) {
    if let Ok(meta) = path.symlink_metadata()
        && meta.is_dir()
        && meta.uid() == owner::me()
        && meta.mode() & 0o022 == 0
        && meta.mode() & 0o077 != 0
    {
        // Whether it worked is what comes next: the folder is judged.
        let _judged_next = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    }
}

/// A link in the place of something that the gateway makes itself.
fn link(path: &Path) -> Option<Finding> {
    let meta = path.symlink_metadata().ok()?;
    meta.is_symlink().then(|| Finding {
        path: path.to_owned(),
        message: "it is a link, and the gateway follows none to where it records".to_owned(),
        fix: format!("rm {}", owner::quoted(path)),
    })
}

fn judge_private_dir(path: &Path, meta: &Metadata) -> Result<Vec<Finding>, FileError> {
    if meta.is_dir() {
        return Ok(owner::judge_private(path, meta, "700"));
    }
    Err(FileError::unusable(path, io::Error::from(io::ErrorKind::NotADirectory)))
}

fn judge_private_file(path: &Path, meta: &Metadata) -> Result<Vec<Finding>, FileError> {
    if meta.is_symlink() {
        return Ok(link(path).into_iter().collect());
    }
    if meta.is_file() {
        return Ok(owner::judge_private(path, meta, "600"));
    }
    Err(FileError::unusable(path, io::Error::other("it is not a file")))
}

fn flag(flags: OFlags) -> i32 {
    // The bits as they are: the standard library has them as a number with a sign.
    flags.bits().cast_signed()
}

#[cfg(test)]
mod tests;
