//! What `plugin new` makes builds and passes its own cases, for every role; the guard's is the walk of `plugins/README.md`.

use super::made::{built, run};

#[test]
fn a_new_project_builds_and_passes_its_cases() {
    for (role, exports) in [("rewriter", "rewriting"), ("authenticator", "authentication")] {
        let wasm = built(role);
        let project = wasm.ancestors().nth(2).unwrap();
        let file = wasm.to_str().unwrap();
        let (passed, said) = run(project, &["plugin", "test", file, "--cases", "cases.toml"]);
        assert!(passed && said.contains("cases passed"), "{role}: {said}");
        let (_, said) = run(project, &["plugin", "inspect", file]);
        assert!(
            said.contains(&format!("roles    {exports}")) && said.contains("pure     yes"),
            "{role}: {said}"
        );
    }
}

#[test]
fn a_case_that_does_not_hold_says_what_came_instead() {
    let wasm = built("rewriter");
    let project = wasm.ancestors().nth(2).unwrap();
    let cases = r#"
[config]
argument = "limit"
most = 100
[[cases]]
name = "too much is wanted of it"
call = { tool = "search", arguments = { limit = 500 } }
expect = { verdict = "unchanged", arguments = { limit = 500 }, notes = { capped = "7" }, fuel = 10 }
"#;
    std::fs::write(project.join("wrong.toml"), cases).unwrap();
    let (passed, said) = run(project, &["plugin", "test", wasm.to_str().unwrap(), "--cases", "wrong.toml"]);
    assert!(!passed, "{said}");
    for part in [
        "the verdict is changed, not unchanged",
        r#"arguments is {"limit":100}, not {"limit":500}"#,
        r#"notes.capped is "100", not "7""#,
        "steps, and may take 10",
        "1 of 1 cases failed",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    std::fs::write(project.join("wrong.toml"), "[[cases]]\nnome = \"x\"\n").unwrap();
    let (passed, said) = run(project, &["plugin", "test", wasm.to_str().unwrap(), "--cases", "wrong.toml"]);
    assert!(!passed && said.contains("unknown field `nome`"), "{said}");
}

#[test]
fn a_configuration_that_the_plugin_refuses_is_named_at_its_key() {
    let wasm = built("rewriter");
    let project = wasm.ancestors().nth(2).unwrap();
    let cases = "[config]\nargument = \"\"\nmost = 1\nhide = [\"x\"]\n[[cases]]\nname = \"x\"\nexpect = { verdict = \"changed\" }\n";
    std::fs::write(project.join("refused.toml"), cases).unwrap();
    let (passed, said) = run(project, &["plugin", "test", wasm.to_str().unwrap(), "--cases", "refused.toml"]);
    assert!(!passed, "{said}");
    assert!(
        said.contains("config.argument: is no name") && said.contains("config.hide.0: is no JSON pointer"),
        "{said}"
    );
}

/// The shipped plugins that need no build step of their operator are asked like one's own, with the most steps they may take.
#[test]
fn the_cases_of_shipped_plugins_hold() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for name in ["cel-policy", "redact-pii"] {
        let wasm = crate::support::target().join(format!("debug/plugins/{name}.wasm"));
        let cases = root.join(format!("plugins/{name}/cases.toml"));
        let (passed, said) =
            run(root, &["plugin", "test", wasm.to_str().unwrap(), "--cases", cases.to_str().unwrap()]);
        assert!(passed, "{name}: {said}");
    }
}
