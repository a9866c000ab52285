//! What is not one call to one target: lists, messages for all backends, and how the backends are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::locate::{self, Located};
use super::{Answer, Arrival, Failure, Pipeline, Trip};
use crate::backend::Status;
use crate::call::{Call, Json, Principal, Target, TargetKind};
use crate::mcp::catalog::List;
use crate::mcp::client::Client;
use crate::mcp::header::Mirrored;
use crate::mcp::notice::ClientNotice;
use crate::mcp::splice;
use crate::plugin::Row;

/// How the parts of an endpoint are (S9).
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// Why this endpoint cannot serve anybody.
    pub reasons: Vec<String>,
    /// The backends that are not switched off.
    pub backends: Vec<BackendState>,
}

/// How a backend is.
#[derive(Clone, Debug)]
pub struct BackendState {
    pub name: Arc<str>,
    /// Why it is not up; none if it is.
    pub down: Option<String>,
}

impl Pipeline {
    /// A merged list, complete and in one page, without what the caller may not know of.
    ///
    /// # Errors
    /// The caller is unknown, a cursor was sent (the gateway gives none out), or a policy plugin failed.
    pub async fn list(&self, arrival: Arrival<'_>, list: List) -> Result<String, Failure> {
        let principal = self.policy.identify(arrival.caller)?;
        one_page(&arrival)?;
        self.registry.settled().await;
        let catalog = self.registry.catalog();
        let kind = match list {
            List::Tools => TargetKind::Tool,
            List::Resources | List::Templates => TargetKind::Resource,
            List::Prompts => TargetKind::Prompt,
        };
        let rows: Vec<Row<'_>> =
            catalog.list(list).iter().map(|entry| Row { kind, names: entry.names() }).collect();
        let trip = Trip { id: self.audit.next_id(), arrival, since: Instant::now() };
        let call = Arc::new(trip.overview(principal));
        let visible = self.policy.visible(&call, &rows)?;
        let (_, key, _) = list.wire();
        let mut result = format!("{{\"{key}\":[");
        let shown = catalog.list(list).iter().zip(visible).filter(|(_, visible)| *visible);
        for (index, (entry, _)) in shown.enumerate() {
            if index > 0 {
                result.push(',');
            }
            result.push_str(entry.item.get());
        }
        result.push_str("]}");
        Ok(result)
    }

    /// Whether a method is about one target of one backend, and so for [`Pipeline::handle`].
    #[must_use]
    pub fn is_targeted(method: &str) -> bool {
        locate::is_targeted(method)
    }

    /// The same request to every backend that declared a capability, each through all decisions. The first
    /// failure is the answer.
    ///
    /// # Errors
    /// As for [`Pipeline::handle`].
    pub async fn broadcast(
        &self,
        arrival: Arrival<'_>,
        capability: &str,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let principal = self.policy.identify(arrival.caller)?;
        let backends = self.registry.capable(capability);
        let calls = backends.iter().filter(|backend| backend.status() == Status::Ready).map(|backend| {
            let principal = principal.clone();
            async move {
                let trip = Trip { id: self.audit.next_id(), arrival, since: Instant::now() };
                self.deliver(&trip, principal, Located::whole(backend, arrival.method), cancelled).await
            }
        });
        for answer in futures_util::future::join_all(calls).await {
            if let Answer::Error(error) = answer? {
                return Ok(Answer::Error(error));
            }
        }
        Ok(Answer::Result("{}".to_owned().into()))
    }

    /// What a client says of its own accord, for every backend: over the connections of this session, or over the shared
    /// ones if there is one client only.
    pub fn tell_all(&self, session: Option<&Arc<str>>, notice: &ClientNotice) {
        self.registry.backends().iter().for_each(|backend| backend.tell(session, notice));
    }

    /// Waits until every backend has come up or failed once, bounded.
    pub async fn settled(&self) {
        self.registry.settled().await;
    }

    /// Whether a backend that shook hands has tasks (2025-11-25).
    #[must_use]
    pub fn has_tasks(&self) -> bool {
        !self.registry.capable("tasks").is_empty()
    }

    /// The extensions that stateless backends offer, a JSON object; of two with one name the first counts, as its server spells it.
    #[must_use]
    pub fn extensions(&self) -> BTreeMap<String, Box<RawValue>> {
        let mut all = BTreeMap::new();
        for (name, settings) in self.registry.extensions() {
            all.entry(name).or_insert(settings);
        }
        all
    }

    /// Which arguments of a tool its clients repeat in headers.
    #[must_use]
    pub fn mirrored(&self, tool: &str) -> Vec<Mirrored> {
        let catalog = self.registry.catalog();
        let Some(entry) = catalog.find(List::Tools, tool) else { return Vec::new() };
        self.registry.find(&entry.backend).map_or_else(Vec::new, |owner| owner.mirrored(&entry.upstream))
    }

    /// There is one client only: the connections that others would share are its own.
    pub fn sole_client(&self, client: Arc<dyn Client>) {
        self.registry.sole_client(client);
    }

    /// A session is over: what was kept for it at the backends is ended.
    pub fn forget(&self, session: &Arc<str>) {
        self.registry.forget(session);
    }

    /// What the client can do; the backends are told.
    pub fn client_declares(&self, capabilities: &str) {
        self.registry.client_declares(capabilities);
    }

    /// There is a client that says what it can do with each call; the backends wait for none to say it before.
    pub fn client_declares_nothing(&self) {
        self.registry.client_declares_nothing();
    }

    /// The backends' instructions to the model, each under its name, bounded.
    #[must_use]
    pub fn instructions(&self) -> Option<String> {
        const MAX: usize = 16 << 10;
        let mut text = String::new();
        for (backend, instructions) in self.registry.instructions() {
            let part: String = instructions.chars().take(MAX.saturating_sub(text.len())).collect();
            if !part.is_empty() {
                text.push_str(&format!("{}## {backend}\n{part}", if text.is_empty() { "" } else { "\n\n" }));
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// How the backends that are not switched off are, and what keeps the endpoint from serving: the record, or a backend
    /// that it is said to need.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::default();
        for backend in self.registry.backends() {
            if self.policy.kill().is_off(backend.name()) {
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
pub(super) fn one_page(arrival: &Arrival<'_>) -> Result<(), Failure> {
    let cursor = arrival.params.and_then(|params| splice::get(params.get(), "/cursor"));
    match cursor.filter(|cursor| *cursor != "null") {
        None => Ok(()),
        Some(_) => Err(Failure::Params("unknown cursor: this list has one page".to_owned())),
    }
}

impl Trip<'_> {
    /// A look at a list, for the policies that say what it shows.
    pub(super) fn overview(&self, principal: Arc<Principal>) -> Call {
        let Arrival { method, session, door, .. } = self.arrival;
        let name: Arc<str> = method.into();
        Call {
            id: self.id.to_string(),
            method: method.to_owned(),
            target: Target {
                kind: TargetKind::Other,
                name: name.clone(),
                backend: "".into(),
                upstream: name,
            },
            principal,
            params: Json::empty(),
            session: session.clone(),
            door,
        }
    }
}
