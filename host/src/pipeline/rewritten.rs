//! What rewriters make of a call on its way to a backend, and of the answer on its way back.

use std::sync::Arc;

use bytes::Bytes;

use super::locate::Destination;
use super::{Answer, AnswerKind, BackendError, Failure, Pipeline};
use crate::call::{Call, Denial, Outcome};
use crate::mcp::message;
use crate::mcp::payload::PayloadError;
use crate::mcp::schema::ArgumentSchema;
use crate::plugin::BackendResponse;
use crate::policy::{Permitted, Policy};
use crate::redact::Words;
use crate::rewrite::{Prepared, Rewriters};

impl Destination {
    /// The schema by which the arguments are judged as the client sent them. None where rewriters see them next and the server
    /// shows the schema that it goes by: it will read what they make of the arguments, so that is judged, and only once.
    pub(super) fn schema_of_client(&self, rewriters: &Rewriters) -> Option<&ArgumentSchema> {
        let is_rewritten = || rewriters.see_requests(self.backend.name());
        self.schema().filter(|schema| schema.is_edited() || !is_rewritten())
    }
}

/// What the rewriters make of a call. What they make of its arguments is judged as what a client sends is.
pub(super) fn prepare(
    policy: &Policy,
    rewriters: &Rewriters,
    call: &Arc<Call>,
    destination: &Destination,
) -> Result<Prepared, Denial> {
    let prepared = rewriters.prepare(call)?;
    let Some(schema) = destination.schema() else { return Ok(prepared) };
    let is_judged = destination.schema_of_client(rewriters).is_some();
    match &prepared.params {
        Some(params) => {
            if let Err(denial) = policy.still_fits(call, params, schema) {
                // The mistake may have been there before.
                if !is_judged {
                    policy.still_fits(call, &call.params, schema)?;
                }
                return Err(prepared.misfit(&denial));
            }
        }
        None if !is_judged => policy.still_fits(call, &call.params, schema)?,
        None => {}
    }
    Ok(prepared)
}

/// A failure without what the server said with an HTTP status, if a rewriter that looks at such would not let it pass as it is.
pub(super) fn quieted(rewriters: &Rewriters, call: &Arc<Call>, mut failure: Failure) -> Failure {
    if let Failure::Backend(BackendError::Status { said, .. }) = &mut failure
        && !said.is_empty()
        && rewriters.sieves(&call.target.backend)
        && !matches!(rewriters.sieve(call, "error", &message::quoted(&said.to_string())), Ok(None))
    {
        *said = Words::default();
    }
    failure
}

/// The failure for a long answer that has to be read whole and cannot be.
pub(super) fn unreadable(backend: &Arc<str>, error: &PayloadError) -> Failure {
    let backend = backend.clone();
    Failure::Backend(match error {
        PayloadError::TooLarge { limit } => BackendError::TooLarge { backend, limit: *limit },
        PayloadError::Source(_) => BackendError::Protocol {
            backend,
            reason: "its long answer cannot be read back from the disk".into(),
        },
    })
}

impl Pipeline {
    pub(super) async fn rewritten(
        &self,
        rewriters: &Rewriters,
        permitted: &Permitted,
        prepared: &mut Prepared,
        mut answer: Answer,
    ) -> Result<Answer, Failure> {
        let backend = &permitted.call().target.backend;
        let mut changed = None;
        if rewriters.see_responses(backend) {
            // A rewriter may be there to remove something, so an answer that it cannot see whole goes to nobody.
            answer = answer.whole().await.map_err(|error| match error {
                PayloadError::TooLarge { limit } => Failure::Denied(rewriters.too_long(backend, limit)),
                PayloadError::Source(_) => unreadable(backend, &error),
            })?;
            let is_error = answer.outcome != Outcome::Success;
            let error_code = answer.error_code();
            let result = if answer.is_rpc_error() { Bytes::new() } else { answer.payload.text().clone() };
            changed =
                rewriters.response(permitted, prepared, &BackendResponse { is_error, error_code, result })?;
        }
        match answer.kind {
            AnswerKind::RpcError { .. } => {
                let call = prepared.as_sent(permitted.call());
                // It has been made whole above, if anybody looks.
                if let Some(changed) = rewriters.sieve(&call, "error", answer.json())? {
                    answer.payload = Bytes::from(changed).into();
                }
            }
            AnswerKind::Result => {
                self.tasks.note(permitted.call(), answer.json());
                if let Some(changed) = changed {
                    answer.payload = changed.into();
                }
                // Read from what the client sees: it does not know of links that a rewriter removed.
                self.links.note(permitted.call(), answer.json());
            }
            AnswerKind::Http(_) | AnswerKind::Exit { .. } => {
                if let Some(changed) = changed {
                    answer.payload = changed.into();
                }
            }
        }
        Ok(answer)
    }
}
