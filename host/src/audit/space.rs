//! Watches the free space of the disk, so that calls are refused with a reason before it is full. A full disk harms
//! everything else on it, and the database needs space to take the journal's records.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::statvfs;

use super::AuditError;

/// How long what was seen holds. A look costs about a microsecond.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Unless somebody says otherwise, so much must be free, in bytes,
const FLOOR: u64 = 256 << 20;
/// or this part of the whole, if that is less.
const PART: u64 = 100;

/// The places of the record, and whether there is room.
#[derive(Debug)]
pub(super) struct Space {
    places: Vec<PathBuf>,
    began: Instant,
    /// When to look again, in milliseconds since `began`.
    due: AtomicU64,
    low: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The bytes that must be free; `None` for what fits the disk, 0 for no look at all.
    floor: Option<u64>,
    low: Option<Low>,
    warned: bool,
}

/// A place with too little room.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Low {
    path: PathBuf,
    free: u64,
    floor: u64,
}

/// What a disk has.
#[derive(Clone, Copy, Debug)]
struct Room {
    free: u64,
    whole: u64,
}

impl Space {
    pub(super) fn new(places: Vec<PathBuf>, floor: Option<u64>) -> Self {
        let (due, low) = (AtomicU64::new(0), AtomicBool::new(false));
        let seen = Mutex::new(Seen { floor, ..Seen::default() });
        let space = Self { places, began: Instant::now(), due, low, seen };
        // Callers that come while another one looks go by what was seen before, so there has to be something.
        space.look(room);
        space
    }

    /// From now on so many bytes must be free.
    pub(super) fn bound(&self, floor: Option<u64>) {
        self.seen.lock().floor = floor;
        self.look(room);
    }

    /// Whether another call may be recorded.
    ///
    /// # Errors
    /// Too little is free.
    pub(super) fn check(&self) -> Result<(), AuditError> {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.due.load(Ordering::Relaxed);
        if now >= due {
            let next = now.saturating_add(LOOK_AGAIN.as_millis() as u64);
            // The first caller after that time looks, for all.
            if self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.look(room);
            }
        }
        if !self.low.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.seen.lock().low.clone() {
            None => Ok(()),
            Some(Low { path, free, floor }) => Err(AuditError::Space { path, free, floor }),
        }
    }

    fn look(&self, room: impl Fn(&Path) -> Option<Room>) {
        let mut seen = self.seen.lock();
        if seen.floor == Some(0) {
            (seen.low, seen.warned) = (None, false);
            self.low.store(false, Ordering::Relaxed);
            return;
        }
        let mut tightest: Option<(u64, u64, &PathBuf)> = None;
        for place in &self.places {
            let Some(Room { free, whole }) = room(place) else { continue };
            let floor = seen.floor.unwrap_or_else(|| FLOOR.min(whole / PART));
            // The place that is nearest to its floor, or furthest below.
            if tightest.is_none_or(|(other, of, _)| {
                u128::from(free) * u128::from(of.max(1)) < u128::from(other) * u128::from(floor.max(1))
            }) {
                tightest = Some((free, floor, place));
            }
        }
        let Some((free, floor, place)) = tightest else { return };
        // What is free goes up and down: a little more than the floor ends the refusals, so that they do not flap.
        let needed = if seen.low.is_some() { floor.saturating_add(floor / 8) } else { floor };
        let path = place.clone();
        if free < needed {
            if seen.low.is_none() {
                let folder = path.display();
                tracing::error!(%folder, free, floor, "the disk of the audit record is nearly full: calls are refused until there is room");
            }
            seen.low = Some(Low { path, free, floor });
            seen.warned = true;
        } else {
            if seen.low.take().is_some() {
                tracing::info!(free, floor, "the disk of the audit record has room again: calls are taken");
            }
            let soon = free < floor.saturating_mul(2);
            if soon && !seen.warned {
                let folder = path.display();
                tracing::warn!(%folder, free, floor, "the disk of the audit record fills up; below the floor calls are refused");
            }
            seen.warned = soon;
        }
        self.low.store(seen.low.is_some(), Ordering::Relaxed);
    }
}

fn room(path: &Path) -> Option<Room> {
    let at = statvfs(path).ok()?;
    // A file system without a size says nothing about its room.
    (at.f_blocks > 0).then(|| Room {
        free: at.f_bavail.saturating_mul(at.f_frsize),
        whole: at.f_blocks.saturating_mul(at.f_frsize),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn refused(space: &Space) -> bool {
        space.due.store(u64::MAX, Ordering::Relaxed);
        space.check().is_err()
    }

    #[test]
    fn below_the_floor_calls_are_refused_and_a_little_above_they_are_not() {
        let space = Space::new(vec![PathBuf::from("/a"), PathBuf::from("/b")], None);
        let at = |a: u64, b: u64| {
            space.look(|path| {
                let free = if path == Path::new("/a") { a } else { b };
                Some(Room { free: free * MIB, whole: 100_000 * MIB })
            });
            refused(&space)
        };
        assert!(!at(1_000, 1_000));
        assert!(!at(300, 1_000));
        assert!(at(255, 1_000), "one of two is enough");
        assert!(at(1_000, 255));
        assert!(at(1_000, 270), "not yet");
        assert!(!at(1_000, 300));
        let Seen { low, warned, .. } = &*space.seen.lock();
        assert!(low.is_none() && *warned);
    }

    #[test]
    fn the_floor_fits_the_disk_and_may_be_said() {
        for (floor, free, whole, low) in [
            (None, 2, 64, false),
            (None, 0, 64, true),
            (Some(8 * MIB), 7, 64, true),
            (Some(8 * MIB), 9, 64, false),
            (Some(0), 0, 64, false),
        ] {
            let space = Space::new(vec![PathBuf::from("/")], floor);
            space.look(|_| Some(Room { free: free * MIB, whole: whole * MIB }));
            assert_eq!(refused(&space), low, "{floor:?} {free} of {whole}");
        }
        let nowhere = Space::new(vec![PathBuf::from("/a/folder/that/is/not/there")], None);
        assert!(nowhere.check().is_ok(), "what is not there yet has not run out");
    }
}
