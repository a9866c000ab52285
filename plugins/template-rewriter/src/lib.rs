//! A rewriter to start from: it caps an argument of every tool, and takes fields out of what the tools answer.
//!
//! This file only joins [`decide`] to the gateway; the rules stand there and are tested natively.

pub mod decide;

use sentinel_plugin_sdk::{
    Call, Catalog, ConfigError, Configured, Lifecycle, Patch, Refusal, Response, Rewriting, TargetKind,
};

use decide::{Config, Rules};

// This lives as long as the instance. Data that must live longer belongs in the gateway's `counters` and `cells`.
static RULES: Configured<Rules> = Configured::of(env!("CARGO_PKG_NAME"));

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct Capper;

impl Lifecycle for Capper {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        RULES.read(&json, Config::check)
    }
}

impl Rewriting for Capper {
    fn on_request(call: &Call, edits: &Patch) -> Result<(), Refusal> {
        let rules = RULES.get()?;
        if call.kind() != TargetKind::Tool {
            return Ok(());
        }
        if let Some(capped) = call.param(rules.argument()).and_then(|asked| rules.capped(&asked)) {
            edits.set(rules.argument(), &capped);
            // A remark for the audit record: what the client asked for stands there already.
            edits.note("capped", &capped);
        }
        Ok(())
    }

    fn on_response(_call: &Call, response: &Response, edits: &Patch) -> Result<(), Refusal> {
        // An error of the server has no result to edit.
        if response.error_code().is_none() {
            for pointer in RULES.get()?.hidden() {
                if response.value(pointer).is_some() {
                    edits.remove(pointer);
                    edits.note("hidden", pointer);
                }
            }
        }
        Ok(())
    }

    fn on_catalog(_entries: &Catalog) -> Result<(), Refusal> {
        Ok(())
    }
}

sentinel_plugin_sdk::export!(Capper: rewriting);
