//! The authenticator that knows callers by their signed token, so that no shared password travels.
//!
//! This file only joins the rules of `sentinel-jwt` to the gateway. All keys are in the configuration, so the plugin is
//! pure; `auth-jwks` is for keys that have to be fetched.

use std::cell::RefCell;

use sentinel_jwt::config::Config;
use sentinel_jwt::decide::Verifier;
use sentinel_plugin_sdk::{Auth, Authentication, ConfigError, Lifecycle, Refusal, Request, clock, secrets};

thread_local! {
    // A guest has one thread; the state lives as long as the instance.
    static VERIFIER: RefCell<Option<Verifier>> = const { RefCell::new(None) };
}

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct AuthJwt;

impl Lifecycle for AuthJwt {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config: Config = sentinel_plugin_sdk::read_config(&json)?;
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
