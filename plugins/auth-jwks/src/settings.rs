//! The configuration: where the keys are and for how long, beside what every judge of tokens needs.

use sentinel_jwt::config::Config;
use sentinel_jwt::decide::Verifier;
use sentinel_plugin_sdk::ConfigError;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::schedule::{AGES_S, Times};

/// The longest URL in bytes.
const MAX_URL: usize = 2048;

/// The keys of this plugin alone; the others are those of `auth-jwt`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    jwks_url: String,
    #[serde(default = "default_max_age")]
    jwks_max_age_secs: u64,
    #[serde(default = "default_refetch")]
    jwks_refetch_secs: u64,
    #[serde(default = "default_stale")]
    jwks_stale_secs: u64,
}

fn default_max_age() -> u64 {
    600
}

fn default_refetch() -> u64 {
    30
}

fn default_stale() -> u64 {
    3600
}

/// The settings of the plugin, checked and ready for use.
#[derive(Debug)]
pub struct Settings {
    /// Where the key set is.
    pub url: String,
    /// How long it lasts.
    pub times: Times,
    /// Issuer, audience, and the keys that the configuration holds itself.
    pub verifier: Verifier,
}

impl Settings {
    /// Checks the configuration. `secret` reads a secret by its name.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn check(
        mut json: Map<String, Value>,
        secret: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let own: Map<String, Value> = json
            .iter()
            .filter(|(key, _)| key.starts_with("jwks_"))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        json.retain(|key, _| !key.starts_with("jwks_"));
        let unreadable = |error: serde_json::Error| vec![ConfigError::new("", error.to_string())];
        let own: Own = serde_json::from_value(Value::Object(own)).map_err(unreadable)?;
        let mut config: Config = serde_json::from_value(Value::Object(json)).map_err(unreadable)?;
        config.fetches = true;
        let mut errors = own.mistakes();
        match config.check(secret) {
            Ok(verifier) if errors.is_empty() => {
                let times = Times {
                    max_age: own.jwks_max_age_secs * 1000,
                    refetch: own.jwks_refetch_secs * 1000,
                    stale: own.jwks_stale_secs * 1000,
                };
                Ok(Self { url: own.jwks_url, times, verifier })
            }
            Ok(_) => Err(errors),
            Err(more) => {
                errors.extend(more);
                Err(errors)
            }
        }
    }
}

impl Own {
    fn mistakes(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let url = &self.jwks_url;
        let lower = url.to_ascii_lowercase();
        if url.len() > MAX_URL || !(lower.starts_with("https://") || lower.starts_with("http://")) {
            errors.push(
                ConfigError::new("/jwks_url", "is not the address of a key set")
                    .hint("https://login.example.org/.well-known/jwks.json"),
            );
        }
        if !AGES_S.contains(&self.jwks_max_age_secs) {
            errors.push(ConfigError::new("/jwks_max_age_secs", "must be from 60 to 86400").hint("600"));
        }
        if !(1..=3600).contains(&self.jwks_refetch_secs) {
            errors.push(ConfigError::new("/jwks_refetch_secs", "must be from 1 to 3600").hint("30"));
        }
        if self.jwks_stale_secs > *AGES_S.end() {
            errors.push(ConfigError::new("/jwks_stale_secs", "must be at most 86400").hint("3600"));
        }
        errors
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "tests; json!(…) in place")]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(json: Value) -> Result<Settings, Vec<String>> {
        let checked = Settings::check(json.as_object().unwrap().clone(), |_| None);
        checked.map_err(|errors| errors.into_iter().map(|error| error.path).collect())
    }

    #[test]
    fn an_address_is_enough() {
        let settings = check(json!({"jwks_url": "https://login.example.org/jwks"})).unwrap();
        assert_eq!(settings.times, Times { max_age: 600_000, refetch: 30_000, stale: 3_600_000 });
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let errors = check(json!({
            "jwks_url": "login.example.org", "jwks_max_age_secs": 59, "jwks_refetch_secs": 0,
            "jwks_stale_secs": 86_401, "issuer": "",
        }));
        let paths = ["/jwks_url", "/jwks_max_age_secs", "/jwks_refetch_secs", "/jwks_stale_secs", "/issuer"];
        assert_eq!(errors.unwrap_err(), paths);
    }

    #[test]
    fn a_key_that_nobody_knows_is_a_mistake() {
        for bad in [
            json!({"jwks_url": "https://a/", "jwks_uri": "x"}),
            json!({"jwks_url": "https://a/", "isuer": "x"}),
            json!({}),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}
