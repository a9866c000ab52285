//! Finds what a request is about: by index, never by taking names apart.

use std::sync::Arc;

use super::tasks::is_task_method;
use super::{Failure, Pipeline};
use crate::backend::{Backend, START_PATIENCE};
use crate::call::{Json, Principal, Target, TargetKind};
use crate::mcp::catalog::{Entry, List};
use crate::mcp::schema::ArgumentSchema;
use crate::mcp::{doubled, is_of_protocol, splice};

/// A target with the backend that serves it.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) target: Target,
    pub(super) backend: Arc<Backend>,
    entry: Option<Arc<Entry>>,
}

impl Located {
    /// The schema the arguments must fit; tools only.
    pub(super) fn schema(&self) -> Option<&ArgumentSchema> {
        self.entry.as_ref().filter(|_| self.target.kind == TargetKind::Tool).map(|entry| &entry.arguments)
    }

    pub(super) fn whole(backend: &Arc<Backend>, method: &str) -> Self {
        let target = Target {
            kind: TargetKind::Other,
            name: method.into(),
            backend: backend.name().clone(),
            upstream: method.into(),
        };
        Self { target, backend: backend.clone(), entry: None }
    }
}

/// Where the name of the target stands in the params of a method.
fn place(method: &str, params: &str) -> Option<(&'static str, TargetKind)> {
    Some(match method {
        "tools/call" => ("/name", TargetKind::Tool),
        "prompts/get" => ("/name", TargetKind::Prompt),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => ("/uri", TargetKind::Resource),
        "completion/complete" => match splice::get(params, "/ref/type")? {
            "\"ref/prompt\"" => ("/ref/name", TargetKind::Prompt),
            _ => ("/ref/uri", TargetKind::Resource),
        },
        _ => return None,
    })
}

/// Whether a method is about one target of one backend.
#[must_use]
pub(super) fn is_targeted(method: &str) -> bool {
    matches!(
        method,
        "tools/call"
            | "prompts/get"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "completion/complete"
    )
}

/// The target a client asked for as it stands in the message, for the record of what could not be found.
pub(super) fn asked<'a>(method: &str, params: &'a str) -> &'a str {
    place(method, params)
        .and_then(|(pointer, _)| splice::get(params, pointer))
        .map_or("", |name| name.trim_matches('"'))
}

impl Pipeline {
    pub(super) async fn locate(
        &self,
        method: &str,
        params: Option<&Json>,
        who: &Principal,
    ) -> Result<Located, Failure> {
        let params = params.map_or("{}", Json::get);
        // What is judged from here on must be what the backend reads.
        doubled::check(params).map_err(|ambiguous| Failure::Params(format!("`params`: {ambiguous}")))?;
        if is_task_method(method) {
            return self.locate_task(params, who);
        }
        if !is_of_protocol(method) {
            return self.locate_foreign(method, params, who).await;
        }
        let (pointer, kind) = place(method, params)
            .ok_or_else(|| Failure::Params(format!("`{method}` needs to say what it is about")))?;
        let name: String = splice::get(params, pointer)
            .and_then(|name| serde_json::from_str(name).ok())
            .ok_or_else(|| Failure::Params(format!("`{pointer}` must be a string")))?;
        match self.lookup(kind, &name) {
            Some(located) => Ok(located),
            None => self.expect(kind, name).await,
        }
    }

    /// Waits for a name that nobody has yet: a client may know it from its last visit while its backend is still starting.
    /// While that is so, the name is not given to another.
    async fn expect(&self, kind: TargetKind, name: String) -> Result<Located, Failure> {
        self.registry.settled().await;
        let deadline = tokio::time::Instant::now() + START_PATIENCE;
        let mut merges = self.registry.merges();
        loop {
            merges.borrow_and_update();
            if let Some(located) = self.lookup(kind, &name) {
                return Ok(located);
            }
            let unlisted = if kind == TargetKind::Resource {
                self.registry.unlisted()
            } else {
                self.registry.may_offer(&name)
            };
            let coming = self.registry.are_coming(&unlisted);
            if !coming || tokio::time::timeout_at(deadline, merges.changed()).await.is_err() {
                let backends: Vec<String> =
                    unlisted.iter().map(|backend| format!("{:?}", backend.name())).collect();
                return Err(match backends.is_empty() {
                    true => Failure::Unknown { kind, name },
                    false => Failure::Unlisted { kind, name, backends: backends.join(", ") },
                });
            }
        }
    }

    /// A task is where its tool is, and whoever may not call the tool any more may not ask for its tasks either.
    fn locate_task(&self, params: &str, who: &Principal) -> Result<Located, Failure> {
        let id = splice::get(params, "/taskId").and_then(|id| serde_json::from_str::<String>(id).ok());
        let id = id.ok_or_else(|| Failure::Params("`/taskId` must be a string".to_owned()))?;
        let unknown = || Failure::Params(format!("there is no task {id:?} of yours"));
        let target = self.tasks.target(&id, who).ok_or_else(unknown)?;
        let backend = self.registry.find(&target.backend).ok_or_else(unknown)?.clone();
        Ok(Located { target, backend, entry: None })
    }

    /// A method that is not MCP's goes to whoever serves what it is about, or to the only backend there is.
    async fn locate_foreign(&self, method: &str, params: &str, who: &Principal) -> Result<Located, Failure> {
        let unknown = || Failure::Method(method.to_owned());
        // Another's task is nobody's.
        if splice::get(params, "/taskId").is_some() {
            return self.locate_task(params, who).map_err(|_| unknown());
        }
        if let Some(located) = self.about(params) {
            return Ok(located);
        }
        self.registry.settled().await;
        if let Some(located) = self.about(params) {
            return Ok(located);
        }
        match self.registry.backends() {
            // Named after the backend: what a client calls its methods is in no metric and no counter.
            [backend] => Ok(Located::whole(backend, backend.name())),
            _ => Err(unknown()),
        }
    }

    /// What params name, wherever they may; none if that is nothing, or something of two backends.
    fn about(&self, params: &str) -> Option<Located> {
        let places = [
            ("/name", TargetKind::Tool),
            ("/name", TargetKind::Prompt),
            ("/uri", TargetKind::Resource),
            ("/ref/name", TargetKind::Prompt),
            ("/ref/uri", TargetKind::Resource),
        ];
        let found = places.into_iter().filter_map(|(pointer, kind)| {
            let name: String = serde_json::from_str(splice::get(params, pointer)?).ok()?;
            self.lookup(kind, &name)
        });
        let mut found: Vec<Located> = found.collect();
        if found.windows(2).any(|pair| pair[0].target.backend != pair[1].target.backend) || found.is_empty() {
            return None;
        }
        let mut first = found.swap_remove(0);
        // Without arguments there is nothing that the tool's schema could be about.
        first.entry = first.entry.filter(|_| splice::get(params, "/arguments").is_some());
        Some(first)
    }

    fn lookup(&self, kind: TargetKind, name: &str) -> Option<Located> {
        let catalog = self.registry.catalog();
        let entry = match kind {
            TargetKind::Tool => catalog.find(List::Tools, name),
            TargetKind::Prompt => catalog.find(List::Prompts, name),
            TargetKind::Resource => catalog
                .find(List::Resources, name)
                .or_else(|| catalog.find(List::Templates, name))
                .or_else(|| catalog.find_template(name)),
            TargetKind::Other => None,
        };
        if let Some(entry) = entry {
            let backend = self.registry.find(&entry.backend)?.clone();
            let (name, upstream): (Arc<str>, Arc<str>) = if kind == TargetKind::Resource {
                (name.into(), name.into())
            } else {
                (entry.name.clone(), entry.upstream.clone())
            };
            let target = Target { kind, name, backend: entry.backend.clone(), upstream };
            return Some(Located { target, backend, entry: Some(entry.clone()) });
        }
        // Resources need not be listed (MCP "Resources"): with one backend that has any, it is the one.
        // Which one it is is not known while another may be about to come.
        if kind == TargetKind::Resource
            && !self.registry.is_patient()
            && let [backend] = self.registry.capable("resources").as_slice()
        {
            let target =
                Target { kind, name: name.into(), backend: backend.name().clone(), upstream: name.into() };
            return Some(Located { target, backend: backend.clone(), entry: None });
        }
        None
    }
}
