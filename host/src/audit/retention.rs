//! Removes rows of the record that are too old or too many. The ingester does it between its batches, so no call ever
//! waits for it; rows are removed in small groups, each in a transaction of its own.
//!
//! Nothing is removed unless the operator asked for it: only the operator may decide to forget.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::AuditError;
use super::row::Row;
use super::settings::{Keep, Settings, WhenFull};
use super::store::{Keeper, Store};
use crate::files::{self, Links, Trust};

/// So many rows leave at once: with arguments of the usual limit less than 1 MB of memory.
const GROUP: u32 = 200;
/// So many groups leave before the ingester has its turn again.
const GROUPS: usize = 4;
/// How often rows are looked for that are too old.
const AGE_EVERY: Duration = Duration::from_secs(3600);
/// How long the size that was measured holds, if little was added since.
const SIZE_EVERY: Duration = Duration::from_secs(600);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(60);

/// Looks after the size of one database.
#[derive(Debug)]
pub(super) struct Retention {
    keep: Keep,
    /// What is to be kept from the next turn on; a reload may change it.
    wanted: Arc<Mutex<Keep>>,
    archive: Arc<Archive>,
    next_age: Instant,
    next_size: Instant,
    /// What was measured, and what may have come to it since.
    size: u64,
    /// Rows leave until this much is left.
    shrinking: bool,
    complaint: Option<String>,
    trust: Trust,
}

impl Retention {
    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// `instance` names the gateway: no two write into one file.
    pub(super) fn new(settings: &Settings, instance: &str) -> Self {
        let archive = Arc::new(Archive {
            folder: settings.dir.join("archive"),
            instance: instance.to_owned(),
            trust: settings.trust.clone(),
        });
        let now = Instant::now();
        Self {
            keep: settings.keep,
            wanted: Arc::new(Mutex::new(settings.keep)),
            archive,
            next_age: now,
            next_size: now,
            size: 0,
            shrinking: false,
            complaint: None,
            trust: settings.trust.clone(),
        }
    }

    /// When a turn is due though nothing was added; never, if everything is kept or there is no limit of age.
    pub(super) fn due(&self) -> Option<Instant> {
        self.keep.max_age.map(|_| self.next_age)
    }

    /// How long and how much is kept, to change it.
    pub(super) fn wanted(&self) -> Arc<Mutex<Keep>> {
        Arc::clone(&self.wanted)
    }

    /// Has some rows taken out, if that is due. `added` is about how many bytes came since the last turn. Says whether
    /// there is more to do at once.
    pub(super) async fn turn(&mut self, store: &Store, added: u64) -> bool {
        let wanted = *self.wanted.lock();
        if wanted != self.keep {
            // By another rule everything has to be looked at anew.
            let now = Instant::now();
            (self.keep, self.next_age, self.next_size, self.shrinking) = (wanted, now, now, false);
        }
        if self.keep.max_age.is_none() && self.keep.max_bytes.is_none() {
            return false;
        }
        // In the table and its indexes a record takes more than in the journal.
        self.size = self.size.saturating_add(added.saturating_mul(2));
        match self.groups(store).await {
            Ok(more) => {
                if self.complaint.take().is_some() {
                    tracing::info!("old rows of the audit record can be taken out again");
                }
                more
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let reason = format!("{error} {}", cause.as_deref().unwrap_or_default());
                if self.complaint.as_ref() != Some(&reason) {
                    tracing::error!(reason, "old rows of the audit record cannot be taken out; they stay");
                }
                self.complaint = Some(reason);
                (self.next_age, self.next_size) = (Instant::now() + PAUSE, Instant::now() + PAUSE);
                self.shrinking = false;
                false
            }
        }
    }

    async fn groups(&mut self, store: &Store) -> Result<bool, AuditError> {
        for _ in 0..GROUPS {
            if !self.group(store).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One group, if one is due; says whether another one is.
    async fn group(&mut self, store: &Store) -> Result<bool, AuditError> {
        let now = Instant::now();
        if let Some(age) = self.keep.max_age
            && now >= self.next_age
        {
            let taken = store.take_oldest(Some(before(age)), GROUP, u64::MAX, self.keeper()).await?;
            if taken.rows >= GROUP as usize {
                return Ok(true);
            }
            self.next_age = now + AGE_EVERY;
        }
        let Some(most) = self.keep.max_bytes else { return Ok(false) };
        if !self.shrinking {
            // A failure is not tried again at once, however much is added.
            let wanted = now >= self.next_size || (self.size > most && self.complaint.is_none());
            if !wanted {
                return Ok(false);
            }
            self.size = store.size(most).await?;
            self.next_size = now + SIZE_EVERY;
            self.shrinking = self.size > most;
        }
        if !self.shrinking {
            return Ok(false);
        }
        // No more than that: rows may be large, and a group of them more than is too much.
        let excess = self.size.saturating_sub(most / 10 * 9);
        let taken = store.take_oldest(None, GROUP, excess, self.keeper()).await?;
        if taken.rows == 0 {
            // Another gateway is at it, or all that is there is under way: not to be measured again at once.
            (self.size, self.shrinking) = (0, false);
            return Ok(false);
        }
        // Where bytes are counted while they leave nothing need be measured; a file shrinks by whole pages.
        self.size = match taken.bytes {
            0 => store.size(most).await?,
            bytes => self.size.saturating_sub(bytes),
        };
        self.shrinking = self.size > most / 10 * 9;
        Ok(self.shrinking)
    }

    fn keeper(&self) -> Keeper {
        match self.keep.when_full {
            WhenFull::Delete => Arc::new(|_| Ok(())),
            WhenFull::Archive => {
                let archive = Arc::clone(&self.archive);
                Arc::new(move |rows| archive.add(rows))
            }
        }
    }
}

/// The time before which a row is too old, as the record has its times.
fn before(age: Duration) -> String {
    let age = jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::MAX);
    let time = jiff::Timestamp::now().checked_sub(age).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.6}")
}

/// Files of lines of JSON beside the journal, one for each day and gateway.
#[derive(Debug)]
struct Archive {
    folder: PathBuf,
    instance: String,
    trust: Trust,
}

impl Archive {
    /// Has the rows on the disk. Should the gateway die before they leave the database, they are added once more at
    /// the next start: `request_id` says which are the same.
    fn add(&self, rows: &[Row]) -> Result<(), AuditError> {
        let folder = self.trust.private_dir(&self.folder, Links::Refused)?;
        let today = jiff::Timestamp::now().strftime("%Y-%m-%d");
        let path = folder.join(format!("{today}-{}.jsonl", self.instance));
        let file = files::open_private(&path)?;
        let length = file.metadata()?.len();
        let mut text = Vec::new();
        if !ends_a_line(&file, length)? {
            // What a crash left of a line stays one line.
            text.push(b'\n');
        }
        for row in rows {
            serde_json::to_writer(&mut text, row).map_err(std::io::Error::from)?;
            text.push(b'\n');
        }
        let written = (&file).write_all(&text).and_then(|()| file.sync_all()).and_then(|()| sync(&folder));
        if let Err(error) = written {
            // Half of it would be there twice after the next attempt.
            let _or_twice = file.set_len(length);
            return Err(AuditError::folder(&path, error));
        }
        Ok(())
    }
}

fn ends_a_line(file: &File, length: u64) -> std::io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// Has the disk know the names in a folder, too.
fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use super::*;

    /// The archive that writes into this file, if today is its day.
    pub(in crate::audit) fn archive(settings: &Settings, file: &Path) -> ArchiveOf {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let (_, instance) = name.split_at("2026-11-26-".len());
        ArchiveOf(Archive {
            folder: settings.dir.join("archive"),
            instance: instance.to_owned(),
            trust: settings.trust.clone(),
        })
    }

    pub(in crate::audit) struct ArchiveOf(Archive);

    impl ArchiveOf {
        pub(in crate::audit) fn add(&self, rows: &[Row]) -> Result<(), AuditError> {
            self.0.add(rows)
        }
    }

    #[test]
    fn a_time_to_compare_with_is_written_like_those_of_the_record() {
        let time = before(Duration::from_secs(86_400));
        assert_eq!(time.len(), "2026-11-26T00:00:00.000000Z".len());
        assert!(before(Duration::MAX) < time);
    }
}
