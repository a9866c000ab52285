//! The first list, what is remembered of lists, and who hears that one has changed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http_door::client::{Door, NEWEST, STATELESS, names};
use crate::support::{Gateway, Setup, code, eventually, mint, said};

const CHANGED: &str = "notifications/tools/list_changed";

/// A server with these tools that says which server it is.
fn server(name: &str, tools: &[&str]) -> String {
    let tools = tools.join(",");
    format!(
        "tools = [{{\"name\": tool, \"inputSchema\": {{\"type\": \"object\"}}}} for tool in {tools:?}.split(\",\")]\n\
         def call(id, params):\n    text(id, \"answered by {name}\")\n"
    )
}

/// The same, but it reads nothing for so many seconds.
fn slow(name: &str, seconds: f32, tools: &[&str]) -> String {
    format!("{}time.sleep({seconds})\n", server(name, tools))
}

/// The same, but it reads nothing while the file `closed` is there.
fn gated(name: &str, tools: &[&str]) -> String {
    format!("{}while os.path.exists(\"closed\"):\n    time.sleep(0.02)\n", server(name, tools))
}

/// What a client says that asks for the tools at once.
fn list_at_once(gateway: &mut Gateway) -> u64 {
    let info = json!({"name": "c", "version": "1"});
    let hello = json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": info});
    gateway.send("initialize", &hello);
    gateway.notify("notifications/initialized", &json!({}));
    gateway.send("tools/list", &json!({}))
}

/// Everything that came before the answer to this request, and the tools in it.
fn until_listed(gateway: &mut Gateway, id: u64) -> (Vec<Value>, Vec<String>) {
    let mut before = Vec::new();
    loop {
        let message = gateway.next().value;
        if message["id"] == id && message.get("method").is_none() {
            return (before, names(&message));
        }
        before.push(message);
    }
}

fn of_method<'m>(messages: &'m [Value], method: &str) -> Vec<&'m Value> {
    messages.iter().filter(|message| message["method"] == method).collect()
}

/// Ends a gateway and returns its files; what it was to remember is written by then.
fn ended(mut gateway: Gateway) -> Setup {
    gateway.end();
    gateway.into_setup()
}

/// Closes the gate of [`gated`] servers.
fn close(setup: &Setup) {
    std::fs::write(setup.path("closed"), "").unwrap();
}

fn open(gateway: &Gateway) {
    std::fs::remove_file(gateway.setup.path("closed")).unwrap();
}

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
    assert!(after.is_empty(), "nothing has changed for whoever has the whole list: {after:?}");
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

/// The whole list is there in the first answer, whatever it takes to start, and a second start needs no waiting at all.
#[test]
fn the_second_start_answers_at_once_with_what_was_listed_before() {
    let with_instructions = "def initialize(id, params):\n    abilities = {\"tools\": {}, \"tasks\": {}}\n    info = {\"name\": \"s\", \"version\": \"1\"}\n\
        \x20   result(id, {\"protocolVersion\": \"2025-06-18\", \"capabilities\": abilities, \"serverInfo\": info, \"instructions\": \"Mind the gap.\"})\n";
    let code = format!("{}{with_instructions}", gated("one", &["alpha", "beta"]));
    let setup = Setup::new().scripted("one", &code, "").scripted("two", &gated("two", &["gamma"]), "");
    let mut first = Gateway::start(setup.gateway("first_list_wait_secs = 60"));
    assert_eq!(first.tools(), ["alpha", "beta", "gamma"]);
    let setup = ended(first).unawaited();
    close(&setup);
    let mut second = Gateway::spawn(setup);
    // Nobody is up, and nobody is waited for: `ready` of neither is in the log.
    let hello = second.initialize();
    assert_eq!(hello["instructions"], "## one\nMind the gap.");
    assert_eq!(second.tools(), ["alpha", "beta", "gamma"]);
    assert!(!second.log().contains("backend is ready"), "{}", second.log());
    // A call goes to the server itself, as soon as it is there.
    let early = second.begin("gamma", json!({}));
    assert!(!second.has_answer(early));
    open(&second);
    let answer = second.answer(early);
    assert_eq!(said(&answer), "answered by two");
    second.await_log("backend is ready backend=one ", 1);
    second.hang_up();
    let rest: Vec<Value> = second.rest().into_iter().map(|message| message.value).collect();
    assert!(rest.is_empty(), "what was shown was right: {rest:?}");
}

#[test]
fn what_was_remembered_wrong_is_corrected_once() {
    let setup = Setup::new()
        .scripted("one", &gated("one", &["alpha", "beta"]), "")
        .scripted("two", &gated("two", &["gamma"]), "")
        .scripted("three", &gated("three", &["delta"]), "");
    let mut first = Gateway::start(setup);
    assert_eq!(first.tools().len(), 4);
    // Two servers are others by the next start.
    let setup = ended(first);
    for (name, tools) in [("one", &["alpha", "brand_new"][..]), ("two", &["gamma_2"])] {
        let file = setup.path(&format!("{name}.py"));
        let text = std::fs::read_to_string(&file).unwrap();
        let old = if name == "one" { "alpha,beta" } else { "gamma" };
        std::fs::write(&file, text.replacen(old, &tools.join(","), 1)).unwrap();
    }
    close(&setup);
    let mut second = Gateway::spawn(setup.unawaited());
    second.initialize();
    assert_eq!(second.tools(), ["alpha", "beta", "gamma", "delta"]);
    open(&second);
    second.heard(CHANGED);
    assert_eq!(second.tools(), ["alpha", "brand_new", "gamma_2", "delta"], "all of it is corrected by then");
    assert_eq!(code(&second.call("beta", json!({}))), -32602);
    assert_eq!(said(&second.call("brand_new", json!({}))), "answered by one");
    second.hang_up();
    let rest: Vec<Value> = second.rest().into_iter().map(|message| message.value).collect();
    assert!(rest.is_empty(), "it is told once: {rest:?}");
}

/// Another command is another server, whatever its name; and a damaged file is no file.
#[test]
fn only_what_this_very_server_listed_is_remembered() {
    let setup = Setup::new().scripted("one", &gated("one", &["alpha"]), "");
    let mut setup = ended(Gateway::start(setup)).unawaited();
    let file = remembered(&setup).remove(0);
    let good = std::fs::read_to_string(&file).unwrap();
    assert!(good.contains("alpha"), "{good}");
    // An entry that can be read in two ways is not taken from there either.
    let doubled = good.replace("\"name\": \"alpha\"", "\"name\": \"evil\", \"name\": \"alpha\"");
    assert_ne!(doubled, good);
    for bad in [&good[..good.len() / 2], "", &good.replace("\"one\"", "\"two\""), &doubled] {
        std::fs::write(&file, bad).unwrap();
        close(&setup);
        let mut gateway = Gateway::spawn(setup);
        let listed = list_at_once(&mut gateway);
        if bad == doubled {
            assert_eq!(until_listed(&mut gateway, listed).1, [""; 0]);
        }
        open(&gateway);
        if bad != doubled {
            assert_eq!(until_listed(&mut gateway, listed).1, ["alpha"], "it waits for the server");
            assert_eq!(gateway.log().matches("what was remembered of it is ignored").count(), 1);
        }
        gateway.await_tool("alpha");
        setup = ended(gateway);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), good, "it is written anew");
    }
}

/// The files of lists that the gateway keeps.
fn remembered(setup: &Setup) -> Vec<std::path::PathBuf> {
    let mut files = setup.files("sentinel-gateway");
    files.retain(|file| file.to_string_lossy().ends_with(".lists.json"));
    files
}

/// A server that repeats the key it was given has no part in what is kept.
#[test]
fn no_secret_of_the_configuration_is_kept_with_a_list() {
    let code = "tools = [{\"name\": \"echo\", \"description\": \"key \" + os.environ[\"API_KEY\"], \"inputSchema\": {\"type\": \"object\"}}]";
    let setup = Setup::new()
        .env("SECRET_OF_IT", "hunter2hunter2hunter2")
        .scripted("leaky", code, "env = { API_KEY = \"${SECRET_OF_IT}\" }")
        .scripted("fine", &server("fine", &["alpha"]), "");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("alpha");
    gateway.await_log("its lists are not kept for the next start: they hold a secret", 1);
    let setup = ended(gateway);
    let kept = remembered(&setup);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(std::fs::read_to_string(&kept[0]).unwrap().contains("alpha"));
}

/// Whose a name is follows from what was listed before, too: the slow one has it although the other is up first.
#[test]
fn names_by_arrival_after_a_restart() {
    let slow = format!(
        "{}while os.path.exists(\"closed\"):\n    time.sleep(0.02)\n",
        server("sandbox", &["read_file"])
    );
    let setup = Setup::new()
        .role("user")
        .roles("[rbac.roles.user]\npermissions = [\"tools.execute\"]\nallowed_tools = [\"read_file\", \"commander/run\"]")
        .scripted("sandbox", &slow, "")
        .scripted("commander", &server("commander", &["read_file", "run"]), "");
    let mut first = Gateway::start(setup);
    assert_eq!(first.tools(), ["read_file", "run"]);
    let setup = ended(first).unawaited();
    close(&setup);
    let mut second = Gateway::start(setup);
    second.await_log("backend is ready backend=commander ", 1);
    assert_eq!(second.tools(), ["read_file", "run"], "by rules, too, it is known whose it is");
    assert_eq!(said(&second.call("run", json!({}))), "answered by commander");
    let early = second.begin("read_file", json!({}));
    open(&second);
    assert_eq!(said(&second.answer(early)), "answered by sandbox");
    assert_eq!(code(&second.call("commander_read_file", json!({}))), -32003);
}

/// A server that hangs costs the first list no more than the time that was given.
#[test]
fn a_server_that_never_starts_holds_the_first_list_up_for_a_bounded_time() {
    let setup = Setup::new()
        .gateway("first_list_wait_secs = 2")
        .backend("hanging", &["--never-start"], "")
        .scripted("good", &server("good", &["alpha"]), "");
    let mut gateway = Gateway::spawn(setup);
    let begun = Instant::now();
    let listed = list_at_once(&mut gateway);
    assert_eq!(until_listed(&mut gateway, listed).1, ["alpha"]);
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    // From then on nobody waits for it any more.
    assert_eq!(gateway.tools(), ["alpha"]);
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

/// The stateless era has no session; whoever listens hears of what is other than when it began.
#[test]
fn whoever_listens_without_a_session_hears_of_what_changes_from_then_on() {
    let growing = "def call(id, params):\n    tools.append({\"name\": \"added\", \"inputSchema\": {\"type\": \"object\"}})\n\
        \x20   send({\"jsonrpc\": \"2.0\", \"method\": \"notifications/tools/list_changed\"})\n    text(id, \"added\")\n\
        while not os.path.exists(\"open\"):\n    time.sleep(0.02)\n";
    let door = Door::open(Setup::new().scripted("srv", growing, "").unawaited(), "");
    let ann = door.client("ann");
    let wish = json!({"notifications": {"toolsListChanged": true}});
    // While the server starts: what comes with it is no change for whoever began before.
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
    let read = |client: &crate::http_door::client::Client| {
        client.request("resources/read", &json!({"uri": "report://beta/42"})).value()
    };
    for client in [&ann, &eve] {
        client.call("make_beta", json!({}));
    }
    assert_eq!(text_of(&read(&ann)), "read by beta");
    assert_eq!(code(&read(&bob)), -32602);
    assert_eq!(code(&read(&eve)), -32003);
    // It is the caller's in another session, too.
    assert_eq!(text_of(&read(&door.client("ann").hello(NEWEST))), "read by beta");
}
