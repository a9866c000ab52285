//! Answers as it is told, so that tests can put authenticators of every mind into a chain.
//!
//! Configuration: `{"answer": "abstain" | "refuse" | "accept", "role": "admin", "subject": "guest", "header": "x"}`;
//! `role` is needed to accept, `subject` is `guest` unless given. With `header` the subject is what that header says, with `fact`
//! what that fact is, and who has none of it is nobody it knows.

use std::sync::OnceLock;

use sentinel_plugin_sdk::{
    Auth, Authentication, ConfigError, Identity, Lifecycle, Principal, Refusal, Request, read_config,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    answer: Answer,
    role: Option<String>,
    subject: Option<String>,
    header: Option<String>,
    fact: Option<String>,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Abstain,
    Refuse,
    Accept,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

/// An authenticator that answers as configured.
#[derive(Debug)]
pub struct Authenticator;

impl Lifecycle for Authenticator {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config: Config = read_config(&json)?;
        if matches!(config.answer, Answer::Accept) && config.role.is_none() {
            return Err(vec![
                ConfigError::new("/role", "missing").hint("name the role of the accepted caller"),
            ]);
        }
        CONFIG.set(config).map_err(|_| vec![ConfigError::new("", "configured twice")])
    }
}

impl Authentication for Authenticator {
    fn authenticate(request: &Request) -> Result<Auth, Refusal> {
        let refused = || Refusal::new("unauthenticated", "guest-auth lets nobody in.");
        let config = CONFIG.get().ok_or_else(refused)?;
        let mut subject = config.subject.clone().unwrap_or_else(|| "guest".to_owned());
        if let Some(name) = &config.header {
            match request.header(name) {
                Some(value) => subject = value,
                None => return Ok(Auth::Abstain),
            }
        }
        if let Some(key) = &config.fact {
            match request.attr(key) {
                Some(value) => subject = value,
                None => return Ok(Auth::Abstain),
            }
        }
        match config.answer {
            Answer::Abstain => Ok(Auth::Abstain),
            Answer::Refuse => Err(refused()),
            Answer::Accept => Ok(Auth::Accepted(Identity {
                principal: Principal {
                    subject,
                    role: config.role.clone().ok_or_else(refused)?,
                    issuer: None,
                    audience: None,
                    token_id: None,
                    expires_at: None,
                    claims: Vec::new(),
                },
                cache_until: None,
            })),
        }
    }
}

sentinel_plugin_sdk::export!(Authenticator: authentication);
