//! The rules of the local user: at stdio, over loopback if the operator said so, and at the control door; always the
//! configured role, never nameless.

use std::net::IpAddr;

use sentinel_plugin_sdk::{Auth, ConfigError, Identity, Principal, Refusal};
use serde::Deserialize;

/// The door whose other end is whoever started the gateway.
const DOOR: &str = "stdio";
/// The door that the gateway opens to its own user alone.
const CONTROL: &str = "control";

/// The plugin's section of the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The role of everybody at the stdio door; without one they are left to other authenticators.
    #[serde(default)]
    pub role: Option<String>,
    /// Their name; none = the name of the operating system's user.
    #[serde(default)]
    pub subject: Option<String>,
    /// Whether a request over HTTP from this machine is the local user's, too.
    #[serde(default)]
    pub loopback: bool,
    /// The role of the user who runs the gateway, at the control door; without one they are left to other authenticators.
    #[serde(default)]
    pub operator: Option<String>,
}

/// The checked configuration.
#[derive(Debug)]
pub struct Local {
    role: Option<String>,
    subject: Option<String>,
    loopback: bool,
    operator: Option<String>,
}

impl Config {
    /// Checks the configuration.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn check(self) -> Result<Local, Vec<ConfigError>> {
        let mut errors = Vec::new();
        for (path, role) in [("/role", &self.role), ("/operator", &self.operator)] {
            if role.as_ref().is_some_and(|role| role.trim().is_empty()) {
                errors.push(
                    ConfigError::new(path, "must not be empty")
                        .hint("the name of a role of rbac, such as admin"),
                );
            }
        }
        if self.role.is_none() && self.operator.is_none() {
            errors.push(ConfigError::new("/role", "is missing, so nobody could be let in"));
        }
        if self.subject.as_ref().is_some_and(|subject| subject.trim().is_empty()) {
            errors.push(
                ConfigError::new("/subject", "must not be empty")
                    .hint("leave it out to use the local user's name"),
            );
        }
        if errors.is_empty() {
            let Self { role, subject, loopback, operator } = self;
            Ok(Local { role, subject, loopback, operator })
        } else {
            Err(errors)
        }
    }
}

impl Local {
    /// Says who calls through this door; `has_token` whether they sent one, `attr` tells what is known of them: `peer.user` (the other end's), `host.user` (the gateway's own),
    /// `peer.ip`.
    ///
    /// # Errors
    /// `unknown_user` if there is neither a configured nor a known name.
    pub fn judge(
        &self,
        door: &str,
        has_token: impl FnOnce() -> bool,
        attr: impl Fn(&str) -> Option<String>,
    ) -> Result<Auth, Refusal> {
        // Without an address it is not known to be this machine.
        let near =
            || attr("peer.ip").and_then(|ip| ip.parse().ok()).is_some_and(|ip: IpAddr| ip.is_loopback());
        let (role, configured) = match door {
            // Who sends a token there wants to be the one that it names, and is nobody else if it is worth nothing.
            CONTROL if has_token() => return Ok(Auth::Abstain),
            // Who that is the system says, whatever callers are called.
            CONTROL => (&self.operator, None),
            _ if door == DOOR || (self.loopback && door == "http" && near()) => {
                (&self.role, self.subject.clone())
            }
            _ => return Ok(Auth::Abstain),
        };
        let Some(role) = role else { return Ok(Auth::Abstain) };
        let name = configured
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
            role: role.clone(),
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
        let auth = local(r#"{"role":"admin"}"#).judge("stdio", || false, |_| Some("mia".to_owned())).unwrap();
        let identity = accepted(auth);
        assert_eq!((identity.principal.subject.as_str(), identity.principal.role.as_str()), ("mia", "admin"));
        assert_eq!(identity.principal.expires_at, None);
        assert_eq!(identity.cache_until, Some(u64::MAX));
    }

    #[test]
    fn a_configured_subject_wins_over_the_user() {
        let auth = local(r#"{"role":"admin","subject":"desk"}"#)
            .judge("stdio", || false, |_| Some("mia".to_owned()))
            .unwrap();
        assert_eq!(accepted(auth).principal.subject, "desk");
    }

    #[test]
    fn null_is_no_subject() {
        let auth = local(r#"{"role":"admin","subject":null}"#)
            .judge("stdio", || false, |_| Some("mia".to_owned()))
            .unwrap();
        assert_eq!(accepted(auth).principal.subject, "mia");
    }

    #[test]
    fn nobody_is_refused() {
        for user in [None, Some(""), Some("  ")] {
            let refusal = local(r#"{"role":"admin"}"#)
                .judge("stdio", || false, |_| user.map(str::to_owned))
                .unwrap_err();
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
        for json in [r#"{"role":"admin","rolle":"x"}"#, r#"{"role":7}"#, r#"{"operator":["admin"]}"#] {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
        for json in ["{}", r#"{"role":null}"#, r#"{"subject":"desk","loopback":true}"#] {
            let errors = serde_json::from_str::<Config>(json).unwrap().check().unwrap_err();
            assert_eq!(errors[0].path, "/role", "{json}");
        }
    }

    #[test]
    fn the_operator_is_the_user_at_the_control_door_and_nowhere_else() {
        let asked = |json: &str, door: &str| {
            let user = |name: &str| (name == "peer.user").then(|| "mia".to_owned());
            match local(json).judge(door, || false, user).unwrap() {
                Auth::Accepted(identity) => Some((identity.principal.subject, identity.principal.role)),
                Auth::Abstain => None,
            }
        };
        let some = |subject: &str, role: &str| Some((subject.to_owned(), role.to_owned()));
        let both = r#"{"role":"admin","subject":"desk","loopback":true,"operator":"chief"}"#;
        assert_eq!(
            (asked(both, "control"), asked(both, "stdio")),
            (some("mia", "chief"), some("desk", "admin"))
        );
        let only = r#"{"operator":"chief"}"#;
        assert_eq!(asked(only, "control"), some("mia", "chief"));
        let with_token = local(only).judge("control", || true, |_| Some("mia".to_owned())).unwrap();
        assert!(matches!(with_token, Auth::Abstain), "a token says who it is");
        for door in ["stdio", "http", "admin", ""] {
            assert_eq!(asked(only, door), None, "{door}");
        }
        assert_eq!(asked(r#"{"role":"admin","loopback":true}"#, "control"), None, "nobody said who operates");
    }

    proptest! {
        #[test]
        fn every_other_door_is_somebody_elses(door in "[ -~]{0,12}", user in proptest::option::of("[a-z]{1,8}")) {
            prop_assume!(!["stdio", "control"].contains(&door.as_str()));
            let auth = local(r#"{"role":"admin","subject":"desk","operator":"admin"}"#).judge(&door, || false, |_| user.clone()).unwrap();
            prop_assert!(matches!(auth, Auth::Abstain));
        }
    }
}
