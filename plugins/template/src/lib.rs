//! A guard to start from: it lets calls pass in office hours and refuses them at any other time.
//!
//! This file only joins [`decide`] to the gateway; the rule stands there and is tested natively.

pub mod decide;

use std::cell::Cell;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, clock, read_config,
};

use decide::{Config, Hours};

thread_local! {
    // A guest has one thread; this lives as long as the instance. What must live longer belongs into the
    // gateway's `counters` and `cells`.
    static HOURS: Cell<Option<Hours>> = const { Cell::new(None) };
}

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct OfficeHours;

impl Lifecycle for OfficeHours {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        HOURS.set(Some(read_config::<Config>(&json)?.check()?));
        Ok(())
    }
}

impl Admission for OfficeHours {
    fn check(_call: &Call) -> Result<Option<Permit>, Refusal> {
        let Some(hours) = HOURS.get() else {
            return Err(Refusal::new("not_configured", "The plugin has not been configured."));
        };
        match hours.closed_for(clock::unix_ms()) {
            None => Ok(None),
            Some(wait) => Err(Refusal {
                retry_after_ms: Some(wait),
                ..Refusal::new("office_closed", "The office is closed.")
            }),
        }
    }

    // No permit is ever given, so there is nothing to settle.
    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

// Natively the exported names (`sentinel:plugin/...`) are more than a linker accepts.
#[cfg(target_arch = "wasm32")]
sentinel_plugin_sdk::export!(OfficeHours: admission);
