//! One command of a plan at the gateway: asked for, waited for, run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::file::{Plan, Step};
use super::kept::{Kept, State};

/// Between two looks at an approval that waits.
const LOOK: Duration = Duration::from_secs(1);
/// How long a request may take; a command may run for an hour.
const PATIENCE: Duration = Duration::from_secs(3_700);
/// The longest answer, in bytes.
const MOST: usize = 8 << 20;

/// A gateway that serves approvals over HTTP.
pub(super) struct Gateway {
    client: Client,
    url: String,
    token: String,
    environment: String,
    task: String,
}

/// What came of a command.
#[derive(Debug)]
pub(super) enum Ended {
    /// It ran and ended well; the executor's number of the run.
    Well(String),
    Badly {
        code: i64,
        output: String,
    },
    /// It was not run.
    Refused(String),
    /// It was sent, and no answer came.
    Unknown,
}

/// Whether a command may be run.
enum Asked {
    /// With this approval; with none where nobody has to be asked.
    May(Option<String>),
    Not(String),
}

impl Gateway {
    pub(super) fn new(url: String, token: String, plan: &Plan) -> anyhow::Result<Self> {
        // An error means that a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .connect_timeout(Duration::from_secs(5))
                .timeout(PATIENCE)
        };
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build())?;
        let environment = plan.environment.clone();
        Ok(Self { client, url, token, environment, task: plan.name.clone() })
    }

    /// Has one command run. What is kept says at every moment what may have happened.
    pub(super) async fn step(
        &self,
        step: &Step,
        kept: &mut Kept,
        patience: Duration,
    ) -> anyhow::Result<Ended> {
        if kept.state(step) == State::Running {
            // It was sent, unless its approval says otherwise.
            match kept.approval(step).map(str::to_owned) {
                Some(approval) if self.stands(&approval).await? == "approved" => {}
                _ => return Ok(Ended::Unknown),
            }
        }
        let approval = match self.ask(step, kept, patience).await? {
            Asked::May(approval) => approval,
            Asked::Not(why) => return Ok(Ended::Refused(why)),
        };
        let order = json!({ "approval_id": approval, "command": step.line, "environment": self.environment });
        let token = match self.token(&order, patience).await? {
            Ok(token) => token,
            Err(why) => return Ok(Ended::Refused(why)),
        };
        kept.set(step, State::Running, approval.as_deref())?;
        let (status, said) = self.send(Method::POST, "/gateway/execute", Some(&order), Some(&token)).await?;
        if status != StatusCode::OK {
            // A refusal says that it was not run; of a failure behind it nobody knows.
            if status.is_client_error() {
                kept.set(step, State::Open, None)?;
                return Ok(Ended::Refused(why(status, &said)));
            }
            return Ok(Ended::Unknown);
        }
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        if said["success"] == true {
            kept.set(step, State::Done, approval.as_deref())?;
            return Ok(Ended::Well(text("execution_id")));
        }
        kept.set(step, State::Failed, None)?;
        Ok(Ended::Badly { code: said["exit_code"].as_i64().unwrap_or(-1), output: text("output") })
    }

    /// Asks for a command, and waits until people have decided.
    async fn ask(&self, step: &Step, kept: &mut Kept, patience: Duration) -> anyhow::Result<Asked> {
        let wish = json!({
            "worker_id": "plan",
            "task_name": format!("{} {}", self.task, step.place()),
            "instruction": step.line,
            "deployment_env": self.environment,
        });
        let (status, said) = self.send(Method::POST, "/approvals/request", Some(&wish), None).await?;
        let id = said["approval_id"].as_str().map(str::to_owned);
        match (status, said["status"].as_str(), &id) {
            (StatusCode::OK, Some("not_required"), _) => return Ok(Asked::May(None)),
            (StatusCode::OK, Some("approved"), Some(_)) => return Ok(Asked::May(id)),
            (StatusCode::ACCEPTED, _, Some(_)) => {}
            _ => return Ok(Asked::Not(why(status, &said))),
        }
        let id = id.unwrap_or_default();
        kept.set(step, State::Waiting, Some(&id))?;
        crate::cli::say(&format!(
            "  waits for a person: sentinel-gateway approvals approve {id} (risk {})",
            said["risk"].as_str().unwrap_or_default()
        ))?;
        let until = Instant::now() + patience;
        loop {
            match self.stands(&id).await?.as_str() {
                "approved" => return Ok(Asked::May(Some(id))),
                "pending" if Instant::now() < until => tokio::time::sleep(LOOK).await,
                "pending" => {
                    return Ok(Asked::Not(format!(
                        "nobody has decided on {id} yet; `plan run` goes on waiting"
                    )));
                }
                other => return Ok(Asked::Not(format!("{id} is {other}"))),
            }
        }
    }

    /// How an approval stands.
    async fn stands(&self, id: &str) -> anyhow::Result<String> {
        let (status, said) = self.send(Method::GET, &format!("/approvals/{id}"), None, None).await?;
        match said["status"].as_str().filter(|_| status == StatusCode::OK) {
            Some(state) => Ok(state.to_owned()),
            None => bail!("how {id} stands cannot be seen: {}", why(status, &said)),
        }
    }

    /// A capability token; one that was handed out before this was interrupted holds for two minutes at most.
    async fn token(&self, order: &Value, patience: Duration) -> anyhow::Result<Result<String, String>> {
        let until = Instant::now() + patience;
        loop {
            let (status, said) = self.send(Method::POST, "/gateway/token", Some(order), None).await?;
            match said["token"].as_str() {
                Some(token) if status == StatusCode::OK => return Ok(Ok(token.to_owned())),
                _ if said["reason"] == "token_issued" && Instant::now() < until => {
                    tokio::time::sleep(LOOK).await;
                }
                _ => return Ok(Err(why(status, &said))),
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&str>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        if let Some(token) = token {
            request = request.header("x-capability-token", token);
        }
        let asked = || format!("the gateway at {}", self.url);
        let mut answer = request.send().await.with_context(asked)?;
        let (status, mut bytes) = (answer.status(), Vec::new());
        while let Some(piece) = answer.chunk().await.with_context(asked)? {
            if bytes.len() + piece.len() > MOST {
                bail!("{} answers more than {MOST} bytes", asked());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}

/// What a refusal says.
fn why(status: StatusCode, said: &Value) -> String {
    let word = said["reason"].as_str().unwrap_or("no reason");
    match said["detail"].as_str() {
        Some(detail) => format!("{word}: {detail}"),
        None => format!("{word} ({status})"),
    }
}
