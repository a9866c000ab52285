//! What can be asked for instead of a call itself: that people approve it, or a capability token that permits it once.
//!
//! Both are judged, prepared and recorded as the call would be. Nothing is sent to a backend.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::approving::{Asking, Ready, denied};
use super::context::CallContext;
use super::locate::Grant;
use super::{Answer, Destination, Failure, Pipeline, outcome};
use crate::approval::{Approval, Approvals, State, Waiting};
use crate::audit::{Closing, Entry};
use crate::backend::exec::Resolved;
use crate::call::{Call, Denial, DenialKind};
use crate::capability::LONGEST;

/// A call that may be made, and by which approval.
struct Granted<'p> {
    approval: Option<(&'p Arc<Approvals>, Approval)>,
    resolved: Option<Resolved>,
}

impl Pipeline {
    /// Gives what is wanted instead of a call, or says why not; either is on record.
    pub(super) async fn grant(
        &self,
        grant: Grant,
        context: &CallContext<'_>,
        ready: Result<Ready, Denial>,
        call: &Arc<Call>,
        (destination, cancelled): (&Destination, &CancellationToken),
    ) -> Result<Answer, Failure> {
        let granted = match ready {
            Ok(ready) => self.granted(context, ready, call, destination, cancelled).await,
            Err(denial) => Err(denial.into()),
        };
        let granted = match granted {
            Ok(granted) => granted,
            Err(failure) => return self.refuse(context, Some(&call.principal), Some(call), failure).await,
        };
        let method = grant.method();
        let entry = Entry { method, ..context.entry(Some(&call.principal), Some(call)) };
        self.recorded(self.audit.intent(context.id, &entry).await, &call.target.name, context)?;
        let answer = match grant {
            Grant::Approval => Ok(Answer::own(granted.facts().to_string())),
            Grant::Token => granted.token(call, destination).await,
        };
        let status = outcome::status(&answer);
        let mut notes = context.request.locate.map_or(&[][..], |locate| locate.notes()).to_vec();
        if let Some((_, approval)) = &granted.approval {
            notes.push(("approval".to_owned(), approval.id.clone()));
        }
        let error = outcome::complaint(&answer, status);
        let latency = context.since.elapsed();
        let closing = Closing { status, error: error.as_deref(), latency, notes: &notes };
        self.recorded(self.audit.outcome(context.id, &closing).await, &call.target.name, context)?;
        self.meters.count(&call.target.name, status, answer.as_ref().err(), latency);
        answer
    }

    /// Whether the call may be made: nobody has to be asked about it, or people have approved it.
    async fn granted(
        &self,
        context: &CallContext<'_>,
        ready: Ready,
        call: &Arc<Call>,
        destination: &Destination,
        cancelled: &CancellationToken,
    ) -> Result<Granted<'_>, Failure> {
        let pending = match ready {
            Ready::Now(_, prepared) => {
                let params = prepared.params.as_ref();
                let resolved = self.resolved(call, destination, params, cancelled).await?;
                return Ok(Granted { approval: None, resolved });
            }
            Ready::Ask(pending) => pending,
        };
        let Asking { people, resolved, asked, .. } =
            self.ask(context, &pending, destination, cancelled).await?;
        let approval = asked.approval;
        match approval.state {
            State::Approved => Ok(Granted { approval: Some((&people.approvals, approval)), resolved }),
            State::Pending => Err(Failure::Pending(Box::new(Waiting::new(&approval, false)))),
            State::Rejected | State::Expired | State::Cancelled | State::Consumed => {
                Err(denied(&approval.over(), Some(&approval.id)).into())
            }
        }
    }
}

impl Granted<'_> {
    /// That it may be made.
    fn facts(&self) -> Value {
        match &self.approval {
            None => json!({ "status": "not_required", "risk": "low", "approval_id": null }),
            Some((_, approval)) => json!({
                "status": approval.state.as_str(),
                "risk": approval.risk().as_str(),
                "approval_id": approval.id,
                "action_digest": approval.digest,
                "until_ms": approval.ends_ms(),
            }),
        }
    }

    /// A token for it: of each approval one at a time, which holds no longer than the approval.
    async fn token(&self, call: &Call, destination: &Destination) -> Result<Answer, Failure> {
        let Some(resolved) = &self.resolved else {
            let text = "there are capability tokens for commands only";
            return Err(Denial::new(DenialKind::InvalidArguments, "not_a_command", text).into());
        };
        let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let (of, until_ms) = match &self.approval {
            Some((approvals, approval)) => {
                let until = approvals.hand_out(&approval.id, Duration::from_secs(LONGEST)).await;
                (approval.id.as_str(), until.map_err(|refusal| denied(&refusal, Some(&approval.id)))?)
            }
            None => (call.id.as_str(), now_ms.saturating_add(LONGEST * 1_000)),
        };
        let seconds = (until_ms.saturating_sub(now_ms) / 1_000).clamp(1, LONGEST);
        let token = destination.backend.mint(call, resolved, of, seconds)?;
        let answer = json!({
            "token": token.to_text(),
            "approval_id": self.approval.as_ref().map(|(_, approval)| approval.id.as_str()),
            "command": *call.target.upstream,
            "expires_in": seconds,
            "until_ms": now_ms.saturating_add(seconds * 1_000),
        });
        Ok(Answer::own(answer.to_string()))
    }
}
