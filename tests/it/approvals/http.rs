//! What agents over HTTP see, in both eras, and people who decide meanwhile.

use serde_json::json;

use super::{LEA, approve, asking, list, pending, ran, setup, text, to, waits};
use crate::http_door::client::{Door, NEWEST, request, tool};
use crate::rest::stage::{Caller, Upstream};
use crate::support::{eventually, mint, reason};

fn agent(door: &Door, name: &str) -> crate::http_door::client::Client {
    door.anyone().bearer(&mint(name, "agent", 3600))
}

#[test]
fn a_call_over_http_waits_and_runs_when_it_is_approved() {
    let door = Door::open(setup(), "keep_alive_secs = 1");
    let session = agent(&door, "ann").hello(NEWEST);
    let mut params = tool("deploy", to("prod"));
    params["_meta"] = json!({"progressToken": 7});
    let mut stream = session.follow(&request("tools/call", &params));
    let ask = pending(&door.gateway.setup);
    approve(&door.gateway.setup, LEA, &ask);
    let mut messages = Vec::new();
    while let Some(message) = stream.next() {
        messages.push(message);
    }
    let told = messages.first().unwrap();
    assert_eq!(told["method"], "notifications/progress", "{messages:?}");
    assert!(told["params"]["message"].as_str().unwrap().contains(&ask.0), "{told}");
    assert_eq!(text(messages.last().unwrap()), "deployed");
    assert_eq!(ran(&door.gateway.setup), ["deploy {\"to\": \"prod\"}"]);
}

#[test]
fn two_agents_with_the_same_wish_are_two_requests_and_one_cannot_use_the_others() {
    let door = Door::open(setup().more("[approvals]\nwait_secs = 0"), "");
    let (ann, eve) = (agent(&door, "ann").hello(NEWEST), agent(&door, "eve").hello(NEWEST));
    let first = ann.call("deploy", to("prod"));
    let request = pending(&door.gateway.setup);
    approve(&door.gateway.setup, LEA, &request);
    let other = eve.call("deploy", to("prod"));
    assert_ne!(waits(&other)["approval_id"], waits(&first)["approval_id"]);
    let mut named = tool("deploy", to("prod"));
    named["_meta"] = json!({"sentinel-gateway/approval": request.0});
    let stolen = eve.request("tools/call", &named).value();
    assert_eq!(reason(&stolen), "unknown_approval", "{stolen}");
    assert!(ran(&door.gateway.setup).is_empty());
    assert_eq!(text(&ann.call("deploy", to("prod"))), "deployed");
}

#[test]
fn a_stateless_client_is_told_in_the_form_of_its_era_and_continues() {
    let door = Door::open(setup().more("[approvals]\nwait_secs = 0"), "");
    let ann = agent(&door, "ann");
    let first = ann.ask("tools/call", &tool("deploy", to("prod"))).value();
    assert_eq!(first["result"]["resultType"], "complete", "{first}");
    let id = waits(&first)["approval_id"].clone();
    let again = ann.ask("tools/call", &tool("deploy", to("prod"))).value();
    assert_eq!(waits(&again)["approval_id"], id);
    let request = pending(&door.gateway.setup);
    approve(&door.gateway.setup, LEA, &request);
    let done = ann.ask("tools/call", &tool("deploy", to("prod"))).value();
    assert_eq!(text(&done), "deployed", "{done}");
}

/// A hundred identical calls at once that all wait: one approval, one of them runs.
#[test]
fn a_hundred_identical_calls_use_one_approval_once() {
    let door = Door::open(setup().more("[approvals]\nwait_secs = 50"), "");
    let session = agent(&door, "ann").hello(NEWEST);
    let calls: Vec<_> =
        (0..100).map(|_| session.begin_post(&request("tools/call", &tool("deploy", to("prod"))))).collect();
    let request = pending(&door.gateway.setup);
    approve(&door.gateway.setup, LEA, &request);
    eventually("the one that runs", || (ran(&door.gateway.setup).len() == 1).then_some(()));
    eventually("the end of the others", || calls.iter().all(|call| call.is_finished()).then_some(()));
    assert_eq!(ran(&door.gateway.setup).len(), 1);
    let consumed = list(&door.gateway.setup, LEA);
    assert_eq!(consumed.iter().filter(|approval| approval["state"] == "consumed").count(), 1, "{consumed:?}");
}

#[test]
fn prompts_and_resources_that_wait_are_errors_with_the_same_facts() {
    let wasm = crate::guests::guest("approval");
    let entry = format!(
        "[[plugins]]\nname = \"careful\"\nstage = \"guard\"\nwasm = {:?}\nlimits = {{ deadline_ms = 10000 }}\nconfig = {{ ask_for = [\"greet\"] }}\n",
        wasm.to_str().unwrap()
    );
    let code = "def initialize(id, params):\n    result(id, {\"protocolVersion\": \"2025-06-18\", \"capabilities\": {\"tools\": {}, \"prompts\": {}}, \"serverInfo\": {\"name\": \"s\", \"version\": \"1\"}})\n\
        def other(message):\n    if message.get(\"method\") == \"prompts/list\":\n        result(message[\"id\"], {\"prompts\": [{\"name\": \"greet\"}]})\n    elif message.get(\"method\") == \"prompts/get\":\n        note(\"ran\", \"greet\")\n        result(message[\"id\"], {\"messages\": []})\n    elif message.get(\"id\") is not None and \"method\" in message:\n        error(message[\"id\"], -32601, \"Method not found\")\n";
    let roles = "[rbac.roles.poet]\npermissions = [\"prompts.read\"]\n";
    let setup = asking(roles).scripted("poems", code, "").more(&entry).more("[approvals]\nwait_secs = 0");
    let door = Door::open(setup, "");
    let poet = door.anyone().bearer(&mint("ann", "poet", 3600)).hello(NEWEST);
    let answer = eventually("the prompt", || {
        let answer = poet.request("prompts/get", &json!({"name": "greet"})).value();
        (reason(&answer) == "pending_approval").then_some(answer)
    });
    assert_eq!(answer["error"]["data"]["status"], "pending_approval", "{answer}");
    let request = pending(&door.gateway.setup);
    approve(&door.gateway.setup, LEA, &request);
    let done = poet.request("prompts/get", &json!({"name": "greet"})).value();
    assert!(done["result"]["messages"].is_array(), "{done}");
    assert_eq!(ran(&door.gateway.setup), ["greet"]);
}

/// A request of the HTTP API that waits for a person is 202, and the same request continues it; with an Idempotency-Key that
/// was used its answer is given again, and nobody is asked.
#[test]
fn a_request_of_a_route_waits_runs_once_and_is_not_asked_about_again() {
    let upstream = Upstream::start();
    let rules =
        "[rbac.roles.caller]\npermissions = [\"routes.call\"]\n[[rbac.approvals]]\ntools = [\"order\"]\n";
    let setup = asking(rules).more("[approvals]\nwait_secs = 0");
    let routes = format!(
        "[[upstreams]]\nname = \"shop\"\nurl = {:?}\n[[routes]]\nid = \"order\"\nmethod = \"POST\"\npath = \"/orders\"\n\
         idempotency = \"optional\"\ntarget = {{ upstream = \"shop\" }}\n",
        upstream.url
    );
    let door = Door::open(setup, &routes);
    let ann = Caller::token(&door, "ann", "caller").with("Idempotency-Key", "o-1");
    let order = || ann.json("POST", "/orders", "{\"n\":1}");
    let waits = order();
    assert_eq!(waits.status, 202, "{waits:?}");
    let ask = pending(&door.gateway.setup);
    assert_eq!(
        (waits.json()["approval_id"].clone(), waits.json()["reason"].clone()),
        (json!(ask.0), json!("pending_approval"))
    );
    assert!(waits.header("retry-after").is_some());
    assert_eq!(upstream.asked(), 0);
    approve(&door.gateway.setup, LEA, &ask);
    let done = order();
    assert_eq!((done.status, upstream.asked()), (200, 1), "{done:?}");
    assert_eq!(done.json()["body"], "{\"n\":1}");
    let again = order();
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{again:?}");
    assert_eq!(upstream.asked(), 1);
    let other = Caller::token(&door, "ann", "caller").json("POST", "/orders", "{\"n\":2}");
    assert_eq!((other.status, upstream.asked()), (202, 1), "{other:?}");
}
