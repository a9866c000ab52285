//! Warm instances of one plugin, and the rules by which they are thrown away.
//!
//! Every worker thread has a slot of its own, so two calls never wait for one lock: a slot that is taken is
//! passed over, and if all are, a fresh instance serves the one call. An instance that trapped, ran out of
//! its budget, served its share of calls or belongs to another call is never used again.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use wasmtime::component::InstancePre;
use wasmtime::{Store, Trap};

use super::allowance::{Allowance, Fuel};
use super::bindings::types::ConfigError;
use super::bindings::{Exports, Mismatch, Places};
use super::guest::{Guest, Shared};
use super::reuse::{Answers, Known};
use super::ticker::Ticker;
use super::waiting::Overlong;
use super::{Fault, Roles};
use crate::call::Call;
use crate::config::Isolation;

/// Steps a guest may take inside `configure`, where it may build tables.
const CONFIGURE_FUEL: u64 = 500_000_000;
const CONFIGURE_TICKS: u64 = 5_000;
/// So many bytes can cross the border at once in any case.
const LEAST_HOSTCALL: usize = 64 << 10;

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}
static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

/// The number of this thread.
fn mine() -> usize {
    SLOT.with(|slot| {
        if slot.get() == usize::MAX {
            slot.set(NEXT_SLOT.fetch_add(1, Ordering::Relaxed));
        }
        slot.get()
    })
}

/// An instance with what it can be asked.
pub(super) struct Instance {
    pub(super) store: Store<Guest>,
    pub(super) exports: Exports,
    answers: Answers,
    calls: u64,
}

/// All that it takes to make an instance of a plugin.
pub(super) struct Recipe {
    pub(super) pre: InstancePre<Guest>,
    pub(super) places: Places,
    pub(super) ticker: Ticker,
    pub(super) shared: Arc<Shared>,
    pub(super) roles: Roles,
    /// The configuration as JSON, told to every new instance.
    pub(super) config: String,
    pub(super) isolation: Isolation,
    /// WASI's blocking functions need a thread that may block.
    pub(super) blocking: bool,
    /// Where steps are counted, for those who ask.
    pub(super) fuel: Option<Fuel>,
}

pub(super) struct Pool {
    recipe: Recipe,
    slots: Box<[Mutex<Option<Instance>>]>,
}

/// Why an instance could not be made.
#[derive(Debug)]
pub(super) enum BirthError {
    Fault(Fault),
    Interface(Mismatch),
    Config(Vec<ConfigError>),
}

impl Pool {
    pub(super) fn new(recipe: Recipe) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let slots = (0..threads + 2).map(|_| Mutex::new(None)).collect();
        Self { recipe, slots }
    }

    /// Makes one instance now, so that a bad configuration is found at start and the first call is warm.
    pub(super) fn warm(&self) -> Result<(), BirthError> {
        let instance = self.birth()?;
        if self.recipe.isolation == Isolation::Shared
            && let Some(mut slot) = self.slots[0].try_lock()
        {
            *slot = Some(instance);
        }
        Ok(())
    }

    /// Runs one call on an instance, best the one of this thread.
    /// `message` is how long the message is that it is asked about.
    pub(super) fn run<R>(
        &self,
        message: usize,
        work: impl FnOnce(&mut Instance) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        self.run_in(mine(), message, |_| None, work)
    }

    /// The same, unless the instance has answered this before.
    pub(super) fn recall_or_run<R>(
        &self,
        message: usize,
        recall: impl FnOnce(&Answers) -> Option<R>,
        work: impl FnOnce(&mut Instance) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        self.run_in(mine(), message, recall, work)
    }

    /// Runs a call that no thread makes again, best on the instance that was made first.
    pub(super) fn run_once<R>(
        &self,
        work: impl FnOnce(&mut Instance) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        self.run_in(0, 0, |_| None, work)
    }

    fn run_in<R>(
        &self,
        mine: usize,
        message: usize,
        recall: impl FnOnce(&Answers) -> Option<R>,
        work: impl FnOnce(&mut Instance) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        if self.recipe.isolation == Isolation::Call {
            return self.fresh(message, work);
        }
        for offset in 0..self.slots.len() {
            let Some(mut slot) = self.slots[(mine + offset) % self.slots.len()].try_lock() else { continue };
            if let Some(known) = slot.as_ref().and_then(|instance| recall(&instance.answers)) {
                return Ok(known);
            }
            // Taken out for the call: whatever unwinds or fails leaves an empty slot behind.
            let mut instance = match slot.take() {
                Some(instance) => instance,
                None => self.birth().map_err(BirthError::into_fault)?,
            };
            let result = self.call(&mut instance, message, work);
            if result.is_ok() && !instance.spent(&self.recipe.shared) {
                *slot = Some(instance);
            }
            return result;
        }
        self.fresh(message, work)
    }

    fn fresh<R>(
        &self,
        message: usize,
        work: impl FnOnce(&mut Instance) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        let mut instance = self.birth().map_err(BirthError::into_fault)?;
        self.call(&mut instance, message, work)
    }

    fn call<R>(
        &self,
        instance: &mut Instance,
        message: usize,
        work: impl FnOnce(&mut Instance) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        let allowed = Allowance::new(&self.recipe.shared.limits, message);
        let _ticking = self.recipe.ticker.run(mine());
        instance.calls += 1;
        instance.store.data_mut().begin(allowed);
        instance.store.set_hostcall_fuel(allowed.host_bytes.max(LEAST_HOSTCALL));
        instance.store.set_epoch_deadline(allowed.deadline_ms);
        let outcome = match instance.store.set_fuel(allowed.fuel) {
            Ok(()) if self.recipe.blocking => blocking(|| work(instance)),
            Ok(()) => work(instance),
            Err(error) => Err(error),
        };
        if let Some(fuel) = &self.recipe.fuel {
            fuel.add(allowed.fuel.saturating_sub(instance.store.get_fuel().unwrap_or(0)));
        }
        outcome.map_err(|error| fault(&error, instance.store.data_mut(), allowed.fuel, allowed.deadline_ms))
    }

    fn birth(&self) -> Result<Instance, BirthError> {
        let recipe = &self.recipe;
        let _ticking = recipe.ticker.run(mine());
        let mut store = Store::new(recipe.pre.engine(), Guest::new(recipe.shared.clone()));
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(recipe.shared.limits.host_bytes.max(LEAST_HOSTCALL));
        store.set_epoch_deadline(CONFIGURE_TICKS);
        store.epoch_deadline_callback(|mut guest| Ok(guest.data_mut().deadline_passed()));
        let made =
            if recipe.blocking { blocking(|| recipe.make(&mut store)) } else { recipe.make(&mut store) };
        let (exports, answers) = made?;
        Ok(Instance { store, exports, answers, calls: 0 })
    }
}

impl Recipe {
    /// Makes an instance in its store, has it configured and asks what its answers depend on.
    fn make(&self, store: &mut Store<Guest>) -> Result<(Exports, Answers), BirthError> {
        let made = store.set_fuel(CONFIGURE_FUEL).and_then(|()| self.pre.instantiate(&mut *store));
        let instance = made.map_err(|error| stillborn(&error, store))?;
        let exports = self.places.load(store, &instance).map_err(BirthError::Interface)?;
        let configured = exports.lifecycle().call_configure(&mut *store, &self.config);
        configured.map_err(|error| stillborn(&error, store))?.map_err(BirthError::Config)?;
        let answers = self.answers(store, &exports).map_err(|error| stillborn(&error, store))?;
        Ok((exports, answers))
    }

    /// The kept answers of a new instance. There are none if it may send requests, or is made for one call only.
    fn answers(&self, store: &mut Store<Guest>, exports: &Exports) -> wasmtime::Result<Answers> {
        if !self.roles.reuse || self.blocking || self.isolation == Isolation::Call {
            return Ok(Answers::new(None));
        }
        Ok(Answers::new(Some(exports.reuse()?.call_depends_on(store)?)))
    }
}

fn stillborn(error: &wasmtime::Error, store: &mut Store<Guest>) -> BirthError {
    BirthError::Fault(fault(error, store.data_mut(), CONFIGURE_FUEL, CONFIGURE_TICKS))
}

impl Instance {
    /// Keeps what it has just answered, if that may be given again.
    pub(super) fn keep(&mut self, call: &Call, known: Known) {
        let guest = self.store.data();
        self.answers.keep(call, guest.read, guest.exchanged(), known);
    }

    fn spent(&self, shared: &Shared) -> bool {
        // What a long message made it hold is not kept for the short ones.
        self.calls >= shared.limits.max_calls || self.store.data().memory() > shared.limits.memory_bytes
    }
}

impl BirthError {
    fn into_fault(self) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Interface(mismatch) => Fault::Trap(mismatch.to_string()),
            // The configuration was accepted at the start; a plugin that refuses it later is broken.
            Self::Config(errors) => Fault::Trap(format!("it now refuses its configuration: {errors:?}")),
        }
    }
}

/// Runs host code that may block. Inside the runtime the thread is announced as blocking first.
pub(crate) fn blocking<R>(work: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

/// Says which limit was hit, or what the guest logged before it died; wasmtime's own message would not help its author.
fn fault(error: &wasmtime::Error, guest: &mut Guest, fuel: u64, deadline_ms: u64) -> Fault {
    if let Some(limit) = guest.limit_hit.take() {
        return Fault::Limit(limit);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Fault::Deadline { ms: deadline_ms },
        Some(Trap::OutOfFuel) => Fault::Fuel { limit: fuel },
        Some(Trap::StackOverflow) => Fault::Limit("its stack overflowed".to_owned()),
        Some(trap) => Fault::Trap(match guest.last_error.take() {
            Some(said) => said,
            // A guest's stack lies in its memory: what overflows it has left its memory.
            None if *trap == Trap::MemoryOutOfBounds => format!("{trap} (perhaps its stack overflowed)"),
            None => trap.to_string(),
        }),
        None if error.is::<wasmtime::PoolConcurrencyLimitError>() => Fault::Saturated,
        None if let Some(overlong) = error.downcast_ref::<Overlong>() => match overlong {
            Overlong::Crowd => Fault::Saturated,
            Overlong::Time(_) => Fault::Limit(overlong.to_string()),
        },
        // The whole chain begins with a backtrace of many lines; the reason is at its end.
        None => match error.root_cause().to_string() {
            // Data of one call that wasmtime refuses to copy; its error has no public type.
            cause if cause.contains("fuel allocated for hostcalls") => {
                let limit = guest.allowed.host_bytes;
                Fault::Limit(format!("more than {limit} bytes exchanged with the gateway in one call"))
            }
            cause => Fault::Trap(cause),
        },
    }
}
