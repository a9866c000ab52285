//! The rate limiter: a limit of calls for each caller and tool, in every sliding minute.
//!
//! It keeps no number itself: the gateway's counters do, so that neither a reload nor a second instance
//! gives anybody a new allowance. If they do not answer, nobody passes.

mod decide;

use std::cell::RefCell;

use sentinel_plugin_sdk::names::Names;
use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Configured, Lifecycle, Outcome, Permit, Refusal, TargetKind, Verdict,
    counters, log,
};

use decide::{Limit, Limits};

/// The plugin.
#[derive(Debug)]
pub struct RateLimit;

static LIMITS: Configured<Limits> = Configured::of("rate-limit");

thread_local! {
    /// The counter's key, written anew for every call into the same memory.
    static KEY: RefCell<String> = RefCell::default();
}

impl Lifecycle for RateLimit {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        LIMITS.read(&json, Limits::read)
    }
}

impl Admission for RateLimit {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        let limits = LIMITS.get()?;
        KEY.with_borrow_mut(|key| {
            let subject = call.subject();
            let (name, limit) = if matches!(call.kind(), TargetKind::Tool | TargetKind::Route) {
                let (shown, own, backend) = (call.name(), call.upstream_name(), call.backend());
                let limit = limits.of_tool(&Names { shown: &shown, own: &own, backend: &backend });
                decide::tool_key(key, &subject, &backend, &own);
                (shown, limit)
            } else {
                let method = call.method();
                decide::method_key(key, &subject, call.kind().as_str(), &method);
                (method, limits.default)
            };
            let take = counters::acquire(key, 1, rate(limit)).map_err(|failure| {
                log::emit(log::Level::Error, &format!("the counters failed: {failure:?}"));
                decide::unavailable()
            })?;
            if take.allowed {
                return Ok(Verdict::ALLOW);
            }
            Err(decide::refused(&name, &subject, limit, take.retry_after_ms))
        })
    }

    // No permit is ever given, so there is nothing to settle.
    fn settle(_: &Call, _: Permit, _: Outcome, _: u64) {}
}

fn rate(limit: Limit) -> counters::Rate {
    counters::Rate { limit: limit.rpm, window_ms: decide::MINUTE_MS, burst: limit.burst }
}

sentinel_plugin_sdk::export!(RateLimit: admission);
