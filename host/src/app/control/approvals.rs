//! What people do about calls that wait for them.

use super::Plane;
use crate::approval::{Approval, Approvals, Person, Refusal, Shown, State, unknown};
use crate::control::{ControlError, Permitted, Report, ShownApproval, Vote};

use std::sync::Arc;

impl Plane {
    fn approvals(&self) -> &Arc<Approvals> {
        &self.reloader.resident().approvals
    }

    /// What waits, or all there is.
    pub(super) async fn list_approvals(&self, all: bool, limit: u32) -> Result<Report, ControlError> {
        self.approvals().list(all, limit).await.map(Report::Approvals).map_err(refused)
    }

    /// One approval, as every channel shows it.
    pub(super) async fn show_approval(&self, id: &str) -> Result<Report, ControlError> {
        let shown = self.approvals().show(id).await.map_err(refused)?;
        Ok(Report::Approval(Box::new(facts(shown))))
    }

    /// How a request of the caller stands. That there is one of somebody else is nobody's business.
    pub(super) async fn own_approval(&self, permitted: &Permitted, id: &str) -> Result<Report, ControlError> {
        let shown = self.approvals().show(id).await.map_err(refused)?;
        if shown.approval.requester.subject != permitted.call().principal.subject {
            return Err(refused(unknown(id)));
        }
        // What people are shown is for people.
        let facts = ShownApproval { text: String::new(), ..facts(shown) };
        Ok(Report::Approval(Box::new(facts)))
    }

    /// Takes the decision of the caller of this command.
    pub(super) async fn review_approval(
        &self,
        permitted: &Permitted,
        id: &str,
        vote: Vote,
        digest: &str,
        note: &str,
    ) -> Result<Report, ControlError> {
        let call = permitted.call();
        let by = Person {
            subject: call.principal.subject.clone(),
            role: call.principal.role.clone(),
            door: call.door.to_owned(),
        };
        let approval = self.approvals().review(id, by, vote, digest, note).await.map_err(refused)?;
        Ok(Report::Done(told(&approval, vote)))
    }

    /// Takes a request back.
    pub(super) async fn cancel_approval(
        &self,
        permitted: &Permitted,
        id: &str,
        why: &str,
    ) -> Result<Report, ControlError> {
        let who = &permitted.call().principal.subject;
        let why = if why.is_empty() { format!("by {who}") } else { format!("by {who}: {why}") };
        self.approvals().cancel(id, &why).await.map_err(refused)?;
        Ok(Report::Done(format!("{id} is cancelled")))
    }
}

fn facts(shown: Shown) -> ShownApproval {
    let Shown { approval, text, target, backend } = shown;
    ShownApproval {
        risk: approval.risk().as_str().to_owned(),
        requester: approval.requester.subject.clone(),
        target,
        backend,
        created_ms: approval.created_ms,
        ends_ms: approval.ends_ms(),
        approvers: approval.approvers().into_iter().map(str::to_owned).collect(),
        why: (approval.state.is_final() && approval.state != State::Consumed)
            .then(|| approval.over().message),
        consumed_by: approval.consumed_by,
        id: approval.id,
        state: approval.state,
        digest: approval.digest,
        text,
    }
}

fn refused(refusal: Refusal) -> ControlError {
    ControlError::Approval(refusal)
}

/// What came of a decision.
fn told(approval: &Approval, vote: Vote) -> String {
    let id = &approval.id;
    match (approval.state, vote) {
        (State::Pending, _) => {
            let approved = approval.approvers().len();
            format!(
                "your decision on {id} is noted; it waits for others as well ({approved} approved it so far)"
            )
        }
        (State::Approved, _) => format!("{id} is approved: the call may run once"),
        (State::Consumed, _) => format!("{id} is approved, and the call was made"),
        (state, _) => format!("{id} is {}", state.as_str()),
    }
}
