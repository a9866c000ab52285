//! The command line of the MCP Inspector: one request for each run. It shows neither questions nor progress, asks for no
//! tool that is not listed, and does not end its sessions.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::stage::{Run, Stage, clients, node};
use super::{Era, FORBIDDEN, PROMPT, RESOURCE, SAID, allowed_tools};
use crate::real_servers::installed;

/// How often a conversation starts it.
pub(super) const RUNS: usize = 5;
/// What the Inspector ends with when a tool fails or is not there.
const TOOL_FAILED: i32 = 5;

fn inspector() -> String {
    let package: PathBuf = clients().join("node_modules/@modelcontextprotocol/inspector");
    installed(&package.join("clients/launcher/build/index.js"))
}

/// Every request that the command line can make, each in a conversation of its own.
pub(super) async fn converse(stage: &Stage, era: Era) {
    let listed = answer(stage, era, &["tools/list"]).await;
    let names: Vec<&str> =
        listed["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, allowed_tools().await);

    let call = ["tools/call", "--tool-name", "test_custom_header", "--tool-arg", "value=Grüße, 世界"];
    assert_eq!(answer(stage, era, &call).await["content"][0]["text"], SAID);
    let read = answer(stage, era, &["resources/read", "--uri", "test://static-text"]).await;
    assert_eq!(read["contents"][0]["text"], RESOURCE);
    let prompt = answer(stage, era, &["prompts/get", "--prompt-name", "test_simple_prompt"]).await;
    assert_eq!(prompt["messages"][0]["content"]["text"], PROMPT);

    let run = ask(stage, era, &["tools/call", "--tool-name", FORBIDDEN]).await;
    assert!(run.code == Some(TOOL_FAILED) && run.log.contains("tool_not_found"), "{run:?}");
}

async fn answer(stage: &Stage, era: Era, request: &[&str]) -> Value {
    let run = ask(stage, era, request).await;
    assert!(run.code == Some(0), "{era:?} {request:?}: {run:?}");
    let output: Value = serde_json::from_str(&run.output).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    output["result"].clone()
}

/// The method and its options.
async fn ask(stage: &Stage, era: Era, request: &[&str]) -> Run {
    let target = stage.target();
    let server = match target["url"].as_str() {
        Some(url) => {
            let bearer = format!("Bearer {}", target["token"].as_str().unwrap());
            json!({"type": "streamable-http", "url": url, "headers": {"Authorization": bearer}})
        }
        None => {
            let [command, arguments @ ..] = target["command"].as_array().unwrap().as_slice() else {
                panic!("no command: {target}");
            };
            json!({"type": "stdio", "command": command, "args": arguments, "env": target["env"]})
        }
    };
    let config = stage.file("mcp.json", &json!({"mcpServers": {"gateway": server}}).to_string());
    let program = inspector();
    let mut arguments = vec![program.as_str(), "--cli", "--config", &config, "--server", "gateway"];
    arguments.extend(["--stored-auth-only", "--protocol-era", era.name(), "--format", "json", "--method"]);
    arguments.extend(request);
    stage.run(&node(), &arguments).await
}
