//! A guard to start from: it lets calls pass in office hours and refuses them at any other time.
//!
//! This file only joins [`decide`] to the gateway; the rule stands there and is tested natively.

pub mod decide;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Configured, Lifecycle, Outcome, Permit, Refusal, TargetKind, Verdict, clock,
};

use decide::{Config, Hours};

// This lives as long as the instance. Data that must live longer belongs in the gateway's `counters` and `cells`.
static HOURS: Configured<Hours> = Configured::of(env!("CARGO_PKG_NAME"));

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct OfficeHours;

impl Lifecycle for OfficeHours {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        HOURS.read(&json, Config::check)
    }
}

impl Admission for OfficeHours {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        // An operator's commands are calls, too, and an operator must be able to put a wrong rule right.
        if call.kind() == TargetKind::Control {
            return Ok(Verdict::ALLOW);
        }
        match HOURS.get()?.closed_for(clock::unix_ms()) {
            None => Ok(Verdict::ALLOW),
            Some(wait) => Err(Refusal {
                retry_after_ms: Some(wait),
                ..Refusal::new("office_closed", "The office is closed.")
            }),
        }
    }

    // No permit is ever given, so there is nothing to settle.
    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(OfficeHours: admission);
