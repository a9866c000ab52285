//! What each role may see and do; compiled when configured, so that a call costs one look-up.

use std::collections::{BTreeMap, HashMap};

use sentinel_plugin_sdk::{ConfigError, Entry, Refusal, TargetKind};
use serde::Deserialize;

use crate::glob::Matcher;

/// The words of `permissions`.
const PERMISSIONS: [&str; 5] = ["*", "tools.read", "tools.execute", "resources.read", "prompts.read"];

/// What the operator writes under the plugin's name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The roles by name. A role that is not here may do nothing.
    pub roles: BTreeMap<String, RoleConfig>,
}

/// One role.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    /// `*`, `tools.read`, `tools.execute` (implies `tools.read`), `resources.read`, `prompts.read`.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Tools that the role may neither see nor call, whatever its permissions; `*` in a name stands for anything.
    #[serde(default)]
    pub denied_tools: Vec<String>,
    /// If given, the only tools that the role may see and call.
    #[serde(default)]
    pub allowed_tools: Option<Vec<String>>,
}

/// The compiled roles.
#[derive(Debug)]
pub struct Roles {
    rules: HashMap<String, Rule>,
}

#[derive(Debug, Default)]
struct Rule {
    see_tools: bool,
    call_tools: bool,
    resources: bool,
    prompts: bool,
    denied: Matcher,
    allowed: Option<Matcher>,
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
        if errors.is_empty() { Ok(Roles { rules }) } else { Err(errors) }
    }
}

impl RoleConfig {
    fn check(&self, path: &str, errors: &mut Vec<ConfigError>) -> Rule {
        let mut rule = Rule::default();
        for (index, word) in self.permissions.iter().enumerate() {
            match word.as_str() {
                "*" => {
                    (rule.see_tools, rule.call_tools, rule.resources, rule.prompts) = (true, true, true, true)
                }
                "tools.read" => rule.see_tools = true,
                "tools.execute" => (rule.see_tools, rule.call_tools) = (true, true),
                "resources.read" => rule.resources = true,
                "prompts.read" => rule.prompts = true,
                _ => errors.push(unknown_permission(&format!("{path}/permissions/{index}"), word)),
            }
        }
        let lists =
            [("denied_tools", Some(&self.denied_tools)), ("allowed_tools", self.allowed_tools.as_ref())];
        for (key, list) in lists {
            for (index, pattern) in list.into_iter().flatten().enumerate() {
                if pattern.trim() != pattern || pattern.is_empty() {
                    errors.push(ConfigError::new(
                        format!("{path}/{key}/{index}"),
                        "is empty or starts or ends with a blank: it would match no tool",
                    ));
                }
            }
        }
        rule.denied = Matcher::new(self.denied_tools.iter().map(String::as_str));
        rule.allowed = self.allowed_tools.as_ref().map(|list| Matcher::new(list.iter().map(String::as_str)));
        rule
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
    /// Whether the lists leave this tool to the role.
    ///
    /// When two backends have a tool of one name, the gateway offers it as `backend_name`. A denial has to
    /// survive that, so the name without the backend is denied too; an allowance need not.
    fn reaches(&self, tool: &str, backend: &str) -> bool {
        let own = tool.strip_prefix(backend).and_then(|rest| rest.strip_prefix('_'));
        let denied = self.denied.matches(tool) || own.is_some_and(|own| self.denied.matches(own));
        !denied && self.allowed.as_ref().is_none_or(|allowed| allowed.matches(tool))
    }

    fn has_any_permission(&self) -> bool {
        self.see_tools || self.call_tools || self.resources || self.prompts
    }
}

impl Roles {
    /// Whether a caller of this role may make this call.
    ///
    /// # Errors
    /// `permission_denied`, naming the role and the target.
    pub fn check(&self, role: &str, kind: TargetKind, name: &str, backend: &str) -> Result<(), Refusal> {
        let Some(rule) = self.rules.get(role) else {
            return Err(denied(format!("The role {role:?} is not known here, so it may not use {name:?}.")));
        };
        let (allowed, what, missing) = match kind {
            TargetKind::Tool if rule.call_tools && !rule.reaches(name, backend) => {
                return Err(denied(format!("The role {role:?} is denied the tool {name:?}.")));
            }
            TargetKind::Tool => (rule.call_tools, "call the tool", "tools.execute"),
            TargetKind::Resource => (rule.resources, "read the resource", "resources.read"),
            TargetKind::Prompt => (rule.prompts, "use the prompt", "prompts.read"),
            TargetKind::Other => (rule.has_any_permission(), "use", "any"),
        };
        if allowed {
            return Ok(());
        }
        Err(denied(format!("The role {role:?} may not {what} {name:?}: it lacks the permission {missing}.")))
    }

    /// Which entries a caller of this role may know of, in their order.
    #[must_use]
    pub fn visible(&self, role: &str, entries: &[Entry]) -> Vec<bool> {
        let Some(rule) = self.rules.get(role) else { return vec![false; entries.len()] };
        let visible = |entry: &Entry| match entry.kind {
            TargetKind::Tool => rule.see_tools && rule.reaches(&entry.name, &entry.backend),
            TargetKind::Resource => rule.resources,
            TargetKind::Prompt => rule.prompts,
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
