//! The way in for `tests/fuzz`: a guest that is made by hand is compiled where it is, without a process of its own.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::artifact::hex;
use super::engine::Engine;
use super::precompiled::Cache;
use crate::config::Bounds;

/// Compiles an artifact and keeps the native code beside it, where loading it finds it.
///
/// # Errors
/// It cannot be read or compiled, or its native code cannot be kept.
pub fn compile(engine: &Engine, bounds: Bounds, path: &Path) -> Result<(), String> {
    let wasm = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut question = vec![u8::from(bounds == Bounds::Checked)];
    question.extend_from_slice(&wasm);
    let native = super::compile_here(&question)?;
    let cache = Cache::beside(path).map_err(|error| error.to_string())?;
    let digest = hex(&Sha256::digest(&wasm));
    cache.keep(&digest, engine, &native);
    cache.find(&digest, engine).map(drop).ok_or_else(|| "the native code is not where it was put".to_owned())
}
