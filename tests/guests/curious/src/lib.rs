//! Shows that a plugin sees no secret that the operator did not grant: it refuses every call and says what it got.

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict, secrets,
};

/// A guard that asks for a secret it was not granted.
#[derive(Debug)]
pub struct Curious;

impl Lifecycle for Curious {
    fn configure(_json: String) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }
}

impl Admission for Curious {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        Err(Refusal::new("curious", secrets::get("JWT_SECRET_KEY").unwrap_or_else(|| "none".to_owned())))
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(Curious: admission);
