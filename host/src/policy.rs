//! Decides: who is calling, and whether a call may go on.
//!
//! The order is S5's: authenticated caller → kill switch → guards (rate limit, RBAC, the operator's own) →
//! arguments against the tool's schema → breaker. The kill switch and the schema check are the host's; every
//! other decision is a plugin's. What passes is a [`Permitted`], which nothing else can make.

use std::sync::Arc;

use arc_swap::ArcSwap;

mod caller;
mod chain;
mod kill;
mod permit;

pub use caller::Caller;
pub use chain::Chain;
pub(crate) use chain::denial;
pub use kill::KillSwitch;
pub use permit::Permitted;

use self::permit::Permits;
use crate::call::{Call, Denial, Principal, Refused};
use crate::mcp::schema::{ArgumentError, ArgumentSchema};
use crate::mcp::splice;
use crate::plugin::Row;
use crate::state::Clock;

/// All decisions, with the parts that can change while the gateway runs.
#[derive(Debug)]
pub struct Policy {
    chain: ArcSwap<Chain>,
    kill: KillSwitch,
    clock: Clock,
}

impl Policy {
    #[must_use]
    pub fn new(chain: Chain, kill: KillSwitch, clock: Clock) -> Self {
        Self { chain: ArcSwap::from_pointee(chain), kill, clock }
    }

    /// The kill switch, to flip it or to be told when it flips.
    #[must_use]
    pub fn kill(&self) -> &KillSwitch {
        &self.kill
    }

    /// The plugins in force.
    #[must_use]
    pub fn chain(&self) -> Arc<Chain> {
        self.chain.load_full()
    }

    /// Puts another chain in force; calls that already have a permit settle with the old one.
    pub fn replace(&self, chain: Chain) {
        self.chain.store(Arc::new(chain));
    }

    /// Who is calling: from the cache as long as the authenticator said, else by asking it again.
    ///
    /// # Errors
    /// The authenticator's refusal, also when a credential has expired since the last call.
    pub fn identify(&self, caller: &Caller) -> Result<Arc<Principal>, Denial> {
        caller.identify(&self.chain.load(), self.clock.unix_ms())
    }

    /// Everything between knowing the caller and doing what was asked.
    ///
    /// # Errors
    /// The first refusal. Permits given before it are settled as cancelled.
    pub fn decide(&self, call: &Arc<Call>, schema: Option<&ArgumentSchema>) -> Result<Permitted, Denial> {
        self.kill.check(&call.target)?;
        let chain = self.chain.load();
        let mut permits = Permits::new(call.clone());
        chain.admit(call, &chain.guards, &mut permits)?;
        if let Some(schema) = schema {
            arguments_fit(call, schema)?;
        }
        chain.admit(call, &chain.breakers, &mut permits)?;
        Ok(Permitted::new(permits))
    }

    /// Which rows of a list the caller may know of.
    ///
    /// # Errors
    /// A plugin failed and its failures deny.
    pub fn visible(&self, call: &Arc<Call>, rows: &[Row<'_>]) -> Result<Vec<bool>, Denial> {
        let mut visible: Vec<bool> = rows.iter().map(|row| !self.kill.hides(row)).collect();
        self.chain.load().visible(call, rows, &mut visible)?;
        Ok(visible)
    }
}

fn arguments_fit(call: &Call, schema: &ArgumentSchema) -> Result<(), Denial> {
    let arguments = splice::get(call.params.get(), "/arguments");
    let tool = &call.target.name;
    schema.check(arguments).map_err(|error| match error {
        ArgumentError::Mismatch { pointer, message } => {
            let place = if pointer.is_empty() { "the arguments".to_owned() } else { format!("`{pointer}`") };
            let mut denial = Denial::new(
                Refused::InvalidArguments,
                "invalid_arguments",
                format!("invalid arguments for \"{tool}\": {place}: {message}"),
            );
            denial.details.push(("pointer".to_owned(), pointer));
            denial
        }
        ArgumentError::Schema(reason) => {
            tracing::error!(tool = %tool, backend = %call.target.backend, "unusable inputSchema: {reason}");
            Denial::new(
                Refused::Unavailable,
                "schema_unusable",
                format!(
                    "backend \"{}\" describes \"{tool}\" with a schema that cannot be used: {reason}",
                    call.target.backend
                ),
            )
        }
    })
}
