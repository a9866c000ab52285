//! Remembers what was done under a key, so that a request which is repeated is not done again (Idempotency-Key).
//!
//! Each key is a file. The one who makes it holds the kernel's lock on it for as long as the work takes, so a file that says
//! "running" and that nobody holds was left by a gateway that died: what became of that work cannot be known. This holds for
//! all gateways that share the folder, and needs no clean-up after a crash.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

/// How long a key is remembered.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 3600);
/// The longest result that is kept, in bytes.
pub(crate) const MAX_RESULT: usize = 1 << 20;
/// Keys at once; a further one is refused instead of forgetting one that may be asked for.
const MAX_KEYS: usize = 100_000;

const RUNNING: u8 = b'r';
const DONE: u8 = b'd';
const UNKNOWN: u8 = b'u';

/// All keys of a folder.
#[derive(Debug)]
pub struct Once {
    folder: PathBuf,
    keys: AtomicUsize,
    /// When old keys were looked for.
    looked: Mutex<Instant>,
}

/// What is known of a key.
#[derive(Debug)]
pub enum Begun {
    /// Nothing: the work is to be done.
    New(Ticket),
    /// It is being done.
    Running,
    /// Something else was done under this key.
    Other,
    /// It was done, with this result.
    Done(Vec<u8>),
    /// It was begun, and nobody knows what became of it.
    Unknown,
    /// There is no room for another key.
    Full,
}

/// The right to do the work of a key. Dropped before the work has begun, it forgets the key; after that, what became of the
/// work counts as unknown.
#[derive(Debug)]
pub struct Ticket {
    file: File,
    path: PathBuf,
    fingerprint: [u8; 32],
    begun: bool,
    over: bool,
}

impl Once {
    /// Opens a folder, and makes it if it is not there. Keys that are too old are forgotten.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let once =
            Self { folder: folder.to_owned(), keys: AtomicUsize::new(0), looked: Mutex::new(Instant::now()) };
        once.forget_old(SystemTime::now())?;
        Ok(once)
    }

    /// Removes keys that are too old, and counts the others.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn forget_old(&self, now: SystemTime) -> io::Result<()> {
        let mut count = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let age = entry.metadata().and_then(|data| data.modified());
            let old = age.is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > KEPT));
            if !old || std::fs::remove_file(entry.path()).is_err() {
                count += 1;
            }
        }
        self.keys.store(count, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it is time to look for old keys again.
    fn is_due(&self) -> bool {
        const EACH: Duration = Duration::from_secs(3600);
        let mut looked = self.looked.lock();
        let due = looked.elapsed() > EACH;
        if due {
            *looked = Instant::now();
        }
        due
    }

    /// Begins the work of a key, if it is new. `fingerprint` is that of the request.
    ///
    /// # Errors
    /// The file cannot be made or read.
    pub fn begin(&self, key: [u8; 32], fingerprint: [u8; 32]) -> io::Result<Begun> {
        let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.folder.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        if self.is_due() {
            self.forget_old(SystemTime::now())?;
        }
        if self.keys.load(Ordering::Relaxed) >= MAX_KEYS {
            self.forget_old(SystemTime::now())?;
            if self.keys.load(Ordering::Relaxed) >= MAX_KEYS && !path.exists() {
                return Ok(Begun::Full);
            }
        }
        for _ in 0..8 {
            match options.clone().create_new(true).open(&path) {
                Ok(mut file) => {
                    // A reader that came first has the lock for a moment, and finds an empty file.
                    flock(&file, FlockOperation::LockExclusive)?;
                    write(&mut file, RUNNING, &fingerprint, &[])?;
                    self.keys.fetch_add(1, Ordering::Relaxed);
                    return Ok(Begun::New(Ticket { file, path, fingerprint, begun: false, over: false }));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            let mut file = match options.open(&path) {
                Ok(file) => file,
                // It was forgotten a moment ago.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let age = file.metadata()?.modified()?;
            let held = flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let Some((&state, rest)) = bytes.split_first() else {
                // Its maker has not written yet, or died before it did: then nothing was begun.
                if held {
                    return Ok(Begun::Running);
                }
                if SystemTime::now().duration_since(age).is_ok_and(|age| age > Duration::from_secs(1)) {
                    let _ = std::fs::remove_file(&path);
                } else {
                    drop(file);
                    std::thread::sleep(Duration::from_millis(2));
                }
                continue;
            };
            let Some((known, result)) = rest.split_first_chunk::<32>() else { return Ok(Begun::Unknown) };
            if *known != fingerprint {
                return Ok(Begun::Other);
            }
            return Ok(match state {
                DONE => Begun::Done(result.to_vec()),
                RUNNING if held => Begun::Running,
                _ => Begun::Unknown,
            });
        }
        Ok(Begun::Running)
    }
}

impl Ticket {
    /// From now on the work may have had an effect.
    pub(crate) fn dispatched(&mut self) {
        self.begun = true;
    }

    /// The work is done, with this result. One that is too long is not kept: who asks again hears that it is unknown.
    ///
    /// # Errors
    /// It cannot be written; then the key says that what became of the work is unknown.
    pub fn done(mut self, result: &[u8]) -> io::Result<()> {
        self.over = true;
        let kept = result.len() <= MAX_RESULT;
        let state = if kept { DONE } else { UNKNOWN };
        write(&mut self.file, state, &self.fingerprint, if kept { result } else { &[] })
    }

    /// Nobody knows what became of the work.
    pub fn unknown(mut self) {
        self.begun = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if self.begun {
            // If it cannot be written it says "running" and is held by nobody, which means the same.
            let _ = write(&mut self.file, UNKNOWN, &self.fingerprint, &[]);
        } else {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Replaces the whole file. The state comes last, so that a file is never half of one and half of another.
fn write(file: &mut File, state: u8, fingerprint: &[u8; 32], result: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(33 + result.len());
    bytes.push(if result.is_empty() { state } else { RUNNING });
    bytes.extend_from_slice(fingerprint);
    bytes.extend_from_slice(result);
    file.seek(io::SeekFrom::Start(0))?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    if !result.is_empty() {
        file.seek(io::SeekFrom::Start(0))?;
        file.write_all(&[state])?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn once() -> (tempfile::TempDir, Once) {
        let folder = tempfile::tempdir().unwrap();
        let once = Once::open(&folder.path().join("once")).unwrap();
        (folder, once)
    }

    fn new(once: &Once, key: u8) -> Ticket {
        match once.begin([key; 32], [1; 32]).unwrap() {
            Begun::New(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn work_is_done_once() {
        let (_folder, once) = once();
        let mut ticket = new(&once, 1);
        assert!(matches!(once.begin([1; 32], [1; 32]).unwrap(), Begun::Running));
        assert!(matches!(once.begin([1; 32], [2; 32]).unwrap(), Begun::Other));
        ticket.dispatched();
        ticket.done(b"result").unwrap();
        assert!(matches!(once.begin([1; 32], [1; 32]).unwrap(), Begun::Done(result) if result == b"result"));
        assert!(matches!(once.begin([1; 32], [2; 32]).unwrap(), Begun::Other));
        // Another gateway reads the same.
        let other = Once::open(&once.folder).unwrap();
        assert!(matches!(other.begin([1; 32], [1; 32]).unwrap(), Begun::Done(_)));
        assert_eq!(other.keys.load(Ordering::Relaxed), 1);
        // What was not begun is forgotten, what may have been done is not.
        drop(new(&once, 2));
        let mut ticket = new(&once, 2);
        ticket.dispatched();
        drop(ticket);
        assert!(matches!(once.begin([2; 32], [1; 32]).unwrap(), Begun::Unknown));
        let ticket = new(&once, 3);
        ticket.done(&vec![0; MAX_RESULT + 1]).unwrap();
        assert!(matches!(once.begin([3; 32], [1; 32]).unwrap(), Begun::Unknown));
    }

    #[test]
    fn what_a_dead_gateway_left_is_unknown() {
        let (_folder, once) = once();
        let ticket = new(&once, 1);
        let path = ticket.path.clone();
        // As after SIGKILL: the file stays as it is, and the kernel takes the lock back.
        let bytes = std::fs::read(&path).unwrap();
        drop(ticket);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(once.begin([1; 32], [1; 32]).unwrap(), Begun::Unknown));
        // Old keys are forgotten.
        once.forget_old(SystemTime::now() + KEPT + Duration::from_secs(60)).unwrap();
        assert!(matches!(once.begin([1; 32], [1; 32]).unwrap(), Begun::New(_)));
    }

    #[test]
    fn of_a_hundred_racers_one_does_it() {
        let (_folder, once) = once();
        let once = Arc::new(once);
        for key in 0..5_u8 {
            let racers: Vec<_> = (0..20)
                .map(|_| {
                    let once = once.clone();
                    std::thread::spawn(move || match once.begin([key; 32], [1; 32]).unwrap() {
                        Begun::New(ticket) => {
                            std::thread::sleep(Duration::from_millis(5));
                            ticket.done(b"x").unwrap();
                            true
                        }
                        Begun::Running | Begun::Done(_) => false,
                        other => panic!("{other:?}"),
                    })
                })
                .collect();
            let winners = racers.into_iter().filter_map(|racer| racer.join().ok()).filter(|won| *won).count();
            assert_eq!(winners, 1, "{key}");
        }
    }
}
