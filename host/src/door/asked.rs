//! Questions of backends on their way to a client and back.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::mcp::client::{Answered, Question};
use crate::mcp::envelope::Body;
use crate::mcp::message;

/// Most questions that wait for one client's answer.
const MAX_ASKED: usize = 256;

/// What one client has been asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    next: u64,
    waiting: HashMap<u64, Arc<Question>>,
}

impl Asked {
    /// The message that asks; none if too many wait.
    pub(super) fn add(&mut self, question: &Arc<Question>) -> Option<(u64, Bytes)> {
        if self.waiting.len() >= MAX_ASKED {
            return None;
        }
        self.next += 1;
        let params = question.params.as_deref().map(RawValue::get);
        let text = message::request(self.next, &question.method, params);
        self.waiting.insert(self.next, question.clone());
        Some((self.next, text))
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<Question>> {
        self.waiting.remove(&id)
    }

    /// The question a client's answer is for.
    pub(super) fn answered(&mut self, id: &RawValue) -> Option<Arc<Question>> {
        self.waiting.remove(&id.get().parse().ok()?)
    }

    /// Forgets a question; the id it had.
    pub(super) fn take_back(&mut self, key: &str) -> Option<u64> {
        let id = self.waiting.iter().find(|(_, question)| question.key == key).map(|(id, _)| *id)?;
        self.waiting.remove(&id);
        Some(id)
    }
}

/// A client's answer as the question takes it.
pub(super) fn answer(body: Body<'_>) -> Answered {
    match body {
        Body::Result(result) => Answered::Result(result.to_owned()),
        Body::Error(error) => Answered::Error(error.to_owned()),
    }
}
