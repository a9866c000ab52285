//! What is wrong with a file is said at once, where it stands, and with a way out.

use super::*;

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
sentinel.toml:7: auth.mode: expected one of "jwt", "local", "plugins", found "jtw"
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

/// Whatever happens to a line of the complete file: an answer that a person can act on, and no panic.
#[test]
fn no_damage_confuses_the_reader() {
    let lines: Vec<&str> = SENTINEL.lines().collect();
    let damages: [fn(&str) -> String; 5] = [
        |_| String::new(),
        |line| line.split_once('=').map_or(line.to_owned(), |(key, _)| format!("{key}= -1")),
        |line| line.split_once('=').map_or(line.to_owned(), |(key, _)| format!("{key}= [[], {{}}, 1e300]")),
        |line| {
            line.split_once('=').map_or(line.to_owned(), |(key, _)| format!("{key}= {{ a = 2026-01-01 }}"))
        },
        |line| line.replace("[[", "[").replace("]]", "]"),
    ];
    let mut refused = 0;
    for at in 0..lines.len() {
        if lines[at].is_empty() || lines[at].starts_with('#') {
            continue;
        }
        // Two kinds for each line keep this short; neighbouring lines get the others.
        for damage in [damages[at % 5], damages[(at + 2) % 5]] {
            let mut damaged: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            damaged[at] = damage(lines[at]);
            if let Err(problems) = read(&damaged.join("\n")) {
                refused += 1;
                let text = problems.to_string();
                assert!(!text.is_empty() && !text.contains("is a bug"), "line {}: {text}", at + 1);
            }
        }
    }
    assert!(refused > 40, "{refused}");
}
