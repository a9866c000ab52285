//! The authenticator that knows callers by their signed token, so that no shared password travels.
//!
//! This file only joins the rules of `sentinel-jwt` to the gateway. All keys are in the configuration, so the plugin is
//! pure; `auth-jwks` is for keys that have to be fetched.

use sentinel_jwt::config::Config;
use sentinel_jwt::decide::Verifier;
use sentinel_plugin_sdk::{
    Auth, Authentication, ConfigError, Configured, Lifecycle, Refusal, Request, clock, secrets,
};

static VERIFIER: Configured<Verifier> = Configured::of("auth-jwt");

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct AuthJwt;

impl Lifecycle for AuthJwt {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        VERIFIER.read(&json, |config: Config| config.check(secrets::get))
    }
}

impl Authentication for AuthJwt {
    fn authenticate(request: &Request) -> Result<Auth, Refusal> {
        VERIFIER.get()?.judge(request.bearer().as_deref(), clock::unix_ms() / 1000)
    }
}

sentinel_plugin_sdk::export!(AuthJwt: authentication);
