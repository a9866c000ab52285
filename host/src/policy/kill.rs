//! The kill switch: what is off right now, for new calls and for those already running.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sentinel_names::{Patterns, Rules};
use tokio::sync::watch;

use crate::call::{Denial, Refused, Target, TargetKind};
use crate::config;
use crate::plugin::Row;

/// Tools and backends that are switched off.
#[derive(Debug)]
pub struct KillSwitch {
    off: ArcSwap<Off>,
    flips: watch::Sender<u64>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Off {
    tools: Rules,
    backends: Patterns,
}

impl KillSwitch {
    #[must_use]
    pub fn new(settings: &config::KillSwitch) -> Self {
        Self { off: ArcSwap::from_pointee(off(settings)), flips: watch::Sender::new(0) }
    }

    /// Flips to what the settings say; running calls hear of it. Says whether anything changed.
    pub fn set(&self, settings: &config::KillSwitch) -> bool {
        let next = off(settings);
        if **self.off.load() == next {
            return false;
        }
        self.off.store(Arc::new(next));
        self.flips.send_modify(|count| *count += 1);
        true
    }

    /// Refuses what is off, by any name of the tool.
    ///
    /// # Errors
    /// A denial that says whether the tool or its backend is off.
    pub fn check(&self, target: &Target) -> Result<(), Denial> {
        let off = self.off.load();
        let denied = |what: &str, name: &str| {
            Err(Denial::new(
                Refused::Killed,
                "killed",
                format!("{what} \"{name}\" is switched off by the operator"),
            ))
        };
        if target.kind == TargetKind::Tool && off.tools.hits(&target.names()) {
            return denied("tool", &target.name);
        }
        if off.backends.matches(&target.backend) {
            return denied("backend", &target.backend);
        }
        Ok(())
    }

    /// The same for a call that names more than its target.
    ///
    /// # Errors
    /// A denial that says what is off.
    pub fn check_all(&self, target: &Target, also: &[Target]) -> Result<(), Denial> {
        self.check(target)?;
        also.iter().try_for_each(|target| self.check(target))
    }

    /// Whether a list must not show this.
    #[must_use]
    pub fn hides(&self, row: &Row<'_>) -> bool {
        let off = self.off.load();
        off.backends.matches(row.names.backend)
            || (row.kind == TargetKind::Tool && off.tools.hits(&row.names))
    }

    /// Whether a whole backend is off.
    #[must_use]
    pub fn is_off(&self, backend: &str) -> bool {
        self.off.load().backends.matches(backend)
    }

    /// Ends when the target, or what else the call names, is switched off; a running call races against it.
    pub async fn killed(&self, target: &Target, also: &[Target]) -> Denial {
        let mut flips = self.flips.subscribe();
        loop {
            if let Err(denial) = self.check_all(target, also) {
                return denial;
            }
            if flips.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn off(settings: &config::KillSwitch) -> Off {
    Off {
        tools: Rules::new(settings.disabled_tools.iter().map(String::as_str)),
        backends: Patterns::new(settings.disabled_backends.iter().map(String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, upstream: &str, backend: &str) -> Target {
        Target {
            kind: TargetKind::Tool,
            name: name.into(),
            backend: backend.into(),
            upstream: upstream.into(),
        }
    }

    #[test]
    fn a_tool_is_off_by_any_name_and_pattern() {
        let killed = |rule: &str, target: &Target| {
            let off = config::KillSwitch { disabled_tools: vec![rule.to_owned()], ..Default::default() };
            let switch = KillSwitch::new(&off);
            let hidden = switch.hides(&Row { kind: target.kind, names: target.names() });
            assert_eq!(switch.check(target).is_err(), hidden, "{rule}");
            hidden
        };
        let tool = target("two_files_delete", "files.delete", "two");
        for rule in
            ["two_files_delete", "files.delete", "two/files.delete", "two/*", "files_delete", "*delete"]
        {
            assert!(killed(rule, &tool), "{rule}");
        }
        for rule in ["delete", "one/*", "two", "two/files_delete"] {
            assert!(!killed(rule, &tool), "{rule}");
        }
        let prompt = Target { kind: TargetKind::Prompt, ..tool };
        assert!(!killed("*", &prompt), "the rule speaks of tools");
    }

    #[test]
    fn a_star_switches_backends_off() {
        let off =
            config::KillSwitch { disabled_backends: vec!["browser_*".to_owned()], ..Default::default() };
        let switch = KillSwitch::new(&off);
        assert!(
            switch.check(&target("open", "open", "browser_two")).is_err() && switch.is_off("browser_two")
        );
        assert!(switch.check(&target("open", "open", "files")).is_ok() && !switch.is_off("files"));
    }
}
