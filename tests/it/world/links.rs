//! Resources that are in no list, and are linked to all the same.

use serde_json::{Value, json};

use crate::http_door::client::{Client, Door, NEWEST};
use crate::support::{Gateway, Setup, code, mint};

/// A server with resources that links to one which is in no list.
fn linking(name: &str) -> String {
    format!(
        "tools = [{{\"name\": \"make_{name}\", \"inputSchema\": {{\"type\": \"object\"}}}}]\n\
         def initialize(id, params):\n    result(id, {{\"protocolVersion\": \"2025-06-18\", \"capabilities\": {{\"tools\": {{}}, \"resources\": {{}}, \"prompts\": {{}}}}, \"serverInfo\": {{\"name\": \"s\", \"version\": \"1\"}}}})\n\
         def call(id, params):\n    result(id, {{\"content\": [{{\"type\": \"resource_link\", \"uri\": params[\"arguments\"].get(\"uri\", \"report://{name}/42\"), \"name\": \"report\"}}]}})\n\
         def other(message):\n    id, params = message.get(\"id\"), message.get(\"params\")\n    if message[\"method\"] == \"resources/list\":\n        result(id, {{\"resources\": []}})\n\
         \x20   elif message[\"method\"] == \"resources/read\":\n        result(id, {{\"contents\": [{{\"uri\": params[\"uri\"], \"text\": \"read by {name}\"}}, {{\"uri\": params[\"uri\"] + \"/part\", \"text\": \"\"}}]}})\n\
         \x20   elif message[\"method\"] == \"prompts/list\":\n        result(id, {{\"prompts\": [{{\"name\": \"ask_{name}\"}}]}})\n\
         \x20   elif message[\"method\"] == \"prompts/get\":\n        result(id, {{\"messages\": [{{\"role\": \"user\", \"content\": {{\"type\": \"resource_link\", \"uri\": \"prompt://{name}\", \"name\": \"p\"}}}}]}})\n\
         \x20   elif id is not None:\n        error(id, -32601, \"Method not found\")\n"
    )
}

fn read(gateway: &mut Gateway, uri: &str) -> Value {
    gateway.request("resources/read", &json!({"uri": uri}))
}

fn text_of(read: &Value) -> &str {
    read["result"]["contents"][0]["text"].as_str().unwrap_or_else(|| panic!("nothing was read: {read}"))
}

#[test]
fn link_to_an_unlisted_resource() {
    let setup = Setup::new().scripted("one", &linking("alpha"), "").scripted("two", &linking("beta"), "");
    let mut gateway = Gateway::start(setup);
    assert_eq!(code(&read(&mut gateway, "report://beta/42")), -32602, "nobody has spoken of it");
    gateway.call("make_beta", json!({}));
    assert_eq!(text_of(&read(&mut gateway, "report://beta/42")), "read by beta");
    // What stands beside what was read is linked to as well, and so is what a prompt shows.
    assert_eq!(text_of(&read(&mut gateway, "report://beta/42/part")), "read by beta");
    gateway.request("prompts/get", &json!({"name": "ask_alpha"}));
    assert_eq!(text_of(&read(&mut gateway, "prompt://alpha")), "read by alpha");
    assert_eq!(code(&read(&mut gateway, "prompt://beta")), -32602);
    // What one server has named is not read at another that names it, too.
    gateway.call("make_alpha", json!({"uri": "report://beta/42"}));
    assert_eq!(text_of(&read(&mut gateway, "report://beta/42")), "read by beta");
}

/// The client does not wait for the answer that names the address, and another one is unknown at once.
#[test]
fn a_read_waits_for_the_calls_before_it_that_may_name_its_address() {
    let slow = linking("beta").replacen(
        "def call(id, params):\n",
        "def call(id, params):\n    time.sleep(0.5)\n",
        1,
    );
    let setup = Setup::new().scripted("one", &linking("alpha"), "").scripted("two", &slow, "");
    let mut gateway = Gateway::start(setup);
    let call = gateway.begin("make_beta", json!({}));
    let reads: Vec<u64> = ["report://beta/42", "report://gamma/1", "report://beta/42"]
        .map(|uri| gateway.send("resources/read", &json!({"uri": uri})))
        .into();
    assert!(gateway.answer(call)["result"].is_object());
    assert_eq!(text_of(&gateway.answer(reads[0])), "read by beta");
    assert_eq!(code(&gateway.answer(reads[1])), -32602);
    assert_eq!(text_of(&gateway.answer(reads[2])), "read by beta");
}

/// The page that a tool is shown with (MCP Apps) is named in the list of tools only.
#[test]
fn the_page_of_a_tool_is_read_from_its_own_server() {
    let paged = |name: &str| {
        linking(name).replacen(
            "\"inputSchema\": {\"type\": \"object\"}",
            &format!("\"inputSchema\": {{\"type\": \"object\"}}, \"_meta\": {{\"ui\": {{\"resourceUri\": \"ui://{name}/page.html\"}}}}"),
            1,
        )
    };
    let setup = Setup::new().scripted("one", &paged("alpha"), "").scripted("two", &paged("beta"), "");
    let mut gateway = Gateway::start(setup);
    for name in ["alpha", "beta"] {
        let page = read(&mut gateway, &format!("ui://{name}/page.html"));
        assert_eq!(text_of(&page), format!("read by {name}"));
    }
    let listed = gateway.request("resources/list", &json!({}));
    assert_eq!(listed["result"]["resources"], json!([]));
}

/// A link is its caller's own, and reading it needs the right to read resources.
#[test]
fn a_link_is_for_whoever_was_given_it_and_may_read() {
    let setup = || {
        Setup::new()
            .roles("[rbac.roles.admin]\npermissions = [\"*\"]\n[rbac.roles.user]\npermissions = [\"tools.execute\"]")
            .scripted("one", &linking("alpha"), "")
            .scripted("two", &linking("beta"), "")
    };
    let door = Door::open(setup(), "");
    let (ann, bob) = (door.client("ann").hello(NEWEST), door.client("bob").hello(NEWEST));
    let eve = door.anyone().bearer(&mint("eve", "user", 3600)).hello(NEWEST);
    let read =
        |client: &Client| client.request("resources/read", &json!({"uri": "report://beta/42"})).value();
    for client in [&ann, &eve] {
        client.call("make_beta", json!({}));
    }
    assert_eq!(text_of(&read(&ann)), "read by beta");
    assert_eq!(code(&read(&bob)), -32602);
    assert_eq!(code(&read(&eve)), -32003);
    // It is the caller's in another session, too.
    assert_eq!(text_of(&read(&door.client("ann").hello(NEWEST))), "read by beta");
}

/// An address that two servers list is read from the first of the file, and listed once.
#[test]
fn a_resource_of_two_servers_is_read_from_the_first() {
    let listing = |name: &str| {
        linking(name).replacen(
            "{\"resources\": []}",
            "{\"resources\": [{\"uri\": \"timezone://info\", \"name\": \"info\"}]}",
            1,
        )
    };
    let setup = Setup::new().scripted("one", &listing("alpha"), "").scripted("two", &listing("beta"), "");
    let mut gateway = Gateway::start(setup);
    let listed = gateway.request("resources/list", &json!({}));
    assert_eq!(listed["result"]["resources"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(text_of(&read(&mut gateway, "timezone://info")), "read by alpha");
    assert!(gateway.log().contains("\"timezone://info\" is left out: another backend already serves this"));
}
