//! Speaks MCP's handshake era with one client: what each of its messages means, and what it is told unasked.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::respond;
use crate::mcp::catalog::List;
use crate::mcp::envelope::{self, Body, EnvelopeError, Message};
use crate::mcp::{BATCH_REVISION, code, message, negotiate, splice};
use crate::pipeline::{Answer, Arrival, Caller, ClientRequest, Failure, News, Pipeline};
use crate::session::{Hello, Session};

/// Most questions of backends that wait for the client's answer.
const MAX_ASKED: usize = 256;
/// Most messages in one batch.
const MAX_BATCH: usize = 100;

/// One client's conversation.
#[derive(Debug)]
pub struct Conversation {
    pipeline: Arc<Pipeline>,
    caller: Arc<Caller>,
    session: Arc<Session>,
    door: &'static str,
    /// Messages to the client; bounded, so a client that does not read slows itself down.
    out: mpsc::Sender<Bytes>,
    tasks: TaskTracker,
    asked: Mutex<Asked>,
}

/// Questions of backends under way to the client.
#[derive(Debug, Default)]
struct Asked {
    next: u64,
    waiting: HashMap<u64, ClientRequest>,
}

impl Conversation {
    #[must_use]
    pub fn new(
        pipeline: Arc<Pipeline>,
        caller: Arc<Caller>,
        session: Arc<Session>,
        door: &'static str,
        out: mpsc::Sender<Bytes>,
    ) -> Arc<Self> {
        let (tasks, asked) = (TaskTracker::new(), Mutex::default());
        Arc::new(Self { pipeline, caller, session, door, out, tasks, asked })
    }

    /// The requests under way, to wait for.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Takes one line of the client. Requests run on their own; nothing here waits for a backend.
    pub async fn hear(self: &Arc<Self>, line: &[u8]) {
        let trimmed = line.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
        if line.get(trimmed) == Some(&b'[') {
            return self.hear_batch(line).await;
        }
        match envelope::parse(line) {
            Ok(Message::Request { id, method, params }) => {
                if let Some(reply) = self.request(id, &method, params, None).await {
                    self.say(reply).await;
                }
            }
            Ok(Message::Notification { method, params }) => self.notification(&method, params),
            Ok(Message::Response { id, body }) => self.response(id, body),
            Err(error) => self.say(complaint(&error)).await,
        }
    }

    /// A line that was too long to be read.
    pub async fn too_long(&self, head: &[u8], limit: usize) {
        // The id usually stands before the large part, so that its sender can be told.
        let id = std::str::from_utf8(head).ok().and_then(|head| splice::get(head, "/id")).unwrap_or("null");
        let id = if serde_json::from_str::<&RawValue>(id).is_ok() { id } else { "null" };
        let text =
            format!("the message is longer than {limit} bytes; raise gateway.max_message_bytes to allow it");
        self.say(message::error(id, code::INVALID_REQUEST, &text, &json!({ "reason": "message_too_large" })))
            .await;
    }

    async fn say(&self, message: Bytes) {
        // The client is gone if this fails; then there is nobody to tell.
        let _ = self.out.send(message).await;
    }

    /// Answers at once what needs no backend; starts a task for the rest. `batch` collects the task's answer.
    async fn request(
        self: &Arc<Self>,
        id: &RawValue,
        method: &str,
        params: Option<&RawValue>,
        batch: Option<mpsc::Sender<Bytes>>,
    ) -> Option<Bytes> {
        if method == "ping" {
            return Some(message::result(id.get(), "{}"));
        }
        if method == "initialize" {
            return Some(self.initialize(id, params));
        }
        if self.session.hello().is_none() {
            let text = format!("`{method}` before `initialize`: the session is not initialised");
            return Some(message::error(
                id.get(),
                code::NOT_INITIALIZED,
                &text,
                &json!({ "reason": "not_initialized" }),
            ));
        }
        let known = Pipeline::is_targeted(method)
            || List::of_method(method).is_some()
            || method == "logging/setLevel";
        if !known {
            let text = format!("method `{method}` is not known here");
            return Some(message::error(id.get(), code::METHOD_NOT_FOUND, &text, &serde_json::Value::Null));
        }
        let in_flight = match self.session.admit(id) {
            Ok(in_flight) => in_flight,
            Err(error) => {
                let data = json!({ "reason": "overloaded" });
                return Some(message::error(id.get(), code::INVALID_REQUEST, &error.to_string(), &data));
            }
        };
        let (this, out) = (self.clone(), batch.unwrap_or_else(|| self.out.clone()));
        let (id, method, params) = (id.to_owned(), method.to_owned(), params.map(ToOwned::to_owned));
        self.tasks.spawn(async move {
            let arrival = Arrival {
                caller: &this.caller,
                door: this.door,
                session: this.session.id(),
                rpc_id: id.get(),
                method: &method,
                params: params.as_deref(),
            };
            let answer = this.work(arrival, &in_flight.cancelled).await;
            let cancelled = in_flight.cancelled.is_cancelled();
            drop(in_flight);
            if let Some(reply) = respond::reply(id.get(), answer)
                && !cancelled
            {
                let _ = out.send(reply).await;
            }
        });
        None
    }

    async fn work(
        &self,
        arrival: Arrival<'_>,
        cancelled: &tokio_util::sync::CancellationToken,
    ) -> Result<Answer, Failure> {
        if let Some(list) = List::of_method(arrival.method) {
            return self.pipeline.list(arrival, list).await.map(|result| Answer::Result(result.into()));
        }
        if arrival.method == "logging/setLevel" {
            return self.pipeline.broadcast(arrival, "logging", cancelled).await;
        }
        self.pipeline.handle(arrival, cancelled).await
    }

    fn initialize(&self, id: &RawValue, params: Option<&RawValue>) -> Bytes {
        let params = params.map_or("{}", RawValue::get);
        let Some(requested) =
            splice::get(params, "/protocolVersion").and_then(|v| serde_json::from_str::<String>(v).ok())
        else {
            let text = "initialize needs `protocolVersion`, a string";
            return message::error(
                id.get(),
                code::INVALID_PARAMS,
                text,
                &json!({ "reason": "invalid_arguments" }),
            );
        };
        if let Err(denial) = self.pipeline.identify(&self.caller) {
            tracing::error!("the client was not let in: {}", denial.message);
            return respond::failed(id.get(), &Failure::Denied(denial)).unwrap_or_default();
        }
        let version = negotiate(&requested);
        let capabilities =
            splice::get(params, "/capabilities").filter(|c| c.starts_with('{')).unwrap_or("{}");
        if !self.session.greet(Hello { version, capabilities: message::raw(capabilities.to_owned()) }) {
            let data = json!({ "reason": "already_initialized" });
            return message::error(
                id.get(),
                code::INVALID_REQUEST,
                "the session is already initialised",
                &data,
            );
        }
        self.pipeline.client_declares(capabilities);
        let mut result = json!({
            "protocolVersion": version,
            "capabilities": {
                "tools": { "listChanged": true },
                "resources": { "subscribe": true, "listChanged": true },
                "prompts": { "listChanged": true },
                "logging": {},
            },
            "serverInfo": { "name": "sentinel-gateway", "version": env!("CARGO_PKG_VERSION") },
        });
        if version != "2024-11-05" {
            result["capabilities"]["completions"] = json!({});
            result["serverInfo"]["title"] = json!("Sentinel Gateway");
        }
        if let Some(instructions) = self.pipeline.instructions() {
            result["instructions"] = instructions.into();
        }
        message::result(id.get(), &result.to_string())
    }

    fn notification(&self, method: &str, params: Option<&RawValue>) {
        match method {
            "notifications/initialized" => {}
            "notifications/cancelled" => {
                if let Some(id) = params.and_then(|params| splice::get(params.get(), "/requestId")) {
                    self.session.cancel(id);
                }
            }
            // Progress on a question a backend asked: its token is the backend's own, so all may hear it.
            _ if self.session.hello().is_some() => self.pipeline.tell_all(method, params),
            _ => tracing::debug!(method, "a notification before `initialize` was dropped"),
        }
    }

    /// The client answers a backend's question.
    fn response(&self, id: &RawValue, body: Body<'_>) {
        let asked = id.get().parse().ok().and_then(|id: u64| self.asked.lock().waiting.remove(&id));
        match asked {
            Some(asked) => asked.answer(body),
            None => tracing::debug!("the client answered something nobody asked"),
        }
    }

    /// Something happened behind the gateway that the client should hear of.
    pub async fn news(&self, news: News) {
        let Some(hello) = self.session.hello() else {
            if let News::Request(request) = news {
                request.refuse(code::INTERNAL_ERROR, "no client is connected yet");
            }
            return;
        };
        match news {
            News::ListChanged(list) => {
                let method = match list {
                    List::Tools => "notifications/tools/list_changed",
                    List::Resources | List::Templates => "notifications/resources/list_changed",
                    List::Prompts => "notifications/prompts/list_changed",
                };
                self.say(message::notification(method, None)).await;
            }
            News::Message { session, message } => {
                if session.as_ref().is_none_or(|session| session == self.session.id()) {
                    self.say(message).await;
                }
            }
            News::Taken { request, reason } => self.take_back(&request, reason.as_deref()).await,
            News::Request(request) => self.ask(request, hello).await,
        }
    }

    /// Passes a backend's question on, if the client said that it can answer such.
    async fn ask(&self, request: ClientRequest, hello: &Hello) {
        let able =
            |capability: &str| splice::get(hello.capabilities.get(), &format!("/{capability}")).is_some();
        let fits = match request.method() {
            "sampling/createMessage" => able("sampling"),
            "elicitation/create" => able("elicitation"),
            "roots/list" => able("roots"),
            _ => true,
        };
        if !fits {
            return request.refuse(code::METHOD_NOT_FOUND, "the client does not support this");
        }
        let asked = {
            let mut asked = self.asked.lock();
            if asked.waiting.len() >= MAX_ASKED {
                None
            } else {
                asked.next += 1;
                let id = asked.next;
                let text = message::request(id, request.method(), request.params());
                asked.waiting.insert(id, request.clone());
                Some(text)
            }
        };
        match asked {
            Some(text) => self.say(text).await,
            None => request.refuse(code::INTERNAL_ERROR, "too many questions wait for the client"),
        }
    }

    /// A backend no longer wants an answer to its question.
    async fn take_back(&self, request: &ClientRequest, reason: Option<&str>) {
        let id = {
            let mut asked = self.asked.lock();
            let id = asked.waiting.iter().find(|(_, waiting)| waiting.is(request)).map(|(id, _)| *id);
            if let Some(id) = id {
                asked.waiting.remove(&id);
            }
            id
        };
        if let Some(id) = id {
            let reason = reason.map_or(String::new(), |reason| format!(",\"reason\":{reason}"));
            let params = format!("{{\"requestId\":{id}{reason}}}");
            self.say(message::notification("notifications/cancelled", Some(&params))).await;
        }
    }

    /// JSON-RPC batches: only where the revision has them (2025-03-26).
    async fn hear_batch(self: &Arc<Self>, line: &[u8]) {
        let refuse =
            |text: &str| message::error("null", code::INVALID_REQUEST, text, &serde_json::Value::Null);
        if self.session.hello().is_none_or(|hello| hello.version != BATCH_REVISION) {
            let text = format!("batches exist only in protocol version {BATCH_REVISION}");
            let reply = match serde_json::from_slice::<&RawValue>(line) {
                Ok(_) => refuse(&text),
                Err(error) => message::error(
                    "null",
                    code::PARSE_ERROR,
                    &format!("not JSON: {error}"),
                    &serde_json::Value::Null,
                ),
            };
            return self.say(reply).await;
        }
        let parts: Vec<&RawValue> = match serde_json::from_slice(line) {
            Ok(parts) => parts,
            Err(error) => {
                let text = format!("not JSON: {error}");
                return self
                    .say(message::error("null", code::PARSE_ERROR, &text, &serde_json::Value::Null))
                    .await;
            }
        };
        if parts.is_empty() || parts.len() > MAX_BATCH {
            return self.say(refuse(&format!("a batch holds 1 to {MAX_BATCH} messages"))).await;
        }
        let (collect, mut collected) = mpsc::channel(MAX_BATCH);
        for part in parts {
            let reply = match envelope::parse(part.get().as_bytes()) {
                Ok(Message::Request { id, method, .. }) if method == "initialize" => {
                    let text = "initialize must not be part of a batch";
                    Some(message::error(id.get(), code::INVALID_REQUEST, text, &serde_json::Value::Null))
                }
                Ok(Message::Request { id, method, params }) => {
                    self.request(id, &method, params, Some(collect.clone())).await
                }
                Ok(Message::Notification { method, params }) => {
                    self.notification(&method, params);
                    None
                }
                Ok(Message::Response { id, body }) => {
                    self.response(id, body);
                    None
                }
                Err(error) => Some(complaint(&error)),
            };
            if let Some(reply) = reply {
                let _ = collect.send(reply).await;
            }
        }
        drop(collect);
        let out = self.out.clone();
        self.tasks.spawn(async move {
            let mut batch = vec![b'['];
            while let Some(reply) = collected.recv().await {
                if batch.len() > 1 {
                    batch.push(b',');
                }
                batch.extend_from_slice(&reply);
            }
            // A batch of notifications gets no answer at all.
            if batch.len() > 1 {
                batch.push(b']');
                let _ = out.send(batch.into()).await;
            }
        });
    }
}

/// What somebody is told who sent no message.
fn complaint(error: &EnvelopeError<'_>) -> Bytes {
    let (id, code) = match error {
        EnvelopeError::Syntax(_) => ("null", code::PARSE_ERROR),
        EnvelopeError::Shape { id, .. } => (id.map_or("null", RawValue::get), code::INVALID_REQUEST),
    };
    message::error(id, code, &error.to_string(), &serde_json::Value::Null)
}
