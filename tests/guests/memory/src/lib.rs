//! Shows that a guard which takes memory without end meets its own limit, not the machine's.

use sentinel_plugin_sdk::{Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict};

/// Bytes per step: small against any sensible limit, large enough to reach it before the fuel is gone.
const STEP: usize = 1 << 20;

/// A guard that takes memory until it is stopped.
#[derive(Debug)]
pub struct Memory;

impl Lifecycle for Memory {
    fn configure(_json: String) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }
}

impl Admission for Memory {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        let mut held: Vec<Vec<u8>> = Vec::new();
        loop {
            // Only reserved: pages that are granted stay, and writing them would spend the fuel first.
            held.push(std::hint::black_box(Vec::with_capacity(STEP)));
        }
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(Memory: admission);
