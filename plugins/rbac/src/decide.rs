//! What each role may see and do; compiled when configured, so that a call costs one look-up.

use std::collections::{BTreeMap, HashMap};

use sentinel_plugin_sdk::names::{self, Names, Patterns, Rules};
use sentinel_plugin_sdk::{ApprovalRequest, ConfigError, Entry, Field, Refusal, TargetKind};
use serde::Deserialize;

mod asking;

use asking::Asking;
pub use asking::{ApprovalConfig, RiskConfig};

/// The words of `permissions`.
const PERMISSIONS: [&str; 10] = [
    "*",
    "tools.read",
    "tools.execute",
    "resources.read",
    "prompts.read",
    "routes.call",
    "commands.execute",
    "control",
    "approvals.read",
    "approvals.decide",
];

/// What those actions of an operator begin with that are about approvals, each with a permission of its own.
const APPROVALS: &str = "control/approvals.";

/// The methods of MCP that reach a backend; what they are about decides. Every other one that comes by MCP needs
/// `allowed_methods`.
const METHODS: [&str; 12] = [
    "completion/complete",
    "logging/setLevel",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
];

/// The plugin's section of the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The roles by name. A role that is not here may do nothing.
    pub roles: BTreeMap<String, RoleConfig>,
    /// Scopes that a caller must have been granted for some tools, whatever the role.
    #[serde(default)]
    pub scopes: Vec<ScopeConfig>,
    /// Tools that are done only after a person has approved it. The first rule that fits counts.
    #[serde(default)]
    pub approvals: Vec<ApprovalConfig>,
    /// Who may operate the gateway itself without a role of `roles`.
    #[serde(default)]
    pub operator: Option<OperatorConfig>,
    /// Routes of the HTTP API, by their ids, that everybody may call or that ask for scopes.
    #[serde(default)]
    pub routes: BTreeMap<String, RouteConfig>,
}

/// What is special about a route.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// Everybody may call it, whatever their role, because its callers are not asked who they are.
    pub public: bool,
    /// Scopes that a caller must have been granted for it.
    pub scopes: Vec<String>,
}

/// A role that may do what the permission `control` is for, and nothing else, and only through one door: whoever brings the
/// role in a token comes through another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// The role.
    pub role: String,
    /// The door.
    pub door: String,
}

/// A scope and the tools it is needed for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeConfig {
    /// Names of tools, as in `denied_tools`.
    pub tools: Vec<String>,
    /// One scope (RFC 6749, section 3.3), looked for in the caller's claim `scope`.
    pub scope: String,
}

/// One role.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// `tools.read`, `tools.execute` (implies `tools.read`), `resources.read`, `prompts.read`, `routes.call`,
    /// `commands.execute`, `control` (what an operator does to the gateway itself), `approvals.read`, `approvals.decide`
    /// (implies `approvals.read`); `*` is all of them.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Tools and routes that the role may neither see nor call, whatever its permissions, by any of their names (see
    /// [`sentinel_plugin_sdk::names`]).
    #[serde(default)]
    pub denied_tools: Vec<String>,
    /// If given, the only tools and routes that the role may see and call. A server's own name of a tool is none of those that allow
    /// it, unless with its backend: `backend/name`.
    #[serde(default)]
    pub allowed_tools: Option<Vec<String>>,
    /// Methods that are not MCP's and that the role may use, such as `vendor/*`; no permission includes them. An action of
    /// an operator that is named here needs no permission `control`.
    #[serde(default)]
    pub allowed_methods: Vec<String>,
}

/// The request of a caller.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'text> {
    /// The action; for MCP the method.
    pub method: &'text str,
    /// The kind of its target.
    pub kind: TargetKind,
    /// The names of the target.
    pub names: Names<'text>,
}

/// The compiled roles.
#[derive(Debug)]
pub struct Roles {
    rules: HashMap<String, Rule>,
    scopes: Vec<(Rules, String)>,
    asking: Vec<Asking>,
    operator: Option<OperatorConfig>,
    routes: HashMap<String, RouteConfig>,
}

#[derive(Debug, Default)]
struct Rule {
    see_tools: bool,
    call_tools: bool,
    resources: bool,
    prompts: bool,
    routes: bool,
    commands: bool,
    control: bool,
    see_approvals: bool,
    decide: bool,
    denied: Rules,
    allowed: Option<Rules>,
    methods: Patterns,
}

impl Config {
    /// Compiles the roles.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn check(self) -> Result<Roles, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut rules = HashMap::new();
        for (name, role) in self.roles {
            // RFC 6901, section 3: how a key stands in a JSON pointer.
            let path = format!("/roles/{}", name.replace('~', "~0").replace('/', "~1"));
            if name.is_empty() {
                errors.push(ConfigError::new(&path, "a role needs a name"));
            }
            let rule = role.check(&path, &mut errors);
            rules.insert(name, rule);
        }
        let mut scopes = Vec::new();
        for (index, ScopeConfig { tools, scope }) in self.scopes.into_iter().enumerate() {
            if scope.is_empty() || !scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
            {
                let path = format!("/scopes/{index}/scope");
                errors.push(ConfigError::new(path, format!("{scope:?} is not a scope")).hint("mcp:admin"));
            }
            if tools.is_empty() {
                let path = format!("/scopes/{index}/tools");
                errors.push(ConfigError::new(path, "names no tool, so the scope would be for nothing"));
            }
            check_patterns(&format!("/scopes/{index}/tools"), &tools, &mut errors);
            scopes.push((Rules::new(tools.iter().map(String::as_str)), scope));
        }
        let approvals = self.approvals.into_iter().enumerate();
        let asking =
            approvals.map(|(index, rule)| rule.check(&format!("/approvals/{index}"), &mut errors)).collect();
        if let Some(OperatorConfig { role, door }) = &self.operator {
            for (name, text) in [("role", role), ("door", door)] {
                if text.trim().is_empty() {
                    errors.push(ConfigError::new(format!("/operator/{name}"), "must not be empty"));
                }
            }
        }
        for (id, route) in &self.routes {
            let path = format!("/routes/{}", id.replace('~', "~0").replace('/', "~1"));
            if route.public && !route.scopes.is_empty() {
                errors.push(ConfigError::new(path, "a route for everybody asks for no scopes"));
            }
        }
        let routes = self.routes.into_iter().collect();
        if errors.is_empty() {
            Ok(Roles { rules, scopes, asking, operator: self.operator, routes })
        } else {
            Err(errors)
        }
    }
}

impl RoleConfig {
    fn check(&self, path: &str, errors: &mut Vec<ConfigError>) -> Rule {
        let mut rule = Rule::default();
        for (index, word) in self.permissions.iter().enumerate() {
            match word.as_str() {
                "*" => {
                    (rule.see_tools, rule.call_tools, rule.resources, rule.prompts) =
                        (true, true, true, true);
                    (rule.routes, rule.commands, rule.control) = (true, true, true);
                    (rule.see_approvals, rule.decide) = (true, true);
                }
                "tools.read" => rule.see_tools = true,
                "tools.execute" => (rule.see_tools, rule.call_tools) = (true, true),
                "resources.read" => rule.resources = true,
                "prompts.read" => rule.prompts = true,
                "routes.call" => rule.routes = true,
                "commands.execute" => rule.commands = true,
                "control" => rule.control = true,
                "approvals.read" => rule.see_approvals = true,
                "approvals.decide" => (rule.see_approvals, rule.decide) = (true, true),
                _ => errors.push(unknown_permission(&format!("{path}/permissions/{index}"), word)),
            }
        }
        let lists = [
            ("denied_tools", self.denied_tools.as_slice()),
            ("allowed_tools", self.allowed_tools.as_deref().unwrap_or_default()),
        ];
        for (key, list) in lists {
            check_patterns(&format!("{path}/{key}"), list, errors);
        }
        check_methods(&format!("{path}/allowed_methods"), &self.allowed_methods, errors);
        rule.methods = Patterns::new(self.allowed_methods.iter().map(String::as_str));
        rule.denied = Rules::new(self.denied_tools.iter().map(String::as_str));
        rule.allowed = self.allowed_tools.as_ref().map(|list| Rules::new(list.iter().map(String::as_str)));
        rule
    }
}

fn check_patterns(path: &str, patterns: &[String], errors: &mut Vec<ConfigError>) {
    for (index, pattern) in patterns.iter().enumerate() {
        if let Err(why) = names::check(pattern) {
            errors.push(ConfigError::new(format!("{path}/{index}"), why));
        }
    }
}

/// The `/` of a method is a letter like any other.
fn check_methods(path: &str, methods: &[String], errors: &mut Vec<ConfigError>) {
    for (index, _) in methods.iter().enumerate().filter(|(_, text)| text.trim() != *text || text.is_empty()) {
        errors.push(ConfigError::new(
            format!("{path}/{index}"),
            "is empty or starts or ends with a blank: it would match nothing",
        ));
    }
}

fn unknown_permission(path: &str, word: &str) -> ConfigError {
    let near = PERMISSIONS
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word.to_lowercase(), known), known))
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .min();
    let error = ConfigError::new(path, format!("there is no permission {word:?}"));
    match near {
        Some((_, known)) => error.hint(format!("did you mean {known:?}?")),
        None => error.hint(format!("one of: {}", PERMISSIONS.join(", "))),
    }
}

impl Rule {
    /// Whether the lists leave this tool to the role. A denial holds by every name of the tool; an allowance only by those
    /// that no other server can give a tool of its own.
    fn reaches(&self, tool: &Names<'_>) -> bool {
        !self.denied.hits(tool) && self.allowed.as_ref().is_none_or(|allowed| allowed.grants(tool))
    }

    fn has_any_permission(&self) -> bool {
        self.see_tools
            || self.call_tools
            || self.resources
            || self.prompts
            || self.routes
            || self.commands
            || self.control
            || self.see_approvals
    }
}

impl Roles {
    /// Whether a caller of this role may operate the gateway itself through this door, whatever the roles say.
    #[must_use]
    pub fn operates(&self, role: &str, door: impl FnOnce() -> Option<String>) -> bool {
        self.operator
            .as_ref()
            .is_some_and(|operator| operator.role == role && door().is_some_and(|door| door == operator.door))
    }

    /// Whether a caller of this role may make this call. `granted` reads the caller's scopes, a text of words.
    ///
    /// # Errors
    /// `permission_denied`, naming the role and the target; `unknown_method` for a method that is not MCP's and that no
    /// rule grants; `insufficient_scope`, with what the call needs.
    pub fn check(
        &self,
        role: &str,
        asked: Asked<'_>,
        granted: impl FnOnce() -> Option<String>,
    ) -> Result<(), Refusal> {
        self.permits(role, asked)?;
        self.has_scopes(asked, granted)
    }

    /// What a person has to be asked before this call, which the role may make, goes on.
    #[must_use]
    pub fn asks(
        &self,
        role: &str,
        subject: impl FnOnce() -> String,
        asked: Asked<'_>,
    ) -> Option<ApprovalRequest> {
        let rule = self.asking.iter().find(|rule| rule.is_about(role, &asked))?;
        Some(rule.request(&subject(), &asked))
    }

    fn permits(&self, role: &str, Asked { method, kind, names }: Asked<'_>) -> Result<(), Refusal> {
        let name = names.shown;
        if kind == TargetKind::Route && self.routes.get(name).is_some_and(|route| route.public) {
            return Ok(());
        }
        let named = || self.rules.get(role).is_some_and(|rule| rule.methods.matches(method));
        // Other doors have words of their own for what they do.
        let by_mcp = !matches!(kind, TargetKind::Route | TargetKind::Command | TargetKind::Control);
        let foreign = by_mcp && !METHODS.contains(&method);
        if foreign && !named() {
            // To a caller who may not use it, it does not exist; as a tool that is not listed.
            let text = format!("method `{}` is not known here", method.escape_debug());
            return Err(Refusal::new("unknown_method", text));
        }
        let Some(rule) = self.rules.get(role) else {
            return Err(denied(format!("The role {role:?} is not known here, so it may not use {name:?}.")));
        };
        let (allowed, what, missing) = match kind {
            TargetKind::Tool if rule.call_tools && !rule.reaches(&names) => {
                return Err(denied(format!("The role {role:?} is denied the tool {name:?}.")));
            }
            TargetKind::Tool => (rule.call_tools, "call the tool", "tools.execute"),
            TargetKind::Resource => (rule.resources, "read the resource", "resources.read"),
            TargetKind::Prompt => (rule.prompts, "use the prompt", "prompts.read"),
            TargetKind::Route if rule.routes && !rule.reaches(&names) => {
                return Err(denied(format!("The role {role:?} is denied the route {name:?}.")));
            }
            TargetKind::Route => (rule.routes, "call the route", "routes.call"),
            TargetKind::Command => (rule.commands, "run the command", "commands.execute"),
            TargetKind::Control => match method.strip_prefix(APPROVALS) {
                Some("list" | "show") => {
                    (rule.see_approvals || named(), "see what waits for approval with", "approvals.read")
                }
                // How a request of one's own stands, which the gateway makes sure of.
                Some("own") => (rule.has_any_permission(), "ask about", "any"),
                Some("approve" | "reject") => (rule.decide || named(), "decide with", "approvals.decide"),
                Some(_) | None => (rule.control || named(), "act as an operator on", "control"),
            },
            // The rule that names the method is the permission.
            TargetKind::Other => (foreign || rule.has_any_permission(), "use", "any"),
        };
        if allowed {
            return Ok(());
        }
        Err(denied(format!("The role {role:?} may not {what} {name:?}: it lacks the permission {missing}.")))
    }

    /// A tool shows in lists whatever the scopes: a caller who lacks one is told which to get (RFC 6750, section 3.1).
    fn has_scopes(&self, asked: Asked<'_>, granted: impl FnOnce() -> Option<String>) -> Result<(), Refusal> {
        let mut needed: Vec<&str> = Vec::new();
        if asked.kind == TargetKind::Route {
            let own = self.routes.get(asked.names.shown).map_or(&[][..], |route| &route.scopes);
            needed.extend(own.iter().map(String::as_str));
        } else if asked.kind != TargetKind::Tool {
            return Ok(());
        }
        for (_, scope) in self.scopes.iter().filter(|(tools, _)| tools.hits(&asked.names)) {
            if !needed.contains(&scope.as_str()) {
                needed.push(scope);
            }
        }
        if needed.is_empty() {
            return Ok(());
        }
        let granted = granted().unwrap_or_default();
        let has = |scope: &str| granted.split(' ').any(|word| word == scope);
        if needed.iter().all(|scope| has(scope)) {
            return Ok(());
        }
        let scopes = needed.join(" ");
        let text = format!(
            "The {} {:?} needs the scope `{scopes}`. Get a token with it.",
            asked.kind.as_str(),
            asked.names.shown
        );
        let mut refusal = Refusal::new("insufficient_scope", text);
        refusal.details.push(Field { name: "scope".to_owned(), value: scopes });
        Err(refusal)
    }

    /// Which entries a caller of this role may know of, in their order.
    #[must_use]
    pub fn visible(&self, role: &str, entries: &[Entry]) -> Vec<bool> {
        let public = |entry: &Entry| {
            entry.kind == TargetKind::Route && self.routes.get(&entry.name).is_some_and(|route| route.public)
        };
        let Some(rule) = self.rules.get(role) else { return entries.iter().map(public).collect() };
        let visible = |entry: &Entry| match entry.kind {
            TargetKind::Tool => {
                let Entry { name, backend, upstream_name, .. } = entry;
                rule.see_tools && rule.reaches(&Names { shown: name, own: upstream_name, backend })
            }
            TargetKind::Resource => rule.resources,
            TargetKind::Prompt => rule.prompts,
            TargetKind::Route => {
                let Entry { name, backend, upstream_name, .. } = entry;
                public(entry)
                    || rule.routes && rule.reaches(&Names { shown: name, own: upstream_name, backend })
            }
            TargetKind::Command => rule.commands,
            TargetKind::Control => rule.control,
            TargetKind::Other => rule.has_any_permission(),
        };
        entries.iter().map(visible).collect()
    }
}

fn denied(message: String) -> Refusal {
    Refusal::new("permission_denied", message)
}

#[cfg(test)]
mod tests;
