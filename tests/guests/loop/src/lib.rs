//! Shows that a guard which never comes back costs its caller one refusal, and nobody else anything.

use sentinel_plugin_sdk::{Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict};

/// A guard that never comes back.
#[derive(Debug)]
pub struct Loop;

impl Lifecycle for Loop {
    fn configure(_json: String) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }
}

impl Admission for Loop {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        let mut turns = 0_u64;
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(Loop: admission);
