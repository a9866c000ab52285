//! The commands of operators to a gateway that runs, as one trait ([`ControlPlane`]), with the requests and reports.
//!
//! A command comes through a door and the pipeline like any call, and only then to the [`ControlPlane`], which is
//! implemented where everything is put together (`app`). The same words go over the control socket as JSON, one line for
//! the request and one for the answer.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub mod socket;
mod status;
mod text;

pub use self::status::{
    BackendStatus, CallStatus, EndpointStatus, Generation, OffStatus, Origin, Record, RefusedStatus, Running,
    Status, Time,
};
pub use self::text::{approvals as approvals_text, changes as changes_text, status as status_text};
pub use crate::approval::{State as ApprovalState, Summary as ApprovalSummary, Vote};
pub use crate::policy::{Permitted, Switch};

/// The layout of requests and answers. A gateway refuses another one.
pub const VERSION: u32 = 1;
/// Longest request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// Longest answer, in bytes.
pub const MAX_ANSWER: usize = 8 << 20;

/// Does what operators want.
pub trait ControlPlane: Send + Sync + fmt::Debug {
    /// Carries out a command. The permit shows that it passed the policies and that its intent is on record.
    fn perform<'a>(
        &'a self,
        permitted: &'a Permitted,
        request: &'a Request,
    ) -> BoxFuture<'a, Result<Report, ControlError>>;
}

/// A command, and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub version: u32,
    pub command: Command,
    /// Goes on record; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A token of the caller, who is otherwise the user at the other end of the socket. It is for the authenticators, and not
    /// on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// A token that does not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// How the gateway is.
    Status,
    /// Switches something off, until it is revived.
    Kill {
        what: Switch,
        /// Even if nothing of that name is known: it may come later.
        #[serde(default)]
        even_unknown: bool,
    },
    /// Takes such an order back.
    Revive { what: Switch },
    /// Stops, starts or restarts a backend.
    Backend { name: String, deed: Deed },
    /// Asks for the differences between the file and the configuration in force.
    ConfigDiff,
    /// Puts in force what the file says now.
    ConfigApply,
    /// What waits for a person, oldest first.
    ApprovalsList {
        /// Also what has ended, the newest first.
        #[serde(default)]
        all: bool,
        limit: u32,
    },
    /// Everything about one approval.
    ApprovalsShow { id: String },
    /// How a request of the caller's own stands.
    ApprovalsOwn { id: String },
    /// A person's decision.
    ApprovalsReview {
        id: String,
        vote: Vote,
        /// The digest that the person saw.
        digest: String,
    },
    /// Takes a request back that is open.
    ApprovalsCancel { id: String },
}

/// What to do with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    Restart,
    Stop,
    Start,
}

impl Command {
    /// What rules and the record know it by, and the same as a method.
    #[must_use]
    pub fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Status => ("status", "control/status"),
            Self::Kill { .. } => ("kill", "control/kill"),
            Self::Revive { .. } => ("revive", "control/revive"),
            Self::Backend { deed: Deed::Restart, .. } => ("backend.restart", "control/backend.restart"),
            Self::Backend { deed: Deed::Stop, .. } => ("backend.stop", "control/backend.stop"),
            Self::Backend { deed: Deed::Start, .. } => ("backend.start", "control/backend.start"),
            Self::ConfigDiff => ("config.diff", "control/config.diff"),
            Self::ConfigApply => ("config.apply", "control/config.apply"),
            Self::ApprovalsList { .. } => ("approvals.list", "control/approvals.list"),
            Self::ApprovalsShow { .. } => ("approvals.show", "control/approvals.show"),
            Self::ApprovalsOwn { .. } => ("approvals.own", "control/approvals.own"),
            Self::ApprovalsReview { vote: Vote::Approve, .. } => {
                ("approvals.approve", "control/approvals.approve")
            }
            Self::ApprovalsReview { vote: Vote::Reject, .. } => {
                ("approvals.reject", "control/approvals.reject")
            }
            Self::ApprovalsCancel { .. } => ("approvals.cancel", "control/approvals.cancel"),
        }
    }

    /// Whether it changes something that another such command must not change at the same time. Switching off is not among
    /// them: it must never wait for a new configuration to be compiled, and it only ever makes less possible.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        match self {
            Self::Revive { .. } | Self::Backend { .. } | Self::ConfigApply => true,
            Self::Status
            | Self::Kill { .. }
            | Self::ConfigDiff
            | Self::ApprovalsList { .. }
            | Self::ApprovalsShow { .. }
            | Self::ApprovalsOwn { .. }
            | Self::ApprovalsReview { .. }
            | Self::ApprovalsCancel { .. } => false,
        }
    }
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Status(Box<Status>),
    /// It was done, in a sentence.
    Done(String),
    Changes(Changes),
    /// What waits for a person.
    Approvals(Vec<ApprovalSummary>),
    Approval(Box<ShownApproval>),
}

/// An approval as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownApproval {
    pub id: String,
    pub state: ApprovalState,
    pub digest: String,
    /// Every character of it can be seen; the same on every channel. Empty for who asked.
    pub text: String,
    /// `low`, `medium` or `high`.
    #[serde(default)]
    pub risk: String,
    /// Who asked.
    #[serde(default)]
    pub requester: String,
    /// What would be called.
    #[serde(default)]
    pub target: String,
    /// Where.
    #[serde(default)]
    pub backend: String,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub created_ms: u64,
    /// When the state ends by itself, in milliseconds since 1970.
    #[serde(default)]
    pub ends_ms: u64,
    /// Who approved it so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// The call that used it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumed_by: Option<String>,
    /// Why nothing becomes of it, for one that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The differences between the file and the configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// They were put in force; otherwise this only says what would be.
    pub applied: bool,
    pub generation: u64,
    pub changes: Vec<Change>,
    /// What else there is to say, a sentence a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Such as `auth.role`, `backends "files".args`.
    pub key: String,
    pub effect: Effect,
}

/// How a changed key comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// When the file is applied.
    Live,
    /// The same, and calls under way end on the server they began with.
    Drain,
    /// With the next start of the gateway.
    Restart,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The name matches nothing.
    #[error("{0}")]
    Unknown(String),
    #[error("{who} is at it: {what}, for {} s; try again when that is done", .since.as_secs())]
    Busy { who: String, what: &'static str, since: Duration },
    /// It cannot be done in the present state.
    #[error("{0}")]
    Refused(String),
    /// It was tried, and went wrong.
    #[error("{0}")]
    Failed(String),
    /// An approval is not decided or shown, for a reason of its own.
    #[error("{0}")]
    Approval(crate::approval::Refusal),
}

impl ControlError {
    /// The word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown",
            Self::Busy { .. } => "busy",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Approval(refusal) => refusal.reason,
        }
    }
}

/// An answer as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ok(Report),
    Error {
        /// A word for programs, such as `permission_denied`, `busy`, `unknown`.
        reason: String,
        message: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn requests_have_one_spelling() {
        let kill = |what: Switch| Request {
            version: 1,
            command: Command::Kill { what, even_unknown: false },
            reason: "it leaks".to_owned(),
            token: None,
        };
        let lines = [
            (
                kill(Switch::Tool("echo".to_owned())),
                r#"{"version":1,"command":{"kill":{"what":{"tool":"echo"},"even_unknown":false}},"reason":"it leaks"}"#,
            ),
            (
                kill(Switch::All),
                r#"{"version":1,"command":{"kill":{"what":"all","even_unknown":false}},"reason":"it leaks"}"#,
            ),
            (
                Request { version: 1, command: Command::Status, reason: String::new(), token: None },
                r#"{"version":1,"command":"status"}"#,
            ),
            (
                Request {
                    version: 1,
                    command: Command::Backend { name: "files".to_owned(), deed: Deed::Restart },
                    reason: String::new(),
                    token: None,
                },
                r#"{"version":1,"command":{"backend":{"name":"files","deed":"restart"}}}"#,
            ),
        ];
        for (request, line) in lines {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
        let review = Request {
            version: 1,
            command: Command::ApprovalsReview {
                id: "appr_1".to_owned(),
                vote: Vote::Reject,
                digest: "ab".to_owned(),
            },
            reason: String::new(),
            token: Some(Token("secret".to_owned())),
        };
        let line = r#"{"version":1,"command":{"approvals_review":{"id":"appr_1","vote":"reject","digest":"ab"}},"token":"secret"}"#;
        assert_eq!(serde_json::to_string(&review).unwrap(), line);
        assert!(!format!("{review:?}").contains("secret"), "a token does not print");
        for wrong in [
            r#"{"version":1,"command":"stop"}"#,
            r#"{"version":1,"command":"status","who":"me"}"#,
            r#"{"version":1,"command":"status","command":"status"}"#,
            r#"{"command":"status"}"#,
            r#"{"version":1,"command":{"kill":{"what":"all","why":"x"}}}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }
}
