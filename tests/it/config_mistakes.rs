//! A file that is wrong starts nothing, and everything that is wrong with it is said at once.

use crate::support::{Setup, fixture, target};

/// The layout of the gateway that this one replaces, with every key it had.
const ORIGINAL: &str = r#"
[gateway]
listen = "127.0.0.1:9200"
health_listen = "127.0.0.1:9201"
log_level = "info"
audit_enabled = true

[auth]
jwt_secret_env = "JWT_SECRET_KEY"
jwt_issuer = "sentinel-gateway"
jwt_audience = "sentinel-api"

[postgres]
url_env = "DATABASE_URL"
max_connections = 10

[[backends]]
name = "n8n"
type = "http"
url = "http://127.0.0.1:3001"
timeout_secs = 60
retries = 3
restart_on_exit = false
health_interval_secs = 300
circuit_breaker_threshold = 5
circuit_breaker_recovery_secs = 30

[[backends]]
name = "context7"
type = "stdio"
command = "node"
args = ["index.js"]
env = { API_KEY = "${CONTEXT7_KEY}", LANG = "C" }
restart_on_exit = true
max_restarts = 5

[rbac.roles.admin]
permissions = ["*"]
denied_tools = []

[rbac.roles.viewer]
permissions = ["tools.read"]
denied_tools = ["execute_workflow"]

[rate_limits]
default_rpm = 1000

[rate_limits.per_tool]
execute_workflow = 10

[kill_switch]
disabled_tools = []
disabled_backends = ["n8n"]
"#;

/// Both a start and `check` refuse it with these words, each at its place.
fn refused(setup: &Setup, words: &[&str]) {
    for args in [&[][..], &["check"]] {
        let (status, errors) = setup.refused(args);
        assert_eq!(status, Some(2), "{args:?}: {errors}");
        for word in words {
            assert!(errors.contains(word), "{args:?}: {word:?} is not in:\n{errors}");
        }
    }
}

#[test]
fn the_original_layout_loads_as_it_is() {
    let output = Setup::new().whole(ORIGINAL).env("CONTEXT7_KEY", "c7").run(&["check"]);
    let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(text.contains("is in order") && text.contains("n8n") && text.contains("context7"), "{text}");
    assert!(text.contains("DATABASE_URL is not set"), "{text}");
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = ORIGINAL
        .replace("listen = \"127.0.0.1:9200\"", "listn = \"127.0.0.1:9200\"")
        .replace("timeout_secs = 60", "timeout_secs = 0")
        .replace("name = \"context7\"", "name = \"n8n\"")
        .replace("disabled_backends = [\"n8n\"]", "disabled_backends = [\"n9n\"]");
    let setup = Setup::new().whole(&text).without_env("JWT_SECRET_KEY").without_env("SENTINEL_TOKEN");
    refused(
        &setup,
        &[
            "sentinel.toml:3: gateway.listn: unknown key",
            "did you mean listen?",
            "JWT_SECRET_KEY is not set",
            "SENTINEL_TOKEN is not set",
            "timeout_secs: must be more than 0",
            "backends[1].name: backends[0] is called \"n8n\" as well",
            "CONTEXT7_KEY is not set",
            "there is no backend \"n9n\"",
        ],
    );
}

#[test]
fn plugins_that_are_missing_or_not_the_pinned_ones_are_refused_together() {
    let zeros = "0".repeat(64);
    let setup = Setup::echo().more(&format!(
        "[[plugins]]\nname = \"office\"\nstage = \"guard\"\nwasm = \"nowhere.wasm\"\n\
         [[plugins]]\nname = \"rbac\"\nsha256 = \"{zeros}\"\n"
    ));
    refused(&setup, &["plugins.office", "nowhere.wasm", "plugins.rbac", "SHA-256", &zeros]);
}

#[test]
fn a_plugin_that_dislikes_its_configuration_refuses_with_the_key() {
    let tag = target().join("guests/tag.wasm");
    assert!(tag.exists(), "run `cargo xtask build --guests`");
    let setup = Setup::echo().more(&format!(
        "[[plugins]]\nname = \"tag\"\nstage = \"guard\"\nwasm = {:?}\nconfig = {{ deny_tool = [\"x\"] }}\n",
        tag.to_str().unwrap()
    ));
    refused(&setup, &["deny_tool", "tag"]);
    let setup = Setup::echo().roles("[rbac.roles.admin]\npermissions = [\"tools.exekute\"]");
    refused(&setup, &["rbac.roles.admin.permissions", "tools.execute"]);
}

#[test]
fn a_syntax_error_and_a_missing_file_are_mistakes_too() {
    refused(&Setup::new().whole("[gateway\n"), &["sentinel.toml:1"]);
    let setup = Setup::new();
    let mut command = setup.command(&["check"]);
    std::fs::remove_file(setup.path("sentinel.toml")).unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be read"));
}

#[test]
fn a_file_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::echo();
    let mut command = setup.command(&["check"]);
    let path = setup.path("sentinel.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("may write to it"));
}

#[test]
fn check_starts_nothing_and_probe_starts_every_backend() {
    let setup = Setup::new();
    let pid = setup.text("pid");
    let setup = setup.backend("echo", &["--pid-file", &pid], "").backend("dead", &["--nonsense"], "");
    let output = setup.run(&["check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!setup.path("pid").exists(), "check started {}", fixture().display());
    let output = setup.run(&["check", "--probe"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("18 tools") && text.contains("DOWN"), "{text}");
    assert!(setup.path("pid").exists());
}
