//! The files of the gateways of one configuration: who writes which, and what those that are gone have left.
//!
//! Each gateway that runs has a number, the lowest that is free, and writes `CONFIG-NUMBER.state` alone; a lock on
//! `CONFIG-NUMBER.lock` says that it runs, and ends with its process. `CONFIG` is a digest of where the configuration's file
//! stands. Starting is done by one at a time, under `CONFIG.lock`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::files::{FileError, Links, Trust, open_private};

/// Gateways of one configuration that can keep something at once.
const MAX_GATEWAYS: u32 = 64;
/// The longest file.
pub(super) const MAX_BYTES: u64 = 1 << 30;
/// How long a gateway waits for others that are starting.
const PATIENCE: Duration = Duration::from_secs(5);
/// No key lives for longer than 50 days, so nothing in a file that is older counts.
const USELESS_AFTER: Duration = Duration::from_secs(60 * 86_400);

/// Why nothing is kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unkept {
    #[error("{0}")]
    File(#[from] FileError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: another gateway that is starting has held this lock for {} s; if none is, the disk does not answer", .0.display(), PATIENCE.as_secs())]
    Busy(PathBuf),
    #[error("{MAX_GATEWAYS} gateways of this configuration run already, and keep theirs in {}", .0.display())]
    TooMany(PathBuf),
    #[error("it is more than {} MiB", MAX_BYTES >> 20)]
    TooLong,
}

impl Unkept {
    pub(super) fn io(path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }
}

/// The part of file names that means this configuration: the same for every gateway that is started with this file.
pub(super) fn digest_of(config: &Path) -> String {
    let full = config.canonicalize().or_else(|_| std::path::absolute(config));
    let full = full.unwrap_or_else(|_| config.to_owned());
    let digest = blake3::hash(full.as_os_str().as_encoded_bytes());
    digest.to_hex()[..16].to_owned()
}

/// The place of this gateway, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    /// Its file.
    pub(super) path: PathBuf,
    _lock: File,
}

/// A file that another gateway has kept.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// That gateway still runs.
    pub(super) lives: bool,
    /// The file, or why it cannot be read.
    pub(super) bytes: Result<Vec<u8>, Unkept>,
    /// Keeps every other gateway from taking it for its own.
    lock: Option<File>,
}

impl Found {
    /// Its bytes have been taken over; its lock stays until its file is gone.
    pub(super) fn into_adopted(self) -> Adopted {
        Adopted { path: self.path, _lock: self.lock }
    }
}

/// A file of a gateway that is gone, whose state another one has taken over.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) path: PathBuf,
    _lock: Option<File>,
}

/// As long as it lives, no other gateway of the configuration starts.
#[derive(Debug)]
pub(super) struct Starting(#[allow(dead_code, reason = "it is held, not read")] File);

/// Takes a place, and finds what was kept.
pub(super) fn claim(
    folder: &Path,
    config: &Path,
    trust: &Trust,
) -> Result<(Place, Vec<Found>, Starting), Unkept> {
    let folder = trust.private_dir(folder, Links::Refused)?;
    let digest = digest_of(config);
    let starting = wait_for(&folder.join(format!("{digest}.lock")))?;
    let state = |number: u32| folder.join(format!("{digest}-{number}.state"));
    let mut place = None;
    let mut found = Vec::new();
    for number in 0..MAX_GATEWAYS {
        let path = state(number);
        let there = path.symlink_metadata().is_ok();
        if !there && place.is_some() {
            continue;
        }
        let lock = open_private(&path.with_extension("lock"))?;
        let free = try_lock(&lock, &path)?;
        if there {
            let bytes = read(&path, trust);
            // Our own place needs its lock for longer than what was found there.
            let held = (free && place.is_some()).then(|| lock.try_clone()).transpose();
            let held = held.map_err(|error| Unkept::io(&path, error))?;
            found.push(Found { path: path.clone(), lives: !free, bytes, lock: held });
        }
        if free && place.is_none() {
            place = Some(Place { folder: folder.clone(), path, _lock: lock });
        }
    }
    prune(&folder);
    let place = place.ok_or_else(|| Unkept::TooMany(folder.clone()))?;
    Ok((place, found, Starting(starting)))
}

fn try_lock(lock: &File, path: &Path) -> Result<bool, Unkept> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(Unkept::io(path, error)),
    }
}

/// Others hold this one for a moment only.
pub(super) fn wait_for(path: &Path) -> Result<File, Unkept> {
    let lock = open_private(path)?;
    let deadline = Instant::now() + PATIENCE;
    while !try_lock(&lock, path)? {
        if Instant::now() >= deadline {
            return Err(Unkept::Busy(path.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(lock)
}

fn read(path: &Path, trust: &Trust) -> Result<Vec<u8>, Unkept> {
    let file = trust.open(path)?;
    let mut bytes = Vec::new();
    // One byte more, so that a file which is too long is known.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Unkept::io(path, error))?;
    if bytes.len() as u64 > MAX_BYTES { Err(Unkept::TooLong) } else { Ok(bytes) }
}

/// Removes files that no gateway writes and in which nothing can count any more: those of configurations that are gone.
fn prune(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let of_state =
            path.extension().is_some_and(|end| end == "state" || end == "damaged" || end == "draft");
        let age = path.metadata().and_then(|meta| meta.modified()).ok();
        let age = age.and_then(|written| SystemTime::now().duration_since(written).ok());
        if !of_state || age.is_none_or(|age| age < USELESS_AFTER) {
            continue;
        }
        // Of a gateway that has had nothing to write for as long, the file stays.
        let lock = open_private(&path.with_extension("lock"));
        if lock.is_ok_and(|lock| try_lock(&lock, &path).unwrap_or(false)) {
            // If it cannot be removed, the next start tries again.
            let _ = fs::remove_file(&path);
        }
    }
}

/// Makes what a folder lists durable.
pub(super) fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn names(found: &[Found]) -> Vec<(String, bool)> {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap()[16..].to_owned();
        found.iter().map(|found| (name(&found.path), found.lives)).collect()
    }

    #[test]
    fn each_gateway_has_a_place_of_its_own_and_finds_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, config) = (dir.path().join("state"), dir.path().join("a.toml"));
        let claim = || claim(&folder, &config, &Trust::default()).unwrap();
        let (first, found, starting) = claim();
        assert_eq!(names(&found), []);
        fs::write(&first.path, "one").unwrap();
        drop(starting);
        let (second, found, starting) = claim();
        assert_eq!(names(&found), [("-0.state".to_owned(), true)]);
        assert_ne!(first.path, second.path);
        fs::write(&second.path, "two").unwrap();
        drop((first, starting));
        // The place of the one that is gone is taken again, with what it left; the other lives.
        let (third, found, starting) = claim();
        assert!(third.path.ends_with(second.path.file_name().unwrap().to_str().unwrap().replace("-1", "-0")));
        assert_eq!(names(&found), [("-0.state".to_owned(), false), ("-1.state".to_owned(), true)]);
        assert_eq!(found[0].bytes.as_ref().unwrap(), b"one");
        drop((starting, second, third, found));
        // Another configuration knows nothing of them.
        let other = super::claim(&folder, &dir.path().join("b.toml"), &Trust::default()).unwrap();
        assert_eq!(names(&other.1), []);
    }

    #[test]
    fn only_one_starts_at_a_time_and_what_is_of_no_use_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, config) = (dir.path().join("state"), dir.path().join("a.toml"));
        let (place, _, starting) = claim(&folder, &config, &Trust::default()).unwrap();
        let path = folder.join(format!("{}.lock", digest_of(&config)));
        assert!(!try_lock(&open_private(&path).unwrap(), &path).unwrap());
        drop(starting);
        let long_ago = SystemTime::now() - USELESS_AFTER - Duration::from_secs(60);
        let file = |path: &Path| fs::write(path, "x").map(|()| File::open(path).unwrap()).unwrap();
        let (stale, orders) = (folder.join("0123-0.state"), folder.join("0123.orders.json"));
        for path in [&stale, &place.path, &orders] {
            file(path).set_modified(long_ago).unwrap();
        }
        let (_second, ..) = claim(&folder, &config, &Trust::default()).unwrap();
        assert!(!stale.exists() && place.path.exists() && orders.exists());
    }
}
