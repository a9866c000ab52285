//! Writes files that belong to a person: at any moment the file is either whole or unchanged, it keeps its mode and its
//! owner, and a copy of the old file stays beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

/// No configuration of a client is longer; a path to something endless must not fill the memory.
const MAX_BYTES: u64 = 16 << 20;

/// A file that may be changed, as it was found.
#[derive(Debug)]
pub(super) struct Place {
    /// The file itself, behind all links.
    pub(super) path: PathBuf,
    /// What is in it; nothing if it does not exist yet.
    pub(super) text: Option<String>,
    /// The link it was found by.
    pub(super) link: Option<PathBuf>,
}

impl Place {
    /// Looks at a file. A symbolic link is followed, because many people keep such files elsewhere and link to them.
    ///
    /// # Errors
    /// It is no ordinary file, cannot be read, or is a link that leads nowhere.
    pub(super) fn find(path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        let is_link = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink());
        let (path, link) = if is_link {
            let real = path.canonicalize().with_context(|| {
                let target = fs::read_link(&path).unwrap_or_default();
                format!(
                    "{} is a link to {}, which does not exist: remove the link, or make that file",
                    path.display(),
                    target.display()
                )
            })?;
            (real, Some(path))
        } else {
            (path, None)
        };
        let text = match fs::metadata(&path) {
            Ok(meta) if !meta.is_file() => bail!("{} is not an ordinary file", path.display()),
            Ok(_) => Some(read(&path)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        };
        Ok(Self { path, text, link })
    }

    /// Puts a text in the place of what is there, in one step. What was there stays in a copy beside it, whose path is
    /// returned.
    ///
    /// # Errors
    /// It cannot be written, belongs to somebody else, or has changed since it was looked at.
    pub(super) fn put(&self, text: &str) -> anyhow::Result<Option<PathBuf>> {
        let folder = self.path.parent().context("a file has a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let before = match fs::metadata(&self.path) {
            Ok(meta) => Some(meta),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let mut draft = tempfile::Builder::new()
            .prefix(".sentinel-")
            .tempfile_in(folder)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
        let mode = before.as_ref().map_or(0o600, |meta| meta.mode() & 0o7777);
        draft.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        if let Some(meta) = &before {
            let own = draft.as_file().metadata()?;
            if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
                fchown(draft.as_file(), Some(meta.uid()), Some(meta.gid())).with_context(|| {
                    format!(
                        "{} belongs to another user, and would not any more if it was changed",
                        self.path.display()
                    )
                })?;
            }
        }
        draft.write_all(text.as_bytes())?;
        draft.as_file().sync_all()?;
        let now = before.is_some().then(|| read(&self.path)).transpose()?;
        ensure!(
            now == self.text,
            "{} has been changed by somebody else meanwhile; nothing was written, try again",
            self.path.display()
        );
        let backup = match &self.text {
            Some(before) => Some(self.keep(before, mode)?),
            None => None,
        };
        draft.persist(&self.path).with_context(|| format!("cannot write {}", self.path.display()))?;
        // The new name is on the disk with its folder.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(backup)
    }

    /// A copy of what is there, under a name that nothing has yet.
    fn keep(&self, text: &str, mode: u32) -> anyhow::Result<PathBuf> {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for attempt in 0..100_u32 {
            let more = if attempt == 0 { String::new() } else { format!("-{attempt}") };
            let copy = self.path.with_file_name(format!("{name}.{now}{more}.bak"));
            match OpenOptions::new().write(true).create_new(true).mode(mode & 0o777).open(&copy) {
                Ok(mut file) => {
                    file.write_all(text.as_bytes())?;
                    file.sync_all()?;
                    return Ok(copy);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot keep a copy as {}", copy.display()));
                }
            }
        }
        bail!("there are too many copies of {} beside it", self.path.display())
    }
}

/// The text of a file, bounded; a mark of its encoding at the beginning stays.
///
/// # Errors
/// It cannot be read, is too long, or is no UTF-8.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let what = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(what)?;
    ensure!(file.metadata().with_context(what)?.is_file(), "{} is not an ordinary file", path.display());
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(what)?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "{} is longer than {MAX_BYTES} bytes", path.display());
    String::from_utf8(bytes).with_context(|| format!("{} is not a text in UTF-8", path.display()))
}

/// The lines that differ, each with a sign in front: what a person reads before they say yes. Lines that are the same at
/// both ends are left out.
pub(super) fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old[same..].iter().rev().zip(new[same..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut text = format!("@@ line {} @@\n", same + 1);
    for (sign, lines) in [("-", &old[same..old.len() - rest]), ("+", &new[same..new.len() - rest])] {
        for line in lines {
            text.push_str(&format!("{sign}{line}\n"));
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn mode_link_and_backup_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.json"), dir.path().join("link.json"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.json", &link).unwrap();
        let place = Place::find(&link).unwrap();
        assert_eq!(place.link.as_deref(), Some(link.as_path()));
        let copies =
            [place.put("new").unwrap().unwrap(), Place::find(&link).unwrap().put("n").unwrap().unwrap()];
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link is still one");
        assert_eq!(fs::read_to_string(&real).unwrap(), "n");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert_eq!(copies.map(|copy| fs::read_to_string(copy).unwrap()), ["old", "new"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "no draft stays behind");
    }

    #[test]
    fn what_is_no_file_or_has_changed_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dangling = dir.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        assert!(Place::find(&dangling).unwrap_err().to_string().contains("is a link to nowhere"));
        assert!(Place::find(dir.path()).unwrap_err().to_string().contains("not an ordinary file"));
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let place = Place::find(&path).unwrap();
        fs::write(&path, "two").unwrap();
        assert!(place.put("three").unwrap_err().to_string().contains("try again"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        let fresh = Place::find(&dir.path().join("a/b/new")).unwrap();
        assert_eq!(fresh.put("text").unwrap(), None);
        assert_eq!(fs::metadata(dir.path().join("a/b/new")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_difference_shows_what_changes() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\ny\nc\n"), "@@ line 2 @@\n-b\n+x\n+y\n");
        assert_eq!(difference("", "a\n"), "@@ line 1 @@\n+a\n");
    }
}
