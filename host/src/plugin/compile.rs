//! From WebAssembly to native code, in a process of its own.

use super::engine;
use crate::config::Bounds;

/// The child's side of compiling: how memory is bounded, and the component; the answer is native code.
///
/// # Errors
/// It is no component, or none that can be compiled, in wasmtime's words.
pub fn compile_here(question: &[u8]) -> Result<Vec<u8>, String> {
    let (bounds, wasm) = question.split_first().ok_or("there is nothing to compile")?;
    let bounds = if *bounds == 0 { Bounds::Guarded } else { Bounds::Checked };
    let engine = wasmtime::Engine::new(&engine::config(bounds)).map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(wasm).map_err(|error| format!("{error:#}"))
}
