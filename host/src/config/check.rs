//! Checks what the typed values mean together: every mistake is collected, none stops the search for the next.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::control::{of_file, state_home};
use super::document::Document;
use super::file::Unread;
use super::inherited::passwords;
use super::problem::{Problem, nearest};
use super::raw::{
    Raw, RawAudit, RawAuditMode, RawBounds, RawGateway, RawKillSwitch, RawMode, RawPostgres, RawWhenFull,
    Seconds,
};
use super::rest::{Idempotency, Route};
use super::secret::Secret;
use super::{
    Approvals, Audit, AuditMode, Bounds, CompileLimits, Config, Gateway, Http, KillSwitch, Main, Scopes,
    State, Store, Telemetry, Typed, WhenFull,
};
use crate::files::Trust;
use crate::redact::Redaction;

mod address;
mod approvals;
mod auth;
mod backends;
mod commands;
mod grant;
mod http;
mod issuers;
mod legacy;
mod names;
mod parameters;
mod plugins;
mod roles;
mod route;
mod routes;
mod sandbox;
mod state;
mod targets;
mod telemetry;
mod tools;

/// Looks up an environment variable.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Turns what was typed into a configuration, unless `problems` is or becomes non-empty.
pub(super) fn check(
    document: &Document,
    path: &Path,
    env: Env<'_>,
    problems: Vec<Problem>,
    pruned: Vec<String>,
    main: Option<Main<'_>>,
) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker::new(document, path, env, problems, pruned, main);
    let Some(raw) = checker.raw() else { return Err(checker.problems) };
    if main.is_some() {
        checker.left_to_the_main_file(&raw);
    } else {
        checker.trusts(&raw.gateway.trusted_folders);
    }
    let OfProcess { gateway, http, audit, state, approvals, telemetry } = checker.of_process(&raw, main);
    // Operators are judged by the main endpoint.
    let operator = gateway.as_ref().is_some_and(|gateway| gateway.control_dir.is_some());
    checker.roles_of_keys(&raw.auth, &raw.rbac);
    let of_door = main.map(|main| main.door).or(raw.http.as_ref());
    let (auth, authenticators) = checker.auth(&raw.auth, &raw.rbac, of_door, operator);
    let backends = checker.backends(&raw.backends, &raw.gateway.proxy);
    let executors = checker.executors(&raw);
    let (upstreams, engines) = checker.targets(&raw);
    let routes = checker.routes(&raw, &upstreams, &engines);
    checker.keys_can_be_kept(&routes, state.as_ref());
    let mut rules = checker.rules(&raw);
    // Whether the others mean a tool can be told only when the servers have listed theirs.
    rules.retain(|rule| !names_a_route(rule, &routes));
    let plugins = checker.chain(authenticators, &raw, operator, &routes);
    if !checker.problems.is_empty() {
        return Err(checker.problems);
    }
    // Without a problem these are all there; the alternative is to refuse, never to guess.
    let (Some(gateway), Some(auth), Some(audit), Some(state)) = (gateway, auth, audit, state) else {
        return Err(vec![Problem::of_file(
            "the configuration is incomplete",
            "this is a bug of the gateway",
        )]);
    };
    let mut warnings = checker.warnings;
    warnings.sort_by_key(|warning| warning.line);
    let scopes = scopes(&raw);
    let RawKillSwitch { disabled_tools, disabled_backends } = raw.kill_switch;
    Ok(Config {
        path: path.to_owned(),
        inherited: passwords(env),
        gateway,
        http,
        auth,
        scopes,
        audit,
        state,
        approvals,
        telemetry,
        backends,
        upstreams,
        engines,
        routes,
        executors,
        plugins,
        kill_switch: KillSwitch { disabled_tools, disabled_backends },
        rules,
        warnings,
        // The values to hide are known only when the files of all mounts have been read.
        redaction: Redaction::default(),
        typed: Typed::new(document.value.clone()),
    })
}

/// What is of the process, not of one endpoint: the door, the record, and what is kept. What is missing was reported.
struct OfProcess {
    gateway: Option<Gateway>,
    http: Option<Http>,
    audit: Option<Audit>,
    state: Option<State>,
    approvals: Approvals,
    telemetry: Telemetry,
}

/// The scopes that calls need, to tell clients.
fn scopes(raw: &Raw) -> Scopes {
    let required =
        if raw.auth.mode == RawMode::Jwt { issuers::required_scopes(&raw.auth) } else { Vec::new() };
    Scopes { required, of_tools: raw.rbac.scopes.iter().map(|rule| rule.scope.clone()).collect() }
}

/// Whether a rule names a route.
fn names_a_route(rule: &super::Rule, routes: &[Route]) -> bool {
    let compiled = sentinel_names::Rules::new([rule.pattern.as_str()]);
    let hits = |route: &Route| {
        let (id, backend) = (route.id.as_str(), route.target.backend());
        compiled.hits(&sentinel_names::Names { shown: id, own: id, backend })
    };
    routes.iter().any(hits)
}

/// JSON Schema takes `3.0` for a whole number and serde does not. What belongs to plugins stays as it is.
fn whole(value: &Value) -> Value {
    // Beyond 2^53 a float does not say which integer it means.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Object(map) => {
            let whole = |(key, value): (&String, &Value)| {
                let theirs = key == "config" || key == "rewrite";
                (key.clone(), if theirs { value.clone() } else { whole(value) })
            };
            Value::Object(map.iter().map(whole).collect())
        }
        Value::Array(items) => items.iter().map(whole).collect(),
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < EXACT => Value::from(float as i64),
            _ => value.clone(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The places and the findings of one check.
struct Checker<'a> {
    document: &'a Document,
    file: PathBuf,
    folder: PathBuf,
    env: Env<'a>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Places that were taken out; what is missing there was reported already.
    pruned: Vec<String>,
    trust: Trust,
    /// While an optional backend is read: what it lacks of the machine, instead of problems.
    lacking: Option<Vec<String>>,
}

impl<'a> Checker<'a> {
    fn new(
        document: &'a Document,
        path: &Path,
        env: Env<'a>,
        problems: Vec<Problem>,
        pruned: Vec<String>,
        main: Option<Main<'_>>,
    ) -> Self {
        let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        let trust = main.map(|main| main.trust.clone()).unwrap_or_default();
        let warnings = Vec::new();
        Self { document, file, folder, env, problems, warnings, pruned, trust, lacking: None }
    }
}

impl Checker<'_> {
    /// What was typed.
    fn raw(&mut self) -> Option<Raw> {
        let raw = serde_json::from_value(whole(&self.document.value));
        let bug = |error: serde_json::Error| {
            self.problems.push(Problem::of_file(error.to_string(), "this is a bug of the gateway's schema"));
        };
        raw.map_err(bug).ok()
    }

    /// What is of the process; a mount has most of it from the main file.
    fn of_process(&mut self, raw: &Raw, main: Option<Main<'_>>) -> OfProcess {
        let mounted = main.is_some();
        let mut gateway = self.gateway(&raw.gateway);
        let door = main.map(|main| main.door).or(raw.http.as_ref());
        let http = self.http_door(door, raw.auth.mode, gateway.as_ref(), mounted);
        let audit = self.audit(raw);
        if let (Some(gateway), Some(audit)) = (&mut gateway, &audit) {
            gateway.memory_dir = self.memory_dir(raw, audit);
            // One for all endpoints.
            gateway.control_dir = self.control_dir(raw, audit).filter(|_| !mounted);
        }
        let state = audit.as_ref().map(|audit| self.state(raw, audit, mounted));
        let approvals = audit.as_ref().map(|audit| self.approvals(raw, audit, mounted)).unwrap_or_default();
        let telemetry = self.telemetry(&raw.telemetry, mounted);
        OfProcess { gateway, http, audit, state, approvals, telemetry }
    }

    /// What a mount's file may not have.
    fn left_to_the_main_file(&mut self, raw: &Raw) {
        if raw.http.is_some() {
            self.problem("/http", "a mount has no door of its own", "leave it to the main file");
        }
        if !raw.routes.is_empty() {
            self.problem("/routes", "a mount serves MCP only", "put its routes into the main file");
        }
    }

    /// These folders are not judged.
    fn trusts(&mut self, folders: &[String]) {
        let folders = folders.iter().map(|typed| self.path(typed));
        // As they are found, not as they are named.
        self.trust.folders = folders.map(|path| path.canonicalize().unwrap_or(path)).collect();
    }

    /// Answers that are given again have to be kept somewhere.
    fn keys_can_be_kept(&mut self, routes: &[Route], state: Option<&State>) {
        let keeping = routes.iter().find(|route| route.idempotency != Idempotency::Off);
        if let (Some(route), None) = (keeping, state.and_then(|state| state.dir.as_ref())) {
            let message = format!("the keys of {} cannot be kept: there is no folder for them", route.id);
            self.problem("/state/dir", message, "set [state] dir to a folder that the gateway may write to");
        }
    }

    fn problem(&mut self, at: &str, message: impl Into<String>, hint: impl Into<String>) {
        let known = self.pruned.iter().any(|gone| {
            at == gone || at.strip_prefix(gone.as_str()).is_some_and(|rest| rest.starts_with('/'))
        });
        if !known {
            self.problems.push(self.document.problem(at, message.into(), Some(hint.into())));
        }
    }

    fn warn(&mut self, at: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.warnings.push(self.document.problem(at, message.into(), Some(hint.into())));
    }

    /// True if what stood at a place was taken out, because it could not be read.
    fn gone(&self, at: &str) -> bool {
        self.pruned.iter().any(|gone| gone == at)
    }

    /// True if something stands at a place, even if it was refused.
    fn typed(&self, at: &str) -> bool {
        self.document.value.pointer(at).is_some() || self.pruned.iter().any(|gone| gone == at)
    }

    /// A path relative to the folder of the file.
    fn path(&self, typed: &str) -> PathBuf {
        self.folder.join(typed)
    }

    /// A file that was not read.
    fn unread(&mut self, at: &str, unread: Unread) {
        for (message, hint) in unread {
            self.problem(at, message, hint);
        }
    }

    /// An environment variable; an empty one counts as not set, for secrets an empty value is none.
    fn var(&self, name: &str) -> Option<String> {
        let speakable = !name.is_empty() && !name.contains(['=', '\0']);
        if speakable { (self.env)(name).filter(|value| !value.is_empty()) } else { None }
    }

    /// A variable that must be set.
    fn needed(&mut self, at: &str, name: &str) -> Option<String> {
        let value = self.var(name);
        if value.is_none() {
            if let Some(lacking) = &mut self.lacking {
                lacking.push(format!("{name} is not set"));
                return None;
            }
            let hint = format!("set the environment variable {name} where the gateway is started");
            self.problem(at, format!("{name} is not set"), hint);
        }
        value
    }

    fn gateway(&mut self, raw: &RawGateway) -> Option<Gateway> {
        let listen = self.address("/gateway/listen", &raw.listen);
        let off = raw.health_listen == "off";
        let health_listen =
            if off { None } else { self.address("/gateway/health_listen", &raw.health_listen) };
        if let (Some(door), Some(health)) = (listen, health_listen)
            && door == health
            && door.port() != 0
        {
            self.problem(
                "/gateway/health_listen",
                format!("{door} is the address of listen"),
                "give it another port",
            );
        }
        let health_token = self.var("HEALTH_TOKEN").map(Secret::new);
        if health_token.is_none() && health_listen.is_some_and(|address| !address.ip().is_loopback()) {
            let hint = "set HEALTH_TOKEN, or listen on 127.0.0.1";
            let text =
                "the network can see whether the gateway is ready, and nobody can see why not or the metrics";
            self.warn("/gateway/health_listen", text, hint);
        }
        self.log_level(&raw.log_level);
        Some(Gateway {
            listen: listen?,
            health_listen,
            health_token,
            log_level: raw.log_level.clone(),
            plugin_dir: raw.plugin_dir.as_ref().map(|dir| self.path(dir)),
            trust: self.trust.clone(),
            max_message_bytes: raw.max_message_bytes,
            max_result_bytes: raw.max_result_bytes,
            spool_dir: raw.spool_dir.as_ref().map(|dir| self.path(dir)),
            // By default it is beside the record, whose place is not known yet.
            memory_dir: None,
            control_dir: None,
            first_list_wait: duration(raw.first_list_wait_secs),
            max_in_flight: raw.max_in_flight,
            plugin_bounds: match raw.plugin_bounds {
                RawBounds::Guarded => Bounds::Guarded,
                RawBounds::Checked => Bounds::Checked,
            },
            plugin_compile: CompileLimits {
                time: duration(raw.plugin_compile_secs),
                memory_bytes: raw.plugin_compile_memory_bytes,
            },
            shutdown_grace: duration(raw.shutdown_grace_secs),
            safe_names: raw.safe_names,
        })
    }

    fn address(&mut self, at: &str, typed: &str) -> Option<SocketAddr> {
        let address = typed.parse().ok();
        if address.is_none() {
            let hint = "write an IP address and a port, such as 127.0.0.1:9200";
            self.problem(at, format!("{typed:?} is not an address"), hint);
        }
        address
    }

    /// A single word that is no level would be taken for a module's name, and silence everything else.
    fn log_level(&mut self, typed: &str) {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        if typed.contains(['=', ',']) || LEVELS.contains(&typed.to_ascii_lowercase().as_str()) {
            return;
        }
        let hint = nearest(typed, LEVELS)
            .map_or_else(|| LEVELS.join(", "), |level| format!("did you mean {level}?"));
        self.problem("/gateway/log_level", format!("{typed:?} is not a level"), hint);
    }

    fn audit(&mut self, raw: &Raw) -> Option<Audit> {
        let RawAudit { mode, dir, sqlite_path, redact_keys, keep_keys, .. } = &raw.audit;
        let enabled = raw.gateway.audit_enabled;
        if !enabled {
            let hint = "set it to true outside of experiments";
            self.warn("/gateway/audit_enabled", "calls are not recorded", hint);
        }
        let dir = match dir {
            Some(dir) => self.path(dir),
            None => match self.state_home() {
                Some(home) => home.join("sentinel-gateway"),
                // Nothing will be written, so any folder does.
                None if !enabled => self.folder.clone(),
                None => {
                    let hint = "set [audit] dir to a folder that the gateway may write to";
                    self.problem("/audit/dir", "neither XDG_STATE_HOME nor HOME is set", hint);
                    return None;
                }
            },
        };
        let sqlite = sqlite_path.as_ref().map_or_else(|| dir.join("audit.db"), |path| self.path(path));
        let store = self.store(raw.postgres.as_ref(), sqlite);
        let mode = match mode {
            RawAuditMode::Process => AuditMode::Process,
            RawAuditMode::Strict => AuditMode::Strict,
        };
        let raw = &raw.audit;
        Some(Audit {
            enabled,
            mode,
            dir,
            store,
            redact_keys: redact_keys.clone(),
            keep_keys: keep_keys.clone(),
            max_arguments_bytes: raw.max_arguments_bytes,
            max_refused_arguments_bytes: raw.max_refused_arguments_bytes,
            max_journal_bytes: raw.max_journal_bytes,
            max_age: raw.keep_days.map(|days| Duration::from_secs(u64::from(days) * 86_400)),
            max_bytes: raw.max_bytes,
            when_full: match raw.when_full {
                RawWhenFull::Archive => WhenFull::Archive,
                RawWhenFull::Delete => WhenFull::Delete,
            },
            min_free_bytes: raw.min_free_bytes,
        })
    }

    /// Where what is known of servers is kept: beside the record, unless there is no place for one.
    fn memory_dir(&mut self, raw: &Raw, audit: &Audit) -> Option<PathBuf> {
        match raw.gateway.memory_dir.as_deref() {
            Some("off") => None,
            Some(typed) => Some(self.path(typed)),
            None => {
                (raw.audit.dir.is_some() || self.state_home().is_some()).then(|| audit.dir.join("servers"))
            }
        }
    }

    /// Where commands reach the gateways of this file: as for what is known of servers.
    fn control_dir(&self, raw: &Raw, audit: &Audit) -> Option<PathBuf> {
        let base = match raw.gateway.control_dir.as_deref() {
            Some("off") => return None,
            Some(typed) => self.path(typed),
            None if raw.audit.dir.is_some() || self.state_home().is_some() => audit.dir.join("control"),
            None => return None,
        };
        Some(of_file(&base, &self.file))
    }

    fn state_home(&self) -> Option<PathBuf> {
        state_home(self.env)
    }

    fn store(&mut self, raw: Option<&RawPostgres>, sqlite: PathBuf) -> Store {
        let defaults = RawPostgres::default();
        let RawPostgres { url_env, max_connections } = raw.unwrap_or(&defaults);
        let Some(url) = self.var(url_env) else {
            if raw.is_some() {
                let hint = format!("set {url_env} to record in PostgreSQL");
                self.warn(
                    "/postgres",
                    format!("{url_env} is not set, so the embedded database is used"),
                    hint,
                );
            }
            return Store::Sqlite { path: sqlite };
        };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            let hint = "it looks like postgres://user:password@host/database";
            self.problem("/postgres/url_env", format!("{url_env} does not hold a PostgreSQL URL"), hint);
        }
        let login = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next())
            .and_then(|host| host.rsplit_once('@'));
        let password =
            login.and_then(|(login, _)| login.split_once(':')).map(|(_, password)| password.to_owned());
        let hidden = std::iter::once(url.clone()).chain(password).collect();
        Store::Postgres { url: Secret::with_hidden(url, hidden), max_connections: *max_connections }
    }
}

/// The schema keeps seconds positive and within a year; what rounds to nothing waits a nanosecond.
fn duration(seconds: Seconds) -> Duration {
    Duration::try_from_secs_f64(seconds.0).unwrap_or(Duration::MAX).max(Duration::from_nanos(1))
}

/// Letters, digits, `_` and `-`, at most 48: what is safe in a tool name, a metric and a key.
fn is_name(name: &str) -> bool {
    (1..=48).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
