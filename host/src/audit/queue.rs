//! Records on their way into the journal, by group commit: a record that arrives during a write is queued, and the caller
//! that writes now writes it next. So no call waits for a lock during a write, and many records share one `write`.

use std::pin::pin;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::AuditError;
use super::record::KEPT_BUFFER_BYTES;

/// How many groups one caller writes for others before one of the others has to.
const ROUNDS: usize = 8;

/// The result of records that were written together: the sequence number of the last of them.
type Outcome = Result<u64, Arc<AuditError>>;

/// Records as they stand in the journal, apart from their numbers.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Records {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    /// Each record, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.shrink_to(KEPT_BUFFER_BYTES);
    }
}

/// Callers whose records are written together by another one.
#[derive(Debug, Default)]
pub(super) struct Group {
    outcome: OnceLock<Outcome>,
    changed: Notify,
}

/// What a caller has to do for its record.
#[derive(Debug)]
pub(super) enum Turn {
    /// Write what waits.
    Lead,
    /// Wait for the caller that is writing.
    Follow(Arc<Group>),
}

#[derive(Debug, Default)]
struct Waiting {
    records: Records,
    /// The callers that wait for these records, if there are any but the one that will write them.
    group: Option<Arc<Group>>,
    writing: bool,
    /// The buffer that is not in use.
    spare: Records,
}

/// The records that nobody has begun to write.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Waiting>);

impl Queue {
    /// Takes a record in. The caller must see to it with [`Queue::settle`].
    pub(super) fn push(&self, record: &[u8]) -> Turn {
        let mut waiting = self.0.lock();
        waiting.records.push(record);
        if waiting.writing {
            return Turn::Follow(waiting.group.get_or_insert_default().clone());
        }
        waiting.writing = true;
        Turn::Lead
    }

    /// Has the record written: by this caller with `write`, which writes all it is given or nothing and returns the
    /// number of the last, or by another one. Returns a number that is not below the record's own.
    ///
    /// # Errors
    /// What `write` returned for the record.
    pub(super) async fn settle(
        &self,
        turn: Turn,
        write: impl Fn(&Records) -> Result<u64, AuditError>,
    ) -> Result<u64, AuditError> {
        let outcome = match turn {
            Turn::Lead => self.lead(write),
            Turn::Follow(group) => self.follow(&group, write).await,
        };
        outcome.map_err(|error| Arc::try_unwrap(error).unwrap_or_else(AuditError::Together))
    }

    async fn follow(
        &self,
        group: &Arc<Group>,
        write: impl Fn(&Records) -> Result<u64, AuditError>,
    ) -> Outcome {
        loop {
            let mut changed = pin!(group.changed.notified());
            // From here on nothing that happens is missed.
            changed.as_mut().enable();
            if let Some(outcome) = group.outcome.get() {
                return outcome.clone();
            }
            if self.takes_over(group) {
                return self.lead(write);
            }
            changed.await;
        }
    }

    /// Whether a group's records wait with nobody to write them; then the caller of this function has to.
    fn takes_over(&self, group: &Arc<Group>) -> bool {
        let mut waiting = self.0.lock();
        let free = !waiting.writing && waiting.group.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, group));
        waiting.writing |= free;
        free
    }

    /// Writes the waiting records, and those that come meanwhile. Returns the result of the first group, which is the
    /// caller's.
    fn lead(&self, write: impl Fn(&Records) -> Result<u64, AuditError>) -> Outcome {
        let mut own = None;
        for round in 1..=ROUNDS {
            let (mut records, group) = {
                let mut waiting = self.0.lock();
                let spare = std::mem::take(&mut waiting.spare);
                (std::mem::replace(&mut waiting.records, spare), waiting.group.take())
            };
            let outcome = write(&records).map_err(Arc::new);
            if let Some(group) = group {
                // Only the writer of a group says so, once.
                let _first = group.outcome.set(outcome.clone());
                group.changed.notify_waiters();
            }
            own.get_or_insert(outcome);
            records.clear();
            let mut waiting = self.0.lock();
            waiting.spare = records;
            if waiting.records.ends.is_empty() {
                waiting.writing = false;
                break;
            }
            if round == ROUNDS {
                waiting.writing = false;
                if let Some(group) = &waiting.group {
                    group.changed.notify_waiters();
                }
            }
        }
        own.unwrap_or_else(|| Err(Arc::new(AuditError::Closed)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// What was written: each record with its number.
    #[derive(Default)]
    struct Written(Mutex<Vec<Vec<u8>>>, AtomicBool);

    impl Written {
        fn write(&self, records: &Records) -> Result<u64, AuditError> {
            assert!(!self.1.swap(true, Ordering::SeqCst), "two write at once");
            let mut all = self.0.lock();
            std::thread::yield_now();
            all.extend(records.iter().map(<[u8]>::to_vec));
            self.1.store(false, Ordering::SeqCst);
            Ok(all.len() as u64)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_record_is_written_once_and_its_number_is_never_too_small() {
        let (queue, written) = (Arc::new(Queue::default()), Arc::new(Written::default()));
        let callers = (0..8u32).map(|caller| {
            let (queue, written) = (queue.clone(), written.clone());
            tokio::spawn(async move {
                for call in 0..500u32 {
                    let record = format!("{caller}/{call}").into_bytes();
                    let turn = queue.push(&record);
                    let number = queue.settle(turn, |records| written.write(records)).await.unwrap();
                    let upto = usize::try_from(number).unwrap();
                    assert!(written.0.lock()[..upto].contains(&record), "{caller}/{call} before {number}");
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        let mut all = std::mem::take(&mut *written.0.lock());
        assert_eq!(all.len(), 4_000);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4_000);
    }

    #[tokio::test]
    async fn whoever_follows_hears_of_the_failure_and_takes_over_from_one_who_left() {
        let queue = Queue::default();
        let full = |_: &Records| Err(AuditError::Write(std::io::ErrorKind::StorageFull.into()));
        let (first, second) = (queue.push(b"1"), queue.push(b"2"));
        assert!(matches!((&first, &second), (Turn::Lead, Turn::Follow(_))));
        let failed = tokio::join!(queue.settle(second, full), queue.settle(first, full));
        let together = |result: &Result<u64, AuditError>| matches!(result, Err(AuditError::Together(_)));
        assert!(together(&failed.0) && together(&failed.1), "{failed:?}");
        // The one who leads writes for others, but not for ever: each of these comes while another is written.
        let (leader, written) = (queue.push(b"first"), Written::default());
        let mut late = Mutex::new(Vec::new());
        let busy = |records: &Records| {
            late.lock().push(queue.push(b"late"));
            written.write(records)
        };
        queue.settle(leader, busy).await.unwrap();
        assert_eq!(written.0.lock().len(), ROUNDS);
        let last = late.get_mut().pop().unwrap();
        queue.settle(last, |records| written.write(records)).await.unwrap();
        assert_eq!(written.0.lock().len(), ROUNDS + 1);
        assert!(matches!(queue.push(b"next"), Turn::Lead));
    }
}
