//! The authenticator for the stdio door, where the operating system has already said who is calling, and for loopback
//! where the operator says so.
//!
//! This file only joins [`decide`] to the gateway; every rule stands there and is tested natively.

pub mod decide;

use std::cell::RefCell;

use sentinel_plugin_sdk::{Auth, Authentication, ConfigError, Lifecycle, Refusal, Request};

use decide::{Config, Local};

thread_local! {
    // A guest has one thread; the state lives as long as the instance.
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct AuthLocal;

impl Lifecycle for AuthLocal {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config: Config = sentinel_plugin_sdk::read_config(&json)?;
        LOCAL.set(Some(config.check()?));
        Ok(())
    }
}

impl Authentication for AuthLocal {
    fn authenticate(request: &Request) -> Result<Auth, Refusal> {
        LOCAL.with_borrow(|local| match local {
            Some(local) => local.judge(&request.door(), |name| request.attr(name)),
            None => Err(Refusal::new("not_configured", "The plugin auth-local has not been configured.")),
        })
    }
}

// Natively the exported names (`sentinel:plugin/...`) are more than a linker accepts.
#[cfg(target_arch = "wasm32")]
sentinel_plugin_sdk::export!(AuthLocal: authentication);
