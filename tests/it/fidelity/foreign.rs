//! Methods that are not MCP's: passed on to the server they are about, if a role has a rule that names them.

use super::corpus::{dressed, get, is};
use super::doors::{Door, Era, Way};
use super::{flags, mirror};
use crate::support::Setup;

const ROLES: &str = "[rbac.roles.admin]\npermissions = [\"*\"]\ndenied_tools = [\"one_received\"]\nallowed_methods = [\"acme/*\"]";

fn one(client: (Way, Era), server: Era) -> Door {
    let setup = Setup::new().roles(ROLES);
    let flags = flags(&setup, server);
    Door::open(client.0, client.1, mirror(setup, &flags, ""))
}

/// Two servers whose tools have the same names.
fn two() -> Door {
    let setup = Setup::new().roles(ROLES);
    let flags = flags(&setup, Era::Handshake);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let setup = setup.backend("one", &flags, "prefix = true").backend("two", &flags, "prefix = true");
    Door::open(Way::Pipe, Era::Handshake, setup)
}

fn code(answer: &str) -> &str {
    let error = get(answer, "error").unwrap_or_else(|| panic!("an error was expected: {answer}"));
    get(error, "code").unwrap()
}

/// What a server has received, by the tool that tells.
fn received(door: &mut Door, tool: &str) -> Vec<String> {
    let params = door.meta(&format!(r#"{{"name":"{tool}","_meta":{{"@meta":0}}}}"#));
    let answer = door.ask("tools/call", &params, "").answer;
    let content = get(&answer, "result").and_then(|result| get(result, "structuredContent")).unwrap();
    serde_json::from_str(get(content, "messages").unwrap()).unwrap()
}

#[test]
fn a_method_that_a_role_may_use_passes_unchanged() {
    for (way, era) in [
        (Way::Pipe, Era::Handshake),
        (Way::Web, Era::Handshake),
        (Way::Pipe, Era::Stateless),
        (Way::Web, Era::Stateless),
    ] {
        let mut door = one((way, era), era);
        let reply = dressed(r#"{ "x":"@odd","n" : 1e400,"resultType":"complete" }"#);
        let params = dressed(&format!(r#"{{ "x" : 1.0,"y":"@odd","reply":{reply},"_meta":{{"@meta":0}}}}"#));
        let params = door.meta(&params);
        let got = door.ask("acme/run", &params, "");
        let wanted = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{reply}}}"#, got.id);
        assert_eq!(got.answer, wanted, "{way:?} {era:?}");
        let heard = received(&mut door, "received");
        let call = heard.iter().find(|message| is(message, "acme/run")).unwrap();
        assert_eq!(get(call, "params"), Some(&*params), "{way:?} {era:?}");
        // No permission includes one that no rule names; then it is as unknown as it always was.
        for unnamed in ["vendor/run", "acme", "tools/destroy", "notifications/x", "rpc.discover"] {
            let answer = door.ask(unnamed, &params, "").answer;
            assert_eq!(code(&answer), "-32601", "{unnamed}: {answer}");
            assert_eq!(get(get(&answer, "error").unwrap(), "data"), None, "nor is it said that it exists");
        }
        let heard = received(&mut door, "received").join("\n");
        assert!(!heard.contains("\"vendor/run\"") && !heard.contains("destroy"), "{heard}");
    }
}

#[test]
fn it_goes_to_the_server_whose_thing_it_is_about() {
    let mut door = two();
    let answer = door.ask("acme/run", r#"{"name":"two_mirror","reply":{"from":1.0}}"#, "").answer;
    assert_eq!(get(&answer, "result"), Some(r#"{"from":1.0}"#), "{answer}");
    let heard = received(&mut door, "two_received").join("\n");
    assert!(heard.contains(r#""params":{"name":"mirror","reply":{"from":1.0}}"#), "by its own name: {heard}");
    // What it is about is judged as in a call: the role may not use this tool.
    let denied = door.ask("acme/run", r#"{"name":"one_received","reply":{}}"#, "").answer;
    assert_eq!(code(&denied), "-32003", "{denied}");
    // Of two servers nobody can know which is meant; another's task is nobody's.
    for nobodys in [r#"{"reply":{}}"#, r#"{"name":"other","reply":{}}"#, r#"{"taskId":"t","reply":{}}"#] {
        let answer = door.ask("acme/run", nobodys, "").answer;
        assert_eq!(code(&answer), "-32601", "{nobodys}: {answer}");
    }
    // Two servers have this resource; its owner is who the catalog says, and so for every method.
    let answer = door.ask("acme/read", r#"{"uri":"mirror://a","reply":{"r":1}}"#, "").answer;
    assert_eq!(get(&answer, "result"), Some(r#"{"r":1}"#), "{answer}");
}

#[test]
fn it_is_on_record_by_its_method_and_its_server() {
    let mut door = one((Way::Pipe, Era::Handshake), Era::Handshake);
    door.ask("acme/run", r#"{"reply":{}}"#, "");
    door.ask("vendor/run", r#"{"reply":{}}"#, "");
    let rows = door.into_audit();
    let of = |method: &str| {
        let row = rows.iter().find(|row| row["method"] == method).unwrap_or_else(|| panic!("{rows:?}"));
        (row["status"].as_str().unwrap().to_owned(), row["backend"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("acme/run"), ("success".to_owned(), "mirror".to_owned()));
    assert_eq!(of("vendor/run").0, "denied");
}
