//! The metrics of every plugin: how often each question was asked, the answers, their time, faults, and the memory of
//! its instances. The handle of each metric is cached.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::telemetry::PLUGIN_DURATION;

/// What a plugin is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Authenticate,
    Check,
    Settle,
    Visible,
    Request,
    Response,
    Catalog,
    Sieve,
}

/// What it said, or that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Allow,
    Deny,
    /// It wants a person to be asked.
    Ask,
    Abstain,
    /// It was told something, and there was nothing to say.
    Done,
    Fault(&'static str),
}

const HOOKS: usize = 8;
const VERDICTS: usize = 6;

impl Hook {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Check => "check",
            Self::Settle => "settle",
            Self::Visible => "visible",
            Self::Request => "on-request",
            Self::Response => "on-response",
            Self::Catalog => "on-catalog",
            Self::Sieve => "sieve",
        }
    }
}

impl Said {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
            Self::Abstain => "abstain",
            Self::Done => "done",
            Self::Fault(_) => "fault",
        }
    }

    /// The kind of the fault.
    pub(super) fn fault(self) -> Option<&'static str> {
        if let Self::Fault(kind) = self { Some(kind) } else { None }
    }

    fn index(self) -> usize {
        match self {
            Self::Allow => 0,
            Self::Deny => 1,
            Self::Abstain => 2,
            Self::Done => 3,
            Self::Fault(_) => 4,
            Self::Ask => 5,
        }
    }
}

/// The metrics of one plugin.
#[derive(Debug)]
pub(super) struct Meters {
    plugin: Arc<str>,
    hooks: [OfHook; HOOKS],
    pub(super) instances: Instances,
}

#[derive(Debug, Default)]
struct OfHook {
    verdicts: [OnceLock<Counter>; VERDICTS],
    duration: OnceLock<Histogram>,
}

impl Meters {
    pub(super) fn new(plugin: Arc<str>) -> Self {
        let instances = Instances {
            count: metrics::gauge!("sentinel_plugin_instances", "plugin" => plugin.to_string()),
            bytes: metrics::gauge!("sentinel_plugin_memory_bytes", "plugin" => plugin.to_string()),
        };
        Self { plugin, hooks: Default::default(), instances }
    }

    /// Counts one question and its answer.
    pub(super) fn count(&self, hook: Hook, said: Said, took: Duration) {
        let numbers = &self.hooks[hook as usize];
        let plugin = || self.plugin.to_string();
        let calls = numbers.verdicts[said.index()].get_or_init(|| {
            let (hook, verdict) = (hook.as_str(), said.as_str());
            metrics::counter!("sentinel_plugin_calls_total", "plugin" => plugin(), "hook" => hook, "verdict" => verdict)
        });
        calls.increment(1);
        let duration = numbers.duration.get_or_init(
            || metrics::histogram!(PLUGIN_DURATION, "plugin" => plugin(), "hook" => hook.as_str()),
        );
        duration.record(took.as_secs_f64());
        if let Some(kind) = said.fault() {
            metrics::counter!("sentinel_plugin_faults_total", "plugin" => plugin(), "kind" => kind)
                .increment(1);
        }
    }
}

/// What the instances of a plugin hold together.
#[derive(Clone, Debug)]
pub(super) struct Instances {
    count: Gauge,
    bytes: Gauge,
}

/// What one instance holds, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    of: Instances,
    bytes: usize,
}

impl Held {
    /// One more.
    pub(super) fn new(of: Instances) -> Self {
        of.count.increment(1.0);
        Self { of, bytes: 0 }
    }

    /// It holds so much now.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.of.bytes.increment(bytes as f64 - self.bytes as f64);
            self.bytes = bytes;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.bytes.decrement(self.bytes as f64);
        self.of.count.decrement(1.0);
    }
}
