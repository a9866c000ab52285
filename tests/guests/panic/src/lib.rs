//! Shows that the text and the line of a plugin's panic reach the operator, in `check` and in `settle`.
//!
//! Configuration: `{"in": "check"}` (the default) or `{"in": "settle"}`, which lets the call pass first.

use std::sync::OnceLock;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict, read_config,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default, rename = "in")]
    place: Place,
}

#[derive(Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    #[default]
    Check,
    Settle,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

/// A guard that panics.
#[derive(Debug)]
pub struct Panic;

impl Lifecycle for Panic {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config = read_config(&json)?;
        CONFIG.set(config).map_err(|_| vec![ConfigError::new("", "configured twice")])
    }
}

impl Admission for Panic {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        if CONFIG.get().is_some_and(|config| config.place == Place::Settle) {
            return Ok(Verdict::Allow(Some(1)));
        }
        panic!("guest says boom")
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {
        panic!("guest says boom")
    }
}

sentinel_plugin_sdk::export!(Panic: admission);
