//! The kill switch: what is off right now, for new calls and for calls under way.
//!
//! Two lists say what is off. The configured one is `[kill_switch]` of the file, and a reload replaces it. The ordered one
//! ([`Orders`]) is what operators switched off while the gateway ran; a reload cannot undo it, and it is kept across
//! restarts.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::off::Off;
use super::orders::Orders;
use crate::call::{Call, Denial, Principal, Target};
use crate::config;
use crate::plugin::Row;

/// What is switched off for one endpoint.
#[derive(Debug)]
pub struct KillSwitch {
    configured: ArcSwap<Configured>,
    orders: Arc<Orders>,
}

/// What the file says, as it was typed and ready to be compared.
#[derive(Debug)]
struct Configured {
    settings: config::KillSwitch,
    off: Off,
}

impl KillSwitch {
    /// A switch with orders of its own, none so far.
    #[must_use]
    pub fn new(settings: &config::KillSwitch) -> Self {
        Self::under(settings, Arc::default())
    }

    /// A switch under these orders, which other endpoints may share.
    #[must_use]
    pub fn under(settings: &config::KillSwitch, orders: Arc<Orders>) -> Self {
        Self { configured: ArcSwap::from_pointee(configured(settings)), orders }
    }

    /// Applies the settings; calls under way to a target that is now off are cancelled. Says whether anything changed.
    pub fn set(&self, settings: &config::KillSwitch) -> bool {
        let next = configured(settings);
        if self.configured.load().off == next.off {
            return false;
        }
        self.configured.store(Arc::new(next));
        self.orders.flipped();
        true
    }

    /// What the file says.
    #[must_use]
    pub fn settings(&self) -> config::KillSwitch {
        self.configured.load().settings.clone()
    }

    /// What operators have ordered.
    #[must_use]
    pub fn orders(&self) -> &Arc<Orders> {
        &self.orders
    }

    /// Refuses a caller who is switched off, and everybody while everything is.
    ///
    /// # Errors
    /// A denial that says what is off.
    pub fn check_caller(&self, who: &Principal) -> Result<(), Denial> {
        self.orders.off().refuse_caller(who)
    }

    /// Refuses a call if its caller, its target or something else it names is off.
    ///
    /// # Errors
    /// A denial that says what is off.
    pub fn check(&self, call: &Call, also: &[Target]) -> Result<(), Denial> {
        let (ordered, configured) = (self.orders.off(), self.configured.load());
        ordered.refuse_caller(&call.principal)?;
        std::iter::once(&call.target).chain(also).try_for_each(|target| {
            configured.off.refuse(target)?;
            ordered.refuse(target)
        })
    }

    /// Whether a list must not show this to the caller.
    #[must_use]
    pub fn hides(&self, who: &Principal, row: &Row<'_>) -> bool {
        let ordered = self.orders.off();
        ordered.refuse_caller(who).is_err() || ordered.hides(row) || self.configured.load().off.hides(row)
    }

    /// Whether a whole backend is off.
    #[must_use]
    pub fn is_off(&self, backend: &str) -> bool {
        let ordered = self.orders.off();
        ordered.is_off(backend) || self.configured.load().off.is_off(backend)
    }

    /// Ends when the caller, the target, or what else the call names is switched off; a call under way races against it.
    pub async fn killed(&self, call: &Call, also: &[Target]) -> Denial {
        self.until_refused(|| self.check(call, also)).await
    }

    /// The same for a caller whose call has no target yet.
    pub async fn caller_killed(&self, who: &Principal) -> Denial {
        self.until_refused(|| self.check_caller(who)).await
    }

    async fn until_refused(&self, check: impl Fn() -> Result<(), Denial>) -> Denial {
        let mut flips = self.orders.flips();
        loop {
            if let Err(denial) = check() {
                return denial;
            }
            if flips.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn configured(settings: &config::KillSwitch) -> Configured {
    let off = Off::configured(settings);
    Configured { settings: settings.clone(), off }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::order::{Order, Switch};
    use super::*;
    use crate::call::{TargetKind, sample};

    fn target(name: &str, upstream: &str, backend: &str) -> Target {
        Target { upstream: upstream.into(), ..sample::tool(name, backend) }
    }

    fn call(subject: &str, target: Target) -> Call {
        sample::call(sample::principal(subject, "user"), target)
    }

    fn hidden(switch: &KillSwitch, call: &Call) -> bool {
        switch.hides(&call.principal, &Row { kind: call.target.kind, names: call.target.names() })
    }

    fn order(what: Switch) -> Order {
        Order { what, by: "ann".to_owned(), role: "admin".to_owned(), at_ms: 7, why: "a test".to_owned() }
    }

    #[test]
    fn a_tool_is_off_by_any_name_and_pattern() {
        let tool = target("two_files_delete", "files.delete", "two");
        let killed = |rule: &str, target: &Target| {
            let off = config::KillSwitch { disabled_tools: vec![rule.to_owned()], ..Default::default() };
            let configured = KillSwitch::new(&off);
            let ordered = KillSwitch::new(&config::KillSwitch::default());
            ordered.orders().order(&order(Switch::Tool(rule.to_owned()))).unwrap();
            let call = call("ann", target.clone());
            for switch in [&configured, &ordered] {
                assert_eq!(switch.check(&call, &[]).is_err(), hidden(switch, &call), "{rule}");
            }
            assert_eq!(hidden(&configured, &call), hidden(&ordered, &call), "{rule}");
            hidden(&ordered, &call)
        };
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
        let refused =
            |backend: &str| switch.check(&call("ann", target("open", "open", backend)), &[]).is_err();
        assert!(refused("browser_two") && switch.is_off("browser_two"));
        assert!(!refused("files") && !switch.is_off("files"));
    }

    #[test]
    fn what_else_a_call_names_counts_as_well() {
        let switch = KillSwitch::new(&config::KillSwitch::default());
        switch.orders().order(&order(Switch::Tool("crash".to_owned()))).unwrap();
        let (fine, off) = (target("echo", "echo", "one"), target("crash", "crash", "one"));
        let call = call("ann", fine);
        assert!(switch.check(&call, &[]).is_ok() && switch.check(&call, &[off]).is_err());
    }

    #[test]
    fn a_subject_and_everything_are_off_for_calls_and_lists() {
        let switch = KillSwitch::new(&config::KillSwitch::default());
        let (ann, bob) =
            (call("ann", target("echo", "echo", "one")), call("bob", target("echo", "echo", "one")));
        switch.orders().order(&order(Switch::Subject("ann".to_owned()))).unwrap();
        assert!(switch.check(&ann, &[]).is_err() && switch.check_caller(&ann.principal).is_err());
        assert!(hidden(&switch, &ann));
        assert!(switch.check(&bob, &[]).is_ok() && !hidden(&switch, &bob) && !switch.is_off("one"));
        switch.orders().order(&order(Switch::All)).unwrap();
        assert!(switch.check(&bob, &[]).is_err() && hidden(&switch, &bob) && switch.is_off("one"));
        switch.orders().lift(&Switch::All).unwrap();
        assert!(switch.check(&bob, &[]).is_ok() && switch.check(&ann, &[]).is_err());
    }

    #[test]
    fn a_reload_changes_the_configured_list_only() {
        let switch = KillSwitch::new(&config::KillSwitch::default());
        let tool = |name: &str| call("ann", target(name, name, "one"));
        switch.orders().order(&order(Switch::Tool("a".to_owned()))).unwrap();
        let off =
            |name: &str| config::KillSwitch { disabled_tools: vec![name.to_owned()], ..Default::default() };
        assert!(switch.set(&off("b")) && !switch.set(&off("b")));
        assert!(switch.check(&tool("a"), &[]).is_err() && switch.check(&tool("b"), &[]).is_err());
        assert!(switch.set(&config::KillSwitch::default()));
        assert!(switch.check(&tool("a"), &[]).is_err() && switch.check(&tool("b"), &[]).is_ok());
    }

    #[tokio::test]
    async fn a_call_under_way_hears_of_either_list() {
        let switch = KillSwitch::new(&config::KillSwitch::default());
        let one = call("ann", target("echo", "echo", "one"));
        let (denial, ()) = tokio::join!(switch.killed(&one, &[]), async {
            tokio::task::yield_now().await;
            switch.orders().order(&order(Switch::Backend("one".to_owned()))).unwrap();
        });
        assert!(denial.message.contains("backend \"one\""), "{denial:?}");
        switch.orders().lift(&Switch::Backend("one".to_owned())).unwrap();
        let off = config::KillSwitch { disabled_tools: vec!["echo".to_owned()], ..Default::default() };
        let (denial, _) = tokio::join!(switch.killed(&one, &[]), async {
            tokio::task::yield_now().await;
            switch.set(&off)
        });
        assert!(denial.message.contains("tool \"echo\""), "{denial:?}");
        let (denial, ()) = tokio::join!(switch.caller_killed(&one.principal), async {
            tokio::task::yield_now().await;
            switch.orders().order(&order(Switch::Subject("a*".to_owned()))).unwrap();
        });
        assert!(denial.message.contains("caller \"ann\""), "{denial:?}");
    }
}
