//! Whole files, read and judged.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;

const MINIMAL: &str = include_str!("../../../config/minimal.toml");
const SENTINEL: &str = include_str!("../../../config/sentinel.toml");
const SCHEMA: &str = include_str!("../../../config/schema.json");

/// The layout of the gateway this one replaces.
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

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "HOME" => "/home/ann",
        "JWT_SECRET_KEY" => SECRET,
        "SENTINEL_TOKEN" => "header.payload.signature",
        "DATABASE_URL" => "postgres://sentinel:hunter22@localhost/audit",
        "CONTEXT7_KEY" => "c7-key",
        "HEALTH_TOKEN" => "probe",
        "BACKEND_SHARED_SECRET" => "between us",
        _ => return None,
    };
    Some(value.to_owned())
}

fn only_home(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/home/ann".to_owned())
}

fn read(text: &str) -> Result<Config, Problems> {
    parse(text, Path::new("/etc/sentinel/sentinel.toml"), &env)
}

/// The messages about a small file that is otherwise in order.
fn complaints(text: &str) -> Vec<String> {
    let base = "[auth]\nmode = \"local\"\nrole = \"admin\"\n[rbac.roles.admin]\npermissions = [\"*\"]\n";
    match read(&format!("{base}{text}")) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            problems.iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
        }
    }
}

fn names(config: &Config) -> Vec<(&str, Stage)> {
    config.plugins.iter().map(|plugin| (plugin.name.as_str(), plugin.stage)).collect()
}

#[test]
fn the_original_layout_loads_as_it_is() {
    let config = read(ORIGINAL).unwrap();
    assert_eq!(config.gateway.health_listen.unwrap().port(), 9201);
    assert_eq!(config.gateway.health_token.as_ref().unwrap().expose(), "probe");
    let Store::Postgres { url, max_connections: 10 } = &config.audit.store else {
        panic!("{:?}", config.audit)
    };
    assert_eq!(url.expose(), "postgres://sentinel:hunter22@localhost/audit");
    assert_eq!(config.audit.dir, Path::new("/home/ann/.local/state/sentinel-gateway"));
    let Transport::Http { url, headers } = &config.backends[0].transport else { panic!("http") };
    assert_eq!(url, "http://127.0.0.1:3001");
    assert_eq!(headers[0].0, "X-Sentinel-Auth");
    assert_eq!(headers[0].1.expose(), "between us");
    let Transport::Stdio { command, args, env, cwd: None } = &config.backends[1].transport else {
        panic!("stdio")
    };
    assert_eq!((command.as_str(), args.as_slice()), ("node", ["index.js".to_owned()].as_slice()));
    assert_eq!(env[0].1.expose(), "c7-key");
    assert_eq!(env[1].1.expose(), "C");
    assert_eq!(config.backends[1].timeout, Duration::from_secs(60));
    assert!(config.backends[1].restart_on_exit && !config.backends[1].rewritten);
    assert_eq!(config.kill_switch.disabled_backends, ["n8n"]);

    let chain = [
        ("auth-jwt", Stage::Authenticate),
        ("rate-limit", Stage::Guard),
        ("rbac", Stage::Guard),
        ("circuit-breaker", Stage::Breaker),
    ];
    assert_eq!(names(&config), chain);
    let [jwt, rates, rbac, breaker] = config.plugins.as_slice() else { panic!("four") };
    assert_eq!(
        jwt.config,
        json!({
            "issuer": "sentinel-gateway", "audience": "sentinel-api", "leeway_s": 30,
            "keys": [{ "alg": "HS256", "secret": "JWT_SECRET_KEY" }],
        })
    );
    assert_eq!((jwt.secrets[0].0.as_str(), jwt.secrets[0].1.expose()), ("JWT_SECRET_KEY", SECRET));
    assert_eq!((jwt.limits.fuel, jwt.limits.deadline_ms, rates.limits.fuel), (50_000_000, 50, 1_000_000));
    assert_eq!(
        rates.config,
        json!({ "default_rpm": 1000, "burst": null, "per_tool": { "execute_workflow": 10 } })
    );
    assert_eq!(
        rbac.config["roles"]["viewer"],
        json!({ "permissions": ["tools.read"], "denied_tools": ["execute_workflow"] })
    );
    let circuit = json!({ "consecutive_failures": 5, "recovery_ms": 30000 });
    assert_eq!(breaker.config, json!({ "default": {}, "backends": { "n8n": circuit } }));
}

#[test]
fn secrets_are_known_for_redaction_and_never_printed() {
    let config = read(ORIGINAL).unwrap();
    let known = config.secret_values();
    let known: Vec<&str> = known.iter().map(Secret::expose).collect();
    let url = "postgres://sentinel:hunter22@localhost/audit";
    assert_eq!(known, [url, SECRET, "header.payload.signature", "between us", "hunter22", "c7-key", "probe"]);
    let printed = format!("{config:?}");
    assert!(known.iter().all(|secret| !printed.contains(secret)), "{printed}");
}

#[test]
fn ten_mistakes_are_reported_at_once_with_their_lines() {
    let text = r#"[gateway]
listn = "127.0.0.1:9200"
health_listen = "localhost"
max_in_flight = 0

[auth]
mode = "jtw"
jwt_secret_env = "NOT_SET"

[[backends]]
name = "a b"
type = "http"

[[backends]]
name = "files"
command = "npx"
url = "http://127.0.0.1"
args = ["-y", 5]
timeout_secs = 0

[[backends]]
name = "files"
type = "stdio"
command = "node"
env = { KEY = "${UNSET}" }
jwks_file = "x"

[rbac.roles]

[kill_switch]
disabled_backends = ["fils"]
"#;
    let problems = parse(text, Path::new("sentinel.toml"), &env).unwrap_err();
    let expected = r#"sentinel.toml:2: gateway.listn: unknown key
  hint: did you mean listen?
sentinel.toml:3: gateway.health_listen: "localhost" is not an address
  hint: write an IP address and a port, such as 127.0.0.1:9200
sentinel.toml:4: gateway.max_in_flight: must be at least 1, not 0
sentinel.toml:7: auth.mode: expected one of "jwt", "local", found "jtw"
  hint: did you mean jwt?
sentinel.toml:8: auth.jwt_secret_env: NOT_SET is not set
  hint: set the environment variable NOT_SET where the gateway is started
sentinel.toml:10: backends[0].url: an http backend needs a url
  hint: url = "http://127.0.0.1:8080/mcp"
sentinel.toml:11: backends[0].name: "a b" cannot be the name of a backend
  hint: letters, digits, _ and -, at most 48
sentinel.toml:14: backends[1].type: a backend needs a type
  hint: type = "http" with url, or type = "stdio" with command
sentinel.toml:18: backends[1].args[1]: expected a text, found a number
  hint: write "5"
sentinel.toml:19: backends[1].timeout_secs: must be more than 0, not 0
sentinel.toml:22: backends[2].name: backends[1] is called "files" as well
  hint: names of backends are unique
sentinel.toml:25: backends[2].env.KEY: UNSET is not set
  hint: set the environment variable UNSET where the gateway is started
sentinel.toml:26: backends[2].jwks_file: unknown key
  hint: it belongs into [auth]
sentinel.toml:28: rbac.roles: no role is defined, so nobody could do anything
  hint: add [rbac.roles.admin] with permissions = ["*"]
sentinel.toml:31: kill_switch.disabled_backends[0]: there is no backend "fils"
  hint: did you mean files?"#;
    assert_eq!(problems.to_string(), expected);
}

#[test]
fn a_syntax_error_has_its_line() {
    let problems = read("[gateway]\nlisten = 127.0.0.1\n").unwrap_err();
    let [problem] = problems.iter().as_slice() else { panic!("{problems}") };
    assert_eq!(problem.line, Some(2), "{problems}");
    let twice = read("[gateway]\nlisten = \"a\"\nlisten = \"b\"\n").unwrap_err();
    assert_eq!(twice.iter().next().unwrap().line, Some(3), "{twice}");
}

#[test]
fn numbers_may_be_written_as_floats_where_they_are_whole() {
    let config = read(
        &ORIGINAL.replace("retries = 3", "retries = 4.0").replace("timeout_secs = 60", "timeout_secs = 0.25"),
    );
    let backend = &config.unwrap().backends[0];
    assert_eq!((backend.retries, backend.timeout), (4, Duration::from_millis(250)));
    assert_eq!(
        complaints("[gateway]\nmax_in_flight = 1.5"),
        ["gateway.max_in_flight: expected a whole number, found a number"]
    );
    assert_eq!(
        complaints("[rate_limits]\ndefault_rpm = 5_000_000_000"),
        ["rate_limits.default_rpm: must be at most 4294967295, not 5000000000"]
    );
    assert_eq!(
        complaints("[rate_limits.per_tool]\n\"a.b\" = { rpm = 2, brst = 1 }"),
        ["rate_limits.per_tool.\"a.b\".brst: unknown key"]
    );
    assert_eq!(
        complaints("[rate_limits]\nburst = nan"),
        ["rate_limits.burst: infinity and NaN have no meaning here"]
    );
}

#[test]
fn without_a_token_the_way_out_is_shown() {
    let problems = parse("", Path::new("s.toml"), &only_home).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["rbac.roles", "auth.token_env", "auth.jwt_secret_env"]);
    let text = problems.to_string();
    assert!(
        text.contains("JWT_SECRET_KEY is not set") && text.contains("SENTINEL_TOKEN is not set"),
        "{text}"
    );
    assert!(
        text.contains("[auth] mode = \"local\"") && text.contains("sentinel-gateway token mint"),
        "{text}"
    );
}

#[test]
fn a_short_signing_secret_is_refused() {
    let env = |name: &str| if name == "JWT_SECRET_KEY" { Some("x".repeat(31)) } else { env(name) };
    let problems = parse(ORIGINAL, Path::new("s.toml"), &env).unwrap_err().to_string();
    assert!(problems.contains("JWT_SECRET_KEY holds 31 bytes, and a signing secret needs 32"), "{problems}");
    // An empty variable is none.
    let env = |name: &str| if name == "JWT_SECRET_KEY" { Some(String::new()) } else { self::env(name) };
    let problems = parse(ORIGINAL, Path::new("s.toml"), &env).unwrap_err().to_string();
    assert!(problems.contains("JWT_SECRET_KEY is not set"), "{problems}");
}

#[test]
fn the_role_of_the_local_user_must_exist() {
    let text = "[auth]\nmode = \"local\"\nrole = \"admn\"\n[rbac.roles.admin]\n";
    let problems = read(text).unwrap_err();
    let [problem] = problems.iter().as_slice() else { panic!("{problems}") };
    assert_eq!((problem.key.as_str(), problem.line), ("auth.role", Some(3)));
    assert_eq!(problem.hint.as_deref(), Some("did you mean admin?"));
    let problems = read("[auth]\nmode = \"local\"\n[rbac.roles.admin]\n").unwrap_err().to_string();
    assert!(problems.contains(":1: auth.role: mode \"local\" needs the role"), "{problems}");
}

#[test]
fn a_url_is_http_and_carries_no_password() {
    let with = |url: &str| complaints(&format!("[[backends]]\nname = \"a\"\nurl = \"{url}\"\n"));
    assert_eq!(with("https://example.org/mcp"), Vec::<String>::new());
    assert_eq!(
        with("ftp://example.org"),
        ["backends[0].url: \"ftp://example.org\" is not the url of an http server"]
    );
    assert_eq!(with("http://"), ["backends[0].url: \"http://\" is not the url of an http server"]);
    assert_eq!(with("https://u:p@example.org"), ["backends[0].url: a url must not carry a password"]);
}

#[test]
fn plain_http_across_the_network_is_a_warning() {
    let text = ORIGINAL.replace("http://127.0.0.1:3001", "http://10.0.0.7:3001");
    let config = read(&text).unwrap();
    let warned: Vec<&str> = config.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(warned, ["backends[0].url", "backends[0].restart_on_exit"]);
    for host in ["localhost", "[::1]:80", "127.9.9.9"] {
        let config = read(&ORIGINAL.replace("127.0.0.1:3001", host)).unwrap();
        assert_eq!(config.warnings.len(), 1, "{host}: {:?}", config.warnings);
    }
}

#[test]
fn values_take_parts_from_the_environment() {
    let text = "[[backends]]\nname = \"a\"\nurl = \"https://a\"\n[backends.headers]\n\
                Authorization = \"Bearer ${CONTEXT7_KEY}\"\nX-Literal = \"$${HOME}\"\nX-Token = \"in the file\"\n";
    let base = "[auth]\nmode = \"local\"\nrole = \"r\"\n[rbac.roles.r]\n";
    let config = read(&format!("{base}{text}")).unwrap();
    let Transport::Http { headers, .. } = &config.backends[0].transport else { panic!("http") };
    let values: Vec<&str> = headers.iter().map(|(_, value)| value.expose()).collect();
    assert_eq!(values, ["Bearer c7-key", "${HOME}", "in the file", "between us"]);
    let known = config.secret_values();
    let known: Vec<&str> = known.iter().map(Secret::expose).collect();
    assert!(
        known.contains(&"c7-key") && known.contains(&"in the file") && !known.contains(&"${HOME}"),
        "{known:?}"
    );
    assert!(config.warnings.iter().any(|warning| warning.key == "backends[0].headers.X-Token"));
    assert_eq!(
        complaints("[[backends]]\nname = \"a\"\nurl = \"https://a\"\nheaders = { X = \"${A\" }"),
        ["backends[0].headers.X: a ${ without its }"]
    );
    assert_eq!(
        complaints("[[backends]]\nname = \"a\"\ncommand = \"x\"\nenv = [\"HOME\", \"NOPE\"]"),
        ["backends[0].env[1]: NOPE is not set"]
    );
    assert_eq!(
        complaints("[[backends]]\nname = \"a\"\ncommand = \"x\"\nenv = 5"),
        ["backends[0].env: expected a table or a list, found a number"]
    );
}

#[test]
fn plugins_of_ones_own_join_the_chain_in_their_stage() {
    let text = r#"
[[backends]]
name = "a"
command = "x"
circuit_breaker_recovery_secs = 600
rewrite = { headers = { X-Team = "blue" } }

[[plugins]]
name = "late"
stage = "rewrite"
wasm = "late.wasm"

[[plugins]]
name = "hours"
stage = "guard"
wasm = "hours.wasm"
secrets = ["CONTEXT7_KEY"]
config = { from = 8 }

[[plugins]]
name = "sso"
stage = "authenticate"
wasm = "/opt/sso.wasm"

[[plugins]]
name = "circuit-breaker"
sha256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
on_failure = "allow"
limits = { fuel = 5000 }
config = { default = { window_ms = 1000 }, backends = { a = { min_calls = 3 } } }
"#;
    let config =
        read(&format!("{ORIGINAL}{text}").replace("name = \"n8n\"", "name = \"n8n\"\nprefix = true"))
            .unwrap();
    let chain = names(&config).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(
        chain,
        ["auth-jwt", "sso", "rate-limit", "rbac", "hours", "circuit-breaker", "rewrite-rules", "late"]
    );
    let hours = &config.plugins[4];
    assert_eq!(hours.wasm, Some(PathBuf::from("/etc/sentinel/hours.wasm")));
    assert_eq!((hours.section, &hours.config), ("plugins", &json!({ "from": 8 })));
    assert_eq!(hours.secrets[0].1.expose(), "c7-key");
    let breaker = &config.plugins[5];
    assert_eq!(breaker.sha256.as_ref().unwrap(), &"a".repeat(64));
    assert_eq!(
        (breaker.on_failure, breaker.limits.fuel, breaker.limits.deadline_ms),
        (OnFailure::Allow, 5_000, 5)
    );
    assert_eq!(breaker.config["default"], json!({ "window_ms": 1000 }));
    let circuit = json!({ "recovery_ms": 600_000, "max_recovery_ms": 600_000, "min_calls": 3 });
    assert_eq!(breaker.config["backends"]["a"], circuit);
    let rules = json!({ "arguments": [], "results": [], "headers": { "X-Team": "blue" }, "tools": [] });
    assert_eq!(config.plugins[6].config, json!({ "backends": { "a": rules } }));
    assert!(config.backends[0].always_prefix && config.backends[2].rewritten);
}

#[test]
fn plugins_that_cannot_work_are_refused() {
    assert_eq!(
        complaints(
            "[[plugins]]\nname = \"rbca\"\n[[plugins]]\nname = \"auth-local\"\non_failure = \"allow\"\n[[plugins]]\nname = \"rbac\"\nstage = \"rewrite\"\nsha256 = \"12\""
        ),
        [
            "plugins[0].wasm: a plugin of your own needs its file",
            "plugins[0].stage: a plugin of your own needs its stage",
            "plugins[1].on_failure: \"allow\" is not for authenticators",
            "plugins[2].stage: the stage of rbac is fixed",
            "plugins[2].sha256: must look like ^[0-9A-Fa-f]{64}$",
        ]
    );
}

#[test]
fn keys_of_an_issuer_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("pub.pem", "-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n");
    file("private.pem", "-----BEGIN PRIVATE KEY-----\n");
    file("set.json", "{\"keys\": [{\"kty\": \"OKP\"}]}");
    file("list.json", "[]");
    let path = folder.path().join("s.toml");
    let auth = |auth: &str| parse(&format!("[auth]\n{auth}\n[rbac.roles.r]\n"), &path, &env);
    let good =
        auth("jwks_file = \"set.json\"\nkeys = [{ alg = \"RS256\", kid = \"k\", pem_file = \"pub.pem\" }]")
            .unwrap();
    let config = &good.plugins[0].config;
    assert_eq!(config["keys"][0]["kid"], "k");
    assert!(config["keys"][0]["pem"].as_str().unwrap().starts_with("-----BEGIN PUBLIC"));
    assert_eq!(config["jwks"]["keys"][0]["kty"], "OKP");
    // With keys of its own the default secret is not one of them.
    assert!(good.plugins[0].secrets.is_empty());
    let bad = auth(
        "jwks_file = \"list.json\"\nkeys = [{ alg = \"RS256\", pem_file = \"private.pem\" }, { alg = \"HS256\", pem_file = \"pub.pem\" }, { alg = \"EdDSA\", pem_file = \"none.pem\" }, { alg = \"none\" }]",
    )
    .unwrap_err();
    let keys: Vec<&str> = bad.iter().map(|problem| problem.key.as_str()).collect();
    assert!(keys.contains(&"auth.jwks_file") && keys.contains(&"auth.keys[3].alg"), "{keys:?}");
    let text = bad.to_string();
    assert!(text.contains("private.pem holds a private key"), "{text}");
    assert!(text.contains("auth.keys[1].pem_file: a key for HS256 has no pem_file"), "{text}");
    assert!(text.contains("auth.keys[1].secret_env: a key for HS256 needs secret_env"), "{text}");
    assert!(text.contains("auth.keys[2].pem_file: cannot read"), "{text}");
}

#[test]
fn the_audit_can_be_switched_off_but_not_unnoticed() {
    let config = read(&ORIGINAL.replace("audit_enabled = true", "audit_enabled = false")).unwrap();
    assert!(!config.audit.enabled);
    assert_eq!(config.warnings[0].key, "gateway.audit_enabled");
    let state = |name: &str| if name == "XDG_STATE_HOME" { Some("/state".to_owned()) } else { None };
    let config = parse(MINIMAL, Path::new("/c/minimal.toml"), &state).unwrap();
    assert_eq!(config.audit.dir, Path::new("/state/sentinel-gateway"));
    let Store::Sqlite { path } = &config.audit.store else { panic!("sqlite") };
    assert_eq!(path, Path::new("/state/sentinel-gateway/audit.db"));
    let nowhere = parse(MINIMAL, Path::new("/c/minimal.toml"), &|_| None).unwrap_err().to_string();
    assert!(nowhere.contains("audit.dir: neither XDG_STATE_HOME nor HOME is set"), "{nowhere}");
}

#[test]
fn the_files_of_the_repository_load() {
    let minimal = parse(MINIMAL, Path::new("/c/minimal.toml"), &only_home).unwrap();
    assert!(matches!(minimal.auth, Auth::Local));
    assert_eq!(minimal.plugins[0].config, json!({ "role": "admin", "subject": null }));
    assert!(minimal.warnings.is_empty(), "{:?}", minimal.warnings);
    let full = read(SENTINEL).unwrap();
    assert!(full.warnings.is_empty(), "{:?}", full.warnings);
    assert!(
        full.plugins.iter().all(|plugin| plugin.name == "auth-jwt" || plugin.limits == Limits::default())
    );
}

/// Every key of the schema stands in the complete file, commented out or not.
#[test]
fn the_complete_file_is_complete() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let tables = schema["$defs"].as_object().unwrap().values();
    let keys = tables.filter_map(|table| table["properties"].as_object()).flat_map(|keys| keys.keys());
    let missing: Vec<&String> = keys
        .filter(|key| ![" = ", "]", "."].iter().any(|end| SENTINEL.contains(&format!("{key}{end}"))))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_schema_of_the_repository_is_current() {
    assert!(schema_json() == SCHEMA, "config/schema.json is out of date: write schema_json() into it");
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    std::fs::write(&path, MINIMAL).unwrap();
    let mode = |mode: u32| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    assert!(load(&path, &only_home).is_ok());
    for (bits, who) in [(0o660, "its group"), (0o606, "everybody")] {
        mode(bits);
        let problems = load(&path, &only_home).unwrap_err().to_string();
        assert!(problems.contains(who) && problems.contains("chmod go-w"), "{problems}");
    }
    let problems = load(&folder.path().join("none.toml"), &only_home).unwrap_err().to_string();
    assert!(problems.contains("cannot be read"), "{problems}");
}
