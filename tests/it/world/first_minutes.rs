//! The first five minutes: a file out of the one that everybody has, a check that finds what would not work, servers that
//! get what programs need.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Gateway, SECRET, Setup, fixture, mint};

/// A program of this name in a folder that is the whole `PATH`; it runs the server of the tests.
fn with_programs(setup: Setup, names: &[&str]) -> Setup {
    let bin = setup.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    for name in names {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\nexec '{}' stdio\n", fixture().display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = bin.to_str().unwrap().to_owned();
    setup.env("PATH", &path)
}

const CLAUDE: &str = r#"{ "mcpServers": {
  "files": { "command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/srv/data"] },
  "github": { "command": "npx", "args": ["-y", "@modelcontextprotocol/server-github"], "env": { "GITHUB_TOKEN": "${GITHUB_TOKEN}" } },
  "notes": { "type": "http", "url": "https://mcp.example.org/mcp", "headers": { "Authorization": "Bearer ${NOTES_KEY:-none}" } },
  "two words": { "type": "streamable-http", "url": "https://two.example.org/mcp", "disabled": true } } }
"#;

#[test]
fn mcp_servers_json() {
    let setup =
        with_programs(Setup::new(), &["npx"]).without_env("JWT_SECRET_KEY").without_env("SENTINEL_TOKEN");
    std::fs::write(setup.path("claude.json"), CLAUDE).unwrap();
    let (code, printed, said) = setup.bare(&["import", "claude.json"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        printed,
        r#"# Made by `sentinel-gateway import` from claude.json.
# Every key there is: config/sentinel.toml of the gateway. Check a change before it is used: sentinel-gateway check

[gateway]
health_listen = "off"    # every client starts a gateway of its own; they cannot share a port

[auth]
mode = "local"    # for one person on one machine: everybody who can start the gateway may use it
role = "admin"

[rbac.roles.admin]
permissions = ["*"]
# denied_tools = ["write_*", "files/delete_file"]    # what it may not do nevertheless

[[backends]]
name = "files"
type = "stdio"
command = "npx"
args = ["-y", "@modelcontextprotocol/server-filesystem", "/srv/data"]

[[backends]]
name = "github"
type = "stdio"
command = "npx"
args = ["-y", "@modelcontextprotocol/server-github"]
env = { GITHUB_TOKEN = "${GITHUB_TOKEN}" }
optional = true

[[backends]]
name = "notes"
type = "http"
url = "https://mcp.example.org/mcp"
headers = { Authorization = "Bearer ${NOTES_KEY:-none}" }
optional = true

# "two words" in claude.json
# switched off in claude.json
# [[backends]]
# name = "two-words"
# type = "http"
# url = "https://two.example.org/mcp"
"#
    );
    assert_eq!(
        said,
        "3 servers, and 1 as comments because they are switched off\n\
         \"two words\" is two-words here\n\
         not set here: GITHUB_TOKEN; a server whose variable is missing is left out until it is set\n"
    );
    let (code, _, said) = setup.bare(&["import", "claude.json", "--output", "gateway.toml"]);
    assert_eq!(code, Some(0), "{said}");
    let setup = setup.env("GITHUB_TOKEN", "ghp_0123456789");
    let (code, said, errors) = setup.bare(&["check", "--config", "gateway.toml"]);
    assert_eq!(code, Some(0), "{said}{errors}");
    assert!(said.starts_with("gateway.toml is in order\n  the caller on stdio is "), "{said}");
    // It is no file for show: the server it names answers.
    let text = std::fs::read_to_string(setup.path("gateway.toml")).unwrap();
    let mut gateway = Gateway::start(setup.whole(&text));
    gateway.await_tool("github_echo");
    for tool in ["echo", "github_echo"] {
        assert!(gateway.call(tool, json!({"text": "x"}))["result"].is_object(), "{tool}");
    }
    gateway.end();
}

#[test]
fn what_a_clients_file_does_not_say_in_our_words_is_named() {
    let setup = Setup::new();
    std::fs::write(setup.path("claude.json"), CLAUDE).unwrap();
    let (code, _, said) = setup.bare(&["check", "--config", "claude.json"]);
    assert!(
        code == Some(2) && said.contains("`sentinel-gateway import claude.json --output sentinel.toml`"),
        "{said}"
    );
    let text = "[mcpServers.x]\ncommand = \"x\"\n[[backends]]\nname = \"a\"\ntype = \"streamable-http\"\nurl = \"http://127.0.0.1/\"\n";
    let (code, said) = setup.whole(text).refused(&["check"]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("mcpServers: unknown key\n  hint: this is how MCP clients list their servers"),
        "{said}"
    );
    assert!(said.contains("backends[0].type: ") && said.contains("hint: did you mean http?"), "{said}");
}

#[test]
fn secrets_of_a_clients_file_become_variables() {
    let setup = with_programs(Setup::new(), &["npx", "uvx"]);
    let text = r#"{
      // Two accounts, and a key in an address.
      "servers": {
        "work": { "command": "npx", "args": ["x"], "env": { "GITHUB_TOKEN": "ghp_workworkworkwork" } },
        "home": { "command": "npx", "args": ["y"], "env": { "GITHUB_TOKEN": "ghp_homehomehomehome" } },
        "maps": { "command": "uvx", "args": ["mcp-remote", "https://maps.example.org/mcp?api_key=k-4711-k-4711"] },
        "crm": { "url": "https://crm.example.org/mcp", "headers": { "Authorization": "Bearer abc.def-ghi" } },
      },
      "inputs": [],
    }"#;
    std::fs::write(setup.path("mcp.json"), text).unwrap();
    let arguments = ["import", "mcp.json", "--output", "made.toml", "--env-file", "made.env"];
    let (code, printed, said) = setup.bare(&arguments);
    assert_eq!((code, printed.as_str()), (Some(0), ""), "{said}");
    let made = std::fs::read_to_string(setup.path("made.toml")).unwrap();
    let env = std::fs::read_to_string(setup.path("made.env")).unwrap();
    for secret in ["ghp_workworkworkwork", "ghp_homehomehomehome", "k-4711-k-4711", "abc.def-ghi"] {
        assert!(!made.contains(secret) && !said.contains(secret), "{secret} is in\n{made}\n{said}");
        assert!(env.contains(secret), "{secret} is not in\n{env}");
    }
    for file in ["made.toml", "made.env"] {
        let mode = std::fs::metadata(setup.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    for line in [
        "GITHUB_TOKEN = \"${GITHUB_TOKEN}\"",
        "GITHUB_TOKEN = \"${HOME_GITHUB_TOKEN}\"",
        "Bearer ${CRM_TOKEN}",
    ] {
        assert!(made.contains(line), "{line} is not in\n{made}");
    }
    // Without a file for them it is said where each stands.
    let (_, _, said) = setup.bare(&["import", "mcp.json"]);
    assert!(said.contains("export CRM_TOKEN='…'    # mcp.json: servers.crm.headers.Authorization"), "{said}");
    // The gateway is content with the variables set, and with none of them: then the servers are left out.
    let (code, said, _) = setup.bare(&["check", "--config", "made.toml"]);
    assert!(
        code == Some(0) && said.contains("CRM_TOKEN is not set, so crm is left out (optional = true)"),
        "{said}"
    );
    let mut setup = setup;
    for line in env.lines() {
        let (name, value) = line.split_once('=').unwrap();
        setup = setup.env(name, value.trim_matches('\''));
    }
    let (code, said, _) = setup.bare(&["check", "--config", "made.toml"]);
    assert!(code == Some(0) && !said.contains("is left out"), "{said}");
}

#[test]
fn servers_are_added_to_a_file_that_is_there() {
    let setup = with_programs(Setup::new(), &["npx"]);
    std::fs::write(setup.path("claude.json"), CLAUDE).unwrap();
    let own = "# mine\n[auth]\nmode = \"local\"\nrole = \"me\"\n[rbac.roles.me]\npermissions = [\"*\"]\n\n[[backends]]\nname = \"files\"   # first\ncommand = \"npx\"";
    let path = setup.path("own.toml");
    std::fs::write(&path, own).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, _, said) = setup.bare(&["import", "claude.json", "-o", "own.toml"]);
    assert!(code == Some(1) && said.contains("--add") && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), own, "nothing was touched");
    let (code, _, said) = setup.bare(&["import", "claude.json", "-o", "own.toml", "--add"]);
    assert_eq!(code, Some(0), "{said}");
    let now = std::fs::read_to_string(&path).unwrap();
    assert!(
        now.starts_with(own) && now.contains("name = \"files-2\"") && now.contains("name = \"github\""),
        "{now}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(backup(&setup, "own.toml."), own);
    let setup = setup.env("GITHUB_TOKEN", "ghp_0123456789");
    let (code, said, errors) = setup.bare(&["check", "--config", "own.toml"]);
    assert_eq!(code, Some(0), "{said}{errors}");
}

/// What is in the copy whose name begins so.
fn backup(setup: &Setup, beginning: &str) -> String {
    let copies = std::fs::read_dir(setup.path("")).unwrap().flatten().map(|entry| entry.path());
    let mut copies = copies.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(beginning) && name.ends_with(".bak")
    });
    std::fs::read_to_string(copies.next().unwrap()).unwrap()
}

#[test]
fn what_a_client_kept_back_is_kept_back() {
    let setup = with_programs(Setup::new(), &["npx"]);
    let text = r#"{ "mcpServers": {
        "a": { "command": "npx", "excludeTools": ["fail"] },
        "b": { "command": "npx", "includeTools": ["echo", "fail"] } } }"#;
    std::fs::write(setup.path("settings.json"), text).unwrap();
    let (code, made, said) = setup.bare(&["import", "settings.json"]);
    assert_eq!(code, Some(0), "{said}");
    let mut gateway = Gateway::start(setup.whole(&made));
    gateway.await_tool("b_echo");
    gateway.await_tool("echo");
    let tools = gateway.tools();
    assert!(!tools.contains(&"fail".to_owned()), "{tools:?}");
    let of_b: Vec<&String> = tools.iter().filter(|tool| tool.starts_with("b_")).collect();
    assert_eq!(of_b, ["b_echo", "b_fail"], "{tools:?}");
    gateway.end();
}

#[test]
fn init_writes_files_that_start() {
    let setup =
        with_programs(Setup::new(), &["npx"]).without_env("JWT_SECRET_KEY").without_env("SENTINEL_TOKEN");
    std::fs::write(setup.path("claude.json"), CLAUDE).unwrap();
    for (file, more) in [
        ("a.toml", &["--yes"][..]),
        ("b.toml", &["--import", "claude.json"]),
        ("c.toml", &["--http"]),
        ("d.toml", &["--http", "--mode", "jwt", "--role", "boss"]),
        ("e.toml", &["--mode", "jwt"]),
    ] {
        let (code, printed, said) = setup.bare(&[&["init", "--config", file], more].concat());
        assert_eq!((code, printed.as_str()), (Some(0), ""), "{file}: {said}");
        assert!(said.contains(&format!("check --probe --config {}", setup.text(file))), "{said}");
        let token = setup.bare(&["token", "mint", "--sub", "ann", "--role", "admin", "--config", file]).1;
        let holder = Holder(&setup, token.trim());
        let (code, said, errors) = holder.check(file);
        assert_eq!(code, Some(0), "{file}: {said}{errors}");
        let (code, _, said) = setup.bare(&["init", "--config", file, "--yes"]);
        assert!(code == Some(1) && said.contains("--force"), "{said}");
    }
    let key = std::fs::metadata(setup.path("d.key")).unwrap();
    assert_eq!((key.permissions().mode() & 0o777, key.len()), (0o600, 65));
    let keys = ["d.key", "e.key"].map(|file| std::fs::read_to_string(setup.path(file)).unwrap());
    assert_ne!(keys[0], keys[1]);
}

/// Somebody with a token, or with none.
struct Holder<'a>(&'a Setup, &'a str);

impl Holder<'_> {
    fn check(&self, file: &str) -> (Option<i32>, String, String) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sentinel-gateway"));
        command.args(["check", "--config", file]).current_dir(self.0.path("")).stdin(Stdio::null());
        command.env_clear().env("HOME", self.0.path("")).env("PATH", self.0.path("bin"));
        if !self.1.is_empty() {
            command.env("SENTINEL_TOKEN", self.1);
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

/// Runs a command on a terminal of its own. As soon as a text is seen there, the next one is typed, or a file made whose name
/// begins with `>`. Returns the exit code, and all that was seen.
fn terminal(setup: &Setup, args: &[&str], steps: &[(&str, &str)]) -> (Option<i32>, String) {
    let script = r#"
import json, os, pty, sys
steps = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[2], sys.argv[2:])
seen, since = b"", 0
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        break
    if not piece:
        break
    seen += piece
    while steps and (at := seen.find(steps[0][0].encode(), since)) >= 0:
        since = at + len(steps[0][0].encode())
        step = steps.pop(0)[1]
        if step.startswith(">"):
            open(step[1:], "w").close()
        else:
            os.write(terminal, step.encode())
os.write(1, seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", script, &json!(steps).to_string(), env!("CARGO_BIN_EXE_sentinel-gateway")])
        .args(args);
    command.current_dir(setup.path("")).env("HOME", setup.path("")).env("XDG_STATE_HOME", setup.path(""));
    for name in ["SENTINEL_TOKEN", "JWT_SECRET_KEY"] {
        command.env(name, setup.env_value(name));
    }
    let output = command
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("CLAUDE_CONFIG_DIR")
        .env_remove("CODEX_HOME")
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), seen)
}

#[test]
fn init_asks_on_a_terminal() {
    let setup = Setup::new();
    std::fs::create_dir(setup.path(".cursor")).unwrap();
    std::fs::write(setup.path(".cursor/mcp.json"), CLAUDE).unwrap();
    // A person who answers: for themselves, over HTTP, something that means nothing, and yes.
    let answers = [
        ("Who may use it?", "1\n"),
        ("How do clients come?", "2\n"),
        ("Take the 3 servers", "x\n"),
        ("a number from 1 to 2", "\n"),
    ];
    let (code, seen) = terminal(&setup, &["init", "--config", "asked.toml"], &answers);
    assert_eq!(code, Some(0), "{seen}");
    let made = std::fs::read_to_string(setup.path("asked.toml")).unwrap();
    for part in ["[http]", "allow_local = true", "mode = \"local\"", "name = \"github\""] {
        assert!(made.contains(part), "{part} is not in\n{made}\n{seen}");
    }
    // Without a usable answer nothing is written.
    let answers = [("Who may use it?", "x\n"), ("[1]", "y\n"), ("[1]", "z\n")];
    let (code, seen) = terminal(&setup, &["init", "--config", "other.toml"], &answers);
    assert!(code == Some(1) && seen.contains("nothing was written"), "{seen}");
    assert!(!setup.path("other.toml").exists());
}

#[test]
fn the_probe_says_on_a_terminal_what_it_waits_for() {
    let wait = "while not os.path.exists('go'):\n    time.sleep(0.02)";
    let setup = Setup::new().scripted("late", wait, "timeout_secs = 60\n").scripted("prompt", "", "");
    let config = setup.write();
    let steps = [("up, 1 tool", ""), ("waiting for late", ">go")];
    let (code, seen) = terminal(&setup, &["check", "--probe", "--config", config.to_str().unwrap()], &steps);
    assert_eq!(code, Some(0), "{seen}");
    assert_eq!(seen.matches("up, 1 tool").count(), 2, "{seen}");
}

#[test]
fn check_lets_a_bad_token_pass() {
    let check = |setup: &Setup| {
        let output = setup.run(&["check"]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let good = Setup::new();
    let (code, said) = check(&good);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("  the caller on stdio is \"ann\" in the role \"admin\", until 2"), "{said}");
    let signed = |claims: serde_json::Value, key: &str| {
        let key = jsonwebtoken::EncodingKey::from_secret(key.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let now = jsonwebtoken::get_current_timestamp();
    let claims = |audience: &str, issuer: &str| json!({"sub": "ann", "role": "admin", "iss": issuer, "aud": audience, "exp": now + 60, "jti": "x"});
    let other = "another secret of at least 32 bytes";
    for (token, word) in [
        ("garbage".to_owned(), "token"),
        (signed(claims("sentinel-api", "sentinel-gateway"), other), "signature"),
        (signed(claims("elsewhere", "sentinel-gateway"), SECRET), "meant for another service"),
        (signed(claims("sentinel-api", "somebody"), SECRET), "issue"),
        (mint("ann", "admin", -3600), "expired"),
        (mint("ann", "nosuch", 3600), "\"nosuch\", which [rbac.roles] does not define"),
    ] {
        let setup = Setup::echo().env("SENTINEL_TOKEN", &token);
        let (code, said) = check(&setup);
        assert_eq!(code, Some(2), "{word}: {said}");
        assert!(
            said.contains("auth.token_env: the caller on stdio ") && said.contains(word),
            "{word}: {said}"
        );
        assert!(said.contains("hint: ") && !said.contains(&token), "{word}: {said}");
        // A start says the same, and leaves it to the client to show what it is answered.
        let gateway = Gateway::spawn(setup);
        gateway.await_log("the caller on stdio ", 1);
        let log = gateway.log();
        assert!(log.contains("ERROR") && log.contains("`sentinel-gateway check` says what to do"), "{log}");
        assert!(!log.contains(&token), "{log}");
    }
    let gateway = Gateway::start(Setup::echo());
    assert!(gateway.log().contains("the caller on stdio is"), "{}", gateway.log());
}

#[test]
fn a_token_for_a_role_that_is_not_there_is_warned_of() {
    let setup = Setup::new();
    let output = setup.run(&["token", "mint", "--sub", "a", "--role", "nosuch"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success()
            && said.contains("has no role \"nosuch\"")
            && said.contains("its roles are: admin"),
        "{said}"
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1, "the token and nothing else");
    let output = setup.run(&["token", "mint", "--sub", "a", "--role", "admin"]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_key_for_a_role_that_is_not_there_is_a_mistake() {
    let key = "api_keys = [{ id = \"ci\", role = \"amdin\", sha256 = \"42f33ee329370915c70d6054e0b20df827256d7674bc5332f16688828cf37905\" }]";
    let (code, said) = Setup::new().auth(key).refused(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    let words =
        "auth.api_keys[0].role: there is no role \"amdin\" in [rbac.roles]\n  hint: did you mean admin?";
    assert!(said.contains(words), "{said}");
}

#[test]
fn check_finds_what_the_machine_lacks() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let setup = with_programs(Setup::new(), &["npx"]);
    std::fs::write(setup.path("plain.sh"), "#!/bin/sh\n").unwrap();
    let plain = setup.text("plain.sh");
    let setup = setup.gateway(&format!("health_listen = \"127.0.0.1:{port}\"")).more(&format!(
        "[[backends]]\nname = \"good\"\ncommand = \"npx\"\n\
         [[backends]]\nname = \"unknown\"\ncommand = \"uvx\"\n\
         [[backends]]\nname = \"line\"\ncommand = \"npx -y thing\"\n\
         [[backends]]\nname = \"nowhere\"\ncommand = \"./no/such\"\n\
         [[backends]]\nname = \"plain\"\ncommand = {plain:?}\n\
         [[backends]]\nname = \"homeless\"\ncommand = \"npx\"\ncwd = \"no/folder\"\n"
    ));
    let output = setup.run(&["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "is in order",
        "missing on this machine",
        "backends.unknown.command: there is no program \"uvx\" in the folders of PATH\n    hint: install uv",
        "hint: no shell reads it: command = \"npx\", args = [\"-y\", \"thing\"]",
        "backends.nowhere.command: ./no/such: there is no such file",
        "plain.sh: it may not be run\n    hint: chmod +x ",
        "no/folder is not a folder\n    hint: mkdir -p ",
        &format!("warning: gateway.health_listen: somebody listens on 127.0.0.1:{port} already"),
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(!said.contains("backends.good"), "{said}");
    // The port of the door is another matter: the gateway that runs has it.
    let http = Setup::new().gateway(&format!("listen = \"127.0.0.1:{port}\"")).more("[http]");
    let output = http.run(&["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("gateway.listen: somebody listens on"), "{said}");
    let nowhere =
        Setup::new().gateway("listen = \"192.0.2.1:9200\"").more("[http]\nallowed_hosts = [\"a.example\"]");
    let output = nowhere.run(&["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.code() == Some(1) && said.contains("nobody could listen on 192.0.2.1:9200"),
        "{said}"
    );
}

#[test]
fn the_probe_prints_each_server_as_it_comes() {
    let wait = "while not os.path.exists('go'):\n    time.sleep(0.02)";
    let setup = Setup::new().scripted("late", wait, "timeout_secs = 60\n").scripted("prompt", "", "");
    let mut child =
        setup.command(&["check", "--probe"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = lines.find(|line| line.contains(" up, ") || line.contains("DOWN")).unwrap();
    assert!(first.contains("prompt") && first.contains("up, 1 tool"), "{first}");
    std::fs::write(setup.path("go"), "").unwrap();
    let second = lines.find(|line| line.contains(" up, ") || line.contains("DOWN")).unwrap();
    assert!(second.contains("late") && second.contains("up, 1 tool"), "{second}");
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
}

#[test]
fn a_backend_without_its_secret_is_left_out_only_if_it_is_optional() {
    let code = "open('started', 'w').write('')";
    let env = "env = { KEY = \"${MISSING_KEY}\", FILE = \"${file:missing.key}\" }\n";
    let setup = Setup::echo().scripted("srv", code, env);
    let (status, said) = setup.refused(&["check"]);
    assert!(
        status == Some(2) && said.contains("MISSING_KEY is not set") && said.contains("missing.key"),
        "{said}"
    );
    let setup = Setup::echo().unawaited().scripted("srv", code, &format!("{env}optional = true\n"));
    let mut gateway = Gateway::spawn(setup);
    gateway.request("initialize", &json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "it", "version": "1"}}));
    gateway.notify("notifications/initialized", &json!({}));
    gateway.await_log("MISSING_KEY is not set, so srv is left out (optional = true)", 1);
    gateway.await_tool("echo");
    assert!(gateway.call("echo", json!({"text": "x"}))["result"].is_object(), "the others serve");
    assert!(!gateway.setup.path("started").exists(), "a server that lacks its key is not started");
    gateway.end();
    let setup = gateway.into_setup();
    // A mistake stays one.
    let wrong = setup
        .more("[[backends]]\nname = \"bad\"\noptional = true\nenv = { A = \"${open\" }\ncommand = \"x\"\n");
    let (status, said) = wrong.refused(&["check"]);
    assert!(status == Some(2) && said.contains("a ${ without its }"), "{said}");
}

#[test]
fn a_variable_may_have_a_default() {
    let code = "def call(id, params):\n    text(id, json.dumps({k: v for k, v in os.environ.items() if k.startswith('V_')}))";
    let env = "env = { V_A = \"${SET_A:-other}\", V_B = \"${UNSET_B:-b c}\", V_C = \"x${EMPTY_C:-}y\", V_TOKEN = \"${UNSET_D:-none}\" }\n";
    let setup = Setup::new().scripted("srv", code, env).env("SET_A", "value-of-a").env("EMPTY_C", "");
    let output = setup.run(&["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !said.contains("warning"), "{said}");
    let mut gateway = Gateway::start(setup);
    let answer = gateway.call("echo", json!({}));
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    let seen: serde_json::Value = serde_json::from_str(text).unwrap();
    // What came out of the environment is a secret, and is not shown; a default is as public as the file.
    assert_eq!(seen["V_B"], "b c");
    assert_eq!((&seen["V_C"], &seen["V_TOKEN"]), (&json!("xy"), &json!("none")));
    assert_ne!(seen["V_A"], "other");
    gateway.end();
}

#[test]
fn servers_get_the_way_out_and_no_secret() {
    let code = "def call(id, params):\n    json.dump(dict(os.environ), open('env', 'w'))\n    text(id, 'written')\n\
                print('proxy is ' + os.environ['HTTPS_PROXY'], file=sys.stderr, flush=True)";
    let mut setup =
        Setup::new().scripted("srv", code, "env = { TMPDIR = \"/own\" }\n").env("LOG_LEVEL", "debug");
    let given = [
        ("HTTPS_PROXY", "http://ann:pr0xy-passw0rd@127.0.0.1:1"),
        ("no_proxy", "localhost"),
        ("NODE_EXTRA_CA_CERTS", "/etc/ca.pem"),
        ("SSL_CERT_FILE", "/etc/ca.pem"),
        ("LC_ALL", "C.UTF-8"),
        ("TMPDIR", "/elsewhere"),
        ("XDG_CACHE_HOME", ""),
    ];
    let cache = setup.text("cache");
    for (name, value) in given {
        setup = setup.env(name, if name == "XDG_CACHE_HOME" { &cache } else { value });
    }
    let secrets = [
        "HEALTH_TOKEN",
        "BACKEND_SHARED_SECRET",
        "GITHUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "NODE_OPTIONS",
        "SSH_AUTH_SOCK",
    ];
    for name in secrets {
        setup = setup.env(name, "hush-hush");
    }
    let mut gateway = Gateway::start(setup);
    gateway.call("echo", json!({}));
    let seen = std::fs::read_to_string(gateway.setup.path("env")).unwrap();
    let seen: std::collections::BTreeMap<String, String> = serde_json::from_str(&seen).unwrap();
    for (name, value) in given {
        let value = match name {
            "TMPDIR" => "/own",
            "XDG_CACHE_HOME" => &cache,
            _ => value,
        };
        assert_eq!(seen.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!seen.values().any(|value| value.contains("hush-hush") || value.contains(SECRET)), "{seen:?}");
    for name in ["SENTINEL_TOKEN", "JWT_SECRET_KEY"].iter().chain(&secrets) {
        assert!(!seen.contains_key(*name), "{name}");
    }
    // The proxy's password is in its address, and the server repeats it.
    gateway.await_log("proxy is http", 1);
    assert!(!gateway.log().contains("pr0xy-passw0rd"), "{}", gateway.log());
    gateway.end();
}

#[test]
fn shells_and_man_are_told_everything() {
    let setup = Setup::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, said) = setup.bare(&["completions", shell]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{shell}");
        for word in ["sentinel-gateway", "import", "install", "dry-run", "precompile"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let (_, script, _) = setup.bare(&["completions", "bash"]);
    std::fs::write(setup.path("c.bash"), script).unwrap();
    // What is hidden is not offered.
    let words = "source ./c.bash; f=$(complete -p sentinel-gateway | sed 's/.*-F \\([^ ]*\\).*/\\1/'); ask() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); $f sentinel-gateway \"${@: -1}\" y; echo \"${COMPREPLY[@]}\"; }\n\
                 ask sentinel-gateway client ins; ask sentinel-gateway conf";
    let output =
        std::process::Command::new("bash").args(["-c", words]).current_dir(setup.path("")).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "install\nconfig\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (code, page, _) = setup.bare(&["man"]);
    assert!(code == Some(0) && page.contains(".TH") && page.contains("SUBCOMMANDS"), "{page:.300}");
    let (code, _, said) = setup.bare(&["man", "--dir", "pages"]);
    assert_eq!(code, Some(0), "{said}");
    let pages = setup.files("pages");
    assert!(pages.iter().any(|page| page.ends_with("sentinel-gateway-client-install.1")), "{pages:?}");
}
