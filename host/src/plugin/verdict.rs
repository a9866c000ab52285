//! The answers of a guard other than a refusal.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bindings::types as wit;

/// A guard's answer to a call that it does not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call may go on. With a permit the guard is told how it ended.
    Allow(Option<u64>),
    /// The call may go on once a person has approved it.
    Ask(Box<ApprovalRequest>),
}

/// What a person is to be asked. The caller, the target and the arguments are not in it: those are the gateway's to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// A stable machine word.
    pub reason: String,
    /// One sentence for the person who decides.
    pub summary: String,
    pub risk: Risk,
    /// The first that is reached decides. Empty: as the operator set it.
    pub thresholds: Vec<Threshold>,
    pub decide_within: Option<Duration>,
    pub run_within: Option<Duration>,
    pub details: Vec<(String, String)>,
}

/// How much harm is done if the wrong thing is approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    Low,
    Medium,
    High,
}

impl Risk {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Who may decide, and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub name: String,
    /// Roles whose members count. Empty: those that the operator lets approve.
    pub roles: Vec<String>,
    /// At least 1, whatever the guard said.
    pub approve: u32,
    pub deny: u32,
}

impl From<wit::ApprovalRequest> for ApprovalRequest {
    fn from(request: wit::ApprovalRequest) -> Self {
        Self {
            reason: request.reason,
            summary: request.summary,
            risk: match request.risk {
                wit::Risk::Low => Risk::Low,
                wit::Risk::Medium => Risk::Medium,
                wit::Risk::High => Risk::High,
            },
            thresholds: request.thresholds.into_iter().map(Threshold::from).collect(),
            decide_within: request.decide_within_ms.map(Duration::from_millis),
            run_within: request.run_within_ms.map(Duration::from_millis),
            details: request.details.into_iter().map(|field| (field.name, field.value)).collect(),
        }
    }
}

impl From<wit::Threshold> for Threshold {
    fn from(threshold: wit::Threshold) -> Self {
        let wit::Threshold { name, roles, approve, deny } = threshold;
        // A threshold of nothing would be reached before anybody was asked.
        Self { name, roles, approve: approve.max(1), deny: deny.max(1) }
    }
}
