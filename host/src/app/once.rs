//! Makes one call through a configuration, for a person who wants to see what each plugin says to it.
//!
//! It is a call like any other: the caller is the one on stdio, the guards are asked, the servers are started, the intent and
//! the outcome go on record. What guards remember is that of the configuration, too, so a call made here counts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::resident::Resident;
use super::running::{Prepared, RunningEndpoint};
use super::{SERVERS_LEFT, control, doors, environment, files, open_audit, state};
use crate::backend;
use crate::config::{self, Config};
use crate::door::mcp::respond;
use crate::files::narrow_umask;
use crate::mcp::client::{Client, Nobody};
use crate::mcp::payload::Payload;
use crate::mcp::{Era, Params, splice};
use crate::pipeline::{CallRequest, Failure, whole};
use crate::plugin::{Step, overhear, overheard};
use crate::policy::Caller;
use crate::telemetry;

/// The id of the request.
const RPC_ID: &str = "1";

/// What came of the call.
#[derive(Debug)]
pub struct Once {
    /// What the plugins were asked, in order, and what they said.
    pub steps: Vec<Step>,
    /// The result, or the error as a client would get it; both as JSON.
    pub answer: Result<String, String>,
    pub took: Duration,
}

/// Makes one call of a tool with these arguments, a JSON object.
///
/// # Errors
/// The configuration is wrong, or what the gateway needs to start is missing.
pub async fn call_once(
    path: &Path,
    log_level: Option<&str>,
    tool: &str,
    arguments: &str,
) -> anyhow::Result<Once> {
    let config = config::load(path, &environment)?;
    let log = telemetry::log(log_level.unwrap_or("warn"), config.redaction.clone())?;
    let once = Box::pin(within(&config, tool, arguments)).await;
    log.close();
    once
}

async fn within(config: &Config, tool: &str, arguments: &str) -> anyhow::Result<Once> {
    narrow_umask();
    let orders = control::orders(config).await?;
    let open = files::problems(config);
    let state = state::open(config, &open);
    let resident = Resident::new(config, &state, orders)?;
    let prepared = files::together(config, open, Prepared::load(&resident, config, None))?;
    let resident = resident.recording(open_audit(config).await?, config);
    let (audit, stop) = (resident.audit.clone(), resident.stop.clone());
    let suite = prepared.start(&resident, config, config, None)?;
    suite.pipeline().client_declares("{}");
    let once = call(&suite, config, tool, arguments).await;
    stop.cancel();
    suite.end().await;
    let _ = tokio::task::spawn_blocking(move || state.close()).await;
    backend::settle(SERVERS_LEFT).await;
    audit.close().await?;
    once
}

async fn call(suite: &RunningEndpoint, config: &Config, tool: &str, arguments: &str) -> anyhow::Result<Once> {
    let params = format!("{{\"name\":{},\"arguments\":{arguments}}}", Value::from(tool));
    let params = Params::read("tools/call", params.into())?;
    let caller = Caller::new(doors::credential(&config.auth));
    let (client, session): (Arc<dyn Client>, Arc<str>) = (Nobody::new(), "call".into());
    let request = CallRequest {
        caller: &caller,
        door: "stdio",
        session: &session,
        rpc_id: Some(RPC_ID),
        method: "tools/call",
        params: Some(&params),
        client: &client,
        trace: None,
        body: None,
        locate: None,
        repeat: None,
    };
    let pipeline = suite.pipeline().clone();
    // A server that is only being started has told no name yet.
    pipeline.current().registry().met().await;
    overhear();
    let began = Instant::now();
    let answer = Box::pin(pipeline.handle(request, &CancellationToken::new())).await;
    let took = began.elapsed();
    let answer = match answer {
        Ok(answer) if answer.is_rpc_error() => Err(text(answer.payload).await?),
        Ok(answer) => Ok(text(answer.payload).await?),
        Err(failure) => Err(refusal(&failure)),
    };
    Ok(Once { steps: overheard(), answer, took })
}

async fn text(payload: Payload) -> anyhow::Result<String> {
    let text =
        whole(payload).await.map_err(|error| anyhow::anyhow!("the answer cannot be shown: {error:?}"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The error object that a client would get.
fn refusal(failure: &Failure) -> String {
    let message = respond::failed(RPC_ID, failure, Era::Handshake).unwrap_or_default();
    let error = std::str::from_utf8(&message).ok().and_then(|text| splice::get(text, "/error"));
    error.map_or_else(|| failure.to_string(), str::to_owned)
}
