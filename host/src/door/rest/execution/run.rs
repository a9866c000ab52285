//! What those do who want a command run: ask for an approval, get a capability token, run it.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::super::refusal::Refusal;
use super::super::{Exchange, respond};
use super::target::{Meant, Wanted, excerpt};
use super::{Known, page, status};
use crate::approval::time;
use crate::call::Json;
use crate::capability::Token;
use crate::mcp::Params;
use crate::pipeline::{Answer, CallRequest, Failure, Grant, Waiting};
use crate::route::problem::Problem;
use crate::route::{Misfit, Place};
use crate::telemetry::context::Carried;

/// The header with the token.
const TOKEN: &str = "x-capability-token";
/// A command runs as the tool that it is.
const METHOD: &str = "tools/call";

/// What an approval is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// What the caller calls themselves and what they do; for the record alone. Who they are says their credential.
    worker_id: Option<String>,
    task_name: Option<String>,
    /// The whole command line; the command's name, if `arguments` are given.
    instruction: String,
    deployment_env: String,
    arguments: Option<Map<String, Value>>,
}

/// Which command a token is wanted for, or is run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// None, where nobody has to be asked.
    approval_id: Option<String>,
    command: String,
    environment: String,
    arguments: Option<Map<String, Value>>,
}

impl Exchange<'_> {
    /// Asks for an approval.
    pub(super) async fn ask_approval(
        &self,
        known: Known<'_>,
        body: Body,
        cancelled: &CancellationToken,
    ) -> Result<Response, Box<Refusal>> {
        let wish: Wish = self.wanted(known, body).await?;
        let arguments = wish.arguments.map(Value::Object);
        let meant = self.meant(&wish.deployment_env, &wish.instruction, arguments.as_ref())?;
        let said = [("worker_id", &wish.worker_id), ("task_name", &wish.task_name)];
        let notes =
            said.into_iter().filter_map(|(name, said)| Some((name.to_owned(), excerpt(said.as_ref()?))));
        let wanted =
            Wanted { meant: &meant, grant: Some(Grant::Approval), brought: None, notes: notes.collect() };
        match self.run(known, &wanted, None, cancelled).await? {
            Ok(answer) => {
                let facts = read(&answer);
                let mut response = page(StatusCode::OK, &asked(&facts));
                if let Some(id) = facts["approval_id"].as_str() {
                    locate(&mut response, id);
                }
                Ok(response)
            }
            Err(Failure::Pending(waiting)) => Ok(waits(&waiting)),
            Err(failure) => Err(self.failed(&failure)),
        }
    }

    /// Gives a capability token.
    pub(super) async fn token(
        &self,
        known: Known<'_>,
        body: Body,
        cancelled: &CancellationToken,
    ) -> Result<Response, Box<Refusal>> {
        let order: Order = self.wanted(known, body).await?;
        let arguments = order.arguments.map(Value::Object);
        let meant = self.meant(&order.environment, &order.command, arguments.as_ref())?;
        let wanted = Wanted { meant: &meant, grant: Some(Grant::Token), brought: None, notes: Vec::new() };
        let answer = self.run(known, &wanted, order.approval_id.as_deref(), cancelled).await?;
        let mut facts = read(&answer.map_err(|failure| self.failed(&failure))?);
        let until = facts["until_ms"].as_u64().unwrap_or(0);
        facts["environment"] = order.environment.into();
        facts["expires_at"] = time(until).into();
        if let Value::Object(members) = &mut facts {
            members.remove("until_ms");
        }
        Ok(page(StatusCode::OK, &facts))
    }

    /// Runs a command.
    pub(super) async fn execute(
        &self,
        known: Known<'_>,
        body: Body,
        cancelled: &CancellationToken,
    ) -> Result<Response, Box<Refusal>> {
        let order: Order = self.wanted(known, body).await?;
        let mut values = self.parts.headers.get_all(TOKEN).iter();
        let token = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(Token::from_text),
            (None, _) => {
                let text = "a command runs with a capability token: get one from /gateway/token and send it as X-Capability-Token";
                return Err(Refusal::new(Problem::new(StatusCode::FORBIDDEN, "token_required", text)));
            }
            (Some(_), Some(_)) => None,
        };
        let Some(token) = token else {
            let detail = "it is no capability token".to_owned();
            return Err(Refusal::misfits(vec![Misfit { place: Place::Header(TOKEN.to_owned()), detail }]));
        };
        let arguments = order.arguments.map(Value::Object);
        let meant = self.meant(&order.environment, &order.command, arguments.as_ref())?;
        let brought = Some((token, order.approval_id.clone()));
        let wanted = Wanted { meant: &meant, grant: None, brought, notes: Vec::new() };
        let answer = self.run(known, &wanted, order.approval_id.as_deref(), cancelled).await?;
        let answer = answer.map_err(|failure| self.failed(&failure))?;
        Ok(page(StatusCode::OK, &ran(&read(&answer)["structuredContent"])))
    }

    /// Runs a command that is named, once it may be run.
    pub(super) async fn run_named(
        &self,
        known: Known<'_>,
        name: &str,
        body: Body,
        cancelled: &CancellationToken,
    ) -> Result<Response, Box<Refusal>> {
        let arguments: Map<String, Value> = self.said(known, body).await?.unwrap_or_default();
        let meant = Meant::named(&self.front.pipeline.current(), name, arguments)?;
        let wanted = Wanted { meant: &meant, grant: None, brought: None, notes: Vec::new() };
        let answer = self.run(known, &wanted, None, cancelled).await?;
        let answer = answer.map_err(|failure| self.failed(&failure))?;
        Ok(page(StatusCode::OK, &ran(&read(&answer)["structuredContent"])))
    }

    fn meant(&self, environment: &str, line: &str, arguments: Option<&Value>) -> Result<Meant, Box<Refusal>> {
        Meant::find(&self.front.pipeline.current(), environment, line, arguments)
    }

    /// Sends a call on its way.
    async fn run(
        &self,
        known: Known<'_>,
        wanted: &Wanted<'_>,
        approval: Option<&str>,
        cancelled: &CancellationToken,
    ) -> Result<Result<Answer, Failure>, Box<Refusal>> {
        let mut params = json!({ "name": *wanted.meant.name, "arguments": wanted.meant.arguments });
        if let Some(approval) = approval {
            params["_meta"] = json!({ crate::approval::NAMED: approval });
        }
        let params = Params::read(METHOD, Json::from(params.to_string()));
        let params = params.map_err(|ambiguous| Refusal::ambiguous(&ambiguous))?;
        let trace = Carried::of_headers(&self.parts.headers);
        let request = CallRequest {
            params: Some(&params),
            trace: trace.as_deref(),
            locate: Some(wanted),
            ..self.called(known, METHOD)
        };
        Ok(self.front.pipeline.handle(request, cancelled).await)
    }

    /// A call that was not made, with the statuses of approvals and tokens.
    fn failed(&self, failure: &Failure) -> Box<Refusal> {
        let mut refusal = respond::failed(failure, self.front.dev);
        if let Failure::Denied(denial) = failure
            && let Some(status) = status(&denial.reason)
        {
            refusal.problem.status = status;
        }
        refusal
    }
}

/// The facts of an answer of the gateway or of an executor, which are JSON.
fn read(answer: &Answer) -> Value {
    serde_json::from_str(answer.json()).unwrap_or_default()
}

/// To a request for an approval that waits.
fn waits(waiting: &Waiting) -> Response {
    let mut response = page(
        StatusCode::ACCEPTED,
        &json!({
            "id": waiting.id,
            "approval_id": waiting.id,
            "status": waiting.state.as_str(),
            "risk": waiting.risk.to_ascii_uppercase(),
            "reason": waiting.reason,
            "digest": waiting.digest,
            "expires_at": waiting.decide_by(),
            "retry_after": waiting.retry_after(),
        }),
    );
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(waiting.retry_after()));
    locate(&mut response, &waiting.id);
    response
}

/// To one about which nobody has to be asked any more.
fn asked(facts: &Value) -> Value {
    json!({
        "id": facts["approval_id"],
        "approval_id": facts["approval_id"],
        "status": facts["status"],
        "risk": facts["risk"].as_str().unwrap_or_default().to_ascii_uppercase(),
        "digest": facts["action_digest"],
        "expires_at": facts["until_ms"].as_u64().map(time),
    })
}

/// What came of a command.
fn ran(facts: &Value) -> Value {
    let text = |name: &str| facts[name].as_str().unwrap_or_default();
    json!({
        "success": facts["exit_code"] == 0 && facts["timed_out"] == false && facts["signal"].is_null(),
        "output": format!("{}{}", text("stdout"), text("stderr")),
        "exit_code": facts["exit_code"],
        "execution_id": facts["execution_id"],
        "duration_ms": facts["duration_ms"],
        "signal": facts["signal"],
        "timed_out": facts["timed_out"],
        "stdout": facts["stdout"],
        "stdout_bytes": facts["stdout_bytes"],
        "stdout_sha256": facts["stdout_sha256"],
        "stderr": facts["stderr"],
        "stderr_bytes": facts["stderr_bytes"],
        "stderr_sha256": facts["stderr_sha256"],
    })
}

fn locate(response: &mut Response, id: &str) {
    if let Ok(location) = HeaderValue::from_str(&format!("/approvals/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
}
