//! The guard that grants by role, so that one line of configuration says what a caller may see and do.
//!
//! This file only joins [`decide`] to the gateway; every rule stands there and is tested natively.

pub mod decide;

use std::cell::RefCell;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Entry, Facts, Lifecycle, Outcome, Permit, Refusal, Reuse, Visibility,
};

use sentinel_plugin_sdk::names::Names;

use decide::{Asked, Config, Roles};

thread_local! {
    // A guest has one thread; the state lives as long as the instance.
    static ROLES: RefCell<Option<Roles>> = const { RefCell::new(None) };
}

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct Rbac;

impl Lifecycle for Rbac {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config: Config = sentinel_plugin_sdk::read_config(&json)?;
        ROLES.set(Some(config.check()?));
        Ok(())
    }
}

impl Admission for Rbac {
    fn check(call: &Call) -> Result<Option<Permit>, Refusal> {
        ROLES.with_borrow(|roles| match roles {
            Some(roles) => {
                let (method, kind) = (call.method(), call.kind());
                let (shown, own, backend) = (call.name(), call.upstream_name(), call.backend());
                let names = Names { shown: &shown, own: &own, backend: &backend };
                let asked = Asked { method: &method, kind, names };
                roles.check(&call.role(), asked, || call.claim("scope")).map(|()| None)
            }
            None => Err(Refusal::new("not_configured", "The plugin rbac has not been configured.")),
        })
    }

    // No permit is ever given, so there is nothing to settle.
    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

impl Visibility for Rbac {
    fn visible(call: &Call, entries: Vec<Entry>) -> Vec<bool> {
        let role = call.role();
        ROLES.with_borrow(|roles| match roles {
            Some(roles) => roles.visible(&role, &entries),
            None => vec![false; entries.len()],
        })
    }
}

impl Reuse for Rbac {
    // A role, its claims and the target decide, and nothing is remembered.
    fn depends_on() -> Facts {
        Facts::CALLER | Facts::TARGET
    }
}

// Natively the exported names (`sentinel:plugin/...`) are more than a linker accepts.
#[cfg(target_arch = "wasm32")]
sentinel_plugin_sdk::export!(Rbac: admission, visibility, reuse);
