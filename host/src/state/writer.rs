//! Writes down what changes in the state, in a thread of its own.
//!
//! A call never waits for the disk: it sets a flag beside what it changed. Soon after (see [`Writer::PAUSES`]) the writer goes
//! through the shards that changed, a lock at a time, and appends the changed values to the file with one `write`. So a
//! gateway that is killed loses what changed since then; the file itself survives, because the system has it. When appended
//! values outweigh the state itself, the writer writes the whole state to a draft, which takes the place of the file when it is on
//! the disk. A write that fails is cut off again, and the next attempt writes the whole state.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::{Clock, unix_ns};
use super::epoch::{Machine, Mark};
use super::folder::{Adopted, MAX_BYTES, Place, Unkept, sync};
use super::record::{MAGIC, Records};
use super::signal::Signal;
use super::{SHARDS, Space, Spaces};
use crate::files::create_private;

/// So much may be appended, besides as much as twice the state itself, before the file is written anew.
const SLACK_BYTES: u64 = 1 << 20;
/// While something is kept, the file learns so often what time it is.
const MARK_EVERY: Duration = Duration::from_secs(300);
/// Before a write that failed is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// The writer; it belongs to one thread at a time.
#[derive(Debug)]
pub(super) struct Writer {
    spaces: Arc<Spaces>,
    clock: Clock,
    /// Which start of the machine this is.
    boot: u128,
    place: Place,
    /// Files of gateways that are gone; what they kept is part of the state, and of the file once it was written whole.
    adopted: Vec<Adopted>,
    records: Records,
    /// None: the next write writes everything.
    file: Option<Current>,
    /// It has been logged that nothing can be written.
    complained: bool,
}

/// The file as it is.
#[derive(Debug)]
struct Current {
    file: File,
    length: u64,
    /// Its length when it had been written whole.
    whole: u64,
}

impl Writer {
    /// Between two writes: fifty times as long as the last one took, so that writing takes two hundredths of a processor
    /// at most, within these bounds.
    const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

    pub(super) fn new(
        spaces: Arc<Spaces>,
        (clock, boot): (Clock, u128),
        place: Place,
        adopted: Vec<Adopted>,
    ) -> Self {
        let records = Records::default();
        Self { spaces, clock, boot, place, adopted, records, file: None, complained: false }
    }

    /// Works until the signal says that it is over, and writes what is left.
    pub(super) fn run(mut self, signal: &Signal) {
        let mut pause = Self::PAUSES.0;
        loop {
            let held = self.spaces.hold_something();
            if !signal.wait(held.then_some(MARK_EVERY)) {
                self.rest();
                continue;
            }
            // What follows at once is written with it.
            signal.pause(pause);
            let stopping = signal.is_stopping();
            // Before the state is looked at: what changes from here on is for the next turn.
            signal.take();
            let began = Instant::now();
            let written = self.write(stopping);
            if stopping {
                return;
            }
            pause = match written {
                Ok(()) => (began.elapsed() * 50).clamp(Self::PAUSES.0, Self::PAUSES.1),
                Err(_) => {
                    // Nothing else may tell that there is something to write.
                    signal.changed();
                    AFTER_FAILURE
                }
            };
        }
    }

    /// Nothing has changed for a while: what has expired meanwhile is given back, and the file learns what time it is.
    fn rest(&mut self) {
        let now = self.clock.now_ns();
        for (_, space) in self.spaces.all() {
            space.sweep(now);
        }
        // A failure is tried again when something changes.
        let _ = self.write(false);
    }

    /// Writes what has changed, or everything.
    pub(super) fn write(&mut self, last: bool) -> Result<(), Unkept> {
        let written = match &self.file {
            Some(current) if current.length < current.whole * 3 + SLACK_BYTES => self.append(),
            _ => self.whole(),
        };
        let written = written.and_then(|()| if last { self.sync() } else { Ok(()) });
        match &written {
            Ok(()) if self.complained => {
                tracing::info!("limits and circuits are kept again, in {}", self.place.path.display());
                self.complained = false;
            }
            Err(error) if !self.complained => {
                tracing::warn!(
                    "limits and circuits are not kept for the next start, until this is mended: {error}"
                );
                self.complained = true;
            }
            _ => {}
        }
        written
    }

    /// Makes what was written durable, against the loss of power too.
    fn sync(&self) -> Result<(), Unkept> {
        match &self.file {
            Some(current) => current.file.sync_all().map_err(|error| self.failed(error)),
            None => Ok(()),
        }
    }

    fn failed(&self, error: io::Error) -> Unkept {
        Unkept::io(&self.place.path, error)
    }

    /// Appends what has changed, or only the time.
    fn append(&mut self) -> Result<(), Unkept> {
        self.records.begin();
        self.spaces.write_changes(&mut self.records);
        let batch = self.records.finish(mark(&self.clock, self.boot));
        let Some(current) = &mut self.file else { return Ok(()) };
        if let Err(error) = current.file.write_all(batch) {
            // A half-written record would end the file for its readers. What it was is no longer known to have
            // changed, so all of it is written the next time.
            let _ = current.file.set_len(current.length);
            self.file = None;
            return Err(self.failed(error));
        }
        current.length += batch.len() as u64;
        Ok(())
    }

    /// Writes everything into a draft, which takes the place of the file.
    fn whole(&mut self) -> Result<(), Unkept> {
        self.file = None;
        let draft = self.place.path.with_extension("draft");
        let made = self.draft(&draft);
        let (file, length) = match made {
            Ok(made) => made,
            Err(error) => {
                // It may have taken the last of the room.
                let _ = fs::remove_file(&draft);
                return Err(error);
            }
        };
        fs::rename(&draft, &self.place.path).map_err(|error| self.failed(error))?;
        self.file = Some(Current { file, length, whole: length });
        if !self.adopted.is_empty() {
            // Both would be lost if the power failed now: the new name, and the old files.
            sync(&self.place.folder).map_err(|error| self.failed(error))?;
            for adopted in self.adopted.drain(..) {
                // What stays is read again at the next start, and taken for what it is: older.
                let _ = fs::remove_file(&adopted.path);
            }
        }
        Ok(())
    }

    fn draft(&mut self, draft: &PathBuf) -> Result<(File, u64), Unkept> {
        // Of a gateway that was killed.
        let _ = fs::remove_file(draft);
        let failed = |error: io::Error| Unkept::io(draft, error);
        let mut file = create_private(draft).map_err(failed)?;
        file.write_all(&MAGIC).map_err(failed)?;
        let mut length = MAGIC.len() as u64;
        let (clock, boot) = (&self.clock, self.boot);
        self.spaces.write_all(clock.now_ns(), &mut self.records, |records| {
            let batch = records.finish(mark(clock, boot));
            length += batch.len() as u64;
            if length > MAX_BYTES / 4 {
                return Err(Unkept::TooLong);
            }
            file.write_all(batch).map_err(failed)
        })?;
        file.sync_all().map_err(failed)?;
        Ok((file, length))
    }
}

/// This moment.
fn mark(clock: &Clock, boot: u128) -> Mark {
    let (boot_ns, now_ns) = clock.both_ns();
    Mark { now_ns, machine: Machine { boot, boot_ns, unix_ns: unix_ns() } }
}

impl Spaces {
    /// Puts everything that has changed into a batch.
    pub(super) fn write_changes(&self, records: &mut Records) {
        for (name, space) in self.all() {
            records.space(&name);
            space.write_changes(records);
        }
    }

    /// Puts everything there is into batches, none larger than a shard.
    pub(super) fn write_all<E>(
        &self,
        now_ns: u64,
        records: &mut Records,
        mut out: impl FnMut(&mut Records) -> Result<(), E>,
    ) -> Result<(), E> {
        for (name, space) in self.all() {
            for shard in 0..SHARDS {
                records.begin();
                records.space(&name);
                space.write_all(shard, now_ns, records);
                if !records.is_empty() {
                    out(records)?;
                }
            }
        }
        // Also of a state in which there is nothing it is to be known what time it was.
        records.begin();
        out(records)
    }
}

impl Space {
    fn write_changes(&self, records: &mut Records) {
        for shard in 0..SHARDS {
            self.spent[shard].lock().write_changes(records);
            self.windows[shard].lock().write_changes(records);
            self.gauges[shard].lock().write_changes(records);
            self.cells[shard].lock().write_changes(records);
        }
    }

    fn write_all(&self, shard: usize, now_ns: u64, records: &mut Records) {
        self.spent[shard].lock().write_all(now_ns, records);
        self.windows[shard].lock().write_all(now_ns, records);
        self.gauges[shard].lock().write_all(now_ns, records);
        self.cells[shard].lock().write_all(now_ns, records);
    }
}
