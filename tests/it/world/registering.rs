//! Registering the gateway with clients: what goes into their files, and nothing else changes there.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Gateway, Setup, eventually};

/// Each client with its file, from the home of its user, and the key of its servers.
const CLIENTS: [(&str, &str, &str); 10] = [
    ("claude-code", ".claude.json", "mcpServers"),
    ("claude-desktop", ".config/Claude/claude_desktop_config.json", "mcpServers"),
    ("cursor", ".cursor/mcp.json", "mcpServers"),
    ("vscode", ".config/Code/User/mcp.json", "servers"),
    ("codex", ".codex/config.toml", "mcp_servers"),
    ("windsurf", ".codeium/windsurf/mcp_config.json", "mcpServers"),
    ("gemini", ".gemini/settings.json", "mcpServers"),
    ("lmstudio", ".lmstudio/mcp.json", "mcpServers"),
    ("zed", ".config/zed/settings.json", "context_servers"),
    (
        "cline",
        ".config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        "mcpServers",
    ),
];

/// A gateway over HTTP, whose callers bring tokens.
fn over_http() -> Setup {
    Setup::new().gateway("listen = \"127.0.0.1:9200\"").more("[http]")
}

fn said(setup: &Setup, args: &[&str]) -> (Option<i32>, String, String) {
    let output = setup.run(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The entry in a client's file.
fn entry(file: &PathBuf, servers: &str) -> Value {
    let text = std::fs::read_to_string(file).unwrap();
    let whole: Value = if file.extension().is_some_and(|kind| kind == "toml") {
        let table: toml::Table = toml::from_str(&text).unwrap();
        serde_json::to_value(table).unwrap()
    } else {
        serde_json::from_str(&text).unwrap()
    };
    whole[servers]["sentinel"].clone()
}

#[test]
fn client_config_for_http() {
    let setup = over_http();
    for (client, ..) in CLIENTS {
        let (code, printed, told) = said(&setup, &["client", "config", client]);
        assert_eq!(code, Some(0), "{client}: {told}");
        assert!(
            printed.contains("http://127.0.0.1:9200/mcp") && printed.contains("SENTINEL_TOKEN"),
            "{printed}"
        );
        for text in [&printed, &told] {
            assert!(!text.contains("JWT_SECRET_KEY") && !text.contains("--config"), "{client}: {text}");
        }
        let token = setup.env_value("SENTINEL_TOKEN");
        assert!(!printed.contains(&token), "{client}: the token itself stays where it is");
    }
    let (_, printed, _) = said(&setup, &["client", "config", "claude"]);
    let expected = json!({"mcpServers": {"sentinel": {
        "type": "http", "url": "http://127.0.0.1:9200/mcp", "headers": {"Authorization": "Bearer ${SENTINEL_TOKEN}"},
    }}});
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), expected);
    // One person on one machine needs no token; behind a proxy the address is another; who signs in needs no header.
    let local = Setup::new().auth("mode = \"local\"\nrole = \"admin\"").more("[http]\nallow_local = true");
    let (_, printed, _) = said(&local, &["client", "config", "cursor"]);
    assert!(printed.contains("http://127.0.0.1:9200/mcp") && !printed.contains("headers"), "{printed}");
    let (_, printed, _) =
        said(&setup, &["client", "config", "cursor", "--url", "https://mcp.example.org/mcp"]);
    assert!(printed.contains("https://mcp.example.org/mcp") && !printed.contains("127.0.0.1"), "{printed}");
    let oauth = Setup::new().more(
        "[http]\n[http.oauth]\nresource = \"https://mcp.example.org/mcp\"\nauthorization_servers = [\"https://login.example.org\"]",
    );
    let (_, printed, told) = said(&oauth, &["client", "config", "vscode"]);
    assert!(printed.contains("https://mcp.example.org/mcp") && !printed.contains("headers"), "{printed}");
    assert!(told.contains("signs in"), "{told}");
}

#[test]
fn a_client_that_starts_a_gateway_for_http_is_told_where_to_go() {
    let setup = Setup::new().gateway("listen = \"127.0.0.1:0\"").more("[http]");
    let mut gateway = Gateway::spawn(setup);
    gateway.await_log(
        "standard input is a pipe, and nobody is served there: this gateway serves http://127.0.0.1:",
        1,
    );
    let info = json!({"name": "it", "version": "1"});
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
    let answer = gateway.request("initialize", &hello);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("serves HTTP at http://127.0.0.1:"), "{answer}");
    assert_eq!(answer["error"]["data"]["reason"], "served_over_http");
    // It does not outlive the client that started it, which would keep the port.
    gateway.hang_up();
    assert!(gateway.wait_exit().success(), "{}", gateway.log());
    // Who starts it with a pipe and says nothing, as some supervisors do, may close it.
    let mut gateway = Gateway::spawn(gateway.into_setup());
    gateway.await_log("standard input is a pipe", 1);
    gateway.hang_up();
    let log = gateway.log();
    let address = log.split_once("listening on http://").unwrap().1.split_once("/mcp").unwrap().0.to_owned();
    eventually("its health, still", || {
        crate::support::get(&address, "/mcp/health", None).filter(|health| health.status == 200)
    });
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait_exit().success());
}

#[test]
fn ten_clients_get_and_lose_an_entry() {
    let setup = Setup::echo();
    for (client, file, servers) in CLIENTS {
        let file = setup.path(file);
        let (code, printed, told) = said(&setup, &["client", "install", client]);
        assert_eq!((code, printed.as_str()), (Some(0), ""), "{client}: {told}");
        assert!(told.contains(&format!("{} was changed", file.display())), "{client}: {told}");
        let written = entry(&file, servers);
        assert!(written["command"].as_str().unwrap().ends_with("/sentinel-gateway"), "{client}: {written}");
        assert_eq!(written["args"], json!(["--config", setup.text("sentinel.toml")]), "{client}");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("SENTINEL_TOKEN") && !text.contains("JWT_SECRET_KEY"), "{client}: {text}");
        assert!(told.contains("not among them: JWT_SECRET_KEY"), "{client}: {told}");
        let (code, _, told) = said(&setup, &["client", "install", client]);
        assert!(code == Some(0) && told.contains("nothing was changed"), "{client}: {told}");
        let (code, _, told) = said(&setup, &["client", "remove", client]);
        assert_eq!(code, Some(0), "{client}: {told}");
        assert_eq!(entry(&file, servers), Value::Null, "{client}");
        let (code, _, told) = said(&setup, &["client", "remove", client]);
        assert!(code == Some(0) && told.contains("has no server called \"sentinel\""), "{client}: {told}");
    }
}

#[test]
fn every_variable_the_servers_need_and_no_key_that_signs() {
    let setup = Setup::new()
        .scripted("a", "", "env = [\"GITHUB_TOKEN\", \"UNSET_TOKEN\"]\n")
        .http("b", "http://127.0.0.1:1/mcp", "headers = { Authorization = \"Bearer ${NOTES_KEY}\", X-Else = \"${ELSE:-none}\" }\n")
        .auth("keys = [{ alg = \"HS256\", kid = \"old\", secret_env = \"OLD_KEY\" }]\njwt_secret_env = \"JWT_SECRET_KEY\"\napi_keys = [{ id = \"ci\", role = \"admin\", secret_env = \"CI_KEY\" }]")
        .env("GITHUB_TOKEN", "ghp_0123456789")
        .env("HTTPS_PROXY", "http://127.0.0.1:3128")
        .env("DATABASE_URL", "postgres://u:p@127.0.0.1/d");
    let (code, printed, told) = said(&setup, &["client", "config", "codex"]);
    assert_eq!(code, Some(0), "{told}");
    let names = r#"env_vars = ["DATABASE_URL", "GITHUB_TOKEN", "HTTPS_PROXY", "NOTES_KEY", "SENTINEL_TOKEN", "UNSET_TOKEN"]"#;
    assert!(printed.contains(names), "{printed}");
    assert!(told.contains("not among them: CI_KEY, JWT_SECRET_KEY, OLD_KEY"), "{told}");
    // Values are written only if somebody wants it, and only those that are there.
    let (_, printed, _) = said(&setup, &["client", "config", "zed", "--values"]);
    let env = serde_json::from_str::<Value>(&printed).unwrap()["context_servers"]["sentinel"]["env"].clone();
    assert_eq!(
        (&env["GITHUB_TOKEN"], &env["UNSET_TOKEN"]),
        (&json!("ghp_0123456789"), &json!("<value of UNSET_TOKEN>"))
    );
    // A file with a mistake is told about, instead of an entry that cannot work.
    let (code, _, told) = said(&setup.more("[gatway]\n"), &["client", "config", "zed"]);
    assert!(code == Some(2) && told.contains("gatway"), "{told}");
}

#[test]
fn what_else_is_in_a_clients_file_stays_as_it_is() {
    let setup = Setup::echo();
    let file = setup.path(".config/zed/settings.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = "// Zed, mine\n{\n  \"theme\": \"One Dark\", // night\n  \"context_servers\": {\n    /* the notes */\n    \"notes\": { \"command\": \"n\" },\n  },\n}\n";
    std::fs::write(&file, text).unwrap();
    // A dry run shows it and changes nothing.
    let (code, printed, told) = said(&setup, &["client", "install", "zed", "--dry-run"]);
    assert!(code == Some(0) && told.contains("would change"), "{told}");
    assert!(printed.contains("+    \"sentinel\": {") && !printed.contains("theme"), "{printed}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    let (code, _, told) = said(&setup, &["client", "install", "zed"]);
    assert_eq!(code, Some(0), "{told}");
    let now = std::fs::read_to_string(&file).unwrap();
    for kept in [
        "// Zed, mine\n{\n  \"theme\": \"One Dark\", // night\n",
        "/* the notes */\n    \"notes\": { \"command\": \"n\" },",
    ] {
        assert!(now.contains(kept), "{now}");
    }
    let copy = told.lines().find_map(|line| line.strip_prefix("what it was is in ")).unwrap();
    assert_eq!(std::fs::read_to_string(copy).unwrap(), text);
    let (code, _, told) = said(&setup, &["client", "remove", "zed"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("/* the notes */"));
    // TOML, with comments, in a file that is kept elsewhere and linked to.
    let (link, real) = (setup.path(".codex/config.toml"), setup.path("dotfiles.toml"));
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    let text =
        "model = \"o\" # the good one\n\n[mcp_servers.docs]\nurl = \"https://docs.example.org/mcp\" # kept\n";
    std::fs::write(&real, text).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let (code, _, told) = said(&setup, &["client", "install", "codex"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("{} is a link to {}", link.display(), real.display())), "{told}");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(std::fs::read_to_string(&real).unwrap().starts_with(text));
}

#[test]
fn what_is_somebody_elses_or_broken_is_not_touched() {
    let setup = Setup::echo();
    let file = setup.path("mcp.json");
    let name = setup.text("mcp.json");
    let install =
        |more: &[&str]| said(&setup, &[&["client", "install", "cursor", "--file", &name], more].concat());
    for (text, why) in [
        ("{ \"mcpServers\": {", "not JSON"),
        ("[1]", "does not hold a JSON object"),
        ("{ \"mcpServers\": 5 }", "is not an object"),
        (
            "{ \"mcpServers\": { \"sentinel\": { \"command\": \"other\" } } }",
            "another server called \"sentinel\"",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let (code, _, told) = install(&[]);
        assert!(code == Some(1) && told.contains(why), "{text}: {told}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    let (code, _, told) = install(&["--force"]);
    assert_eq!(code, Some(0), "{told}");
    // A link that leads nowhere, a folder, and a place where nothing can be written.
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("nowhere.json", &file).unwrap();
    let (code, _, told) = install(&[]);
    assert!(code == Some(1) && told.contains("is a link to nowhere.json, which does not exist"), "{told}");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let (code, _, told) = install(&[]);
    assert!(code == Some(1) && told.contains("not an ordinary file"), "{told}");
    let (code, _, told) = said(&setup, &["client", "install", "lmstudio", "--project"]);
    assert!(code == Some(1) && told.contains("LM Studio has no file of its own in a project"), "{told}");
    // A project's file stands in the folder where the command runs.
    let (code, _, told) = said(&setup, &["client", "install", "claude", "--project", "--name", "gate"]);
    assert_eq!(code, Some(0), "{told}");
    let text = std::fs::read_to_string(setup.path(".mcp.json")).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(whole["mcpServers"]["gate"]["env"]["SENTINEL_TOKEN"], "${SENTINEL_TOKEN}");
}
