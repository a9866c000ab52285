//! Reads the records of a journal folder in order, up to the last whole one.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::AuditError;
use super::journal::segment_path;
use super::record::{Record, unseal};

/// How many bytes are read at once, and about how many a batch holds at most.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Records that go into the store together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    /// The last sequence number in the batch.
    pub(super) last: u64,
    /// The bytes its lines have in the journal.
    pub(super) bytes: u64,
}

/// The bytes behind the last whole record of a dead instance's journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) bytes: u64,
    /// A single record cut off by the death is normal; more than that is damage, and evidence.
    pub(super) damaged: bool,
}

/// A position in a journal folder.
#[derive(Debug)]
pub(super) struct Reader {
    folder: PathBuf,
    /// The first sequence number of the segment being read.
    segment: u64,
    offset: u64,
    /// The sequence number that has to come next.
    next: u64,
    file: Option<File>,
}

impl Reader {
    /// Begins at the segment whose first record is `first`.
    pub(super) fn new(folder: &Path, first: u64) -> Self {
        Self { folder: folder.to_owned(), segment: first, offset: 0, next: first, file: None }
    }

    /// The oldest segment in a folder; `None` if there is none.
    pub(super) fn oldest(folder: &Path) -> Result<Option<u64>, AuditError> {
        Ok(segments(folder)?.first().copied())
    }

    /// The first sequence number of the segment being read: all earlier segments are done with.
    pub(super) const fn segment(&self) -> u64 {
        self.segment
    }

    /// The last sequence number read.
    pub(super) const fn position(&self) -> u64 {
        self.next - 1
    }

    /// The next records, at most `limit`: none if everything before `frontier` (the segment being written and how
    /// much of it is written; `None` for a dead journal) has been read, or a record is torn.
    pub(super) fn batch(&mut self, limit: usize, frontier: Option<(u64, u64)>) -> Result<Batch, AuditError> {
        let mut batch = Batch::default();
        match self.fill(&mut batch, limit, frontier) {
            // Records that were read before an error count; the error comes back with the next batch.
            Err(error) if batch.records.is_empty() => Err(error),
            _ => Ok(batch),
        }
    }

    fn fill(
        &mut self,
        batch: &mut Batch,
        limit: usize,
        frontier: Option<(u64, u64)>,
    ) -> Result<(), AuditError> {
        while batch.records.len() < limit && batch.bytes < CHUNK_BYTES as u64 {
            let end = match frontier {
                Some((segment, length)) if segment == self.segment => length,
                _ => self.file_length()?,
            };
            if self.offset < end {
                if !self.lines(end, limit, batch)? {
                    break;
                }
            } else if self.next > self.segment && segment_path(&self.folder, self.next).exists() {
                (self.segment, self.offset, self.file) = (self.next, 0, None);
            } else {
                break;
            }
        }
        Ok(())
    }

    /// What could not be read after the last batch of a dead journal came back empty.
    pub(super) fn rest(&mut self) -> Result<Rest, AuditError> {
        let mut rest = Rest::default();
        for segment in segments(&self.folder)? {
            if segment > self.segment {
                rest.bytes +=
                    std::fs::metadata(segment_path(&self.folder, segment)).map_or(0, |meta| meta.len());
                rest.damaged = true;
            }
        }
        let length = self.file_length()?;
        let tail = length.saturating_sub(self.offset);
        if tail > 0 {
            let mut chunk = vec![0; usize::try_from(tail).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
            let offset = self.offset;
            let read = self.file()?.read_at(&mut chunk, offset)?;
            chunk.truncate(read);
            // A line break before the end means that a record follows the bad one.
            rest.damaged |= chunk.iter().take(read.saturating_sub(1)).any(|&byte| byte == b'\n');
        }
        rest.bytes += tail;
        Ok(rest)
    }

    /// Reads whole lines up to `end`; says whether it makes sense to go on.
    fn lines(&mut self, end: u64, limit: usize, batch: &mut Batch) -> Result<bool, AuditError> {
        let mut want = CHUNK_BYTES;
        let chunk = loop {
            let available = usize::try_from(end - self.offset).unwrap_or(usize::MAX);
            let mut chunk = vec![0; available.min(want)];
            let offset = self.offset;
            self.file()?.read_exact_at(&mut chunk, offset)?;
            // One record may be longer than a chunk.
            if chunk.contains(&b'\n') || available <= want {
                break chunk;
            }
            want = want.saturating_mul(2);
        };
        for line in chunk.split_inclusive(|&byte| byte == b'\n') {
            if batch.records.len() >= limit {
                return Ok(false);
            }
            let Some((sequence, bytes)) = line.strip_suffix(b"\n").and_then(unseal) else {
                // Half a line at the end of a chunk is read again with what follows; at the end it is torn.
                return Ok(line.last() != Some(&b'\n') && self.offset + (line.len() as u64) < end);
            };
            if sequence != self.next {
                return Ok(false);
            }
            // A record whose checksum is right and whose form is not was written by another version.
            let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return Ok(false) };
            batch.records.push(record);
            batch.last = sequence;
            batch.bytes += line.len() as u64;
            self.next += 1;
            self.offset += line.len() as u64;
        }
        Ok(true)
    }

    fn file(&mut self) -> Result<&File, AuditError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(segment_path(&self.folder, self.segment))?,
        };
        Ok(self.file.insert(file))
    }

    fn file_length(&mut self) -> Result<u64, AuditError> {
        Ok(self.file()?.metadata()?.len())
    }
}

/// The first sequence numbers of all segments in a folder, in order.
pub(super) fn segments(folder: &Path) -> Result<Vec<u64>, AuditError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(".log"));
        found.extend(first.and_then(|first| first.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Deletes the segments before `segment`; one that is gone already is fine.
pub(super) fn delete_before(folder: &Path, segment: u64) -> Result<(), AuditError> {
    for first in segments(folder)?.into_iter().filter(|&first| first < segment) {
        match std::fs::remove_file(segment_path(folder, first)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(AuditError::Read(error)),
            _ => {}
        }
    }
    Ok(())
}
