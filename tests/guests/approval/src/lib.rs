//! Shows that a call goes nowhere while nobody can be asked, and that one artifact may fill two roles: as a guard it wants a
//! person to approve the tools it is told, as a rewriter it writes who it is into the arguments.
//!
//! Configuration: `{"ask_for": ["name", ..], "mark": "text"}`, both optional.

use sentinel_plugin_sdk::{
    Admission, ApprovalRequest, Call, Catalog, ConfigError, Configured, Field, Lifecycle, Outcome, Patch,
    Permit, Refusal, Response, Rewriting, Risk, Threshold, Verdict,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    ask_for: Vec<String>,
    #[serde(default)]
    mark: Option<String>,
}

static CONFIG: Configured<Config> = Configured::of("approval");

/// A guard that wants approvals, and a rewriter.
#[derive(Debug)]
pub struct Approval;

impl Lifecycle for Approval {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        CONFIG.read(&json, Ok)
    }
}

impl Admission for Approval {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        let name = call.name();
        if !CONFIG.get()?.ask_for.contains(&name) {
            return Ok(Verdict::ALLOW);
        }
        let summary = format!("{} wants to use {name}.", call.subject());
        Ok(Verdict::Ask(ApprovalRequest {
            thresholds: vec![Threshold {
                name: "owners".to_owned(),
                roles: vec!["owner".to_owned(), "lead".to_owned()],
                // The gateway takes 1 for it: what nobody has to approve would be approved already.
                approve: 0,
                deny: 1,
            }],
            decide_within_ms: Some(900_000),
            details: vec![Field { name: "ticket".to_owned(), value: "SG-11".to_owned() }],
            ..ApprovalRequest::new("production_write", summary, Risk::High)
        }))
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

impl Rewriting for Approval {
    fn on_request(_call: &Call, edits: &Patch) -> Result<(), Refusal> {
        if let Some(mark) = &CONFIG.get()?.mark {
            edits.set("/arguments/mark", &format!("{mark:?}"));
        }
        Ok(())
    }

    fn on_response(_call: &Call, _response: &Response, _edits: &Patch) -> Result<(), Refusal> {
        Ok(())
    }

    fn on_catalog(_entries: &Catalog) -> Result<(), Refusal> {
        Ok(())
    }
}

sentinel_plugin_sdk::export!(Approval: admission, rewriting);
