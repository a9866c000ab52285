//! Plans: stages of commands, each behind its approval, which survive a kill in the middle, and the way back.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::scene::{Executor, Scene};
use crate::approvals::{LEA, ROLES, approve, done, pending};
use crate::http_door::client::Door;
use crate::support::{Setup, eventually, mint};

const COMMANDS: &str = r#"
[[commands]]
name = "say"
executable = "/usr/bin/echo"
argv = ["said:", "--", "{word}"]
slots = { word = { type = "text", pattern = "[a-z0-9]{1,40}" } }
[[commands]]
name = "look"
executable = "/usr/bin/cat"
argv = ["--", "{file}"]
slots = { file = { type = "path", beneath = "{dir}" } }
[command_policy]
allowed_environments = ["dev"]
[[command_policy.rules]]
decision = "allow"
commands = ["look"]
[approvals]
http = true
wait_secs = 0
max_pending_per_target = 20
"#;

struct Stage {
    door: Door,
    record: PathBuf,
    plan: PathBuf,
    _executor: Executor,
}

impl Stage {
    fn set(plan: &str) -> Self {
        let mut scene = Scene::with(Setup::new().roles(ROLES).role("agent"), COMMANDS);
        let _executor = scene.start();
        let (record, file) = (scene.setup.path("run/state/record.jsonl"), scene.setup.path("plan.toml"));
        std::fs::write(&file, plan.replace("{dir}", &scene.setup.text("data"))).unwrap();
        scene.write("ready", "yes\n");
        let door = Door::open(std::mem::replace(&mut scene.setup, Setup::new()), "");
        Self { door, record, plan: file, _executor }
    }

    fn words(&self, command: &str) -> Vec<String> {
        let url = format!("http://{}", self.door.address);
        let plan = self.plan.to_str().unwrap().to_owned();
        ["plan".into(), command.into(), plan, "--url".into(), url].to_vec()
    }

    /// `plan run` or `plan rollback`, without waiting for its end.
    fn begin(&self, command: &str, more: &[&str]) -> Child {
        let words = self.words(command);
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.extend(more);
        let mut command = self.door.gateway.setup.command(&words);
        command.env("SENTINEL_TOKEN", mint("ann", "agent", 3600));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn status(&self) -> String {
        let plan = self.plan.to_str().unwrap();
        let output = self.door.gateway.setup.run(&["plan", "status", plan]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What was said or looked at, in its order.
    fn ran(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let intents = lines.filter(|line| line["event"] == "intent");
        intents
            .map(|line| {
                let argv = line["action"]["argv"].as_array().unwrap();
                let last = argv.last().unwrap().as_str().unwrap();
                last.rsplit('/').next().unwrap().to_owned()
            })
            .collect()
    }

    /// Approves what waits, and says what that was.
    fn approve(&self) -> String {
        let request = pending(&self.door.gateway.setup);
        approve(&self.door.gateway.setup, LEA, &request);
        request.0
    }
}

/// The exit code, and all that it said.
fn ends(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

const PLAN: &str = r#"
name = "deploy"
environment = "dev"
[[stages]]
name = "A"
commands = ["say said: -- stop"]
rollback = ["say said: -- unstop"]
[[stages]]
name = "B"
commands = ["say said: -- build", "say said: -- start"]
validate = ["look -- {dir}/ready"]
rollback = ["say said: -- down"]
[[stages]]
name = "C"
commands = ["say said: -- last"]
rollback = ["say said: -- never"]
"#;

#[test]
fn a_plan_runs_stage_by_stage_survives_a_kill_and_goes_back() {
    let stage = Stage::set(PLAN);
    let (code, said, err) = {
        let output = stage.door.gateway.setup.run(&["plan", "check", stage.plan.to_str().unwrap()]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), output.stderr)
    };
    assert_eq!(code, Some(0), "{said} {}", String::from_utf8_lossy(&err));
    assert!(said.contains("3 stages, 8 commands"), "{said}");
    let mut run = stage.begin("run", &[]);
    stage.approve();
    eventually("the first ran", || (stage.ran() == ["stop"]).then_some(()));
    // It waits for the second; now it dies.
    pending(&stage.door.gateway.setup);
    let shown = eventually("it waits", || Some(stage.status()).filter(|shown| shown.contains("waiting")));
    assert!(shown.contains("done     A.commands[0]"), "{shown}");
    run.kill().unwrap();
    run.wait().unwrap();
    // Meanwhile the person decides.
    let first = stage.approve();
    let run = stage.begin("run", &[]);
    // While one is at it, no other is.
    let (code, said) = {
        eventually("it goes on", || (stage.ran().len() >= 2).then_some(()));
        ends(stage.begin("run", &[]))
    };
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another `plan run` is at it"), "{said}");
    assert_ne!(stage.approve(), first);
    eventually("the stage is validated, and the next waits", || {
        (stage.ran() == ["stop", "build", "start", "ready"]).then_some(())
    });
    let request = pending(&stage.door.gateway.setup);
    done(
        &stage.door.gateway.setup,
        LEA,
        &["reject", &request.0, "--digest", &request.1, "--reason", "enough"],
    );
    let (code, said) = ends(run);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("rejected"), "{said}");
    // Back from the stages that were begun, the last first; each command asks as well.
    let back = stage.begin("rollback", &[]);
    stage.approve();
    eventually("the first way back", || (stage.ran().len() == 5).then_some(()));
    stage.approve();
    let (code, said) = ends(back);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(stage.ran(), ["stop", "build", "start", "ready", "down", "unstop"]);
    let (code, said) = ends(stage.begin("run", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it was rolled back"), "{said}");
}

#[test]
fn a_validation_that_fails_stops_the_plan_and_is_tried_again() {
    let stage = Stage::set(&PLAN.replace("{dir}/ready", "{dir}/gone"));
    let run = stage.begin("run", &[]);
    for count in 1..=3 {
        stage.approve();
        eventually("it ran", || (stage.ran().len() == count).then_some(()));
    }
    let (code, said) = ends(run);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("argument_refused"), "{said}");
    std::fs::write(stage.plan.with_file_name("data").join("gone"), "there\n").unwrap();
    let run = stage.begin("run", &[]);
    stage.approve();
    let (code, said) = ends(run);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(stage.ran(), ["stop", "build", "start", "gone", "last"], "nothing ran twice");
}

/// The answer was lost: the plan does not run it again by itself.
#[test]
fn what_may_have_run_is_not_run_again_unless_somebody_says_so() {
    let stage = Stage::set(PLAN);
    let run = stage.begin("run", &[]);
    let first = stage.approve();
    eventually("the first ran", || (stage.ran() == ["stop"]).then_some(()));
    let second = pending(&stage.door.gateway.setup);
    let mut run = run;
    run.kill().unwrap();
    run.wait().unwrap();
    // As if it had died before the answer of the first came.
    let file = stage.plan.with_file_name("plan.toml.state.json");
    let mut kept: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    kept["steps"]["A.commands[0]"] = json!({"state": "running", "approval": first});
    std::fs::write(&file, kept.to_string()).unwrap();
    let (code, said) = ends(stage.begin("run", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("whether it ran is not known"), "{said}");
    assert_eq!(stage.ran(), ["stop"]);
    let mut run = stage.begin("run", &["--unknown", "done"]);
    assert_eq!(stage.approve(), second.0, "it goes on with what waited");
    eventually("the next ran", || (stage.ran() == ["stop", "build"]).then_some(()));
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_plan_with_mistakes_names_all_of_them_and_one_that_changed_does_not_go_on() {
    let stage =
        Stage::set(&PLAN.replace("said: -- build", "said: -- BUILD").replace("said: -- last", "LAST"));
    let (code, said) = stage.door.gateway.setup.refused(&["plan", "check", stage.plan.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{said}");
    for part in ["B.commands[0]", "word: it does not fit the pattern", "C.commands[0]"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = ends(stage.begin("run", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(stage.ran().is_empty());
    let plan = PLAN.replace("{dir}", &stage.door.gateway.setup.text("data"));
    std::fs::write(&stage.plan, &plan).unwrap();
    let mut run = stage.begin("run", &[]);
    pending(&stage.door.gateway.setup);
    eventually("it is kept", || stage.status().contains("waiting").then_some(()));
    run.kill().unwrap();
    run.wait().unwrap();
    std::fs::write(&stage.plan, plan.replace("said: -- stop", "said: -- other")).unwrap();
    let (code, said) = ends(stage.begin("run", &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has changed since it was begun"), "{said}");
}
