//! The caller: shakes hands once, then calls as a load says and judges every answer.

mod hostile;
mod http;
mod pacer;
mod stdio;
pub(crate) mod wire;

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::call::Calls;
use crate::load::{Load, Tally};

pub(crate) use hostile::Crowd;
pub(crate) use http::{Door, Http, KNOCK, idle_sessions};
pub(crate) use stdio::Stdio;

/// How long one question outside of a load may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The revision that every client here speaks.
pub(crate) const REVISION: &str = "2025-06-18";

/// One conversation.
#[derive(Debug)]
pub(crate) enum Client {
    Stdio(Box<Stdio>),
    Http(Box<Http>),
}

impl Client {
    /// Shakes hands.
    ///
    /// # Errors
    /// If nobody answers, or not as a server does.
    pub(crate) async fn greet(&mut self) -> anyhow::Result<()> {
        let info = json!({"name": "sentinel-bench", "version": "1"});
        let params = json!({"protocolVersion": REVISION, "capabilities": {}, "clientInfo": info});
        let result = self.ask("initialize", &params).await.context("initialize")?;
        if !result["protocolVersion"].is_string() {
            bail!("initialize was answered with {result}");
        }
        match self {
            Self::Stdio(client) => client.notify("notifications/initialized").await,
            Self::Http(client) => client.notify("notifications/initialized").await,
        }
    }

    /// The names of all tools.
    ///
    /// # Errors
    /// If the list cannot be had.
    pub(crate) async fn tools(&mut self) -> anyhow::Result<Vec<String>> {
        let (mut names, mut params) = (Vec::new(), json!({}));
        loop {
            let result = self.ask("tools/list", &params).await.context("tools/list")?;
            let tools = result["tools"].as_array().context("a list without tools")?;
            names.extend(tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)));
            match result.get("nextCursor") {
                Some(Value::String(cursor)) => params = json!({"cursor": cursor}),
                _ => return Ok(names),
            }
        }
    }

    /// One good call.
    ///
    /// # Errors
    /// Any other answer.
    pub(crate) async fn call(&mut self, calls: &Calls) -> anyhow::Result<()> {
        let asked = async {
            match self {
                Self::Stdio(client) => client.call(calls).await,
                Self::Http(client) => client.call(calls).await,
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.context("no answer in time")?
    }

    /// Calls as the load says. What goes wrong voids the tally.
    pub(crate) async fn drive(&mut self, load: &Load, calls: &Calls) -> Tally {
        match self {
            Self::Stdio(client) => client.drive(load, calls).await,
            Self::Http(client) => client.drive(load, calls).await,
        }
    }

    async fn ask(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        let asked = async {
            match self {
                Self::Stdio(client) => client.ask(method, params).await,
                Self::Http(client) => client.ask(method, params).await,
            }
        };
        let mut answer = tokio::time::timeout(PATIENCE, asked).await.context("no answer in time")??;
        if answer.get("result").is_none() {
            bail!("{method} was answered with {answer}");
        }
        Ok(answer["result"].take())
    }
}

/// A request or, without an id, a notification.
fn message(id: Option<u64>, method: &str, params: &Value) -> Vec<u8> {
    let mut message = json!({"jsonrpc": "2.0", "method": method, "params": params});
    if let Some(id) = id {
        message["id"] = id.into();
    }
    message.to_string().into_bytes()
}
