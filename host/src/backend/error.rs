//! Where a backend is in its life, and why it gave no answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call::Denial;
use crate::redact::Words;

/// Why a backend gave no answer. This is what operators read, in the log and in the record; what a client hears of it is
/// said in `door::mcp::respond`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    #[error("backend \"{backend}\" is not available: {reason}{}", tried_again(*.again))]
    Unreachable {
        backend: Arc<str>,
        reason: Words,
        /// Whether this says something new about the server: it was asked, and of the calls that are lost with one
        /// connection this is the first.
        counts: bool,
        /// In how long it is tried again, if it is down and that is known.
        again: Option<Duration>,
    },
    #[error(
        "backend \"{backend}\" did not answer within {} s{}",
        .after.as_secs(),
        if *.endless { ", though it reported progress: a call may take no longer" } else { "" }
    )]
    Timeout {
        backend: Arc<str>,
        after: Duration,
        /// The server said something else meanwhile: it is there.
        alive: bool,
        /// It reported progress until the end.
        endless: bool,
    },
    #[error("backend \"{backend}\" did not answer in the protocol: {reason}")]
    Protocol { backend: Arc<str>, reason: Words },
    #[error(
        "backend \"{backend}\" did not answer in the protocol: the answer is over the limit of {limit} bytes"
    )]
    TooLarge { backend: Arc<str>, limit: usize },
    #[error("the call was made, but the long answer of backend \"{backend}\" was not kept: {}", if *.own {
        "too many of your other long answers are not read yet"
    } else {
        "too many long answers of other callers are not read yet"
    })]
    Unkept {
        backend: Arc<str>,
        /// It is the caller's own share that is used up.
        own: bool,
    },
    #[error("backend \"{backend}\" answered with HTTP status {status}{}{said}", if .said.is_empty() { "" } else { ": " })]
    Status {
        backend: Arc<str>,
        status: u16,
        retry_after: Option<Duration>,
        /// What it said about it.
        said: Words,
    },
    #[error("backend \"{backend}\" already works on {limit} calls")]
    Busy { backend: Arc<str>, limit: usize },
    #[error("backend \"{backend}\" was stopped by the operator, and stays so until the operator starts it")]
    Stopped { backend: Arc<str> },
    /// What was to be done was refused where it would have been done; nothing was done.
    #[error("{}", .0.message)]
    Refused(Box<Denial>),
    #[error("too many of your {what} at backend \"{backend}\": wait for one of them to end")]
    Share { backend: Arc<str>, what: &'static str },
}

/// When a backend that is down is tried again, as the end of a sentence.
#[must_use]
pub(crate) fn tried_again(again: Option<Duration>) -> String {
    again.map_or_else(String::new, |again| format!("; it is tried again within {} s", again.as_secs() + 1))
}

/// Where a backend is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Starting,
    Ready,
    /// Not there.
    Down {
        reason: Words,
        /// When it is tried again; `None`: never.
        again: Option<Instant>,
    },
    Stopped,
}
