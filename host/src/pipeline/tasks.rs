//! Which task belongs to which caller and backend: tasks outlive the call that began them, and are asked for by id
//! only.
//!
//! Rule: the extension `io.modelcontextprotocol/tasks` (SEP-2663), and the tasks of 2025-11-25 before it. An id is no
//! secret between callers, so a task is found only by the caller who began it.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem::Finder;
use parking_lot::Mutex;

use crate::call::shares::Crowd;
use crate::call::{Call, Principal, Share, Target, TargetKind};
use crate::mcp::seldom::Seldom;
use crate::mcp::{era, splice};

/// How many tasks are remembered. Beyond them the oldest of the caller who began most goes first, so that nobody's tasks
/// are pushed out by another's many.
const MAX_TASKS: usize = 10_000;
/// Longest id that is remembered.
const MAX_ID: usize = 512;

/// The extension's name among the capabilities.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";

#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<Arc<str>, Begun>,
    by_owner: Crowd<Share, Arc<str>>,
    /// Counts the tasks that were begun.
    begun: u64,
}

#[derive(Debug)]
struct Begun {
    target: Target,
    owner: String,
}

impl Tasks {
    /// Remembers the task that a result announces, if it does.
    pub(super) fn note(&self, call: &Call, result: &str) {
        static ID: Seldom = Seldom::new(|| Finder::new("taskId"));
        if call.target.kind != TargetKind::Tool || ID.is_missing(result) {
            return;
        }
        // 2025-11-25 has it one level down.
        let stateless = splice::get(result, "/taskId").filter(|_| era::result_type(result) == "task");
        let id = stateless
            .or_else(|| splice::get(result, "/task/taskId"))
            .and_then(|id| serde_json::from_str::<String>(id).ok());
        let Some(id) = id.filter(|id| id.len() <= MAX_ID) else { return };
        let id: Arc<str> = id.into();
        let begun = Begun { target: call.target.clone(), owner: call.principal.identity() };
        let mut known = self.0.lock();
        // A backend must not take over the id of another's task.
        if known.by_id.get(&id).is_some_and(|other| other.target.backend != begun.target.backend) {
            tracing::warn!(backend = %call.target.backend, "a task with the id of another backend's was not noted");
            return;
        }
        if known.by_id.insert(id.clone(), begun).is_none() {
            known.begun += 1;
            let at = known.begun;
            known.by_owner.insert(call.principal.share(), at, id);
        }
        while known.by_owner.len() > MAX_TASKS {
            let oldest = known.by_owner.largest().next().and_then(|(_, owner)| known.by_owner.first(owner));
            let Some(number) = oldest.map(|(number, _)| number) else { return };
            if let Some(gone) = known.by_owner.remove(number) {
                known.by_id.remove(&gone);
            }
        }
    }

    /// The tool that began a task, if this caller called it.
    pub(super) fn target(&self, id: &str, who: &Principal) -> Option<Target> {
        let known = self.0.lock();
        let begun = known.by_id.get(id)?;
        (begun.owner == who.identity()).then(|| begun.target.clone())
    }
}

/// Whether a method asks for a task.
#[must_use]
pub(super) fn is_task_method(method: &str) -> bool {
    matches!(method, "tasks/get" | "tasks/update" | "tasks/cancel" | "tasks/result")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::sample;

    fn call(subject: &str, backend: &str) -> Call {
        sample::call(sample::principal(subject, "r"), sample::tool("slow", backend))
    }

    #[test]
    fn a_task_belongs_to_its_caller_and_its_backend() {
        let tasks = Tasks::default();
        let (ada, eve) = (call("ada", "a"), call("eve", "b"));
        tasks.note(&ada, r#"{"resultType":"task","taskId":"t"}"#);
        assert!(tasks.target("t", &ada.principal).is_some());
        assert!(tasks.target("t", &eve.principal).is_none());
        tasks.note(&eve, r#"{"resultType":"task","taskId":"t"}"#);
        assert_eq!(tasks.target("t", &ada.principal).map(|target| target.backend), Some("a".into()));
        tasks.note(&ada, r#"{"resultType":"complete","taskId":"u"}"#);
        assert!(tasks.target("u", &ada.principal).is_none());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let (tasks, ada) = (Tasks::default(), call("ada", "a"));
        for number in 0..=MAX_TASKS {
            tasks.note(&ada, &format!(r#"{{"resultType":"task","taskId":"{number}"}}"#));
        }
        assert!(tasks.target("0", &ada.principal).is_none());
        assert!(tasks.target("1", &ada.principal).is_some());
    }

    #[test]
    fn nobody_pushes_out_the_tasks_of_others() {
        let (tasks, ada, eve) = (Tasks::default(), call("ada", "a"), call("eve", "a"));
        tasks.note(&ada, r#"{"resultType":"task","taskId":"adas"}"#);
        for number in 0..=MAX_TASKS {
            tasks.note(&eve, &format!(r#"{{"resultType":"task","taskId":"{number}"}}"#));
        }
        assert!(tasks.target("adas", &ada.principal).is_some());
        assert!(tasks.target("0", &eve.principal).is_none());
    }
}
