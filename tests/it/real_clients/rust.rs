//! The official Rust SDK as a client of the gateway.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ElicitRequestParams,
    ElicitResult, ElicitationAction, GetPromptRequestParams, Implementation, ProgressNotificationParam,
    ProtocolVersion, ReadResourceRequestParams, ResourceContents, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService, ServiceError, SubscriptionEnd};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient};
use serde_json::{Value, json};

use super::stage::Stage;
use super::{Era, FORBIDDEN};
use crate::support::{eventually, reached};

/// How long the whole conversation may take, the start of the gateway included.
const CONVERSATION: Duration = Duration::from_secs(120);

/// Answers what it is asked, and writes down what it hears.
#[derive(Clone, Debug, Default)]
struct Ann {
    questions: Arc<Mutex<Vec<String>>>,
    progress: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl ClientHandler for Ann {
    fn get_info(&self) -> ClientConfig {
        let capabilities: ClientCapabilities = serde_json::from_value(json!({"elicitation": {}})).unwrap();
        ClientConfig::new(capabilities, Implementation::new("rust", "1"))
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else {
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        self.questions.lock().unwrap().push(message);
        let content = json!({"username": "ann", "email": "ann@example.org"});
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    async fn on_progress(&self, report: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let whole = |number: f64| format!("{number}").parse().unwrap();
        self.progress.lock().unwrap().push((whole(report.progress), whole(report.total.unwrap())));
    }
}

/// One conversation, as the client programs have it.
pub(super) async fn converse(stage: &Stage, era: Era) -> Value {
    let talk = async {
        let ann = Ann::default();
        let client = connect(stage, era, ann.clone()).await;
        let seen = talk(&client, &ann).await;
        client.cancel().await.unwrap();
        seen
    };
    let ended = tokio::time::timeout(CONVERSATION, talk).await;
    ended.unwrap_or_else(|_| panic!("no end in {CONVERSATION:?}: {}", stage.log()))
}

/// Listens until the gateway ends: the last word must be its own, not a broken connection.
pub(super) async fn listen_to_the_end(stage: &Stage) {
    let client = connect(stage, Era::Modern, Ann::default()).await;
    let mut subscription = client.listen(changes()).await.unwrap();
    assert_eq!(subscription.acknowledged(), &changes());
    stage.stop();
    let last = tokio::time::timeout(CONVERSATION, subscription.next()).await.unwrap();
    assert!(matches!(last, Ok(None)), "{last:?}");
    assert!(matches!(subscription.end(), Some(SubscriptionEnd::Graceful(_))), "{:?}", subscription.end());
    client.cancel().await.unwrap();
}

/// Closes the input of the gateway while a subscription is open. The SDK waits for three seconds, then it kills.
pub(super) async fn listen_and_leave(stage: &Stage) {
    let client = connect(stage, Era::Modern, Ann::default()).await;
    let subscription = client.listen(changes()).await.unwrap();
    client.cancel().await.unwrap();
    drop(subscription);
}

fn changes() -> SubscriptionFilter {
    SubscriptionFilter::builder().tools_list_changed().build()
}

async fn connect(stage: &Stage, era: Era, ann: Ann) -> RunningService<RoleClient, Ann> {
    let lifecycle = match era {
        Era::Legacy => ClientLifecycleMode::Initialize,
        Era::Modern => {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        }
    };
    let target = stage.target();
    if let (Some(url), Some(token)) = (target["url"].as_str(), target["token"].as_str()) {
        // Whichever test is the first; the SDK's HTTP client needs one, and the machine's default is none.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token);
        let transport = StreamableHttpClientTransport::from_config(config);
        return ann.serve_with_lifecycle(transport, lifecycle).await.unwrap();
    }
    let (command, log) = stage.command();
    let (transport, _) = TokioChildProcess::builder(command).stderr(log).spawn().unwrap();
    ann.serve_with_lifecycle(transport, lifecycle).await.unwrap()
}

async fn talk(client: &RunningService<RoleClient, Ann>, ann: &Ann) -> Value {
    let tools = listed(client).await;
    let call = |name: &'static str, arguments: Value| {
        let arguments = arguments.as_object().unwrap().clone();
        client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments))
    };
    let said = call("test_custom_header", json!({"value": "Grüße, 世界"})).await.unwrap();
    let resource = client.read_resource(ReadResourceRequestParams::new("test://static-text")).await.unwrap();
    let resource: Vec<&str> = resource
        .contents
        .iter()
        .filter_map(|part| match part {
            ResourceContents::TextResourceContents { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let prompt = client.get_prompt(GetPromptRequestParams::new("test_simple_prompt")).await.unwrap();
    let prompt: Vec<&str> =
        prompt.messages.iter().filter_map(|message| Some(message.content.as_text()?.text.as_str())).collect();
    let worked = call("test_tool_with_progress", json!({})).await.unwrap();
    // The SDK handles notifications beside the response, so the last may come after it.
    let progress = tokio::task::block_in_place(|| {
        eventually("three reports of progress", || {
            let progress = ann.progress.lock().unwrap().clone();
            (progress.len() >= 3).then_some(progress)
        })
    });
    let answered = call("test_elicitation", json!({"message": "Who are you?"})).await.unwrap();
    let refused = match call(FORBIDDEN, json!({})).await {
        Err(ServiceError::McpError(error)) => json!({"code": error.code.0, "data": error.data}),
        other => panic!("a refusal was expected, not {other:?}"),
    };
    let info = client.peer_info().unwrap();
    json!({
        "protocol": info.protocol_version.to_string(),
        "server": info.server_info.as_ref().map(|server| server.name.clone()),
        "tools": tools,
        "said": text(&said),
        "resource": resource.join("\n"),
        "prompt": prompt.join("\n"),
        "worked": text(&worked),
        "progress": progress,
        "questions": *ann.questions.lock().unwrap(),
        "answered": text(&answered),
        "refused": refused,
    })
}

/// All tools, as soon as the gateway's backend is up; a gateway that has just been started may be earlier.
async fn listed(client: &RunningService<RoleClient, Ann>) -> Vec<String> {
    reached(CONVERSATION, async || {
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<String> = tools.into_iter().map(|tool| tool.name.into_owned()).collect();
        if names.is_empty() { Err("no tools are listed".to_owned()) } else { Ok(names) }
    })
    .await
}

fn text(result: &CallToolResult) -> String {
    let blocks = result.content.iter();
    blocks.filter_map(|block| Some(block.as_text()?.text.as_str())).collect::<Vec<_>>().join("\n")
}
