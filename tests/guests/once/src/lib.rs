//! Shows which answers are given again: it says that they depend on the target, answers once, and refuses with `asked_again`
//! from then on, so a call that is not refused was answered without asking it.
//!
//! Configuration: `{"also": "nothing"}`, or what it reads besides what it has said.

use std::cell::{Cell, RefCell};

use sentinel_plugin_sdk::{
    Admission, Call, Catalog, ConfigError, Facts, Lifecycle, Outcome, Patch, Permit, Refusal, Response,
    Reuse, Rewriting, Verdict, cells, clock, counters, log, read_config,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    also: String,
}

thread_local! {
    static ALSO: RefCell<String> = RefCell::default();
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// A guard and rewriter that answers one question and no more.
#[derive(Debug)]
pub struct Once;

fn once(call: &Call) -> Result<(), Refusal> {
    let name = call.name();
    ALSO.with_borrow(|also| match also.as_str() {
        "subject" => drop(call.subject()),
        "claim" => drop(call.claim("scope")),
        "id" => drop(call.id()),
        "arguments" => drop(call.param("/arguments")),
        "body" => drop(call.body(1)),
        "session" => drop(call.attr("session.id")),
        "time" => drop(clock::unix_ms()),
        "counter" => drop(counters::window_add("calls", 1, 1_000)),
        "cell" => drop(cells::get("last")),
        "log" => log::emit(log::Level::Info, "asked"),
        _ => {}
    });
    if ASKED.replace(ASKED.get() + 1) > 0 {
        return Err(Refusal::new("asked_again", format!("{name} was asked for again.")));
    }
    Ok(())
}

impl Lifecycle for Once {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config: Config = read_config(&json)?;
        ALSO.set(config.also);
        Ok(())
    }
}

impl Admission for Once {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        once(call)?;
        Ok(Verdict::Allow(ALSO.with_borrow(|also| also == "permit").then_some(1)))
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

impl Rewriting for Once {
    fn on_request(call: &Call, edits: &Patch) -> Result<(), Refusal> {
        once(call)?;
        edits.note("asked", "once");
        Ok(())
    }

    fn on_response(_call: &Call, _response: &Response, _edits: &Patch) -> Result<(), Refusal> {
        Ok(())
    }

    fn on_catalog(_entries: &Catalog) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Reuse for Once {
    fn depends_on() -> Facts {
        Facts::TARGET
    }
}

sentinel_plugin_sdk::export!(Once: admission, rewriting, reuse);
