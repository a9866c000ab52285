//! A command that a person approves: what they see is what runs, once, whatever changes or dies in between.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::scene::{Executor, Scene};
use crate::approvals::{LEA, ROLES, approve, done, list, pending, waits};
use crate::support::{Gateway, Setup, eventually, mint, reason};

/// `show` prints a file, `note` appends a line to one and so tells how often it ran, `own` is a program of the test's own.
const COMMANDS: &str = r#"
[[commands]]
name = "show"
executable = "/usr/bin/cat"
argv = ["--", "{file}"]
slots = { file = { type = "path", beneath = "{dir}" } }
[[commands]]
name = "say"
executable = "/usr/bin/echo"
argv = ["said:", "--", "{words}"]
slots = { words = { type = "text", pattern = "[a-z0-9 ]{1,40}" } }
[[commands]]
name = "own"
executable = "{dir}/program"
argv = ["of", "mine"]
[command_policy]
allowed_environments = ["dev"]
"#;

/// Everything is asked about, as it is by default; a call waits for so many seconds.
fn scene(wait: u32) -> Scene {
    let setup = Setup::new().roles(ROLES).role("agent");
    let scene = Scene::with(setup, &format!("{COMMANDS}[approvals]\nwait_secs = {wait}\n"));
    std::fs::copy("/usr/bin/echo", scene.data("program")).unwrap();
    scene.write("a", "approved\n");
    scene
}

/// A gateway over a scene whose executor runs, and that executor's record.
struct Stage {
    gateway: Gateway,
    record: PathBuf,
    executor: Option<Executor>,
    data: PathBuf,
}

impl Stage {
    fn set(wait: u32) -> Self {
        let mut scene = scene(wait);
        let executor = Some(scene.start());
        let (record, data) = (scene.setup.path("run/state/record.jsonl"), scene.setup.path("data"));
        let gateway = Gateway::start(std::mem::replace(&mut scene.setup, Setup::new()));
        Self { gateway, record, executor, data }
    }

    /// The lines of the executor's record of this kind.
    fn lines(&self, event: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == event).collect()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.data.join(name), text).unwrap();
    }

    fn named(&mut self, tool: &str, arguments: &Value, approval: &str) -> Value {
        let params =
            json!({"name": tool, "arguments": arguments, "_meta": {"sentinel-gateway/approval": approval}});
        self.gateway.request("tools/call", &params)
    }

    /// Starts the executor again, on the files that are there.
    fn restart_executor(&mut self) {
        self.executor = None;
        let setup = std::mem::replace(&mut self.gateway.setup, Setup::new());
        let key = sentinel_gateway::capability::Key::from_pem(
            &std::fs::read_to_string(setup.path("capability.key")).unwrap(),
        );
        let scene = Scene { setup, key: key.unwrap() };
        self.executor = Some(scene.start());
        self.gateway.setup = scene.setup;
    }
}

fn sha256(path: &str) -> String {
    let hash = Sha256::digest(std::fs::read(path).unwrap());
    hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn stdout(answer: &Value) -> &str {
    answer["result"]["structuredContent"]["stdout"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn what_is_shown_is_what_runs_once_and_both_records_hold_the_chain() {
    let mut stage = Stage::set(50);
    let call = stage.gateway.begin("show", json!({"file": "a"}));
    let request = pending(&stage.gateway.setup);
    let shown = done(&stage.gateway.setup, LEA, &["show", &request.0]);
    let file = stage.data.join("a");
    for line in [
        "runs        tools/call \"show\"".to_owned(),
        "backend     \"exec\"".to_owned(),
        format!("resolved /executable/sha256 = \"{}\"", sha256("/usr/bin/cat")),
        "resolved /executable/path = \"/usr/bin/cat\"".to_owned(),
        format!("resolved /files/0/path = \"{}\"", file.display()),
        format!("resolved /files/0/sha256 = \"{}\"", sha256(file.to_str().unwrap())),
        "resolved /argv/0 = \"--\"".to_owned(),
        format!("resolved /argv/1 = \"{}\"", file.display()),
        "resolved /cwd = \"/\"".to_owned(),
        "resolved /env/PATH = \"/usr/bin:/bin\"".to_owned(),
        "resolved /environment = \"dev\"".to_owned(),
        "resolved /limits/timeout_secs = 30".to_owned(),
        "ran before  0 times".to_owned(),
        "asked by    \"ann\" (role \"agent\")".to_owned(),
    ] {
        assert!(shown.contains(&line), "{line}: {shown}");
    }
    assert!(!stage.gateway.has_answer(call) && stage.lines("intent").is_empty(), "nothing runs before");
    approve(&stage.gateway.setup, LEA, &request);
    let answer = stage.gateway.answer(call);
    assert_eq!(stdout(&answer), "approved\n");
    let intents = stage.lines("intent");
    assert_eq!((intents.len(), stage.lines("outcome").len()), (1, 1), "{intents:?}");
    // It is used up: the same again is another request, and naming the first is refused.
    let used = stage.named("show", &json!({"file": "a"}), &request.0);
    assert_eq!(reason(&used), "consumed", "{used}");
    let again = stage.gateway.begin("show", json!({"file": "a"}));
    let second = pending(&stage.gateway.setup);
    assert_ne!(second.0, request.0);
    let shown = done(&stage.gateway.setup, LEA, &["show", &second.0]);
    assert!(shown.contains("ran before  1 times"), "{shown}");
    done(&stage.gateway.setup, LEA, &["reject", &second.0, "--digest", &second.1]);
    assert_eq!(reason(&stage.gateway.answer(again)), "rejected");
    assert_eq!(stage.lines("intent").len(), 1);
    stage.gateway.end();
    let rows = stage.gateway.audit();
    let made = rows.iter().find(|row| row["tool"] == "show" && row["status"] == "success").unwrap();
    let notes = made["notes"].to_string();
    for part in [request.0.as_str(), request.1.as_str(), "lea"] {
        assert!(notes.contains(part), "{part}: {made}");
    }
    // The executor's line names the gateway's, and says who asked, what ran and under which token.
    let intent = &intents[0];
    assert_eq!(
        (&intent["call"], &intent["subject"], &intent["environment"]),
        (&made["request_id"], &json!("ann"), &json!("dev"))
    );
    assert_eq!(intent["action"]["argv"][1], file.to_str().unwrap());
    assert_eq!(intent["token"].as_str().unwrap().len(), 64, "{intent}");
    let (code, said, _) = stage.gateway.setup.bare(&["executor", "verify", "run/state/record.jsonl"]);
    assert_eq!(code, Some(0), "{said}");
}

/// The call waits while what it would run becomes something else, and only then a person approves it.
#[test]
fn what_changes_while_a_person_thinks_is_refused_as_changed_and_not_run() {
    type Change = (&'static str, &'static str, Value, fn(&Stage));
    let mut stage = Stage::set(50);
    let changes: [Change; 6] = [
        ("rewritten", "show", json!({"file": "a"}), |stage| stage.write("a", "evil\n")),
        ("longer", "show", json!({"file": "a"}), |stage| stage.write("a", "approved\nevil\n")),
        ("exchanged", "show", json!({"file": "a"}), |stage| {
            stage.write("b", "evil\n");
            std::fs::rename(stage.data.join("b"), stage.data.join("a")).unwrap();
        }),
        ("a link", "show", json!({"file": "a"}), |stage| {
            std::fs::remove_file(stage.data.join("a")).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", stage.data.join("a")).unwrap();
        }),
        ("gone", "show", json!({"file": "a"}), |stage| {
            std::fs::remove_file(stage.data.join("a")).unwrap();
        }),
        ("another program", "own", json!({}), |stage| {
            std::fs::copy("/usr/bin/cat", stage.data.join("b")).unwrap();
            std::fs::rename(stage.data.join("b"), stage.data.join("program")).unwrap();
        }),
    ];
    for (what, tool, arguments, change) in changes {
        let _ = std::fs::remove_file(stage.data.join("a"));
        stage.write("a", "approved\n");
        let call = stage.gateway.begin(tool, arguments.clone());
        let request = pending(&stage.gateway.setup);
        change(&stage);
        approve(&stage.gateway.setup, LEA, &request);
        let answer = stage.gateway.answer(call);
        let word = reason(&answer);
        // A file that is no file any more is refused for itself.
        let expected = if ["a link", "gone"].contains(&what) { "argument_refused" } else { "changed" };
        assert_eq!(word, expected, "{what}: {answer}");
        // Its approval is good for nothing else.
        let named = stage.named(tool, &arguments, &request.0);
        assert!(["changed", "argument_refused"].contains(&reason(&named)), "{what}: {named}");
        assert!(stage.lines("intent").is_empty(), "{what}: it ran");
        // Take it back, so that few wait.
        done(&stage.gateway.setup, None, &["cancel", &request.0]);
    }
}

#[test]
fn other_arguments_are_another_request_and_an_approval_is_for_no_other_command() {
    let mut stage = Stage::set(0);
    let hello = json!({"words": "hello"});
    waits(&stage.gateway.call("say", hello.clone()));
    let request = pending(&stage.gateway.setup);
    approve(&stage.gateway.setup, LEA, &request);
    for (tool, arguments) in
        [("say", json!({"words": "hello2"})), ("own", json!({})), ("show", json!({"file": "a"}))]
    {
        let other = stage.named(tool, &arguments, &request.0);
        assert_eq!(reason(&other), "changed", "{tool}: {other}");
    }
    assert!(stage.lines("intent").is_empty(), "something ran");
    assert_eq!(stdout(&stage.named("say", &hello, &request.0)), "said: -- hello\n");
    assert_eq!(stage.lines("intent").len(), 1);
}

/// The executor is away when the person has decided: nothing is lost, and what was approved runs when it is back.
#[test]
fn while_the_executor_is_away_an_approval_is_not_used_up() {
    let mut stage = Stage::set(50);
    let call = stage.gateway.begin("say", json!({"words": "later"}));
    let request = pending(&stage.gateway.setup);
    stage.executor = None;
    approve(&stage.gateway.setup, LEA, &request);
    let away = stage.gateway.answer(call);
    assert!(away["error"].is_object(), "{away}");
    let states = list(&stage.gateway.setup, LEA);
    assert_eq!(states[0]["state"], "approved", "{states:?}");
    stage.restart_executor();
    assert_eq!(stdout(&stage.gateway.call("say", json!({"words": "later"}))), "said: -- later\n");
    assert_eq!(stage.lines("intent").len(), 1);
}

/// At another moment after the decision in every round the gateway is killed, or the executor: the command ran at most once,
/// and only with its approval used up.
#[test]
fn killed_at_any_moment_after_the_decision_a_command_runs_at_most_once() {
    const ROUNDS: u32 = 12;
    let mut stage = Stage::set(50);
    for round in 0..ROUNDS {
        let words = json!({"words": format!("round {round}")});
        stage.gateway.begin("say", words.clone());
        let request = pending(&stage.gateway.setup);
        let mut command =
            stage.gateway.setup.command(&["approvals", "approve", &request.0, "--digest", &request.1]);
        command.env("SENTINEL_APPROVER_TOKEN", mint("lea", "lead", 3600));
        let null = std::process::Stdio::null;
        let mut person = command.stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
        // The moment is what the test is about, so it is chosen by time.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 4));
        if round % 3 == 2 {
            stage.executor = None;
            person.wait().unwrap();
            stage.restart_executor();
        }
        stage.gateway.signal(Signal::KILL);
        stage.gateway.wait_exit();
        person.wait().unwrap();
        stage.gateway = Gateway::start(stage.gateway.into_setup());
        let ran = |stage: &Stage| {
            let said = format!("round {round}");
            stage.lines("intent").iter().filter(|line| line["action"]["argv"][2] == said.as_str()).count()
        };
        // What the killed gateway had begun at the executor ends there, one way or the other.
        eventually("the end of every run", || {
            let (begun, ended) = (stage.lines("intent"), stage.lines("outcome"));
            begun
                .iter()
                .all(|begun| round % 3 == 2 || ended.iter().any(|end| end["execution"] == begun["execution"]))
                .then_some(())
        });
        let before = ran(&stage);
        let state = list(&stage.gateway.setup, LEA)[0]["state"].as_str().unwrap().to_owned();
        match state.as_str() {
            "consumed" => {
                let used = stage.named("say", &words, &request.0);
                assert_eq!(reason(&used), "consumed", "{used}");
            }
            "approved" => {
                assert_eq!(before, 0, "it ran without being used up");
                let done = stage.named("say", &words, &request.0);
                assert_eq!(stdout(&done), format!("said: -- round {round}\n"));
            }
            "pending" => {
                assert_eq!(before, 0, "it ran without a decision");
                done(&stage.gateway.setup, LEA, &["reject", &request.0, "--digest", &request.1]);
            }
            other => panic!("{other}"),
        }
        assert!(ran(&stage) <= 1, "round {round}: {:?}", stage.lines("intent"));
    }
    let tokens: Vec<String> = stage.lines("intent").iter().map(|line| line["token"].to_string()).collect();
    let unique: std::collections::HashSet<&String> = tokens.iter().collect();
    assert_eq!(unique.len(), tokens.len(), "each run has a token of its own");
}
