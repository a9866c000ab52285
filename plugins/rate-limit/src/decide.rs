//! Which limit holds for a call, under which key it is counted, and what the caller is told.

use sentinel_plugin_sdk::names::{self, Names, Table};
use sentinel_plugin_sdk::{ConfigError, Field, Refusal};
use serde_json::Value;

use sentinel_plugin_sdk::fields::{Fields, below};

/// All limits are per minute.
pub(crate) const MINUTE_MS: u32 = 60_000;

/// The limit of a tool that has none of its own.
const DEFAULT_RPM: u32 = 1_000;

/// A character that does not occur in a subject or a name by accident, so that two pairs never make one key.
const SEPARATOR: char = '\u{1f}';

/// How many calls a minute, and how many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Calls a minute; 0 means never.
    pub(crate) rpm: u32,
    /// Calls at one instant.
    pub(crate) burst: u32,
}

impl Limit {
    fn new(rpm: u32, burst: Option<u32>) -> Self {
        Self { rpm, burst: burst.unwrap_or(rpm) }
    }
}

/// The configuration, read and checked.
#[derive(Debug)]
pub(crate) struct Limits {
    /// The limit of every tool without its own, and of every method that is not a tool call.
    pub(crate) default: Limit,
    per_tool: Table<Limit>,
}

impl Limits {
    /// Reads `{"default_rpm": 1000, "burst": null, "per_tool": {"search": 30, "deploy": {"rpm": 2, "burst": 1}}}`.
    pub(crate) fn read(config: Value) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut default = Limit::new(DEFAULT_RPM, None);
        let mut per_tool: Vec<(String, Limit)> = Vec::new();
        if let Some(mut fields) = Fields::of(config, String::new(), &mut errors) {
            let rpm = fields.take("default_rpm", WHOLE, &mut errors).unwrap_or(DEFAULT_RPM);
            default = Limit::new(rpm, burst(&mut fields, &mut errors));
            if let Some(Value::Object(tools)) = object(&mut fields, &mut errors) {
                let path = fields.at("per_tool");
                for (tool, value) in tools {
                    let path = below(&path, &tool);
                    if let Err(why) = names::check(&tool) {
                        errors.push(ConfigError::new(path.clone(), why));
                    }
                    let limit = read_limit(value, path, &mut errors);
                    per_tool.push((tool, limit));
                }
            }
            fields.finish(&mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // Where two patterns say as much about a tool, the lower limit holds.
        per_tool.sort_by_key(|(_, limit)| (limit.rpm, limit.burst));
        let per_tool = Table::new(per_tool.iter().map(|(tool, limit)| (tool.as_str(), *limit)));
        Ok(Self { default, per_tool })
    }

    /// The limit of a tool, by any of its names. The most specific rule counts.
    pub(crate) fn of_tool(&self, tool: &Names<'_>) -> Limit {
        self.per_tool.get(tool).copied().unwrap_or(self.default)
    }
}

const WHOLE: &str = "a whole number from 0 to 4294967295";

fn object(fields: &mut Fields, errors: &mut Vec<ConfigError>) -> Option<Value> {
    let value = fields.raw("per_tool")?;
    if !value.is_object() {
        errors.push(
            ConfigError::new(fields.at("per_tool"), "must be an object of limits by tool")
                .hint(r#"{"search": 30}"#),
        );
    }
    Some(value)
}

/// A burst of 0 with a limit above it would forbid what the limit allows, without saying so.
fn burst(fields: &mut Fields, errors: &mut Vec<ConfigError>) -> Option<u32> {
    let burst = fields.take("burst", WHOLE, errors);
    if burst == Some(0) {
        errors.push(
            ConfigError::new(fields.at("burst"), "a burst of 0 lets no call through")
                .hint("leave it out, or set the limit to 0 to forbid calls"),
        );
    }
    burst
}

/// Either the number alone or an object with `rpm` and `burst`.
fn read_limit(value: Value, path: String, errors: &mut Vec<ConfigError>) -> Limit {
    if !value.is_object() {
        let rpm = value.as_u64().and_then(|rpm| u32::try_from(rpm).ok());
        if rpm.is_none() {
            errors.push(
                ConfigError::new(path, format!("must be {WHOLE}, or an object"))
                    .hint(r#"30, or {"rpm": 30, "burst": 5}"#),
            );
        }
        return Limit::new(rpm.unwrap_or(0), None);
    }
    let Some(mut fields) = Fields::of(value, path, errors) else {
        return Limit::new(0, None);
    };
    let mistakes = errors.len();
    let rpm: Option<u32> = fields.take("rpm", WHOLE, errors);
    if rpm.is_none() && errors.len() == mistakes {
        errors.push(ConfigError::new(fields.at("rpm"), "is missing").hint("calls a minute"));
    }
    let limit = Limit::new(rpm.unwrap_or(0), burst(&mut fields, errors));
    fields.finish(errors);
    limit
}

/// The counter of a caller and a tool of a backend, whatever name it is called by. Reuses the memory of `key`.
pub(crate) fn tool_key(key: &mut String, subject: &str, backend: &str, own: &str) {
    write_key(key, subject, &[backend, "/", own]);
}

/// The counter of a caller and a method that is not a tool call. Its second separator keeps it apart
/// from every tool of that name.
pub(crate) fn method_key(key: &mut String, subject: &str, kind: &str, method: &str) {
    write_key(key, subject, &["\u{1f}", kind, ":", method]);
}

/// A separator inside a subject is written twice, so that no subject can pose as another with a name.
fn write_key(key: &mut String, subject: &str, parts: &[&str]) {
    key.clear();
    for char in subject.chars() {
        key.push(char);
        if char == SEPARATOR {
            key.push(SEPARATOR);
        }
    }
    key.push(SEPARATOR);
    for part in parts {
        key.push_str(part);
    }
}

/// The refusal of a caller over the limit.
pub(crate) fn refused(name: &str, subject: &str, limit: Limit, retry_after_ms: u64) -> Refusal {
    let rpm = limit.rpm;
    let details = vec![Field { name: "limit".to_owned(), value: rpm.to_string() }];
    if rpm == 0 {
        let message = format!("{name:?} is switched off for {subject} by a limit of 0 calls a minute.");
        return Refusal { details, ..Refusal::new("rate_limited", message) };
    }
    let calls = if rpm == 1 { "call" } else { "calls" };
    let seconds = retry_after_ms.div_ceil(1_000);
    let message =
        format!("{name:?} is limited to {rpm} {calls} a minute for {subject}; try again in {seconds} s.");
    Refusal { retry_after_ms: Some(retry_after_ms), details, ..Refusal::new("rate_limited", message) }
}

/// The refusal while the counters cannot be used: a limit that cannot be checked counts as reached.
pub(crate) fn unavailable() -> Refusal {
    Refusal::new("state_unavailable", "The rate limit could not be checked, so the call was refused.")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_documented_example_means_what_it_says() {
        let limits = Limits::read(json!({
            "default_rpm": 100, "burst": null,
            "per_tool": {"search": 30, "deploy": {"rpm": 2, "burst": 1}, "never": 0},
        }))
        .unwrap();
        assert_eq!(plain(&limits, "search"), Limit { rpm: 30, burst: 30 });
        assert_eq!(plain(&limits, "deploy"), Limit { rpm: 2, burst: 1 });
        assert_eq!(plain(&limits, "never"), Limit { rpm: 0, burst: 0 });
        assert_eq!(plain(&limits, "other"), Limit { rpm: 100, burst: 100 });
        assert_eq!(Limits::read(json!({})).unwrap().default, Limit { rpm: 1_000, burst: 1_000 });
        let short = Limits::read(json!({"burst": 5, "per_tool": {"a": 7}})).unwrap();
        assert_eq!((short.default.burst, plain(&short, "a").burst), (5, 7));
    }

    fn plain(limits: &Limits, name: &str) -> Limit {
        limits.of_tool(&Names { shown: name, own: name, backend: "one" })
    }

    #[test]
    fn a_limit_holds_by_every_name_and_pattern() {
        let limits = Limits::read(json!({
            "per_tool": {"deploy": 0, "read_*": 1, "*_file": 2, "write.file": 3, "two/get": 4},
        }))
        .unwrap();
        let rpm = |shown, own, backend| limits.of_tool(&Names { shown, own, backend }).rpm;
        assert_eq!(rpm("deploy", "deploy", "one"), 0);
        assert_eq!(rpm("two_deploy", "deploy", "two"), 0, "a namesake's, too");
        assert_eq!(rpm("two_ship", "ship", "two"), 1_000);
        assert_eq!(rpm("read_file", "read_file", "one"), 1, "of two patterns that say as much the lower one");
        assert_eq!(rpm("write_file", "write.file", "one"), 3);
        assert_eq!((rpm("get", "get", "two"), rpm("get", "get", "one")), (4, 1_000));
        let errors = Limits::read(json!({"per_tool": {"": 1, "a?": 1, "/x": 1, "ok": 1}})).unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let errors = Limits::read(json!({
            "default_rpm": -1, "burst": 0, "per_tols": {},
            "per_tool": {"a/b": "30", "c": {"rpm": 1.5, "brust": 2}, "d": {"burst": 0}},
        }))
        .unwrap_err();
        let mut paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/burst",
                "/default_rpm",
                "/per_tols",
                "/per_tool/a~1b",
                "/per_tool/c/brust",
                "/per_tool/c/rpm",
                "/per_tool/d/burst",
                "/per_tool/d/rpm",
            ]
        );
        assert_eq!(Limits::read(json!([])).unwrap_err().len(), 1);
        assert_eq!(Limits::read(json!({"per_tool": [1]})).unwrap_err()[0].path, "/per_tool");
    }

    #[test]
    fn the_caller_learns_what_when_and_for_whom() {
        let refusal = refused("search", "alice", Limit { rpm: 30, burst: 30 }, 1_001);
        assert_eq!(
            refusal.message,
            r#""search" is limited to 30 calls a minute for alice; try again in 2 s."#
        );
        assert_eq!((refusal.reason.as_str(), refusal.retry_after_ms), ("rate_limited", Some(1_001)));
        assert_eq!((refusal.details[0].name.as_str(), refusal.details[0].value.as_str()), ("limit", "30"));
        let never = refused("search", "alice", Limit { rpm: 0, burst: 0 }, 60_000);
        assert_eq!(never.retry_after_ms, None);
    }

    proptest! {
        /// Whatever a subject or a tool is called, another pair has another counter.
        #[test]
        fn two_pairs_never_share_a_counter(
            // A server's own name holds what it likes; a backend's begins with none of these.
            one in ("[a\u{1f}:]{0,5}", "[ab]{1,2}", "[a\u{1f}:/]{0,5}"),
            two in ("[a\u{1f}:]{0,5}", "[ab]{1,2}", "[a\u{1f}:/]{0,5}"),
        ) {
            let (mut first, mut second) = (String::new(), String::from("left over"));
            tool_key(&mut first, &one.0, &one.1, &one.2);
            tool_key(&mut second, &two.0, &two.1, &two.2);
            prop_assert_eq!(first == second, one == two);
            method_key(&mut second, &two.0, "other", &two.2);
            prop_assert_ne!(first, second);
        }
    }
}
