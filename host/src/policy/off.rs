//! What one list of the kill switch says, and what follows for a call and for a row of a list.

use sentinel_names::{Patterns, Rules};

use super::order::{Order, Switch};
use crate::call::{Denial, DenialKind, Principal, Target, TargetKind};
use crate::config;
use crate::plugin::Row;

/// What a list says, ready to be compared with calls.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Off {
    tools: Rules,
    backends: Patterns,
    subjects: Patterns,
    all: bool,
}

impl Off {
    /// What the file switches off.
    pub(super) fn configured(settings: &config::KillSwitch) -> Self {
        Self {
            tools: Rules::new(settings.disabled_tools.iter().map(String::as_str)),
            backends: Patterns::new(settings.disabled_backends.iter().map(String::as_str)),
            ..Self::default()
        }
    }

    /// Whether a whole backend is off.
    pub(super) fn is_off(&self, backend: &str) -> bool {
        self.all || self.backends.matches(backend)
    }

    /// What these orders switch off.
    pub(super) fn ordered(orders: &[Order]) -> Self {
        let named = |of: fn(&Switch) -> bool| {
            orders.iter().map(|order| &order.what).filter(move |what| of(what)).map(Switch::name)
        };
        Self {
            tools: Rules::new(named(|what| matches!(what, Switch::Tool(_)))),
            backends: Patterns::new(named(|what| matches!(what, Switch::Backend(_)))),
            subjects: Patterns::new(named(|what| matches!(what, Switch::Subject(_)))),
            all: orders.iter().any(|order| order.what == Switch::All),
        }
    }

    pub(super) fn refuse_caller(&self, who: &Principal) -> Result<(), Denial> {
        if self.all {
            return Err(killed("everything is switched off by the operator".to_owned()));
        }
        if self.subjects.matches(&who.subject) {
            return Err(killed(format!("the caller \"{}\" is switched off by the operator", who.subject)));
        }
        Ok(())
    }

    /// By any name of a tool or a route.
    pub(super) fn refuse(&self, target: &Target) -> Result<(), Denial> {
        let off = |what: &str, name: &str| {
            Err(killed(format!("{what} \"{name}\" is switched off by the operator")))
        };
        if is_named(target.kind) && self.tools.hits(&target.names()) {
            return off(target.kind.as_str(), &target.name);
        }
        if self.backends.matches(&target.backend) {
            return off("backend", &target.backend);
        }
        Ok(())
    }

    pub(super) fn hides(&self, row: &Row<'_>) -> bool {
        self.backends.matches(row.names.backend) || (is_named(row.kind) && self.tools.hits(&row.names))
    }
}

/// Whether `disabled_tools` names targets of this kind.
fn is_named(kind: TargetKind) -> bool {
    matches!(kind, TargetKind::Tool | TargetKind::Route)
}

fn killed(message: String) -> Denial {
    Denial::new(DenialKind::Killed, "killed", message)
}
