//! How tokens give roles, as the operator writes it, checked.

use sentinel_plugin_sdk::ConfigError;
use serde::Deserialize;

use crate::decide::{Rule, Test, is_pointer, pointer_to};

/// A rule that gives a role: it has exactly one of the tests.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// A JSON pointer; with `value`.
    pub claim: Option<String>,
    /// The value that the claim must have or contain.
    pub value: Option<String>,
    /// A scope in `scope` or `scp`.
    pub scope: Option<String>,
    /// A group in `groups` or `cognito:groups`.
    pub group: Option<String>,
    /// The `sub`.
    pub subject: Option<String>,
    /// The application: `client_id`, `azp`, `cid` or `appid`.
    pub client: Option<String>,
    /// The role that is given.
    pub role: String,
}

/// What is no pointer, with the one that was meant.
pub(super) fn check_pointers(at: &str, pointers: &[String], errors: &mut Vec<ConfigError>) {
    for (index, text) in pointers.iter().enumerate().filter(|(_, text)| !is_pointer(text)) {
        errors.push(not_a_pointer(&format!("{at}/{index}"), text));
    }
}

fn not_a_pointer(at: &str, text: &str) -> ConfigError {
    ConfigError::new(at, format!("{text:?} is not a JSON pointer (RFC 6901)")).hint(pointer_to(text))
}

pub(super) fn check_rules(rules: Vec<RuleConfig>, errors: &mut Vec<ConfigError>) -> Vec<Rule> {
    let mut checked = Vec::new();
    for (index, rule) in rules.into_iter().enumerate() {
        match rule.check(&format!("/role_map/{index}")) {
            Ok(rule) => checked.push(rule),
            Err(error) => errors.push(error),
        }
    }
    checked
}

impl RuleConfig {
    fn check(self, at: &str) -> Result<Rule, ConfigError> {
        let Self { claim, value, scope, group, subject, client, role } = self;
        if role.is_empty() {
            return Err(ConfigError::new(format!("{at}/role"), "a rule needs the role that it gives"));
        }
        let test = match (claim, value, scope, group, subject, client) {
            (Some(claim), Some(value), None, None, None, None) => {
                if !is_pointer(&claim) {
                    return Err(not_a_pointer(&format!("{at}/claim"), &claim));
                }
                Test::Claim(claim, value)
            }
            (None, None, Some(scope), None, None, None) => Test::Scope(scope),
            (None, None, None, Some(group), None, None) => Test::Group(group),
            (None, None, None, None, Some(subject), None) => Test::Subject(subject),
            (None, None, None, None, None, Some(client)) => Test::Client(client),
            _ => {
                let what = "a rule needs exactly one of: claim with value, scope, group, subject, client";
                return Err(ConfigError::new(at, what).hint(r#"{ group = "admins", role = "admin" }"#));
            }
        };
        Ok(Rule { test, role })
    }
}
