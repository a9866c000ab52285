//! `config/examples/cel-policy.toml` does what it says, with the real binary.

use std::path::Path;

use serde_json::json;

use crate::support::{Gateway, Setup, reason};

const FILES: &str = r#"
def tool(name, **annotations):
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": annotations}
tools = [tool("read_file", readOnlyHint=True), tool("write_file", destructiveHint=False), tool("drop_all", destructiveHint=True)]
"#;

/// A file of `config/examples` without its servers, which need the network.
pub(super) fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("config/examples").join(name)).unwrap();
    let mut kept = String::new();
    let mut backend = false;
    for line in text.lines() {
        if line.starts_with('[') {
            backend = line == "[[backends]]";
        }
        if !backend {
            kept += line;
            kept += "\n";
        }
    }
    kept
}

/// The server of a test, as it stands in a file.
pub(super) fn with_server(setup: Setup, name: &str, file: &str) -> Setup {
    let script = setup.path(&format!("{name}.py"));
    let backend = format!(
        "[gateway]\nhealth_listen = \"off\"\n{file}\n[[backends]]\nname = {name:?}\ntype = \"stdio\"\ncommand = \"python3\"\nargs = [{:?}]\n",
        script.to_str().unwrap()
    );
    setup.whole(&backend)
}

#[test]
fn the_example_denies_asks_and_lets_pass() {
    let setup = Setup::new().scripted("files", FILES, "");
    let rules = example("cel-policy.toml") + "\n[approvals]\nwait_secs = 0\n";
    let mut gateway = Gateway::start(with_server(setup, "files", &rules));
    let answer = gateway.call("read_file", json!({"path": "/srv/files/a.txt"}));
    assert!(answer["result"].is_object(), "{answer}");
    for (tool, arguments, why, words) in [
        ("read_file", json!({"path": "/srv/host.pem"}), "secrets_stay", "Keys are not read"),
        ("write_file", json!({"content": "x".repeat(10_001)}), "too_large", "At most 10,000"),
    ] {
        let answer = gateway.call(tool, arguments);
        assert_eq!(reason(&answer), why, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
    // By what the server says of its tool. How a person is asked is not this test's business; nobody was, so it is not done.
    let answer = gateway.call("drop_all", json!({}));
    assert!(answer["error"].is_object() || answer["result"]["isError"] == true, "{answer}");
    assert!(answer.to_string().contains("approval"), "{answer}");
}

#[test]
fn mistakes_are_named_at_their_rule_before_anything_starts() {
    let rules = r#"
[[plugins]]
name = "cel-policy"
[plugins.config]
otherwise = "maybe"
rules = [
  { name = "a", when = "target.nme == 'x'", then = "deny" },
  { name = "b", when = "args.x ==", then = "deny" },
  { name = "c", when = "args.text.matches('a.*')", then = "allow" },
]
"#;
    let (code, said) = Setup::echo().more(rules).refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "plugins.cel-policy.config.otherwise",
        "names target.nme; target has name, backend, upstream, kind",
        "plugins.cel-policy.config.rules.1.when: is no CEL",
        "calls `matches`, which is not there; use glob",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_rule_that_cannot_be_judged_refuses_the_call() {
    let rules = r#"
[[plugins]]
name = "cel-policy"
[plugins.config]
otherwise = "deny"
rules = [{ name = "small", when = "args.limit < 10", then = "allow" }]
"#;
    let mut gateway = Gateway::start(Setup::new().scripted("files", "", "").more(rules));
    assert!(gateway.call("echo", json!({"limit": 3}))["result"].is_object());
    assert_eq!(reason(&gateway.call("echo", json!({"limit": 30}))), "no_rule");
    for odd in [json!({}), json!({"limit": "3"}), json!({"limit": null})] {
        let answer = gateway.call("echo", odd);
        assert_eq!(reason(&answer), "rule_failed", "{answer}");
    }
}
