//! A caller's tasks at all backends, as one list (2025-11-25, "Tasks"): complete, in one page, and nobody else's.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::locate::Destination;
use super::{Answer, CallRequest, Failure, Generation, Pipeline};
use crate::backend::{Server, Status, whole};
use crate::call::{Principal, Target, TargetKind};
use crate::mcp::payload::Payload;
use crate::mcp::splice::{self, Edit};
use crate::mcp::{Params, code, params};
use crate::plugin::Row;

/// The method.
pub(super) const METHOD: &str = "tasks/list";
/// Pages of one backend's list.
const MAX_PAGES: usize = 1_000;

/// A task with the tool that began it.
type Owned = (Target, Box<RawValue>);

impl Pipeline {
    /// Whether a backend lists its tasks.
    #[must_use]
    pub fn lists_tasks(&self) -> bool {
        !self.current().registry().capable(METHOD).is_empty()
    }

    /// The caller's own tasks. Each backend is asked through all decisions; one that gives no list is left out, as a
    /// backend that is down is left out of the other lists.
    ///
    /// # Errors
    /// The caller is unknown, a cursor was sent (the gateway gives none out), the call was cancelled, or no backend
    /// could be asked at all.
    pub async fn list_tasks(
        &self,
        request: CallRequest<'_>,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let (generation, principal) = self.let_in(&request).await?;
        super::lists::one_page(&request)?;
        let backends = generation.registry().capable(METHOD);
        let asked = backends
            .iter()
            .filter(|backend| backend.status() == Status::Ready)
            .map(|backend| self.tasks_of(&generation, backend, request, principal.clone(), cancelled));
        let (mut owned, mut failed, mut succeeded): (Vec<Owned>, Option<Failure>, bool) = Default::default();
        for list in futures_util::future::join_all(asked).await {
            match list {
                Ok(list) => {
                    succeeded = true;
                    owned.extend(list);
                }
                Err(Failure::Cancelled) => return Err(Failure::Cancelled),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        if let Some(failure) = failed.filter(|_| !succeeded) {
            return Err(failure);
        }
        // A caller who may no longer see a tool does not hear of its tasks either.
        let context = self.context(&generation, request, Instant::now());
        let call = Arc::new(context.overview(principal));
        let rows: Vec<Row<'_>> =
            owned.iter().map(|(tool, _)| Row { kind: TargetKind::Tool, names: tool.names() }).collect();
        let visible = generation.policy().visible(&call, &rows)?;
        let shown: Vec<&str> = owned
            .iter()
            .zip(visible)
            .filter(|(_, visible)| *visible)
            .map(|((_, task), _)| task.get())
            .collect();
        Ok(Answer::own(format!("{{\"tasks\":[{}]}}", shown.join(","))))
    }

    /// All pages of one backend, without what is another caller's or nobody's.
    async fn tasks_of(
        &self,
        generation: &Generation,
        backend: &Arc<Server>,
        request: CallRequest<'_>,
        principal: Arc<Principal>,
        cancelled: &CancellationToken,
    ) -> Result<Vec<Owned>, Failure> {
        let mut params = request.params.cloned();
        let (mut owned, mut seen) = (Vec::new(), HashSet::new());
        for _ in 0..MAX_PAGES {
            let request = CallRequest { params: params.as_ref(), ..request };
            let context = self.context(generation, request, Instant::now());
            let destination = Destination::whole(backend, METHOD);
            let page = self.deliver(&context, principal.clone(), destination, cancelled).await?;
            if page.is_rpc_error() {
                if page.error_code() != Some(code::METHOD_NOT_FOUND) {
                    tracing::warn!(backend = %backend.name(), "the server's tasks cannot be listed: {}", page.json());
                }
                return Ok(owned);
            }
            // Tasks of several pages become one text, so none of it may be elsewhere.
            let page = match whole(page.payload).await {
                Ok(page) => Payload::from(page),
                Err(error) => {
                    tracing::warn!(backend = %backend.name(), "a page of the server's tasks was left out: {error}");
                    return Ok(owned);
                }
            };
            let page = page.json();
            let tasks = splice::get(page, "/tasks").unwrap_or("[]");
            let tasks: Vec<Box<RawValue>> = serde_json::from_str(tasks).unwrap_or_default();
            owned.extend(tasks.into_iter().filter_map(|task| {
                if let Err(ambiguous) = params::check_task(task.get()) {
                    tracing::warn!(backend = %backend.name(), "a task that can be read in two ways was left out: {ambiguous}");
                    return None;
                }
                let id: String = serde_json::from_str(splice::get(task.get(), "/taskId")?).ok()?;
                let tool = self.tasks.target(&id, &principal)?;
                (tool.backend == *backend.name()).then_some((tool, task))
            }));
            let Some(cursor) = splice::get(page, "/nextCursor").filter(|cursor| *cursor != "null") else {
                return Ok(owned);
            };
            if !seen.insert(cursor.to_owned()) {
                tracing::warn!(backend = %backend.name(), "the server repeats its cursor; its list of tasks ends here");
                return Ok(owned);
            }
            let next = Edit::Set { pointer: "/cursor".to_owned(), json: cursor.to_owned() };
            let Ok(next) = splice::apply(params.as_ref().map_or("{}", Params::get), &[next]) else {
                return Ok(owned);
            };
            params = Params::read(METHOD, next.into()).ok();
        }
        tracing::warn!(backend = %backend.name(), "the server's list of tasks has more than {MAX_PAGES} pages; the rest is left out");
        Ok(owned)
    }
}
