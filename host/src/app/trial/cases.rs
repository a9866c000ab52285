//! The file of cases: what a plugin is asked, and what it has to answer.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A file of cases. They run in its order, with one clock and one state.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// What the plugin is configured with.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The secrets it may read, by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub cases: Vec<Case>,
}

/// Limits that differ from those of a `[[plugins]]` entry without any.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub fuel: Option<u64>,
    pub memory_bytes: Option<usize>,
    pub host_bytes: Option<usize>,
}

/// One question and its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// The calendar from here on, as in RFC 3339: `2026-01-05T09:30:00Z`.
    pub at: Option<String>,
    /// So much time passes before it.
    pub after_ms: Option<u64>,
    /// Which function is asked; it follows from the rest unless a plugin is both a guard and a rewriter.
    pub hook: Option<Hook>,
    /// A call by a known caller.
    pub call: Option<Asked>,
    /// Somebody who wants to be let in: for an authenticator.
    pub request: Option<Knock>,
    /// What the server answered to the call: for a rewriter.
    pub answer: Option<Given>,
    /// A list of the server: for a rewriter.
    pub list: Option<Listed>,
    /// The tools whose names the caller may or may not know: for a filter of lists.
    pub rows: Option<Vec<String>>,
    /// How the call ended, told to a guard that gave a permit.
    pub settle: Option<Settled>,
    pub expect: Expected,
}

/// The functions of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    Authenticate,
    Check,
    Visible,
    OnRequest,
    OnResponse,
    OnCatalog,
}

/// A call. What is left out is that of a simple call of a tool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The name of the tool; `name` and `kind` for anything else.
    pub tool: Option<String>,
    pub name: Option<String>,
    #[serde(default)]
    pub kind: Kind,
    /// As clients send it; unless given, that of the kind.
    pub method: Option<String>,
    #[serde(default = "backend")]
    pub backend: String,
    /// The server's own name of the target, if it is another.
    pub upstream: Option<String>,
    #[serde(default = "subject")]
    pub subject: String,
    #[serde(default = "role")]
    pub role: String,
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    #[serde(default)]
    pub arguments: Option<Value>,
    /// The whole params, instead of a name with arguments.
    pub params: Option<Value>,
    #[serde(default = "session")]
    pub session: String,
    #[serde(default)]
    pub door: Door,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[default]
    Tool,
    Resource,
    Prompt,
    Route,
    Command,
    Control,
    Other,
}

/// The way a call or a credential came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    Stdio,
    #[default]
    Http,
}

/// A credential.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knock {
    #[serde(default)]
    pub door: Door,
    pub bearer: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Facts by their dotted key: `peer.user`.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
}

/// A server's answer: a result, or an error's number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    #[serde(default)]
    pub result: Option<Value>,
    pub error_code: Option<i64>,
}

/// A list of a server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    #[serde(default = "backend")]
    pub backend: String,
    #[serde(default)]
    pub kind: Kind,
    pub items: Vec<Value>,
}

/// How a call ended.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    pub outcome: End,
    #[serde(default)]
    pub latency_ms: u64,
}

/// The outcomes of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    Success,
    ToolError,
    InvalidRequest,
    Throttled,
    ServerError,
    Timeout,
    Unreachable,
    ProtocolError,
    Cancelled,
}

/// What a plugin said, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A guard lets the call pass.
    Allow,
    /// It is refused, by whichever plugin.
    Deny,
    /// A guard wants a person to be asked.
    Ask,
    /// An authenticator knows the caller.
    Accepted,
    /// The credential is not an authenticator's to judge.
    Abstain,
    /// A rewriter changes something.
    Changed,
    Unchanged,
    /// A filter answered.
    Filtered,
    /// The plugin failed: it crashed, met a limit, or made an edit that is not allowed.
    Fault,
}

impl Verdict {
    /// The word of the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
            Self::Accepted => "accepted",
            Self::Abstain => "abstain",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Filtered => "filtered",
            Self::Fault => "fault",
        }
    }
}

/// What has to come out. What is left out may be anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub verdict: Verdict,
    pub reason: Option<String>,
    /// A part of the message.
    pub message: Option<String>,
    pub retry_after_ms: Option<u64>,
    #[serde(default)]
    pub details: BTreeMap<String, String>,
    /// Whether the guard wants to be told how the call ended.
    pub permit: Option<bool>,
    /// Of an approval: `low`, `medium`, `high`.
    pub risk: Option<String>,
    pub subject: Option<String>,
    pub role: Option<String>,
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    /// The request's params after all edits.
    pub params: Option<Value>,
    /// Of these the arguments.
    pub arguments: Option<Value>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
    /// The result after all edits.
    pub result: Option<Value>,
    /// The entries of the list after all edits, as clients would see them.
    pub items: Option<Vec<Value>>,
    pub visible: Option<Vec<bool>>,
    /// The most steps it may take.
    pub fuel: Option<u64>,
}

fn backend() -> String {
    "shop".to_owned()
}

fn subject() -> String {
    "ann".to_owned()
}

fn role() -> String {
    "member".to_owned()
}

fn session() -> String {
    "session".to_owned()
}
