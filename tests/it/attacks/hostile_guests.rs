//! Guests written by hand, in ways no compiler would: nothing they do reaches beyond their budget.
//!
//! Each ends as a fault with a name, again with every new instance, and another plugin of the same engine answers the next
//! call. [`written`] has the small language they are written in.

mod at_birth;
mod borders;
mod budgets;
mod other_roles;
mod through_the_gateway;
pub(crate) mod written;

use std::sync::{Arc, OnceLock};

use sentinel_gateway::config::Stage;
use sentinel_gateway::plugin::{Fault, LoadError, Plugin, Verdict};
use sentinel_gateway::state::Store;
use serde_json::json;

use crate::guests::{call, guard_settings, load_from, settings};
use written::{Written, guard};

/// A plugin of the same engine that behaves.
fn neighbour() -> &'static Plugin {
    static NEIGHBOUR: OnceLock<Plugin> = OnceLock::new();
    NEIGHBOUR.get_or_init(|| guard().load().unwrap())
}

fn the_others_go_on(name: &str) {
    let answer = neighbour().check(&call("order"));
    assert!(matches!(answer, Ok(Ok(Verdict::Allow(None)))), "after {name}: {answer:?}");
}

/// What its checks come to, twice: the second is made by another instance.
fn fault(name: &str, plugin: &Plugin) -> Fault {
    let faults = [(); 2].map(|()| {
        let error = plugin.check(&call("order")).expect_err(name);
        assert_eq!(&*error.plugin, "written", "{name}");
        the_others_go_on(name);
        error.fault
    });
    assert_eq!(faults[0], faults[1], "{name}");
    faults[0].clone()
}

/// What its first instance comes to.
fn stillborn(name: &str, written: &Written) -> Fault {
    ended_at_birth(name, written.load())
}

fn ended_at_birth(name: &str, loaded: Result<Plugin, LoadError>) -> Fault {
    let fault = match loaded {
        Err(LoadError::Start(fault)) => fault,
        other => panic!("{name}: {other:?}"),
    };
    the_others_go_on(name);
    fault
}

fn trap(name: &str, fault: &Fault) -> String {
    match fault {
        Fault::Trap(text) => text.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn limit(name: &str, fault: &Fault) -> String {
    match fault {
        Fault::Limit(text) => text.clone(),
        other => panic!("{name}: {other:?}"),
    }
}
