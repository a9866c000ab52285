//! Compares two readings of the file, key by key, and says what it takes to put each change in force.

use super::{Backend, Config, Mount, Plugin, Typed};

/// What it takes to put a change in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The next call finds it.
    Live,
    /// A server is replaced or taken away: the next call finds that, and the calls under way end on the old one.
    Drain,
    /// It is in force when the gateway is started anew, and not before.
    Restart,
}

/// A key at which two readings differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `rbac.roles.user.permissions`, `backends "files" (new)`, `auth.role of /mcp/dev`.
    pub key: String,
    /// What it takes.
    pub effect: Effect,
}

/// Keys of parts that are opened once, when the gateway starts: the addresses it listens on, the record and its
/// database, the state, the approvals, the engine of the plugins, the way to a collector of telemetry.
const RESTART: [&str; 14] = [
    "gateway.listen",
    "gateway.health_listen",
    "gateway.control_dir",
    "gateway.audit_enabled",
    "gateway.plugin_bounds",
    "audit.mode",
    "audit.dir",
    "audit.sqlite_path",
    "postgres",
    "state",
    "approvals.path",
    "approvals.store",
    "approvals.telegram",
    "telemetry",
];

/// Keys that every server is opened with.
const OF_SERVERS: [&str; 3] = ["gateway.spool_dir", "gateway.memory_dir", "gateway.proxy"];

/// Keys that servers take as they are, unless they decide whether long answers go to files at all.
const OF_LENGTHS: [&str; 2] = ["gateway.max_message_bytes", "gateway.max_result_bytes"];

/// Keys of a backend that its process or its address sees. It takes all others as it is: same process, same sessions.
const OF_CONNECTIONS: [&str; 11] =
    ["type", "command", "args", "env", "cwd", "sandbox", "url", "headers", "proxy", "tls", "era"];

/// The name for secrets whose value has changed while the text of the file is the same.
const OTHER_VALUE: &str = "(the values of secrets, or what is in a file that it names)";

/// Every key at which `new` says something else than `old`: first those of the main file, then those of the mounts'.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = of_endpoint(old, new, old.http.is_some() == new.http.is_some());
    for Mount { path, config } in new.mounts() {
        let Some(before) = old.mounts().find(|mount| mount.path == *path) else { continue };
        let own = of_endpoint(&before.config, config, true);
        // A mount's file cannot change what the main file decides for all.
        let own = own.into_iter().filter(|change| change.effect != Effect::Restart);
        changes.extend(own.map(|change| Change { key: format!("{} of {path}", change.key), ..change }));
    }
    changes
}

fn of_endpoint(old: &Config, new: &Config, same_door: bool) -> Vec<Change> {
    let typed = old.typed.changes(&new.typed);
    let effect = |key: &str| match key {
        _ if is_at(key, &RESTART) || (!same_door && is_at(key, &["http"])) => Effect::Restart,
        _ if is_at(key, &OF_SERVERS) || is_of_a_server(key, old, new) => Effect::Drain,
        _ if is_at(key, &OF_LENGTHS) && old.gateway.spools() != new.gateway.spools() => Effect::Drain,
        _ => Effect::Live,
    };
    let mut changes: Vec<Change> =
        typed.into_iter().map(|key| Change { effect: effect(&key), key }).collect();
    // The value of a key may be elsewhere: in the environment, or in a file.
    let known = |changes: &[Change], start: &str| changes.iter().any(|change| change.key.starts_with(start));
    for backend in &new.backends {
        let start = format!("backends {:?}", backend.name);
        let named = |change: &Change| change.effect == Effect::Drain && change.key.starts_with(&start);
        let named = changes.iter().any(named) || known(&changes, "gateway.proxy");
        if is_replaced(&old.backends, backend) && !named {
            changes.push(Change { key: format!("{start} {OTHER_VALUE}"), effect: Effect::Drain });
        }
    }
    for executor in &new.executors {
        let before = old.executors.iter().find(|before| before.name == executor.name);
        let known = known(&changes, "executors") || known(&changes, "commands");
        if before.is_some_and(|before| before != executor) && !known {
            changes.push(Change {
                key: format!("executors {:?} {OTHER_VALUE}", executor.name),
                effect: Effect::Live,
            });
        }
    }
    let tls = |config: &Config| config.http.as_ref().and_then(|http| http.tls.clone());
    if tls(old) != tls(new) && tls(old).is_some() && tls(new).is_some() && !known(&changes, "http.tls") {
        changes.push(Change { key: format!("http.tls {OTHER_VALUE}"), effect: Effect::Live });
    }
    for upstream in &new.upstreams {
        let start = format!("upstreams {:?}", upstream.name);
        let before = old.upstreams.iter().find(|before| before.name == upstream.name);
        if before.is_some_and(|before| before != upstream)
            && !known(&changes, &start)
            && !known(&changes, "gateway.proxy")
        {
            changes.push(Change { key: format!("{start} {OTHER_VALUE}"), effect: Effect::Live });
        }
    }
    for engine in &new.engines {
        let start = format!("engines {:?}", engine.name);
        let before = old.engines.iter().find(|before| before.name == engine.name);
        if before.is_some_and(|before| before != engine) && !known(&changes, &start) {
            changes.push(Change { key: format!("{start} {OTHER_VALUE}"), effect: Effect::Live });
        }
    }
    for plugin in &new.plugins {
        let section = if plugin.section == "plugins" {
            format!("plugins {:?}", plugin.name)
        } else {
            plugin.section.clone()
        };
        let before = old.plugins.iter().find(|before| before.name == plugin.name);
        let differs = before.is_some_and(|before: &Plugin| {
            before.secrets != plugin.secrets || (before != plugin && changes.is_empty())
        });
        if differs && !known(&changes, &section) {
            changes.push(Change { key: format!("{section} {OTHER_VALUE}"), effect: Effect::Live });
        }
    }
    changes
}

/// Whether a key is one of these, or within one of them.
fn is_at(key: &str, sections: &[&str]) -> bool {
    let within = |section: &&str| {
        key.strip_prefix(*section).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ' ']))
    };
    sections.iter().any(within)
}

/// Whether a key is about a server that cannot serve on as it is.
fn is_of_a_server(key: &str, old: &Config, new: &Config) -> bool {
    let within = |backend: &Backend| {
        let rest = key.strip_prefix("backends ")?.strip_prefix(&format!("{:?}", backend.name))?;
        rest.starts_with(['.', ' ']).then(|| rest.strip_prefix('.').unwrap_or_default().to_owned())
    };
    let of = |config: &Config| -> Option<(usize, String)> {
        config.backends.iter().enumerate().find_map(|(at, backend)| Some((at, within(backend)?)))
    };
    match (of(old), of(new)) {
        (Some((before, _)), Some((now, own))) => {
            is_at(&own, &OF_CONNECTIONS) && !old.backends[before].connects_as(&new.backends[now])
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Whether a server was there before under this name, and is started or reached in another way now.
fn is_replaced(before: &[Backend], now: &Backend) -> bool {
    before.iter().any(|before| before.name == now.name && !before.connects_as(now))
}

impl Config {
    /// The same, but for what needs a restart: that stays as it is in force.
    #[must_use]
    pub(crate) fn holding(mut self, in_force: &Self) -> Self {
        let mut held = RESTART.to_vec();
        if self.http.is_some() != in_force.http.is_some() {
            held.push("http");
            self.http.clone_from(&in_force.http);
        }
        let own_memory = |config: &Self| Some(config.audit.dir.join("servers"));
        if self.gateway.memory_dir == own_memory(&self) {
            self.gateway.memory_dir = own_memory(in_force);
        }
        let (gateway, theirs) = (&mut self.gateway, &in_force.gateway);
        gateway.listen = theirs.listen;
        gateway.health_listen = theirs.health_listen;
        gateway.control_dir.clone_from(&theirs.control_dir);
        gateway.plugin_bounds = theirs.plugin_bounds;
        let super::Audit { enabled, mode, dir, store, .. } = in_force.audit.clone();
        self.audit = super::Audit { enabled, mode, dir, store, ..self.audit };
        self.state.clone_from(&in_force.state);
        self.approvals.path.clone_from(&in_force.approvals.path);
        self.approvals.postgres.clone_from(&in_force.approvals.postgres);
        self.approvals.telegram.clone_from(&in_force.approvals.telegram);
        self.telemetry.clone_from(&in_force.telemetry);
        self.typed = Typed::with(&self.typed, &in_force.typed, &held);
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    const FILE: &str = r#"
        [gateway]
        listen = "127.0.0.1:9200"
        [auth]
        mode = "local"
        role = "user"
        [rbac.roles.user]
        permissions = ["*"]
        [[backends]]
        name = "one"
        type = "stdio"
        command = "one"
        env = { KEY = "${KEY_OF_ONE}" }
        [[backends]]
        name = "two"
        type = "http"
        url = "http://127.0.0.1:1/mcp"
    "#;

    fn read(text: &str, key: &str) -> Config {
        let key = key.to_owned();
        let env = move |name: &str| match name {
            "HOME" => Some("/home/ann".to_owned()),
            "KEY_OF_ONE" => Some(key.clone()),
            _ => None,
        };
        super::super::parse(text, Path::new("/etc/sentinel.toml"), &env).unwrap()
    }

    fn changed(from: &str, to: &str) -> Vec<(String, Effect)> {
        let text = FILE.replace(from, to);
        assert!(from.is_empty() || text != FILE, "{from} is not in the file");
        let changes = diff(&read(FILE, "secret-1"), &read(&text, "secret-1"));
        changes.into_iter().map(|change| (change.key, change.effect)).collect()
    }

    #[test]
    fn each_key_has_its_effect() {
        assert_eq!(changed("", ""), []);
        let one = |from: &str, to: &str, key: &str, effect: Effect| {
            assert_eq!(changed(from, to), [(key.to_owned(), effect)], "{from} to {to}");
        };
        one("[\"*\"]", "[\"x\"]", "rbac.roles.user.permissions", Effect::Live);
        one("9200", "9300", "gateway.listen", Effect::Restart);
        one("command = \"one\"", "command = \"other\"", "backends \"one\".command", Effect::Drain);
        one("url =", "timeout_secs = 7\nurl =", "backends \"two\".timeout_secs", Effect::Live);
        one("url =", "era = \"handshake\"\nurl =", "backends \"two\".era", Effect::Drain);
        one("url =", "headers = { A = \"b\" }\nurl =", "backends \"two\".headers.A", Effect::Drain);
        // It says what was so already.
        let typed = FILE.replace("type = \"http\"\n", "");
        assert_eq!(
            diff(&read(FILE, "secret-1"), &read(&typed, "secret-1")),
            [Change { key: "backends \"two\".type".to_owned(), effect: Effect::Live }]
        );
        // Of two changes each has its own effect.
        let both = ("command = \"one\"", "command = \"other\"\nretries = 7");
        let keys = [
            ("backends \"one\".command".to_owned(), Effect::Drain),
            ("backends \"one\".retries".to_owned(), Effect::Live),
        ];
        assert_eq!(changed(both.0, both.1), keys);
        one(
            "url =",
            "circuit_breaker_threshold = 7\nurl =",
            "backends \"two\".circuit_breaker_threshold",
            Effect::Live,
        );
        one("[auth]", "max_message_bytes = 100000\n[auth]", "gateway.max_message_bytes", Effect::Live);
        one("[auth]", "max_result_bytes = 100000000\n[auth]", "gateway.max_result_bytes", Effect::Live);
        // Long answers went to files, and do no more.
        one("[auth]", "max_result_bytes = 1000\n[auth]", "gateway.max_result_bytes", Effect::Drain);
        one("[auth]", "spool_dir = \"spool\"\n[auth]", "gateway.spool_dir", Effect::Drain);
        one("[auth]", "[audit]\nkeep_days = 7\n[auth]", "audit.keep_days", Effect::Live);
        one("[auth]", "[audit]\nmode = \"strict\"\n[auth]", "audit.mode", Effect::Restart);
        one("[auth]", "[audit]\nredact_keys = [\"pin\"]\n[auth]", "audit.redact_keys", Effect::Live);
        let more = "[[backends]]\nname = \"more\"\ntype = \"http\"\nurl = \"http://127.0.0.1:2/mcp\"\n[[backends]]\nname = \"two\"";
        one("[[backends]]\n        name = \"two\"", more, "backends \"more\" (new)", Effect::Live);
        assert_eq!(
            changed("name = \"two\"", "name = \"zwei\""),
            [
                ("backends \"two\" (taken out)".to_owned(), Effect::Drain),
                ("backends \"zwei\" (new)".to_owned(), Effect::Live)
            ]
        );
    }

    #[test]
    fn another_value_of_a_secret_is_a_change_and_is_not_shown() {
        let changes = diff(&read(FILE, "secret-1"), &read(FILE, "secret-2"));
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(changes[0].key.starts_with("backends \"one\" (the values of secrets"), "{changes:?}");
        assert_eq!(changes[0].effect, Effect::Drain);
        // Also beside a change that the server would have taken as it is.
        let more = FILE.replace("command = \"one\"", "command = \"one\"\nretries = 7");
        let effects: Vec<_> = diff(&read(FILE, "secret-1"), &read(&more, "secret-2"))
            .into_iter()
            .map(|change| change.effect)
            .collect();
        assert_eq!(effects, [Effect::Live, Effect::Drain]);
        let all = format!("{changes:?} {:?}", read(FILE, "secret-2"));
        assert!(!all.contains("secret-2"), "{all}");
    }

    #[test]
    fn where_something_stands_in_the_file_is_no_change() {
        let moved = format!("# a comment\n\n{FILE}");
        assert_eq!(read(FILE, "secret-1"), read(&moved, "secret-1"));
        assert_ne!(read(FILE, "secret-1"), read(FILE, "secret-2"));
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_is_and_is_named_again() {
        let in_force = read(FILE, "secret-1");
        let text = FILE.replace("9200", "9300").replace("[\"*\"]", "[\"x\"]").replace(
            "[auth]",
            "health_listen = \"off\"\n[audit]\nmode = \"strict\"\ndir = \"/elsewhere\"\n[auth]",
        );
        let read_now = read(&text, "secret-1");
        let keys = |old: &Config| -> Vec<String> {
            diff(old, &read_now).into_iter().map(|change| change.key).collect()
        };
        assert_eq!(keys(&in_force).len(), 5, "{:?}", keys(&in_force));
        let now = read_now.clone().holding(&in_force);
        assert_eq!((now.gateway.listen, &now.audit), (in_force.gateway.listen, &in_force.audit));
        assert_eq!(now.gateway.memory_dir, in_force.gateway.memory_dir);
        assert_ne!(now.plugins, in_force.plugins, "the role is in force");
        assert_eq!(
            keys(&now),
            ["gateway.listen", "gateway.health_listen", "audit.mode", "audit.dir"],
            "they are named for as long as the file and the gateway differ"
        );
        assert_eq!(keys(&read_now), [""; 0]);
    }

    /// A key that is in no list here must not be taken for one that applies live.
    #[test]
    fn every_key_of_the_process_has_been_decided() {
        const LIVE: [&str; 48] = [
            "gateway.log_level",
            "gateway.shutdown_grace_secs",
            "http.max_connections",
            "http.max_connections_per_address",
            "audit.max_arguments_bytes",
            "audit.max_refused_arguments_bytes",
            "audit.max_journal_bytes",
            "audit.keep_days",
            "audit.max_bytes",
            "audit.when_full",
            "audit.min_free_bytes",
            "gateway.plugin_dir",
            "gateway.trusted_folders",
            "gateway.first_list_wait_secs",
            "gateway.max_in_flight",
            "gateway.plugin_compile_secs",
            "gateway.plugin_compile_memory_bytes",
            "gateway.safe_names",
            "audit.redact_keys",
            "audit.keep_keys",
            "http.path",
            "http.allowed_hosts",
            "http.allowed_origins",
            "http.max_sessions",
            "http.session_idle_secs",
            "http.keep_alive_secs",
            "http.allow_local",
            "http.credential_headers",
            "http.oauth",
            "http.mounts",
            "approvals.wait_secs",
            "approvals.decide_secs",
            "approvals.decide_high_secs",
            "approvals.run_secs",
            "approvals.approvers",
            "approvals.approve",
            "approvals.deny",
            "approvals.max_pending_per_caller",
            "approvals.max_pending_per_target",
            "approvals.keep_days",
            "approvals.http",
            "approvals.webhooks",
            "http.expected_routes",
            "http.dev_mode",
            "http.compression",
            "http.tls",
            "http.trusted_proxies",
            "http.client_address",
        ];
        let schema: Value = serde_json::from_str(&super::super::schema_json()).unwrap();
        let known =
            |key: &str| [&RESTART[..], &OF_SERVERS, &OF_LENGTHS, &LIVE].iter().any(|list| is_at(key, list));
        let mut seen = 0;
        let sections = schema["properties"].as_object().unwrap();
        // These are about who may do what, and their plugins are loaded anew.
        let decided = [
            "auth",
            "rbac",
            "rate_limits",
            "kill_switch",
            "plugins",
            "backends",
            "upstreams",
            "engines",
            "routes",
            "circuit_breaker",
            "executors",
            "commands",
            "command_policy",
            "$schema",
        ];
        for (section, shape) in sections.iter().filter(|(section, _)| !decided.contains(&section.as_str())) {
            if known(section) {
                continue;
            }
            let mut shapes = vec![shape];
            shapes.extend(shape["anyOf"].as_array().into_iter().flatten());
            let named = shapes.iter().find_map(|shape| shape["$ref"].as_str());
            let named = named.unwrap_or_else(|| panic!("{section} has not been decided: {shape}"));
            let keys = schema.pointer(named.trim_start_matches('#')).unwrap();
            for key in keys["properties"].as_object().unwrap().keys() {
                seen += 1;
                assert!(known(&format!("{section}.{key}")), "{section}.{key} has not been decided");
            }
        }
        assert!(seen > 30, "{seen}");
    }

    /// A key of a backend that is in no list here must not be taken for one that its server does not see.
    #[test]
    fn every_key_of_a_backend_has_been_decided() {
        const LIVE: [&str; 23] = [
            // Another name is another backend.
            "name",
            "timeout_secs",
            "max_timeout_secs",
            "start_timeout_secs",
            "retries",
            "restart_on_exit",
            "max_restarts",
            "health_interval_secs",
            "max_in_flight",
            "required",
            "prefix",
            // What it lacks, if it lacks something, stands in what it is started with.
            "optional",
            "circuit_breaker_threshold",
            "circuit_breaker_recovery_secs",
            "circuit_breaker_failure_rate",
            "circuit_breaker_min_calls",
            "circuit_breaker_count_errors",
            "argument_check",
            "arguments",
            "tools",
            "max_connections",
            "idle_timeout_secs",
            "rewrite",
        ];
        let schema: Value = serde_json::from_str(&super::super::schema_json()).unwrap();
        let keys = schema["$defs"]["RawBackend"]["properties"].as_object().unwrap();
        for key in keys.keys() {
            let lists =
                [&OF_CONNECTIONS[..], &LIVE].iter().filter(|list| list.contains(&key.as_str())).count();
            assert_eq!(lists, 1, "{key} has not been decided");
        }
        assert!(OF_CONNECTIONS.iter().all(|key| keys.contains_key(*key)), "{OF_CONNECTIONS:?}");
    }
}
