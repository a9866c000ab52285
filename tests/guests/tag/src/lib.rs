//! The well-behaved sample among the guests: refuses the tools it is told to, and hides them from lists.
//!
//! Configuration: `{"deny_tools": ["name", ..]}`.

use std::sync::OnceLock;

use sentinel_plugin_sdk::{
    Admission, Call, ConfigError, Entry, Lifecycle, Outcome, Permit, Refusal, TargetKind, Verdict,
    Visibility, read_config,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    deny_tools: Vec<String>,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

/// Unconfigured means denied.
fn denied(kind: TargetKind, name: &str) -> bool {
    kind == TargetKind::Tool
        && CONFIG.get().is_none_or(|config| config.deny_tools.iter().any(|tool| tool == name))
}

/// A guard with visibility that refuses what it is told to.
#[derive(Debug)]
pub struct Tag;

impl Lifecycle for Tag {
    fn configure(json: String) -> Result<(), Vec<ConfigError>> {
        let config = read_config(&json)?;
        CONFIG.set(config).map_err(|_| vec![ConfigError::new("", "configured twice")])
    }
}

impl Admission for Tag {
    fn check(call: &Call) -> Result<Verdict, Refusal> {
        let name = call.name();
        if denied(call.kind(), &name) {
            return Err(Refusal::new("tagged", format!("The tool {name} is tagged.")));
        }
        Ok(Verdict::ALLOW)
    }

    fn settle(_call: &Call, _permit: Permit, _outcome: Outcome, _latency_ns: u64) {}
}

impl Visibility for Tag {
    fn visible(_call: &Call, entries: Vec<Entry>) -> Vec<bool> {
        entries.iter().map(|entry| !denied(entry.kind, &entry.name)).collect()
    }
}

sentinel_plugin_sdk::export!(Tag: admission, visibility);
