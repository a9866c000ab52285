//! What the gateway remembers of its servers from one start to the next: small JSON files in a folder of its own.
//!
//! A memory makes a start quicker and never decides anything by itself: every reader must be able to find out that it is
//! wrong, and goes on as if there were none where it cannot be read. So nothing here is an error. A file belongs to one
//! server: to its name in the configuration together with its command line or address, because under the same name another
//! configuration may start something else. Several gateways share the folder; a file is replaced as a whole, and the last
//! one to write it wins.
//!
//! All functions read or write the disk; they are for threads that may block.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::{self, TransportSettings};
use crate::files::{Links, Trust};

/// The layout of the files; a file of another one is not read.
const FORMAT: u32 = 1;
/// The longest file.
const MAX_BYTES: usize = 8 << 20;
/// Files in the folder; when there are more, the oldest go.
const MAX_FILES: usize = 512;

/// The folder.
#[derive(Debug, Default)]
pub struct Memory {
    /// None: nothing is remembered.
    folder: Option<PathBuf>,
    trust: Trust,
    /// It has been logged that nothing can be written.
    complained: AtomicBool,
}

/// What is remembered of one server.
#[derive(Clone, Debug)]
pub struct Remembered {
    memory: Arc<Memory>,
    backend: Arc<str>,
    /// The beginning of the names of its files.
    stem: String,
}

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    format: u32,
    backend: String,
    value: T,
}

impl Memory {
    /// In this folder, which is made when there is something to write; without one nothing is remembered.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, trust: Trust) -> Arc<Self> {
        Arc::new(Self { folder, trust, complained: AtomicBool::new(false) })
    }

    /// Whether another one is in the same folder.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.folder == other.folder
    }

    /// The part of one server.
    #[must_use]
    pub fn of(self: &Arc<Self>, backend: &config::Backend) -> Remembered {
        let stem = format!("{}-{}", backend.name, digest(&backend.transport));
        Remembered { memory: self.clone(), backend: backend.name.as_str().into(), stem }
    }

    /// Logs the first failure to write; those after it have the same cause.
    fn complain(&self, path: &Path, error: &dyn std::fmt::Display) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "what the gateway knows of its servers is not kept for the next start: {}: {error}",
                path.display()
            );
        }
    }
}

impl Remembered {
    fn path(&self, folder: &Path, what: &str) -> PathBuf {
        folder.join(format!("{}.{what}.json", self.stem))
    }

    /// The value that was written last under this name. `None` if there is none, or if it cannot be read, which is
    /// logged.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self, what: &str) -> Option<T> {
        let path = self.path(self.memory.folder.as_deref()?, what);
        let ignored = |why: &dyn std::fmt::Display| {
            let path = path.display();
            tracing::warn!(backend = %self.backend, "what was remembered of the server is ignored: {path}: {why}");
            None
        };
        let file = match self.memory.trust.open(&path) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return None,
            Err(error) => return ignored(&error),
        };
        let mut bytes = Vec::new();
        // One byte more, so that a file which is too long is known.
        if let Err(error) = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes) {
            return ignored(&error);
        }
        if bytes.len() > MAX_BYTES {
            return ignored(&format_args!("it is longer than {MAX_BYTES} bytes"));
        }
        // The layout first: in another one the rest may be anything.
        match serde_json::from_slice::<Kept<serde::de::IgnoredAny>>(&bytes) {
            Ok(kept) if kept.format != FORMAT => {
                return ignored(&format_args!("its format is {}, not {FORMAT}", kept.format));
            }
            Ok(kept) if *kept.backend != *self.backend => return ignored(&"it is another server's"),
            Ok(_) => {}
            Err(error) => return ignored(&error),
        }
        match serde_json::from_slice::<Kept<T>>(&bytes) {
            Ok(kept) => Some(kept.value),
            Err(error) => ignored(&error),
        }
    }

    /// Writes this in place of what was there. A file that says the same already is left alone.
    pub fn write<T: Serialize>(&self, what: &str, value: &T) {
        let Some(folder) = self.memory.folder.as_deref() else { return };
        let kept = Kept { format: FORMAT, backend: self.backend.to_string(), value };
        let bytes = match serde_json::to_vec(&kept) {
            Ok(bytes) if bytes.len() <= MAX_BYTES => bytes,
            // The file is older than the value that could not be written.
            Ok(_) | Err(_) => return self.forget(what),
        };
        let path = self.path(folder, what);
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return;
        }
        if let Err(error) = self.replace(folder, &path, &bytes) {
            self.memory.complain(&path, &error);
        }
    }

    fn replace(&self, folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
        let folder = self.memory.trust.private_dir(folder, Links::Refused)?;
        // It has mode 0600 and a name of its own, and is gone again unless it is complete.
        let mut draft = tempfile::Builder::new().prefix("draft-").tempfile_in(&folder)?;
        draft.write_all(bytes)?;
        draft.persist(path)?;
        prune(&folder);
        Ok(())
    }

    /// Forgets what was written.
    pub fn forget(&self, what: &str) {
        if let Some(folder) = self.memory.folder.as_deref() {
            // If the file does not exist, there is nothing to forget.
            let _ = fs::remove_file(self.path(folder, what));
        }
    }
}

/// Takes the files out that were not written for longest, if there are too many: those of servers that are gone.
fn prune(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    let excess = files.len().saturating_sub(MAX_FILES);
    if excess == 0 {
        return;
    }
    files.sort();
    for (_, path) in files.into_iter().take(excess) {
        // Another gateway may have been quicker.
        let _ = fs::remove_file(path);
    }
}

/// Tells servers of one name apart by what is started or spoken to. What may be a secret only (variables, headers) has no
/// part in it, and of what is in a command line or an address a digest tells nothing.
fn digest(transport: &TransportSettings) -> String {
    let mut digest = Sha256::new();
    let mut part = |part: &[u8]| {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    };
    match transport {
        TransportSettings::Stdio { command, args, cwd, .. } => {
            part(b"stdio");
            part(command.as_bytes());
            args.iter().for_each(|argument| part(argument.expose().as_bytes()));
            part(cwd.as_ref().map_or(&[][..], |cwd| cwd.as_os_str().as_encoded_bytes()));
        }
        TransportSettings::Http { url, .. } => {
            part(b"http");
            part(url.expose().as_bytes());
        }
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;
    use crate::backend::mcp::scripted;

    /// The memory of a server with this command in a folder of its own.
    fn remembered(folder: &Path, script: &str) -> Remembered {
        let backend = scripted::backend(script, Duration::from_secs(1));
        Memory::new(Some(folder.join("servers")), Trust::default()).of(&backend.settings.load())
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder.join("servers")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[tokio::test]
    async fn what_was_written_is_read_by_the_next_one_with_the_same_command_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = remembered(dir.path(), "one");
        assert_eq!(first.read::<String>("era"), None);
        first.write("era", &"handshake");
        first.write("lists", &vec![1, 2]);
        let again = remembered(dir.path(), "one");
        assert_eq!(again.read::<String>("era").as_deref(), Some("handshake"));
        assert_eq!(again.read::<Vec<u8>>("lists"), Some(vec![1, 2]));
        assert_eq!(remembered(dir.path(), "two").read::<String>("era"), None);
        again.forget("era");
        assert_eq!(first.read::<String>("era"), None);
    }

    #[tokio::test]
    async fn the_files_are_the_users_alone_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let one = remembered(dir.path(), "one");
        for round in 0..3 {
            one.write("era", &round);
        }
        let files = files(dir.path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!((mode(&files[0]), mode(&dir.path().join("servers"))), (0o600, 0o700));
    }

    #[tokio::test]
    async fn what_is_damaged_or_foreign_is_not_read_and_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let one = remembered(dir.path(), "one");
        one.write("era", &"handshake");
        let path = files(dir.path()).remove(0);
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            String::new(),
            good[..good.len() - 4].to_owned(),
            good.replace("\"format\":1", "\"format\":2"),
            good.replace("\"handshake\"", "7"),
            good.replace(&*one.backend, "another"),
            format!("{good}{}", " ".repeat(MAX_BYTES)),
            "\0".repeat(64),
        ] {
            fs::write(&path, &bad).unwrap();
            assert_eq!(one.read::<String>("era"), None, "{}", bad.get(..80).unwrap_or(&bad));
            one.write("era", &"handshake");
            assert_eq!(one.read::<String>("era").as_deref(), Some("handshake"));
        }
        // Others could have written it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(one.read::<String>("era"), None);
    }

    #[tokio::test]
    async fn the_folder_has_a_bound_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let one = remembered(dir.path(), "one");
        one.write("era", &"handshake");
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        for number in 0..MAX_FILES + 5 {
            let file = fs::File::create(dir.path().join(format!("servers/old-{number}.era.json"))).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        one.write("era", &"stateless");
        assert_eq!(files(dir.path()).len(), MAX_FILES);
        assert_eq!(one.read::<String>("era").as_deref(), Some("stateless"));
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_kept_and_neither_is_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let one = remembered(dir.path(), "one");
        one.write("lists", &"short");
        one.write("lists", &"x".repeat(MAX_BYTES));
        assert_eq!(one.read::<String>("lists"), None);
        assert!(files(dir.path()).is_empty());
    }

    #[tokio::test]
    async fn without_a_folder_or_with_one_that_cannot_be_made_nothing_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("servers"), "a file").unwrap();
        let backend = scripted::backend("one", Duration::from_secs(1));
        for folder in [None, Some(dir.path().join("servers"))] {
            let one = Memory::new(folder, Trust::default()).of(&backend.settings.load());
            one.write("era", &"handshake");
            assert_eq!(one.read::<String>("era"), None);
        }
    }
}
