//! The demo of commands: an agent asks over MCP, a person reads what would run and approves it, the executor runs it once, and
//! two records say who, what and when. Then what must not work: an edited file, a second use, the agent approving itself.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::client::{Answer, Client, Deadline};
use super::scene::{FOREIGN, quoted, random_secret};
use super::show::Show;
use crate::workspace::{Host, Workspace};

/// What the agent wants to have printed, and what somebody makes of it later.
const PLAN: &str = "stop web, migrate, start web\n";
const EDITED: &str = "stop web, drop tables, start web\n";

/// A folder with the gateway's and the executor's files, and a running executor.
struct Scene {
    dir: tempfile::TempDir,
    gateway: PathBuf,
    secret: String,
    agent: String,
    person: String,
    executor: Option<Child>,
}

/// Plays the demo.
///
/// # Errors
/// The first step that did not go as it should, by number and name.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut show = Show::new();
    show.title("Sentinel Gateway: an agent asks, a person approves, an executor acts");
    let mut scene = Scene::set(workspace)?;
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
        let (answer, text) = scene.deciding(&mut client, by, |id, digest| {
            first = id.to_owned();
            let text = scene.person(&["show", id], by)?;
            scene.person(&["approve", id, "--digest", digest, "--reason", "looks right"], by)?;
            Ok(text)
        })?;
        let shown = answer.result()?;
        ensure!(shown["structuredContent"]["stdout"] == PLAN, "it printed something else: {shown}");
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
        let (answer, _) = scene.deciding(&mut client, by, |id, digest| {
            fs::write(scene.path("data/plan"), EDITED)?;
            scene.person(&["approve", id, "--digest", digest], by)
        })?;
        fs::write(scene.path("data/plan"), PLAN)?;
        refused(&answer, "changed")
    })?;
    show.step("The agent approves its own request, with a role that may decide", |by| {
        let (answer, said) = scene.deciding(&mut client, by, |id, digest| {
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

impl Scene {
    fn set(workspace: &Workspace) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sentinel-demo-exec-").tempdir()?;
        let gateway = workspace.gateway(Host::Debug);
        let (agent, person) = (String::new(), String::new());
        let mut scene = Self { dir, gateway, secret: random_secret()?, agent, person, executor: None };
        // The executor becomes another user where root plays, and has to reach its files.
        let root = rustix::process::geteuid().is_root();
        for folder in ["", "data", "run"] {
            let path = scene.path(folder);
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(scene.path("data/plan"), PLAN)?;
        let by = Deadline::new();
        let mut keys = Command::new(&scene.gateway);
        scene.output(keys.args(["executor", "keys", "--out", "."]), by)?;
        let user = if root { "user = \"nobody\"\n" } else { "" };
        fs::write(
            scene.path("executor.toml"),
            format!(
                "name = \"exec\"\nenvironment = \"dev\"\nsocket = \"run/exec.sock\"\ndir = \"run/state\"\n\
                 public_keys = [\"capability.pub\"]\n{user}commands_from = \"sentinel.toml\"\n"
            ),
        )?;
        let config = format!(
            r#"[gateway]
health_listen = "off"

[audit]
dir = {audit}

[auth]
mode = "jwt"

[rbac.roles.agent]
permissions = ["tools.execute"]
[rbac.roles.lead]
permissions = ["approvals.decide"]
[rbac.roles.both]
permissions = ["tools.execute", "approvals.decide"]

[[executors]]
name = "exec"
environment = "dev"
socket = "run/exec.sock"
key_file = "capability.key"

[[commands]]
name = "plan"
description = "Prints a plan."
executable = "/usr/bin/cat"
argv = ["--", "{{file}}"]
slots = {{ file = {{ type = "path", beneath = {data} }} }}

[command_policy]
allowed_environments = ["dev"]
"#,
            audit = quoted(&scene.path("audit").to_string_lossy()),
            data = quoted(&scene.path("data").to_string_lossy()),
        );
        let file = scene.path("sentinel.toml");
        fs::write(&file, config)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        scene.agent = scene.mint("agent", "agent", by)?;
        scene.person = scene.mint("lea", "lead", by)?;
        Ok(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self, by: Deadline) -> anyhow::Result<String> {
        let log = File::create(self.path("executor.log"))?;
        let mut command = Command::new(&self.gateway);
        command.current_dir(self.dir.path()).args(["executor", "run", "executor.toml"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let child = self.executor.insert(child);
        let socket = self.dir.path().join("run/exec.sock");
        while !socket.exists() {
            if let Some(status) = child.try_wait()? {
                bail!("the executor ended with {status}");
            }
            ensure!(!by.left().is_zero(), "the executor did not listen in time");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(format!("process {}", child.id()))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.gateway);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("JWT_SECRET_KEY", &self.secret).current_dir(self.dir.path());
        command.arg("--config").arg(self.path("sentinel.toml"));
        command
    }

    fn gateway(&self, token: &str) -> anyhow::Result<Command> {
        let mut command = self.command();
        command.env("SENTINEL_TOKEN", token).stderr(File::create(self.path("gateway.log"))?);
        Ok(command)
    }

    fn mint(&self, subject: &str, role: &str, by: Deadline) -> anyhow::Result<String> {
        let mut command = self.command();
        command.args(["token", "mint", "--sub", subject, "--role", role, "--days", "1"]);
        Ok(self.output(&mut command, by)?.trim().to_owned())
    }

    /// The agent calls, and while its call waits this is done about the request. Gives both results.
    fn deciding<T: Send>(
        &self,
        client: &mut Client,
        by: Deadline,
        decide: impl FnOnce(&str, &str) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Answer, T)> {
        std::thread::scope(|scope| {
            let call = scope.spawn(|| client.call("plan", json!({"file": "plan"}), by));
            let (id, digest) = self.waiting(by)?;
            let decided = decide(&id, &digest)?;
            let answer = call.join().map_err(|_| anyhow::anyhow!("the agent failed"))??;
            Ok((answer, decided))
        })
    }

    /// The request that waits, as soon as there is one.
    fn waiting(&self, by: Deadline) -> anyhow::Result<(String, String)> {
        loop {
            let said = self.person(&["list", "--json"], by)?;
            let line: Value = serde_json::from_str(said.lines().next().unwrap_or_default())?;
            let list = line["answer"]["ok"]["approvals"].as_array().cloned().unwrap_or_default();
            if let Some(found) = list.iter().find(|found| found["state"] == "pending") {
                let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
                return Ok((text("id"), text("digest")));
            }
            ensure!(!by.left().is_zero(), "no request came");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// What the person does in a second terminal, which has to work.
    fn person(&self, args: &[&str], by: Deadline) -> anyhow::Result<String> {
        let done = self.decide(&self.person, args, by)?;
        ensure!(
            done.status.success(),
            "`approvals {}`: {}",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).context("no UTF-8")
    }

    fn decide(&self, token: &str, args: &[&str], _by: Deadline) -> anyhow::Result<Output> {
        let mut command = self.command();
        command.env("SENTINEL_APPROVER_TOKEN", token).arg("approvals").args(args).stdin(Stdio::null());
        command.output().context("cannot start `sentinel-gateway approvals`")
    }

    fn output(&self, command: &mut Command, _by: Deadline) -> anyhow::Result<String> {
        let done = command.current_dir(self.dir.path() as &Path).stdin(Stdio::null()).output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).context("no UTF-8")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(executor) = &mut self.executor {
            // It serves until it is told to stop.
            let _ = executor.kill();
            let _ = executor.wait();
        }
    }
}
