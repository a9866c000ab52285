//! Decides: who is calling, and whether a call may go on.
//!
//! The order: authenticated caller → kill switch → guards (rate limit, RBAC, the operator's own) →
//! arguments against the tool's schema → breaker. The kill switch and the schema check are the host's; every
//! other decision is a plugin's. What passes is a [`Permitted`], which nothing else can make.

use std::sync::Arc;

mod caller;
mod chain;
mod judges;
mod kill;
mod off;
mod order;
mod orders;
mod permit;
pub(crate) mod refusal;
mod weighed;

pub use caller::Caller;
pub use chain::Chain;
pub use kill::KillSwitch;
pub use order::{Order, Switch};
pub use orders::{Orders, OrdersError, OrdersFile};
pub use permit::Permitted;
pub use weighed::{Decision, Pending};

use self::caller::Moment;
use self::judges::Judges;
use self::permit::Permits;
use crate::call::{Call, Denial, DenialKind, Json, Principal, Target, TargetKind};
use crate::mcp::schema::{ArgumentError, ArgumentSchema};
use crate::mcp::splice;
use crate::plugin::Row;
use crate::state::Clock;

/// All decisions of one generation. The kill switch and the processes that judge arguments outlive it.
#[derive(Debug)]
pub struct Policy {
    chain: Arc<Chain>,
    kill: Arc<KillSwitch>,
    clock: Clock,
    judges: Arc<Judges>,
    /// A number that grows whenever a generation has other authenticators than the one before.
    epoch: u64,
}

impl Policy {
    #[must_use]
    pub fn new(chain: Chain, kill: KillSwitch, clock: Clock) -> Self {
        let (chain, kill) = (Arc::new(chain), Arc::new(kill));
        Self { chain, kill, clock, judges: Arc::default(), epoch: 0 }
    }

    /// The policy of the next generation; calls that already have a permit settle with the old plugins. If its
    /// authenticators are different, what the old ones said of callers holds no longer, and every caller is
    /// authenticated again.
    #[must_use]
    pub fn following(&self, chain: Chain) -> Self {
        let epoch = if self.chain.judges_callers_as(&chain) { self.epoch } else { self.epoch + 1 };
        let (kill, judges) = (self.kill.clone(), self.judges.clone());
        Self { chain: Arc::new(chain), kill, clock: self.clock.clone(), judges, epoch }
    }

    /// Whether callers who are known to the other one are known to this one.
    #[must_use]
    pub fn knows_those_of(&self, other: &Self) -> bool {
        self.epoch == other.epoch
    }

    /// The kill switch, to flip it or to be told when it flips.
    #[must_use]
    pub fn kill(&self) -> &Arc<KillSwitch> {
        &self.kill
    }

    /// The plugins in force.
    #[must_use]
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Who is calling: from the cache as long as the authenticator said, else by asking it again.
    ///
    /// # Errors
    /// The authenticator's refusal, also when a credential has expired since the last call.
    pub fn identify(&self, caller: &Caller) -> Result<Arc<Principal>, Denial> {
        let now = Moment { epoch: self.epoch, ms: self.clock.unix_ms() };
        caller.identify(&self.chain, now, |who| self.kill.orders().saw(&who.subject))
    }

    /// Who a caller is, if that is known and holds for so many milliseconds more; no authenticator is asked.
    #[must_use]
    pub fn knows(&self, caller: &Caller, margin_ms: u64) -> Option<Arc<Principal>> {
        caller.known_until(Moment { epoch: self.epoch, ms: self.clock.unix_ms().saturating_add(margin_ms) })
    }

    /// Everything between knowing the caller and doing what was asked.
    ///
    /// # Errors
    /// The first refusal. Permits given before it are settled as cancelled.
    pub fn decide(&self, call: &Arc<Call>, schema: Option<&ArgumentSchema>) -> Result<Permitted, Denial> {
        self.decide_all(call, &[], schema)
    }

    /// The same for a call that names more than its target: the switch and the guards are asked about each of them.
    ///
    /// # Errors
    /// The first refusal; also if a person would have to be asked.
    pub fn decide_all(
        &self,
        call: &Arc<Call>,
        also: &[Target],
        schema: Option<&ArgumentSchema>,
    ) -> Result<Permitted, Denial> {
        match self.weigh(call, also, schema, || Ok(()))? {
            Decision::Permitted(permitted, ()) => Ok(permitted),
            Decision::Ask(pending) => Err(self.nobody_to_ask(&pending)),
        }
    }

    /// The same where people can be asked. What has to be made ready for a call that may go on now is made before the breakers
    /// are asked, which come last, so that no refusal elsewhere can use up their only probe.
    ///
    /// # Errors
    /// The first refusal.
    pub fn weigh<T>(
        &self,
        call: &Arc<Call>,
        also: &[Target],
        schema: Option<&ArgumentSchema>,
        ready: impl FnOnce() -> Result<T, Denial>,
    ) -> Result<Decision<T>, Denial> {
        self.kill.check(call, also)?;
        let chain = &self.chain;
        let mut permits = Permits::new(call.clone());
        let mut asks = Vec::new();
        chain.admit(call, &chain.guards, &mut permits, &mut asks)?;
        let mut others = Vec::new();
        for target in also {
            let other = Arc::new(Call { target: target.clone(), ..Call::clone(call) });
            let mut permits = Permits::new(other.clone());
            chain.admit(&other, &chain.guards, &mut permits, &mut asks)?;
            others.push(permits);
        }
        if let Some(schema) = schema {
            self.arguments_fit(call, &call.params, schema)?;
        }
        if !asks.is_empty() {
            return Ok(Decision::Ask(Box::new(Pending { permits, others, asks })));
        }
        let ready = ready()?;
        self.past_breakers(permits, others).map(|permitted| Decision::Permitted(permitted, ready))
    }

    /// Lets a call go on whose approvals are there. Only now the breakers are asked: no probe of theirs waits for a person.
    ///
    /// # Errors
    /// It was switched off meanwhile, or a breaker refuses.
    pub(crate) fn release(&self, pending: Pending, also: &[Target]) -> Result<Permitted, Denial> {
        let Pending { permits, others, asks: _ } = pending;
        self.kill.check(permits.call(), also)?;
        self.past_breakers(permits, others)
    }

    /// The refusal of a call for which nobody can be asked.
    pub(crate) fn nobody_to_ask(&self, pending: &Pending) -> Denial {
        match pending.asks.first() {
            Some(ask) => self.chain.nobody_to_ask(ask),
            None => Denial::new(DenialKind::Forbidden, "approval_unavailable", "nobody can be asked"),
        }
    }

    fn past_breakers(&self, mut permits: Permits, others: Vec<Permits>) -> Result<Permitted, Denial> {
        // A breaker keeps calls away from a failing backend. An operator's command is no call to the backend.
        let call = permits.call().clone();
        if call.target.kind != TargetKind::Control {
            self.chain.admit_alone(&call, &self.chain.breakers, &mut permits)?;
        }
        Ok(Permitted::new(permits, others))
    }

    /// The same for what an operator wants of the gateway itself. The kill switch is not asked, or nobody could take back
    /// what is off; nor are the breakers, because no server is involved.
    ///
    /// # Errors
    /// The first refusal.
    pub fn decide_control(&self, call: &Arc<Call>) -> Result<Permitted, Denial> {
        let mut permits = Permits::new(call.clone());
        self.chain.admit_alone(call, &self.chain.guards, &mut permits)?;
        Ok(Permitted::new(permits, Vec::new()))
    }

    /// Whether a caller may be refused once more. The guards are asked as for any call, but only an answer about how
    /// often counts: a target that does not exist can be neither allowed nor denied, and an answer that depended on the
    /// unknown name would reveal the rules. All guards are asked, because the one that counts may stand behind one that
    /// denies. Breakers are not asked, because no server is involved.
    ///
    /// # Errors
    /// It is too often, or that cannot be told.
    pub fn once_more(&self, call: &Arc<Call>) -> Result<(), Denial> {
        // Permits are settled as cancelled when this returns: nothing will be done.
        self.chain.bear(call, &mut Permits::new(call.clone()))
    }

    /// Which rows of a list the caller may know of.
    ///
    /// # Errors
    /// A plugin failed and its failures deny.
    pub fn visible(&self, call: &Arc<Call>, rows: &[Row<'_>]) -> Result<Vec<bool>, Denial> {
        let mut visible: Vec<bool> = rows.iter().map(|row| !self.kill.hides(&call.principal, row)).collect();
        self.chain.visible(call, rows, &mut visible)?;
        Ok(visible)
    }

    /// Whether the arguments that rewriters made of those of a call fit what its server asks for.
    ///
    /// # Errors
    /// They do not fit, or that cannot be told.
    pub fn still_fits(&self, call: &Call, params: &Json, schema: &ArgumentSchema) -> Result<(), Denial> {
        self.arguments_fit(call, params, schema.of_server())
    }

    fn arguments_fit(&self, call: &Call, params: &Json, schema: &ArgumentSchema) -> Result<(), Denial> {
        let arguments = splice::get(params.get(), "/arguments");
        let checked = match schema.check(arguments) {
            Err(error) if let Some(times) = schema.misses() => {
                advised(call, &error, times);
                Ok(())
            }
            Err(ArgumentError::Elsewhere) => self.judges.ask(call, schema, arguments.unwrap_or("{}")),
            checked => checked,
        };
        checked.map_err(|error| refused(call, schema, error))
    }
}

/// Logs that arguments do not fit and are passed on all the same: the first time, and whenever the number has doubled.
fn advised(call: &Call, error: &ArgumentError, times: u64) {
    if !times.is_power_of_two() {
        return;
    }
    let pointer = if let ArgumentError::Mismatch { pointer, .. } = error { pointer } else { "" };
    tracing::warn!(
        tool = ?call.target.name, backend = %call.target.backend, pointer, times,
        "the arguments of a call do not fit the tool's inputSchema; they are passed on, because arguments = \"warn\": {error}"
    );
}

fn refused(call: &Call, schema: &ArgumentSchema, error: ArgumentError) -> Denial {
    let (tool, backend) = (&call.target.name, &call.target.backend);
    match error {
        ArgumentError::Mismatch { pointer, message } => {
            let place = if pointer.is_empty() { "the arguments".to_owned() } else { format!("`{pointer}`") };
            let mut denial = Denial::new(
                DenialKind::InvalidArguments,
                "invalid_arguments",
                format!("invalid arguments for \"{tool}\": {place}: {message}"),
            );
            denial.details.push(("pointer".to_owned(), pointer));
            denial
        }
        error => {
            let reason = match error {
                ArgumentError::Schema(reason) => reason,
                error => error.to_string(),
            };
            // Flaws of the schema were logged when it was listed; only a failure that shows in a call is logged here,
            // once.
            if schema.fails_first() {
                tracing::warn!(tool = ?tool, backend = %backend, "a call was refused because of the tool's inputSchema: {reason}");
            }
            Denial::new(
                DenialKind::Unavailable,
                "schema_unusable",
                format!(
                    "backend \"{backend}\" describes \"{tool}\" with a schema that cannot be used: {reason}; other tools are not affected"
                ),
            )
        }
    }
}
