//! Reads the rules, and finds all that is wrong with them at once.

use std::collections::BTreeMap;

use sentinel_plugin_sdk::ConfigError;
use sentinel_plugin_sdk::fields::{Fields, below};
use sentinel_plugin_sdk::names;
use serde_json::{Map, Value};

use super::decide::{Deed, Redactor, Rules};
use super::find::Kind;

/// The shortest key of hashes: with a shorter one all phone numbers could be tried.
const SHORTEST_KEY: usize = 16;

/// Reads the value of `config`; `secret` looks a secret up by its name.
///
/// # Errors
/// Every mistake.
pub(crate) fn read(
    config: Value,
    secret: impl Fn(&str) -> Option<String>,
) -> Result<Redactor, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let Some(mut fields) = Fields::of(config, String::new(), &mut errors) else { return Err(errors) };
    let named: Option<String> = fields.take("hash_key", "the name of a secret", &mut errors);
    let backends: Map<String, Value> =
        fields.take("backends", "a table by backend", &mut errors).unwrap_or_default();
    fields.finish(&mut errors);
    if backends.is_empty() {
        errors.push(
            ConfigError::new("/backends", "names no server, so nothing would be redacted")
                .hint("backends = { \"*\" = { email = \"mask\" } }"),
        );
    }
    let rules: Vec<Rules> =
        backends.into_iter().filter_map(|(backend, rules)| one(backend, rules, &mut errors)).collect();
    let hashes = rules.iter().any(|rules| rules.deeds.values().any(|deed| *deed == Deed::Hash));
    let key = named.as_deref().and_then(&secret).unwrap_or_default();
    if hashes && key.len() < SHORTEST_KEY {
        let message = match &named {
            None => "is needed for \"hash\": without a key, a reader of a hash can try all values".to_owned(),
            Some(_) if key.is_empty() => "names no secret that this plugin was granted".to_owned(),
            Some(_) => format!("the key has less than {SHORTEST_KEY} characters"),
        };
        let hint = "hash_key = \"PII_HASH_KEY\", and secrets = [\"PII_HASH_KEY\"] in the [[plugins]] entry";
        errors.push(ConfigError::new("/hash_key", message).hint(hint));
    }
    if errors.is_empty() { Ok(Redactor { rules, key }) } else { Err(errors) }
}

fn one(backend: String, rules: Value, errors: &mut Vec<ConfigError>) -> Option<Rules> {
    let at = below("/backends", &backend);
    if let Err(why) = names::check(&backend) {
        errors.push(ConfigError::new(at.clone(), why));
    }
    let mut fields = Fields::of(rules, at.clone(), errors)?;
    let mut deeds = BTreeMap::new();
    for kind in Kind::ALL {
        let word: Option<String> = fields.take(kind.as_str(), "a text", errors);
        let deed = match word.as_deref() {
            None => continue,
            Some("keep") => Deed::Keep,
            Some("mask") => Deed::Mask,
            Some("hash") => Deed::Hash,
            Some("refuse") => Deed::Refuse,
            Some(other) => {
                let message = format!("{other:?} is not known");
                let hint = "\"mask\", \"hash\", \"refuse\" or \"keep\"";
                errors.push(ConfigError::new(below(&at, kind.as_str()), message).hint(hint));
                continue;
            }
        };
        deeds.insert(kind, deed);
    }
    let except: Vec<String> = fields.take("except", "a list of addresses", errors).unwrap_or_default();
    for (index, address) in except.iter().enumerate() {
        if !address.contains('@') {
            errors.push(
                ConfigError::new(format!("{at}/except/{index}"), "is no address and no domain")
                    .hint("\"@example.com\""),
            );
        }
    }
    fields.finish(errors);
    Some(Rules { backend, deeds, except })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn mistakes(config: Value) -> Vec<String> {
        let secret = |name: &str| (name == "KEY").then(|| "0123456789abcdef".to_owned());
        match read(config, secret) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.path).collect(),
        }
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        assert_eq!(mistakes(json!({"backends": {"*": {"email": "mask"}}})), [""; 0]);
        assert_eq!(mistakes(json!({"hash_key": "KEY", "backends": {"*": {"email": "hash"}}})), [""; 0]);
        assert_eq!(mistakes(json!({})), ["/backends"]);
        assert_eq!(
            mistakes(
                json!({"backends": {"a": {"email": "drop", "mail": "mask", "except": ["x"]}, "b": {"card": "hash"}}})
            ),
            ["/backends/a/email", "/backends/a/except/0", "/backends/a/mail", "/hash_key"]
        );
        assert_eq!(mistakes(json!({"hash_key": "NONE", "backends": {"b": {"card": "hash"}}})), ["/hash_key"]);
    }
}
