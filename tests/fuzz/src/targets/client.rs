//! What a client writes on stdio, line by line.

use std::sync::Arc;

use sentinel_gateway::audit::Audit;
use sentinel_gateway::backend::{Common, Registry};
use sentinel_gateway::call::Credential;
use sentinel_gateway::config::KillSwitch as Settings;
use sentinel_gateway::door::mcp::conversation::{Conversation, Endpoint};
use sentinel_gateway::door::mcp::line::{self, Out};
use sentinel_gateway::door::mcp::subscribers::Subscribers;
use sentinel_gateway::door::mcp::suspend::SuspendedCalls;
use sentinel_gateway::pipeline::{Caller, Pipeline};
use sentinel_gateway::policy::{Chain, KillSwitch, Policy};
use sentinel_gateway::redact::Redaction;
use sentinel_gateway::rewrite::Rewriters;
use sentinel_gateway::session::Session;
use sentinel_gateway::state::Clock;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Every line is one message or a mistake; every request among them is answered once, under its own id, in JSON.
pub(crate) fn line(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(converse(data));
}

async fn converse(data: &[u8]) {
    let (registry, _events) = Registry::start(
        &[],
        Common {
            max_message: 1 << 16,
            spool: None,
            redaction: Redaction::default(),
            safe_names: true,
            memory: std::sync::Arc::default(),
            first_lists: std::time::Duration::from_secs(1),
        },
        Arc::new(|_, _, offers| offers),
    );
    let policy = Policy::new(Chain::default(), KillSwitch::new(&Settings::default()), Clock::real());
    let pipeline =
        Pipeline::new(Arc::new(policy), Arc::new(Rewriters::default()), registry, Audit::disabled());
    let endpoint = Endpoint {
        pipeline: Arc::new(pipeline),
        subscribers: Subscribers::new(tokio::sync::mpsc::channel(1).0),
        suspended: SuspendedCalls::new().unwrap(),
        door: "stdio",
        sole: true,
        stopping: CancellationToken::new(),
    };
    let caller = Arc::new(Caller::new(Credential { door: "stdio", bearer: None, attrs: Vec::new() }));
    let (stream, mut answers) = line::stream(&caller);
    let out = Out::new(stream, caller);
    let conversation = Conversation::new(endpoint, Session::new("fuzz", 16));
    for text in data.split(|byte| *byte == b'\n').take(64) {
        let text = bytes::Bytes::copy_from_slice(text);
        conversation.receive(&text, &out).await;
        // What is under way ends with this line: there is no backend to wait for.
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        let asked = serde_json::from_slice::<Value>(&text).ok();
        while let Ok(answer) = answers.try_recv() {
            let message = answer.into_message();
            let value: Value = serde_json::from_slice(message.text()).unwrap();
            let id = |message: &Value| message.get("id").cloned().unwrap_or(Value::Null);
            if let Some(asked) = asked.as_ref().filter(|asked| asked.is_object())
                && value.get("error").is_none()
                && value.get("method").is_none()
            {
                assert_eq!(id(&value), id(asked), "answered under another id: {value}");
            }
        }
    }
    conversation.tasks().close();
    conversation.session().cancel_all();
}
