//! A small file that holds one value and loses nothing: for what an operator ordered.
//!
//! Unlike the rest of the state it is on the disk before anybody is told that it is. It is JSON, so that a person can read it, with a
//! checksum, so that a damaged value is never taken for another one. All gateways of a configuration share it: a change is
//! read, made and written under a lock. Everything here blocks for as long as the disk takes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::folder::{Unkept, digest_of, sync, wait_for};
use crate::files::{FileError, Links, Trust};

/// The layout of the file.
const FORMAT: u32 = 1;
/// The longest value.
const MAX_BYTES: usize = 1 << 20;

/// One value in one file. It does nothing until it is used.
#[derive(Clone, Debug)]
pub struct Document {
    folder: PathBuf,
    path: PathBuf,
    trust: Trust,
}

/// Why a value cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file, its lock or its folder.
    #[error("{0}")]
    Unusable(String),
    /// The content is not what was written.
    #[error("{}: {why}; restore the file, or remove it if nothing in it is to hold any longer", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no room for the change.
    #[error("{}: what is to be kept takes more than {MAX_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
}

impl From<Unkept> for DocumentError {
    fn from(unkept: Unkept) -> Self {
        Self::Unusable(unkept.to_string())
    }
}

impl From<FileError> for DocumentError {
    fn from(error: FileError) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// Changes when the file is written, by this process or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(SystemTime, u64, u64);

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    format: u32,
    /// CRC-32 of the value as it is spelt.
    checksum: u32,
    #[serde(borrow)]
    value: &'a RawValue,
}

impl Document {
    /// A value by its name, for all gateways of a configuration.
    #[must_use]
    pub fn new(folder: &Path, config: &Path, name: &str, trust: &Trust) -> Self {
        let path = folder.join(format!("{}.{name}.json", digest_of(config)));
        Self { folder: folder.to_owned(), path, trust: trust.clone() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another value than before means that the file was written, perhaps by another gateway. `None` if there is no
    /// file.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = self.path.symlink_metadata().ok()?;
        Some(Stamp(meta.modified().ok()?, meta.ino(), meta.len()))
    }

    /// The value that was written last; `None` if none was.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, DocumentError> {
        let file = match self.trust.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |why: String| DocumentError::Damaged { path: self.path.clone(), why };
        let mut bytes = Vec::new();
        let longest = MAX_BYTES as u64 + 1024;
        file.take(longest + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| DocumentError::from(Unkept::io(&self.path, error)))?;
        if bytes.len() as u64 > longest {
            return Err(damaged(format!("it has more than {longest} bytes")));
        }
        let kept: Kept<'_> = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if kept.format != FORMAT {
            let by = "another version of the gateway wrote it";
            return Err(damaged(format!("its format is {}, not {FORMAT}: {by}", kept.format)));
        }
        if crc32fast::hash(kept.value.get().as_bytes()) != kept.checksum {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        serde_json::from_str(kept.value.get()).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Changes the value, and returns it when it is on the disk. The folder is made if it is not there.
    ///
    /// # Errors
    /// What is there cannot be read, or the new value not be written; then the old one stands.
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        change: impl FnOnce(Option<T>) -> T,
    ) -> Result<T, DocumentError> {
        let folder = self.trust.private_dir(&self.folder, Links::Refused)?;
        let _lock = wait_for(&self.path.with_extension("lock"))?;
        let value = change(self.read()?);
        let unusable = |error: std::io::Error| DocumentError::from(Unkept::io(&self.path, error));
        let text = serde_json::value::to_raw_value(&value).map_err(|error| unusable(error.into()))?;
        if text.get().len() > MAX_BYTES {
            return Err(DocumentError::TooLong(self.path.clone()));
        }
        let checksum = crc32fast::hash(text.get().as_bytes());
        let kept = Kept { format: FORMAT, checksum, value: &text };
        let mut bytes = serde_json::to_vec(&kept).map_err(|error| unusable(error.into()))?;
        bytes.push(b'\n');
        // It has mode 0600 and a name of its own, and is gone again unless it is complete.
        let draft = tempfile::Builder::new().prefix("draft-").tempfile_in(&folder).map_err(unusable)?;
        draft.as_file().write_all(&bytes).map_err(unusable)?;
        draft.as_file().sync_all().map_err(unusable)?;
        draft.persist(&self.path).map_err(|error| unusable(error.error))?;
        sync(&folder).map_err(unusable)?;
        Ok(value)
    }

    /// Removes the file, when nothing in it is to hold any longer.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self) -> Result<(), DocumentError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Unkept::io(&self.path, error).into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn document(dir: &Path) -> Document {
        Document::new(&dir.join("state"), &dir.join("a.toml"), "orders", &Trust::default())
    }

    fn add(document: &Document, word: &str) -> Result<Vec<String>, DocumentError> {
        document.update(|old: Option<Vec<String>>| {
            let mut words = old.unwrap_or_default();
            words.push(word.to_owned());
            words
        })
    }

    #[test]
    fn what_was_written_is_read_by_all_gateways_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let one = document(dir.path());
        assert_eq!((one.read::<Vec<String>>().unwrap(), one.stamp()), (None, None));
        assert_eq!(add(&one, "first").unwrap(), ["first"]);
        let before = one.stamp();
        assert_eq!(add(&document(dir.path()), "second").unwrap(), ["first", "second"]);
        assert_ne!(one.stamp(), before);
        assert_eq!(one.read::<Vec<String>>().unwrap().unwrap(), ["first", "second"]);
        let other =
            Document::new(&dir.path().join("state"), &dir.path().join("b.toml"), "orders", &one.trust);
        assert_eq!(other.read::<Vec<String>>().unwrap(), None);
        let mode = fs::metadata(one.path()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        one.remove().unwrap();
        one.remove().unwrap();
        assert_eq!(one.read::<Vec<String>>().unwrap(), None);
    }

    #[test]
    fn nobody_loses_what_another_wrote_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let document = document(dir.path());
                scope.spawn(move || {
                    for turn in 0..5 {
                        add(&document, &format!("{writer}.{turn}")).unwrap();
                    }
                });
            }
        });
        let mut words = document(dir.path()).read::<Vec<String>>().unwrap().unwrap();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), 20);
    }

    /// Cut off or changed anywhere it is an error, and never another value.
    #[test]
    fn a_damaged_value_is_never_taken_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let document = document(dir.path());
        add(&document, "execute_workflow").unwrap();
        let good = fs::read(document.path()).unwrap();
        for at in 0..good.len() - 1 {
            fs::write(document.path(), &good[..at]).unwrap();
            assert!(matches!(document.read::<Vec<String>>(), Err(DocumentError::Damaged { .. })), "{at}");
            let mut changed = good.clone();
            changed[at] ^= 4;
            fs::write(document.path(), &changed).unwrap();
            match document.read::<Vec<String>>() {
                Err(DocumentError::Damaged { .. }) => {}
                // The name of a member that is not needed, or a space.
                Ok(Some(words)) => assert_eq!(words, ["execute_workflow"], "{at}"),
                other => panic!("{at}: {other:?}"),
            }
        }
        let error = document.read::<Vec<String>>().unwrap_err().to_string();
        assert!(error.contains("remove it if nothing in it is to hold any longer"), "{error}");
        // Nothing is written over what could not be read.
        assert!(add(&document, "more").is_err());
        fs::write(document.path(), &good).unwrap();
        assert_eq!(add(&document, "more").unwrap(), ["execute_workflow", "more"]);
    }

    #[test]
    fn what_is_too_long_is_refused_and_the_old_value_stands() {
        let dir = tempfile::tempdir().unwrap();
        let document = document(dir.path());
        add(&document, "short").unwrap();
        assert!(matches!(add(&document, &"x".repeat(MAX_BYTES)), Err(DocumentError::TooLong(_))));
        assert_eq!(document.read::<Vec<String>>().unwrap().unwrap(), ["short"]);
        // Others could have written it.
        fs::set_permissions(document.path(), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(document.read::<Vec<String>>(), Err(DocumentError::Unusable(_))));
    }
}
