//! The chain: shipped policies from the sections they are configured in, changed and joined by `[[plugins]]`.

use serde_json::{Map, Value, json};

use super::super::raw::{
    Raw, RawBackend, RawIsolation, RawLimits, RawMode, RawOnFailure, RawPlugin, RawRbac, RawStage,
};
use super::super::rest::{Route, RouteAuth};
use super::super::secret::Secret;
use super::super::{HttpGrant, Isolation, Limits, OnFailure, Plugin, Stage};
use super::{Checker, duration, is_name};
use crate::config::problem::nearest;

/// The role of the user who sends commands to the gateway, unless the file says otherwise: none of [rbac.roles].
pub(super) const OPERATOR: &str = "operator";
/// What knows that user where callers bring tokens: the plugin `auth-local` under a name of its own, so that no entry of
/// [[plugins]] turns it into one that lets others in.
pub(super) const AUTH_OPERATOR: &str = "auth-operator";

/// The plugins that come with the gateway.
const SHIPPED: [&str; 10] = [
    "auth-jwt",
    "auth-jwks",
    "auth-local",
    "auth-api-key",
    "rate-limit",
    "rbac",
    "command-policy",
    "circuit-breaker",
    "rewrite-rules",
    AUTH_OPERATOR,
];

/// Plugins that come with the gateway and are asked only where an entry of [[plugins]] names them, with their stages.
const OPTIONAL: [(&str, Stage); 3] =
    [("cel-policy", Stage::Guard), ("redact-pii", Stage::Rewrite), ("tier-limits", Stage::Guard)];

/// The longest pause of the plugin `circuit-breaker`, by default.
const MAX_RECOVERY_MS: u64 = 300_000;

/// A shipped plugin as the file's own sections configure it.
pub(super) struct Shipped {
    /// Its file, without the ending.
    pub(super) artifact: &'static str,
    /// What it is called; of several with one file each has a name of its own.
    pub(super) name: String,
    pub(super) section: String,
    pub(super) config: Value,
    pub(super) secrets: Vec<(String, Secret)>,
    /// What the section itself grants, because it names the address.
    pub(super) http: Option<HttpGrant>,
}

impl Shipped {
    /// One that is alone of its kind, and needs neither secrets nor the network.
    pub(super) fn new(artifact: &'static str, section: &str, config: Value) -> Self {
        let (name, section) = (artifact.to_owned(), section.to_owned());
        Self { artifact, name, section, config, secrets: Vec::new(), http: None }
    }

    fn plugin(self, stage: Stage) -> Plugin {
        let Self { artifact, name, section, config, secrets, http } = self;
        let limits = default_limits(artifact);
        Plugin {
            name,
            artifact,
            stage,
            wasm: None,
            sha256: None,
            on_failure: OnFailure::Deny,
            secrets,
            grants: Vec::new(),
            http,
            isolation: Isolation::Shared,
            limits,
            config,
            section,
        }
    }
}

impl Checker<'_> {
    /// All plugins in the order of the chain.
    pub(super) fn chain(
        &mut self,
        authenticators: Vec<Shipped>,
        raw: &Raw,
        operator: bool,
        routes: &[Route],
    ) -> Vec<Plugin> {
        let rates = Shipped::new("rate-limit", "rate_limits", json!(raw.rate_limits));
        let mut roles = rbac(&raw.rbac);
        let routes = of_routes(routes);
        if !routes.is_empty() {
            roles["routes"] = Value::Object(routes);
        }
        if operator && raw.auth.operator_role.is_none() {
            roles["operator"] = json!({ "role": OPERATOR, "door": "control" });
        }
        let rbac = Shipped::new("rbac", "rbac", roles);
        let breaker = Shipped::new("circuit-breaker", "backends", breaker(&raw.backends));
        let mut chain: Vec<Plugin> =
            authenticators.into_iter().map(|shipped| shipped.plugin(Stage::Authenticate)).collect();
        chain.extend([rates.plugin(Stage::Guard), rbac.plugin(Stage::Guard), breaker.plugin(Stage::Breaker)]);
        if let Some(config) = self.command_policy(raw) {
            let commands = Shipped::new("command-policy", "command_policy", config);
            chain.push(commands.plugin(Stage::Guard));
        }
        if let Some(config) = rewrite(&raw.backends) {
            let rules = Shipped::new("rewrite-rules", "backends", config);
            chain.push(rules.plugin(Stage::Rewrite));
        }
        let mut typed: Vec<&str> = Vec::new();
        for (index, plugin) in raw.plugins.iter().enumerate() {
            let at = format!("/plugins/{index}");
            let Some(name) = plugin.name.as_deref() else {
                self.problem(&format!("{at}/name"), "a plugin needs a name", "name = \"office-hours\"");
                continue;
            };
            if typed.contains(&name) {
                let text = format!("there are two entries for {name:?}");
                self.problem(&format!("{at}/name"), text, "keep one of them");
                continue;
            }
            typed.push(name);
            self.typed_plugin(&at, name, plugin, &mut chain);
        }
        // Stable: within a stage the shipped come first, then one's own in the order of the file.
        chain.sort_by_key(|plugin| plugin.stage);
        self.reorder(&mut chain, &raw.plugins);
        self.beside_own(&mut chain, raw);
        chain
    }

    /// Does to the chain what the entry of one plugin says.
    fn typed_plugin(&mut self, at: &str, name: &str, plugin: &RawPlugin, chain: &mut Vec<Plugin>) {
        let optional = OPTIONAL.iter().find(|(artifact, _)| *artifact == name && plugin.wasm.is_none());
        if let Some((artifact, stage)) = optional {
            let mut own = Shipped::new(artifact, "plugins", json!({})).plugin(*stage);
            self.change(at, &mut own, plugin);
            chain.push(own);
            return;
        }
        if !SHIPPED.contains(&name) {
            chain.extend(self.custom(at, name, plugin));
            return;
        }
        let mut found = false;
        let of_its_file = |shipped: &&mut Plugin| shipped.artifact == name && shipped.name != AUTH_OPERATOR;
        // Of several with one file the entry is about each.
        for shipped in chain.iter_mut().filter(of_its_file) {
            found = true;
            self.change(at, shipped, plugin);
        }
        if !found {
            let hint = "it is not in the chain: see [auth] mode, or [backends.rewrite]";
            self.warn(at, format!("{name} has nothing to do here, so this has no effect"), hint);
        }
    }

    /// Puts authenticators of one's own before those that they name.
    fn reorder(&mut self, chain: &mut Vec<Plugin>, typed: &[RawPlugin]) {
        let place = |chain: &[Plugin], name: &str| chain.iter().position(|plugin| plugin.name == name);
        for (index, raw) in typed.iter().enumerate() {
            let (Some(name), Some(before)) = (raw.name.as_deref(), raw.before.as_deref()) else { continue };
            let at = format!("/plugins/{index}/before");
            let Some(own) = place(chain, name) else { continue };
            if chain[own].stage != Stage::Authenticate || chain[own].wasm.is_none() {
                let hint = "remove it; a plugin of another stage stands where the file names it";
                self.problem(&at, "only an authenticator of your own can be asked before others", hint);
                continue;
            }
            match place(chain, before)
                .filter(|other| chain[*other].stage == Stage::Authenticate && *other != own)
            {
                Some(other) if other < own => {
                    let moved = chain.remove(own);
                    chain.insert(other, moved);
                }
                Some(_) => {}
                None => {
                    let others = chain.iter().filter(|it| it.stage == Stage::Authenticate && it.name != name);
                    let others: Vec<&str> = others.map(|plugin| plugin.name.as_str()).collect();
                    let hint = format!("the others are: {}", others.join(", "));
                    self.problem(&at, format!("there is no authenticator {before:?} to come before"), hint);
                }
            }
        }
    }

    /// Where there are authenticators of one's own, those for JWTs leave every other token to them; and without any, mode
    /// "plugins" would let nobody in.
    fn beside_own(&mut self, chain: &mut [Plugin], raw: &Raw) {
        let own = chain.iter().any(|plugin| plugin.stage == Stage::Authenticate && plugin.wasm.is_some());
        if raw.auth.mode == RawMode::Plugins && !own && raw.auth.api_keys.is_empty() {
            let hint = "add a [[plugins]] entry with stage = \"authenticate\"";
            self.problem(
                "/auth/mode",
                "there is no authenticator of your own, so nobody would be known",
                hint,
            );
        }
        for plugin in
            chain.iter_mut().filter(|plugin| own && matches!(plugin.artifact, "auth-jwt" | "auth-jwks"))
        {
            plugin.config["leave_opaque"] = true.into();
        }
    }

    fn custom(&mut self, at: &str, name: &str, raw: &RawPlugin) -> Option<Plugin> {
        if !is_name(name) {
            let hint = "letters, digits, _ and -, at most 48";
            self.problem(&format!("{at}/name"), format!("{name:?} cannot be the name of a plugin"), hint);
        }
        let meant = nearest(name, SHIPPED.into_iter().chain(OPTIONAL.map(|(name, _)| name)))
            .map(|near| format!("; or did you mean {near}?"))
            .unwrap_or_default();
        if raw.wasm.is_none() {
            let hint = format!("wasm = \"{name}.wasm\"{meant}");
            self.problem(&format!("{at}/wasm"), "a plugin of your own needs its file", hint);
        }
        if raw.stage.is_none() {
            let hint = format!("stage = \"guard\"; or authenticate, breaker, rewrite{meant}");
            self.problem(&format!("{at}/stage"), "a plugin of your own needs its stage", hint);
        }
        let config = Value::Object(Map::new());
        let mut plugin = Shipped::new("", "plugins", config).plugin(stage(raw.stage?));
        name.clone_into(&mut plugin.name);
        self.change(at, &mut plugin, raw);
        plugin.wasm.is_some().then_some(plugin)
    }

    /// Lays an entry of `[[plugins]]` over a plugin.
    fn change(&mut self, at: &str, plugin: &mut Plugin, raw: &RawPlugin) {
        if raw.stage.is_some_and(|typed| stage(typed) != plugin.stage) {
            let message = format!("the stage of {} is fixed", plugin.name);
            self.problem(&format!("{at}/stage"), message, "remove it");
        }
        if let Some(typed) = &raw.wasm {
            plugin.wasm = Some(self.path(typed));
        }
        plugin.sha256 = raw.sha256.as_ref().map(|digest| digest.to_ascii_lowercase());
        if raw.on_failure == Some(RawOnFailure::Allow) {
            plugin.on_failure = OnFailure::Allow;
            let at = format!("{at}/on_failure");
            if plugin.stage == Stage::Authenticate {
                let hint = "an authenticator that fails cannot say who is calling; remove it";
                self.problem(&at, "\"allow\" is not for authenticators", hint);
            } else {
                let message = format!("calls go on without {} whenever it fails", plugin.name);
                self.warn(&at, message, "\"deny\" is the safe choice");
            }
        }
        for (index, name) in raw.secrets.iter().enumerate() {
            if let Some(value) = self.needed(&format!("{at}/secrets/{index}"), name)
                && !plugin.secrets.iter().any(|(known, _)| known == name)
            {
                plugin.secrets.push((name.clone(), Secret::new(value)));
            }
        }
        plugin.grants.clone_from(&raw.grants);
        if let Some(grant) = &raw.http {
            plugin.http = Some(self.http_grant(&format!("{at}/http"), grant, plugin.http.take()));
        }
        plugin.isolation = match raw.isolation {
            Some(RawIsolation::Call) => Isolation::Call,
            Some(RawIsolation::Shared) | None => Isolation::Shared,
        };
        plugin.limits = limits(plugin.limits, &raw.limits);
        overlay(&mut plugin.config, &raw.config);
    }
}

/// Tables are merged, everything else is replaced.
fn overlay(under: &mut Value, over: &Map<String, Value>) {
    let Value::Object(under) = under else { return };
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(below @ Value::Object(_)), Value::Object(above)) => overlay(below, above),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The roles, and the scopes if there are rules about them.
fn rbac(raw: &RawRbac) -> Value {
    let mut config = json!({ "roles": raw.roles });
    if !raw.scopes.is_empty() {
        config["scopes"] = json!(raw.scopes);
    }
    if !raw.approvals.is_empty() {
        config["approvals"] = json!(raw.approvals);
    }
    config
}

/// The routes that are for everybody, and those that ask for scopes.
fn of_routes(routes: &[Route]) -> Map<String, Value> {
    let rule = |route: &Route| match route.auth {
        RouteAuth::None => Some(json!({ "public": true })),
        RouteAuth::Jwt | RouteAuth::ApiKey if route.scopes.is_empty() => None,
        RouteAuth::Jwt | RouteAuth::ApiKey => Some(json!({ "scopes": route.scopes })),
    };
    routes.iter().filter_map(|route| Some((route.id.clone(), rule(route)?))).collect()
}

/// The settings of `[[backends]]` about circuits. Only those that were typed, because the plugin has the defaults.
fn breaker(backends: &[RawBackend]) -> Value {
    let mut circuits = Map::new();
    for backend in backends {
        let Some(name) = &backend.name else { continue };
        let mut circuit = Map::new();
        if let Some(threshold) = backend.circuit_breaker_threshold {
            circuit.insert("consecutive_failures".to_owned(), threshold.into());
        }
        if let Some(recovery) = backend.circuit_breaker_recovery_secs {
            let recovery = u64::try_from(duration(recovery).as_millis()).unwrap_or(u64::MAX).max(1);
            circuit.insert("recovery_ms".to_owned(), recovery.into());
            if recovery > MAX_RECOVERY_MS {
                circuit.insert("max_recovery_ms".to_owned(), recovery.into());
            }
        }
        // Never is never: the share that opens it by default is for those who have not said so.
        let never = (backend.circuit_breaker_threshold == Some(0)).then_some(0.0);
        if let Some(rate) = backend.circuit_breaker_failure_rate.or(never) {
            circuit.insert("failure_rate".to_owned(), rate.into());
        }
        if let Some(calls) = backend.circuit_breaker_min_calls {
            circuit.insert("min_calls".to_owned(), calls.into());
        }
        if !circuit.is_empty() {
            circuits.insert(name.clone(), Value::Object(circuit));
        }
    }
    json!({ "default": {}, "backends": circuits })
}

/// The rules of all backends that have some.
fn rewrite(backends: &[RawBackend]) -> Option<Value> {
    let rules =
        backends.iter().filter_map(|backend| Some((backend.name.clone()?, json!(backend.rewrite.as_ref()?))));
    let rules: Map<String, Value> = rules.collect();
    (!rules.is_empty()).then(|| json!({ "backends": rules }))
}

fn stage(raw: RawStage) -> Stage {
    match raw {
        RawStage::Authenticate => Stage::Authenticate,
        RawStage::Guard => Stage::Guard,
        RawStage::Breaker => Stage::Breaker,
        RawStage::Rewrite => Stage::Rewrite,
    }
}

/// Verifying a signature takes far more instructions than any other decision.
fn default_limits(name: &str) -> Limits {
    match name {
        "auth-jwt" => Limits { fuel: 50_000_000, deadline_ms: 50, ..Limits::default() },
        // It also reads a whole set of keys now and then.
        "auth-jwks" => Limits { fuel: 200_000_000, deadline_ms: 200, ..Limits::default() },
        // Reading a call into the values of CEL and judging it by some dozens of rules.
        "cel-policy" => Limits { fuel: 10_000_000, deadline_ms: 20, ..Limits::default() },
        _ => Limits::default(),
    }
}

fn limits(base: Limits, raw: &RawLimits) -> Limits {
    Limits {
        fuel: raw.fuel.unwrap_or(base.fuel),
        deadline_ms: raw.deadline_ms.unwrap_or(base.deadline_ms),
        memory_bytes: raw.memory_bytes.unwrap_or(base.memory_bytes),
        table_elements: raw.table_elements.unwrap_or(base.table_elements),
        log_lines: raw.log_lines.unwrap_or(base.log_lines),
        host_bytes: raw.host_bytes.unwrap_or(base.host_bytes),
        max_calls: raw.max_calls.unwrap_or(base.max_calls),
        state_keys: raw.state_keys.unwrap_or(base.state_keys),
        state_bytes: raw.state_bytes.unwrap_or(base.state_bytes),
    }
}
