//! Who hears that a list has changed, and how often servers are asked for theirs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lists::{list_at_once, of_method, server, slow, until_listed};
use crate::http_door::client::{Door, NEWEST, STATELESS, names};
use crate::support::{Gateway, Setup, eventually, mint, said};

pub(super) const CHANGED: &str = "notifications/tools/list_changed";

#[test]
fn changed_before_it_was_read() {
    let mut setup = Setup::new();
    for number in 1..=8_u8 {
        let name = format!("s{number}");
        setup = setup.scripted(&name, &slow(&name, 0.15 * f32::from(number), &[&format!("t{number}")]), "");
    }
    let mut gateway = Gateway::spawn(setup);
    let listed = list_at_once(&mut gateway);
    let (before, tools) = until_listed(&mut gateway, listed);
    assert_eq!(tools, ["t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8"]);
    assert!(of_method(&before, CHANGED).is_empty(), "{before:?}");
    for number in 1..=8 {
        gateway.await_log(&format!("backend is ready backend=s{number} "), 1);
    }
    gateway.hang_up();
    let after: Vec<Value> = gateway.rest().into_iter().map(|message| message.value).collect();
    // The answer to `initialize` may come after that to the list.
    assert!(
        of_method(&after, CHANGED).is_empty(),
        "nothing has changed for a client that has the whole list: {after:?}"
    );
}

/// Who is given the list before all servers are up hears once of each round that followed, and only after the list.
#[test]
fn servers_that_come_after_the_first_list_are_told_together() {
    let mut setup = Setup::new().gateway("first_list_wait_secs = 0.2").scripted(
        "early",
        &server("early", &["early"]),
        "",
    );
    for number in 1..=6_u8 {
        let name = format!("s{number}");
        setup = setup.scripted(&name, &slow(&name, 2.0, &[&format!("t{number}")]), "");
    }
    let mut gateway = Gateway::spawn(setup);
    let listed = list_at_once(&mut gateway);
    let (before, tools) = until_listed(&mut gateway, listed);
    assert!(of_method(&before, CHANGED).is_empty(), "{before:?}");
    assert!(!tools.contains(&"t6".to_owned()), "{tools:?}");
    let begun = Instant::now();
    let mut told = 0_u32;
    while gateway.tools().len() < 7 {
        gateway.heard(CHANGED);
        told += 1;
    }
    let most = 2 + 2 * u32::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(told < 7 && told <= most, "told {told} times in {:?}", begun.elapsed());
    gateway.hang_up();
    let rest: Vec<Value> = gateway.rest().into_iter().map(|message| message.value).collect();
    assert!(of_method(&rest, CHANGED).len() <= 1, "{rest:?}");
}

#[test]
fn a_list_nobody_asked_for_is_not_spoken_of() {
    let setup = Setup::new().backend("echo", &[], "");
    let mut gateway = Gateway::start(setup);
    // The prompts are asked for, the tools are not.
    gateway.request("prompts/list", &json!({}));
    gateway.call("change_tools", json!({}));
    gateway.reload(|setup| setup.set_kill_switch("disabled_tools = [\"whoami\"]"));
    gateway.await_log("configuration reloaded", 1);
    gateway.hang_up();
    let rest: Vec<Value> = gateway.rest().into_iter().map(|message| message.value).collect();
    assert!(rest.iter().all(|message| message.get("method").is_none()), "{rest:?}");
}

#[test]
fn list_changed_without_end() {
    let endless = "import threading\n\
        def hear(message, heard=hear):\n    heard(message)\n    if message.get(\"method\") == \"tools/list\":\n        note(\"asked\", \"x\")\n\
        \x20       changed = {\"jsonrpc\": \"2.0\", \"method\": \"notifications/tools/list_changed\"}\n\
        \x20       threading.Timer(0.02, send, [changed]).start()\n";
    let mut gateway = Gateway::start(Setup::new().scripted("srv", endless, ""));
    assert_eq!(gateway.tools(), ["echo"]);
    let asked = |gateway: &Gateway| {
        std::fs::read_to_string(gateway.setup.path("asked")).unwrap_or_default().lines().count()
    };
    let begun = Instant::now();
    eventually("six seconds", || (begun.elapsed() > Duration::from_secs(6)).then_some(()));
    assert!((2..20).contains(&asked(&gateway)), "{} times in 6 s", asked(&gateway));
    gateway.hang_up();
    assert!(gateway.rest().is_empty(), "nothing has changed, so nobody is told");
}

/// A server says so hundreds of times within one call; one of them is true.
#[test]
fn a_burst_of_changes_is_one_refresh_and_at_most_one_more() {
    let burst = "changed = {\"jsonrpc\": \"2.0\", \"method\": \"notifications/tools/list_changed\"}\n\
        def call(id, params):\n    for number in range(300):\n        send(changed)\n        if number == 150:\n\
        \x20           tools.append({\"name\": \"added\", \"inputSchema\": {\"type\": \"object\"}})\n    text(id, \"done\")\n\
        def hear(message, heard=hear):\n    heard(message)\n    if message.get(\"method\") == \"tools/list\":\n        note(\"asked\", \"x\")\n";
    let mut gateway = Gateway::start(Setup::new().scripted("srv", burst, ""));
    assert_eq!(gateway.tools(), ["echo"]);
    assert_eq!(said(&gateway.call("echo", json!({}))), "done");
    gateway.heard(CHANGED);
    assert_eq!(
        gateway.tools(),
        ["echo", "added"].map(String::from).iter().rev().cloned().collect::<Vec<_>>()
    );
    gateway.end();
    let asked = std::fs::read_to_string(gateway.setup.path("asked")).unwrap().lines().count();
    assert!(asked <= 3, "the server was asked {asked} times");
}

/// Some servers list in another order every time (the maps of Go). To a client that is one list.
#[test]
fn another_order_is_no_change() {
    let shuffled = "tools = [{\"name\": name, \"inputSchema\": {\"type\": \"object\"}} for name in (\"a\", \"b\", \"c\")]\n\
        def call(id, params):\n    tools.append(tools.pop(0))\n    send({\"jsonrpc\": \"2.0\", \"method\": \"notifications/tools/list_changed\"})\n    text(id, tools[0][\"name\"])\n\
        def hear(message, heard=hear):\n    heard(message)\n    if message.get(\"method\") == \"tools/list\":\n        note(\"asked\", \"x\")\n";
    let mut gateway = Gateway::start(Setup::new().scripted("srv", shuffled, ""));
    assert_eq!(gateway.tools(), ["a", "b", "c"]);
    for first in ["b", "c", "a"] {
        assert_eq!(said(&gateway.call("a", json!({}))), first);
    }
    eventually("two more lists", || {
        let asked = std::fs::read_to_string(gateway.setup.path("asked")).unwrap_or_default();
        (asked.lines().count() >= 3).then_some(())
    });
    assert_eq!(gateway.tools(), ["a", "b", "c"]);
    gateway.hang_up();
    assert!(gateway.rest().is_empty());
}

/// Every session hears of its own list only: what a role may not see does not change it.
#[test]
fn a_change_that_a_role_cannot_see_is_none_for_it() {
    let growing = "def call(id, params):\n    tools.append({\"name\": params[\"arguments\"][\"add\"], \"inputSchema\": {\"type\": \"object\"}})\n\
        \x20   send({\"jsonrpc\": \"2.0\", \"method\": \"notifications/tools/list_changed\"})\n    text(id, \"added\")\n";
    let roles = "[rbac.roles.admin]\npermissions = [\"*\"]\n[rbac.roles.user]\npermissions = [\"*\"]\ndenied_tools = [\"secret_*\"]";
    let door = Door::open(Setup::new().roles(roles).scripted("srv", growing, ""), "");
    let ann = door.client("ann").hello(NEWEST);
    let bob = door.anyone().bearer(&mint("bob", "user", 3600)).hello(NEWEST);
    let mut streams = [ann.listen(), bob.listen()];
    for session in [&ann, &bob] {
        assert_eq!(session.tools(), ["echo"]);
    }
    ann.call("echo", json!({"add": "secret_door"}));
    assert_eq!(streams[0].next().unwrap()["method"], CHANGED);
    assert_eq!(ann.tools(), ["echo", "secret_door"]);
    ann.call("echo", json!({"add": "window"}));
    // The second change is the first that bob hears of.
    assert_eq!(streams[1].next().unwrap()["method"], CHANGED);
    assert_eq!(bob.tools(), ["echo", "window"]);
    assert_eq!(streams[0].next().unwrap()["method"], CHANGED);
    ann.call("echo", json!({"add": "secret_drawer"}));
    assert_eq!(streams[0].next().unwrap()["method"], CHANGED);
    assert_eq!(bob.delete().status, 204);
    assert_eq!(streams[1].next(), None, "that was all that bob heard");
}

/// The stateless era has no session; a client that listens hears what has changed since it began to listen.
#[test]
fn whoever_listens_without_a_session_hears_of_what_changes_from_then_on() {
    let growing = "def call(id, params):\n    tools.append({\"name\": \"added\", \"inputSchema\": {\"type\": \"object\"}})\n\
        \x20   send({\"jsonrpc\": \"2.0\", \"method\": \"notifications/tools/list_changed\"})\n    text(id, \"added\")\n\
        while not os.path.exists(\"open\"):\n    time.sleep(0.02)\n";
    let door = Door::open(Setup::new().scripted("srv", growing, "").unawaited(), "");
    let ann = door.client("ann");
    let wish = json!({"notifications": {"toolsListChanged": true}});
    // Begun while the server starts: what the server brings is no change for a client that listened before.
    std::fs::write(door.gateway.setup.path("open"), "").unwrap();
    let (client, body) = ann.modern("subscriptions/listen", &wish);
    let mut stream = client.follow(&body);
    assert_eq!(stream.next().unwrap()["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(names(&ann.ask("tools/list", &json!({})).value()), ["echo"]);
    let called = ann.ask("tools/call", &json!({"name": "echo", "arguments": {}})).value();
    assert_eq!(called["result"]["content"][0]["text"], "added", "{STATELESS}: {called}");
    assert_eq!(stream.next().unwrap()["method"], CHANGED, "the first that is heard is the change");
    assert_eq!(names(&ann.ask("tools/list", &json!({})).value()), ["added", "echo"]);
}

/// Three changes in quick succession, each announced: nobody is left with the second.
#[test]
fn the_last_of_several_quick_changes_is_seen() {
    let growing = "def call(id, params):\n    for number in range(3):\n        tools.append({\"name\": \"added_%d\" % number, \"inputSchema\": {\"type\": \"object\"}})\n\
        \x20       send({\"jsonrpc\": \"2.0\", \"method\": \"notifications/tools/list_changed\"})\n        time.sleep(0.1)\n    text(id, \"done\")\n";
    let mut gateway = Gateway::start(Setup::new().scripted("srv", growing, ""));
    assert_eq!(gateway.tools(), ["echo"]);
    assert_eq!(said(&gateway.call("echo", json!({}))), "done");
    while gateway.tools().len() < 4 {
        gateway.heard(CHANGED);
    }
    assert_eq!(gateway.tools(), ["added_0", "added_1", "added_2", "echo"]);
}

/// A server that dies and comes back with the same list has changed nothing.
#[test]
fn a_restart_that_changes_nothing_is_not_told() {
    let dying = format!("{}def call(id, params):\n    os._exit(1)\n", server("srv", &["die"]));
    let mut gateway = Gateway::start(Setup::new().scripted("srv", &dying, ""));
    assert_eq!(gateway.tools(), ["die"]);
    gateway.call("die", json!({}));
    gateway.await_log("backend is ready backend=srv ", 2);
    assert_eq!(gateway.tools(), ["die"]);
    gateway.hang_up();
    let rest: Vec<Value> = gateway.rest().into_iter().map(|message| message.value).collect();
    assert!(of_method(&rest, CHANGED).is_empty(), "{rest:?}");
}

/// What changed while a client had no stream is told on the next one it opens, once.
#[test]
fn a_stream_that_is_opened_late_hears_what_changed_since_the_list() {
    let growing = "def call(id, params):\n    tools.append({\"name\": \"added\", \"inputSchema\": {\"type\": \"object\"}})\n\
        \x20   send({\"jsonrpc\": \"2.0\", \"method\": \"notifications/tools/list_changed\"})\n    text(id, \"added\")\n";
    let door = Door::open(Setup::new().scripted("srv", growing, ""), "");
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    assert_eq!(ann.tools(), ["echo"]);
    assert_eq!(bob.tools(), ["echo"]);
    let mut first = bob.listen();
    bob.call("echo", json!({}));
    assert_eq!(first.next().unwrap()["method"], CHANGED, "it has been told by now");
    let mut late = ann.listen();
    assert_eq!(late.next().unwrap()["method"], CHANGED);
    assert_eq!(ann.tools(), ["added", "echo"]);
    assert_eq!(ann.delete().status, 204);
    assert_eq!(late.next(), None);
}
