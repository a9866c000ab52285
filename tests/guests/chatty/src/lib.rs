//! Shows that a guard's flood of log lines is cut off and counted while its calls go on.

use sentinel_plugin_sdk::{Admission, Call, ConfigError, Lifecycle, Outcome, Permit, Refusal, Verdict, log};

/// Lines per call.
const LINES: u32 = 10_000;

/// A guard that logs without measure.
#[derive(Debug)]
pub struct Chatty;

impl Lifecycle for Chatty {
    fn configure(_json: String) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }
}

impl Admission for Chatty {
    fn check(_call: &Call) -> Result<Verdict, Refusal> {
        for _ in 0..LINES {
            // A constant: formatting would cost more fuel than logging.
            log::emit(log::Level::Info, "and another thing");
        }
        Ok(Verdict::ALLOW)
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(Chatty: admission);
