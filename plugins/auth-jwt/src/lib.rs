//! The authenticator that knows callers by their signed token, so that no shared password travels.
//!
//! This file only joins [`decide`] to the gateway; every rule stands there and is tested natively.

pub mod config;
pub mod decide;

use std::cell::RefCell;

use sentinel_plugin_sdk::{Auth, Authentication, ConfigError, Lifecycle, Refusal, Request, clock, secrets};

use decide::Verifier;

thread_local! {
    // A guest has one thread; the state lives as long as the instance.
    static VERIFIER: RefCell<Option<Verifier>> = const { RefCell::new(None) };
}

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct AuthJwt;

impl Lifecycle for AuthJwt {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config: config::Config = sentinel_plugin_sdk::read_config(&json)?;
        let verifier = config.check(secrets::get)?;
        VERIFIER.set(Some(verifier));
        Ok(())
    }
}

impl Authentication for AuthJwt {
    fn authenticate(request: &Request) -> Result<Auth, Refusal> {
        let bearer = request.bearer();
        VERIFIER.with_borrow(|verifier| match verifier {
            Some(verifier) => verifier.judge(bearer.as_deref(), clock::unix_ms() / 1000),
            None => Err(Refusal::new("not_configured", "The plugin auth-jwt has not been configured.")),
        })
    }
}

// Natively the exported names (`sentinel:plugin/...`) are more than a linker accepts.
#[cfg(target_arch = "wasm32")]
sentinel_plugin_sdk::export!(AuthJwt: authentication);
