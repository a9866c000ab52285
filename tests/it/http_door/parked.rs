//! Questions of a server that shook hands, put to a client that did not: the call waits at the gateway, its client
//! comes back with the answer, and nobody else can.

use std::fs;

use serde_json::{Value, json};

use super::client::{Answer, Client, Door, tool};
use crate::support::{Setup, code, eventually, fixture, mint, reason, said};

/// A backend of the handshake era that keeps every line it is sent.
struct Scene {
    door: Door,
}

impl Scene {
    fn set() -> Self {
        let program = fixture().with_file_name("conformance-backend");
        assert!(program.exists(), "{} is missing: build the workspace", program.display());
        let setup = Setup::new();
        let script =
            format!("tee -a '{}' | '{}' --stdio --era legacy", setup.text("lines"), program.display());
        let backend = format!(
            "[[backends]]\nname = \"conf\"\ntype = \"stdio\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]"
        );
        let door = Door::open(setup.more(&backend), "");
        door.gateway.await_log("backend is ready backend=conf ", 1);
        Self { door }
    }

    /// How many lines with this in them the backend was sent, on all its connections.
    fn heard(&self, text: &str) -> usize {
        let lines = fs::read_to_string(self.door.gateway.setup.path("lines")).unwrap();
        lines.lines().filter(|line| line.contains(text)).count()
    }

    /// How often a tool ran.
    fn ran(&self, name: &str) -> usize {
        self.heard(&format!("\"name\":\"{name}\""))
    }
}

/// The params of the call that asks for a name and an address.
fn asking(message: &str) -> Value {
    tool("test_elicitation", json!({"message": message}))
}

/// What the user typed, for the question with this key.
fn typed(key: &str) -> Value {
    json!({key: {"action": "accept", "content": {"username": "ada", "email": "ada@example.org"}}})
}

/// Sends a call of a client that can be asked, with what it brings back.
fn send(client: &Client, params: &Value, brought: &[(&str, &Value)]) -> Answer {
    let (client, mut body) = client.declaring(
        &json!({"elicitation": {"form": {}}, "sampling": {}, "roots": {}}),
        "tools/call",
        params,
    );
    for (name, value) in brought {
        body["params"][name] = (*value).clone();
    }
    client.post(&body)
}

/// A question: its key, what it asks, and the state to bring back with the answer.
fn question(answer: &Answer) -> (String, Value, Value) {
    let result = &answer.value()["result"];
    assert_eq!(result["resultType"], "input_required", "{answer:?}");
    let requests = result["inputRequests"].as_object().unwrap();
    assert_eq!(requests.len(), 1, "{result}");
    let (key, request) = requests.iter().next().unwrap();
    assert!(result["requestState"].is_string(), "{result}");
    (key.clone(), request.clone(), result["requestState"].clone())
}

/// Comes back with an answer and a state.
fn bring(client: &Client, params: &Value, responses: &Value, state: &Value) -> Answer {
    send(client, params, &[("inputResponses", responses), ("requestState", state)])
}

#[test]
fn a_question_goes_out_as_a_result_and_its_answer_comes_back_into_the_same_call() {
    let scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = asking("Who are you?");
    let (key, request, state) = question(&send(&ann, &params, &[]));
    assert_eq!(request["method"], "elicitation/create");
    assert_eq!(request["params"]["message"], "Who are you?");
    assert!(request["params"]["requestedSchema"]["properties"]["email"].is_object(), "{request}");
    let answer = bring(&ann, &params, &typed(&key), &state);
    let result = answer.value();
    assert!(said(&result).contains("action=accept") && said(&result).contains("ada@example.org"), "{result}");
    assert_eq!(result["result"]["resultType"], "complete");
    assert_eq!(scene.ran("test_elicitation"), 1, "the call was not repeated");
}

#[test]
fn a_refusal_of_the_user_comes_back_too() {
    let scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = asking("Who are you?");
    for action in ["decline", "cancel"] {
        let (key, _, state) = question(&send(&ann, &params, &[]));
        let answer = bring(&ann, &params, &json!({key: {"action": action}}), &state).value();
        assert!(said(&answer).contains(&format!("action={action}")), "{answer}");
    }
}

#[test]
fn an_answer_that_is_missing_is_asked_for_again() {
    let scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = asking("Who are you?");
    let (key, request, first) = question(&send(&ann, &params, &[]));
    let (again, same, second) = question(&bring(&ann, &params, &json!({}), &first));
    assert_eq!((&key, &request), (&again, &same));
    assert_ne!(first, second);
    let late = bring(&ann, &params, &typed(&key), &first);
    assert_eq!(code(&late.value()), -32602, "the first state was used: {late:?}");
    let answer = bring(&ann, &params, &typed(&key), &second).value();
    assert!(said(&answer).contains("ada@example.org"), "{answer}");
    assert_eq!(scene.ran("test_elicitation"), 1);
}

#[test]
fn one_call_may_ask_one_thing_after_the_other() {
    let scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = tool("test_input_required_result_multi_round", json!({}));
    let fill =
        |key: &str, field: &str, value: &str| json!({key: {"action": "accept", "content": {field: value}}});
    let (key, request, state) = question(&send(&ann, &params, &[]));
    assert!(request["params"]["message"].as_str().unwrap().contains("name"), "{request}");
    let (key, request, state) = question(&bring(&ann, &params, &fill(&key, "name", "Ada"), &state));
    assert!(request["params"]["message"].as_str().unwrap().contains("color"), "{request}");
    let answer = bring(&ann, &params, &fill(&key, "color", "green"), &state).value();
    assert_eq!(said(&answer), "Ada's favorite color is green");
    assert_eq!(scene.ran("test_input_required_result_multi_round"), 1);
}

#[test]
fn what_is_asked_together_is_answered_together() {
    let scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = tool("test_input_required_result_multiple_inputs", json!({}));
    let mut answer = send(&ann, &params, &[]);
    // They may come apart on a busy machine; then the client is asked for the rest.
    for _ in 0..3 {
        let result = answer.value()["result"].clone();
        if result["resultType"] != "input_required" {
            break;
        }
        let mut responses = json!({});
        for (key, request) in result["inputRequests"].as_object().unwrap() {
            responses[key] = match request["method"].as_str().unwrap() {
                "elicitation/create" => json!({"action": "accept", "content": {"name": "Ada"}}),
                "sampling/createMessage" => json!({
                    "role": "assistant", "model": "m", "content": {"type": "text", "text": "Good day"},
                }),
                "roots/list" => json!({"roots": [{"uri": "file:///work"}]}),
                other => panic!("{other}"),
            };
        }
        answer = bring(&ann, &params, &responses, &result["requestState"]);
    }
    assert_eq!(said(&answer.value()), "Good day Ada, who works in file:///work");
    assert_eq!(scene.ran("test_input_required_result_multiple_inputs"), 1);
}

/// 2026-07-28, "Multi Round-Trip Requests": the state is in the hands of the client, so every change must be noticed.
#[test]
fn a_state_that_was_changed_is_refused() {
    let scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = asking("Who are you?");
    let (key, _, state) = question(&send(&ann, &params, &[]));
    let whole = state.as_str().unwrap();
    let mut forgeries: Vec<String> = (0..whole.len())
        .step_by(7)
        .chain([whole.len() - 2])
        .map(|at| {
            let mut bytes = whole.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        })
        .collect();
    let (half, prefix) = (&whole[..whole.len() / 2], &whole[..5]);
    forgeries.extend([half, prefix, ""].map(str::to_owned));
    forgeries.push(format!("{whole}A"));
    forgeries.push(format!("{whole}{whole}"));
    let taken: Vec<&String> = forgeries
        .iter()
        .filter(|forgery| {
            bring(&ann, &params, &typed(&key), &json!(forgery)).value()["error"]["code"] != -32602
        })
        .collect();
    let answer = bring(&ann, &params, &typed(&key), &state).value();
    assert!(said(&answer).contains("ada@example.org"), "the true one still counts: {answer}");
    assert_eq!(taken, [""; 0], "for {whole:?}");
    assert_eq!(scene.ran("test_elicitation"), 1, "none of them began a call");
}

#[test]
fn a_state_counts_once() {
    let scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = asking("Who are you?");
    let (key, _, state) = question(&send(&ann, &params, &[]));
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let racers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| bring(&ann, &params, &typed(&key), &state).value())).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let (done, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.get("error").is_none());
    assert_eq!(done.len(), 1, "{answers:?}");
    assert!(said(done[0]).contains("ada@example.org"), "{done:?}");
    assert!(refused.iter().all(|answer| code(answer) == -32602), "{refused:?}");
    let replayed = bring(&ann, &params, &typed(&key), &state).value();
    assert_eq!(code(&replayed), -32602, "{replayed}");
    assert_eq!(scene.ran("test_elicitation"), 1);
}

#[test]
fn a_state_is_for_whom_and_for_what_it_was_made() {
    let scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = asking("Who are you?");
    let (key, _, state) = question(&send(&ann, &params, &[]));
    let cases = [
        ("another person", scene.door.client("bob"), params.clone()),
        ("other arguments", ann.clone(), asking("Who else?")),
        (
            "another tool",
            ann.clone(),
            tool("test_elicitation_sep1034_defaults", json!({"message": "Who are you?"})),
        ),
    ];
    for (what, client, params) in cases {
        let refused = bring(&client, &params, &typed(&key), &state).value();
        assert_eq!(code(&refused), -32602, "{what}: {refused}");
    }
    let nobody = bring(&scene.door.anyone(), &params, &typed(&key), &state);
    assert_eq!(nobody.status, 401);
    assert_eq!(scene.heard("\"method\":\"tools/call\""), 1, "nothing else was begun");
    // A renewed token is the same person.
    let renewed = scene.door.anyone().bearer(&mint("ann", "admin", 1800));
    let answer = bring(&renewed, &params, &typed(&key), &state).value();
    assert!(said(&answer).contains("ada@example.org"), "{answer}");
}

#[test]
fn two_that_wait_are_not_mistaken_for_each_other() {
    let scene = Scene::set();
    let (ann, bob) = (scene.door.client("ann"), scene.door.client("bob"));
    let params = asking("Who are you?");
    let (first, second) = (question(&send(&ann, &params, &[])), question(&send(&bob, &params, &[])));
    let third = question(&send(&ann, &params, &[]));
    let name = |key: &str, name: &str| json!({key: {"action": "accept", "content": {"username": name, "email": "e"}}});
    for (client, (key, _, state), who) in
        [(&ann, third, "third"), (&bob, second, "second"), (&ann, first, "first")]
    {
        let answer = bring(client, &params, &name(&key, who), &state).value();
        assert!(said(&answer).contains(&format!("\"{who}\"")), "{who}: {answer}");
    }
    assert_eq!(scene.ran("test_elicitation"), 3);
}

#[test]
fn the_kill_switch_reaches_a_call_that_waits() {
    let mut scene = Scene::set();
    let ann = scene.door.client("ann");
    let params = asking("Who are you?");
    let (key, _, state) = question(&send(&ann, &params, &[]));
    scene.door.gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"test_elicitation\"]"));
    eventually("the cancellation", || (scene.heard("notifications/cancelled") == 1).then_some(()));
    let refused = bring(&ann, &params, &typed(&key), &state).value();
    assert!(code(&refused) == -32602 || reason(&refused) == "killed", "{refused}");
    assert_eq!(scene.heard("ada@example.org"), 0, "the answer went nowhere");
}
