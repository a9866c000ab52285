//! Servers and clients we did not write: one gateway in front of seven real servers, five over stdio and two over
//! HTTP, driven by the clients of the Rust and of the Python SDK; and twelve for the first list and for short sessions.
//! Nothing that they start outlives them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod scene;
mod twelve;

pub(crate) use scene::{fixtures, free_port, installed, processes_of, python};

use std::fs::File;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};

use self::scene::Scene;
use crate::support::{eventually, reached, within};

/// How long all servers may take to start: three interpreters of Node and three of Python, on a busy machine.
const START: Duration = Duration::from_secs(90);
/// How long a whole conversation may take, the start included.
const CONVERSATION: Duration = Duration::from_secs(150);

/// What a client saw, whichever it was.
#[derive(Debug)]
struct Seen {
    protocol: String,
    server: String,
    tools: Vec<String>,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    tool: String,
    failed: bool,
    text: String,
}

/// One tool of each server; of a tool that two servers have, one is shown as it is and one with a prefix.
fn wanted() -> Vec<Vec<&'static str>> {
    let mut wanted: Vec<Vec<&str>> =
        ["read_text_file", "create_entities", "convert_time", "git_log", "write_range", "echo"]
            .map(|name| vec![name])
            .into();
    wanted.push(vec!["web_echo", "everything_echo"]);
    wanted
}

/// At least one call of each server, with a word that only its right answer has.
fn calls(scene: &Scene) -> Vec<(Vec<&'static str>, Value, &'static str)> {
    let (sheet, note) = (scene.path("sheets/stock.xlsx"), scene.path("shelf/note.txt"));
    vec![
        (vec!["echo"], json!({"message": "over one wire"}), "Echo: over one wire"),
        (vec!["web_echo", "everything_echo"], json!({"message": "over the other"}), "Echo: over the other"),
        (vec!["read_text_file"], json!({"path": note}), "tea from Assam"),
        (
            vec!["create_entities"],
            json!({"entities": [{"name": "Ada", "entityType": "person", "observations": ["drinks tea"]}]}),
            "drinks tea",
        ),
        (
            vec!["convert_time"],
            json!({"source_timezone": "UTC", "time": "16:30", "target_timezone": "Asia/Tokyo"}),
            "T01:30:00+09:00",
        ),
        (vec!["git_log"], json!({"repo_path": scene.path("repo"), "max_count": 1}), "the first leaf"),
        (vec!["create_workbook"], json!({"path": sheet, "sheets": ["Stock"]}), ""),
        (
            vec!["write_range"],
            json!({"path": sheet, "sheet": "Stock", "at": "A1", "rows": [["Darjeeling", 3.5]]}),
            "",
        ),
        (vec!["read_range"], json!({"path": sheet, "sheet": "Stock"}), "Darjeeling"),
        (vec!["get-env"], json!({}), "\"MARK\""),
        (vec!["web_get-env", "everything_get-env"], json!({}), "\"MARK\""),
    ]
}

fn judge(scene: &Scene, seen: &Seen) {
    assert_eq!(seen.server, "sentinel-gateway");
    assert!(seen.protocol.starts_with("20"), "{}", seen.protocol);
    // 13 + 14 + 9 + 2 + 12 + 13 + 46: nothing is lost, and nothing is there twice.
    assert!(seen.tools.len() >= 109, "{} tools: {:?}", seen.tools.len(), seen.tools);
    let mut names = seen.tools.clone();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), seen.tools.len(), "a name is there twice: {:?}", seen.tools);

    let calls = calls(scene);
    assert_eq!(seen.answers.len(), calls.len());
    for (answer, (_, _, word)) in seen.answers.iter().zip(&calls) {
        assert!(!answer.failed && answer.text.contains(word), "{word:?}: {answer:?}");
    }
    // The servers did it, not only said so.
    assert!(scene.path("sheets/stock.xlsx").is_file());
    assert!(std::fs::read_to_string(scene.path("memory.jsonl")).unwrap().contains("drinks tea"));
    // A name with a prefix leads to the server it names, the plain one to the other.
    let [plain, prefixed] = &seen.answers[seen.answers.len() - 2..] else { panic!("{seen:?}") };
    let (owner, other) =
        if prefixed.tool.starts_with("web_") { ("everything", "web") } else { ("web", "everything") };
    assert!(plain.text.contains(&format!("\"MARK\": \"{owner}\"")), "{}: {}", plain.tool, plain.text);
    assert!(
        prefixed.text.contains(&format!("\"MARK\": \"{other}\"")),
        "{}: {}",
        prefixed.tool,
        prefixed.text
    );
}

/// After the client has gone: the gateway left in order and took its children along.
fn nothing_is_left(scene: &Scene, log: &std::path::Path) {
    eventually("the end of the gateway and its children", || scene.processes().is_empty().then_some(()));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("Shutdown complete"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk_reaches_all_seven_servers() {
    let scene = Scene::set();
    let log = scene.path("rust.log");
    let seen = tokio::time::timeout(CONVERSATION, talk(&scene, &log)).await;
    let log_text = std::fs::read_to_string(&log).unwrap();
    judge(&scene, &seen.unwrap_or_else(|_| panic!("no end in {CONVERSATION:?}: {log_text}")));
    nothing_is_left(&scene, &log);
}

async fn talk(scene: &Scene, log: &std::path::Path) -> Seen {
    let command = tokio::process::Command::from(scene.setup.command(&[]));
    let (transport, _) =
        TokioChildProcess::builder(command).stderr(File::create(log).unwrap()).spawn().unwrap();
    let client = ().serve(transport).await.unwrap();
    let tools = reached(START, async || {
        let tools = client.list_all_tools().await.unwrap();
        let tools: Vec<String> = tools.into_iter().map(|tool| tool.name.into_owned()).collect();
        let missing: Vec<_> = wanted().into_iter().filter(|group| pick(group, &tools).is_none()).collect();
        if missing.is_empty() {
            Ok(tools)
        } else {
            Err(format!("not listed: {missing:?}; there are {tools:?}"))
        }
    })
    .await;
    let mut answers = Vec::new();
    for (group, arguments, _) in calls(scene) {
        let tool = pick(&group, &tools).unwrap();
        let arguments = arguments.as_object().unwrap().clone();
        let request = CallToolRequestParams::new(tool.clone()).with_arguments(arguments);
        let result = client.call_tool(request).await.unwrap();
        let texts: Vec<&str> =
            result.content.iter().filter_map(|block| Some(block.as_text()?.text.as_str())).collect();
        let text = texts.join("\n");
        answers.push(Answer { tool, failed: result.is_error == Some(true), text });
    }
    // The gateway and its five children, all alive: what is empty later was not empty now.
    assert!(scene.processes().len() >= 6, "{:?}", scene.processes());
    let info = client.peer_info().unwrap();
    let (protocol, server) =
        (info.protocol_version.to_string(), info.server_info.as_ref().unwrap().name.clone());
    client.cancel().await.unwrap();
    Seen { protocol, server, tools, answers }
}

fn pick(group: &[&str], tools: &[String]) -> Option<String> {
    group.iter().find(|name| tools.iter().any(|tool| tool == *name)).map(|name| (*name).to_owned())
}

#[test]
fn the_python_sdk_reaches_all_seven_servers() {
    let scene = Scene::set();
    let log = scene.path("python.log");
    let gateway = scene.setup.command(&[]);
    let words = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let command: Vec<String> =
        std::iter::once(gateway.get_program()).chain(gateway.get_args()).map(words).collect();
    let env: serde_json::Map<String, Value> = gateway
        .get_envs()
        .filter_map(|(name, value)| Some((words(name), Value::from(words(value?)))))
        .collect();
    let calls: Vec<Value> = calls(&scene)
        .into_iter()
        .map(|(tool, arguments, _)| json!({"tool": tool, "arguments": arguments}))
        .collect();
    let plan = json!({
        "command": command, "env": env, "wanted": wanted(), "patience": START.as_secs(), "calls": calls,
    });

    let script = fixtures().join("clients/official.py");
    let out = scene.path("python.json");
    let mut client = std::process::Command::new(python("python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(plan.to_string().as_bytes()).unwrap();
    let mut most = 0;
    let status = within(CONVERSATION, || {
        most = most.max(scene.processes().len());
        client.try_wait().unwrap()
    });
    if status.is_none() {
        client.kill().and_then(|()| client.wait()).unwrap();
    }
    let log_text = std::fs::read_to_string(&log).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {log_text}");
    assert!(most >= 6, "only {most} processes of the gateway were ever alive");

    let seen: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let answer = |value: &Value| Answer {
        tool: text(&value["tool"]),
        failed: value["failed"] == true,
        text: text(&value["text"]),
    };
    let seen = Seen {
        protocol: text(&seen["protocol"]),
        server: text(&seen["server"]),
        tools: seen["tools"].as_array().unwrap().iter().map(text).collect(),
        answers: seen["answers"].as_array().unwrap().iter().map(answer).collect(),
    };
    judge(&scene, &seen);
    nothing_is_left(&scene, &log);
}
