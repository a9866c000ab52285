//! The first list, and what is remembered of lists.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::changes::CHANGED;
use crate::http_door::client::{Door, NEWEST, names};
use crate::support::{Gateway, Setup, code, mint, said};

/// A server with these tools that says which server it is.
pub(super) fn server(name: &str, tools: &[&str]) -> String {
    let tools = tools.join(",");
    format!(
        "tools = [{{\"name\": tool, \"inputSchema\": {{\"type\": \"object\"}}}} for tool in {tools:?}.split(\",\")]\n\
         def call(id, params):\n    text(id, \"answered by {name}\")\n"
    )
}

/// The same, but it reads nothing for so many seconds.
pub(super) fn slow(name: &str, seconds: f32, tools: &[&str]) -> String {
    format!("{}time.sleep({seconds})\n", server(name, tools))
}

/// The same, but it reads nothing while the file `closed` is there.
pub(super) fn gated(name: &str, tools: &[&str]) -> String {
    format!("{}while os.path.exists(\"closed\"):\n    time.sleep(0.02)\n", server(name, tools))
}

/// What a client says that asks for the tools at once.
pub(super) fn list_at_once(gateway: &mut Gateway) -> u64 {
    let info = json!({"name": "c", "version": "1"});
    let hello = json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": info});
    gateway.send("initialize", &hello);
    gateway.notify("notifications/initialized", &json!({}));
    gateway.send("tools/list", &json!({}))
}

/// Everything that came before the answer to this request, and the tools in it.
pub(super) fn until_listed(gateway: &mut Gateway, id: u64) -> (Vec<Value>, Vec<String>) {
    let mut before = Vec::new();
    loop {
        let message = gateway.next().value;
        if message["id"] == id && message.get("method").is_none() {
            return (before, names(&message));
        }
        before.push(message);
    }
}

pub(super) fn of_method<'m>(messages: &'m [Value], method: &str) -> Vec<&'m Value> {
    messages.iter().filter(|message| message["method"] == method).collect()
}

/// Ends a gateway and returns its files; what it was to remember is written by then.
pub(super) fn ended(mut gateway: Gateway) -> Setup {
    gateway.end();
    gateway.into_setup()
}

/// Closes the gate of [`gated`] servers.
pub(super) fn close(setup: &Setup) {
    std::fs::write(setup.path("closed"), "").unwrap();
}

pub(super) fn open(gateway: &Gateway) {
    std::fs::remove_file(gateway.setup.path("closed")).unwrap();
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
            assert_eq!(gateway.log().matches("what was remembered of the server is ignored").count(), 1);
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

/// What a server tells the model is for those who may know of it.
#[test]
fn instructions_are_for_those_who_may_use_the_server() {
    let speaking = |name: &str| {
        format!(
            "{}def initialize(id, params):\n    result(id, {{\"protocolVersion\": \"2025-06-18\", \"capabilities\": {{\"tools\": {{}}}}, \
             \"serverInfo\": {{\"name\": \"s\", \"version\": \"1\"}}, \"instructions\": \"Words of {name}.\"}})\n",
            server(name, &[&format!("{name}_tool")])
        )
    };
    let roles = "[rbac.roles.admin]\npermissions = [\"*\"]\n[rbac.roles.user]\npermissions = [\"*\"]\ndenied_tools = [\"vault/*\"]";
    let mut setup = Setup::new()
        .roles(roles)
        .scripted("desk", &speaking("desk"), "")
        .scripted("vault", &speaking("vault"), "")
        .scripted("attic", &speaking("attic"), "");
    setup.set_kill_switch("disabled_backends = [\"attic\"]");
    let door = Door::open(setup, "");
    let eve = door.anyone().bearer(&mint("eve", "user", 3600));
    for (client, said) in [
        (door.client("ann"), "## desk\nWords of desk.\n\n## vault\nWords of vault."),
        (eve, "## desk\nWords of desk."),
    ] {
        let params = json!({"protocolVersion": NEWEST, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
        let hello = client.post(&crate::http_door::client::request("initialize", &params)).value();
        assert_eq!(hello["result"]["instructions"], said);
        assert_eq!(client.ask("server/discover", &json!({})).value()["result"]["instructions"], said);
    }
}

/// The handshake is quick, and the list is not.
#[test]
fn a_list_that_takes_long_is_waited_for() {
    let late = format!(
        "{}def hear(message, heard=hear):\n    if message.get(\"method\") == \"tools/list\":\n        time.sleep(1.0)\n    heard(message)\n",
        server("late", &["late_tool"])
    );
    let setup =
        Setup::new().scripted("early", &server("early", &["early_tool"]), "").scripted("late", &late, "");
    let mut gateway = Gateway::spawn(setup);
    let listed = list_at_once(&mut gateway);
    assert_eq!(until_listed(&mut gateway, listed).1, ["early_tool", "late_tool"]);
}

/// A client greets once: what a server says of itself is in the first answer or nowhere.
#[test]
fn instructions_of_a_server_that_starts_slowly_are_in_the_first_answer() {
    let code = format!(
        "{}def initialize(id, params):\n    result(id, {{\"protocolVersion\": \"2025-06-18\", \"capabilities\": {{\"tools\": {{}}}}, \
         \"serverInfo\": {{\"name\": \"s\", \"version\": \"1\"}}, \"instructions\": \"Mind the gap.\"}})\n",
        slow("late", 1.0, &["alpha"])
    );
    let mut gateway = Gateway::spawn(Setup::new().scripted("late", &code, "").unawaited());
    let hello = gateway.initialize();
    assert_eq!(hello["instructions"], "## late\nMind the gap.");
    assert_eq!(gateway.tools(), ["alpha"]);
}

/// Letters that have to be replaced, and names that have to be cut: whatever is listed can be called as it is listed, and
/// each name leads to its own tool.
#[test]
fn two_names_that_are_spelled_alike_are_both_callable() {
    let long =
        |middle: &str| format!("createConfluencePage{}{middle}WithAttachmentsAndPermissions", "X".repeat(60));
    let (one, other) = (long("_create_"), long("_delete_"));
    let tools = ["pat.batch", "pat_batch", "pat/batch", &one, &other];
    let echo = |name: &str| {
        server(name, &tools)
            .replace(&format!("\"answered by {name}\""), &format!("\"{name}: \" + params[\"name\"]"))
    };
    let setup = Setup::new().scripted("src", &echo("src"), "").scripted("dst", &echo("dst"), "");
    let mut gateway = Gateway::start(setup);
    let listed = gateway.tools();
    assert_eq!(listed.len(), 10, "{listed:?}");
    let mut reached: Vec<String> =
        listed.iter().map(|tool| said(&gateway.call(tool, json!({}))).to_owned()).collect();
    assert_eq!(reached[listed.iter().position(|tool| tool == "pat_batch").unwrap()], "src: pat_batch");
    reached.sort();
    reached.dedup();
    assert_eq!(reached.len(), 10, "{reached:?}");
    assert!(listed.iter().all(|tool| tool.len() <= 64), "{listed:?}");
    // By the next start they are called the same.
    let setup = ended(gateway);
    let mut again = Gateway::start(setup);
    assert_eq!(again.tools(), listed);
}
