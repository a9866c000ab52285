//! The configuration of the plugin, checked as a whole so that the operator sees every mistake at once.

use sentinel_plugin_sdk::ConfigError;
use serde::Deserialize;

use crate::decide::{Algorithm, Expected, Jwk, Key, Roles, Verifier};

mod roles;

use roles::RuleConfig;

/// The longest tolerated difference between two clocks, in seconds. More would keep expired tokens alive.
const MAX_LEEWAY_S: u64 = 60;
/// The most keys. A token without a key id is tried against all of its algorithm, within one call's time.
pub const MAX_KEYS: usize = 64;

/// The plugin's section of the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The accepted `iss`: one, or all spellings of one issuer.
    #[serde(default = "default_issuer")]
    pub issuer: Names,
    /// The audiences: `aud` has to be or contain one of these.
    #[serde(default = "default_audience")]
    pub audience: Names,
    /// Pointers to the claim that says for whom a token is; the first that is there counts.
    #[serde(default = "default_audience_claims")]
    pub audience_claims: Vec<String>,
    /// Pointers (RFC 6901) to claims that hold a role or a list of roles; the first that is there counts.
    #[serde(default = "default_role_claims")]
    pub role_claims: Vec<String>,
    /// Rules that are asked before the claims, in their order.
    #[serde(default)]
    pub role_map: Vec<RuleConfig>,
    /// The role of callers who are given no other.
    #[serde(default)]
    pub default_role: Option<String>,
    /// The roles of the gateway's file.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Issuers whose tokens are left to other authenticators.
    #[serde(default)]
    pub others: Vec<String>,
    /// Tokens that are no JWT are left to other authenticators, because there are such.
    #[serde(default)]
    pub leave_opaque: bool,
    /// Tolerated difference between the clocks, in seconds; at most 60.
    #[serde(default = "default_leeway_s")]
    pub leeway_s: u64,
    /// Scopes that every token must have (RFC 6749, section 3.3).
    #[serde(default)]
    pub required_scopes: Vec<String>,
    /// Keys, one by one.
    #[serde(default)]
    pub keys: Vec<KeyEntry>,
    /// A JSON Web Key Set (RFC 7517), as an identity provider publishes it.
    #[serde(default)]
    pub jwks: Option<Jwks>,
    /// More keys are fetched while the plugin runs, so that none need stand here. Not the operator's to say.
    #[serde(skip)]
    pub fetches: bool,
}

/// One name or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// One.
    One(String),
    /// Several, of which each will do.
    Many(Vec<String>),
}

impl Names {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names,
        }
    }
}

/// One key: `secret` for HS256, `pem` for the others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The algorithm this key is for; the token has no say in it.
    pub alg: Algorithm,
    /// The key id. Without one the key is tried for every token of its algorithm.
    pub kid: Option<String>,
    /// The name of a secret whose bytes are the HMAC key.
    pub secret: Option<String>,
    /// A public key in PEM (`-----BEGIN PUBLIC KEY-----`).
    pub pem: Option<String>,
}

/// A JSON Web Key Set. Members that RFC 7517 does not name are ignored, as it demands.
#[derive(Debug, Deserialize)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// RFC 6749, section 3.3: printable ASCII without blanks, quotes and backslashes.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

fn default_issuer() -> Names {
    Names::One("sentinel-gateway".to_owned())
}

fn default_audience() -> Names {
    Names::One("sentinel-api".to_owned())
}

fn default_role_claims() -> Vec<String> {
    vec!["/role".to_owned()]
}

fn default_audience_claims() -> Vec<String> {
    vec!["/aud".to_owned()]
}

fn default_leeway_s() -> u64 {
    30
}

impl Config {
    /// Builds the verifier. `secret` reads a secret by its name.
    ///
    /// # Errors
    /// Every mistake of the configuration; none of them repeats a secret.
    pub fn check(self, secret: impl Fn(&str) -> Option<String>) -> Result<Verifier, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let expected = Expected {
            issuers: self.issuer.list(),
            audiences: self.audience.list(),
            audience_claims: self.audience_claims,
        };
        for (path, values) in [("/issuer", &expected.issuers), ("/audience", &expected.audiences)] {
            if values.is_empty() || values.iter().any(String::is_empty) {
                errors.push(ConfigError::new(path, "must not be empty"));
            }
        }
        roles::check_pointers("/audience_claims", &expected.audience_claims, &mut errors);
        if expected.audience_claims.is_empty() {
            errors.push(
                ConfigError::new("/audience_claims", "must not be empty: a token for anybody would be taken")
                    .hint(r#"["/aud"]"#),
            );
        }
        roles::check_pointers("/role_claims", &self.role_claims, &mut errors);
        if self.default_role.as_deref() == Some("") {
            errors.push(ConfigError::new("/default_role", "must not be empty; leave it out for none"));
        }
        let roles = Roles {
            rules: roles::check_rules(self.role_map, &mut errors),
            claims: self.role_claims,
            default: self.default_role,
            known: self.roles,
        };
        for (index, scope) in self.required_scopes.iter().enumerate().filter(|(_, scope)| !is_scope(scope)) {
            let path = format!("/required_scopes/{index}");
            errors.push(ConfigError::new(path, format!("{scope:?} is not a scope")).hint("mcp"));
        }
        if self.leeway_s > MAX_LEEWAY_S {
            errors.push(
                ConfigError::new("/leeway_s", "is too long: an expired token would live on").hint("60"),
            );
        }
        let written = self.keys.len() + self.jwks.as_ref().map_or(0, |set| set.keys.len());
        if written > MAX_KEYS {
            // Parsing thousands of keys could outlast the call, so nothing more is looked at.
            errors.push(ConfigError::new("", format!("{written} keys are too many; at most {MAX_KEYS}")));
            return Err(errors);
        }
        let mut keys = Vec::new();
        for (index, entry) in self.keys.into_iter().enumerate() {
            match entry.check(&format!("/keys/{index}"), &secret) {
                Ok(key) => keys.push(key),
                Err(error) => errors.push(error),
            }
        }
        for (index, jwk) in self.jwks.into_iter().flat_map(|set| set.keys).enumerate() {
            match jwk.check(&format!("/jwks/keys/{index}")) {
                Ok(key) => keys.extend(key),
                Err(error) => errors.push(error),
            }
        }
        if keys.is_empty() && errors.is_empty() && !self.fetches {
            errors.push(
                ConfigError::new("/keys", "no key: no token could ever be accepted")
                    .hint(r#"[{"alg":"HS256","secret":"JWT_SECRET_KEY"}]"#),
            );
        }
        if errors.is_empty() {
            let verifier = Verifier::expecting(expected, self.leeway_s, keys);
            Ok(verifier.requiring(self.required_scopes).giving(roles).beside(self.others, self.leave_opaque))
        } else {
            Err(errors)
        }
    }
}

impl KeyEntry {
    fn check(self, path: &str, secret: impl Fn(&str) -> Option<String>) -> Result<Key, ConfigError> {
        match (self.alg, self.secret, self.pem) {
            (Algorithm::Hs256, Some(name), None) => {
                let path = format!("{path}/secret");
                let Some(value) = secret(&name) else {
                    return Err(ConfigError::new(
                        path,
                        format!("the secret {name} is not set, or not granted"),
                    )
                    .hint(format!("set {name} and grant it to auth-jwt")));
                };
                Key::hmac(self.kid, value.as_bytes()).map_err(|message| {
                    ConfigError::new(path, format!("the secret {name} {message}"))
                        .hint("openssl rand -hex 32")
                })
            }
            (Algorithm::Hs256, _, _) => {
                Err(ConfigError::new(path, "HS256 takes `secret`, the name of a secret, and no `pem`")
                    .hint(r#""secret":"JWT_SECRET_KEY""#))
            }
            (alg, None, Some(pem)) => Key::pem(alg, self.kid, &pem)
                .map_err(|message| ConfigError::new(format!("{path}/pem"), message)),
            (alg, _, _) => {
                Err(ConfigError::new(path, format!("{alg} takes `pem`, a public key, and no `secret`"))
                    .hint(r#""pem":"-----BEGIN PUBLIC KEY-----\n...""#))
            }
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
