//! One wasmtime engine for all plugins.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::ticker::Ticker;
use crate::config::{Bounds, CompileLimits};

/// Most instances of all plugins together. Each may have four core instances (an adapted component has).
const INSTANCES: u32 = 256;
/// No plugin's memory grows past this, whatever its own limit says.
pub(super) const MAX_MEMORY: usize = 256 << 20;

/// The engine. It owns its ticker, which therefore cannot be forgotten, and ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    ticker: Ticker,
    bounds: Bounds,
    compiling: CompileLimits,
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
        let ticker = Ticker::start(&inner)?;
        Ok(Self { inner, ticker, bounds, compiling: CompileLimits::default() })
    }

    /// The same, with other limits for compiling what is loaded with it.
    #[must_use]
    pub fn compiling(self, compiling: CompileLimits) -> Self {
        Self { compiling, ..self }
    }

    /// How memory is bounded in the code that is compiled for it, and what compiling may cost.
    pub(super) fn compilation(&self) -> (Bounds, CompileLimits) {
        (self.bounds, self.compiling)
    }

    /// A digest of wasmtime's version and settings: compiled code is usable only with the same fingerprint.
    pub(super) fn fingerprint(&self) -> u64 {
        fingerprint(&self.inner)
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }
}

fn fingerprint(engine: &wasmtime::Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// An engine that only compiles: the same code comes out, and nothing is reserved for instances.
pub(super) fn compiler(bounds: Bounds) -> wasmtime::Result<wasmtime::Engine> {
    let mut config = config(bounds);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    wasmtime::Engine::new(&config)
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
    use super::*;

    #[test]
    fn what_the_compiler_makes_fits_the_engine_that_runs_it() {
        let engines = [Bounds::Guarded, Bounds::Checked].map(|bounds| {
            let running = Engine::bounded(bounds).unwrap();
            assert_eq!(running.fingerprint(), fingerprint(&compiler(bounds).unwrap()), "{bounds:?}");
            running.fingerprint()
        });
        assert_ne!(engines[0], engines[1]);
    }
}
