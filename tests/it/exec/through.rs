//! From a client of the gateway to the program and back.

use serde_json::{Value, json};

use super::corpus::{CORPUS, commands};
use super::scene::Scene;
use crate::support::{Gateway, Setup, code, eventually, reason};

const COMMANDS: &str = r#"
[[commands]]
name = "say"
description = "Says something."
executable = "/usr/bin/echo"
argv = ["said:", "--", "{words}"]
read_only = true
slots = { words = { type = "text", pattern = "[a-z ]{1,40}", description = "What to say." } }
[[commands]]
name = "show"
executable = "/usr/bin/cat"
argv = ["--", "{file}"]
slots = { file = { type = "path", beneath = "{dir}" } }
[[commands]]
name = "sleep"
executable = "/usr/bin/sleep"
argv = ["{seconds}"]
slots = { seconds = { type = "int", min = 0, max = 9999 } }
[[commands]]
name = "fail"
executable = "/usr/bin/false"
"#;

const ALLOW: &str = "[command_policy]\nallowed_environments = [\"dev\"]\ndefault_decision = \"allow\"\n";

fn with(policy: &str) -> Scene {
    Scene::new(&format!("{COMMANDS}{policy}"))
}

/// A gateway over the files of a scene.
fn gateway(scene: &mut Scene) -> Gateway {
    Gateway::start(std::mem::replace(&mut scene.setup, Setup::new()))
}

#[test]
fn a_command_is_a_tool_that_runs_and_is_on_record() {
    let mut scene = with(ALLOW);
    scene.write("a", "content\n");
    let executor = scene.start();
    let record = scene.setup.path("run/state/record.jsonl");
    let mut gateway = gateway(&mut scene);
    let tools = gateway.request("tools/list", &json!({}))["result"]["tools"].clone();
    let say = tools.as_array().unwrap().iter().find(|tool| tool["name"] == "say").unwrap();
    assert_eq!(say["description"], "Says something.");
    assert_eq!(say["inputSchema"]["properties"]["words"]["pattern"], "^(?:[a-z ]{1,40})$");
    assert_eq!(say["annotations"]["readOnlyHint"], true);
    let said = gateway.call("say", json!({ "words": "hello there" }))["result"].clone();
    assert_eq!(said["content"][0]["text"], "said: -- hello there\n");
    assert_eq!(said["isError"], false);
    let structured = &said["structuredContent"];
    assert_eq!(
        (&structured["exit_code"], &structured["stdout"]),
        (&json!(0), &json!("said: -- hello there\n"))
    );
    assert_eq!(
        gateway.call("show", json!({ "file": "a" }))["result"]["structuredContent"]["stdout"],
        "content\n"
    );
    let failed = gateway.call("fail", json!({}))["result"].clone();
    assert_eq!((&failed["isError"], &failed["structuredContent"]["exit_code"]), (&json!(true), &json!(1)));
    let rows = gateway.await_audit("three calls", |rows| (rows.len() >= 3).then(|| rows.to_vec()));
    let row = |tool: &str| {
        rows.iter().find(|row| row["tool"] == tool).unwrap_or_else(|| panic!("{tool}: {rows:?}"))
    };
    assert_eq!(row("say")["status"], "success");
    assert_eq!(row("fail")["status"], "error");
    assert_eq!(row("say")["backend"], "exec");
    // Both records name each other's.
    let lines = std::fs::read_to_string(record).unwrap();
    let intent: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&intent["event"], &intent["subject"]), (&json!("intent"), &json!("ann")));
    assert_eq!(intent["execution"], structured["execution_id"]);
    assert_eq!(intent["call"], row("say")["request_id"], "{rows:?}");
    drop(executor);
}

#[test]
fn what_a_slot_does_not_take_is_refused_by_its_name_and_nothing_runs() {
    let mut scene = with(ALLOW);
    scene.write("a", "content\n");
    let _executor = scene.start();
    let record = scene.setup.path("run/state/record.jsonl");
    let mut gateway = gateway(&mut scene);
    for (tool, arguments, slot) in [
        ("say", json!({ "words": "a; id" }), "words"),
        ("say", json!({ "words": "a\u{202e}b" }), "words"),
        ("say", json!({}), "words"),
        ("say", json!({ "words": "a", "more": "b" }), "more"),
        ("show", json!({ "file": "../../etc/passwd" }), "file"),
        ("show", json!({ "file": "/etc/passwd" }), "file"),
        ("show", json!({ "file": "gone" }), "file"),
        ("sleep", json!({ "seconds": "1" }), "seconds"),
        ("sleep", json!({ "seconds": -1 }), "seconds"),
        ("fail", json!({ "stdin": "x" }), "stdin"),
    ] {
        let refused = gateway.call(tool, arguments.clone());
        assert_eq!(
            (code(&refused), reason(&refused)),
            (-32602, "argument_refused"),
            "{tool} {arguments}: {refused}"
        );
        assert_eq!(refused["error"]["data"]["slot"], slot, "{refused}");
    }
    assert_eq!(std::fs::read_to_string(record).unwrap(), "", "the executor has run or refused something");
    gateway.await_audit("ten refusals", |rows| {
        (rows.iter().filter(|row| row["status"] == "invalid_args").count() == 10).then_some(())
    });
}

#[test]
fn the_corpus_gets_by_nowhere() {
    let file = include_str!("corpus.toml").replace("/srv/app", "{dir}").replace("/opt/app/bin", "{dir}/bin");
    let mut scene = Scene::new(&format!("{file}{ALLOW}"));
    std::fs::create_dir(scene.data("bin")).unwrap();
    for program in ["deploy", "import"] {
        std::fs::copy("/usr/bin/echo", scene.data("bin").join(program)).unwrap();
    }
    // This machine may have neither.
    for program in ["systemctl", "logger"] {
        let text = std::fs::read_to_string(scene.setup.path("sentinel.toml")).unwrap();
        assert!(text.contains(&format!("/usr/bin/{program}")));
    }
    let there =
        ["/usr/bin/systemctl", "/usr/bin/logger"].iter().all(|path| std::path::Path::new(path).exists());
    let echo = |text: String| {
        text.replace("/usr/bin/systemctl", "/usr/bin/echo").replace("/usr/bin/logger", "/usr/bin/echo")
    };
    if !there {
        let text = echo(std::fs::read_to_string(scene.setup.path("sentinel.toml")).unwrap());
        let setup = std::mem::replace(&mut scene.setup, Setup::new());
        scene.setup = setup.whole(&text);
        scene.setup.write();
    }
    let _executor = scene.start();
    let record = scene.setup.path("run/state/record.jsonl");
    let mut gateway = gateway(&mut scene);
    let known = commands();
    let mut seen = 0;
    for line in CORPUS.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let Some(command) = case["command"].as_str().filter(|_| case["expect"].is_null()) else { continue };
        let answer = gateway.call(command, case["arguments"].clone());
        assert!(answer["error"].is_object(), "{line}: {answer}");
        if known.find(command).is_some() {
            assert_eq!(reason(&answer), "argument_refused", "{line}: {answer}");
        }
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
    assert_eq!(std::fs::read_to_string(record).unwrap(), "", "something was run");
}

#[test]
fn the_policy_decides_by_environment_caller_command_and_slots() {
    let policy = r#"
        [approvals]
        wait_secs = 0
        [command_policy]
        allowed_environments = ["dev"]
        default_decision = "deny"
        [[command_policy.rules]]
        decision = "allow"
        commands = ["say"]
        subjects = ["ann"]
        slots = { words = ["hello", "bye"] }
        [[command_policy.rules]]
        decision = "ask"
        commands = ["fail"]
    "#;
    let mut scene = with(policy);
    let _executor = scene.start();
    let mut gateway = gateway(&mut scene);
    assert_eq!(gateway.call("say", json!({ "words": "hello" }))["result"]["isError"], false);
    let denied = gateway.call("say", json!({ "words": "something" }));
    assert_eq!(reason(&denied), "command_denied", "{denied}");
    assert_eq!(reason(&gateway.call("sleep", json!({ "seconds": 1 }))), "command_denied");
    // Nobody decides, so it is not run, and its caller is told to come again.
    let asked = gateway.call("fail", json!({}));
    assert_eq!(asked["result"]["isError"], true, "{asked}");
    assert_eq!(asked["result"]["structuredContent"]["exit_code"], Value::Null, "nobody was asked: {asked}");
    assert!(asked.to_string().contains("appr_"), "{asked}");
}

#[test]
fn in_an_environment_that_is_not_allowed_nothing_runs() {
    let mut scene =
        with("[command_policy]\nallowed_environments = [\"test\"]\ndefault_decision = \"allow\"\n");
    let _executor = scene.start();
    let mut gateway = gateway(&mut scene);
    assert_eq!(reason(&gateway.call("say", json!({ "words": "hello" }))), "wrong_environment");
}

#[test]
fn an_executor_for_another_environment_takes_no_permission() {
    let mut scene = with(&ALLOW.replace("dev", "prd\", \"dev"));
    let file = scene.setup.path("executor.toml");
    let text =
        std::fs::read_to_string(&file).unwrap().replace("environment = \"dev\"", "environment = \"prd\"");
    std::fs::write(&file, text).unwrap();
    let _executor = scene.start();
    let mut gateway = gateway(&mut scene);
    assert_eq!(reason(&gateway.call("say", json!({ "words": "hello" }))), "wrong_environment");
}

#[test]
fn without_its_executor_a_command_is_refused_and_says_what_to_do() {
    let mut scene = with(ALLOW);
    let keep = scene.setup.path("").to_owned();
    let mut gateway = gateway(&mut scene);
    let away = gateway.call("say", json!({ "words": "hello" }));
    let text = away["error"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("exec"), "{away}");
    gateway.await_log("sentinel-gateway executor run", 1);
    assert!(keep.exists());
    // It is there as soon as it is there.
    let again = Scene { setup: gateway.into_setup(), key: scene.key };
    let _executor = again.start();
    let mut gateway = Gateway::start(again.setup);
    assert_eq!(gateway.call("say", json!({ "words": "hello" }))["result"]["isError"], false);
}

#[test]
fn a_call_that_is_cancelled_ends_its_command() {
    let mut scene = with(ALLOW);
    let _executor = scene.start();
    let record = scene.setup.path("run/state/record.jsonl");
    let mut gateway = gateway(&mut scene);
    let id = gateway.send("tools/call", &json!({ "name": "sleep", "arguments": { "seconds": 4246 } }));
    let events = |event: &str| {
        std::fs::read_to_string(&record)
            .unwrap_or_default()
            .matches(&format!("\"event\":\"{event}\""))
            .count()
    };
    eventually("it runs", || (events("intent") == 1).then_some(()));
    gateway.notify("notifications/cancelled", &json!({ "requestId": id }));
    eventually("it is ended", || (events("outcome") == 1).then_some(()));
    assert_eq!(gateway.call("say", json!({ "words": "next" }))["result"]["isError"], false);
}

#[test]
fn commands_need_an_executor_a_key_and_their_environments() {
    let setup = Setup::new().more(COMMANDS).more("[[executors]]\nname = \"exec\"\nsocket = \"s\"\n");
    let (code, said) = setup.refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    for text in [
        "executors[0].environment: an executor needs its environment",
        "executors[0].key_file: an executor takes only what this gateway has signed",
        "it must be said in which environments commands may be run",
        "commands[1].slots.file.beneath: \"{dir}\" is not an absolute path",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let setup = Setup::new().more(COMMANDS);
    let (code, said) = setup.refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("there is no executor, and the gateway runs no commands itself"), "{said}");
}

#[test]
fn the_examples_of_a_command_are_tried_by_check() {
    let say = COMMANDS.split("[[commands]]").nth(1).unwrap();
    let scene = Scene::new(&format!(
        "[[commands]]{say}examples = {{ allow = [\"said: -- hello\", \"said: -- HELLO\"], refuse = [\"said: -- bye\", \"said: hello\"] }}\n{ALLOW}"
    ));
    let (code, said) = scene.setup.refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("commands[0].examples.allow[1]: it is refused: words: it does not fit the pattern"),
        "{said}"
    );
    assert!(said.contains("commands[0].examples.refuse[0]: it is accepted"), "{said}");
}
