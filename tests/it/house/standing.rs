//! What stands without a request (streams, subscriptions, questions of servers) is judged anew when something is switched off
//! and when a role changes, and what may not stand any more ends at once.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control::done;
use crate::http_door::client::{Client, Door, NEWEST, Stream};
use crate::support::{Gateway, Setup, alive, code, eventually, mint, reason};

/// A server that notes what it hears about subscriptions, and once subscribed to says every 20 ms that its resource has
/// changed, also when nobody wants to hear it any more. The tool asks its client for roots if it is told to.
const SPEAKS: &str = "import threading\n\
    name, lock, spoken = os.environ[\"NAME\"], threading.Lock(), set()\n\
    tools = [{\"name\": name + \"_tool\", \"inputSchema\": {\"type\": \"object\"}}]\n\
    def send(message):\n    with lock:\n        print(json.dumps(message), flush=True)\n\
    def initialize(id, params):\n\
    \x20   abilities = {\"tools\": {}, \"resources\": {\"subscribe\": True}}\n\
    \x20   info = {\"name\": name, \"version\": \"1\"}\n\
    \x20   result(id, {\"protocolVersion\": \"2025-06-18\", \"capabilities\": abilities, \"serverInfo\": info})\n\
    def speak(uri):\n    while True:\n\
    \x20       send({\"jsonrpc\": \"2.0\", \"method\": \"notifications/resources/updated\", \"params\": {\"uri\": uri}})\n\
    \x20       note(name + \".spoken\", uri)\n        time.sleep(0.02)\n\
    def other(message):\n    method, params = message.get(\"method\"), message.get(\"params\") or {}\n\
    \x20   if method in (\"resources/subscribe\", \"resources/unsubscribe\"):\n\
    \x20       note(name + \".heard\", f\"{method} {params['uri']} {os.getpid()}\")\n        result(message[\"id\"], {})\n\
    \x20       if params[\"uri\"] not in spoken:\n            spoken.add(params[\"uri\"])\n\
    \x20           threading.Thread(target=speak, args=(params[\"uri\"],), daemon=True).start()\n\
    \x20   elif method == \"resources/list\":\n\
    \x20       result(message[\"id\"], {\"resources\": [{\"uri\": f\"test://{name}/a\", \"name\": name}]})\n\
    \x20   elif method is None:\n        note(name + \".answers\", json.dumps(message))\n\
    \x20   elif message.get(\"id\") is not None:\n        error(message[\"id\"], -32601, \"Method not found\")\n\
    def call(id, params):\n    if \"ask\" in (params.get(\"arguments\") or {}):\n\
    \x20       send({\"jsonrpc\": \"2.0\", \"id\": \"q\", \"method\": \"roots/list\"})\n\
    \x20   else:\n        text(id, \"called\")\n";
const UPDATED: &str = "notifications/resources/updated";
const TOOLS: &str = "notifications/tools/list_changed";
const RESOURCES: &str = "notifications/resources/list_changed";
/// How long what may not stand any more may stand once the command is answered. The promise is a second from the command on; a
/// machine with other work gets more.
const AT_ONCE: Duration = Duration::from_secs(5);

fn speaks(setup: Setup, name: &str) -> Setup {
    setup.scripted(name, SPEAKS, &format!("env = {{ NAME = {name:?} }}"))
}

/// What a server has heard of subscriptions.
fn heard(setup: &Setup, server: &str) -> Vec<String> {
    let text = fs::read_to_string(setup.path(&format!("{server}.heard"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until a server has said so often again that a resource has changed.
fn speaks_on(setup: &Setup, server: &str, times: usize) {
    let spoken = || fs::read_to_string(setup.path(&format!("{server}.spoken"))).unwrap().lines().count();
    let before = spoken();
    eventually("what a server says", || (spoken() >= before + times).then_some(()));
}

fn subscribe(client: &Client, uri: &str) {
    let answer = client.request("resources/subscribe", &json!({"uri": uri})).value();
    assert!(answer["result"].is_object(), "{answer}");
}

/// The messages up to one of this method.
fn until(stream: &mut Stream, method: &str) -> Vec<Value> {
    let mut before = Vec::new();
    loop {
        let message = stream.next().unwrap_or_else(|| panic!("the stream ended before {method}: {before:?}"));
        if message["method"] == method {
            return before;
        }
        before.push(message);
    }
}

/// Waits for the end of a stream; how long that took.
fn ended(stream: &mut Stream, since: Instant) -> Duration {
    while stream.next().is_some() {}
    since.elapsed()
}

#[test]
fn the_streams_of_a_caller_who_is_switched_off_end_and_those_of_others_go_on() {
    let door = Door::open(speaks(Setup::new(), "one"), "");
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    let mut streams = [ann.listen(), bob.listen()];
    for (client, stream) in [&ann, &bob].into_iter().zip(&mut streams) {
        subscribe(client, "test://one/a");
        until(stream, UPDATED);
    }
    let (modern, wish) = door.client("ann").modern(
        "subscriptions/listen",
        &json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["test://one/a"]}}),
    );
    let mut listening = modern.follow(&wish);
    until(&mut listening, UPDATED);
    let (plain, lists) = door
        .client("ann")
        .modern("subscriptions/listen", &json!({"notifications": {"toolsListChanged": true}}));
    let mut of_lists = plain.follow(&lists);
    of_lists.next().unwrap();
    let pids: Vec<i32> = heard(&door.gateway.setup, "one")
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 3, "each subscription has a process of its own here: {pids:?}");

    done(&door.gateway.setup, &["kill", "subject", "ann", "--reason", "a drill"]);
    // From the answer to the command on: what stood has ended by then.
    let since = Instant::now();
    let [own, bobs] = &mut streams;
    assert!(ended(own, since) < AT_ONCE && ended(&mut listening, since) < AT_ONCE, "{:?}", since.elapsed());
    assert!(ended(&mut of_lists, since) < AT_ONCE, "{:?}", since.elapsed());
    for pid in [pids[0], pids[2]] {
        eventually("the end of a connection of ann's", || (!alive(pid)).then_some(()));
    }
    // They are not opened again.
    let refused = ann.with("accept", "text/event-stream").get();
    assert_eq!((refused.status, reason(&refused.value())), (403, "killed"), "{refused:?}");
    let refused = modern.post(&wish).value();
    assert_eq!(reason(&refused), "killed", "{refused}");
    let refused = ann.request("resources/subscribe", &json!({"uri": "test://one/a"})).value();
    assert_eq!(reason(&refused), "killed", "{refused}");
    until(bobs, UPDATED);
    assert!(alive(pids[1]));

    done(&door.gateway.setup, &["revive", "subject", "ann"]);
    let mut again = ann.listen();
    subscribe(&ann, "test://one/a");
    until(&mut again, UPDATED);
    until(&mut modern.follow(&wish), UPDATED);
    done(&door.gateway.setup, &["kill", "all"]);
    let since = Instant::now();
    assert!(ended(bobs, since) < AT_ONCE && ended(&mut again, since) < AT_ONCE, "{:?}", since.elapsed());
}

#[test]
fn on_stdio_nothing_reaches_a_client_that_is_switched_off_and_nothing_asks_it() {
    let mut gateway = Gateway::spawn(speaks(Setup::new(), "one"));
    gateway.hello(NEWEST, &json!({"roots": {}}));
    let subscribed = gateway.request("resources/subscribe", &json!({"uri": "test://one/a"}));
    assert!(subscribed["result"].is_object(), "{subscribed}");
    gateway.heard(UPDATED);
    let asks = gateway.begin("one_tool", json!({"ask": true}));
    let question = gateway.heard("roots/list");

    let since = Instant::now();
    done(&gateway.setup, &["kill", "subject", "ann"]);
    assert_eq!(reason(&gateway.answer(asks)), "killed");
    let taken_back = gateway.heard("notifications/cancelled");
    assert_eq!(taken_back["params"]["requestId"], question["id"], "{taken_back}");
    let answers = eventually("an answer to the server", || {
        fs::read_to_string(gateway.setup.path("one.answers")).ok().filter(|text| text.ends_with('\n'))
    });
    assert!(answers.contains("\"q\"") && answers.contains("switched the client off"), "{answers}");
    eventually("the end of the subscription at the server", || {
        let last = heard(&gateway.setup, "one").pop()?;
        last.starts_with("resources/unsubscribe test://one/a").then_some(())
    });
    assert!(since.elapsed() < 2 * AT_ONCE, "{:?}", since.elapsed());
    // An answer that comes all the same is nobody's.
    let late = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}});
    gateway.send_raw(&late.to_string());
    // This server goes on speaking, and its client hears nothing of it.
    gateway.request("ping", &json!({}));
    while gateway.next_kept(UPDATED).is_some() {}
    speaks_on(&gateway.setup, "one", 10);
    gateway.request("ping", &json!({}));
    assert!(gateway.next_kept(UPDATED).is_none());

    done(&gateway.setup, &["revive", "subject", "ann"]);
    speaks_on(&gateway.setup, "one", 5);
    gateway.request("ping", &json!({}));
    assert!(gateway.next_kept(UPDATED).is_none(), "the subscription has ended");
    let subscribed = gateway.request("resources/subscribe", &json!({"uri": "test://one/a"}));
    assert!(subscribed["result"].is_object(), "{subscribed}");
    gateway.heard(UPDATED);
    assert_eq!(fs::read_to_string(gateway.setup.path("one.answers")).unwrap().lines().count(), 1);
    gateway.end();
}

#[test]
fn a_role_that_changes_takes_subscriptions_with_it() {
    let roles = "[rbac.roles.admin]\npermissions = [\"*\"]\n[rbac.roles.user]\npermissions = [\"tools.execute\", \"resources.read\"]";
    let mut door = Door::open(speaks(Setup::new().roles(roles), "one"), "");
    let token = mint("bob", "user", 3600);
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.anyone().bearer(&token).hello(NEWEST));
    let mut streams = [ann.listen(), bob.listen()];
    for (client, stream) in [&ann, &bob].into_iter().zip(&mut streams) {
        subscribe(client, "test://one/a");
        assert_eq!(client.tools(), ["one_tool"]);
        client.request("resources/list", &json!({}));
        until(stream, UPDATED);
    }
    let wish =
        json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["test://one/a"]}});
    let (modern, wish) = door.anyone().bearer(&token).modern("subscriptions/listen", &wish);
    let mut listening = modern.follow(&wish);
    until(&mut listening, UPDATED);
    let of_bob = heard(&door.gateway.setup, "one")[1].rsplit_once(' ').unwrap().1.to_owned();

    let text = fs::read_to_string(door.gateway.setup.path("sentinel.toml")).unwrap();
    door.gateway.setup.set_whole(&text.replace("\"tools.execute\", \"resources.read\"", "\"tools.execute\""));
    done(&door.gateway.setup, &["config", "apply"]);
    let since = Instant::now();
    // It has an end that its client sees, and may come again for what it may hear of still.
    assert!(ended(&mut listening, since) < AT_ONCE, "{:?}", since.elapsed());
    let granted = modern.follow(&wish).next().unwrap()["params"]["notifications"].clone();
    assert_eq!(granted, json!({"toolsListChanged": true}), "no resource any more");
    let unsubscribed = format!("resources/unsubscribe test://one/a {of_bob}");
    eventually("the end of the subscription at the server", || {
        heard(&door.gateway.setup, "one").contains(&unsubscribed).then_some(())
    });
    // The stream stands, and says what bob may hear of. The server goes on speaking of what he may not.
    let [anns, bobs] = &mut streams;
    until(bobs, RESOURCES);
    speaks_on(&door.gateway.setup, "one", 10);
    done(&door.gateway.setup, &["kill", "tool", "one_tool"]);
    let between = until(bobs, TOOLS);
    assert!(between.iter().all(|message| message["method"] != UPDATED), "{between:?}");
    until(anns, TOOLS);
    until(anns, UPDATED);
    let refused = bob.request("resources/subscribe", &json!({"uri": "test://one/a"})).value();
    assert_eq!((code(&refused), reason(&refused)), (-32003, "permission_denied"), "{refused}");
    // With the role as it was he may subscribe again.
    door.gateway.setup.set_whole(&text);
    done(&door.gateway.setup, &["config", "apply"]);
    subscribe(&bob, "test://one/a");
    until(bobs, UPDATED);
}

#[test]
fn a_backend_that_is_switched_off_says_nothing_more() {
    let door = Door::open(speaks(speaks(Setup::new(), "one"), "two"), "");
    let ann = door.client("ann").hello(NEWEST);
    let mut stream = ann.listen();
    assert_eq!(ann.tools(), ["one_tool", "two_tool"]);
    for name in ["one", "two"] {
        let uri = format!("test://{name}/a");
        subscribe(&ann, &uri);
        while stream.next().unwrap()["params"]["uri"] != uri.as_str() {}
    }
    done(&door.gateway.setup, &["kill", "backend", "one"]);
    eventually("the end of the subscription at the server", || {
        heard(&door.gateway.setup, "one").pop()?.starts_with("resources/unsubscribe").then_some(())
    });
    until(&mut stream, TOOLS);
    speaks_on(&door.gateway.setup, "one", 10);
    // What the other one says goes on.
    for _ in 0..10 {
        let message = stream.next().unwrap();
        assert_ne!(message["params"]["uri"], "test://one/a", "{message}");
    }
    done(&door.gateway.setup, &["revive", "backend", "one"]);
    subscribe(&ann, "test://one/a");
    while stream.next().unwrap()["params"]["uri"] != "test://one/a" {}
}
