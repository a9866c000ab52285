//! What approvals and commands take, against what the project promises of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::demo::client::{Answer, Client, Deadline};
use crate::demo::exec::stage::Scene;
use crate::workspace::{Host, Workspace};

/// Commands beside the demo's: one that everybody is asked about, one that runs at once, one that is denied.
const COMMANDS: &str = r#"
[[command_policy.rules]]
decision = "allow"
commands = ["free"]
[[command_policy.rules]]
decision = "deny"
commands = ["no"]
[[commands]]
name = "say"
executable = "/usr/bin/echo"
argv = ["--", "{words}"]
slots = { words = { type = "text", pattern = "[a-z0-9 ]{1,40}" } }
[[commands]]
name = "free"
executable = "/usr/bin/echo"
argv = ["free"]
[[commands]]
name = "no"
executable = "/usr/bin/echo"
argv = ["no"]
[approvals]
max_pending_per_caller = 1000
max_pending_per_target = 1000
"#;
/// Requests of one caller, at most.
const OF_CALLER: usize = 1_000;

/// Measures, and prints a table.
///
/// # Errors
/// Something did not go as it should; that a figure misses its target is none.
pub(super) fn run(workspace: &Workspace, host: Host, quick: bool) -> anyhow::Result<()> {
    let rounds = if quick { 20 } else { 500 };
    println!("{:<52} {:>9} {:>9} {:>9}   target", "", "p50 ms", "p99 ms", "max ms");
    let mut scene = Scene::set(workspace, host, &format!("{COMMANDS}wait_secs = 0\n"))?;
    scene.start(Deadline::new())?;
    let mut client = hello(&scene, &scene.agent)?;
    let free = || json!({});
    warm(&mut client)?;
    shown(
        "a command that is refused",
        "p99 5",
        &times(rounds, |_| client.call("no", free(), Deadline::new()).map(drop))?,
    );
    let (fresh, again) = (json!({"words": "again"}), json!({"words": "again"}));
    waits(&client.call("say", fresh, Deadline::new())?)?;
    shown(
        "a call that waits already, asked again",
        "p99 5",
        &times(rounds, |_| waits(&client.call("say", again.clone(), Deadline::new())?))?,
    );
    let new = times(rounds.min(OF_CALLER - 10), |round| {
        waits(&client.call("say", json!({"words": format!("new {round}")}), Deadline::new())?)
    })?;
    shown("a call that waits, a new one (on the disk)", "p99 5", &new);
    let runs = if quick { 10 } else { 200 };
    let bare = times(runs, |_| {
        let done = Command::new("/usr/bin/echo").arg("free").stdout(Stdio::null()).status()?;
        ensure!(done.success(), "echo failed");
        Ok(())
    })?;
    let mut through = times(runs, |_| ran(&client.call("free", free(), Deadline::new())?))?;
    let base = at(&bare, 50);
    shown("the bare process", "", &bare);
    through.iter_mut().for_each(|time| *time = time.saturating_sub(base));
    shown("a command that is allowed, over the bare process", "", &through);
    let decisions = if quick { 3 } else { 50 };
    let mut approved = Vec::new();
    for round in 0..decisions {
        let words = json!({"words": format!("run {round}")});
        let by = Deadline::new();
        let answer = client.call("say", words.clone(), by)?;
        waits(&answer)?;
        let facts = answer.value()["_meta"]["sentinel-gateway/approval"].clone();
        let text = |key: &str| facts[key].as_str().unwrap_or_default().to_owned();
        scene.person(&["approve", &text("approval_id"), "--digest", &text("action_digest")], by)?;
        let began = Instant::now();
        ran(&client.call("say", words, by)?)?;
        approved.push(began.elapsed().saturating_sub(base));
    }
    shown("a command that was approved, over the bare process", "p99 10", &approved);
    drop((client, scene));
    list(workspace, host, if quick { 200 } else { 10_000 })?;
    decided(workspace, host, decisions)
}

/// How long a long list takes, without the start of the program that asks.
fn list(workspace: &Workspace, host: Host, count: usize) -> anyhow::Result<()> {
    // A folder of its own: no more than so many may be open in all.
    let mut scene = Scene::set(workspace, host, &format!("{COMMANDS}wait_secs = 0\n"))?;
    scene.start(Deadline::new())?;
    for caller in 0..count.div_ceil(OF_CALLER) {
        let token = scene.mint(&format!("agent-{caller}"), "agent", Deadline::new())?;
        let mut client = hello(&scene, &token)?;
        for number in 0..OF_CALLER.min(count - caller * OF_CALLER) {
            waits(&client.call("say", json!({"words": format!("many {number}")}), Deadline::new())?)?;
        }
    }
    let mut client = hello(&scene, &scene.agent)?;
    warm(&mut client)?;
    let ask = |limit: &str| {
        times(20, |_| scene.person(&["list", "--json", "--limit", limit], Deadline::new()).map(drop))
    };
    let (one, mut all) = (ask("1")?, ask(&count.to_string())?);
    let start = at(&one, 50);
    all.iter_mut().for_each(|time| *time = time.saturating_sub(start));
    shown(&format!("{count} that wait, listed as JSON on a terminal"), "50", &all);
    Ok(())
}

/// How soon the call that waits knows of a decision: from the end of `approvals approve` to the call's answer, with its run.
fn decided(workspace: &Workspace, host: Host, rounds: usize) -> anyhow::Result<()> {
    let mut scene = Scene::set(workspace, host, &format!("{COMMANDS}wait_secs = 50\n"))?;
    scene.start(Deadline::new())?;
    let mut client = hello(&scene, &scene.agent)?;
    warm(&mut client)?;
    let mut seen = Vec::new();
    for round in 0..rounds {
        let by = Deadline::new();
        let call = ("say", json!({"words": format!("wait {round}")}));
        let mut began = None;
        let (answer, ()) = scene.deciding(&mut client, call, by, |id, digest| {
            scene.person(&["approve", id, "--digest", digest], by)?;
            began = Some(Instant::now());
            Ok(())
        })?;
        ran(&answer)?;
        // The call may have been answered before the program that decided had ended.
        seen.push(began.context("not decided")?.elapsed());
    }
    shown("a decision, until the call that waits is answered", "100", &seen);
    Ok(())
}

/// A client of a gateway of its own.
fn hello(scene: &Scene, token: &str) -> anyhow::Result<Client> {
    let mut client = Client::start(scene.gateway(token)?)?;
    let info = json!({"name": "bench", "version": "1"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
    client.request("initialize", &params, Deadline::new())?.result()?;
    client.notify("notifications/initialized")?;
    Ok(client)
}

/// What is done once is done.
fn warm(client: &mut Client) -> anyhow::Result<()> {
    for _ in 0..10 {
        ran(&client.call("free", json!({}), Deadline::new())?)?;
    }
    Ok(())
}

fn waits(answer: &Answer) -> anyhow::Result<()> {
    let facts = &answer.value()["_meta"]["sentinel-gateway/approval"];
    ensure!(facts["status"] == "pending_approval", "it does not wait: {answer}");
    Ok(())
}

fn ran(answer: &Answer) -> anyhow::Result<()> {
    let ended: &Value = &answer.value()["structuredContent"]["exit_code"];
    ensure!(*ended == 0, "it did not run: {answer}");
    Ok(())
}

fn times(rounds: usize, mut work: impl FnMut(usize) -> anyhow::Result<()>) -> anyhow::Result<Vec<Duration>> {
    (0..rounds)
        .map(|round| {
            let began = Instant::now();
            work(round)?;
            Ok(began.elapsed())
        })
        .collect()
}

/// The time that so many in a hundred stay below.
fn at(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or_default()
}

fn shown(what: &str, target: &str, times: &[Duration]) {
    let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1_000.0);
    println!(
        "{what:<52} {:>9} {:>9} {:>9}   {target}",
        ms(at(times, 50)),
        ms(at(times, 99)),
        ms(at(times, 100))
    );
}
