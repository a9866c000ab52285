//! How a change of the state wakes the thread that writes it down, without delaying the call that made it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Between the calls and the writer. Without a writer it is a flag that is set once.
#[derive(Debug, Default)]
pub(super) struct Signal {
    changed: AtomicBool,
    stopping: AtomicBool,
    writer: OnceLock<Thread>,
}

impl Signal {
    /// Says that something has changed; to be called after the change, when its lock has been released. Until the writer
    /// has looked this is no more than reading a flag.
    ///
    /// That flag may be read as set only if the writer looks after it was read: the writer takes it back before it takes
    /// the lock of a shard, so the next holder of that lock sees that it was taken back.
    pub(super) fn changed(&self) {
        if !self.changed.load(Ordering::Relaxed) && !self.changed.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Tells the writer to write the rest and end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// The writer is this thread.
    pub(super) fn writer_is_here(&self) {
        // There is one writer.
        let _ = self.writer.set(std::thread::current());
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Before the writer looks at the state.
    pub(super) fn take(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// Waits until something changes or the writer is to stop; false if neither has happened by then.
    pub(super) fn wait(&self, at_most: Option<Duration>) -> bool {
        self.park(at_most, || self.changed.load(Ordering::Acquire) || self.is_stopping())
    }

    /// Waits so long, unless the writer is to stop.
    pub(super) fn pause(&self, time: Duration) {
        self.park(Some(time), || self.is_stopping());
    }

    fn park(&self, at_most: Option<Duration>, done: impl Fn() -> bool) -> bool {
        let deadline = at_most.map(|time| Instant::now() + time);
        while !done() {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => std::thread::park_timeout(left),
                None => std::thread::park(),
            }
        }
        true
    }
}
