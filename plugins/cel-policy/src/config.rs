//! Reads the rules, and finds all that is wrong with them at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::Env;
use sentinel_plugin_sdk::fields::{Fields, below};
use sentinel_plugin_sdk::{ConfigError, Risk};
use serde_json::Value;

use super::decide::{Policy, Rule, Then};
use super::look::look;

/// Most rules.
const RULES: usize = 200;
/// Longest expression, in bytes.
const LONGEST: usize = 2_048;

/// Reads the value of `config`.
///
/// # Errors
/// Every mistake.
pub(crate) fn read(config: Value) -> Result<Policy, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let env = Arc::new(Env::stdlib());
    let mut policy = Policy {
        rules: Vec::new(),
        otherwise: Then::Deny,
        roots: BTreeSet::new(),
        claims: BTreeSet::new(),
        env: env.clone(),
    };
    let Some(mut fields) = Fields::of(config, String::new(), &mut errors) else { return Err(errors) };
    let otherwise: Option<String> = fields.take("otherwise", "\"allow\" or \"deny\"", &mut errors);
    match otherwise.as_deref() {
        Some("allow") => policy.otherwise = Then::Allow,
        Some("deny") => {}
        // Which one is meant cannot be guessed: rules that deny and rules that allow read alike.
        _ => errors.push(
            ConfigError::new("/otherwise", "says what becomes of a call that no rule holds for")
                .hint("\"allow\" where the rules deny, \"deny\" where they allow"),
        ),
    }
    let rules: Vec<Value> = fields.take("rules", "a list of rules", &mut errors).unwrap_or_default();
    fields.finish(&mut errors);
    if rules.is_empty() {
        errors.push(ConfigError::new("/rules", "there is no rule"));
    }
    if rules.len() > RULES {
        errors.push(ConfigError::new(
            "/rules",
            format!("there are {} rules, and at most {RULES} are judged", rules.len()),
        ));
        return Err(errors);
    }
    let mut names = BTreeSet::new();
    for (index, rule) in rules.into_iter().enumerate() {
        let at = below("/rules", &index.to_string());
        let Some(rule) = one(&env, rule, &at, &mut policy, &mut errors) else { continue };
        if !names.insert(rule.name.clone()) {
            errors.push(ConfigError::new(
                below(&at, "name"),
                format!("there are two rules called {:?}", rule.name),
            ));
        }
        policy.rules.push(rule);
    }
    if errors.is_empty() { Ok(policy) } else { Err(errors) }
}

fn one(env: &Env, rule: Value, at: &str, policy: &mut Policy, errors: &mut Vec<ConfigError>) -> Option<Rule> {
    let mut fields = Fields::of(rule, at.to_owned(), errors)?;
    let name: Option<String> = fields.take("name", "a text", errors);
    let when: Option<String> = fields.take("when", "a CEL expression", errors);
    let then: Option<String> = fields.take("then", "\"allow\", \"deny\" or \"ask\"", errors);
    let message: Option<String> = fields.take("message", "a sentence", errors);
    let reason: Option<String> = fields.take("reason", "a word", errors);
    let risk: Option<String> = fields.take("risk", "\"low\", \"medium\" or \"high\"", errors);
    let approvers: Option<Vec<String>> = fields.take("approvers", "a list of roles", errors);
    fields.finish(errors);
    let mut wrong = |key: &str, message: &str, hint: &str| {
        errors.push(ConfigError::new(below(at, key), message).hint(hint));
    };
    let name = name.filter(|name| !name.is_empty()).or_else(|| {
        wrong("name", "a rule needs a name", "such as \"no-deletes\"");
        None
    });
    let then = match then.as_deref() {
        Some("allow") => Some(Then::Allow),
        Some("deny") => Some(Then::Deny),
        Some("ask") => Some(Then::Ask),
        _ => {
            wrong(
                "then",
                "says what becomes of a call that the rule holds for",
                "\"allow\", \"deny\" or \"ask\"",
            );
            None
        }
    };
    let asks = then == Some(Then::Ask);
    let risk = match risk.as_deref() {
        None | Some("medium") => Risk::Medium,
        Some("low") => Risk::Low,
        Some("high") => Risk::High,
        Some(_) => {
            wrong("risk", "is no risk", "\"low\", \"medium\" or \"high\"");
            Risk::High
        }
    };
    if approvers.is_some() && !asks {
        wrong("approvers", "only a rule that asks has approvers", "then = \"ask\"");
    }
    let when = when.or_else(|| {
        wrong("when", "a rule needs an expression", "such as 'target.name.startsWith(\"delete_\")'");
        None
    });
    let program = compiled(env, &when?, &below(at, "when"), policy, errors);
    let (name, then) = (name?, then?);
    let message = message.unwrap_or_else(|| match then {
        Then::Ask => format!("The rule {name:?} wants a person to approve this call."),
        Then::Allow | Then::Deny => format!("The rule {name:?} refuses this call."),
    });
    let reason = reason.unwrap_or_else(|| name.replace('-', "_"));
    let approvers = approvers.unwrap_or_default();
    Some(Rule { program: program?, name, then, reason, message, risk, approvers })
}

/// Compiles an expression, and notes what it reads.
fn compiled(
    env: &Env,
    when: &str,
    at: &str,
    policy: &mut Policy,
    errors: &mut Vec<ConfigError>,
) -> Option<cel::Program> {
    if when.len() > LONGEST {
        errors.push(ConfigError::new(at, format!("has {} bytes, and may have {LONGEST}", when.len())));
        return None;
    }
    match env.compile(when) {
        Ok(program) => {
            let seen = look(program.expression());
            errors.extend(seen.wrong.into_iter().map(|wrong| ConfigError::new(at, wrong)));
            policy.roots.extend(seen.roots);
            policy.claims.extend(seen.claims);
            Some(program)
        }
        Err(error) => {
            // The first line says what and where; the others draw it.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            errors.push(ConfigError::new(
                at,
                format!("is no CEL: {}", first.trim_start_matches("ERROR: <input>:")),
            ));
            None
        }
    }
}
