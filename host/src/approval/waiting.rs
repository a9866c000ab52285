//! What a caller hears whose call waits for a person: the same facts at every door.

use serde_json::{Value, json};

use super::{Approval, State};

/// A call that was not done, because it waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: String,
    pub state: State,
    pub risk: &'static str,
    /// The guard's stable word.
    pub reason: String,
    /// The guard's sentence.
    pub summary: String,
    pub digest: String,
    /// Milliseconds since 1970.
    pub decide_by_ms: u64,
    /// Whether the call was one of a tool, so that the answer can be a result.
    pub of_tool: bool,
}

/// How soon it is worth asking again, in seconds.
const AGAIN: u64 = 5;

impl Waiting {
    #[must_use]
    pub fn new(approval: &Approval, of_tool: bool) -> Self {
        let first = approval.needs.first();
        Self {
            id: approval.id.clone(),
            state: approval.state,
            risk: approval.risk().as_str(),
            reason: first.map(|need| need.reason.clone()).unwrap_or_default(),
            summary: first.map(|need| need.summary.clone()).unwrap_or_default(),
            digest: approval.digest.clone(),
            decide_by_ms: approval.decide_by_ms,
            of_tool,
        }
    }

    /// Seconds after which it is worth asking again.
    #[must_use]
    pub fn retry_after(&self) -> u64 {
        AGAIN
    }

    /// Until when people may decide, as RFC 3339.
    #[must_use]
    pub(crate) fn decide_by(&self) -> String {
        super::display::time(self.decide_by_ms)
    }

    /// The facts for programs.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "status": "pending_approval",
            "reason": "pending_approval",
            "approval_id": self.id,
            "approval_reason": self.reason,
            "risk": self.risk,
            "action_digest": self.digest,
            "decide_by": self.decide_by(),
            "retry_after_secs": self.retry_after(),
        })
    }

    /// The sentence for people and models.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "This call was not made: it waits for a person to approve it ({}). The approval is {}, open until {}. Make the same \
             call again with the same arguments to continue: it runs once when it is approved. Somebody who may decide sees it \
             with `sentinel-gateway approvals show {}`.",
            if self.summary.is_empty() { &self.reason } else { &self.summary },
            self.id,
            self.decide_by(),
            self.id,
        )
    }
}
