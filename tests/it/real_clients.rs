//! Clients we did not write: the official SDKs of TypeScript (both releases), Python and Rust, and the Inspector's
//! command line, over stdio and HTTP, each in every era it speaks. The backend always speaks the other era.
#![allow(clippy::unwrap_used, reason = "tests")]

mod inspector;
mod rust;
mod stage;

use serde_json::{Value, json};

use self::stage::{Stage, clients, tools_of_the_backend};
use crate::real_servers::python;

/// What the role of these clients may not call; everything else it may.
const FORBIDDEN: &str = "test_error_handling";
const PROMPT: &str = "This is a simple prompt for testing.";
const RESOURCE: &str = "This is the content of the static text resource.";
const SAID: &str = "Received value: Grüße, 世界";

/// How two parties of MCP speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Era {
    /// With a handshake, as of 2025-11-25.
    Legacy,
    /// Without one, as of 2026-07-28.
    Modern,
}

impl Era {
    fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }

    fn revision(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Legacy => Self::Modern,
            Self::Modern => Self::Legacy,
        }
    }

    /// The code of a refusal by a role: the modern era forbids servers codes of their own in the reserved range.
    fn forbidden(self) -> i64 {
        match self {
            Self::Legacy => -32_003,
            Self::Modern => -31_003,
        }
    }
}

/// How a client reaches the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// It starts the gateway.
    Stdio,
    /// It connects to one that runs, with a token.
    Http,
}

/// What a whole conversation must have shown, whichever client had it.
async fn judge(era: Era, seen: &Value) {
    assert_eq!((&seen["protocol"], &seen["server"]), (&json!(era.revision()), &json!("sentinel-gateway")));
    assert_eq!(
        seen["tools"],
        json!(allowed_tools().await),
        "every tool once, by name, but for the forbidden"
    );
    assert_eq!(seen["said"], SAID);
    assert_eq!(seen["resource"], RESOURCE);
    assert_eq!(seen["prompt"], PROMPT);
    assert_eq!(seen["worked"], "Tool with progress executed successfully");
    let progress = json!([[0, 100], [50, 100], [100, 100]]);
    assert_eq!(seen["progress"], progress, "{seen}");
    if let Some(told) = seen["told"].as_array() {
        assert!(told.len() >= 2 && progress.as_array().unwrap().starts_with(told), "{seen}");
    }
    assert_eq!(seen["questions"].as_array().map(Vec::len), Some(1), "{seen}");
    assert!(seen["questions"][0].as_str().is_some_and(|text| text.contains("Who are you?")), "{seen}");
    let answered = seen["answered"].as_str().unwrap();
    for word in ["action=accept", "\"username\":\"ann\"", "\"email\":\"ann@example.org\""] {
        assert!(answered.contains(word), "{word} is not in {answered}");
    }
    let refused = &seen["refused"];
    assert_eq!(
        (&refused["code"], &refused["data"]["reason"]),
        (&json!(era.forbidden()), &json!("permission_denied"))
    );
}

async fn allowed_tools() -> Vec<String> {
    let mut tools = tools_of_the_backend().await;
    let all = tools.len();
    tools.retain(|name| name != FORBIDDEN);
    assert_eq!(tools.len(), all - 1);
    tools.sort();
    tools
}

/// One conversation of a client program.
async fn converse(interpreter: &str, program: &str, era: Era, door: Door) {
    let stage = Stage::set(door, era.other());
    let program = clients().join(program);
    let arguments = [program.to_str().unwrap(), era.name(), &stage.target().to_string()];
    let run = stage.run(interpreter, &arguments).await;
    assert!(run.code == Some(0), "{era:?} {door:?}: {:?}: {}", run.code, run.log);
    judge(era, &serde_json::from_str(&run.output).unwrap()).await;
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_1_over_stdio() {
    converse(&stage::node(), "typescript1.mjs", Era::Legacy, Door::Stdio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_1_over_http() {
    converse(&stage::node(), "typescript1.mjs", Era::Legacy, Door::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_2_over_stdio() {
    for era in [Era::Legacy, Era::Modern] {
        converse(&stage::node(), "typescript2.mjs", era, Door::Stdio).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_2_over_http() {
    for era in [Era::Legacy, Era::Modern] {
        converse(&stage::node(), "typescript2.mjs", era, Door::Http).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_2_over_stdio() {
    for era in [Era::Legacy, Era::Modern] {
        converse(&python("python"), "python2.py", era, Door::Stdio).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_2_over_http() {
    for era in [Era::Legacy, Era::Modern] {
        converse(&python("python"), "python2.py", era, Door::Http).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_over_stdio() {
    for era in [Era::Legacy, Era::Modern] {
        let stage = Stage::set(Door::Stdio, era.other());
        judge(era, &rust::converse(&stage, era).await).await;
        stage.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_over_http() {
    for era in [Era::Legacy, Era::Modern] {
        let stage = Stage::set(Door::Http, era.other());
        judge(era, &rust::converse(&stage, era).await).await;
        stage.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inspector_over_stdio() {
    for era in [Era::Legacy, Era::Modern] {
        let stage = Stage::set(Door::Stdio, era.other());
        inspector::converse(&stage, era).await;
        stage.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inspector_over_http() {
    for era in [Era::Legacy, Era::Modern] {
        let stage = Stage::with_room(Door::Http, era.other(), inspector::RUNS + 1);
        inspector::converse(&stage, era).await;
        stage.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_in_order_with_the_gateway() {
    let stage = Stage::set(Door::Http, Era::Modern);
    rust::listen_to_the_end(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_listens_can_leave_at_once() {
    let stage = Stage::set(Door::Stdio, Era::Modern);
    rust::listen_and_leave(&stage).await;
    stage.strike().await;
}
