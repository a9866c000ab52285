//! When a backend counts as broken, and how long it is left alone.

use std::collections::HashMap;

use sentinel_plugin_sdk::ConfigError;
use serde_json::Value;

use sentinel_plugin_sdk::fields::{Fields, below};

/// The longest time that a circuit may stay open; its state is kept twice as long.
const LONGEST_MS: u64 = 12 * 3_600_000;

/// The rules for one backend. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    /// Failures in a row that open the circuit; 0 switches this condition off.
    pub(crate) consecutive_failures: u32,
    /// How long the circuit stays open the first time; doubles with every failed probe.
    pub(crate) recovery_ms: u64,
    /// Where the doubling ends.
    pub(crate) max_recovery_ms: u64,
    /// The share of failures in the window that opens the circuit; 0 switches this condition off.
    pub(crate) failure_rate: f64,
    /// Results in the window below which the share says nothing.
    pub(crate) min_calls: u32,
    /// The window of the failure rate.
    pub(crate) window_ms: u64,
    /// When a probe without an answer is given up and another call may try.
    pub(crate) probe_timeout_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            recovery_ms: 30_000,
            max_recovery_ms: 300_000,
            failure_rate: 0.5,
            min_calls: 20,
            window_ms: 60_000,
            probe_timeout_ms: 60_000,
        }
    }
}

/// The configuration, read and checked.
#[derive(Debug, Default)]
pub(crate) struct Config {
    default: Rules,
    backends: HashMap<String, Rules>,
}

impl Config {
    /// Reads `{"default": {...}, "backends": {"name": {...}}}`; what a backend leaves out is as in `default`.
    pub(crate) fn read(config: Value) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut read = Self::default();
        if let Some(mut fields) = Fields::of(config, String::new(), &mut errors) {
            if let Some(value) = fields.raw("default") {
                read.default = rules(value, fields.at("default"), read.default, &mut errors);
            }
            match fields.raw("backends") {
                Some(Value::Object(backends)) => {
                    for (name, value) in backends {
                        let path = below(&fields.at("backends"), &name);
                        let rules = rules(value, path, read.default, &mut errors);
                        read.backends.insert(name, rules);
                    }
                }
                Some(_) => errors
                    .push(ConfigError::new(fields.at("backends"), "must be an object of rules by backend")),
                None => {}
            }
            fields.finish(&mut errors);
        }
        if errors.is_empty() { Ok(read) } else { Err(errors) }
    }

    /// The rules of a backend; one that is not configured is guarded by the default.
    pub(crate) fn of(&self, backend: &str) -> &Rules {
        self.backends.get(backend).unwrap_or(&self.default)
    }
}

fn rules(value: Value, path: String, base: Rules, errors: &mut Vec<ConfigError>) -> Rules {
    let Some(mut fields) = Fields::of(value, path, errors) else {
        return base;
    };
    let count = "a whole number from 0 to 4294967295";
    let share = "a number from 0 to 1";
    let mut rules = Rules {
        consecutive_failures: fields
            .take("consecutive_failures", count, errors)
            .unwrap_or(base.consecutive_failures),
        min_calls: fields.take("min_calls", count, errors).unwrap_or(base.min_calls),
        failure_rate: fields.take("failure_rate", share, errors).unwrap_or(base.failure_rate),
        recovery_ms: time(&mut fields, "recovery_ms", 1, base.recovery_ms, errors),
        max_recovery_ms: base.max_recovery_ms,
        window_ms: time(&mut fields, "window_ms", 10, base.window_ms, errors),
        probe_timeout_ms: time(&mut fields, "probe_timeout_ms", 1, base.probe_timeout_ms, errors),
    };
    if !(0.0..=1.0).contains(&rules.failure_rate) {
        errors.push(
            ConfigError::new(fields.at("failure_rate"), format!("must be {share}"))
                .hint("0.5 opens the circuit when half of the calls fail"),
        );
    }
    // The inherited cap gives way to a longer recovery; one that was typed does not.
    let typed = fields.raw("max_recovery_ms");
    rules.max_recovery_ms = rules.max_recovery_ms.max(rules.recovery_ms);
    if let Some(value) = typed {
        let at = fields.at("max_recovery_ms");
        match value.as_u64().filter(|ms| (1..=LONGEST_MS).contains(ms)) {
            Some(ms) if ms < rules.recovery_ms => {
                errors.push(
                    ConfigError::new(at, "is shorter than recovery_ms")
                        .hint(format!("at least {}", rules.recovery_ms)),
                );
            }
            Some(ms) => rules.max_recovery_ms = ms,
            None => errors.push(ConfigError::new(at, format!("must be milliseconds from 1 to {LONGEST_MS}"))),
        }
    }
    fields.finish(errors);
    rules
}

fn time(fields: &mut Fields, key: &'static str, least: u64, base: u64, errors: &mut Vec<ConfigError>) -> u64 {
    let Some(value) = fields.raw(key) else {
        return base;
    };
    value.as_u64().filter(|ms| (least..=LONGEST_MS).contains(ms)).unwrap_or_else(|| {
        errors.push(ConfigError::new(
            fields.at(key),
            format!("must be milliseconds from {least} to {LONGEST_MS}"),
        ));
        base
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_backend_inherits_what_it_leaves_out() {
        let config = Config::read(json!({
            "default": {"consecutive_failures": 3, "recovery_ms": 400_000},
            "backends": {"files": {"failure_rate": 0, "recovery_ms": 10}},
        }))
        .unwrap();
        let other = Rules {
            consecutive_failures: 3,
            recovery_ms: 400_000,
            max_recovery_ms: 400_000,
            ..Rules::default()
        };
        assert_eq!(*config.of("other"), other);
        assert_eq!(*config.of("files"), Rules { failure_rate: 0.0, recovery_ms: 10, ..other });
        assert_eq!(*Config::read(json!({})).unwrap().of("any"), Rules::default());
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let errors = Config::read(json!({
            "defaults": {},
            "backends": {
                "a": {"failure_rate": 1.5, "window_ms": 0, "recovery": 1},
                "b/c": {"recovery_ms": 50, "max_recovery_ms": 20, "consecutive_failures": -1, "probe_timeout_ms": "1s"},
                "d": 5,
            },
        }))
        .unwrap_err();
        let mut paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/backends/a/failure_rate",
                "/backends/a/recovery",
                "/backends/a/window_ms",
                "/backends/b~1c/consecutive_failures",
                "/backends/b~1c/max_recovery_ms",
                "/backends/b~1c/probe_timeout_ms",
                "/backends/d",
                "/defaults",
            ]
        );
    }
}
