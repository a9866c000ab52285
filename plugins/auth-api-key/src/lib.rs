//! The authenticator that knows callers by their API key, for clients that can send a header and mint no token.
//!
//! This file only joins [`config`] and [`decide`] to the gateway; every rule stands there and is tested
//! natively.
//!
//! # What it does
//! A key comes in the header `x-api-key` (on HTTP), or as a bearer token that begins with `sk-` (at every
//! door). Any other bearer token, such as a JWT, is left to the next authenticator, and so is a caller who
//! shows no key. A key that is shown and not known is refused with `invalid_api_key`, one past its time with
//! `expired_api_key`; a key at a door it is not for is not told apart from an unknown one. A caller who shows two
//! different keys at once is refused, too.
//!
//! The gateway need not hold a key to know it: `sha256` is its digest, as `printf %s "$KEY" | sha256sum` tells
//! it. A digest protects only a key that cannot be guessed, so make keys at random:
//! `printf 'sk-%s\n' "$(openssl rand -hex 24)"`.
//!
//! # Configuration
//! ```toml
//! [[plugins]]
//! name = "auth-api-key"
//! secrets = ["DEPLOY_API_KEY"]        # what `secret` below may name
//!
//! [plugins.config]
//! header = "x-api-key"                # the default; in any case
//! prefix = "sk-"                      # the default; how a bearer token that is a key begins
//!
//! [[plugins.config.keys]]
//! id = "ci"                           # unique; stands in the audit record as the token's id
//! role = "deployer"                   # a role of rbac
//! subject = "ci-bot"                  # who that is; the id if left out
//! sha256 = "0c2d3f31c5e1e24ec8a5a0e2ac4db13fbb5a4c7d4b1c9d3e0f6a2b8c7d9e1f30"
//! expires = "2027-01-01T00:00:00Z"    # or "2027-01-01": its first second, UTC; or seconds since 1970
//! doors = ["http"]                    # every door if left out
//!
//! [[plugins.config.keys]]
//! id = "deploy"
//! role = "admin"
//! secret = "DEPLOY_API_KEY"           # instead of sha256: the granted secret that holds the key
//! ```
//! The principal has the issuer `api-key` and the key's id as token id. An answer is reused for five minutes
//! at most, and never past the key's time, so that a key that is taken out stops working.

pub mod config;
pub mod decide;
pub mod rfc3339;

use sentinel_plugin_sdk::{
    Auth, Authentication, ConfigError, Configured, Lifecycle, Refusal, Request, clock, secrets,
};

use decide::Keyring;

static KEYRING: Configured<Keyring> = Configured::of("auth-api-key");

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct AuthApiKey;

impl Lifecycle for AuthApiKey {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        KEYRING.read(&json, |config| config::read(config, secrets::get))
    }
}

impl Authentication for AuthApiKey {
    fn authenticate(request: &Request) -> Result<Auth, Refusal> {
        let keyring = KEYRING.get()?;
        let header = request.attr(keyring.header_attr());
        let bearer = request.bearer();
        keyring.judge(&request.door(), header.as_deref(), bearer.as_deref(), clock::unix_ms())
    }
}

sentinel_plugin_sdk::export!(AuthApiKey: authentication);
