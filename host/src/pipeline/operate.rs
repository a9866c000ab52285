//! A command of an operator to the gateway itself. It is a call like any other: its caller must be authenticated, the
//! guards judge it, its intent is on record before anything happens, and its outcome before the answer is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{CallContext, CallRequest, Failure, Pipeline};
use crate::audit::{Closing, Status};
use crate::call::{About, Call, Json, Outcome, Principal, Target, TargetKind};
use crate::control::{ControlError, ControlPlane, Report, Request};
use crate::mcp::Params;
use crate::mcp::client::{Affinity, Client, ClientInfo, ServerRequest};
use crate::mcp::{REVISIONS, code, message};
use crate::policy::Caller;

/// A command and its caller.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    pub caller: &'a Caller,
    pub door: &'static str,
    /// What rules and the record know it by: `kill`, `backend.restart`.
    pub name: &'static str,
    /// The same as a method: `control/kill`.
    pub method: &'static str,
    /// What it says beside its name, in `arguments`.
    pub params: &'a Params,
}

impl Pipeline {
    /// Judges and records what an operator wants, and has it done in between. It takes no place of the calls: the gateway
    /// must be reachable when all of them are taken.
    ///
    /// # Errors
    /// It was not done: the caller is not known, a guard refused, or it cannot be recorded. What came of it, good or bad, is
    /// within.
    pub(crate) async fn operate(
        &self,
        operation: Operation<'_>,
        request: &Request,
        plane: &dyn ControlPlane,
    ) -> Result<Result<Report, ControlError>, Failure> {
        let (client, session): (Arc<dyn Client>, Arc<str>) = (Arc::new(Nobody::default()), "".into());
        let call_request = CallRequest {
            caller: operation.caller,
            door: operation.door,
            session: &session,
            rpc_id: None,
            method: operation.method,
            params: Some(operation.params),
            client: &client,
            trace: None,
            body: None,
            locate: None,
            repeat: None,
        };
        let (generation, who) = self.live.admit(operation.caller);
        let context = self.context(&generation, call_request, Instant::now());
        let principal = match who {
            Ok(principal) => principal,
            Err(denial) => return self.refuse(&context, None, None, denial.into()).await,
        };
        let call = Arc::new(context.operation(principal, operation.name));
        let permitted = match generation.policy().decide_control(&call) {
            Ok(permitted) => permitted,
            Err(denial) => {
                return self.refuse(&context, Some(&call.principal), Some(&call), denial.into()).await;
            }
        };
        let intent = context.entry(Some(&call.principal), Some(&call));
        self.recorded(self.audit.intent(context.id, &intent).await, operation.method, &context)?;
        let began = Instant::now();
        let done = plane.perform(&permitted, request).await;
        let (status, outcome) = match &done {
            Ok(_) => (Status::Success, Outcome::Success),
            Err(_) => (Status::Error, Outcome::ToolError),
        };
        permitted.settle(outcome, began.elapsed());
        let error = done.as_ref().err().map(ToString::to_string);
        self.close_operation(&context, operation.method, status, error.as_deref()).await?;
        Ok(done)
    }

    async fn close_operation(
        &self,
        context: &CallContext<'_>,
        method: &str,
        status: Status,
        error: Option<&str>,
    ) -> Result<(), Failure> {
        let latency: Duration = context.since.elapsed();
        let closing = Closing { status, error, latency, notes: &[] };
        self.recorded(self.audit.outcome(context.id, &closing).await, method, context)?;
        self.meters.count(method, status, None, latency);
        Ok(())
    }
}

impl CallContext<'_> {
    /// No backend has it, so no server can be called like the gateway itself.
    fn operation(&self, principal: Arc<Principal>, name: &'static str) -> Call {
        Call {
            id: self.id.to_string(),
            method: self.request.method.to_owned(),
            target: Target {
                kind: TargetKind::Control,
                name: name.into(),
                backend: "".into(),
                upstream: name.into(),
            },
            principal,
            params: self.request.params.map_or_else(Json::empty, |params| params.json().clone()),
            session: self.request.session.clone(),
            door: self.request.door,
            about: About::default(),
        }
    }
}

/// An operator's command is asked and answered, and nothing is said in between.
#[derive(Debug)]
struct Nobody(ClientInfo);

impl Default for Nobody {
    fn default() -> Self {
        let capabilities = message::raw("{}".to_owned());
        Self(ClientInfo { version: REVISIONS[0], capabilities, info: None, log_level: None })
    }
}

impl Client for Nobody {
    fn client_info(&self) -> &ClientInfo {
        &self.0
    }

    fn affinity(&self) -> Affinity {
        Affinity::Shared
    }

    fn notify(&self, _: Bytes) {}

    fn ask(&self, question: Arc<ServerRequest>) {
        question.refuse(code::INTERNAL_ERROR, "no client is connected");
    }

    fn withdraw(&self, _: &str, _: Option<&str>) {}
}
