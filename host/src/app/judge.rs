//! Asks the authenticators about the caller on stdio before the first call: whether its credential is accepted, and
//! whether the role that it gives can do anything.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::doors;
use crate::call::{Denial, DenialKind, Principal};
use crate::config::{Auth, Config, Problem, Problems, Stage};
use crate::policy::{Caller, Chain, KillSwitch, Policy};
use crate::state::Clock;

/// The verdict about the credential.
#[derive(Debug)]
pub enum Verdict {
    /// A known caller, with a role of the file.
    Known(Arc<Principal>),
    /// A known caller, with a role that the file does not define; beside it the roles that it defines.
    Powerless(Arc<Principal>, Vec<String>),
    /// The credential was refused.
    Refused(Denial),
    /// It cannot be told now, because the keys of the issuer cannot be fetched, say.
    Unsure(Denial),
}

/// Asks the authenticators about the caller on stdio. Nothing for a gateway that serves HTTP, where everybody brings a
/// credential of their own. It takes as long as an authenticator that fetches keys takes.
#[must_use]
pub fn caller(config: &Config, chain: &Chain) -> Option<Verdict> {
    if config.http.is_some() {
        return None;
    }
    let policy = Policy::new(chain.clone(), KillSwitch::new(&config.kill_switch), Clock::real());
    let caller = Caller::new(doors::credential(&config.auth));
    Some(match policy.identify(&caller) {
        Ok(principal) => match roles(config) {
            Some(roles) if !roles.contains(&principal.role) => Verdict::Powerless(principal, roles),
            _ => Verdict::Known(principal),
        },
        Err(denial) if denial.kind == DenialKind::Unavailable => Verdict::Unsure(denial),
        Err(denial) => Verdict::Refused(denial),
    })
}

/// Whether an authenticator may send requests before it knows somebody.
pub(super) fn fetches(config: &Config) -> bool {
    config.plugins.iter().any(|plugin| plugin.stage == Stage::Authenticate && plugin.http.is_some())
}

/// The roles of the file; nothing where a plugin of the operator's own decides what they mean.
fn roles(config: &Config) -> Option<Vec<String>> {
    let rbac = config.plugins.iter().find(|plugin| plugin.name == "rbac" && plugin.is_shipped())?;
    let roles = rbac.config.get("roles").and_then(Value::as_object)?;
    Some(roles.keys().cloned().collect())
}

impl Verdict {
    /// Everything about it that is a mistake.
    ///
    /// # Errors
    /// The caller could do nothing.
    pub fn problems(&self, config: &Config) -> Result<(), Problems> {
        let key = match config.auth {
            Auth::Local => "auth.role",
            Auth::Jwt { .. } | Auth::Plugins { .. } => "auth.token_env",
        };
        let hint = match self {
            Self::Known(_) | Self::Unsure(_) => return Ok(()),
            Self::Powerless(_, roles) => format!("the roles are: {}", roles.join(", ")),
            Self::Refused(_) => {
                "mint one with `sentinel-gateway token mint --sub NAME --role ROLE` and the keys of this gateway; \
                 `token inspect` shows what a token says"
                    .to_owned()
            }
        };
        let problem: Problem = super::problem(key, self.to_string(), Some(hint));
        Err(Problems::new(&config.path, vec![problem]))
    }

    /// Says it in the log of a gateway that starts.
    pub(super) fn log(&self) {
        match self {
            Self::Known(_) => tracing::info!("{self}"),
            Self::Unsure(_) => tracing::warn!("{self}"),
            // Gateways are often started by a program, and its client shows the answer to `initialize`.
            Self::Powerless(..) | Self::Refused(_) => {
                tracing::error!("{self}; `sentinel-gateway check` says what to do");
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(principal) => {
                write!(f, "the caller on stdio is {:?} in the role {:?}", principal.subject, principal.role)?;
                match principal
                    .expires_at
                    .and_then(|at| jiff::Timestamp::from_second(i64::try_from(at).ok()?).ok())
                {
                    Some(at) => write!(f, ", until {at}"),
                    None => Ok(()),
                }
            }
            Self::Powerless(principal, _) => write!(
                f,
                "the caller on stdio is {:?} in the role {:?}, which [rbac.roles] does not define: they may do nothing",
                principal.subject, principal.role
            ),
            Self::Refused(denial) => {
                write!(f, "the caller on stdio brings what lets nobody in: {}", denial.message)
            }
            Self::Unsure(denial) => {
                write!(f, "whether the caller on stdio is let in cannot be told now: {}", denial.message)
            }
        }
    }
}
