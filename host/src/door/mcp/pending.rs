//! Questions of backends on their way to a client and back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::mcp::client::{Answered, ServerRequest};
use crate::mcp::envelope::Body;
use crate::mcp::message;
use crate::mcp::splice::{self, Edit};

/// How many questions may wait for one client's answer.
const MAX_PENDING: usize = 256;
/// Tasks of one client that are remembered; the oldest go first.
const MAX_TASKS: usize = 64;
/// Longest id of a task that is remembered, as JSON.
const MAX_TASK_ID: usize = 512;

/// What one client has been asked.
#[derive(Debug, Default)]
pub(super) struct PendingRequests {
    next: u64,
    waiting: HashMap<u64, Arc<ServerRequest>>,
    /// The questions that it answered with a task, by the id that the client gave the task.
    tasks: VecDeque<(String, Arc<ServerRequest>)>,
}

impl PendingRequests {
    /// The message that asks the client; `None` if too many questions wait. A progress token is unique for one server
    /// only, so the client gets the gateway's id of the question in its place.
    pub(super) fn add(&mut self, question: &Arc<ServerRequest>) -> Option<(u64, Bytes)> {
        if self.waiting.len() >= MAX_PENDING {
            return None;
        }
        self.next += 1;
        let params = question.params.as_deref().map(RawValue::get);
        let replaced = params.zip(question.progress_token()).and_then(|(params, _)| {
            let json = self.next.to_string();
            splice::apply(params, &[Edit::Set { pointer: "/_meta/progressToken".to_owned(), json }]).ok()
        });
        let text = message::request(self.next, &question.method, replaced.as_deref().or(params));
        self.waiting.insert(self.next, question.clone());
        Some((self.next, text))
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<ServerRequest>> {
        self.waiting.remove(&id)
    }

    /// The question a client's answer is for, which is answered with it.
    pub(super) fn answered(&mut self, id: &RawValue) -> Option<Arc<ServerRequest>> {
        self.waiting.remove(&id.get().parse().ok()?)
    }

    /// The question that waits under this token for progress.
    pub(super) fn under_way(&self, token: &str) -> Option<&Arc<ServerRequest>> {
        self.waiting.get(&token.parse().ok()?)
    }

    /// Remembers the task that a question was answered with.
    pub(super) fn note_task(&mut self, question: &Arc<ServerRequest>, body: Body<'_>) {
        let Body::Result(result) = body else { return };
        let id = splice::get(result.get(), "/task/taskId")
            .filter(|id| id.len() <= MAX_TASK_ID && question.may_be_task())
            .and_then(|id| serde_json::from_str(id).ok());
        let Some(id) = id else { return };
        if self.tasks.len() >= MAX_TASKS {
            self.tasks.pop_front();
        }
        self.tasks.push_back((id, question.clone()));
    }

    /// The question that was answered with this task; of two the later.
    pub(super) fn with_task(&self, id: &str) -> Option<&Arc<ServerRequest>> {
        let id: String = serde_json::from_str(id).ok()?;
        self.tasks.iter().rev().find(|(task, _)| *task == id).map(|(_, question)| question)
    }

    /// All questions that wait, with the ids they had; they wait no more.
    pub(super) fn take(&mut self) -> Vec<(u64, Arc<ServerRequest>)> {
        self.waiting.drain().collect()
    }

    /// Forgets a question, and returns the id it had.
    pub(super) fn withdraw(&mut self, key: &str) -> Option<u64> {
        let id = self.waiting.iter().find(|(_, question)| question.key == key).map(|(id, _)| *id)?;
        self.waiting.remove(&id);
        Some(id)
    }
}

/// A client's answer in the form that the asking server expects.
pub(super) fn answer(body: Body<'_>) -> Answered {
    match body {
        Body::Result(result) => Answered::Result(result.to_owned()),
        Body::Error(error) => Answered::Error(error.to_owned()),
    }
}
