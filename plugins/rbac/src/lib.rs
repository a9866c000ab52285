//! The guard that grants by role, so that one line of configuration says what a caller may see and do.
//!
//! This file only joins [`decide`] to the gateway; every rule stands there and is tested natively.

pub mod decide;

use sentinel_plugin_sdk::names::Names;
use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Configured, Entry, Facts, Lifecycle, Outcome, Permit, Refusal, Reuse,
    TargetKind, Verdict, Visibility,
};

use decide::{Asked, Config, Roles};

static ROLES: Configured<Roles> = Configured::of("rbac");

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct Rbac;

impl Lifecycle for Rbac {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        ROLES.read(&json, Config::check)
    }
}

impl Admission for Rbac {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        let roles = ROLES.get()?;
        let (method, kind) = (call.method(), call.kind());
        if kind == TargetKind::Control && roles.operates(&call.role(), || call.attr("door")) {
            return Ok(Verdict::ALLOW);
        }
        let (shown, own, backend) = (call.name(), call.upstream_name(), call.backend());
        let names = Names { shown: &shown, own: &own, backend: &backend };
        let asked = Asked { method: &method, kind, names };
        let role = call.role();
        roles.check(&role, asked, || call.claim("scope"))?;
        Ok(match roles.asks(&role, || call.subject(), asked) {
            Some(request) => Verdict::Ask(request),
            None => Verdict::ALLOW,
        })
    }

    // No permit is ever given, so there is nothing to settle.
    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

impl Visibility for Rbac {
    fn visible(call: &Call, entries: Vec<Entry>) -> Vec<bool> {
        match ROLES.get() {
            Ok(roles) => roles.visible(&call.role(), &entries),
            Err(_) => vec![false; entries.len()],
        }
    }
}

impl Reuse for Rbac {
    // A role, its claims and the target decide, and nothing is remembered.
    fn depends_on() -> Facts {
        Facts::CALLER | Facts::TARGET
    }
}

sentinel_plugin_sdk::export!(Rbac: admission, visibility, reuse);
