//! What makes the deadlines of plugins pass, and rests when there are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often deadlines are looked at; one unit of `deadline_ms`.
const TICK: Duration = Duration::from_millis(1);
/// After so many ticks in which no guest ran, the ticker rests: a gateway that is not used wakes nobody.
const RESTLESS: u32 = 200;
/// Counters of running guests, so that threads do not share one.
const SHARDS: usize = 16;

/// What makes deadlines pass while guests run.
#[derive(Clone, Debug)]
pub(super) struct Ticker {
    activity: Arc<Activity>,
    wake: Sender<()>,
}

#[derive(Debug, Default)]
struct Activity {
    running: [Shard; SHARDS],
    resting: AtomicBool,
}

/// On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(AtomicUsize);

impl Activity {
    fn anybody(&self) -> bool {
        self.running.iter().any(|shard| shard.0.load(Ordering::SeqCst) > 0)
    }
}

/// A guest may run as long as this lives; it ticks.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a AtomicUsize);

impl Ticker {
    /// Begins to tick; ends with the engine.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(engine: &wasmtime::Engine) -> std::io::Result<Self> {
        let (wake, woken) = channel::<()>();
        let activity = Arc::new(Activity::default());
        let (weak, seen) = (engine.weak(), activity.clone());
        std::thread::Builder::new().name("plugin-ticker".to_owned()).spawn(move || {
            let mut quiet = 0;
            loop {
                let ended = if seen.resting.load(Ordering::SeqCst) {
                    quiet = 0;
                    woken.recv().is_err()
                } else {
                    matches!(woken.recv_timeout(TICK), Err(RecvTimeoutError::Disconnected))
                };
                let Some(engine) = weak.upgrade().filter(|_| !ended) else { return };
                engine.increment_epoch();
                quiet = if seen.anybody() { 0 } else { quiet + 1 };
                if quiet >= RESTLESS {
                    // The flag is set before the count is read again, so a guest that begins meanwhile sees it or is seen.
                    seen.resting.store(true, Ordering::SeqCst);
                    if seen.anybody() {
                        seen.resting.store(false, Ordering::SeqCst);
                    }
                }
            }
        })?;
        Ok(Self { activity, wake })
    }

    /// To be asked for before a guest runs. `thread`: any number, best one of the thread's own.
    pub(super) fn run(&self, thread: usize) -> Running<'_> {
        let shard = &self.activity.running[thread % SHARDS].0;
        shard.fetch_add(1, Ordering::SeqCst);
        if self.activity.resting.load(Ordering::SeqCst) && self.activity.resting.swap(false, Ordering::SeqCst)
        {
            // It listens as long as there is an engine.
            let _ = self.wake.send(());
        }
        Running(shard)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Instant;

    use super::super::Engine;
    use super::*;

    /// `(module (func (export "f") (loop (br 0))))`
    const ENDLESS: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\
        \x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";

    fn until(what: &str, done: impl Fn() -> bool) {
        let since = Instant::now();
        while !done() {
            assert!(since.elapsed() < Duration::from_secs(20), "it never {what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_ticker_rests_when_nobody_runs_and_ticks_when_somebody_does() {
        let engine = Engine::new().unwrap();
        let ticker = engine.ticker();
        let resting = || ticker.activity.resting.load(Ordering::SeqCst);
        for thread in [0, 3, SHARDS + 3] {
            until("rested", resting);
            let running = ticker.run(thread);
            assert!(!resting(), "it was woken");
            let mut store = wasmtime::Store::new(engine.wasmtime(), ());
            store.set_epoch_deadline(2);
            let module = wasmtime::Module::new(engine.wasmtime(), ENDLESS).unwrap();
            store.set_fuel(u64::MAX).unwrap();
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let f = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
            let trap = f.call(&mut store, ()).unwrap_err();
            assert_eq!(trap.downcast_ref(), Some(&wasmtime::Trap::Interrupt));
            drop(running);
        }
    }
}
