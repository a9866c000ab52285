//! The authenticator for the stdio door, where the operating system has already said who is calling, and for loopback
//! where the operator says so.
//!
//! This file only joins [`decide`] to the gateway; every rule stands there and is tested natively.

pub mod decide;

use sentinel_plugin_sdk::{Auth, Authentication, ConfigError, Configured, Lifecycle, Refusal, Request};

use decide::{Config, Local};

static LOCAL: Configured<Local> = Configured::of("auth-local");

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct AuthLocal;

impl Lifecycle for AuthLocal {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        LOCAL.read(&json, Config::check)
    }
}

impl Authentication for AuthLocal {
    fn authenticate(request: &Request) -> Result<Auth, Refusal> {
        LOCAL.get()?.judge(&request.door(), || request.bearer().is_some(), |name| request.attr(name))
    }
}

sentinel_plugin_sdk::export!(AuthLocal: authentication);
