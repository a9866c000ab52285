//! The rate limiter: so many calls a minute for each caller and tool, in every sliding minute.
//!
//! It keeps no number itself: the gateway's counters do, so that neither a reload nor a second instance
//! gives anybody a new allowance. If they do not answer, nobody passes.

mod decide;

use std::cell::RefCell;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Lifecycle, Outcome, Refusal, TargetKind, counters, log, read_config,
};

use sentinel_plugin_sdk::names::Names;

use decide::{Limit, Limits};

/// The plugin.
#[derive(Debug)]
pub struct RateLimit;

#[derive(Default)]
struct State {
    /// None until configured: then everything is refused.
    limits: Option<Limits>,
    /// The counter's key, written anew for every call into the same memory.
    key: String,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl Lifecycle for RateLimit {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let limits = Limits::read(read_config(&json)?)?;
        STATE.with_borrow_mut(|state| state.limits = Some(limits));
        Ok(())
    }
}

impl Admission for RateLimit {
    fn check(call: &Call) -> Result<Option<u64>, Refusal> {
        STATE.with_borrow_mut(|State { limits, key }| {
            let Some(limits) = limits else {
                return Err(decide::unavailable());
            };
            let subject = call.subject();
            let (name, limit) = if call.kind() == TargetKind::Tool {
                let (shown, own, backend) = (call.name(), call.upstream_name(), call.backend());
                let limit = limits.of_tool(&Names { shown: &shown, own: &own, backend: &backend });
                decide::tool_key(key, &subject, &backend, &own);
                (shown, limit)
            } else {
                let method = call.method();
                decide::method_key(key, &subject, kind_word(call.kind()), &method);
                (method, limits.default)
            };
            let take = counters::acquire(key, 1, rate(limit)).map_err(|failure| {
                log::emit(log::Level::Error, &format!("the counters failed: {failure:?}"));
                decide::unavailable()
            })?;
            if take.allowed {
                return Ok(None);
            }
            Err(decide::refused(&name, &subject, limit, take.retry_after_ms))
        })
    }

    fn settle(_: &Call, _: u64, _: Outcome, _: u64) {
        // No permit is ever given, so nothing is to be settled.
    }
}

fn rate(limit: Limit) -> counters::Rate {
    counters::Rate { limit: limit.rpm, window_ms: decide::MINUTE_MS, burst: limit.burst }
}

fn kind_word(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Tool => "tool",
        TargetKind::Resource => "resource",
        TargetKind::Prompt => "prompt",
        TargetKind::Other => "other",
    }
}

// The names it exports are no symbols that a native linker takes.
#[cfg(target_arch = "wasm32")]
sentinel_plugin_sdk::export!(RateLimit: admission);
