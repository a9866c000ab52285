//! The part of a call that waits for a person: what a guard wants approved is stored, people decide about it, and what runs
//! is what was stored.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::context::CallContext;
use super::repeat::Begin;
use super::rewritten::prepare;
use super::{Answer, Body, Destination, Failure, Generation, Locate, Pipeline};
use crate::approval::{Approval, Approvals, Asked, Draft, Need, Refusal, State, Waiting};
use crate::backend::exec::Resolved;
use crate::call::{Call, Denial, DenialKind, Json, TargetKind};
use crate::mcp::{Params, splice};
use crate::policy::{Decision, Pending, Permitted};
use crate::rewrite::Prepared;

/// Between two notifications about the progress of a call that waits.
const BEAT: Duration = Duration::from_secs(10);

/// A call that no guard refused.
pub(super) enum Ready {
    /// It can be sent.
    Now(Permitted, Prepared),
    /// People have to be asked.
    Ask(Box<Pending>),
}

/// What came of asking people.
pub(super) enum Approved {
    /// The call is made.
    Run(Box<(Permitted, Prepared, Option<Resolved>)>),
    /// It is not, and this is its end, which is on record.
    End(Result<Answer, Failure>),
}

/// A call about which people are asked.
pub(super) struct Asking<'p> {
    pub(super) people: &'p People,
    call: Arc<Call>,
    prepared: Prepared,
    params: Json,
    needs: Vec<Need>,
    pub(super) resolved: Option<Resolved>,
    pub(super) asked: Asked,
}

/// Where people are asked.
#[derive(Debug)]
pub(super) struct People {
    pub(super) approvals: Arc<Approvals>,
    /// The path of the endpoint; empty for the main one.
    endpoint: Arc<str>,
}

impl People {
    pub(super) fn new(approvals: Arc<Approvals>, endpoint: &str) -> Self {
        Self { approvals, endpoint: endpoint.into() }
    }

    /// What the guards want, in words that may be kept.
    fn needs(&self, pending: &Pending) -> Vec<Need> {
        let asks = pending.asks().iter();
        asks.map(|ask| self.approvals.need(ask.plugin.name(), &ask.request)).collect()
    }
}

impl Pipeline {
    /// What a command will run, which is known before anybody is asked about it.
    pub(super) async fn resolved(
        &self,
        call: &Call,
        destination: &Destination,
        params: Option<&Json>,
        cancelled: &CancellationToken,
    ) -> Result<Option<Resolved>, Failure> {
        tokio::select! {
            biased;
            resolved = destination.backend.prepare(call, params) => resolved.map_err(Failure::from),
            () = cancelled.cancelled() => Err(Failure::Cancelled),
        }
    }

    /// What comes first for a call that cannot be sent at once: what a command will run is found out before its intent goes on
    /// record, people are asked, or a refusal goes on record.
    pub(super) async fn first(
        &self,
        context: &CallContext<'_>,
        ready: Result<Ready, Denial>,
        call: &Arc<Call>,
        destination: &Destination,
        cancelled: &CancellationToken,
    ) -> Approved {
        if let Some(grant) = context.request.locate.and_then(Locate::grant) {
            return Approved::End(self.grant(grant, context, ready, call, (destination, cancelled)).await);
        }
        let failure = match ready {
            Ok(Ready::Now(permitted, prepared)) => {
                match self.resolved(call, destination, prepared.params.as_ref(), cancelled).await {
                    Ok(resolved) => return Approved::Run(Box::new((permitted, prepared, resolved))),
                    Err(failure) => failure,
                }
            }
            Ok(Ready::Ask(pending)) => {
                return self.ask_people(context, *pending, destination, cancelled).await;
            }
            Err(denial) => denial.into(),
        };
        Approved::End(self.refuse(context, Some(&call.principal), Some(call), failure).await)
    }

    /// Has people approve a call. What was done already, by its `Idempotency-Key`, is not asked about again: its answer is given
    /// again.
    async fn ask_people(
        &self,
        context: &CallContext<'_>,
        pending: Pending,
        destination: &Destination,
        cancelled: &CancellationToken,
    ) -> Approved {
        let call = pending.call().clone();
        // The key is taken when the call is made; until then it is left to the request that comes first.
        if let Some(repeat) = context.request.repeat
            && let Begin::End(end) = self.once(context, &call, repeat).await
        {
            return Approved::End(end);
        }
        match self.approved(context, pending, destination, cancelled).await {
            Ok(run) => Approved::Run(Box::new(run)),
            Err(failure) => {
                Approved::End(self.refuse(context, Some(&call.principal), Some(&call), failure).await)
            }
        }
    }

    /// Has people approve a call, and gives it as they approved it, ready to be sent. The approval is used up then.
    ///
    /// The order holds whatever dies in between: first the approval is used up on the disk, then the intent goes on record,
    /// and only then the call is sent. A gateway that is killed in between has lost an approval, and nothing ran twice.
    async fn approved(
        &self,
        context: &CallContext<'_>,
        pending: Pending,
        destination: &Destination,
        cancelled: &CancellationToken,
    ) -> Result<(Permitted, Prepared, Option<Resolved>), Failure> {
        let policy = context.generation.policy();
        let Asking { people, call, mut prepared, params, mut needs, mut resolved, asked } =
            self.ask(context, &pending, destination, cancelled).await?;
        let approvals = &people.approvals;
        let id = asked.approval.id.clone();
        let refused = |refusal: Refusal| Failure::from(denied(&refusal, Some(&id)));
        let approval = match asked.approval.state {
            State::Pending => {
                self.wait(context, people, &call, &asked.approval, destination, cancelled).await?
            }
            _ => asked.approval.clone(),
        };
        match approval.state {
            State::Approved => {}
            State::Pending => {
                let of_tool = call.target.kind == TargetKind::Tool && call.method == "tools/call";
                return Err(Failure::Pending(Box::new(Waiting::new(&approval, of_tool))));
            }
            State::Rejected | State::Expired | State::Cancelled | State::Consumed => {
                return Err(refused(approval.over()));
            }
        }
        // So may have the files that a command reads, while people thought about it.
        if asked.approval.state == State::Pending {
            let now = self.resolved(&call, destination, Some(&params), cancelled).await?;
            if now.as_ref().map(|now| now.digest) != resolved.as_ref().map(|before| before.digest) {
                let text = format!(
                    "{id} was approved, but what it would run has changed since then: a program or a file that it reads"
                );
                return Err(refused(Refusal { reason: "changed", message: text }));
            }
            resolved = now;
        }
        // The rules may have changed, too.
        let now = self.live.load();
        if now.id() != context.generation.id() {
            needs = match judged_again(&now, people, &call, destination) {
                Ok(needs) => needs,
                Err(why) => {
                    let _ended_already = approvals.cancel(&id, &format!("the rules changed: {why}")).await;
                    let text = format!("{id} was approved, but the rules have changed since then: {why}");
                    return Err(Denial::new(DenialKind::Forbidden, "stale_policy", text).into());
                }
            };
        }
        let permitted = policy.release(pending, &destination.also)?;
        let stored = approvals.consume(&id, asked.action.digest(), needs, &call.id, params.get()).await;
        let stored = stored.map_err(refused)?;
        tracing::info!(approval = id, call = call.id, "an approved call runs");
        prepared.params = Some(Json::from(stored.params));
        prepared.notes.extend([
            ("approval".to_owned(), id),
            ("approved_by".to_owned(), stored.approval.approvers().join(", ")),
            ("action_digest".to_owned(), stored.approval.digest),
        ]);
        Ok((permitted, prepared, resolved))
    }

    /// Whether this is an approval that this person asked for.
    pub(crate) async fn asked_by(&self, id: &str, subject: &str) -> bool {
        match &self.people {
            Some(people) => {
                people.approvals.get(id).await.is_ok_and(|approval| approval.requester.subject == subject)
            }
            None => false,
        }
    }

    /// Asks for an approval of a call, as it would be sent. Nobody waits yet.
    pub(super) async fn ask(
        &self,
        context: &CallContext<'_>,
        pending: &Pending,
        destination: &Destination,
        cancelled: &CancellationToken,
    ) -> Result<Asking<'_>, Failure> {
        let (policy, call) = (context.generation.policy(), pending.call().clone());
        let Some(people) = self.people.as_ref().filter(|_| context.request.is_answered()) else {
            return Err(policy.nobody_to_ask(pending).into());
        };
        let prepared = prepare(policy, context.generation.rewriters(), &call, destination)?;
        let needs = people.needs(pending);
        let params = prepared.params.clone().unwrap_or_else(|| call.params.clone());
        let resolved = self.resolved(&call, destination, Some(&params), cancelled).await?;
        let draft = Draft {
            endpoint: &people.endpoint,
            call: &call,
            also: &destination.also,
            params: params.get(),
            headers: &prepared.headers,
            body: approvable(context.request.body)?,
            resolved: resolved.as_ref().map(|resolved| &*resolved.action),
        };
        let asked = people.approvals.ask(&draft, needs.clone(), context.generation.id()).await;
        let asked = asked.map_err(|refusal| denied(&refusal, None))?;
        Ok(Asking { people, call, prepared, params, needs, resolved, asked })
    }

    /// Waits for a decision as long as the operator wants a call to wait, and says so to the client meanwhile.
    async fn wait(
        &self,
        context: &CallContext<'_>,
        people: &People,
        call: &Call,
        approval: &Approval,
        destination: &Destination,
        cancelled: &CancellationToken,
    ) -> Result<Approval, Failure> {
        let kill = context.generation.policy().kill();
        let patience = people.approvals.settings().wait;
        let until = Instant::now() + patience;
        let decided = people.approvals.decided(&approval.id, patience);
        tokio::pin!(decided);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                denial = kill.killed(call, &destination.also) => return Err(denial.into()),
                () = cancelled.cancelled() => return Err(Failure::Cancelled),
                denial = context.generation.ended() => return Err(denial.into()),
                approval = &mut decided => {
                    return approval.map_err(|refusal| denied(&refusal, None).into());
                }
                _ = beat.tick() => context.tell_waiting(approval, until),
            }
        }
    }
}

/// What the guards of the present rules want of a call, or why they refuse it.
fn judged_again(
    generation: &Generation,
    people: &People,
    call: &Arc<Call>,
    destination: &Destination,
) -> Result<Vec<Need>, String> {
    let schema = destination.schema_of_client(generation.rewriters());
    match generation.policy().weigh(call, &destination.also, schema, || Ok(())) {
        Ok(Decision::Permitted(..)) => Ok(Vec::new()),
        Ok(Decision::Ask(pending)) => Ok(people.needs(&pending)),
        Err(denial) => Err(denial.message),
    }
}

impl CallContext<'_> {
    /// May the call be made? Kill switch, guards, what the rewriters make of it, arguments, breaker. Where a guard wants a person
    /// to approve it, the breaker comes after that.
    pub(super) fn ready(&self, call: &Arc<Call>, destination: &Destination) -> Result<Ready, Denial> {
        let (policy, rewriters) = (self.generation.policy(), self.generation.rewriters());
        let schema = destination.schema_of_client(rewriters);
        let ready = || prepare(policy, rewriters, call, destination);
        Ok(match policy.weigh(call, &destination.also, schema, ready)? {
            Decision::Permitted(permitted, prepared) => Ready::Now(permitted, prepared),
            Decision::Ask(pending) => Ready::Ask(pending),
        })
    }

    /// Tells the client what its call waits for, if it wants to hear of progress. The numbers count up to nothing, so that
    /// the server's own, which come later, are higher (MCP "Progress": each has to be higher than the one before).
    fn tell_waiting(&self, approval: &Approval, until: Instant) {
        let params = self.request.params.map_or("{}", Params::get);
        let Some(token) = splice::get(params, "/_meta/progressToken") else { return };
        let left = until.saturating_duration_since(Instant::now()).as_secs_f64().max(0.001);
        let waiting = Waiting::new(approval, true);
        let text = json!(format!(
            "waits for a person to approve it: {}, open until {}",
            waiting.id,
            waiting.decide_by()
        ));
        let message = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{token},\"progress\":{},\"message\":{text}}}}}",
            -left
        );
        self.request.client.notify(message.into());
    }
}

/// The body that is sent beside the params. One that is streamed cannot be shown before it is sent.
fn approvable(body: Option<&Body>) -> Result<Option<&[u8]>, Denial> {
    match body {
        None => Ok(None),
        Some(Body::Whole(bytes)) => Ok(Some(bytes)),
        Some(Body::Streamed(_)) => Err(Denial::new(
            DenialKind::InvalidArguments,
            "not_exact",
            "a person cannot approve this call, because its body is sent on while it arrives",
        )),
    }
}

/// A refusal about an approval, as callers hear it.
pub(super) fn denied(refusal: &Refusal, id: Option<&str>) -> Denial {
    let kind = match refusal.reason {
        "approvals_unavailable" => DenialKind::Unavailable,
        "too_many_pending" => DenialKind::RateLimited,
        "not_exact" | "too_large" => DenialKind::InvalidArguments,
        _ => DenialKind::Forbidden,
    };
    let mut denial = Denial::new(kind, refusal.reason, refusal.message.as_str());
    if let Some(id) = id {
        denial.details.push(("approval_id".to_owned(), id.to_owned()));
    }
    denial
}
