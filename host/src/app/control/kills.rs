//! Switching off and on again.

use std::time::Duration;

use sentinel_names::{Names, Rules, check, fits, safe};
use tokio::time::Instant;

use super::Plane;
use crate::call::{Call, TargetKind};
use crate::config::nearest;
use crate::control::{ControlError, Permitted, Switch, Time};
use crate::mcp::catalog::List;
use crate::policy::{Order, OrdersError};

/// How long is waited for the end of calls under way, to say how many there were.
const ENDED_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at them.
const PAUSE: Duration = Duration::from_millis(5);
/// More names than that are not compared letter by letter.
const MANY: usize = 2_000;

impl Plane {
    /// Switches something off: at once, and then in the file.
    pub(super) async fn kill(
        &self,
        permitted: &Permitted,
        what: &Switch,
        even_unknown: bool,
        why: &str,
    ) -> Result<String, ControlError> {
        let note = self.meaning(what, even_unknown)?;
        let principal = &permitted.call().principal;
        let order = Order {
            what: what.clone(),
            by: principal.subject.clone(),
            role: principal.role.clone(),
            at_ms: Time::now().timestamp().as_millisecond(),
            why: why.to_owned(),
        };
        let concerned = concerns(what);
        let under_way = self.activity().flights.count_of(&concerned);
        let orders = self.orders().clone();
        // The first thing that happens there is that it is off. What follows takes as long as the disk.
        let ordering = tokio::task::spawn_blocking(move || orders.order(&order));
        let ordered = ordering.await.map_err(|error| ControlError::Failed(error.to_string()))?;
        self.judge_standing().await;
        self.lists_changed();
        let until = Instant::now() + ENDED_WITHIN;
        let mut left = self.activity().flights.count_of(&concerned);
        while left > 0 && Instant::now() < until {
            tokio::time::sleep(PAUSE).await;
            left = self.activity().flights.count_of(&concerned);
        }
        let calls = match (under_way, left) {
            (0, 0) => String::new(),
            (1, 0) => "; 1 call under way was ended".to_owned(),
            (all, 0) => format!("; {all} calls under way were ended"),
            (_, left) => format!("; {left} calls under way have not ended yet"),
        };
        match ordered {
            Ok(true) => Ok(format!("{what} is switched off{calls}{note}")),
            Ok(false) => Ok(format!("{what} was switched off already, and stays so{calls}{note}")),
            Err(error @ (OrdersError::TooMany { .. } | OrdersError::TooLong { .. })) => {
                Err(ControlError::Refused(format!("{what} is not switched off: {error}")))
            }
            Err(error) => Err(ControlError::Failed(format!(
                "{what} is switched off now{calls}, but would be on again after a restart, because the order cannot be kept: {error}"
            ))),
        }
    }

    /// Takes an order back.
    pub(super) async fn revive(&self, permitted: &Permitted, what: &Switch) -> Result<String, ControlError> {
        let (orders, wanted) = (self.orders().clone(), what.clone());
        let lifting = tokio::task::spawn_blocking(move || orders.lift(&wanted));
        let lifted = lifting.await.map_err(|error| ControlError::Failed(error.to_string()))?;
        let lifted = lifted.map_err(|error| {
            ControlError::Failed(format!("{what} stays switched off, because that cannot be kept: {error}"))
        })?;
        let still = self.still_off(what);
        let Some(order) = lifted else {
            return Err(ControlError::Unknown(match still {
                Some(why) => {
                    format!("no order says that {what} is off, so there is none to take back; {why}")
                }
                None => format!("no order says that {what} is off{}", self.ordered()),
            }));
        };
        self.judge_standing().await;
        self.lists_changed();
        let who = &permitted.call().principal.subject;
        tracing::info!(who, by = order.by, why = order.why, "the order is taken back: {what}");
        Ok(match still {
            Some(why) => format!("the order is taken back, and {why}"),
            None => format!("{what} is on again"),
        })
    }

    /// What a kill would mean; nothing to add if it is plain.
    fn meaning(&self, what: &Switch, even_unknown: bool) -> Result<String, ControlError> {
        let unknown = |message: String| {
            if even_unknown {
                return Ok(format!("; {message} so far"));
            }
            Err(ControlError::Unknown(format!(
                "{message}; nothing is switched off. With --even-unknown it is, for whatever comes to be called so"
            )))
        };
        match what {
            Switch::All => Ok(String::new()),
            Switch::Tool(name) => {
                check(name).map_err(|why| ControlError::Refused(format!("{name:?} {why}")))?;
                if self.is_tool(name) {
                    return Ok(String::new());
                }
                unknown(format!("{name:?} means no tool of any backend{}", self.meant(name)))
            }
            Switch::Backend(name) => {
                let known = self.backends();
                if name.is_empty() {
                    return Err(ControlError::Refused("a backend has a name".to_owned()));
                }
                if known.iter().any(|backend| fits(name, backend)) {
                    return Ok(String::new());
                }
                unknown(format!("there is no backend {name:?}{}", one_of(name, &known)))
            }
            // The holder of a token may come at any time, so no name of a caller is unknown for good.
            Switch::Subject(name) if name.is_empty() => {
                Err(ControlError::Refused("a subject has a name".to_owned()))
            }
            Switch::Subject(name) => {
                let seen = self.orders().subjects().iter().any(|subject| fits(name, subject));
                Ok(if seen {
                    String::new()
                } else {
                    "; nobody of that name has come since the gateway started".to_owned()
                })
            }
        }
    }

    /// Whether a name or pattern means a tool that is known, listed or hidden.
    fn is_tool(&self, name: &str) -> bool {
        let rules = Rules::new([name]);
        self.endpoints().iter().any(|endpoint| {
            let generation = endpoint.pipeline.current();
            let registry = generation.registry();
            let catalog = registry.glimpse();
            let listed = catalog.list(List::Tools).iter().any(|entry| rules.hits(&entry.names()));
            let own = || {
                let tools = registry.own_tools();
                tools.iter().any(|(backend, own)| rules.hits(&Names { shown: &safe(own), own, backend }))
            };
            listed || own()
        })
    }

    /// What a name of a tool may have been meant for.
    fn meant(&self, name: &str) -> String {
        let mut names: Vec<String> = Vec::new();
        let mut silent: Vec<String> = Vec::new();
        for endpoint in self.endpoints().iter() {
            let generation = endpoint.pipeline.current();
            let catalog = generation.registry().glimpse();
            names.extend(catalog.list(List::Tools).iter().take(MANY).map(|entry| entry.shown.to_string()));
            silent.extend(generation.registry().unlisted().iter().map(|backend| backend.name().to_string()));
        }
        let near = nearest(name, names.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        if silent.is_empty() {
            return near;
        }
        format!("{near} (not heard from yet: {})", silent.join(", "))
    }

    pub(super) fn backends(&self) -> Vec<String> {
        let mut names = Vec::new();
        for endpoint in self.endpoints().iter() {
            let generation = endpoint.pipeline.current();
            names.extend(generation.registry().backends().iter().map(|backend| backend.name().to_string()));
        }
        names
    }

    /// Why something is off though its order is taken back.
    fn still_off(&self, what: &Switch) -> Option<String> {
        if *what != Switch::All && self.orders().list().iter().any(|order| order.what == Switch::All) {
            return Some(
                "everything is switched off by another order: `revive all` takes that back".to_owned(),
            );
        }
        let same_kind = |other: &Switch| match (what, other) {
            (Switch::Tool(name), Switch::Tool(pattern))
            | (Switch::Backend(name), Switch::Backend(pattern))
            | (Switch::Subject(name), Switch::Subject(pattern)) => fits(pattern, name),
            _ => false,
        };
        if let Some(other) = self.orders().list().iter().find(|order| same_kind(&order.what)) {
            return Some(format!("it is off by the order for {}", other.what));
        }
        for endpoint in self.endpoints().iter() {
            let settings = endpoint.pipeline.policy().kill().settings();
            let (key, list) = match what {
                Switch::Tool(_) => ("disabled_tools", settings.disabled_tools),
                Switch::Backend(_) => ("disabled_backends", settings.disabled_backends),
                Switch::Subject(_) | Switch::All => continue,
            };
            if let Some(pattern) = list.iter().find(|pattern| fits(pattern, what.name())) {
                let file = match &endpoint.mount {
                    None => self.config.clone(),
                    Some(mount) => format!("the file of {mount}"),
                };
                return Some(format!(
                    "it is off by {pattern:?} in [kill_switch] {key} of {file}: take it out there, and type `config apply`"
                ));
            }
        }
        None
    }

    fn ordered(&self) -> String {
        let orders = self.orders().list();
        if orders.is_empty() {
            return "; there are no orders".to_owned();
        }
        let names: Vec<String> = orders.iter().take(20).map(|order| order.what.to_string()).collect();
        format!("; off by order: {}", names.join(", "))
    }
}

/// Which calls a switch is about.
fn concerns(what: &Switch) -> Box<dyn Fn(&Call) -> bool + Send + Sync> {
    match what.clone() {
        Switch::All => Box::new(|_| true),
        Switch::Tool(name) => {
            let rules = Rules::new([name.as_str()]);
            Box::new(move |call| call.target.kind == TargetKind::Tool && rules.hits(&call.target.names()))
        }
        Switch::Backend(name) => Box::new(move |call| fits(&name, &call.target.backend)),
        Switch::Subject(name) => Box::new(move |call| fits(&name, &call.principal.subject)),
    }
}

/// The name that was meant, or all there are.
pub(super) fn one_of(name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near:?}?"),
        None if known.is_empty() => "; there are none".to_owned(),
        None => format!("; there are {}", known.join(", ")),
    }
}
