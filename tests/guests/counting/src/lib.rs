//! Proves that every permit is settled exactly once: it counts both sides and tells on request.
//!
//! A call of the tool `settles` is not counted but refused, with the message `<checks>/<settles>`.

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict, counters, log,
};

/// Milliseconds that the counts live: longer than any test.
const TTL_MS: u32 = 3_600_000;

/// A guard that counts its checks and settles.
#[derive(Debug)]
pub struct Counting;

fn add(key: &str, delta: i64) -> Result<i64, Refusal> {
    counters::gauge_add(key, delta, TTL_MS)
        .map_err(|failure| Refusal::new("count", format!("{key}: {failure:?}")))
}

impl Lifecycle for Counting {
    fn configure(_json: String) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }
}

impl Admission for Counting {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        if call.name() == "settles" {
            let (checks, settles) = (add("checks", 0)?, add("settles", 0)?);
            return Err(Refusal::new("count", format!("{checks}/{settles}")));
        }
        Ok(Verdict::Allow(Some(add("checks", 1)?.unsigned_abs())))
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {
        if let Err(refusal) = add("settles", 1) {
            log::emit(log::Level::Error, &refusal.message);
        }
    }
}

sentinel_plugin_sdk::export!(Counting: admission);
