//! Proves that a plugin needs nothing of this repository but the WIT: it refuses every tool whose name
//! starts with `forbidden_`.
//!
//! The bindings are made here, not taken from the `bindings.rs` that `cargo component` writes, so that
//! plain `cargo build --target wasm32-wasip2` builds the same source.

#[allow(clippy::all, reason = "generated")]
mod generated {
    wit_bindgen::generate!({
        path: "../../../wit/0.1",
        world: "sentinel:plugin/guard",
    });
}

use generated::exports::sentinel::plugin::admission::{Guest as Admission, Permit, Verdict};
use generated::exports::sentinel::plugin::lifecycle::Guest as Lifecycle;
use generated::sentinel::plugin::types::{ConfigError, Outcome, Refusal, TargetKind};
use generated::sentinel::plugin::view::Call;

struct Forbidden;

impl Lifecycle for Forbidden {
    fn configure(_json: String) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }
}

impl Admission for Forbidden {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        let name = call.name();
        if call.kind() == TargetKind::Tool && name.starts_with("forbidden_") {
            return Err(Refusal {
                reason: "forbidden".to_owned(),
                message: format!("The tool {name} is forbidden."),
                retry_after_ms: None,
                details: Vec::new(),
            });
        }
        Ok(Verdict::Allow(None))
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

generated::export!(Forbidden with_types_in generated);
