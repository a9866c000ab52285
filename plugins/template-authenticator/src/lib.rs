//! An authenticator to start from: a caller who brings the token of a team is a member of it.
//!
//! This file only joins [`decide`] to the gateway; the rules stand there and are tested natively.

pub mod decide;

use sentinel_plugin_sdk::{
    Auth, Authentication, ConfigError, Configured, Identity, Lifecycle, Principal, Refusal, Request, secrets,
};

use decide::{Config, Team, same};

// This lives as long as the instance. Data that must live longer belongs in the gateway's `counters` and `cells`.
static TEAM: Configured<Team> = Configured::of(env!("CARGO_PKG_NAME"));

/// The plugin, as the gateway calls it.
#[derive(Debug)]
pub struct TeamTokens;

impl Lifecycle for TeamTokens {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        TEAM.read(&json, |config: Config| config.check(secrets::get))
    }
}

impl Authentication for TeamTokens {
    fn authenticate(request: &Request) -> Result<Auth, Refusal> {
        let team = TEAM.get()?;
        // A token that does not begin like ours is for the next authenticator to judge.
        let Some(token) = request.bearer().filter(|token| token.starts_with(team.prefix())) else {
            return Ok(Auth::Abstain);
        };
        if !same(token.as_bytes(), team.token().as_bytes()) {
            return Err(Refusal::new("wrong_team_token", "This is not the team's token."));
        }
        let principal = Principal {
            subject: team.subject().to_owned(),
            role: team.role().to_owned(),
            issuer: None,
            audience: None,
            token_id: None,
            expires_at: None,
            claims: Vec::new(),
        };
        // None: the gateway asks again with every call, so a token that was withdrawn is refused at once.
        Ok(Auth::Accepted(Identity { principal, cache_until: None }))
    }
}

sentinel_plugin_sdk::export!(TeamTokens: authentication);
