//! `tasks/list` (2025-11-25): one list of all backends, whole, and to each caller their own.

use serde_json::{Value, json};

use super::client::{Client, Door, NEWEST};
use crate::support::{Setup, code, mint};

/// A server that has tasks, and does as it is told.
fn server(setup: Setup, name: &str, tasks: &Value) -> Setup {
    let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    let capabilities = json!({"tools": {}, "tasks": tasks});
    let hello = json!({"protocolVersion": NEWEST, "capabilities": capabilities, "serverInfo": {"name": name, "version": "1"}});
    let lines = [
        json!({"method": "initialize", "result": hello}),
        json!({"method": "tools/list", "result": {"tools": [tool("mirror"), tool("received")]}}),
    ];
    let path = setup.text(name);
    std::fs::write(&path, lines.map(|line| line.to_string()).join("\n")).unwrap();
    setup.backend(name, &["--profile", "mirror", "--answers", &path], "prefix = true")
}

fn door() -> Door {
    let all = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
    let setup = server(server(Setup::new(), "one", &all), "two", &all);
    let setup = server(setup, "three", &json!({"cancel": {}}));
    Door::open(
        setup.roles(
            "[rbac.roles.admin]\npermissions = [\"*\"]\n\
             [rbac.roles.clerk]\npermissions = [\"*\"]\ndenied_tools = [\"one_mirror\"]",
        ),
        "",
    )
}

/// Has a backend begin a task.
fn begin(client: &Client, tool: &str, id: &str) {
    let reply = json!({"task": {"taskId": id, "status": "working"}});
    let params = json!({"name": tool, "task": {}, "reply": reply});
    let answer = client.request("tools/call", &params).value();
    assert_eq!(answer["result"]["task"]["taskId"], id, "{answer}");
}

/// The ids that a client is shown, where every server lists these pages.
fn listed(client: &Client, pages: &Value) -> Vec<String> {
    let answer = client.request("tasks/list", &json!({"pages": pages})).value();
    assert_eq!(answer["result"]["nextCursor"], Value::Null, "one page: {answer}");
    let tasks = answer["result"]["tasks"].as_array().unwrap_or_else(|| panic!("no list: {answer}"));
    tasks.iter().map(|task| task["taskId"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn everybody_is_shown_their_own_tasks_of_all_backends_and_all_pages() {
    let door = door();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| door.client(name).hello(NEWEST));
    begin(&ann, "one_mirror", "a-1");
    begin(&ann, "two_mirror", "a-2");
    begin(&bob, "one_mirror", "b-1");
    let task = |id: &str| json!({"taskId": id, "status": "working"});
    // Every server claims every task; each is only whose it is.
    let pages = json!([
        {"tasks": [task("b-1"), task("a-1")], "nextCursor": "1"},
        {"tasks": [], "nextCursor": "2"},
        {"tasks": [task("nobody's"), {"no": "id"}, task("a-2")], "nextCursor": null},
    ]);
    assert_eq!(listed(&ann, &pages), ["a-1", "a-2"]);
    assert_eq!(listed(&bob, &pages), ["b-1"]);
    assert_eq!(listed(&eve, &pages), [""; 0]);
    // A caller who may no longer see the tool does not hear of its tasks.
    let lowered = bob.bearer(&mint("bob", "clerk", 3600));
    assert_eq!(listed(&lowered, &pages), [""; 0]);
    // The server without the capability was not asked.
    let heard = ann.structured("three_received").to_string();
    assert!(!heard.contains("tasks/list"), "{heard}");
}

#[test]
fn what_a_task_says_is_not_touched() {
    let door = door();
    let ann = door.client("ann").hello(NEWEST);
    begin(&ann, "one_mirror", "a-1");
    let task = r#"{ "x" : 1.0,"t\u0061skId":"a-1" , "n":1e400}"#;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tasks/list","params":{{"pages":[{{"tasks":[{task}]}}]}}}}"#
    );
    let answer = ann.post_text(body);
    assert!(answer.text.contains(task), "{answer:?}");
}

#[test]
fn the_list_has_one_page_and_servers_that_repeat_themselves_end_theirs() {
    let door = door();
    let ann = door.client("ann").hello(NEWEST);
    begin(&ann, "one_mirror", "a-1");
    let refused = ann.request("tasks/list", &json!({"cursor": "1"})).value();
    assert_eq!(code(&refused), -32602, "{refused}");
    let endless = json!([{"tasks": [{"taskId": "a-1"}], "nextCursor": "0"}]);
    assert_eq!(listed(&ann, &endless), ["a-1", "a-1"], "once for each page that came");
}

#[test]
fn it_is_offered_where_a_server_has_it() {
    let hello = |door: &Door| {
        let params = json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}});
        door.client("ann").request("initialize", &params).value()["result"]["capabilities"]["tasks"].clone()
    };
    assert_eq!(hello(&door())["list"], json!({}));
    let without = Door::open(server(Setup::new(), "three", &json!({"cancel": {}})), "");
    assert_eq!(hello(&without)["list"], Value::Null);
    let ann = without.client("ann").hello(NEWEST);
    assert_eq!(code(&ann.request("tasks/list", &json!({})).value()), -32601);
}
