//! Allows, refuses or has a person asked by rules in CEL, the Common Expression Language.
//!
//! The rules are compiled once, in `configure`, where everything that is wrong with them is found: what does not parse, what
//! names nothing there is, what could cost too much. At a call only those parts of it are read that some rule names.

mod config;
mod decide;
mod look;
mod value;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Configured, Lifecycle, Outcome, Permit, Refusal, Verdict,
};

use decide::{Policy, Source};

/// The plugin.
#[derive(Debug)]
pub struct CelPolicy;

static POLICY: Configured<Policy> = Configured::of("cel-policy");

impl Lifecycle for CelPolicy {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        POLICY.read(&json, config::read)
    }
}

impl Admission for CelPolicy {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        POLICY.get()?.judge(&OfCall(call))
    }

    // No permit is ever given, so there is nothing to settle.
    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

/// The call at hand.
struct OfCall<'c>(&'c Call);

impl Source for OfCall<'_> {
    fn word(&self, root: &str, field: &str) -> Option<String> {
        let call = self.0;
        Some(match (root, field) {
            ("caller", "subject") => call.subject(),
            ("caller", "role") => call.role(),
            ("target", "name") => call.name(),
            ("target", "backend") => call.backend(),
            ("target", "upstream") => call.upstream_name(),
            ("target", "kind") => call.kind().as_str().to_owned(),
            ("call", "method") => call.method(),
            ("call", "door") => call.attr("door")?,
            ("claims", name) => call.claim(name)?,
            _ => return None,
        })
    }

    fn json(&self, root: &str) -> Option<String> {
        match root {
            "args" => self.0.param("/arguments"),
            "params" => self.0.param(""),
            "annotations" => self.0.definition("/annotations"),
            _ => None,
        }
    }
}

sentinel_plugin_sdk::export!(CelPolicy: admission);
