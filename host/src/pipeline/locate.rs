//! Finds the target of a request: by index, never by taking names apart.

use std::sync::Arc;
use std::time::Duration;

use super::tasks::is_task_method;
use super::{CallRequest, Failure, Generation, Pipeline};
use crate::backend::{Backend, START_PATIENCE, Server};
use crate::call::{About, Definition, Principal, Target, TargetKind};
use crate::mcp::catalog::List;
use crate::mcp::schema::ArgumentSchema;
use crate::mcp::{Params, bounds, is_custom, splice};

/// How often a URI is looked up again that an answer under way may name.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Finds the target of a request that names it in another way than MCP does: a route by its path, a command by its name.
/// It is asked once, for the generation that the call belongs to, when the caller is known.
pub trait Locate: std::fmt::Debug + Send + Sync {
    /// The target and its backend.
    ///
    /// # Errors
    /// There is none, or the request cannot be read as one for it.
    fn locate(&self, generation: &Generation) -> Result<Destination, Failure>;

    /// What the door knows of the request besides: the client's address, and where to put headers of the answer.
    fn about(&self) -> About {
        About::default()
    }

    /// What is wanted instead of the call itself, if anything is.
    fn grant(&self) -> Option<Grant> {
        None
    }

    /// What its sender says about the request beside it, for the record alone.
    fn notes(&self) -> &[(String, String)] {
        &[]
    }
}

/// What is wanted instead of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// That people are asked about it. Nobody waits for them.
    Approval,
    /// A capability token for it, once it is approved.
    Token,
}

impl Grant {
    /// What the record calls it.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Approval => "approvals/request",
            Self::Token => "gateway/token",
        }
    }
}

/// A target with the backend that serves it.
#[derive(Debug)]
pub struct Destination {
    pub(super) target: Target,
    pub(super) backend: Backend,
    schema: Option<Arc<ArgumentSchema>>,
    /// The entry of its list.
    definition: Option<Arc<dyn Definition>>,
    /// Further targets that the params of a method that is not MCP's name, all at the same backend.
    pub(super) also: Vec<Target>,
}

impl Destination {
    /// The target at this backend, with the schema that `arguments` in the params must fit.
    #[must_use]
    pub fn new(target: Target, backend: Backend, schema: Option<Arc<ArgumentSchema>>) -> Self {
        Self { target, backend, schema, definition: None, also: Vec::new() }
    }

    /// The same with its entry in the list, for plugins.
    #[must_use]
    pub(crate) fn described(self, definition: Arc<dyn Definition>) -> Self {
        Self { definition: Some(definition), ..self }
    }

    pub(super) fn definition(&self) -> Option<Arc<dyn Definition>> {
        self.definition.clone()
    }

    pub(super) fn schema(&self) -> Option<&ArgumentSchema> {
        self.schema.as_deref().filter(|_| !self.backend.judges_arguments())
    }

    pub(super) fn whole(server: &Arc<Server>, method: &str) -> Self {
        let target = Target {
            kind: TargetKind::Other,
            name: method.into(),
            backend: server.name().clone(),
            upstream: method.into(),
        };
        Self::new(target, Backend::Mcp(server.clone()), None)
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

/// Longest name of such a target: it goes on record, and into keys.
fn longest(kind: TargetKind) -> usize {
    if kind == TargetKind::Resource { bounds::URI } else { bounds::NAME }
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

/// Why the targets that a request names cannot be one call.
enum Apart {
    /// It is at two servers.
    Servers,
    /// One of the names would have to be replaced by the server's own, and that would replace the other, too.
    Names,
}

/// All targets that a request names, as one with others beside it; `None` if it names none.
fn together(found: impl Iterator<Item = Destination>) -> Result<Option<Destination>, Apart> {
    let mut first: Option<Destination> = None;
    for next in found {
        let Some(first) = &mut first else {
            first = Some(next);
            continue;
        };
        if next.target == first.target || first.also.contains(&next.target) {
            continue;
        }
        if next.target.backend != first.target.backend {
            return Err(Apart::Servers);
        }
        first.also.push(next.target);
    }
    if let Some(Destination { target, also, .. }) = &first {
        let renamed = |target: &Target| target.name != target.upstream;
        let alike = |other: &Target| (&other.name, &other.upstream) == (&target.name, &target.upstream);
        if (renamed(target) || also.iter().any(renamed)) && !also.iter().all(alike) {
            return Err(Apart::Names);
        }
    }
    Ok(first)
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
        generation: &Generation,
        request: &CallRequest<'_>,
        who: &Principal,
    ) -> Result<Destination, Failure> {
        if let Some(locate) = request.locate {
            return locate.locate(generation);
        }
        let method = request.method;
        let params = request.params.map_or("{}", Params::get);
        if is_custom(method) {
            return self.locate_custom(generation, method, params, who).await;
        }
        // A method of MCP's own that is a request is refused as a notification.
        if request.rpc_id.is_none() {
            return Err(Failure::Method(method.to_owned()));
        }
        if is_task_method(method) {
            return self.locate_task(generation, params, who);
        }
        let (pointer, kind) = place(method, params)
            .ok_or_else(|| Failure::Params(format!("`{method}` needs to say what it is about")))?;
        let name: String = splice::get(params, pointer)
            .and_then(|name| serde_json::from_str(name).ok())
            .ok_or_else(|| Failure::Params(format!("`{pointer}` must be a string")))?;
        let most = longest(kind);
        if name.len() > most {
            return Err(Failure::Params(format!("`{pointer}` may have {most} bytes at most")));
        }
        match self.lookup(generation, kind, &name, who) {
            Some(destination) => Ok(destination),
            None => self.expect(generation, request, kind, name, who).await,
        }
    }

    /// Waits for a name that no backend has yet: a client may know the name from an earlier session while the backend
    /// is still starting, and until it has started the name is given to no other. The URI of a resource may also be
    /// named by the answer to an earlier request of the client that is still under way.
    async fn expect(
        &self,
        generation: &Generation,
        request: &CallRequest<'_>,
        kind: TargetKind,
        name: String,
        who: &Principal,
    ) -> Result<Destination, Failure> {
        let registry = generation.registry();
        registry.settled().await;
        let deadline = tokio::time::Instant::now() + START_PATIENCE;
        let mut merges = registry.merges();
        loop {
            merges.borrow_and_update();
            // Checked before the look-up: an answer that comes in between has named the URI by then.
            let to_be_named = kind == TargetKind::Resource && request.client.has_asked_before();
            if let Some(destination) = self.lookup(generation, kind, &name, who) {
                return Ok(destination);
            }
            let unlisted =
                if kind == TargetKind::Resource { registry.unlisted() } else { registry.may_offer(&name) };
            // A call has the unlisted backends tried again.
            unlisted.iter().for_each(|backend| backend.want());
            let awaited = to_be_named || registry.are_coming(&unlisted);
            if !awaited || tokio::time::Instant::now() >= deadline {
                let backends: Vec<String> =
                    unlisted.iter().map(|backend| format!("{:?}", backend.name())).collect();
                return Err(match backends.is_empty() {
                    true => Failure::Unknown { kind, name },
                    false => Failure::Unlisted { kind, name, backends: backends.join(", ") },
                });
            }
            let look = if to_be_named { LOOK_AGAIN } else { START_PATIENCE };
            let look = deadline.min(tokio::time::Instant::now() + look);
            // Either it is time to look again, or a list has changed.
            let _ = tokio::time::timeout_at(look, merges.changed()).await;
        }
    }

    /// A task is where its tool is, and a caller who may not call the tool any more may not ask for its tasks either.
    fn locate_task(
        &self,
        generation: &Generation,
        params: &str,
        who: &Principal,
    ) -> Result<Destination, Failure> {
        let id = splice::get(params, "/taskId").and_then(|id| serde_json::from_str::<String>(id).ok());
        let id = id.ok_or_else(|| Failure::Params("`/taskId` must be a string".to_owned()))?;
        if id.len() > bounds::NAME {
            return Err(Failure::Params(format!("`/taskId` may have {} bytes at most", bounds::NAME)));
        }
        let unknown = || Failure::Params(format!("there is no task {id:?} of yours"));
        let target = self.tasks.target(&id, who).ok_or_else(unknown)?;
        let backend = generation.find(&target.backend).ok_or_else(unknown)?;
        Ok(Destination::new(target, backend, None))
    }

    /// A method that is not MCP's goes to the backend that serves what its params name, or to the only backend there is.
    async fn locate_custom(
        &self,
        generation: &Generation,
        method: &str,
        params: &str,
        who: &Principal,
    ) -> Result<Destination, Failure> {
        let unknown = || Failure::Method(method.to_owned());
        // For this caller, a task of another caller does not exist.
        let task =
            splice::get(params, "/taskId").map(|_| self.locate_task(generation, params, who)).transpose();
        let task = task.map_err(|_| unknown())?;
        let named = self.about(generation, params, who);
        let named = if named.is_empty() && task.is_none() {
            generation.registry().settled().await;
            self.about(generation, params, who)
        } else {
            named
        };
        match together(task.into_iter().chain(named)) {
            Ok(Some(mut destination)) => {
                // Without arguments there is nothing to check against the tool's schema.
                destination.schema =
                    destination.schema.filter(|_| splice::get(params, "/arguments").is_some());
                Ok(destination)
            }
            Ok(None) => match generation.registry().backends() {
                // The target is named after the backend, so that no method's name of a client's choice becomes a label
                // or a key.
                [backend] => Ok(Destination::whole(backend, backend.name())),
                _ => Err(unknown()),
            },
            Err(Apart::Servers) => Err(unknown()),
            Err(Apart::Names) => {
                let text =
                    format!("`{method}` names two things that its server knows by other names: name one");
                Err(Failure::Params(text))
            }
        }
    }

    /// The targets that the params name in any place where a method of MCP could name one: by the name that clients
    /// know, or by the server's own.
    fn about(&self, generation: &Generation, params: &str, who: &Principal) -> Vec<Destination> {
        let places = [
            ("/name", TargetKind::Tool),
            ("/name", TargetKind::Prompt),
            ("/uri", TargetKind::Resource),
            ("/ref/name", TargetKind::Tool),
            ("/ref/name", TargetKind::Prompt),
            ("/ref/uri", TargetKind::Resource),
        ];
        let found = places.into_iter().filter_map(|(pointer, kind)| {
            let name: String = serde_json::from_str(splice::get(params, pointer)?).ok()?;
            if name.len() > longest(kind) {
                return None;
            }
            let found = self.lookup(generation, kind, &name, who);
            Some(found.map_or_else(|| self.by_own_name(generation, kind, &name, who), |found| vec![found]))
        });
        found.flatten().collect()
    }

    /// The backends that offer something under this name of their own: a method that is not MCP's is passed on unchanged,
    /// so the server reads its own names in it.
    fn by_own_name(
        &self,
        generation: &Generation,
        kind: TargetKind,
        name: &str,
        who: &Principal,
    ) -> Vec<Destination> {
        let list = match kind {
            TargetKind::Tool => List::Tools,
            TargetKind::Prompt => List::Prompts,
            TargetKind::Resource
            | TargetKind::Route
            | TargetKind::Command
            | TargetKind::Control
            | TargetKind::Other => return Vec::new(),
        };
        let catalog = generation.registry().catalog();
        let its = catalog.list(list).iter().filter(|entry| *entry.upstream == *name);
        its.filter_map(|entry| self.lookup(generation, kind, &entry.name, who)).collect()
    }

    pub(super) fn lookup(
        &self,
        generation: &Generation,
        kind: TargetKind,
        name: &str,
        who: &Principal,
    ) -> Option<Destination> {
        let registry = generation.registry();
        let catalog = registry.catalog();
        let entry = match kind {
            TargetKind::Tool => catalog.find(List::Tools, name),
            TargetKind::Prompt => catalog.find(List::Prompts, name),
            TargetKind::Resource => catalog
                .find(List::Resources, name)
                .or_else(|| catalog.find(List::Templates, name))
                .or_else(|| catalog.find_template(name)),
            TargetKind::Route | TargetKind::Command | TargetKind::Control | TargetKind::Other => None,
        };
        if let Some(entry) = entry {
            let backend = generation.find(&entry.backend)?;
            // Only the arguments of tools have a schema.
            let schema = (kind == TargetKind::Tool).then(|| entry.arguments.clone());
            let (name, upstream): (Arc<str>, Arc<str>) = if kind == TargetKind::Resource {
                (name.into(), name.into())
            } else {
                (entry.name.clone(), entry.upstream.clone())
            };
            let target = Target { kind, name, backend: entry.backend.clone(), upstream };
            return Some(Destination::new(target, backend, schema).described(entry.clone()));
        }
        if kind != TargetKind::Resource {
            return None;
        }
        // Resources need not be listed (MCP "Resources"): a result may have named it, and with one backend that has any it
        // can be nobody else's. Which one that is is not known while another may be about to come.
        let named = self.links.backend(name, who).and_then(|backend| generation.find(&backend));
        let only = || match registry.capable("resources").as_slice() {
            [server] if !registry.is_patient() => Some(Backend::Mcp(server.clone())),
            _ => None,
        };
        let backend = named.or_else(only)?;
        let target =
            Target { kind, name: name.into(), backend: backend.name().clone(), upstream: name.into() };
        Some(Destination::new(target, backend, None))
    }
}
