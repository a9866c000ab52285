//! The stage of the demo of commands: a folder with the gateway's and the executor's files, the executor, and what the person at
//! the second terminal does.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::demo::client::{Answer, Client, Deadline};
use crate::demo::scene::{FOREIGN, quoted, random_secret};
use crate::workspace::{Host, Workspace};

/// What the agent wants to have printed.
pub(crate) const PLAN: &str = "stop web, migrate, start web\n";

/// A folder with the gateway's and the executor's files, and a running executor.
pub(crate) struct Scene {
    dir: tempfile::TempDir,
    pub(crate) gateway: PathBuf,
    secret: String,
    pub(crate) agent: String,
    person: String,
    executor: Option<Child>,
}

impl Scene {
    pub(crate) fn set(workspace: &Workspace, host: Host, more: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sentinel-demo-exec-").tempdir()?;
        let gateway = workspace.gateway(host);
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
{more}"#,
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn start(&mut self, by: Deadline) -> anyhow::Result<String> {
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

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.gateway);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("JWT_SECRET_KEY", &self.secret).current_dir(self.dir.path());
        command.arg("--config").arg(self.path("sentinel.toml"));
        command
    }

    pub(crate) fn gateway(&self, token: &str) -> anyhow::Result<Command> {
        let mut command = self.command();
        command.env("SENTINEL_TOKEN", token).stderr(File::create(self.path("gateway.log"))?);
        Ok(command)
    }

    pub(crate) fn mint(&self, subject: &str, role: &str, by: Deadline) -> anyhow::Result<String> {
        let mut command = self.command();
        command.args(["token", "mint", "--sub", subject, "--role", role, "--days", "1"]);
        Ok(self.output(&mut command, by)?.trim().to_owned())
    }

    /// The agent calls, and while its call waits this is done about the request. Gives both results.
    pub(crate) fn deciding<T: Send>(
        &self,
        client: &mut Client,
        (tool, arguments): (&str, Value),
        by: Deadline,
        decide: impl FnOnce(&str, &str) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Answer, T)> {
        std::thread::scope(|scope| {
            let call = scope.spawn(|| client.call(tool, arguments, by));
            let (id, digest) = self.waiting(by)?;
            let decided = decide(&id, &digest)?;
            let answer = call.join().map_err(|_| anyhow::anyhow!("the agent failed"))??;
            Ok((answer, decided))
        })
    }

    /// The request that waits, as soon as there is one.
    pub(crate) fn waiting(&self, by: Deadline) -> anyhow::Result<(String, String)> {
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
    pub(crate) fn person(&self, args: &[&str], by: Deadline) -> anyhow::Result<String> {
        let done = self.decide(&self.person, args, by)?;
        ensure!(
            done.status.success(),
            "`approvals {}`: {}",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).context("no UTF-8")
    }

    pub(crate) fn decide(&self, token: &str, args: &[&str], _by: Deadline) -> anyhow::Result<Output> {
        let mut command = self.command();
        command.env("SENTINEL_APPROVER_TOKEN", token).arg("approvals").args(args).stdin(Stdio::null());
        command.output().context("cannot start `sentinel-gateway approvals`")
    }

    pub(crate) fn output(&self, command: &mut Command, _by: Deadline) -> anyhow::Result<String> {
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
