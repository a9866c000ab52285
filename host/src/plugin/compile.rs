//! From WebAssembly to native code, in a process of its own: running a plugin is bounded in every way, and so is this.

use parking_lot::Mutex;

use super::bounds::{self, Beyond};
use super::engine;
use crate::config::{Bounds, CompileLimits};
use crate::confined::{ConfinedError, Limits, Worker};

/// The most native code that is taken for one component.
const MAX_NATIVE: usize = 256 << 20;
/// Longest reason that is passed on; it may hold names of the component's choice.
const MAX_REASON: usize = 1024;

/// Compiling uses all processors; of two at once each would only take longer, and hit its limit of time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Has a component compiled by a child. If it needs too much of something, the error names the key that allows more.
///
/// # Errors
/// Why there is no native code, in words.
pub(super) fn compile(wasm: &[u8], bounds: Bounds, limits: CompileLimits) -> Result<Vec<u8>, String> {
    let _turn = ONE_AT_A_TIME.lock();
    let CompileLimits { time, memory_bytes } = limits;
    // The limit is on the clock; the processor time is that of all processors together.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let processor = time.saturating_mul(u32::try_from(processors).unwrap_or(u32::MAX));
    let worker = Limits { memory_bytes, answer_bytes: MAX_NATIVE, processor: Some(processor) };
    let mut question = Vec::with_capacity(wasm.len() + 1);
    question.push(match bounds {
        Bounds::Guarded => 0,
        Bounds::Checked => 1,
    });
    question.extend_from_slice(wasm);
    let native = Worker::spawn("compile", &worker).and_then(|mut worker| worker.ask(&question, time));
    native.map_err(|error| match error {
        ConfinedError::Time(_) => format!(
            "compiling it takes longer than {} s; gateway.plugin_compile_secs (or --compile-secs) sets how long it may",
            time.as_secs_f64()
        ),
        ConfinedError::Memory(bytes) => format!(
            "compiling it takes more than {} MiB of memory, the limit that gateway.plugin_compile_memory_bytes sets",
            bytes >> 20
        ),
        ConfinedError::Answer(_) => format!("it compiles to more than {} MiB of native code", MAX_NATIVE >> 20),
        ConfinedError::Refused(reason) => clip(&reason),
        error @ (ConfinedError::NoProgram(_) | ConfinedError::Start { .. } | ConfinedError::Crash(_)) => {
            format!("it cannot be compiled: {}", clip(&error.to_string()))
        }
    })
}

/// The reason without control characters.
fn clip(reason: &str) -> String {
    reason.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The child's side: how memory is bounded, then the component; the answer is native code.
///
/// # Errors
/// It is too large to try, no component, or none that can be compiled.
pub fn compile_here(question: &[u8]) -> Result<Vec<u8>, String> {
    let (bounds, wasm) = question.split_first().ok_or("there is nothing to compile")?;
    let bounds = if *bounds == 0 { Bounds::Guarded } else { Bounds::Checked };
    bounds::check(wasm).map_err(|beyond| match beyond {
        Beyond::Malformed(reason) => format!("it is damaged or cut off ({} bytes): {reason}", wasm.len()),
        beyond => beyond.to_string(),
    })?;
    let engine = engine::compiler(bounds).map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(wasm).map_err(|error| format!("{error:#}"))
}
