//! The demo: a client talks to a gateway in front of four servers, and sees every policy at work. Each step
//! checks what it shows; a demo that only prints is no proof.

pub(crate) mod client;
pub(crate) mod exec;
mod scene;
mod show;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::workspace::Workspace;

use self::client::{Answer, Client, Deadline};
use self::scene::Scene;
use self::show::Show;

/// The demos beside the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// An agent asks for a command, a person approves it, an executor runs it
    Exec,
}

/// What the client must see of the four servers; `add_note` is denied to its role and therefore not listed.
const LISTED: [&str; 6] = ["echo", "flaky", "forecast", "list_products", "order", "read_notes"];
/// How every call must have ended at least once by the time the record is read.
const STATUSES: [&str; 7] =
    ["success", "error", "denied", "invalid_args", "rate_limited", "circuit_open", "killed"];
/// How often an answer that is on its way is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// Plays the demo.
///
/// # Errors
/// The first step that did not go as it should, by number and name.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut show = Show::new();
    let scene = Scene::set(workspace)?;
    let played = play(&mut show, &scene);
    if played.is_err() {
        show.log(&scene.log());
    }
    played
}

fn play(show: &mut Show, scene: &Scene) -> anyhow::Result<()> {
    show.title("Sentinel Gateway: one agent, four servers, and everything that stands between them");
    let mut client = Client::start(scene.gateway())?;

    show.step("The agent starts the gateway and they agree on a protocol", |by| handshake(&mut client, by))?;
    show.step("It asks what it may use", |by| list(&mut client, by))?;
    show.step("It reads the shop's shelf, over stdio", |by| {
        let result = client.call("list_products", json!({}), by)?.result()?;
        expect_text(&result, "tea")
    })?;
    show.step("It talks to a server behind HTTP", |by| {
        let result = client.call("echo", json!({"text": "hello through the gateway"}), by)?.result()?;
        expect_text(&result, "hello through the gateway")
    })?;
    show.step("It tries to write a note, which its role may not", |by| {
        client.call("add_note", json!({"text": "I was here"}), by)?.refusal(-32003)
    })?;
    // The schema is asked after the rate limit: a wrong order counts as one of the three a minute.
    show.step("It orders a wrong quantity of tea", |by| {
        let answer = client.call("order", json!({"item": "tea", "quantity": "many"}), by)?;
        ensure!(answer.to_string().contains("/quantity"), "does not point at the argument: {answer}");
        answer.refusal(-32602)
    })?;
    show.step("It orders more often than three times a minute", |by| order_too_often(&mut client, by))?;
    show.step("The weather service falls ill, and the breaker opens", |by| trip(&mut client, scene, by))?;
    show.step("The weather service recovers, and one probe closes the breaker", |by| {
        scene.heal()?;
        let asked = Instant::now();
        let result = poll(by, || Ok(client.call("flaky", json!({}), by)?.result()))?;
        Ok(format!("{} after {:.1} s", expect_text(&result, "fine")?, asked.elapsed().as_secs_f32()))
    })?;
    show.step("The operator kills a tool in the running gateway", |by| kill(&mut client, scene, by))?;
    show.step("Everything is in the audit record", |by| audit(scene, by))?;
    show.step("The agent hangs up, and the gateway leaves in order", |by| {
        client.hang_up(by)?;
        ensure!(scene.log().contains("Shutdown complete"), "the log does not say \"Shutdown complete\"");
        Ok("exit code 0".to_owned())
    })?;
    show.end();
    Ok(())
}

fn handshake(client: &mut Client, by: Deadline) -> anyhow::Result<String> {
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "demo", "version": env!("CARGO_PKG_VERSION")},
    });
    let result = client.request("initialize", &params, by)?.result()?;
    let version = text(&result, "/protocolVersion")?;
    ensure!(version == "2025-11-25", "the gateway answered with revision {version}");
    client.notify("notifications/initialized")?;
    Ok(format!(
        "{} {}, MCP {version}",
        text(&result, "/serverInfo/name")?,
        text(&result, "/serverInfo/version")?
    ))
}

fn list(client: &mut Client, by: Deadline) -> anyhow::Result<String> {
    // The servers start with the gateway; a list may be asked for before the last of them has answered.
    poll(by, || {
        let result = client.request("tools/list", &json!({}), by)?.result()?;
        let tools = result.get("tools").and_then(Value::as_array).context("no list of tools")?;
        let names: Vec<&str> = tools.iter().filter_map(|tool| tool.get("name")?.as_str()).collect();
        ensure!(!names.contains(&"add_note"), "the denied tool add_note is listed");
        let missing: Vec<&str> = LISTED.into_iter().filter(|name| !names.contains(name)).collect();
        Ok(if missing.is_empty() {
            Ok(format!("{} tools of four servers; add_note is hidden from this role", names.len()))
        } else {
            Err(anyhow::anyhow!("{} missing from the list", missing.join(", ")))
        })
    })
}

fn order_too_often(client: &mut Client, by: Deadline) -> anyhow::Result<String> {
    for _ in 0..2 {
        client.call("order", json!({"item": "tea", "quantity": 1}), by)?.result()?;
    }
    let answer = client.call("order", json!({"item": "tea", "quantity": 1}), by)?;
    let wait = retry_after(&answer)?;
    Ok(format!("{} (retryAfter {} s)", answer.refusal(-32004)?, wait.as_secs()))
}

fn trip(client: &mut Client, scene: &Scene, by: Deadline) -> anyhow::Result<String> {
    scene.fall_ill()?;
    for _ in 0..3 {
        client.call("flaky", json!({}), by)?.refusal(-32603)?;
    }
    let answer = client.call("flaky", json!({}), by)?;
    let wait = retry_after(&answer)?;
    let shown = answer.refusal(-32007)?;
    // Wait as told before the next step: asking earlier would only fill the record with refusals.
    std::thread::sleep(wait.min(by.left()));
    Ok(shown)
}

fn kill(client: &mut Client, scene: &Scene, by: Deadline) -> anyhow::Result<String> {
    let before = client.call("forecast", json!({"city": "Ghent"}), by)?.result()?;
    expect_text(&before, "Ghent")?;
    scene.disable("forecast")?;
    client.hang_signal()?;
    poll(by, || Ok(client.call("forecast", json!({"city": "Ghent"}), by)?.refusal(-32005)))
}

fn audit(scene: &Scene, by: Deadline) -> anyhow::Result<String> {
    // The record is safe before a call runs; the table that is listed here follows in batches.
    poll(by, || {
        let rows = scene.ask(&["audit", "list", "--limit", "50"], by)?;
        let missing: Vec<&str> = STATUSES.into_iter().filter(|status| !rows.contains(status)).collect();
        Ok(if missing.is_empty() {
            Ok(format!("{} lines:\n{}", rows.lines().count(), rows.trim_end()))
        } else {
            Err(anyhow::anyhow!("no row says {}", missing.join(", ")))
        })
    })
}

/// Tries until it succeeds or the time is up; the last reason why not is the error. The outer result of an
/// attempt ends it at once.
fn poll<T>(
    by: Deadline,
    mut attempt: impl FnMut() -> anyhow::Result<anyhow::Result<T>>,
) -> anyhow::Result<T> {
    loop {
        match attempt()? {
            Ok(value) => return Ok(value),
            Err(error) if by.left() <= PAUSE => return Err(error.context("the time is up")),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no text at {pointer} of {value}"))
}

/// The text of a tool's result, which must contain a word.
fn expect_text(result: &Value, word: &str) -> anyhow::Result<String> {
    ensure!(result.get("isError") != Some(&Value::Bool(true)), "the tool reports a problem: {result}");
    let text = text(result, "/content/0/text")?;
    ensure!(text.contains(word), "{word:?} is not in {text:?}");
    Ok(text.to_owned())
}

fn retry_after(answer: &Answer) -> anyhow::Result<Duration> {
    match answer.data("retryAfter").and_then(Value::as_u64) {
        Some(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => bail!("does not say when to try again: {answer}"),
    }
}
