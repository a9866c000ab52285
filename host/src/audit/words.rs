//! The words of the record: what is told to the audit about a call, and what it tells about itself.

use std::fmt;
use std::time::Duration;

/// Names one call: no two calls of any two instances have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    /// 48 random bits of the instance.
    pub(super) instance: u64,
    pub(super) number: u64,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}-{}", self.instance, self.number)
    }
}

/// What is about to happen.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The id the client gave the request.
    pub rpc_id: &'a str,
    /// The method, such as `tools/call`.
    pub method: &'a str,
    /// Who calls.
    pub subject: &'a str,
    /// As what.
    pub role: &'a str,
    /// What kind of thing is called, such as `tool`.
    pub kind: &'a str,
    /// Its name.
    pub tool: &'a str,
    /// Where it lives.
    pub backend: &'a str,
    /// The client's session.
    pub session: &'a str,
    /// The arguments as the caller sent them, raw JSON; may be empty.
    pub arguments: &'a str,
    /// The arguments as the backend gets them, if a rewriter changed them.
    pub sent: Option<&'a str>,
    /// Which reading of the configuration it is judged by.
    pub generation: u64,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub struct Closing<'a> {
    /// The ending.
    pub status: Status,
    /// What went wrong.
    pub error: Option<&'a str>,
    /// From arrival to reply.
    pub latency: Duration,
    /// What policies had to say about it.
    pub notes: &'a [(String, String)],
}

/// The endings of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It was done.
    Success,
    /// The backend failed or refused.
    Error,
    /// The kill switch was on.
    Killed,
    /// Too many calls.
    RateLimited,
    /// Not allowed.
    Denied,
    /// The arguments do not fit the schema.
    InvalidArgs,
    /// The backend is known to be down.
    CircuitOpen,
    /// The caller is not known.
    Unauthenticated,
    /// The client went away or took it back.
    Cancelled,
    /// It was not done yet: a person has to approve it.
    AwaitingApproval,
    /// The gateway died before it knew.
    Unknown,
}

impl Status {
    /// All endings.
    pub const ALL: [Self; 11] = [
        Self::Success,
        Self::Error,
        Self::Killed,
        Self::RateLimited,
        Self::Denied,
        Self::InvalidArgs,
        Self::CircuitOpen,
        Self::Unauthenticated,
        Self::Cancelled,
        Self::AwaitingApproval,
        Self::Unknown,
    ];

    /// The word in the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Killed => "killed",
            Self::RateLimited => "rate_limited",
            Self::Denied => "denied",
            Self::InvalidArgs => "invalid_args",
            Self::CircuitOpen => "circuit_open",
            Self::Unauthenticated => "unauthenticated",
            Self::Cancelled => "cancelled",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Unknown => "unknown",
        }
    }
}

/// How the audit is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether calls are recorded and their records reach the database.
    pub healthy: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Bytes in journals, this instance's and adopted ones, that are not in the database yet.
    pub backlog_bytes: u64,
}
