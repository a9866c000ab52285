//! The demo of commands: an agent asks over MCP, a person reads what would run and approves it, the executor runs it once, and
//! two records say who, what and when. Then what must not work: an edited file, a second use, the agent approving itself.

pub(crate) mod stage;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::client::{Answer, Client, Deadline};
use super::show::Show;
use crate::workspace::{Host, Workspace};

use self::stage::Scene;

/// What somebody makes of the agent's plan later.
const EDITED: &str = "stop web, drop tables, start web\n";

/// Plays the demo.
///
/// # Errors
/// The first step that did not go as it should, by number and name.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut show = Show::new();
    show.title("Sentinel Gateway: an agent asks, a person approves, an executor acts");
    let mut scene = Scene::set(workspace, Host::Debug, "")?;
    let played = play(&mut show, &mut scene);
    if played.is_err() {
        show.log(&fs::read_to_string(scene.path("gateway.log")).unwrap_or_default());
        show.log(&fs::read_to_string(scene.path("executor.log")).unwrap_or_default());
    }
    played
}

fn play(show: &mut Show, scene: &mut Scene) -> anyhow::Result<()> {
    show.step("The executor starts: a process of its own, with a key it can only check", |by| {
        scene.start(by)
    })?;
    let mut client = Client::start(scene.gateway(&scene.agent)?)?;
    show.step("The agent starts the gateway, and sees the command as a tool", |by| tools(&mut client, by))?;
    let mut first = String::new();
    show.step("The agent asks for it; the call waits, and a person looks at what would run", |by| {
        let (answer, text) =
            scene.deciding(&mut client, ("plan", json!({"file": "plan"})), by, |id, digest| {
                first = id.to_owned();
                let text = scene.person(&["show", id], by)?;
                scene.person(&["approve", id, "--digest", digest, "--reason", "looks right"], by)?;
                Ok(text)
            })?;
        let shown = answer.result()?;
        ensure!(shown["structuredContent"]["stdout"] == stage::PLAN, "it printed something else: {shown}");
        let of_plan = |line: &&str| {
            ["runs ", "asked by", "resolved /argv", "resolved /exec", "resolved /files"]
                .iter()
                .any(|part| line.contains(part))
        };
        let lines: Vec<&str> = text.lines().filter(of_plan).map(str::trim).collect();
        ensure!(lines.len() > 5, "the person did not see what would run: {text}");
        Ok(format!("approved, and it ran\n{}", lines.join("\n")))
    })?;
    show.step("The same approval once more: it is used up", |by| {
        let named = json!({"name": "plan", "arguments": {"file": "plan"}, "_meta": {"sentinel-gateway/approval": first}});
        let answer = client.request("tools/call", &named, by)?;
        refused(&answer, "consumed")
    })?;
    show.step("It asks again, and while the person thinks the file is edited", |by| {
        let (answer, _) =
            scene.deciding(&mut client, ("plan", json!({"file": "plan"})), by, |id, digest| {
                fs::write(scene.path("data/plan"), EDITED)?;
                scene.person(&["approve", id, "--digest", digest], by)
            })?;
        fs::write(scene.path("data/plan"), stage::PLAN)?;
        refused(&answer, "changed")
    })?;
    show.step("The agent approves its own request, with a role that may decide", |by| {
        let (answer, said) =
            scene.deciding(&mut client, ("plan", json!({"file": "plan"})), by, |id, digest| {
                let own = scene.mint("agent", "both", by)?;
                let tried = scene.decide(&own, &["approve", id, "--digest", digest], by)?;
                ensure!(!tried.status.success(), "it was let");
                scene.person(&["reject", id, "--digest", digest, "--reason", "it ran already"], by)?;
                Ok(String::from_utf8_lossy(&tried.stderr).trim().to_owned())
            })?;
        ensure!(said.contains("nobody decides on their own request"), "refused for another reason: {said}");
        Ok(format!("{}\n{}", said.lines().last().unwrap_or_default(), refused(&answer, "rejected")?))
    })?;
    show.step("The agent hangs up; the gateway's record says who, what and when", |by| {
        client.hang_up(by)?;
        let rows = scene.output(scene.command().args(["audit", "list", "--limit", "50"]), by)?;
        for part in ["agent", "plan", "success", "approvals.approve", "denied"] {
            ensure!(rows.contains(part), "{part} is missing: {rows}");
        }
        Ok(rows.trim().to_owned())
    })?;
    show.step("So does the executor's own: one run, its chain unbroken", |by| {
        let record = fs::read_to_string(scene.path("run/state/record.jsonl"))?;
        let lines: Vec<Value> = record.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let runs: Vec<&Value> = lines.iter().filter(|line| line["event"] == "intent").collect();
        ensure!(runs.len() == 1, "{} runs instead of one", runs.len());
        let mut verify = Command::new(&scene.gateway);
        let said = scene.output(verify.args(["executor", "verify", "run/state/record.jsonl"]), by)?;
        Ok(format!(
            "{} ran {} for the call {}\n{}",
            runs[0]["subject"],
            runs[0]["action"]["argv"],
            runs[0]["call"],
            said.trim()
        ))
    })?;
    show.end();
    Ok(())
}

fn tools(client: &mut Client, by: Deadline) -> anyhow::Result<String> {
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "demo", "version": env!("CARGO_PKG_VERSION")},
    });
    client.request("initialize", &params, by)?.result()?;
    client.notify("notifications/initialized")?;
    let list = client.request("tools/list", &json!({}), by)?.result()?;
    let tool = list["tools"].as_array().and_then(|tools| tools.iter().find(|tool| tool["name"] == "plan"));
    let tool = tool.with_context(|| format!("the command is no tool: {list}"))?;
    Ok(format!("plan: {}", tool["description"].as_str().unwrap_or_default()))
}

/// A refusal for this reason.
fn refused(answer: &Answer, reason: &str) -> anyhow::Result<String> {
    ensure!(
        answer.data("reason").is_some_and(|found| found == reason),
        "{reason} was expected, not {answer}"
    );
    let text = answer.to_string();
    let error: Value = serde_json::from_str(&text)?;
    Ok(format!("{reason}: {}", error["message"].as_str().unwrap_or_default()))
}
