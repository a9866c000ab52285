//! READ FIRST. One call from its arrival to its reply; every door comes through here.
//!
//! ```text
//! arrive → who? → where to? → kill switch → rate limit → RBAC → rewrite → arguments fit? → (a person, if a guard asks)
//!        → breaker → intent on record → BACKEND → rewrite → settle guards → outcome on record → reply
//! ```
//!
//! Nothing has an effect before its intent is on record, and nobody gets an answer before the outcome is.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

mod approving;
mod context;
mod flights;
mod generation;
mod granting;
mod links;
mod lists;
mod locate;
mod meters;
mod operate;
mod outcome;
mod refusals;
mod repeat;
mod rewritten;
mod spans;
mod standing;
mod task_list;
mod tasks;
mod turned_away;
mod view;

pub use flights::{Flight, Flights};
pub use generation::Generation;
pub use lists::{BackendState, Readiness};
pub use operate::Operation;
pub use outcome::Failure;
pub use refusals::{LastRefusal, Refusals};
pub use repeat::Repeat;
pub use tasks::EXTENSION as TASKS;
pub use turned_away::TurnedAway;
pub use view::{Digest, View};

use self::approving::{Approved, Ready};
use self::context::CallContext;
use self::generation::Live;
use self::repeat::Begin;
use self::rewritten::{quieted, unreadable};
use crate::approval::Approvals;
pub use crate::approval::Waiting;
use crate::audit::{Audit, AuditError, CallId, Closing, Entry, Status};
pub use crate::backend::{
    Answer, AnswerKind, BackendError, Body, Chunks, HttpHead, ListChanged, tried_again, whole,
};
pub use crate::backend::{Backend, Status as BackendStatus};
use crate::backend::{Registry, ServerFleet};
use crate::call::shares::Shares;
use crate::call::{Call, Denial, Outcome, Principal, Share};
use crate::mcp::client::Client;
use crate::mcp::{Ambiguous, Params};
pub use crate::policy::Caller;
use crate::policy::Policy;
use crate::rewrite::{Prepared, Rewriters, sieved};
pub use crate::state::once::Once;
use crate::state::once::Ticket;
use crate::telemetry::context::Carried;
use crate::telemetry::trace;
pub use locate::{Destination, Grant, Locate};

/// Everything a call passes through.
#[derive(Debug)]
pub struct Pipeline {
    live: Arc<Live>,
    /// All servers of the endpoint, whichever generation they belong to.
    fleet: Arc<ServerFleet>,
    audit: Audit,
    tasks: tasks::Tasks,
    links: links::Links,
    meters: meters::Meters,
    /// Where people are asked; nobody can be without.
    people: Option<approving::People>,
    /// Calls under way, by caller.
    calls: Arc<Shares>,
    /// The same one by one, and the last that were refused: for operators.
    flights: Arc<Flights>,
    refusals: Arc<Refusals>,
}

/// The door that has one client only, so that nothing has to be shared.
const SOLE_DOOR: &str = "stdio";

/// How many calls may be under way at once, by default.
const CALLS: usize = 1_024;

/// A request as a door brings it.
#[derive(Clone, Copy, Debug)]
pub struct CallRequest<'a> {
    pub caller: &'a Caller,
    pub door: &'static str,
    pub session: &'a Arc<str>,
    /// The JSON-RPC id as the client spelled it; none if it wants no answer.
    pub rpc_id: Option<&'a str>,
    pub method: &'a str,
    pub params: Option<&'a Params>,
    /// The way back to the client while the call is under way.
    pub client: &'a Arc<dyn Client>,
    /// The trace context of its HTTP request.
    pub trace: Option<&'a Carried>,
    /// Bytes that are not in the params; none over MCP.
    pub body: Option<&'a Body>,
    /// Finds its target; none if its params name it as MCP does.
    pub locate: Option<&'a dyn Locate>,
    /// The key under which it is done once; none over MCP.
    pub repeat: Option<&'a Repeat>,
}

impl CallRequest<'_> {
    /// Whether somebody waits for an answer. Over MCP a request without an id is a notification.
    fn is_answered(&self) -> bool {
        self.rpc_id.is_some() || self.locate.is_some()
    }
}

/// A server's text about a call that failed, without the secrets of the configuration. It is read whole for that, because a
/// secret may stand anywhere in it.
async fn without_secrets(answer: Answer, backend: &Backend) -> Result<Answer, Failure> {
    let answer = answer.whole().await.map_err(|error| unreadable(backend.name(), &error))?;
    let payload = backend.without_secrets(&answer.payload);
    Ok(Answer { payload: payload.unwrap_or(answer.payload), ..answer })
}

impl Pipeline {
    #[must_use]
    pub fn new(
        policy: Arc<Policy>,
        rewriters: Arc<Rewriters>,
        registry: Arc<Registry>,
        audit: Audit,
    ) -> Self {
        Self::with(Generation::new(1, policy, rewriters, registry), audit)
    }

    /// One that begins with this generation.
    #[must_use]
    pub fn with(first: Generation, audit: Audit) -> Self {
        Self {
            fleet: first.registry().fleet().clone(),
            live: Live::new(first),
            audit,
            tasks: tasks::Tasks::default(),
            links: links::Links::default(),
            meters: meters::Meters::default(),
            people: None,
            calls: Shares::new(CALLS),
            flights: Arc::default(),
            refusals: Arc::default(),
        }
    }

    /// The same with so many calls under way at once, of which each caller may have a share.
    #[must_use]
    pub(crate) fn bearing(self, calls: usize) -> Self {
        Self { calls: Shares::new(calls), ..self }
    }

    /// The same, in which people are asked what guards want them to be asked; `endpoint` is its path, empty for the main one.
    #[must_use]
    pub fn approving(self, approvals: Arc<Approvals>, endpoint: &str) -> Self {
        Self { people: Some(approving::People::new(approvals, endpoint)), ..self }
    }

    /// The same, telling these of its calls: operators ask all endpoints at once.
    #[must_use]
    pub fn watched(self, flights: Arc<Flights>, refusals: Arc<Refusals>) -> Self {
        Self { flights, refusals, ..self }
    }

    /// The generation in force.
    #[must_use]
    pub fn current(&self) -> Arc<Generation> {
        self.live.load()
    }

    /// The generations that are alive, oldest first, each with its number of holders: calls under way and the like.
    #[must_use]
    pub fn generations(&self) -> Vec<(u64, usize)> {
        self.live.alive()
    }

    /// Makes room for one more generation; see [`Self::swap`].
    ///
    /// # Errors
    /// The number of one that had to end for that and does not.
    pub(crate) async fn make_room(&self) -> Result<(), u64> {
        self.live.make_room().await
    }

    /// Puts the next generation in force: requests that arrive from now on are done by it, and calls under way end on
    /// the one they began with.
    pub fn swap(&self, next: Generation) {
        self.live.swap(Arc::new(next));
    }

    /// How many calls are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.calls.taken()
    }

    /// From now on so many calls may be under way at once. Those that are under way stay.
    pub(crate) fn bears(&self, calls: usize) {
        self.calls.resize(calls);
    }

    /// Does one call, or says why not. A call that is cancelled still ends in order, with its record.
    ///
    /// # Errors
    /// Any reason why the caller gets no answer of the backend.
    pub async fn handle(
        &self,
        request: CallRequest<'_>,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        spans::over(&request, self.call(request, cancelled), spans::of_answer).await
    }

    async fn call(&self, request: CallRequest<'_>, cancelled: &CancellationToken) -> Result<Answer, Failure> {
        let since = Instant::now();
        // Who? From here to the end it is one generation's call.
        let (generation, who) = self.live.admit(request.caller);
        let context = self.context(&generation, request, since);
        let principal = match who {
            Ok(principal) => principal,
            Err(denial) => return self.refuse(&context, None, None, denial.into()).await,
        };
        // A caller who is switched off is told so, whatever the request is.
        if let Err(denial) = generation.policy().kill().check_caller(&principal) {
            return self.refuse(&context, Some(&principal), None, denial.into()).await;
        }
        // One caller's slow calls never cost others more than that caller's share.
        let share = if request.door == SOLE_DOOR { Share::SOLE } else { principal.share() };
        let _place = match self.calls.take(share, 1) {
            Ok(place) => place,
            Err(full) => {
                let denial = Denial::overloaded(if full.own {
                    "too many of your calls are under way: wait for one of them"
                } else {
                    "the gateway works on as many calls as it may: try again in a second or two"
                });
                return self.refuse(&context, Some(&principal), None, denial.into()).await;
            }
        };
        // Where to?
        let destination = tokio::select! {
            biased;
            destination = self.locate(&generation, &request, &principal) => destination,
            () = cancelled.cancelled() => Err(Failure::Cancelled),
            denial = generation.policy().kill().caller_killed(&principal) => Err(denial.into()),
            denial = generation.ended() => Err(denial.into()),
        };
        let destination = match destination {
            Ok(destination) => destination,
            Err(failure) => return self.refuse(&context, Some(&principal), None, failure).await,
        };
        self.deliver(&context, principal, destination, cancelled).await
    }

    /// Refuses a request whose params can be read in two ways, with a record. The arrival is without them.
    ///
    /// # Errors
    /// Always; the caller may be unknown, or the record not be written.
    pub(crate) async fn misread<T>(
        &self,
        request: CallRequest<'_>,
        ambiguous: &Ambiguous,
    ) -> Result<T, Failure> {
        let (generation, who) = self.live.admit(request.caller);
        let context = self.context(&generation, request, Instant::now());
        match who {
            Ok(who) => {
                let failure = Failure::Params(format!("`params`: {ambiguous}"));
                self.refuse(&context, Some(&who), None, failure).await
            }
            Err(denial) => self.refuse(&context, None, None, denial.into()).await,
        }
    }

    async fn deliver(
        &self,
        context: &CallContext<'_>,
        principal: Arc<Principal>,
        destination: Destination,
        cancelled: &CancellationToken,
    ) -> Result<Answer, Failure> {
        let (policy, rewriters) = (context.generation.policy(), context.generation.rewriters());
        let call = Arc::new(context.call(principal, &destination));
        let _aloft = self.flights.take_off(&call, context.since);
        trace::about(&call, context.generation.id());
        let (permitted, mut prepared, resolved) = match context.ready(&call, &destination) {
            Ok(Ready::Now(permitted, prepared))
                if !destination.backend.prepares() && !context.wants_grant() =>
            {
                (permitted, prepared, None)
            }
            // What is rare in a call takes no room in the futures of others.
            ready => match Box::pin(self.first(context, ready, &call, &destination, cancelled)).await {
                Approved::Run(run) => *run,
                Approved::End(end) => return end,
            },
        };
        let mut ticket = None;
        if let Some(repeat) = context.request.repeat {
            match Box::pin(self.once(context, &call, repeat)).await {
                Begin::Work(begun) => ticket = Some(begun),
                Begin::End(end) => return end,
            }
        }
        // The intent is on record before anything happens.
        let intent =
            Entry { sent: context.sent(&prepared), ..context.entry(Some(&call.principal), Some(&call)) };
        self.recorded(self.audit.intent(context.id, &intent).await, &call.target.name, context)?;
        let outgoing = spans::outgoing(&context.request, &call, &mut prepared, &destination.backend);
        ticket.iter_mut().for_each(Ticket::dispatched);
        // What the server says while it works goes through the rewriters that want to see it.
        let sieved = sieved(rewriters, &call, &prepared, context.request.client);
        let sent = Instant::now();
        let done = tokio::select! {
            biased;
            denial = policy.kill().killed(&call, &destination.also) => Err(denial.into()),
            () = cancelled.cancelled() => Err(Failure::Cancelled),
            denial = context.generation.ended() => Err(denial.into()),
            answer = destination.backend.call(
                &permitted,
                context.sending(&mut prepared, resolved.as_ref(), sieved.as_ref()),
            ) => answer.map_err(Failure::from),
        };
        let latency = sent.elapsed();
        spans::answered(outgoing, &done);
        // The guards hear of the result as the backend gave it; the client gets it as the rewriters leave it.
        let verdict = outcome::of(&done);
        let answer = match done {
            // A notification has no answer, so there is nothing to rewrite.
            Ok(answer) if !context.request.is_answered() => Ok(answer),
            Ok(answer) => self.rewritten(rewriters, &permitted, &mut prepared, answer).await,
            Err(failure) => Err(quieted(rewriters, &prepared.as_sent(&call), failure)),
        };
        if let Some(ticket) = ticket {
            let kept = repeat::kept(&answer);
            Box::pin(repeat::end(ticket, kept)).await;
        }
        permitted.settle(verdict, latency);
        let answer = match answer {
            Ok(answer) if answer.outcome != Outcome::Success => {
                without_secrets(answer, &destination.backend).await
            }
            answer => answer,
        };
        self.conclude(context, &call, &prepared, &answer).await?;
        answer
    }

    /// Puts on record how a call ended, and counts it.
    ///
    /// # Errors
    /// It cannot be recorded, so nobody may have the answer.
    async fn conclude(
        &self,
        context: &CallContext<'_>,
        call: &Call,
        prepared: &Prepared,
        answer: &Result<Answer, Failure>,
    ) -> Result<(), Failure> {
        let status = outcome::status(answer);
        let error = outcome::complaint(answer, status);
        let latency = context.since.elapsed();
        let closing = Closing { status, error: error.as_deref(), latency, notes: &prepared.notes };
        self.recorded(self.audit.outcome(context.id, &closing).await, &call.target.name, context)?;
        self.meters.count(&call.target.name, status, answer.as_ref().err(), context.since.elapsed());
        Ok(())
    }

    /// Records a call that was not done.
    ///
    /// A refusal before the guards are asked would cost its caller nothing, and could fill the record at any speed. So
    /// the guards are asked about it as about a call, but only whether it comes too often, which is a plugin's decision
    /// like any other. They are not told what was asked for, so their answer does not reveal whether it exists.
    async fn refuse<T>(
        &self,
        context: &CallContext<'_>,
        principal: Option<&Arc<Principal>>,
        call: Option<&Call>,
        mut failure: Failure,
    ) -> Result<T, Failure> {
        if outcome::is_before_the_guards(&failure)
            && let Some(principal) = principal
            && let Err(denial) =
                context.generation.policy().once_more(&Arc::new(context.unfound(principal.clone())))
        {
            failure = denial.into();
        }
        let message = failure.to_string();
        let latency = context.since.elapsed();
        let decided = outcome::decided(&failure);
        let noted = context.request.locate.map_or(&[][..], Locate::notes);
        let both: Vec<(String, String)>;
        let notes = match noted {
            [] => decided.as_slice(),
            noted => {
                both = noted.iter().cloned().chain(decided).collect();
                &both
            }
        };
        let closing =
            Closing { status: outcome::refused_status(&failure), error: Some(&message), latency, notes };
        let entry = context.entry(principal.map(|principal| &**principal), call);
        self.refused(context.generation.policy(), context.request.door, &entry, &closing);
        let recorded = if outcome::comes_often(&failure) {
            let who = principal.map_or_else(|| context.request.door.to_owned(), |who| who.identity());
            self.audit.refused_often(context.id, &who, &entry, &closing).await
        } else {
            self.audit.refused(context.id, &entry, &closing).await
        };
        // Only names that exist become labels; a client cannot grow the metrics.
        let tool = call.map_or("unknown", |call| &call.target.name);
        self.recorded(recorded, tool, context)?;
        self.meters.count(tool, closing.status, Some(&failure), latency);
        Err(failure)
    }

    /// The caller of a request that is not one call to one target. A request of an unknown caller is recorded, too.
    ///
    /// # Errors
    /// The caller is unknown.
    pub async fn known(&self, request: &CallRequest<'_>) -> Result<Arc<Principal>, Failure> {
        self.let_in(request).await.map(|(_, principal)| principal)
    }

    /// The same with the generation that knows them.
    async fn let_in(&self, request: &CallRequest<'_>) -> Result<(Arc<Generation>, Arc<Principal>), Failure> {
        match self.live.admit(request.caller) {
            (generation, Ok(principal)) => Ok((generation, principal)),
            (_, Err(denial)) => self.stranger(*request, denial).await,
        }
    }

    /// Refuses a request of an unknown caller, with a record of what it was.
    ///
    /// # Errors
    /// Always.
    pub async fn stranger<T>(&self, request: CallRequest<'_>, denial: Denial) -> Result<T, Failure> {
        let generation = self.live.load();
        let context = self.context(&generation, request, Instant::now());
        self.refuse(&context, None, None, denial.into()).await
    }

    fn context<'a>(
        &self,
        generation: &'a Generation,
        request: CallRequest<'a>,
        since: Instant,
    ) -> CallContext<'a> {
        CallContext { id: self.audit.next_id(), generation, request, since }
    }

    /// A call that could not be recorded is counted as such, however it ended.
    fn recorded(
        &self,
        result: Result<(), AuditError>,
        tool: &str,
        context: &CallContext<'_>,
    ) -> Result<(), Failure> {
        result.map_err(|error| {
            let failure = Failure::Audit(error.for_callers());
            self.meters.count(tool, Status::Error, Some(&failure), context.since.elapsed());
            failure
        })
    }

    /// Keeps a refusal for operators who ask.
    fn refused(&self, policy: &Policy, door: &'static str, entry: &Entry<'_>, closing: &Closing<'_>) {
        let refused = LastRefusal {
            at_ms: jiff::Timestamp::now().as_millisecond(),
            subject: entry.subject.to_owned(),
            role: entry.role.to_owned(),
            door,
            status: closing.status.as_str(),
            asked: format!("{} {}", entry.method, entry.tool).trim_end().to_owned(),
            why: closing.error.unwrap_or_default().to_owned(),
        };
        self.refusals.note(&policy.chain().redaction, refused);
    }

    /// The policies in force, for code that sets the kill switch.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.live.load().policy().clone()
    }

    /// Who is calling.
    ///
    /// # Errors
    /// The authenticator's refusal.
    pub fn identify(&self, caller: &Caller) -> Result<Arc<Principal>, Denial> {
        self.live.admit(caller).1
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Refused(denial) => Self::Denied(*denial),
            error => Self::Backend(error),
        }
    }
}

impl From<Denial> for Failure {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}
