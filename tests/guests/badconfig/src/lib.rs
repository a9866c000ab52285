//! Shows that every mistake in a plugin's configuration is reported at once, each with its path and a hint.
//!
//! Configuration: any object; the key `bad` makes it wrong in two places.

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict, read_config,
};

/// A guard that finds two mistakes in its configuration.
#[derive(Debug)]
pub struct BadConfig;

impl Lifecycle for BadConfig {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config: serde_json::Map<String, serde_json::Value> = read_config(&json)?;
        if !config.contains_key("bad") {
            return Ok(());
        }
        Err(vec![
            ConfigError::new("/bad", "unknown key").hint("remove it"),
            ConfigError::new("/bad/deeper", "neither is this one known").hint("write good instead"),
        ])
    }
}

impl Admission for BadConfig {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        Ok(Verdict::ALLOW)
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(BadConfig: admission);
