//! The guard for commands: whether one may be run, by its environment, its caller and what fills its slots, or whether a
//! person has to decide.
//!
//! This file only joins [`decide`] to the gateway; every rule stands there and is tested natively.

pub mod decide;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Configured, Lifecycle, Outcome, Permit, Refusal, Verdict,
};

use decide::{Asked, Config, Decision, Policy};

static POLICY: Configured<Policy> = Configured::of("command-policy");

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct CommandPolicy;

impl Lifecycle for CommandPolicy {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        POLICY.read(&json, Config::check)
    }
}

impl Admission for CommandPolicy {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        let policy = POLICY.get()?;
        // Most calls are for servers, which are none of its business.
        let Some(environment) = policy.environment(&call.backend()) else { return Ok(Verdict::ALLOW) };
        let (command, subject, role) = (call.upstream_name(), call.subject(), call.role());
        let asked = Asked { environment, command: &command, subject: &subject, role: &role };
        match policy.decide(asked, &|slot| call.param(&format!("/arguments/{slot}")))? {
            Decision::Allow => Ok(Verdict::ALLOW),
            Decision::Ask(request) => Ok(Verdict::Ask(*request)),
        }
    }

    // No permit is ever given, so there is nothing to settle.
    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

sentinel_plugin_sdk::export!(CommandPolicy: admission);
