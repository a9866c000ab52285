//! The questions a plugin is asked, one method for each function of the contract. Everybody else asks them through `watched`,
//! which counts the answers.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Resource;

use super::bindings::admission::Verdict as WitVerdict;
use super::bindings::interest::Hooks as WantedHooks;
use super::bindings::types as wit;
use super::pool::Instance;
use super::reuse::{Answers, Known};
use super::subject::{BackendResponse, CatalogEdit, Edits};
use super::{Auth, Fault, Hooks, Plugin, PluginError, PluginResult, Refusal, Row, Verdict};
use crate::call::{Call, Credential, Outcome, Principal, TargetKind};
use crate::mcp::catalog::Offer;

/// Most rows of a list that a plugin judges in one call.
const ROWS_AT_ONCE: usize = 256;

impl Plugin {
    fn failed(&self, fault: Fault) -> PluginError {
        PluginError { plugin: self.name.clone(), fault }
    }

    /// Asks who is calling.
    ///
    /// # Errors
    /// The plugin failed.
    pub(super) fn ask_authenticate(&self, credential: &Arc<Credential>) -> PluginResult<Auth> {
        let answer = self.pool.run(0, |instance| {
            let role = instance.exports.authentication()?;
            instance.store.data_mut().subject.credential = Some(credential.clone());
            let answer = role.call_authenticate(&mut instance.store, Resource::new_borrow(0));
            instance.store.data_mut().subject.credential = None;
            answer
        });
        let answer = answer.map_err(|fault| self.failed(fault))?;
        Ok(answer.map_err(Refusal::from).map(|auth| match auth {
            wit::Auth::Abstain => Auth::Abstain,
            wit::Auth::Accepted(identity) => Auth::Accepted {
                principal: Principal {
                    subject: identity.principal.subject,
                    role: identity.principal.role,
                    issuer: identity.principal.issuer,
                    audience: identity.principal.audience,
                    token_id: identity.principal.token_id,
                    expires_at: identity.principal.expires_at,
                    claims: identity.principal.claims.into_iter().map(|f| (f.name, f.value)).collect(),
                },
                cache_until_ms: identity.cache_until,
            },
        }))
    }

    /// Asks whether the call may go on, unless that is known.
    ///
    /// # Errors
    /// The plugin failed.
    pub(super) fn ask_check(&self, call: &Arc<Call>) -> PluginResult<Verdict> {
        let recall = |answers: &Answers| answers.allowed(call).then_some(Ok(Verdict::Allow(None)));
        let answer = self.pool.recall_or_run(call.params.get().len(), recall, |instance| {
            let role = instance.exports.admission()?;
            instance.store.data_mut().subject.call = Some(call.clone());
            let answer = role.call_check(&mut instance.store, Resource::new_borrow(0));
            instance.store.data_mut().subject.call = None;
            let answer = answer?.map(Verdict::from);
            if matches!(answer, Ok(Verdict::Allow(None))) {
                instance.keep(call, Known::Allowed);
            }
            Ok(answer)
        });
        Ok(answer.map_err(|fault| self.failed(fault))?.map_err(Refusal::from))
    }

    /// Tells a guard how the call ended that it gave a permit for.
    ///
    /// # Errors
    /// The plugin failed.
    pub(super) fn ask_settle(
        &self,
        call: &Arc<Call>,
        permit: u64,
        outcome: Outcome,
        latency: Duration,
    ) -> Result<(), PluginError> {
        let latency = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let told = self.pool.run(call.params.get().len(), |instance| {
            let role = instance.exports.admission()?;
            instance.store.data_mut().subject.call = Some(call.clone());
            let told = role.call_settle(
                &mut instance.store,
                Resource::new_borrow(0),
                permit,
                outcome.into(),
                latency,
            );
            instance.store.data_mut().subject.call = None;
            told
        });
        told.map_err(|fault| self.failed(fault))
    }

    /// Asks which rows of a list the caller may know of; one answer for each. A long list is shown in parts, each
    /// with a budget of its own.
    ///
    /// # Errors
    /// The plugin failed, or answered for another number of rows.
    pub(super) fn ask_visible(&self, call: &Arc<Call>, rows: &[Row<'_>]) -> Result<Vec<bool>, PluginError> {
        let mut visible = Vec::with_capacity(rows.len());
        for part in rows.chunks(ROWS_AT_ONCE) {
            visible.extend(self.part_visible(call, part)?);
        }
        Ok(visible)
    }

    fn part_visible(&self, call: &Arc<Call>, rows: &[Row<'_>]) -> Result<Vec<bool>, PluginError> {
        let entries: Vec<wit::Entry> = rows
            .iter()
            .map(|row| wit::Entry {
                kind: row.kind.into(),
                name: row.names.shown.to_owned(),
                backend: row.names.backend.to_owned(),
                upstream_name: row.names.own.to_owned(),
            })
            .collect();
        let answer = self.pool.run(0, |instance| {
            let role = instance.exports.visibility()?;
            instance.store.data_mut().subject.call = Some(call.clone());
            let answer = role.call_visible(&mut instance.store, Resource::new_borrow(0), &entries);
            instance.store.data_mut().subject.call = None;
            answer
        });
        let answer = answer.map_err(|fault| self.failed(fault))?;
        if answer.len() != rows.len() {
            return Err(self.failed(Fault::Answers { got: answer.len(), want: rows.len() }));
        }
        Ok(answer)
    }

    /// Asks a rewriter which of its hooks have anything to do for a backend; the answer holds as long as the plugin.
    ///
    /// # Errors
    /// The plugin failed.
    pub fn hooks(&self, backend: &str) -> Result<Hooks, PluginError> {
        if !self.roles.rewriting {
            return Ok(Hooks::NONE);
        }
        if !self.roles.interest {
            return Ok(Hooks::ALL);
        }
        let wanted = self.pool.run_once(|instance| {
            let wanted = instance.exports.interest()?.call_hooks_for(&mut instance.store, backend)?;
            Ok(Hooks {
                request: wanted.contains(WantedHooks::ON_REQUEST),
                response: wanted.contains(WantedHooks::ON_RESPONSE),
                catalog: wanted.contains(WantedHooks::ON_CATALOG),
                // What wants to see results wants to see what leaves beside them.
                sieve: self.roles.sieving && wanted.contains(WantedHooks::ON_RESPONSE),
            })
        });
        wanted.map_err(|fault| self.failed(fault))
    }

    /// A rewriter's edits to a request: collected, unless they are known.
    ///
    /// # Errors
    /// The plugin failed.
    pub(super) fn ask_on_request(&self, call: &Arc<Call>) -> PluginResult<Arc<Edits>> {
        let recall = |answers: &Answers| answers.edits(call).map(Ok);
        let edits = self.pool.recall_or_run(call.params.get().len(), recall, |instance| {
            let edits = edits(instance, call, None)?;
            if let Ok(edits) = &edits {
                instance.keep(call, Known::Edits(edits.clone()));
            }
            Ok(edits)
        });
        Ok(edits.map_err(|fault| self.failed(fault))?.map_err(Refusal::from))
    }

    /// Collects a rewriter's edits to a response.
    ///
    /// # Errors
    /// The plugin failed.
    pub(super) fn ask_on_response(
        &self,
        call: &Arc<Call>,
        answer: BackendResponse,
    ) -> PluginResult<Arc<Edits>> {
        let message = answer.result.len();
        let edits = self.pool.run(message, |instance| edits(instance, call, Some(answer)));
        Ok(edits.map_err(|fault| self.failed(fault))?.map_err(Refusal::from))
    }

    /// Shows a text on its way to the caller that is no result; what shall go there instead, or none if it may stay.
    ///
    /// # Errors
    /// The plugin failed.
    pub(super) fn ask_sieve(&self, call: &Arc<Call>, at: &str, json: &str) -> PluginResult<Option<String>> {
        let answer = self.pool.run(json.len(), |instance| {
            let role = instance.exports.sieving()?;
            instance.store.data_mut().subject.call = Some(call.clone());
            let answer = role.call_sieve(&mut instance.store, Resource::new_borrow(0), at, json);
            instance.store.data_mut().subject.call = None;
            answer
        });
        Ok(answer.map_err(|fault| self.failed(fault))?.map_err(Refusal::from))
    }

    /// Collects a rewriter's edits to one list of one backend.
    ///
    /// # Errors
    /// The plugin failed.
    pub(super) fn ask_on_catalog(
        &self,
        backend: &Arc<str>,
        kind: TargetKind,
        offers: &Arc<[Offer]>,
    ) -> PluginResult<Vec<CatalogEdit>> {
        let message = offers.iter().map(|offer| offer.item.get().len()).sum();
        let edits = self.pool.run(message, |instance| {
            let role = instance.exports.rewriting()?;
            let subject = &mut instance.store.data_mut().subject;
            subject.catalog = Some((backend.clone(), kind, offers.clone()));
            subject.catalog_edits.clear();
            let done = role.call_on_catalog(&mut instance.store, Resource::new_borrow(0));
            let subject = &mut instance.store.data_mut().subject;
            subject.catalog = None;
            let edits = std::mem::take(&mut subject.catalog_edits);
            Ok(done?.map(|()| edits))
        });
        Ok(edits.map_err(|fault| self.failed(fault))?.map_err(Refusal::from))
    }
}

/// Has a rewriter's hook called: that of a request, or with an answer that of a response.
fn edits(
    instance: &mut Instance,
    call: &Arc<Call>,
    answer: Option<BackendResponse>,
) -> wasmtime::Result<Result<Arc<Edits>, wit::Refusal>> {
    let role = instance.exports.rewriting()?;
    let subject = &mut instance.store.data_mut().subject;
    subject.call = Some(call.clone());
    subject.edits = Edits::default();
    let on_response = answer.is_some();
    subject.answer = answer;
    let (call, patch) = (Resource::new_borrow(0), Resource::new_borrow(0));
    let done = if on_response {
        role.call_on_response(&mut instance.store, call, Resource::new_borrow(0), patch)
    } else {
        role.call_on_request(&mut instance.store, call, patch)
    };
    let subject = &mut instance.store.data_mut().subject;
    subject.call = None;
    subject.answer = None;
    let edits = std::mem::take(&mut subject.edits);
    Ok(done?.map(|()| Arc::new(edits)))
}

impl From<WitVerdict> for Verdict {
    fn from(verdict: WitVerdict) -> Self {
        match verdict {
            WitVerdict::Allow(permit) => Self::Allow(permit),
            WitVerdict::Ask(request) => Self::Ask(Box::new(request.into())),
        }
    }
}

impl From<wit::Refusal> for Refusal {
    fn from(refusal: wit::Refusal) -> Self {
        Self {
            reason: refusal.reason,
            message: refusal.message,
            retry_after: refusal.retry_after_ms.map(Duration::from_millis),
            details: refusal.details.into_iter().map(|field| (field.name, field.value)).collect(),
        }
    }
}

impl From<Outcome> for wit::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::ToolError => Self::ToolError,
            Outcome::InvalidRequest => Self::InvalidRequest,
            Outcome::Throttled => Self::Throttled,
            Outcome::ServerError => Self::ServerError,
            Outcome::Timeout => Self::Timeout,
            Outcome::Unreachable => Self::Unreachable,
            Outcome::ProtocolError => Self::ProtocolError,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}
