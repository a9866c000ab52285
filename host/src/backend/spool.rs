//! Takes in one message of a server, however long: in memory up to a window, beyond it with its large strings in a file
//! that has no name and is gone with the message. The reader is never slowed down by the client that waits for the answer,
//! so a slow client of a shared server delays nobody else. What is kept counts to the share of the caller who is to read
//! it; a message for which there is no room is read to its end all the same, because only then its recipient is known.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::call::Share;
use crate::call::shares::{Place, Shares};
use crate::mcp::envelope::{self, Message};
use crate::mcp::extract::Cutter;
use crate::mcp::payload::{Payload, PayloadError, Source, Unkept};

/// Messages up to this size are never cut, in bytes.
pub(super) const WINDOW: usize = 1 << 20;
/// Bytes that go to the file at once.
const CHUNK: usize = 256 << 10;
/// How much of the beginning of a message that is refused is kept, in bytes.
const HEAD: usize = 4 << 10;
/// All messages together may take as much of the disk as this many of the longest.
const LONGEST_AT_ONCE: u64 = 8;

/// The folder and the bounds of all spooled answers; one for all backends.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// The longest message, in bytes.
    limit: AtomicU64,
    /// What all messages take, those that are arriving included.
    used: AtomicU64,
    /// What has arrived, counted by the caller who is to read it.
    shares: Arc<Shares>,
}

/// A message is refused because it is longer than this, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(super) limit: usize,
}

impl Spool {
    /// A spool of messages up to `limit` bytes in files of this folder.
    #[must_use]
    pub fn new(folder: PathBuf, limit: u64) -> Arc<Self> {
        let (used, shares) = (AtomicU64::new(0), Shares::new(most(limit)));
        Arc::new(Self { folder, limit: AtomicU64::new(limit), used, shares })
    }

    /// Whether another one is at the same place.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.folder == other.folder
    }

    /// From now on it keeps as much as another one. What is kept already stays.
    pub(super) fn keep_as(&self, other: &Self) {
        let limit = other.limit();
        self.limit.store(limit, Ordering::Relaxed);
        self.shares.resize(most(limit));
    }

    fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    fn open(self: &Arc<Self>) -> io::Result<Arc<Spooled>> {
        // Answers of servers are private, whatever umask the gateway was started with. It was checked at the start that
        // nobody else can change the way to this folder, and that the folder is private if it exists.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let file = tempfile::tempfile_in(&self.folder)?;
        Ok(Arc::new(Spooled {
            file,
            length: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            place: OnceLock::new(),
            spool: self.clone(),
        }))
    }

    fn reserve(&self, bytes: u64) -> bool {
        let most = self.limit().saturating_mul(LONGEST_AT_ONCE);
        let taken = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = taken.saturating_add(bytes) <= most;
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// What all messages may take together, in bytes.
fn most(limit: u64) -> usize {
    usize::try_from(limit.saturating_mul(LONGEST_AT_ONCE)).unwrap_or(usize::MAX)
}

/// The strings of one message.
#[derive(Debug)]
struct Spooled {
    file: File,
    length: AtomicU64,
    /// There was no room for all of them, so there are none.
    lost: AtomicBool,
    /// The place in the share of the caller who is to read them.
    place: OnceLock<Place>,
    spool: Arc<Spool>,
}

impl Spooled {
    /// Gives everything up, and its room to others.
    fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.release();
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!("the file of an answer that is not kept ends with the answer: {error}");
        }
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    fn release(&self) {
        self.spool.used.fetch_sub(self.length.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.release();
    }
}

impl Source for Spooled {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        if self.is_lost() {
            return Err(io::Error::other("there was no room for it"));
        }
        self.file.read_exact_at(buffer, at)
    }

    fn keep_for(&self, whose: Share) -> Result<(), Unkept> {
        if self.is_lost() {
            return Err(Unkept::NoRoom);
        }
        if self.place.get().is_some() {
            return Ok(());
        }
        let bytes = usize::try_from(self.length.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let place = self.spool.shares.take(whose, bytes);
        let place = place.map_err(|full| if full.own { Unkept::Share } else { Unkept::NoRoom })?;
        // Of two that come at once the first counts, and the other place is given back.
        let _ = self.place.set(place);
        Ok(())
    }
}

/// One message that is arriving.
#[derive(Debug)]
pub(crate) struct Gather {
    spool: Option<Arc<Spool>>,
    /// The most that is held in memory.
    limit: usize,
    buffer: Vec<u8>,
    cutting: Option<Cutting>,
    failed: Option<TooLong>,
}

#[derive(Debug)]
struct Cutting {
    cutter: Cutter,
    file: Arc<Spooled>,
    spool: Arc<Spool>,
}

impl Gather {
    /// A message of which `limit` bytes are held in memory; without a spool that is all it may have.
    #[must_use]
    pub(super) fn new(spool: Option<Arc<Spool>>, limit: usize) -> Self {
        Self { spool, limit, buffer: Vec::new(), cutting: None, failed: None }
    }

    /// Whether it is not taken.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The message, if all of it is in memory, as short ones are.
    pub(super) fn in_memory(self) -> Result<Bytes, Box<Self>> {
        if self.failed.is_none() && self.cutting.is_none() {
            return Ok(self.buffer.into());
        }
        Err(Box::new(self))
    }

    /// The beginning of the message, as far as it is in memory.
    #[must_use]
    pub(super) fn head(&self) -> &[u8] {
        self.cutting.as_ref().map_or(&self.buffer, |cutting| cutting.cutter.head())
    }

    /// The next bytes. What is over the limit is forgotten, and [`Self::finish`] says so.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if let Some(cutting) = &mut self.cutting {
            cutting.cutter.push(bytes);
            self.check();
            return;
        }
        if self.buffer.len() + bytes.len() > WINDOW.min(self.limit)
            && let Some(spool) = &self.spool
        {
            match spool.open() {
                Ok(file) => {
                    let mut cutter = Cutter::default();
                    cutter.push(&std::mem::take(&mut self.buffer));
                    cutter.push(bytes);
                    self.cutting = Some(Cutting { cutter, file, spool: spool.clone() });
                    return self.check();
                }
                Err(error) => {
                    let folder = spool.folder.display();
                    tracing::error!(%folder, "long answers are refused: no file can be made for them: {error}");
                    self.spool = None;
                }
            }
        }
        if self.buffer.len() + bytes.len() > self.limit {
            let room = HEAD.min(self.limit).saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            self.fail(self.limit);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn fail(&mut self, limit: usize) {
        self.failed = Some(TooLong { limit });
        // The id of the request may stand at the beginning of the answer.
        let mut head = self.head().to_vec();
        head.truncate(HEAD);
        self.buffer = head;
        self.cutting = None;
    }

    fn check(&mut self) {
        let Some(Cutting { cutter, spool, .. }) = &self.cutting else { return };
        if cutter.kept() > self.limit {
            self.fail(self.limit);
        } else if cutter.cut() + cutter.kept() as u64 > spool.limit() {
            self.fail(usize::try_from(spool.limit()).unwrap_or(usize::MAX));
        }
    }

    /// Moves what was cut into the file, if it is worth it. To be called between pieces.
    pub(super) async fn settle(&mut self) {
        if self.cutting.as_ref().is_some_and(|cutting| cutting.cutter.waiting() >= CHUNK) {
            self.write().await;
        }
    }

    async fn write(&mut self) {
        let Some(Cutting { cutter, file, spool }) = &mut self.cutting else { return };
        let bytes = cutter.take();
        let length = bytes.len() as u64;
        if file.is_lost() {
            return;
        }
        if !spool.reserve(length) {
            tracing::warn!("a long answer is not kept: too many of them wait for their readers");
            return file.lose();
        }
        let at = file.length.fetch_add(length, Ordering::Relaxed);
        let (file, lost) = (file.clone(), file.clone());
        let written = spawn_blocking(move || file.file.write_all_at(&bytes, at)).await;
        if let Err(error) = written.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())) {
            tracing::error!("a long answer is not kept: it cannot be written down: {error}");
            lost.lose();
        }
    }

    /// The message, once all of it was pushed. Only an answer may be longer than the memory's limit.
    pub(super) async fn finish(mut self) -> Result<Payload, TooLong> {
        self.write().await;
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let Some(Cutting { cutter, file, .. }) = self.cutting else {
            return Ok(Bytes::from(self.buffer).into());
        };
        let payload = cutter.finish(file, self.limit);
        let answer = matches!(envelope::parse(payload.text()), Ok(Message::Response { .. }) | Err(_));
        if answer || payload.is_whole() {
            return Ok(payload);
        }
        let limit = TooLong { limit: payload.limit() };
        whole(payload).await.map(Payload::from).map_err(|error| {
            tracing::warn!("a message that is no answer was dropped: {error}");
            limit
        })
    }
}

/// All of a message in memory, for code that must see all of it.
///
/// # Errors
/// It is too long for that, or cannot be read.
pub async fn whole(payload: Payload) -> Result<Bytes, PayloadError> {
    if payload.is_whole() {
        return Ok(payload.text().clone());
    }
    let read = spawn_blocking(move || payload.whole()).await;
    read.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Interrupted).into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    async fn gathered(message: &str, spool: Option<Arc<Spool>>, limit: usize) -> Result<Payload, TooLong> {
        let mut gather = Gather::new(spool, limit);
        for piece in message.as_bytes().chunks(50_000) {
            gather.push(piece);
            gather.settle().await;
            if gather.spool.is_none() {
                continue;
            }
            let held = gather.buffer.len() + gather.cutting.as_ref().map_or(0, |c| c.cutter.waiting());
            assert!(held <= WINDOW + CHUNK + 50_000, "{held} bytes are held");
        }
        gather.finish().await
    }

    fn answer(length: usize) -> String {
        format!(r#"{{"jsonrpc":"2.0","result":{{"content":[{{"text":"{}"}}]}},"id":4}}"#, "x".repeat(length))
    }

    #[tokio::test]
    async fn a_long_answer_is_short_in_memory_and_its_file_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 8 << 20);
        let message = answer(6 << 20);
        let payload = gathered(&message, Some(spool.clone()), 8 << 20).await.unwrap();
        assert!(payload.text().len() < 200 && payload.length() == message.len() as u64);
        assert!(payload.whole().unwrap() == message.as_bytes());
        assert_eq!(spool.used.load(Ordering::Relaxed), 6 << 20);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
        drop(payload);
        assert_eq!(spool.used.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_over_a_limit_is_refused_with_that_limit() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 3 << 20);
        let refused = |limit| Err(TooLong { limit });
        let done = gathered(&answer(4 << 20), Some(spool.clone()), 2 << 20).await;
        assert_eq!(done.map(drop), refused(3 << 20));
        // Small strings stay in memory, so there its limit holds.
        let many = format!("[{}1]", "\"abc\",".repeat(400_000));
        assert_eq!(gathered(&many, Some(spool.clone()), 2 << 20).await.map(drop), refused(2 << 20));
        assert_eq!(gathered(&answer(3 << 20), None, 2 << 20).await.map(drop), refused(2 << 20));
        assert_eq!(spool.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn of_what_is_refused_the_beginning_stays() {
        let folder = tempfile::tempdir().unwrap();
        for spool in [None, Some(Spool::new(folder.path().to_owned(), 2 << 20))] {
            for first in [0, 3, 3 << 20] {
                let mut gather = Gather::new(spool.clone(), 2 << 20);
                let message = format!(r#"{{"id":7,"result":[{}1]}}"#, "1,".repeat(2 << 20));
                let (head, rest) = message.split_at(first);
                gather.push(head.as_bytes());
                gather.push(rest.as_bytes());
                assert!(gather.has_failed() && gather.head().starts_with(br#"{"id":7,"#));
                assert!(gather.head().len() <= HEAD);
            }
        }
    }

    #[tokio::test]
    async fn together_they_do_not_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 2 << 20);
        let mut held = Vec::new();
        let lost = loop {
            let payload = gathered(&answer(3 << 19), Some(spool.clone()), 2 << 20).await.unwrap();
            if payload.source().unwrap().keep_for(Share::SOLE).is_err() {
                break payload;
            }
            held.push(payload);
            assert!(held.len() < 100);
        };
        assert_eq!(held.len(), 10);
        // It is known whose answer it was, and that it is none.
        assert!(lost.json().ends_with(r#""id":4}"#), "{}", lost.json());
        assert!(lost.whole().unwrap_err().to_string().contains("no room"));
        assert_eq!(lost.source().unwrap().keep_for(Share::SOLE), Err(Unkept::NoRoom));
        held.pop();
        let next = gathered(&answer(3 << 19), Some(spool), 2 << 20).await.unwrap();
        assert!(next.whole().is_ok());
    }

    #[tokio::test]
    async fn nobody_keeps_more_than_a_share_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 2 << 20);
        let kept = async |whose: &str| {
            let payload = gathered(&answer(3 << 19), Some(spool.clone()), 2 << 20).await.unwrap();
            payload.source().unwrap().keep_for(Share::named(whose)).map(|()| payload)
        };
        let mut held = Vec::new();
        let full = loop {
            match kept("eve").await {
                Ok(payload) => held.push(payload),
                Err(full) => break full,
            }
            assert!(held.len() < 100);
        };
        assert_eq!((full, held.len()), (Unkept::Share, 5), "half of it");
        assert!(kept("bob").await.is_ok());
        held.pop();
        assert!(kept("eve").await.is_ok());
    }

    #[tokio::test]
    async fn only_answers_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 8 << 20);
        let note = |length: usize| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/message","params":"{}"}}"#,
                "x".repeat(length)
            )
            .replace("\"params\":", "\"params\":{\"data\":")
            .replace("\"}", "\"}}")
        };
        let payload = gathered(&note(2 << 20), Some(spool.clone()), 3 << 20).await.unwrap();
        assert!(payload.is_whole() && payload.text() == note(2 << 20).as_bytes());
        assert_eq!(
            gathered(&note(4 << 20), Some(spool), 3 << 20).await.map(drop),
            Err(TooLong { limit: 3 << 20 })
        );
    }

    #[tokio::test]
    async fn without_a_folder_memory_is_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let spool = Spool::new(file.join("below"), 64 << 20);
        assert!(gathered(&answer(2 << 20), Some(spool.clone()), 4 << 20).await.unwrap().is_whole());
        assert_eq!(
            gathered(&answer(5 << 20), Some(spool), 4 << 20).await.map(drop),
            Err(TooLong { limit: 4 << 20 })
        );
    }
}
