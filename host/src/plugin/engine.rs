//! One wasmtime engine for all plugins, and the ticker that makes deadlines pass.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::config::Bounds;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often deadlines are looked at; one unit of `deadline_ms`.
const TICK: Duration = Duration::from_millis(1);
/// After so many ticks in which no guest ran, the ticker rests: a gateway that is not used wakes nobody.
const RESTLESS: u32 = 200;
/// Counters of running guests, so that threads do not share one.
const SHARDS: usize = 16;
/// Most instances of all plugins together. Each may have four core instances (an adapted component has).
const INSTANCES: u32 = 256;
/// No plugin's memory grows past this, whatever its own limit says.
pub(super) const MAX_MEMORY: usize = 256 << 20;

/// The engine. It owns its ticker: nobody can forget to start it, and it ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    ticker: Ticker,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// An engine as the gateway has it by default.
    ///
    /// # Errors
    /// As for [`Self::bounded`].
    pub fn new() -> wasmtime::Result<Self> {
        Self::bounded(Bounds::default())
    }

    /// Builds the engine and starts its ticker.
    ///
    /// # Errors
    /// The machine lacks the address space or the processor features, or no thread could be started.
    pub fn bounded(bounds: Bounds) -> wasmtime::Result<Self> {
        let inner = wasmtime::Engine::new(&config(bounds))?;
        let (wake, woken) = channel::<()>();
        let activity = Arc::new(Activity::default());
        let (weak, seen) = (inner.weak(), activity.clone());
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
                    // Said first and looked at again: whoever begins in between sees it, or is seen.
                    seen.resting.store(true, Ordering::SeqCst);
                    if seen.anybody() {
                        seen.resting.store(false, Ordering::SeqCst);
                    }
                }
            }
        })?;
        Ok(Self { inner, ticker: Ticker { activity, wake } })
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }
}

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

fn config(bounds: Bounds) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(4 * INSTANCES)
        .total_memories(INSTANCES)
        .total_tables(4 * INSTANCES)
        .max_core_instances_per_component(16)
        .max_memories_per_component(4)
        .max_memory_size(MAX_MEMORY)
        .table_elements(20_000)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(8 << 10)
        .max_unused_warm_slots(INSTANCES / 4);
    let mut config = Config::new();
    config
        // Our contract is synchronous; with it on, a call costs three to five times more.
        .concurrency_support(false)
        .epoch_interruption(true)
        .consume_fuel(true)
        .max_wasm_stack(256 << 10)
        .wasm_backtrace_max_frames(NonZeroUsize::new(8))
        .wasm_memory64(false)
        .wasm_relaxed_simd(false);
    match bounds {
        Bounds::Guarded => config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)),
        // Instances are kept warm, so it matters little that each is made by calls of the system.
        Bounds::Checked => config
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .memory_reservation(0)
            .memory_guard_size(64 << 10),
    };
    config
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Instant;

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
        let resting = || engine.ticker.activity.resting.load(Ordering::SeqCst);
        for thread in [0, 3, SHARDS + 3] {
            until("rested", resting);
            let running = engine.ticker.run(thread);
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
