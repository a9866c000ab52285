//! How a call ended, in the words of the guards, of the record and of the metrics.

use super::{Answer, AnswerKind};
use crate::approval::Waiting;
use crate::audit::Status;
use crate::backend::BackendError;
use crate::call::{Denial, DenialKind, Outcome, TargetKind};
use crate::mcp::said;

/// Why a client gets no answer of a backend. The door turns it into a wire code.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error("{}", .0.message)]
    Denied(Denial),
    #[error("unknown {} \"{name}\"", kind.as_str())]
    Unknown { kind: TargetKind, name: String },
    /// No backend has listed it yet, but these may.
    #[error("unknown {} \"{name}\" so far: not yet heard from {backends}, which may offer it", kind.as_str())]
    Unlisted { kind: TargetKind, name: String, backends: String },
    #[error("{0}")]
    Params(String),
    #[error("method `{0}` is not known here")]
    Method(String),
    #[error(transparent)]
    Backend(BackendError),
    #[error("{0}")]
    Audit(&'static str),
    #[error("cancelled by the client")]
    Cancelled,
    /// It was not done: a person has to approve it first.
    #[error("waits for a person: {} ({})", .0.id, .0.digest)]
    Pending(Box<Waiting>),
}

/// What the guards hear; which of these is a failure is theirs to say. Of an answer the backend itself has said how the call
/// ended.
pub(super) fn of(done: &Result<Answer, Failure>) -> Outcome {
    match done {
        Ok(answer) => answer.outcome,
        Err(Failure::Backend(error)) => of_error(error),
        Err(_) => Outcome::Cancelled,
    }
}

/// The same of a call that has no answer.
fn of_error(error: &BackendError) -> Outcome {
    match error {
        // The server answered others meanwhile, or reported progress to the end: the fault is this call's, not the server's.
        BackendError::Timeout { alive: true, .. } => Outcome::ToolError,
        BackendError::Timeout { .. } => Outcome::Timeout,
        // Nothing was sent, because the server was known to be down; or this death of the server has been counted already.
        BackendError::Unreachable { counts: false, .. } => Outcome::Cancelled,
        BackendError::Unreachable { .. } => Outcome::Unreachable,
        BackendError::Protocol { .. } => Outcome::ProtocolError,
        // The server did answer; the answer was too large.
        BackendError::TooLarge { .. } => Outcome::ToolError,
        BackendError::Status { status: 429, .. } => Outcome::Throttled,
        BackendError::Status { status: 500.., .. } => Outcome::ServerError,
        BackendError::Status { .. } => Outcome::InvalidRequest,
        // The server has answered, and is not to blame for what became of it.
        BackendError::Unkept { .. } => Outcome::Success,
        // It was refused, and not done.
        BackendError::Refused(_) => Outcome::Cancelled,
        // It was never sent.
        BackendError::Busy { .. } | BackendError::Share { .. } => Outcome::Cancelled,
        // Nobody failed: it was wanted.
        BackendError::Stopped { .. } => Outcome::Cancelled,
    }
}

/// What the record says of the outcome.
pub(super) fn status(answer: &Result<Answer, Failure>) -> Status {
    match answer {
        Err(failure) => refused_status(failure),
        Ok(answer) if answer.outcome == Outcome::Success => Status::Success,
        Ok(_) => Status::Error,
    }
}

/// Whether refusals like this one may come any number of times, because no guard has counted them, or because a guard
/// has counted too many. Such refusals share rows.
pub(super) fn comes_often(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Denied(Denial {
            kind: DenialKind::RateLimited | DenialKind::Unauthenticated | DenialKind::Unavailable,
            ..
        })
    )
}

/// Whether the guards were not asked yet.
pub(super) fn is_before_the_guards(failure: &Failure) -> bool {
    match failure {
        Failure::Unknown { .. } | Failure::Unlisted { .. } | Failure::Params(_) | Failure::Method(_) => true,
        Failure::Denied(denial) => denial.kind == DenialKind::Killed,
        Failure::Backend(_) | Failure::Audit(_) | Failure::Cancelled | Failure::Pending(_) => false,
    }
}

/// Why a call has failed, for the record: in the server's own words where it said so itself. The record redacts and cuts
/// them as it does arguments.
pub(super) fn complaint(answer: &Result<Answer, Failure>, status: Status) -> Option<String> {
    match answer {
        Err(failure) => Some(failure.to_string()),
        Ok(_) if status != Status::Error => None,
        Ok(Answer { kind, payload, .. }) => Some(match kind {
            AnswerKind::Result => said::in_result(payload.json()),
            AnswerKind::RpcError { .. } => said::in_error(payload.json()),
            AnswerKind::Http(head) if head.complaint.is_some() => head.complaint.clone().unwrap_or_default(),
            AnswerKind::Http(head) => format!("HTTP status {}: {}", head.status.as_u16(), payload.json()),
            AnswerKind::Exit { code, .. } => format!("exit code {code}: {}", payload.json()),
        }),
    }
}

/// The plugin that decided, as a note for the record.
pub(super) fn decided(failure: &Failure) -> Option<(String, String)> {
    let Failure::Denied(Denial { decided: Some(decided), .. }) = failure else { return None };
    Some(("plugin".to_owned(), decided.to_string()))
}

pub(super) fn refused_status(failure: &Failure) -> Status {
    match failure {
        Failure::Denied(denial) => match denial.kind {
            DenialKind::Unauthenticated => Status::Unauthenticated,
            DenialKind::Killed => Status::Killed,
            DenialKind::RateLimited => Status::RateLimited,
            DenialKind::Forbidden | DenialKind::UnknownMethod => Status::Denied,
            DenialKind::InvalidArguments => Status::InvalidArgs,
            DenialKind::CircuitOpen => Status::CircuitOpen,
            DenialKind::Unavailable => Status::Error,
        },
        Failure::Unknown { .. } | Failure::Params(_) | Failure::Method(_) => Status::InvalidArgs,
        Failure::Backend(BackendError::Share { .. }) => Status::RateLimited,
        Failure::Backend(_) | Failure::Unlisted { .. } | Failure::Audit(_) => Status::Error,
        Failure::Cancelled => Status::Cancelled,
        Failure::Pending(_) => Status::AwaitingApproval,
    }
}
