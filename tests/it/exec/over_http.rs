//! Commands and approvals over HTTP: who asks, who decides and who runs are different credentials, and each refusal has its
//! status and its reason.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::scene::{Executor, Scene};
use crate::approvals::ROLES;
use crate::http_door::client::Door;
use crate::rest::stage::{Caller, Reply};
use crate::support::{Setup, eventually, free_address, get};

const COMMANDS: &str = r#"
[[commands]]
name = "say"
executable = "/usr/bin/echo"
argv = ["said:", "--", "{words}"]
slots = { words = { type = "text", pattern = "[a-z0-9 ]{1,40}" } }
[[commands]]
name = "show"
executable = "/usr/bin/cat"
argv = ["--", "{file}"]
slots = { file = { type = "path", beneath = "{dir}" } }
[[commands]]
name = "free"
executable = "/usr/bin/echo"
argv = ["free"]
[[commands]]
name = "fail"
executable = "/usr/bin/cat"
argv = ["/nowhere"]
[command_policy]
allowed_environments = ["dev"]
[[command_policy.rules]]
decision = "allow"
commands = ["free"]
[[command_policy.rules]]
decision = "deny"
commands = ["fail"]
subjects = ["eve"]
[[command_policy.rules]]
decision = "ask"
commands = ["show"]
risk = "HIGH"
[approvals]
http = true
wait_secs = 0
max_pending_per_target = 20
"#;

struct Stage {
    door: Door,
    record: PathBuf,
    data: PathBuf,
    _executor: Executor,
}

/// What a command line says; `say` with one word can be said as one.
const LINE: &str = "say said: -- hello";

impl Stage {
    fn set() -> Self {
        let roles = format!("{ROLES}[rbac.roles.nothing]\npermissions = []\n");
        let mut scene = Scene::with(Setup::new().roles(&roles), COMMANDS);
        scene.write("a", "approved\n");
        let _executor = scene.start();
        let (record, data) = (scene.setup.path("run/state/record.jsonl"), scene.setup.path("data"));
        let door = Door::open(std::mem::replace(&mut scene.setup, Setup::new()), "");
        let stage = Self { door, record, data, _executor };
        eventually("the executor is known to be there", || {
            (stage.ann().ask("GET", "/health").status == 200).then_some(())
        });
        stage
    }

    fn ann(&self) -> Caller {
        Caller::token(&self.door, "ann", "agent")
    }

    fn lea(&self) -> Caller {
        Caller::token(&self.door, "lea", "lead")
    }

    fn intents(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == "intent").collect()
    }

    /// Asks for an approval, which waits then, and gives its id.
    fn asked(&self, who: &Caller, line: &str) -> String {
        let answer = ask(who, line);
        assert_eq!(answer.status, 202, "{answer:?} {}", answer.json());
        let said = answer.json();
        let id = said["approval_id"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("location"), Some(format!("/approvals/{id}").as_str()));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(said["status"], "pending", "{said}");
        id
    }

    fn approved(&self, who: &Caller, line: &str) -> String {
        let id = self.asked(who, line);
        let answer = post(&self.lea(), &format!("/approvals/{id}/approve"), &json!({"note": "fine"}));
        assert_eq!(answer.status, 200, "{answer:?} {}", answer.json());
        id
    }
}

fn post(who: &Caller, path: &str, body: &Value) -> Reply {
    who.json("POST", path, &body.to_string())
}

fn ask(who: &Caller, line: &str) -> Reply {
    let body =
        json!({"worker_id": "w-7", "task_name": "greet", "instruction": line, "deployment_env": "dev"});
    post(who, "/approvals/request", &body)
}

fn token(who: &Caller, id: &str, line: &str) -> Reply {
    post(who, "/gateway/token", &json!({"approval_id": id, "command": line, "environment": "dev"}))
}

fn execute(who: &Caller, token: &str, id: &str, line: &str) -> Reply {
    let body = json!({"approval_id": id, "command": line, "environment": "dev"});
    post(&who.clone().with("X-Capability-Token", token), "/gateway/execute", &body)
}

fn text(reply: &Reply, key: &str) -> String {
    reply.json()[key].as_str().unwrap_or_else(|| panic!("{key}: {}", reply.json())).to_owned()
}

#[test]
fn a_worker_asks_a_person_approves_and_the_command_runs_once() {
    let mut stage = Stage::set();
    let (ann, lea) = (stage.ann(), stage.lea());
    let id = stage.asked(&ann, LINE);
    assert_eq!(stage.asked(&ann, LINE), id, "the same while it waits is one request");
    // Nothing before the decision.
    assert_eq!(token(&ann, &id, LINE).status, 202, "it waits");
    let pending = lea.ask("GET", "/approvals/pending").json();
    assert_eq!((&pending["count"], &pending["approvals"][0]["id"]), (&json!(1), &json!(id)), "{pending}");
    assert_eq!(pending["approvals"][0]["risk"], "MEDIUM");
    let shown = lea.ask("GET", &format!("/approvals/{id}"));
    let words = text(&shown, "text");
    assert!(words.contains("resolved /argv/2 = \"hello\"") && words.contains("/usr/bin/echo"), "{words}");
    assert_eq!(shown.header("etag"), Some(format!("\"{}\"", text(&shown, "digest")).as_str()));
    // Who asked sees how it stands, and nothing else.
    let own = ann.ask("GET", &format!("/approvals/{id}"));
    assert_eq!((own.status, text(&own, "status").as_str()), (200, "pending"));
    assert!(own.json().get("text").is_none(), "{}", own.json());
    let approved = post(&lea, &format!("/approvals/{id}/approve"), &json!({"note": "fine"}));
    assert_eq!(approved.status, 200, "{approved:?} {}", approved.json());
    assert_eq!(text(&ann.ask("GET", &format!("/approvals/{id}")), "status"), "approved");
    let again = ask(&ann, LINE);
    assert_eq!(
        (again.status, text(&again, "status"), text(&again, "approval_id")),
        (200, "approved".into(), id.clone())
    );
    assert!(stage.intents().is_empty(), "asking again runs nothing");
    let given = token(&ann, &id, LINE);
    assert_eq!(given.status, 200, "{given:?} {}", given.json());
    let said = given.json();
    assert!(said["expires_in"].as_u64().unwrap() <= 120, "{said}");
    let capability = text(&given, "token");
    assert_eq!(token(&ann, &id, LINE).refusal(), (409, "token_issued".into()), "one token at a time");
    let ran = execute(&ann, &capability, &id, LINE);
    assert_eq!(ran.status, 200, "{ran:?} {}", ran.json());
    let ran = ran.json();
    assert_eq!(
        (&ran["success"], &ran["output"], &ran["exit_code"]),
        (&json!(true), &json!("said: -- hello\n"), &json!(0)),
        "{ran}"
    );
    assert!(ran["duration_ms"].is_u64() && ran["stdout_sha256"].is_string(), "{ran}");
    let intents = stage.intents();
    assert_eq!(intents.len(), 1);
    assert_eq!((&ran["execution_id"], &intents[0]["call"]), (&intents[0]["execution"], &json!(id)));
    assert_eq!(execute(&ann, &capability, &id, LINE).refusal(), (409, "consumed".into()));
    assert_eq!(token(&ann, &id, LINE).refusal(), (409, "consumed".into()));
    assert_eq!(text(&ann.ask("GET", &format!("/approvals/{id}")), "status"), "consumed");
    assert_eq!(stage.intents().len(), 1, "it ran twice");
    crate::rest::stage::stop(&mut stage.door);
    let rows = stage.door.gateway.audit();
    let row = |method: &str, status: &str| {
        let found = rows.iter().find(|row| row["method"] == method && row["status"] == status);
        found.unwrap_or_else(|| panic!("{method} {status}: {rows:?}")).clone()
    };
    assert!(row("tools/call", "awaiting_approval")["notes"].to_string().contains("w-7"));
    assert_eq!(row("control/approvals.approve", "success")["subject"], "lea");
    let handed = row("gateway/token", "success");
    assert_eq!((&handed["subject"], &handed["tool"]), (&json!("ann"), &json!("say")));
    let made = row("tools/call", "success");
    assert!(made["notes"].to_string().contains(&id) && made["notes"].to_string().contains("lea"), "{made}");
    assert!(!rows.iter().any(|row| row.to_string().contains(&capability)), "no token is on record");
    assert!(!stage.door.gateway.log().contains(&capability), "no token is in the log");
}

#[test]
fn a_command_about_which_nobody_has_to_be_asked_runs_with_a_token_once() {
    let stage = Stage::set();
    let ann = stage.ann();
    let free = ask(&ann, "free free");
    assert_eq!(
        (free.status, text(&free, "status"), text(&free, "risk")),
        (200, "not_required".into(), "LOW".into())
    );
    let body = json!({"command": "free free", "environment": "dev"});
    let capability = text(&post(&ann, "/gateway/token", &body), "token");
    let run = |token: &str| post(&ann.clone().with("X-Capability-Token", token), "/gateway/execute", &body);
    assert_eq!(text(&run(&capability), "output"), "free\n");
    assert_eq!(run(&capability).refusal(), (409, "consumed".into()), "a token is for one run");
    assert_eq!(post(&ann, "/gateway/execute", &body).refusal(), (403, "token_required".into()));
    assert_eq!(run("sgc1_AAAA").refusal(), (403, "token_refused".into()));
    assert_eq!(run("x").refusal(), (400, "invalid_arguments".into()));
    assert_eq!(stage.intents().len(), 1);
}

#[test]
fn a_token_is_for_one_caller_one_command_one_approval_and_unchanged_files() {
    let stage = Stage::set();
    let (ann, bob) = (stage.ann(), Caller::token(&stage.door, "bob", "agent"));
    let (one, other) = (stage.approved(&ann, LINE), stage.approved(&ann, "say said: -- other"));
    // An approval of somebody else does not exist.
    assert_eq!(token(&bob, &one, LINE).refusal(), (404, "unknown_approval".into()));
    assert_eq!(bob.ask("GET", &format!("/approvals/{one}")).status, 403, "he may not look either");
    // Part of a line is no line, and another line is another request.
    assert_eq!(token(&ann, &one, "say said: --").refusal(), (400, "argument_refused".into()));
    assert_eq!(token(&ann, &one, "say said: -- hello2").refusal(), (409, "changed".into()));
    let capability = text(&token(&ann, &one, LINE), "token");
    assert_eq!(
        execute(&ann, &capability, &other, "say said: -- other").refusal(),
        (403, "token_refused".into())
    );
    assert_eq!(execute(&ann, &capability, &other, LINE).refusal(), (403, "token_refused".into()));
    assert_eq!(execute(&bob, &capability, &one, LINE).refusal(), (403, "token_refused".into()));
    let body = json!({"command": LINE, "approval_id": one, "environment": "prd"});
    let elsewhere = post(&ann.clone().with("X-Capability-Token", &capability), "/gateway/execute", &body);
    assert_eq!(elsewhere.refusal(), (403, "wrong_environment".into()));
    // What a command reads is part of what was approved.
    let line = "show -- a";
    let id = stage.asked(&ann, &line.replace("-- a", &format!("-- {}", stage.data.join("a").display())));
    let line = line.replace("-- a", &format!("-- {}", stage.data.join("a").display()));
    let path = format!("/approvals/{id}/approve");
    assert_eq!(
        post(&stage.lea(), &path, &json!({})).refusal(),
        (428, "digest_required".into()),
        "a high risk"
    );
    let wrong = json!({"digest": format!("sha256:{}", "ab".repeat(32))});
    assert_eq!(post(&stage.lea(), &path, &wrong).refusal(), (409, "changed".into()));
    let tag = stage.lea().ask("GET", &format!("/approvals/{id}")).header("etag").unwrap().to_owned();
    assert_eq!(post(&stage.lea().with("If-Match", &tag), &path, &json!({})).status, 200);
    let capability = text(&token(&ann, &id, &line), "token");
    std::fs::write(stage.data.join("a"), "evil\n").unwrap();
    assert_eq!(execute(&ann, &capability, &id, &line).refusal(), (409, "changed".into()));
    assert!(stage.intents().is_empty(), "something ran");
    std::fs::write(stage.data.join("a"), "approved\n").unwrap();
    assert_eq!(
        text(&execute(&ann, &capability, &id, &line), "output"),
        "approved\n",
        "nothing was lost by that"
    );
}

#[test]
fn to_request_to_read_to_decide_and_to_operate_are_separate_credentials() {
    let stage = Stage::set();
    let who = |subject: &str, role: &str| Caller::token(&stage.door, subject, role);
    let id = stage.asked(&stage.ann(), LINE);
    let at = |end: &str| format!("/approvals/{id}{end}");
    let denied = (403, "permission_denied".to_owned());
    let nobody = Caller::of(&stage.door);
    for (method, path) in [("GET", at("")), ("GET", "/approvals/pending".into()), ("POST", at("/approve"))] {
        assert_eq!(nobody.ask(method, &path).refusal(), (401, "unauthenticated".into()), "{method} {path}");
    }
    for path in ["/approvals/request", "/gateway/token", "/gateway/execute"] {
        assert_eq!(post(&nobody, path, &json!({})).refusal(), (401, "unauthenticated".into()), "{path}");
    }
    // Who may see may not decide, who may ask may not see, who may decide may not ask.
    assert_eq!(who("vic", "viewer").ask("GET", &at("")).status, 200);
    assert_eq!(post(&who("vic", "viewer"), &at("/approve"), &json!({})).refusal(), denied);
    assert_eq!(post(&who("vic", "viewer"), &at("/reject"), &json!({})).refusal(), denied);
    assert_eq!(stage.ann().ask("GET", "/approvals/pending").refusal(), denied);
    assert_eq!(who("bob", "agent").ask("GET", &at("")).refusal(), denied);
    assert_eq!(post(&stage.ann(), &at("/approve"), &json!({})).refusal(), denied);
    assert_eq!(ask(&stage.lea(), LINE).refusal(), denied);
    assert_eq!(post(&stage.lea(), &at("/cancel"), &json!({})).refusal(), denied);
    assert_eq!(who("x", "nothing").ask("GET", &at("")).refusal(), denied);
    // Nobody decides on their own, whatever role they come with, and a name in the body decides nothing.
    let own = post(&who("ann", "both"), &at("/approve"), &json!({}));
    assert_eq!(own.refusal().0, 403, "{}", own.json());
    let named = post(&stage.lea(), &at("/approve"), &json!({"note": "x", "approver": "boss"}));
    assert_eq!(named.refusal(), (400, "invalid_arguments".into()));
    let rejected = post(&stage.lea(), &at("/reject"), &json!({"note": "not today"}));
    assert_eq!(rejected.status, 200, "{}", rejected.json());
    assert_eq!(post(&stage.lea(), &at("/approve"), &json!({})).refusal(), (409, "already_decided".into()));
    let status = stage.ann().ask("GET", &at("")).json();
    assert_eq!(status["status"], "rejected", "{status}");
    assert!(status["detail"].as_str().unwrap().contains("not today"), "{status}");
    assert_eq!(token(&stage.ann(), &id, LINE).refusal(), (409, "rejected".into()));
    assert_eq!(ask(&stage.ann(), LINE).refusal(), (409, "rejected".into()), "a rejection holds");
    assert!(stage.intents().is_empty());
}

#[test]
fn two_people_who_decide_at_once_are_one_decision_and_racers_with_one_token_one_run() {
    let stage = Stage::set();
    let ann = stage.ann();
    for round in 0..5 {
        let line = format!("say said: -- race{round}");
        let id = stage.asked(&ann, &line);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..10)
                .map(|racer| {
                    let who = Caller::token(&stage.door, &format!("lead-{racer}"), "lead");
                    let deed = if racer % 2 == 0 { "approve" } else { "reject" };
                    let path = format!("/approvals/{id}/{deed}");
                    scope.spawn(move || post(&who, &path, &json!({})).status)
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    }
    let line = "say said: -- once";
    let id = stage.approved(&ann, line);
    let tokens: Vec<Reply> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..10).map(|_| scope.spawn(|| token(&ann, &id, line))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let given: Vec<&Reply> = tokens.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(given.len(), 1, "{tokens:?}");
    let capability = text(given[0], "token");
    let runs: usize = std::thread::scope(|scope| {
        let racers: Vec<_> =
            (0..10).map(|_| scope.spawn(|| execute(&ann, &capability, &id, line).status)).collect();
        racers.into_iter().filter(|_| true).map(|racer| usize::from(racer.join().unwrap() == 200)).sum()
    });
    assert_eq!((runs, stage.intents().len()), (1, 1));
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let stage = Stage::set();
    let ann = stage.ann();
    let full = json!({"instruction": LINE, "deployment_env": "dev"});
    for (body, reason) in [
        ("", "missing_body"),
        ("{", "invalid_arguments"),
        ("[]", "invalid_arguments"),
        ("{\"instruction\":\"x\"}", "invalid_arguments"),
        ("{\"instruction\":\"x\",\"instruction\":\"y\",\"deployment_env\":\"dev\"}", "invalid_arguments"),
        ("{\"instruction\":\"say said: -- a; id\",\"deployment_env\":\"dev\"}", "argument_refused"),
        ("{\"instruction\":\"sayx said: -- a\",\"deployment_env\":\"dev\"}", "argument_refused"),
        ("{\"instruction\":\"say  said: -- a\",\"deployment_env\":\"dev\"}", "argument_refused"),
        ("{\"instruction\":\"gone\",\"deployment_env\":\"dev\",\"arguments\":{}}", "argument_refused"),
    ] {
        let refused = ann.json("POST", "/approvals/request", body);
        assert_eq!(refused.refusal(), (400, reason.into()), "{body}");
    }
    let typed = json!({"instruction": "say", "deployment_env": "dev", "arguments": {"words": "UP"}});
    let refused = post(&ann, "/approvals/request", &typed);
    assert_eq!(
        (refused.refusal(), text(&refused, "slot")),
        ((400, "argument_refused".into()), "words".into())
    );
    let prod = json!({"instruction": LINE, "deployment_env": "prd"});
    assert_eq!(post(&ann, "/approvals/request", &prod).refusal(), (403, "wrong_environment".into()));
    assert_eq!(ann.send("POST", "/approvals/request", "text/plain", b"x").refusal().0, 415);
    assert_eq!(ann.ask("GET", "/approvals/request").refusal().0, 405);
    assert_eq!(ann.ask("GET", "/approvals/nothing").refusal(), (404, "not_found".into()));
    let unknown = "/approvals/appr_0123456789abcdef0123456789abcdef";
    assert_eq!(stage.lea().ask("GET", unknown).refusal(), (404, "unknown_approval".into()));
    assert_eq!(stage.lea().ask("GET", "/approvals/pending?limit=x").refusal().0, 400);
    let eve = Caller::token(&stage.door, "eve", "agent");
    assert_eq!(ask(&eve, "fail /nowhere").refusal(), (403, "command_denied".into()));
    // With the slots by their names instead of a line.
    let typed = json!({"instruction": "say", "deployment_env": "dev", "arguments": {"words": "two words"}});
    assert_eq!(post(&ann, "/approvals/request", &typed).status, 202);
    assert_eq!(post(&ann, "/approvals/request", &full).status, 202);
    // A command that fails is an answer.
    let id = stage.approved(&ann, "fail /nowhere");
    let capability = text(&token(&ann, &id, "fail /nowhere"), "token");
    let failed = execute(&ann, &capability, &id, "fail /nowhere").json();
    assert_eq!((&failed["success"], &failed["exit_code"]), (&json!(false), &json!(1)), "{failed}");
    assert!(failed["output"].as_str().unwrap().contains("nowhere"), "{failed}");
}

/// What an agent asked over MCP can be continued over HTTP, and the other way round: it is the same call.
#[test]
fn a_request_over_mcp_and_one_over_http_are_the_same() {
    let stage = Stage::set();
    let ann = stage.ann();
    let id = stage.approved(&ann, LINE);
    let session = stage.door.anyone().bearer(&crate::support::mint("ann", "agent", 3600));
    let session = session.hello(crate::http_door::client::NEWEST);
    let answer = session.call("say", json!({"words": "hello"}));
    assert_eq!(answer["result"]["structuredContent"]["stdout"], "said: -- hello\n", "{answer}");
    assert_eq!(text(&ann.ask("GET", &format!("/approvals/{id}")), "status"), "consumed");
    assert_eq!(stage.intents().len(), 1);
}

#[test]
fn each_command_has_an_address_of_its_own_and_the_same_request_continues_what_waits() {
    let stage = Stage::set();
    let ann = stage.ann();
    let say = |words: &str| post(&ann, "/commands/say", &json!({ "words": words }));
    let free = post(&ann, "/commands/free", &json!({}));
    assert_eq!((free.status, text(&free, "output")), (200, "free\n".into()), "{}", free.json());
    assert_eq!(ann.ask("POST", "/commands/free").status, 200, "without a body");
    let waits = say("hello");
    assert_eq!(waits.refusal(), (202, "pending_approval".into()));
    let id = text(&waits, "approval_id");
    assert_eq!(waits.header("location"), Some(format!("/approvals/{id}").as_str()));
    assert!(waits.header("retry-after").is_some());
    assert_eq!(text(&say("hello"), "approval_id"), id);
    assert_eq!(post(&stage.lea(), &format!("/approvals/{id}/approve"), &json!({})).status, 200);
    assert_eq!(text(&say("hello"), "output"), "said: -- hello\n");
    assert_ne!(text(&say("hello"), "approval_id"), id, "once");
    let refused = say("UP");
    assert_eq!(
        (refused.refusal(), text(&refused, "slot")),
        ((400, "argument_refused".into()), "words".into())
    );
    assert_eq!(post(&ann, "/commands/gone", &json!({})).refusal(), (404, "not_found".into()));
    assert_eq!(ann.ask("GET", "/commands/free").refusal().0, 405);
    assert_eq!(post(&stage.lea(), "/commands/free", &json!({})).refusal(), (403, "permission_denied".into()));
    assert_eq!(post(&Caller::of(&stage.door), "/commands/free", &json!({})).refusal().0, 401);
    assert_eq!(stage.intents().len(), 3);
}

#[test]
fn nothing_of_it_is_there_unless_it_is_wanted() {
    let scene = Scene::with(Setup::new().roles(ROLES), &COMMANDS.replace("http = true", "http = false"));
    let Scene { setup, .. } = scene;
    let door = Door::open(setup, "");
    let ann = Caller::token(&door, "ann", "agent");
    for path in ["/approvals/pending", "/health"] {
        assert_eq!(ann.ask("GET", path).status, 404, "{path}");
    }
    assert_eq!(post(&ann, "/gateway/execute", &json!({})).status, 404);
    let setup = Setup::new().more("[approvals]\nhttp = true\n");
    let (code, said) = setup.refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("approvals.http: approvals cannot be decided over HTTP"), "{said}");
}

#[test]
fn health_ready_and_status_say_whether_the_executor_is_there() {
    let port = free_address();
    let setup = Setup::new().roles(ROLES).gateway(&format!("health_listen = {port:?}"));
    let mut scene = Scene::with(setup.env("HEALTH_TOKEN", "let-me-see"), COMMANDS);
    let executor = scene.start();
    let door = Door::open(std::mem::replace(&mut scene.setup, Setup::new()), "");
    let anyone = Caller::of(&door);
    let health = || anyone.ask("GET", "/health");
    eventually("the executor", || (health().status == 200).then_some(()));
    assert_eq!(health().json()["executors"], json!([{"name": "exec", "status": "ok"}]));
    let status = |wanted: &str| {
        eventually(wanted, || {
            let out = door.gateway.setup.run(&["status", "--json"]).stdout;
            let said: Value = serde_json::from_slice(&out).ok()?;
            let backends = said["answer"]["ok"]["status"]["endpoints"][0]["backends"].as_array()?.clone();
            let executor = backends.iter().find(|backend| backend["name"] == "exec")?;
            (executor["state"] == wanted).then(|| executor.clone())
        })
    };
    assert_eq!(status("ready")["starts"], 1);
    let ready = || get(&port, "/ready", Some("let-me-see")).unwrap();
    assert_eq!(
        (ready().status, &ready().json()["backends"][0]["up"]),
        (200, &json!(true)),
        "{}",
        ready().body
    );
    drop(executor);
    eventually("it is gone", || (health().status == 503).then_some(()));
    assert_eq!(health().json()["executors"][0]["status"], "away");
    assert_eq!(ready().status, 503, "{}", ready().body);
    assert!(ready().body.contains("backend exec"), "{}", ready().body);
    let down = status("down");
    assert!(down["why"].as_str().unwrap().contains("nobody listens"), "{down}");
    door.gateway.await_log("the executor is away", 1);
    let scene = Scene { setup: door.gateway.into_setup(), key: scene.key };
    let _executor = scene.start();
    let door = Door::restart(scene.setup);
    let anyone = Caller::of(&door);
    eventually("it is back", || (anyone.ask("GET", "/health").status == 200).then_some(()));
}
