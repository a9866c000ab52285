//! Changes of the file beside what takes long: streams that outlive generations, and a record that cannot be written.

use std::fs;

use serde_json::json;

use super::control::{done, refused, status};
use crate::http_door::client::{Door, NEWEST, Stream, request};
use crate::support::{Gateway, Setup, SmallDisk, alive, eventually, reason, said};

/// A server that says how it is getting on until a file exists, and then which generation it was started for.
const STREAMS: &str = "import threading\n\
    lock = threading.Lock()\n\
    tools = [{\"name\": \"stream\", \"inputSchema\": {\"type\": \"object\"}}]\n\
    def send(message):\n    with lock:\n        print(json.dumps(message), flush=True)\n\
    def call(id, params):\n    threading.Thread(target=stream, args=(id, params)).start()\n\
    def stream(id, params):\n    token, step = params[\"_meta\"][\"progressToken\"], 0\n\
    \x20   while not os.path.exists(\"go\"):\n        step += 1\n\
    \x20       send({\"jsonrpc\": \"2.0\", \"method\": \"notifications/progress\", \"params\": {\"progressToken\": token, \"progress\": step}})\n\
    \x20       time.sleep(0.02)\n\
    \x20   text(id, os.environ[\"V\"] + \" \" + str(os.getpid()))\n";

fn progress(stream: &mut Stream) {
    let message = stream.next().unwrap();
    assert_eq!(message["method"], "notifications/progress", "{message}");
}

/// The answer at the end of a stream.
fn answer(stream: &mut Stream) -> serde_json::Value {
    loop {
        let message = stream.next().unwrap_or_else(|| panic!("a stream ended without its answer"));
        if message.get("method").is_none() {
            return message;
        }
    }
}

#[test]
fn streams_of_four_generations_go_on_and_standing_ones_outlive_all() {
    let setup = Setup::new().scripted("one", STREAMS, "env = { V = \"1\" }");
    let mut door = Door::open(setup, "");
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    let mut standing = bob.listen();
    assert_eq!(bob.tools(), ["stream"]);
    let (modern, wish) = door
        .client("bob")
        .modern("subscriptions/listen", &json!({"notifications": {"toolsListChanged": true}}));
    let mut listening = modern.follow(&wish);
    listening.next().unwrap();
    let mut streams = Vec::new();
    for generation in 1..=6 {
        if generation > 1 {
            let text = fs::read_to_string(door.gateway.setup.path("sentinel.toml")).unwrap();
            let (from, to) = (format!("V = \"{}\"", generation - 1), format!("V = \"{generation}\""));
            door.gateway.setup.set_whole(&text.replace(&from, &to));
            let applied = done(&door.gateway.setup, &["config", "apply"]);
            assert!(applied.contains(&format!("generation {generation} is in force")), "{applied}");
        }
        let params = json!({"name": "stream", "arguments": {}, "_meta": {"progressToken": generation}});
        let mut stream = ann.follow(&request("tools/call", &params));
        progress(&mut stream);
        streams.push(stream);
        let alive = door_generations(&door);
        assert!(alive.len() <= 4 && alive.contains(&generation), "{alive:?}");
    }
    // Two had to make room, and their callers were told so.
    for stream in &mut streams[..2] {
        let given_up = answer(stream);
        assert_eq!(reason(&given_up), "generation_ended", "{given_up}");
    }
    assert_eq!(door_generations(&door), [3, 4, 5, 6]);
    streams[2..].iter_mut().for_each(progress);
    fs::write(door.gateway.setup.path("go"), "").unwrap();
    let mut pids = Vec::new();
    for (stream, generation) in streams[2..].iter_mut().zip(3..) {
        let last = answer(stream);
        let (started_for, pid) = said(&last).split_once(' ').unwrap();
        assert_eq!(started_for, generation.to_string(), "{last}");
        pids.push(pid.parse::<i32>().unwrap());
    }
    // Each call ended on the server that it began with, and with it that server.
    for pid in &pids[..3] {
        eventually("the end of an old server", || (!alive(*pid)).then_some(()));
    }
    assert!(alive(pids[3]));
    // What stands belongs to no generation.
    done(&door.gateway.setup, &["kill", "tool", "stream"]);
    for stream in [&mut standing, &mut listening] {
        while stream.next().unwrap()["method"] != "notifications/tools/list_changed" {}
    }
    assert_eq!(bob.tools(), [""; 0]);
}

/// The generations that are alive.
fn door_generations(door: &Door) -> Vec<u64> {
    let status = status(&door.gateway.setup);
    let older = status["generation"]["older"].as_array().into_iter().flatten();
    older.chain([&status["generation"]["number"]]).map(|number| number.as_u64().unwrap()).collect()
}

#[test]
fn on_a_full_disk_no_generation_is_put_in_force_and_the_old_one_serves_on() {
    let setup = Setup::echo();
    let Some(disk) = SmallDisk::mount(&setup.path("disk")) else { return };
    let keys = format!("[audit]\ndir = {:?}", disk.0.join("state"));
    let mut gateway = Gateway::start(setup.more(&keys));
    assert!(gateway.call("echo", json!({}))["result"].is_object());
    let text = fs::read_to_string(gateway.setup.path("sentinel.toml")).unwrap();
    let changed = text.replace("permissions = [\"*\"]", "permissions = [\"*\"]\ndenied_tools = [\"echo\"]");
    gateway.setup.set_whole(&changed);
    disk.fill();
    eventually("a refusal", || {
        let full = gateway.call("echo", json!({"text": "x".repeat(60_000)}));
        (full["error"]["code"] == -32_603).then_some(())
    });
    let why = refused(&gateway.setup, &["config", "apply"]);
    assert!(why.contains("record"), "{why}");
    disk.empty();
    eventually("an answer", || gateway.call("echo", json!({}))["result"].is_object().then_some(()));
    let now = status(&gateway.setup);
    assert_eq!(now["generation"]["number"], 1, "{now}");
    done(&gateway.setup, &["config", "apply"]);
    assert_eq!(reason(&gateway.call("echo", json!({}))), "permission_denied");
    gateway.end();
    drop(gateway);
    drop(disk);
}
