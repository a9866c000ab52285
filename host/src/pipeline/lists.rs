//! Requests that are not one call to one target: lists, messages for all backends, and the state of the backends.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::locate::{self, Destination};
use super::view::{Looker, View};
use super::{Answer, CallContext, CallRequest, Failure, Generation, Pipeline, spans};
use crate::backend::Status;
use crate::call::{Call, Principal};
use crate::mcp::catalog::List;
use crate::mcp::client::Client;
use crate::mcp::client::ClientNotice;
use crate::mcp::header::Mirrored;
use crate::mcp::{message, splice};

/// How the parts of an endpoint are, for `/ready`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    /// Why this endpoint cannot serve anybody.
    pub reasons: Vec<String>,
    /// The backends that are not switched off.
    pub backends: Vec<BackendState>,
}

/// How a backend is.
#[derive(Clone, Debug)]
pub(crate) struct BackendState {
    pub name: Arc<str>,
    /// Why it is not up; none if it is.
    pub down: Option<String>,
}

impl Pipeline {
    /// A merged list, complete and in one page, without items that the caller may not know of; and a note of what was
    /// given.
    ///
    /// # Errors
    /// The caller is unknown, a cursor was sent (the gateway gives none out), or a policy plugin failed.
    pub async fn list(&self, request: CallRequest<'_>, list: List) -> Result<(String, View), Failure> {
        spans::over(&request, self.listed(request, list), spans::of_list).await
    }

    async fn listed(&self, request: CallRequest<'_>, list: List) -> Result<(String, View), Failure> {
        let (generation, who) = self.let_in(&request).await?;
        one_page(&request)?;
        let registry = generation.registry();
        registry.settled().await;
        // The number is read first, so that a merge in between counts as a change and is not overlooked.
        let merges = *registry.merges().borrow();
        let catalog = registry.catalog();
        let looker = Looker { who, session: request.session, door: request.door };
        let entries = self.visible(&generation, looker.clone(), list, &catalog)?;
        let (_, key, _) = list.wire();
        let mut result = format!("{{\"{key}\":[");
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 {
                result.push(',');
            }
            result.push_str(entry.item.get());
        }
        result.push_str("]}");
        Ok((result, Self::view(looker, list, (generation.id(), merges), &entries)))
    }

    /// Whether a method is about one target of one backend, and so for [`Pipeline::handle`].
    #[must_use]
    pub(crate) fn is_targeted(method: &str) -> bool {
        locate::is_targeted(method)
    }

    /// The same request to every backend that declared a capability, each through all decisions. The first
    /// failure is the answer.
    ///
    /// # Errors
    /// As for [`Pipeline::handle`].
    pub async fn broadcast(
        &self,
        request: CallRequest<'_>,
        capability: &str,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        spans::over(&request, self.to_all(request, capability, cancelled), spans::of_answer).await
    }

    async fn to_all(
        &self,
        request: CallRequest<'_>,
        capability: &str,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let (generation, principal) = self.let_in(&request).await?;
        let backends = generation.registry().capable(capability);
        let calls = backends.iter().filter(|backend| backend.status() == Status::Ready).map(|backend| {
            let (principal, generation) = (principal.clone(), &generation);
            async move {
                let context = self.context(generation, request, Instant::now());
                self.deliver(&context, principal, Destination::whole(backend, request.method), cancelled)
                    .await
            }
        });
        for answer in futures_util::future::join_all(calls).await {
            let answer = answer?;
            if answer.is_rpc_error() {
                return Ok(answer);
            }
        }
        Ok(Answer::own("{}".to_owned()))
    }

    /// Sends a client's notification to every backend: over the connections of this session, or over the shared ones if
    /// there is one client only.
    pub(crate) fn tell_all(&self, session: Option<&Arc<str>>, notice: &ClientNotice) {
        self.current().registry().backends().iter().for_each(|backend| backend.notify(session, notice));
    }

    /// Waits until every backend has said what it is, for a bounded time after the start.
    pub(crate) async fn introduced(&self) {
        self.current().registry().introduced().await;
    }

    /// Whether that is known by now.
    #[must_use]
    pub(crate) fn is_introduced(&self) -> bool {
        self.current().registry().is_introduced()
    }

    /// Waits until every backend has come up or failed since the start, bounded as well.
    pub async fn met(&self) {
        self.current().registry().met().await;
    }

    /// Waits until every backend has come up or failed once, however long that takes.
    pub async fn tried(&self) {
        self.current().registry().tried().await;
    }

    /// How many tools clients are shown, all roles together.
    #[must_use]
    pub fn tools(&self) -> usize {
        self.current().registry().catalog().list(List::Tools).len()
    }

    /// Whether a backend that shook hands has tasks (2025-11-25).
    #[must_use]
    pub(crate) fn has_tasks(&self) -> bool {
        !self.current().registry().capable("tasks").is_empty()
    }

    /// The extensions that stateless backends offer, a JSON object; of two with one name the first counts, as its server spells it.
    #[must_use]
    pub(crate) fn extensions(&self) -> BTreeMap<String, Box<RawValue>> {
        let mut all = BTreeMap::new();
        for (name, settings) in self.current().registry().extensions() {
            all.entry(name).or_insert(settings);
        }
        all
    }

    /// Which arguments of a tool its clients repeat in headers.
    #[must_use]
    pub(crate) fn mirrored(&self, tool: &str) -> Vec<Mirrored> {
        let generation = self.current();
        let catalog = generation.registry().catalog();
        let Some(entry) = catalog.find(List::Tools, tool) else { return Vec::new() };
        generation
            .registry()
            .find(&entry.backend)
            .map_or_else(Vec::new, |owner| owner.mirrored(&entry.upstream))
    }

    /// There is one client only: the connections that others would share are its own.
    pub(crate) fn sole_client(&self, client: Arc<dyn Client>) {
        self.fleet.sole_client(client);
    }

    /// A session is over: what was kept for it at the backends is ended.
    pub fn forget(&self, session: &Arc<str>) {
        self.fleet.forget(session);
    }

    /// What the client can do; the backends are told.
    pub(crate) fn client_declares(&self, capabilities: &str) {
        self.fleet.client_declares(capabilities);
    }

    /// The client says with each call what it can do, so the backends need not wait for a declaration.
    pub(crate) fn client_declares_nothing(&self) {
        self.fleet.client_declares_nothing();
    }

    /// The backends' instructions to the model, each under its name, bounded; without those of backends of which the caller
    /// may not know anything that they list.
    #[must_use]
    pub fn instructions(
        &self,
        who: &Arc<Principal>,
        session: &Arc<str>,
        door: &'static str,
    ) -> Option<String> {
        const MAX: usize = 16 << 10;
        let generation = self.current();
        let all = generation.registry().instructions();
        if all.is_empty() {
            return None;
        }
        let catalog = generation.registry().glimpse();
        let (mut listing, mut known): (HashSet<&str>, HashSet<&str>) = Default::default();
        for list in List::ALL {
            listing.extend(catalog.list(list).iter().map(|entry| &*entry.backend));
            let looker = Looker { who: who.clone(), session, door };
            // If the policies cannot judge an item, it is not shown.
            let visible = self.visible(&generation, looker, list, &catalog).unwrap_or_default();
            known.extend(visible.into_iter().map(|entry| &*entry.backend));
        }
        let mut text = String::new();
        for (backend, instructions) in &all {
            let off = generation.policy().kill().is_off(backend);
            if off || (listing.contains(&**backend) && !known.contains(&**backend)) {
                continue;
            }
            let looker = Looker { who: who.clone(), session, door };
            let Some(instructions) = self.looked_through(&generation, looker, backend, instructions) else {
                continue;
            };
            let part: String = instructions.chars().take(MAX.saturating_sub(text.len())).collect();
            if !part.is_empty() {
                text.push_str(&format!("{}## {backend}\n{part}", if text.is_empty() { "" } else { "\n\n" }));
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// A backend's instructions as the rewriters leave them that look at what it says beside its results; none if they may not
    /// be shown.
    fn looked_through(
        &self,
        generation: &Generation,
        looker: Looker<'_>,
        backend: &Arc<str>,
        instructions: &str,
    ) -> Option<String> {
        if !generation.rewriters().sieves(backend) {
            return Some(instructions.to_owned());
        }
        let mut call = looker.call(self.audit.next_id(), "instructions");
        call.target.backend = backend.clone();
        let quoted = message::quoted(instructions);
        match generation.rewriters().sieve(&Arc::new(call), "instructions", &quoted) {
            Ok(None) => Some(instructions.to_owned()),
            Ok(Some(changed)) => serde_json::from_str(&changed).ok(),
            Err(denial) => {
                tracing::debug!(%backend, "the server's instructions are not shown: {}", denial.message);
                None
            }
        }
    }

    /// The state of the backends that are not switched off, and what keeps the endpoint from serving: the record, or a
    /// backend that is `required`.
    #[must_use]
    pub(crate) fn readiness(&self) -> Readiness {
        let (mut readiness, generation) = (Readiness::default(), self.current());
        for backend in generation.backends() {
            if generation.policy().kill().is_off(backend.name()) {
                continue;
            }
            let down = match backend.status() {
                Status::Ready => None,
                Status::Starting => Some(backend.starting()),
                Status::Down { reason, .. } => Some(reason.to_string()),
                Status::Stopped => Some("stopped".to_owned()),
            };
            if let Some(down) = down.as_ref().filter(|_| backend.required()) {
                readiness.reasons.push(format!("backend {}: {down}", backend.name()));
            }
            readiness.backends.push(BackendState { name: backend.name().clone(), down });
        }
        let audit = self.audit.status();
        if !audit.healthy {
            readiness.reasons.push(format!("audit: {}", audit.reason.unwrap_or_default()));
        }
        readiness
    }
}

/// The gateway's lists have one page.
pub(super) fn one_page(request: &CallRequest<'_>) -> Result<(), Failure> {
    let cursor = request.params.and_then(|params| splice::get(params.get(), "/cursor"));
    match cursor.filter(|cursor| *cursor != "null") {
        None => Ok(()),
        Some(_) => Err(Failure::Params("unknown cursor: this list has one page".to_owned())),
    }
}

impl CallContext<'_> {
    /// A look at a list, for the policies that say what it shows.
    pub(super) fn overview(&self, principal: Arc<Principal>) -> Call {
        let CallRequest { method, session, door, .. } = self.request;
        Looker { who: principal, session, door }.call(self.id, method)
    }
}
