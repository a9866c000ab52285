//! The kill switch: what is off right now, for new calls and for those already running.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::call::{Denial, Refused, Target, TargetKind};
use crate::config;

/// Tools and backends that are switched off.
#[derive(Debug)]
pub struct KillSwitch {
    off: ArcSwap<Off>,
    flips: watch::Sender<u64>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Off {
    tools: HashSet<String>,
    backends: HashSet<String>,
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

    /// Refuses what is off. The tool is looked up by both its names.
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
        if target.kind == TargetKind::Tool
            && (off.tools.contains(&*target.name) || off.tools.contains(&*target.upstream))
        {
            return denied("tool", &target.name);
        }
        if off.backends.contains(&*target.backend) {
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
    pub fn hides(&self, kind: TargetKind, name: &str, backend: &str) -> bool {
        let off = self.off.load();
        off.backends.contains(backend) || (kind == TargetKind::Tool && off.tools.contains(name))
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
        tools: settings.disabled_tools.iter().cloned().collect(),
        backends: settings.disabled_backends.iter().cloned().collect(),
    }
}
