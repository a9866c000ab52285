//! The parts of which a process has one, whichever generation of the configuration is in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::approval::Approvals;
use crate::audit::Audit;
use crate::config::{Config, Problems};
use crate::pipeline::{Flights, Refusals};
use crate::plugin::Engine;
use crate::policy::Orders;
use crate::redact::Redaction;
use crate::state::{Clock, Kept, Store};
use crate::telemetry;

/// The parts that outlive every generation.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    /// One engine for the plugins of all endpoints, with one ticker.
    pub(super) engine: Engine,
    /// What guards remember; each endpoint has its own part.
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) audit: Audit,
    /// What people are asked, for all endpoints.
    pub(super) approvals: Arc<Approvals>,
    /// What takes secrets out of everything that is shown or recorded.
    pub(super) redaction: Redaction,
    /// What operators switched off.
    pub(super) orders: Arc<Orders>,
    pub(super) activity: Activity,
    /// Ends the gateway.
    pub(super) stop: CancellationToken,
    /// Whether it serves everybody who comes over HTTP, or the one client that started it.
    pub(super) over_http: bool,
    /// How much is logged; none if the command line says it.
    pub(super) level: Option<telemetry::Level>,
    /// How long calls may take to finish at the stop, in milliseconds.
    pub(super) grace_ms: Arc<AtomicU64>,
}

impl Resident {
    /// The parts of a process that keeps this state and obeys these orders. The record of calls is not among them yet: it is
    /// opened when everything else is loaded, and put in by [`Self::recording`].
    ///
    /// # Errors
    /// The machine lacks what the engine of the plugins needs.
    pub(super) fn new(config: &Config, state: &Kept, orders: Arc<Orders>) -> Result<Self, Problems> {
        Ok(Self {
            engine: engine(config)?,
            store: state.store.clone(),
            clock: state.clock.clone(),
            audit: Audit::disabled(),
            approvals: Approvals::new(
                config.approvals.clone(),
                config.gateway.trust.clone(),
                state.clock.clone(),
                config.redaction.clone(),
            ),
            redaction: config.redaction.clone(),
            orders,
            activity: Activity::default(),
            stop: CancellationToken::new(),
            over_http: false,
            level: None,
            grace_ms: Arc::default(),
        })
    }

    /// The same with the record of calls, and the bounds of the configuration in force.
    pub(super) fn recording(self, audit: Audit, config: &Config) -> Self {
        let all = Self { audit, ..self };
        all.bound(config);
        all
    }

    /// Puts the bounds of a configuration in force that belong to the process itself.
    pub(super) fn bound(&self, config: &Config) {
        self.audit.bound(&super::audit_settings(config));
        self.approvals.bound(config.approvals.clone());
        let grace = u64::try_from(config.gateway.shutdown_grace.as_millis()).unwrap_or(u64::MAX);
        self.grace_ms.store(grace, Ordering::Relaxed);
        if let Some(level) = &self.level
            && let Err(error) = level.set(&config.gateway.log_level)
        {
            // The level was checked with the file; a filter may name what is not there.
            tracing::error!("gateway.log_level stays as it was: {error:#}");
        }
    }

    /// How long calls may take to finish at the stop; asked for when it is there.
    pub(super) fn grace(&self) -> impl FnOnce() -> Duration + use<> {
        let grace = self.grace_ms.clone();
        move || Duration::from_millis(grace.load(Ordering::Relaxed))
    }
}

/// What the calls of all endpoints are, for operators who look.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity {
    pub(super) flights: Arc<Flights>,
    pub(super) refusals: Arc<Refusals>,
}

/// The engine of the plugins, as the file wants it.
///
/// # Errors
/// The machine lacks what it needs.
pub(super) fn engine(config: &Config) -> Result<Engine, Problems> {
    let engine = Engine::bounded(config.gateway.plugin_bounds).map_err(|error| {
        let text = format!("the WebAssembly engine cannot start: {error:#}");
        let hint = "where a process may not have so many addresses (ulimit -v), write \"checked\"";
        let problem = super::problem("gateway.plugin_bounds", text, Some(hint.to_owned()));
        Problems::new(&config.path, vec![problem])
    })?;
    Ok(engine.compiling(config.gateway.plugin_compile))
}
