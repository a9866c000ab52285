//! A person approves what an agent asks for, and exactly that runs, once.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, Setup, eventually, mint};

mod asking;
mod crashing;
mod database;
mod deciding;
mod http;
mod rules;
mod telegram;
mod webhooks;

/// Notes the arguments of each call in the file `ran`, as it was given them.
const DEPLOYS: &str = "tools = [\n\
    {\"name\": \"deploy\", \"inputSchema\": {\"type\": \"object\", \"properties\": {\"to\": {\"type\": \"string\"}}}},\n\
    {\"name\": \"look\", \"inputSchema\": {\"type\": \"object\"}}]\n\
    def call(id, params):\n\
    \x20   note(\"ran\", params[\"name\"] + \" \" + json.dumps(params.get(\"arguments\"), sort_keys=True))\n\
    \x20   while os.path.exists(\"hold\"):\n\x20       time.sleep(0.01)\n\
    \x20   text(id, \"deployed\")\n";

pub(crate) const ROLES: &str = "[rbac.roles.agent]\npermissions = [\"tools.execute\"]\n\
    [rbac.roles.lead]\npermissions = [\"approvals.decide\"]\n\
    [rbac.roles.viewer]\npermissions = [\"approvals.read\"]\n\
    [rbac.roles.ops]\npermissions = [\"control\"]\n\
    [rbac.roles.both]\npermissions = [\"tools.execute\", \"approvals.decide\"]\n";

/// `deploy` needs somebody's approval; `look` does not. The caller is the agent `ann`.
fn setup() -> Setup {
    asking("[[rbac.approvals]]\ntools = [\"deploy\"]\n")
}

fn asking(rules: &str) -> Setup {
    Setup::new().scripted("prod", DEPLOYS, "").roles(&format!("{ROLES}{rules}")).role("agent")
}

/// The same with a call that is told to come again after so many seconds.
fn waiting(secs: u32) -> Setup {
    setup().more(&format!("[approvals]\nwait_secs = {secs}"))
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// `approvals` as this person, or as the user who runs the gateway.
pub(crate) fn run(setup: &Setup, who: Option<(&str, &str)>, args: &[&str]) -> Said {
    let mut words = vec!["approvals"];
    words.extend(args);
    let mut command: Command = setup.command(&words);
    if let Some((subject, role)) = who {
        command.env("SENTINEL_APPROVER_TOKEN", mint(subject, role, 3600));
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

pub(crate) const LEA: Option<(&str, &str)> = Some(("lea", "lead"));

/// A command that is done.
pub(crate) fn done(setup: &Setup, who: Option<(&str, &str)>, args: &[&str]) -> String {
    let said = run(setup, who, args);
    assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
    said.out
}

/// Why a command is refused: its stable word, as `--json` has it.
pub(crate) fn reason(setup: &Setup, who: Option<(&str, &str)>, args: &[&str]) -> String {
    let mut args = args.to_vec();
    args.push("--json");
    let said = run(setup, who, &args);
    assert_eq!(said.code, Some(1), "{args:?}: {said:?}");
    let line: Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    line["answer"]["error"]["reason"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// Every request, the newest first.
pub(crate) fn list(setup: &Setup, who: Option<(&str, &str)>) -> Vec<Value> {
    let out = done(setup, who, &["list", "--all", "--json"]);
    let line: Value = serde_json::from_str(out.trim()).unwrap();
    line["answer"]["ok"]["approvals"].as_array().unwrap_or_else(|| panic!("{line}")).clone()
}

/// The request that waits, as soon as there is one: its id and its digest.
pub(crate) fn pending(setup: &Setup) -> (String, String) {
    eventually("a request that waits", || {
        let list = list(setup, LEA);
        let found = list.iter().find(|approval| approval["state"] == "pending")?;
        let text = |key: &str| found[key].as_str().unwrap().to_owned();
        Some((text("id"), text("digest")))
    })
}

pub(crate) fn approve(setup: &Setup, who: Option<(&str, &str)>, (id, digest): &(String, String)) -> String {
    done(setup, who, &["approve", id, "--digest", digest])
}

/// Runs a command on a terminal of its own, types this when it is asked, and gives its exit code and all that it showed.
/// `{last}` stands for the last four digits of the digest that was shown.
fn on_a_terminal(setup: &Setup, args: &[&str], typed: &str) -> (i64, String) {
    const SCRIPT: &str = "import json, os, pty, re, sys\n\
        pid, fd = pty.fork()\n\
        if pid == 0:\n    os.execv(sys.argv[2], sys.argv[2:])\n\
        seen, asked = b'', False\n\
        while True:\n\
        \x20   try:\n        piece = os.read(fd, 4096)\n    except OSError:\n        break\n\
        \x20   if not piece:\n        break\n\
        \x20   seen += piece\n\
        \x20   if not asked and b'type the last' in seen:\n\
        \x20       asked = True\n\
        \x20       last = re.search(rb'sha256:[0-9a-f]{64}', seen).group(0)[-4:].decode()\n\
        \x20       os.write(fd, (sys.argv[1].replace('{last}', last) + '\\n').encode())\n\
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n\
        print(json.dumps([status, seen.decode()]))\n";
    let command = setup.command(args);
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT, typed]).arg(command.get_program()).args(command.get_args()).env_clear();
    python.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output =
        python.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the server was told to do, a call a line.
fn ran(setup: &Setup) -> Vec<String> {
    let text = std::fs::read_to_string(setup.path("ran")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The facts of an answer that says that the call waits.
pub(crate) fn waits(answer: &Value) -> &Value {
    let facts = &answer["result"]["_meta"]["sentinel-gateway/approval"];
    assert_eq!(facts["status"], "pending_approval", "{answer}");
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    facts
}

fn ready(setup: Setup) -> Gateway {
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("deploy");
    gateway
}

pub(crate) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

fn to(place: &str) -> Value {
    json!({ "to": place })
}
