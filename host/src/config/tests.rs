//! Whole files, read and judged.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;

mod mistakes;

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
    let TransportSettings::Http { url, headers, route } = &config.backends[0].transport else {
        panic!("http")
    };
    assert_eq!(url.expose(), "http://127.0.0.1:3001");
    assert_eq!(*route, Route::default());
    assert_eq!(headers[0].0, "X-Sentinel-Auth");
    assert_eq!(headers[0].1.expose(), "between us");
    let TransportSettings::Stdio { command, args, env, cwd: None, sandbox: None } =
        &config.backends[1].transport
    else {
        panic!("stdio")
    };
    let args: Vec<&str> = args.iter().map(Secret::expose).collect();
    assert_eq!((command.as_str(), args.as_slice()), ("node", ["index.js"].as_slice()));
    assert_eq!(env[0].1.expose(), "c7-key");
    assert_eq!(env[1].1.expose(), "C");
    assert_eq!(config.backends[1].timeout, Duration::from_secs(60));
    assert!(config.backends[1].restart_on_exit);
    assert_eq!(config.kill_switch.disabled_backends, ["n8n"]);

    let chain = [
        ("auth-jwt", Stage::Authenticate),
        ("auth-operator", Stage::Authenticate),
        ("rate-limit", Stage::Guard),
        ("rbac", Stage::Guard),
        ("circuit-breaker", Stage::Breaker),
    ];
    assert_eq!(names(&config), chain);
    let [jwt, operator, rates, rbac, breaker] = config.plugins.as_slice() else { panic!("five") };
    assert_eq!(operator.config, json!({ "operator": "operator" }));
    assert_eq!(rbac.config["operator"], json!({ "role": "operator", "door": "control" }));
    assert_eq!(
        jwt.config,
        json!({
            "issuer": ["sentinel-gateway"], "audience": ["sentinel-api"], "audience_claims": ["/aud"],
            "role_claims": ["/role"], "role_map": [], "roles": ["admin", "viewer"], "leeway_s": 30,
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
fn values_take_parts_from_the_environment() {
    let text = "[[backends]]\nname = \"a\"\nurl = \"https://a\"\n[backends.headers]\n\
                Authorization = \"Bearer ${CONTEXT7_KEY}\"\nX-Literal = \"$${HOME}\"\nX-Token = \"in the file\"\n";
    let base = "[auth]\nmode = \"local\"\nrole = \"r\"\n[rbac.roles.r]\n";
    let config = read(&format!("{base}{text}")).unwrap();
    let TransportSettings::Http { headers, .. } = &config.backends[0].transport else { panic!("http") };
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

/// A backend whose header takes this from a file, read beside files with these contents.
fn with_files(files: &[(&str, &[u8], u32)], value: &str) -> Result<Config, Problems> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    for (name, content, mode) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    let base = "[auth]\nmode = \"local\"\nrole = \"r\"\n[rbac.roles.r]\n[[backends]]\nname = \"a\"\n";
    let text = format!("{base}url = \"https://a\"\nheaders = {{ Authorization = \"{value}\" }}\n");
    parse(&text, &dir.path().join("sentinel.toml"), &only_home)
}

#[test]
fn values_take_parts_from_files() {
    let value = |config: &Config| match &config.backends[0].transport {
        TransportSettings::Http { headers, .. } => headers[0].1.expose().to_owned(),
        TransportSettings::Stdio { .. } => panic!("http"),
    };
    for (content, wanted) in [
        ("s3cret\n", "s3cret"),
        ("s3cret", "s3cret"),
        ("s3cret\r\n", "s3cret"),
        (" s3cret \t\n", " s3cret \t"),
    ] {
        let config = with_files(&[("key", content.as_bytes(), 0o600)], "Bearer ${file:key}").unwrap();
        assert_eq!(value(&config), format!("Bearer {wanted}"));
        let known = config.secret_values();
        assert!(known.iter().any(|secret| secret.expose() == wanted), "redacted");
        assert!(!format!("{config:?}").contains("s3cret"), "never printed");
        assert_eq!(config.warnings.len(), 0, "{:?}", config.warnings);
    }
    let both = with_files(&[("a", b"one", 0o600), ("b", b"two", 0o400)], "${file:a}-${file:./b}").unwrap();
    assert_eq!(value(&both), "one-two");
    for (mode, who) in [(0o640, "its group"), (0o604, "everybody"), (0o644, "everybody")] {
        let config = with_files(&[("key", b"s3cret", mode)], "${file:key}").unwrap();
        let [warning] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
        assert_eq!(warning.key, "backends[0].headers.Authorization");
        assert!(warning.message.starts_with(&format!("{who} may read ")), "{}", warning.message);
    }
}

#[test]
fn a_file_that_gives_no_secret_is_a_mistake_at_its_key() {
    let large = vec![b'x'; (64 << 10) + 1];
    for (content, why) in [
        (None, "No such file"),
        (Some(&b"\n"[..]), "it is empty"),
        (Some(&large), "it is longer than 65536 bytes"),
        (Some(b"\xff\xfe"), "UTF-8"),
        (Some(b"two\nlines\n"), "the value cannot be sent in a header"),
    ] {
        let files: Vec<_> = content.map(|content| ("key", content, 0o600)).into_iter().collect();
        let problems = with_files(&files, "${file:key}").unwrap_err();
        let [problem] = problems.list.as_slice() else { panic!("{problems}") };
        assert_eq!(problem.key, "backends[0].headers.Authorization");
        assert!(problem.message.contains(why), "{}", problem.message);
    }
    assert!(with_files(&[("key", &large[1..], 0o600)], "${file:key}").is_ok(), "64 KiB are enough");
}

#[test]
fn scopes_reach_the_policies_and_the_door() {
    let text = "[auth]\nrequired_scopes = [\"mcp\"]\n[rbac.roles.admin]\nallowed_methods = [\"acme/*\"]\n\
                [[rbac.scopes]]\ntools = [\"delete_*\"]\nscope = \"mcp:admin\"\n";
    let config = read(text).unwrap();
    assert_eq!(config.scopes.required, ["mcp"]);
    assert_eq!(config.scopes.of_tools, ["mcp:admin"]);
    let of = |name: &str| config.plugins.iter().find(|plugin| plugin.name == name).unwrap().config.clone();
    assert_eq!(of("auth-jwt")["required_scopes"], json!(["mcp"]));
    assert_eq!(of("rbac")["scopes"], json!([{ "tools": ["delete_*"], "scope": "mcp:admin" }]));
    assert_eq!(of("rbac")["roles"]["admin"]["allowed_methods"], json!(["acme/*"]));
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
        [
            "auth-jwt",
            "auth-operator",
            "sso",
            "rate-limit",
            "rbac",
            "hours",
            "circuit-breaker",
            "rewrite-rules",
            "late"
        ]
    );
    let hours = &config.plugins[5];
    assert_eq!(hours.wasm, Some(PathBuf::from("/etc/sentinel/hours.wasm")));
    assert_eq!((hours.section.as_str(), &hours.config), ("plugins", &json!({ "from": 8 })));
    assert_eq!(hours.secrets[0].1.expose(), "c7-key");
    let breaker = &config.plugins[6];
    assert_eq!(breaker.sha256.as_ref().unwrap(), &"a".repeat(64));
    assert_eq!(
        (breaker.on_failure, breaker.limits.fuel, breaker.limits.deadline_ms),
        (OnFailure::Allow, 5_000, 5)
    );
    assert_eq!(breaker.config["default"], json!({ "window_ms": 1000 }));
    let circuit = json!({ "recovery_ms": 600_000, "max_recovery_ms": 600_000, "min_calls": 3 });
    assert_eq!(breaker.config["backends"]["a"], circuit);
    let rules = json!({ "arguments": [], "results": [], "headers": { "X-Team": "blue" }, "tools": [] });
    assert_eq!(config.plugins[7].config, json!({ "backends": { "a": rules } }));
    assert!(config.backends[0].always_prefix);
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
fn an_address_of_keys_brings_the_plugin_that_fetches_them_and_grants_it_that_host() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    let certificate = "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n";
    std::fs::write(folder.path().join("ca.pem"), certificate).unwrap();
    let auth = |auth: &str| parse(&format!("[auth]\n{auth}\n[rbac.roles.r]\n"), &path, &env);
    let config = auth(
        "jwks_url = \"https://Login.example.org:8443/keys\"\njwks_ca_file = \"ca.pem\"\njwks_max_age_secs = 60",
    )
    .unwrap();
    let plugin = &config.plugins[0];
    assert_eq!((plugin.name.as_str(), plugin.is_shipped()), ("auth-jwks", true));
    let told =
        [&plugin.config["jwks_url"], &plugin.config["jwks_max_age_secs"], &plugin.config["jwks_stale_secs"]];
    assert_eq!(told, [&json!("https://Login.example.org:8443/keys"), &json!(60), &json!(3600)]);
    let grant = plugin.http.as_ref().unwrap();
    assert_eq!(grant.hosts, ["login.example.org:8443"]);
    assert_eq!(grant.ca.as_deref(), Some(certificate));
    assert_eq!((grant.connect_timeout, grant.timeout), (Duration::from_secs(2), Duration::from_secs(5)));
    // With keys of its own the default secret is not one of them, and no other plugin may send anything.
    assert!(plugin.secrets.is_empty() && config.plugins[1..].iter().all(|other| other.http.is_none()));
    assert_eq!(auth("jwks_url = \"http://127.0.0.1:9000\"").unwrap().plugins[0].name, "auth-jwks");

    for (bad, key, word) in [
        ("jwks_url = \"http://login.example.org/\"", "auth.jwks_url", "in place of the issuer's"),
        ("jwks_url = \"login.example.org\"", "auth.jwks_url", "not the address of a key set"),
        ("jwks_url = \"https://me:word@login.example.org/\"", "auth.jwks_url", "not the address"),
        ("jwks_url = \"https://a/\"\njwks_ca_file = \"none.pem\"", "auth.jwks_ca_file", "cannot read"),
        ("jwks_url = \"https://a/\"\njwks_ca_file = \"s.toml.pem\"", "auth.jwks_ca_file", "cannot read"),
        ("jwks_url = \"https://a/\"\njwks_max_age_secs = 59", "auth.jwks_max_age_secs", "60"),
        ("jwks_url = \"https://a/\"\njwks_refetch_secs = 0", "auth.jwks_refetch_secs", "1"),
    ] {
        let problems = auth(bad).unwrap_err();
        assert!(problems.iter().any(|problem| problem.key == key), "{bad}: {problems}");
        assert!(problems.to_string().contains(word), "{bad}: {problems}");
    }
    let idle = auth("jwks_refetch_secs = 5").unwrap();
    assert_eq!(idle.plugins[0].name, "auth-jwt");
    assert!(
        idle.warnings.iter().any(|warning| warning.key == "auth.jwks_refetch_secs"),
        "{:?}",
        idle.warnings
    );
}

#[test]
fn plugins_send_requests_to_hosts_that_are_named_one_by_one() {
    let own = |http: &str| {
        let text = format!(
            "[auth]\nmode = \"local\"\nrole = \"r\"\n[rbac.roles.r]\n[[plugins]]\nname = \"own\"\nstage = \"guard\"\nwasm = \"own.wasm\"\nhttp = {http}"
        );
        parse(&text, Path::new("/c/s.toml"), &env)
    };
    let config = own("{ hosts = [\"API.example.org\", \"127.0.0.1:8443\"], timeout_secs = 1.5 }").unwrap();
    let plugin = config.plugins.iter().find(|plugin| plugin.name == "own").unwrap();
    let grant = plugin.http.as_ref().unwrap();
    assert_eq!(grant.hosts, ["api.example.org", "127.0.0.1:8443"]);
    assert_eq!((grant.timeout, grant.max_requests), (Duration::from_millis(1_500), 4));
    for (bad, key) in [
        ("{}", "plugins[0].http.hosts"),
        ("{ hosts = [\"*.example.org\"] }", "plugins[0].http.hosts[0]"),
        ("{ hosts = [\"a\", \"https://b/\"] }", "plugins[0].http.hosts[1]"),
        ("{ hosts = [\"a\"], ca_file = \"none.pem\" }", "plugins[0].http.ca_file"),
        ("{ hosts = [\"a\"], max_requests = 0 }", "plugins[0].http.max_requests"),
    ] {
        let problems = own(bad).unwrap_err();
        assert!(problems.iter().any(|problem| problem.key == key), "{bad}: {problems}");
    }
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
fn the_state_is_kept_beside_the_record_unless_the_file_says_otherwise() {
    let config = read(MINIMAL).unwrap();
    let beside = config.audit.dir.join("state");
    assert_eq!(config.state, State { persist: true, dir: Some(beside.clone()) });
    let config = read(&format!("{MINIMAL}\n[state]\npersist = false")).unwrap();
    assert_eq!(config.state, State { persist: false, dir: Some(beside) });
    let config = read(&format!("{MINIMAL}\n[state]\ndir = \"kept\"")).unwrap();
    assert_eq!(
        config.state.dir.as_deref(),
        config.path.parent().map(|folder| folder.join("kept")).as_deref()
    );
    // Where there is no place for a record there is none for a state.
    let unrecorded = MINIMAL.replace("[gateway]\n", "[gateway]\naudit_enabled = false\n");
    let nowhere =
        |more: &str| parse(&format!("{unrecorded}\n{more}"), Path::new("/c/minimal.toml"), &|_| None);
    let config = nowhere("").unwrap();
    assert_eq!(config.state.dir, None);
    let warned: Vec<&str> = config.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert!(warned.contains(&"state.persist"), "{warned:?}");
    assert!(
        !nowhere("[state]\npersist = false")
            .unwrap()
            .warnings
            .iter()
            .any(|warning| warning.key == "state.persist")
    );
    let problems = nowhere("[state]\npersist = true").unwrap_err().to_string();
    assert!(problems.contains("state.persist: limits and circuits cannot outlive the gateway"), "{problems}");
}

#[test]
fn the_files_of_the_repository_load() {
    let minimal = parse(MINIMAL, Path::new("/c/minimal.toml"), &only_home).unwrap();
    assert!(matches!(minimal.auth, Auth::Local));
    assert_eq!(
        minimal.plugins[0].config,
        json!({ "role": "admin", "subject": null, "loopback": false, "operator": "operator" })
    );
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

#[test]
fn a_sandbox_is_closed_unless_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::os::unix::fs::symlink("data", dir.path().join("link")).unwrap();
    let of = |keys: &str| {
        let text = format!(
            "[auth]\nmode = \"local\"\nrole = \"r\"\n[rbac.roles.r]\n[[backends]]\nname = \"a\"\ncommand = \"cat\"\n{keys}\n"
        );
        let env = |name: &str| (name == "HOME").then(|| "/home/ann".to_owned());
        let config = parse(&text, &dir.path().join("s.toml"), &env).unwrap();
        match &config.backends[0].transport {
            TransportSettings::Stdio { sandbox, .. } => sandbox.clone(),
            TransportSettings::Http { .. } => panic!("stdio"),
        }
    };
    assert_eq!(of(""), None);
    let closed = Sandbox {
        read: Vec::new(),
        write: Vec::new(),
        network: sandbox::Network::None,
        processes: 512,
        open_files: None,
        memory: None,
    };
    assert_eq!(of("sandbox = {}"), Some(closed.clone()));
    let data = dir.path().canonicalize().unwrap().join("data");
    let opened = Sandbox {
        // What a link points to now; where it points later is another matter.
        read: vec![data.clone()],
        write: vec![data],
        network: sandbox::Network::All,
        memory: Some(64 << 20),
        ..closed
    };
    let keys = "sandbox = { read = [\"link\"], write = [\"data\"], network = \"all\", memory_mb = 64 }";
    assert_eq!(of(keys), Some(opened));
}

#[test]
fn each_issuer_is_an_authenticator_of_its_own() {
    let path = Path::new("/etc/sentinel/s.toml");
    let parse = |auth: &str| parse(&format!("[auth]\n{auth}\n[rbac.roles.r]\n[rbac.roles.s]\n"), path, &env);
    let issuers = "issuers = [\
        { issuer = \"https://a/\", audience = \"x\", jwks_url = \"https://a/keys\", default_role = \"r\" },\
        { issuer = [\"https://b/\", \"b\"], audience = [\"x\", \"y\"], jwks_url = \"https://b/keys\",\
          role_map = [{ group = \"g\", role = \"s\" }], required_scopes = [\"mcp\", \"b\"] }]";
    let config = parse(issuers).unwrap();
    let authenticators: Vec<_> =
        config.plugins.iter().filter(|plugin| plugin.stage == Stage::Authenticate).collect();
    let [a, b, _] = authenticators[..] else { panic!("{authenticators:?}") };
    // The default secret is none of theirs, and each may ask its own server only.
    assert_eq!((a.name.as_str(), b.name.as_str()), ("auth-jwks", "auth-jwks-2"));
    assert!(a.is_shipped() && b.is_shipped() && a.secrets.is_empty() && b.secrets.is_empty());
    assert_eq!(
        (&a.http.as_ref().unwrap().hosts[0], &b.http.as_ref().unwrap().hosts[0]),
        (&"a".into(), &"b".into())
    );
    assert_eq!(
        (&a.config["issuer"], &a.config["others"]),
        (&json!(["https://a/"]), &json!(["https://b/", "b"]))
    );
    assert_eq!((&b.config["audience"], &b.config["others"]), (&json!(["x", "y"]), &json!(["https://a/"])));
    assert_eq!((&a.config["default_role"], &a.config["roles"]), (&json!("r"), &json!(["r", "s"])));
    assert_eq!(b.config["role_map"], json!([{"group": "g", "role": "s"}]));
    assert_eq!(config.scopes.required, Vec::<String>::new(), "only one of them asks for scopes");
    // With keys of its own [auth] is one of them, and an entry of [[plugins]] is about all of one kind.
    let both = format!("jwt_secret_env = \"JWT_SECRET_KEY\"\nrequired_scopes = [\"mcp\"]\n{issuers}");
    let both = both.replace("default_role", "required_scopes = [\"mcp\"], default_role");
    let text = format!(
        "[auth]\n{both}\n[rbac.roles.r]\n[rbac.roles.s]\n[[plugins]]\nname = \"auth-jwks\"\nlimits = {{ fuel = 7000 }}\n"
    );
    let config = super::parse(&text, path, &env).unwrap();
    let names: Vec<_> =
        config.plugins.iter().map(|plugin| (plugin.name.as_str(), plugin.limits.fuel)).collect();
    assert_eq!(&names[1..3], [("auth-jwks", 7000), ("auth-jwks-3", 7000)]);
    assert_eq!(names[0].0, "auth-jwt");
    assert_eq!(config.scopes.required, ["mcp"], "what all of them ask for");
    // What is said for nobody is warned of.
    let idle = parse(&format!("role_claims = [\"/roles\"]\n{issuers}")).unwrap();
    assert!(idle.warnings.iter().any(|warning| warning.key == "auth.role_claims"), "{:?}", idle.warnings);
    for (bad, key) in [
        ("issuers = [{ audience = \"x\", jwks_url = \"https://a/\" }]", "auth.issuers[0].issuer"),
        ("issuers = [{ issuer = \"a\", jwks_url = \"https://a/\" }]", "auth.issuers[0].audience"),
        ("issuers = [{ issuer = \"a\", audience = \"x\" }]", "auth.issuers[0]"),
        (
            "issuers = [{ issuer = \"a\", audience = \"x\", jwks_url = \"http://a/\" }]",
            "auth.issuers[0].jwks_url",
        ),
        ("jwt_issuer = \"\"", "auth.jwt_issuer"),
        ("jwt_audience = []", "auth.jwt_audience"),
        ("audience_claims = []", "auth.audience_claims"),
        ("role_claims = [\"role\"]", "auth.role_claims[0]"),
        ("role_map = [{ claim = \"/a\", role = \"r\" }]", "auth.role_map[0]"),
        ("role_map = [{ subject = \"a\" }]", "auth.role_map[0].role"),
        ("role_map = [{ subject = \"a\", role = \"t\" }]", "auth.role_map[0].role"),
        ("default_role = \"t\"", "auth.default_role"),
    ] {
        let problems = parse(bad).unwrap_err();
        assert!(problems.iter().any(|problem| problem.key == key), "{bad}: {problems}");
    }
}
