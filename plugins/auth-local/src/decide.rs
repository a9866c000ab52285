//! The rules of the local user: at stdio, and over loopback if the operator said so; always the configured role,
//! never nameless.

use std::net::IpAddr;

use sentinel_plugin_sdk::{Auth, ConfigError, Identity, Principal, Refusal};
use serde::Deserialize;

/// The only door whose other end is the local user.
const DOOR: &str = "stdio";

/// The plugin's section of the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The role of everybody at the stdio door.
    pub role: String,
    /// Their name; none = the name of the operating system's user.
    #[serde(default)]
    pub subject: Option<String>,
    /// Whether a request over HTTP from this machine is the local user's, too.
    #[serde(default)]
    pub loopback: bool,
}

/// The checked configuration.
#[derive(Debug)]
pub struct Local {
    role: String,
    subject: Option<String>,
    loopback: bool,
}

impl Config {
    /// Checks the configuration.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn check(self) -> Result<Local, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if self.role.trim().is_empty() {
            errors.push(
                ConfigError::new("/role", "must not be empty")
                    .hint("the name of a role of rbac, such as admin"),
            );
        }
        if self.subject.as_ref().is_some_and(|subject| subject.trim().is_empty()) {
            errors.push(
                ConfigError::new("/subject", "must not be empty")
                    .hint("leave it out to use the local user's name"),
            );
        }
        if errors.is_empty() {
            Ok(Local { role: self.role, subject: self.subject, loopback: self.loopback })
        } else {
            Err(errors)
        }
    }
}

impl Local {
    /// Says who calls through this door; `attr` tells what is known of them: `peer.user` (the other end's), `host.user` (the gateway's own),
    /// `peer.ip`.
    ///
    /// # Errors
    /// `unknown_user` if there is neither a configured nor a known name.
    pub fn judge(&self, door: &str, attr: impl Fn(&str) -> Option<String>) -> Result<Auth, Refusal> {
        // Without an address it is not known to be this machine.
        let near =
            || attr("peer.ip").and_then(|ip| ip.parse().ok()).is_some_and(|ip: IpAddr| ip.is_loopback());
        if !(door == DOOR || (self.loopback && door == "http" && near())) {
            return Ok(Auth::Abstain);
        }
        let name = self
            .subject
            .clone()
            .or_else(|| attr("peer.user").or_else(|| attr("host.user")))
            .filter(|name| !name.trim().is_empty());
        let Some(subject) = name else {
            return Err(Refusal::new(
                "unknown_user",
                "The local user has no name. Set `subject` in the configuration of auth-local.",
            ));
        };
        let principal = Principal {
            subject,
            role: self.role.clone(),
            issuer: None,
            audience: None,
            token_id: None,
            expires_at: None,
            claims: Vec::new(),
        };
        // The other end of the pipe cannot change while it is open.
        Ok(Auth::Accepted(Identity { principal, cache_until: Some(u64::MAX) }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn local(json: &str) -> Local {
        serde_json::from_str::<Config>(json).unwrap().check().unwrap()
    }

    fn accepted(auth: Auth) -> Identity {
        match auth {
            Auth::Accepted(identity) => identity,
            Auth::Abstain => panic!("abstained"),
        }
    }

    #[test]
    fn the_user_of_the_pipe_is_the_subject() {
        let auth = local(r#"{"role":"admin"}"#).judge("stdio", |_| Some("mia".to_owned())).unwrap();
        let identity = accepted(auth);
        assert_eq!((identity.principal.subject.as_str(), identity.principal.role.as_str()), ("mia", "admin"));
        assert_eq!(identity.principal.expires_at, None);
        assert_eq!(identity.cache_until, Some(u64::MAX));
    }

    #[test]
    fn a_configured_subject_wins_over_the_user() {
        let auth =
            local(r#"{"role":"admin","subject":"desk"}"#).judge("stdio", |_| Some("mia".to_owned())).unwrap();
        assert_eq!(accepted(auth).principal.subject, "desk");
    }

    #[test]
    fn null_is_no_subject() {
        let auth =
            local(r#"{"role":"admin","subject":null}"#).judge("stdio", |_| Some("mia".to_owned())).unwrap();
        assert_eq!(accepted(auth).principal.subject, "mia");
    }

    #[test]
    fn nobody_is_refused() {
        for user in [None, Some(""), Some("  ")] {
            let refusal =
                local(r#"{"role":"admin"}"#).judge("stdio", |_| user.map(str::to_owned)).unwrap_err();
            assert_eq!(refusal.reason, "unknown_user");
        }
    }

    #[test]
    fn empty_role_and_subject_are_reported_together() {
        let errors =
            serde_json::from_str::<Config>(r#"{"role":" ","subject":""}"#).unwrap().check().unwrap_err();
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["/role", "/subject"]);
    }

    #[test]
    fn unknown_and_missing_keys_are_refused() {
        for json in ["{}", r#"{"role":"admin","rolle":"x"}"#, r#"{"role":null}"#, r#"{"role":7}"#] {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn every_other_door_is_somebody_elses(door in "[ -~]{0,12}", user in proptest::option::of("[a-z]{1,8}")) {
            prop_assume!(door != "stdio");
            let auth = local(r#"{"role":"admin","subject":"desk"}"#).judge(&door, |_| user.clone()).unwrap();
            prop_assert!(matches!(auth, Auth::Abstain));
        }
    }
}
