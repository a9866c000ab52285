//! One wasmtime engine for all plugins, and the ticker that makes deadlines pass.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often deadlines are looked at; one unit of `deadline_ms`.
const TICK: Duration = Duration::from_millis(1);
/// Most instances of all plugins together. Each may have four core instances (an adapted component has).
const INSTANCES: u32 = 256;
/// No plugin's memory grows past this, whatever its own limit says.
pub(super) const MAX_MEMORY: usize = 256 << 20;

/// The engine. It owns its ticker: nobody can forget to start it, and it ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    _ticker: Arc<Sender<()>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Builds the engine and starts its ticker.
    ///
    /// # Errors
    /// The machine lacks the address space or the processor features, or no thread could be started.
    pub fn new() -> wasmtime::Result<Self> {
        let inner = wasmtime::Engine::new(&config())?;
        let (alive, ended) = channel::<()>();
        let weak = inner.weak();
        std::thread::Builder::new().name("plugin-ticker".to_owned()).spawn(move || {
            while matches!(ended.recv_timeout(TICK), Err(RecvTimeoutError::Timeout)) {
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { inner, _ticker: Arc::new(alive) })
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }
}

fn config() -> Config {
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
        .wasm_relaxed_simd(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
