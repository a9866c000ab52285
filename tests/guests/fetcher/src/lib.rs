//! Shows what the gateway lets out: it asks for the document at an address and refuses every call with what came back.

use std::cell::RefCell;
use std::time::Duration;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict, http, read_config,
};
use serde::Deserialize;

thread_local! {
    static CONFIG: RefCell<Config> = RefCell::default();
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Config {
    url: String,
    /// Before the request; alone if there is no address.
    pause_ms: u64,
}

/// A guard that sends a request for every call.
#[derive(Debug)]
pub struct Fetcher;

impl Lifecycle for Fetcher {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        CONFIG.set(read_config(&json)?);
        Ok(())
    }
}

impl Admission for Fetcher {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        let Config { url, pause_ms } = CONFIG.with_borrow(Clone::clone);
        if pause_ms > 0 {
            http::pause(Duration::from_millis(pause_ms));
        }
        if url.is_empty() {
            return Err(Refusal::new("waited", "it is over"));
        }
        let limits = http::Limits { timeout: Duration::from_secs(60), max_bytes: usize::MAX };
        match http::get(&url, limits) {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                Err(Refusal::new("fetched", format!("{} {text}", answer.status)))
            }
            Err(error) => Err(Refusal::new("failed", error.to_string())),
        }
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(Fetcher: admission);
