//! READ FIRST. One call from its arrival to its reply; every door comes through here.
//!
//! ```text
//! arrive → who? → where to? → kill switch → rate limit → RBAC → arguments fit? → breaker
//!        → rewrite → intent on record → BACKEND → rewrite → settle guards → outcome on record → reply
//! ```
//!
//! Nothing has an effect before its intent is on record, and nobody gets an answer before the outcome is.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

mod lists;
mod locate;
mod meters;
mod news;
mod outcome;
mod task_list;
mod tasks;

pub use lists::Readiness;
pub use news::News;
pub use outcome::Failure;
pub use tasks::EXTENSION as TASKS;

use self::locate::Located;
use crate::audit::{Audit, CallId, Closing, Entry, Status};
use crate::backend::{Backend, Registry, Reply};
pub use crate::backend::{BackendError, tried_again, whole};
use crate::call::{Call, Denial, Json, Principal};
use crate::mcp::client::Client;
use crate::mcp::payload::{Payload, PayloadError};
use crate::plugin::Answer as BackendAnswer;
pub use crate::policy::Caller;
use crate::policy::{Permitted, Policy};
use crate::rewrite::Rewriters;

/// Everything a call passes through.
#[derive(Debug)]
pub struct Pipeline {
    policy: Arc<Policy>,
    rewriters: Arc<Rewriters>,
    registry: Arc<Registry>,
    audit: Audit,
    tasks: tasks::Tasks,
    meters: meters::Meters,
}

/// A request as a door brings it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub caller: &'a Caller,
    pub door: &'static str,
    pub session: &'a Arc<str>,
    /// The JSON-RPC id as the client spelled it.
    pub rpc_id: &'a str,
    pub method: &'a str,
    pub params: Option<&'a Json>,
    /// The way back to the client while the call is under way.
    pub client: &'a Arc<dyn Client>,
}

/// What the client gets: a result, or an error object the backend made.
#[derive(Clone, Debug)]
pub enum Answer {
    Result(Payload),
    Error(Payload),
}

impl Answer {
    /// The words of a server about a call that failed, without the secrets of the configuration.
    fn without_secrets(self, backend: &Backend) -> Self {
        let clean = |payload: Payload| backend.without_secrets(&payload).unwrap_or(payload);
        match self {
            Self::Result(result) => Self::Result(clean(result)),
            Self::Error(error) => Self::Error(clean(error)),
        }
    }
}

impl Pipeline {
    #[must_use]
    pub fn new(
        policy: Arc<Policy>,
        rewriters: Arc<Rewriters>,
        registry: Arc<Registry>,
        audit: Audit,
    ) -> Self {
        Self {
            policy,
            rewriters,
            registry,
            audit,
            tasks: tasks::Tasks::default(),
            meters: meters::Meters::default(),
        }
    }

    /// Does one call, or says why not. Cancelling does not tear it: it ends in order, with its record.
    ///
    /// # Errors
    /// Whatever stands between the caller and an answer of the backend.
    pub async fn handle(
        &self,
        arrival: Arrival<'_>,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let trip = Trip { id: self.audit.next_id(), arrival, since: Instant::now() };
        // Who?
        let principal = match self.policy.identify(arrival.caller) {
            Ok(principal) => principal,
            Err(denial) => return self.refuse(&trip, None, None, denial.into()).await,
        };
        // Where to?
        let located = match self.locate(arrival.method, arrival.params, &principal).await {
            Ok(located) => located,
            Err(failure) => return self.refuse(&trip, Some(&principal), None, failure).await,
        };
        self.deliver(&trip, principal, located, cancelled).await
    }

    async fn deliver(
        &self,
        trip: &Trip<'_>,
        principal: Arc<Principal>,
        located: Located,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let call = Arc::new(trip.call(principal, &located));
        // May it? Kill switch, guards, arguments, breaker; then the rewriters' say on the request.
        let permitted = match self.policy.decide(&call, located.schema()) {
            Ok(permitted) => permitted,
            Err(denial) => return self.refuse(trip, Some(&call.principal), Some(&call), denial.into()).await,
        };
        let prepared = match self.rewriters.request(&permitted) {
            Ok(prepared) => prepared,
            Err(denial) => return self.refuse(trip, Some(&call.principal), Some(&call), denial.into()).await,
        };
        // The intent is on record before anything happens.
        self.audit.intent(trip.id, &trip.entry(Some(&call.principal), Some(&call))).await?;
        let sent = Instant::now();
        let done = tokio::select! {
            biased;
            denial = self.policy.kill().killed(&call.target) => Err(denial.into()),
            () = cancelled.cancelled() => Err(Failure::Cancelled),
            reply = located.backend.call(
                &permitted, prepared.params.as_ref(), prepared.headers, trip.arrival.client,
            ) => reply.map_err(Failure::from),
        };
        let latency = sent.elapsed();
        // What came of it: for the guards as the backend gave it, for the client as the rewriters leave it.
        let verdict = outcome::of(&done);
        let answer = match done {
            Ok(reply) => self.rewritten(&permitted, reply).await,
            Err(failure) => Err(failure),
        };
        permitted.settle(verdict, latency);
        let status = outcome::status(&answer, verdict);
        let answer = answer.map(|answer| {
            if status == Status::Error { answer.without_secrets(&located.backend) } else { answer }
        });
        let error = outcome::complaint(&answer, status);
        let closing = Closing {
            status,
            error: error.as_deref(),
            latency: trip.since.elapsed(),
            notes: &prepared.notes,
        };
        self.audit.outcome(trip.id, &closing).await?;
        self.meters.count(&call.target.name, status, answer.as_ref().err(), trip.since.elapsed());
        answer
    }

    async fn rewritten(&self, permitted: &Permitted, mut reply: Reply) -> Result<Answer, Failure> {
        let backend = &permitted.call().target.backend;
        let mut changed = None;
        if self.rewriters.see_responses(backend) {
            // A rewriter may be there to take something out, so it sees everything or nobody sees it.
            reply = reply.whole().await.map_err(|error| match error {
                PayloadError::TooLarge { limit } => {
                    BackendError::TooLarge { backend: backend.clone(), limit }
                }
                PayloadError::Source(_) => BackendError::Protocol {
                    backend: backend.clone(),
                    reason: "its long answer cannot be read back from the disk".into(),
                },
            })?;
            let answer = BackendAnswer {
                is_error: reply.is_error() || outcome::is_tool_error(&reply),
                error_code: reply.error_code(),
                result: if reply.is_error() { Bytes::new() } else { reply.payload().text().clone() },
            };
            changed = self.rewriters.response(permitted, &answer)?;
        }
        Ok(match (reply.is_error(), changed) {
            (true, _) => Answer::Error(reply.payload().clone()),
            (false, changed) => {
                self.tasks.note(permitted.call(), reply.text());
                Answer::Result(changed.map_or_else(|| reply.payload().clone(), Payload::from))
            }
        })
    }

    /// A call that was not done leaves a record too.
    async fn refuse<T>(
        &self,
        trip: &Trip<'_>,
        principal: Option<&Principal>,
        call: Option<&Call>,
        failure: Failure,
    ) -> Result<T, Failure> {
        let status = failure.status();
        let message = failure.to_string();
        let latency = trip.since.elapsed();
        let closing = Closing { status, error: Some(&message), latency, notes: &[] };
        self.audit.refused(trip.id, &trip.entry(principal, call), &closing).await?;
        // Only names that exist become labels; a client cannot grow the metrics.
        let tool = call.map_or("unknown", |call| &call.target.name);
        self.meters.count(tool, status, Some(&failure), latency);
        Err(failure)
    }

    /// The policies, for whoever flips the kill switch or replaces a plugin.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Who is calling.
    ///
    /// # Errors
    /// The authenticator's refusal.
    pub fn identify(&self, caller: &Caller) -> Result<Arc<Principal>, Denial> {
        self.policy.identify(caller)
    }
}

/// One call's way, with what its record needs.
struct Trip<'a> {
    id: CallId,
    arrival: Arrival<'a>,
    since: Instant,
}

/// Longest name of an unknown target that goes on record.
const MAX_NAME: usize = 256;

impl Trip<'_> {
    fn call(&self, principal: Arc<Principal>, located: &Located) -> Call {
        Call {
            id: self.id.to_string(),
            method: self.arrival.method.to_owned(),
            target: located.target.clone(),
            principal,
            params: self.arrival.params.map_or_else(Json::empty, Clone::clone),
            session: self.arrival.session.clone(),
            door: self.arrival.door,
        }
    }

    fn entry<'b>(&'b self, principal: Option<&'b Principal>, call: Option<&'b Call>) -> Entry<'b> {
        let params = self.arrival.params.map_or("", Json::get);
        let name = match call {
            Some(call) => &call.target.name,
            None => locate::asked(self.arrival.method, params),
        };
        Entry {
            rpc_id: self.arrival.rpc_id.get(..MAX_NAME).unwrap_or(self.arrival.rpc_id),
            method: self.arrival.method,
            subject: principal.map_or("", |principal| &principal.subject),
            role: principal.map_or("", |principal| &principal.role),
            kind: call.map_or("", |call| call.target.kind.as_str()),
            tool: name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end]),
            backend: call.map_or("", |call| &call.target.backend),
            session: self.arrival.session,
            arguments: crate::mcp::splice::get(params, "/arguments").unwrap_or(""),
        }
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<crate::audit::AuditError> for Failure {
    fn from(error: crate::audit::AuditError) -> Self {
        tracing::error!("the audit record cannot be written, so the call is not answered: {error}");
        Self::Audit
    }
}

/// Only for the status of what never was a call.
impl Failure {
    fn status(&self) -> Status {
        outcome::refused_status(self)
    }
}
