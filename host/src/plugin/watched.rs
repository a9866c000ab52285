//! Asks a plugin, and counts what it says: every question of anybody else goes through here. Within a call that is recorded
//! each has a span as well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::meters::{Hook, Said};
use super::subject::{BackendResponse, CatalogEdit, Edits};
use super::{Auth, Plugin, PluginError, PluginResult, Row, Verdict, overheard};
use crate::call::{Call, Credential, Outcome, TargetKind};
use crate::mcp::catalog::Offer;
use crate::telemetry::trace;

impl Plugin {
    /// Asks who is calling.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn authenticate(&self, credential: &Arc<Credential>) -> PluginResult<Auth> {
        self.watched(
            Hook::Authenticate,
            || self.ask_authenticate(credential),
            |answer| match answer {
                Ok(Ok(Auth::Abstain)) => Said::Abstain,
                answer => said(answer),
            },
        )
    }

    /// Asks whether the call may go on, unless that is known.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn check(&self, call: &Arc<Call>) -> PluginResult<Verdict> {
        self.watched(
            Hook::Check,
            || self.ask_check(call),
            |answer| match answer {
                Ok(Ok(Verdict::Ask(_))) => Said::Ask,
                answer => said(answer),
            },
        )
    }

    /// Tells a guard how the call ended that it gave a permit for.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn settle(
        &self,
        call: &Arc<Call>,
        permit: u64,
        outcome: Outcome,
        latency: Duration,
    ) -> Result<(), PluginError> {
        self.watched(Hook::Settle, || self.ask_settle(call, permit, outcome, latency), done)
    }

    /// Asks which rows of a list the caller may know of; one answer for each.
    ///
    /// # Errors
    /// The plugin failed, or answered for another number of rows.
    pub fn visible(&self, call: &Arc<Call>, rows: &[Row<'_>]) -> Result<Vec<bool>, PluginError> {
        self.watched(Hook::Visible, || self.ask_visible(call, rows), done)
    }

    /// A rewriter's edits to a request: collected, unless they are known.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn on_request(&self, call: &Arc<Call>) -> PluginResult<Arc<Edits>> {
        self.watched(Hook::Request, || self.ask_on_request(call), said)
    }

    /// Collects a rewriter's edits to a response.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn on_response(&self, call: &Arc<Call>, answer: BackendResponse) -> PluginResult<Arc<Edits>> {
        self.watched(Hook::Response, || self.ask_on_response(call, answer), said)
    }

    /// Collects a rewriter's edits to one list of one backend.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn on_catalog(
        &self,
        backend: &Arc<str>,
        kind: TargetKind,
        offers: &Arc<[Offer]>,
    ) -> PluginResult<Vec<CatalogEdit>> {
        self.watched(Hook::Catalog, || self.ask_on_catalog(backend, kind, offers), said)
    }

    /// Shows a text on its way to the caller that is no result; what shall go there instead, or none if it may stay.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn sieve(&self, call: &Arc<Call>, at: &str, json: &str) -> PluginResult<Option<String>> {
        self.watched(Hook::Sieve, || self.ask_sieve(call, at, json), said)
    }

    fn watched<T>(&self, hook: Hook, ask: impl FnOnce() -> T, says: impl FnOnce(&T) -> Said) -> T {
        let step = trace::step();
        let began = Instant::now();
        let answer = ask();
        let took = began.elapsed();
        let said = says(&answer);
        self.meters.count(hook, said, took);
        overheard::note(&self.name, hook.as_str(), said.as_str(), took);
        if let Some(step) = step {
            step.plugin(&self.name, hook.as_str(), said.as_str(), said.fault());
        }
        answer
    }
}

fn said<T>(answer: &PluginResult<T>) -> Said {
    match answer {
        Ok(Ok(_)) => Said::Allow,
        Ok(Err(_)) => Said::Deny,
        Err(error) => Said::Fault(error.fault.kind()),
    }
}

fn done<T>(answer: &Result<T, PluginError>) -> Said {
    match answer {
        Ok(_) => Said::Done,
        Err(error) => Said::Fault(error.fault.kind()),
    }
}
