//! The rules, apart from the gateway, so that they can be tested natively and at once.

use sentinel_plugin_sdk::ConfigError;
use serde::Deserialize;

/// The shortest token that cannot be guessed.
const SHORTEST: usize = 32;

/// The value of `config` in the plugin's `[[plugins]]` entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of the secret that holds the token.
    token: String,
    /// What every token of this kind begins with: `team_`.
    prefix: String,
    subject: String,
    role: String,
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub struct Team {
    token: String,
    prefix: String,
    subject: String,
    role: String,
}

impl Config {
    /// Finds every mistake, not only the first: the operator wants to put all of them right at once. `secret` looks a secret
    /// up by its name.
    ///
    /// # Errors
    /// All mistakes, each with the key it stands at.
    pub fn check(self, secret: impl Fn(&str) -> Option<String>) -> Result<Team, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let token = secret(&self.token).unwrap_or_default();
        if token.is_empty() {
            let hint = format!(
                "write secrets = [\"{}\"] into the [[plugins]] entry, and set the variable",
                self.token
            );
            errors
                .push(ConfigError::new("/token", "names no secret that this plugin was granted").hint(hint));
        } else if token.len() < SHORTEST {
            errors.push(ConfigError::new("/token", format!("the token has less than {SHORTEST} characters")));
        } else if !token.starts_with(&self.prefix) {
            errors.push(ConfigError::new("/prefix", "is not what the token begins with"));
        }
        for (path, value) in [("/prefix", &self.prefix), ("/subject", &self.subject), ("/role", &self.role)] {
            if value.is_empty() {
                errors.push(ConfigError::new(path, "is empty"));
            }
        }
        let Self { prefix, subject, role, .. } = self;
        if errors.is_empty() { Ok(Team { token, prefix, subject, role }) } else { Err(errors) }
    }
}

impl Team {
    /// The token itself.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What the token begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Who brings it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What they may do.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
#[must_use]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "team_0123456789abcdef0123456789abcdef";

    fn mistakes(prefix: &str, role: &str, token: Option<&str>) -> Vec<String> {
        let config = Config {
            token: "TEAM_TOKEN".to_owned(),
            prefix: prefix.to_owned(),
            subject: "team".to_owned(),
            role: role.to_owned(),
        };
        match config.check(|name| token.filter(|_| name == "TEAM_TOKEN").map(str::to_owned)) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.path).collect(),
        }
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        assert_eq!(mistakes("team_", "member", Some(TOKEN)), [""; 0]);
        assert_eq!(mistakes("team_", "", None), ["/token", "/role"]);
        assert_eq!(mistakes("team_", "member", Some("team_short")), ["/token"]);
        assert_eq!(mistakes("other_", "member", Some(TOKEN)), ["/prefix"]);
    }

    #[test]
    fn only_equal_texts_are_the_same() {
        assert!(same(b"abc", b"abc"));
        for other in ["abd", "ab", "", "abcd"] {
            assert!(!same(b"abc", other.as_bytes()), "{other}");
        }
    }
}
