//! Keys in a url or an argument: put in from the environment or a file, and never shown.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::super::web::Web;
use super::text;
use crate::support::{Gateway, Setup};

const KEY: &str = "s3cr3t-key-42";

/// Nothing that the gateway has written holds the key.
fn nowhere(mut gateway: Gateway) {
    gateway.end();
    assert!(!gateway.log().contains(KEY), "{}", gateway.log());
    let rows = json!(gateway.audit()).to_string();
    assert!(rows.contains("[redacted]") && !rows.contains(KEY), "{rows}");
    let check = gateway.setup.run(&["check"]);
    let shown = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(shown.contains("[redacted]") && !shown.contains(KEY), "{shown}");
}

#[test]
fn variable_in_the_url() {
    let web = Web::start("def call(h, m):\n    h.error(400, 'the key ' + h.path + ' may not')");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{KEY}\n")).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    for from in ["${UP_KEY}".to_owned(), format!("${{file:{}}}", file.path().display())] {
        let setup = Setup::new().http("up", &web.at(&format!("/mcp?apiKey={from}")), "");
        let mut gateway = Gateway::start(setup.env("UP_KEY", KEY));
        gateway.await_tool("echo");
        assert!(
            web.told().iter().all(|line| line["path"] == format!("/mcp?apiKey={KEY}")),
            "{:?}",
            web.told()
        );
        let refused = gateway.call("echo", json!({}));
        let said = refused["error"]["message"].as_str().unwrap();
        assert!(said.contains("[redacted]") && !said.contains(KEY), "{refused}");
        nowhere(gateway);
    }
}

#[test]
fn a_whole_url_from_a_variable() {
    let web = Web::start("");
    let setup = Setup::new().http("up", "${UP_BASE}/mcp", "").env("UP_BASE", &web.at(""));
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    assert_eq!(text(&gateway.call("echo", json!({}))), "ok");
}

#[test]
fn variable_in_an_argument() {
    let code = "def call(id, params):\n    error(id, -32000, 'I was given ' + ' '.join(sys.argv[1:]))";
    for arg in ["--token=${UP_KEY}", "${UP_KEY}"] {
        let mut setup = Setup::new().scripted("up", code, "").env("UP_KEY", KEY);
        let script = setup.text("up.py");
        setup.set_whole(&format!(
            "[gateway]\nhealth_listen = \"off\"\n[auth]\n[rbac.roles.admin]\npermissions = [\"*\"]\n[[backends]]\n\
             name = \"up\"\ncommand = \"python3\"\nargs = [{script:?}, \"--literal=$${{HOME}}\", {arg:?}]\n"
        ));
        let mut gateway = Gateway::start(setup);
        let answer = gateway.call("echo", json!({}));
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains("--literal=${HOME}"), "{answer}");
        assert!(said.contains("[redacted]") && !said.contains(KEY), "{answer}");
        nowhere(gateway);
    }
}

#[test]
fn a_variable_that_is_not_set_is_a_mistake_in_the_file() {
    for (key, setup) in [
        ("url", Setup::new().http("up", "http://127.0.0.1:9/mcp?k=${NO_SUCH}", "")),
        (
            "args[0]",
            Setup::new()
                .more("[[backends]]\nname = \"up\"\ncommand = \"true\"\nargs = [\"--key=${NO_SUCH}\"]"),
        ),
    ] {
        let (code, said) = setup.refused(&[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(key) && said.contains("NO_SUCH is not set"), "{said}");
    }
    let setup = Setup::new().http("up", "http://127.0.0.1:9/mcp?k=${env:UP_KEY}", "");
    let (code, said) = setup.env("UP_KEY", KEY).refused(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("write ${UP_KEY}"), "{said}");
    // What is wrong with a url is said without the key in it.
    let setup = Setup::new().http("up", "ftp://x/${UP_KEY}", "").env("UP_KEY", KEY);
    let (code, said) = setup.refused(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("ftp://x/${UP_KEY}") && !said.contains(KEY), "{said}");
}

#[test]
fn a_key_that_stands_in_the_file_is_hidden_and_warned_of() {
    let web = Web::start("def call(h, m):\n    h.error(400, 'the key ' + h.path + ' may not')");
    let setup = Setup::new().http("up", &web.at(&format!("/mcp?apiKey={KEY}&page=7")), "");
    let said = String::from_utf8(setup.run(&["check"]).stdout).unwrap();
    assert!(said.contains("looks like a secret"), "{said}");
    let mut gateway = Gateway::start(setup);
    gateway.await_tool("echo");
    let refused = gateway.call("echo", json!({}));
    let said = refused["error"]["message"].as_str().unwrap();
    assert!(said.contains("page=7") && !said.contains(KEY), "{refused}");
    nowhere(gateway);
    for args in [json!(["--api-key", KEY]), json!([format!("--api-key={KEY}")])] {
        let more = format!("[[backends]]\nname = \"up\"\ncommand = \"true\"\nargs = {args}");
        let said = String::from_utf8(Setup::new().more(&more).run(&["check"]).stdout).unwrap();
        assert!(said.contains("looks like a secret") && !said.contains(KEY), "{said}");
    }
}
