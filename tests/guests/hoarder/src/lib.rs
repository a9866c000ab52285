//! Shows that a guard which fills the state store meets its own quota, not its neighbours'.
//!
//! Configuration, all optional: `{"in": "counters" | "cells", "per_call": N, "bytes": N}`. It writes
//! under ever new keys, at most `per_call` in one call (so that the quota is reached before the fuel
//! ends), and goes on where it stopped. `bytes` is the size of a cell's value.

use std::sync::OnceLock;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Field, Lifecycle, Outcome, Permit, Refusal, Verdict, cells, counters,
    read_config,
};

/// Milliseconds that keys live: longer than any test.
const TTL_MS: u32 = 3_600_000;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    #[serde(rename = "in")]
    store: Store,
    per_call: u32,
    bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { store: Store::Counters, per_call: u32::MAX, bytes: 64 }
    }
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Store {
    Counters,
    Cells,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

/// A guard that fills its quota of state.
#[derive(Debug)]
pub struct Hoarder;

impl Lifecycle for Hoarder {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config = read_config(&json)?;
        CONFIG.set(config).map_err(|_| vec![ConfigError::new("", "configured twice")])
    }
}

/// Writes one new key, or says why it could not.
fn hoard(config: &Config, number: i64) -> Result<(), &'static str> {
    let key = format!("hoard/{number}");
    match config.store {
        Store::Counters => counters::gauge_add(&key, 1, TTL_MS).map(drop).map_err(|failure| match failure {
            counters::Failure::QuotaExceeded => "quota-exceeded",
            counters::Failure::Unavailable => "unavailable",
        }),
        Store::Cells => {
            cells::swap(&key, 0, &vec![0; config.bytes], TTL_MS).map(drop).map_err(|failure| match failure {
                cells::Failure::QuotaExceeded => "quota-exceeded",
                cells::Failure::Unavailable => "unavailable",
                cells::Failure::Stale => "stale",
            })
        }
    }
}

fn quota(written: i64, failure: &str) -> Refusal {
    let mut refusal = Refusal::new("quota", format!("no room after {written} keys: {failure}"));
    refusal.details = vec![
        Field { name: "failure".to_owned(), value: failure.to_owned() },
        Field { name: "keys".to_owned(), value: written.to_string() },
    ];
    refusal
}

impl Admission for Hoarder {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        let Some(config) = CONFIG.get() else {
            return Err(Refusal::new("unconfigured", "Never configured."));
        };
        // The count is itself a key of the store, so that a new instance goes on where the last one stopped.
        let Ok(mut written) = counters::gauge_add("written", 0, TTL_MS) else {
            return Err(quota(0, "unavailable"));
        };
        for _ in 0..config.per_call {
            hoard(config, written).map_err(|failure| quota(written, failure))?;
            written = counters::gauge_add("written", 1, TTL_MS).map_err(|_| quota(written, "unavailable"))?;
        }
        Ok(Verdict::ALLOW)
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(Hoarder: admission);
