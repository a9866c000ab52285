//! Which commands may be run at once, which are refused, and about which a person is asked.
//!
//! The strictest rule that fits decides: a denial before a question, a question before an allowance. Where none fits, the
//! default holds, which is to ask. In production nothing is allowed without a person, whatever the rules say.

use std::collections::BTreeMap;

use sentinel_plugin_sdk::{ApprovalRequest, ConfigError, Field, Refusal, Risk, Threshold};
use serde::Deserialize;
use serde_json::Value;

/// The plugin's section of the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The environment of each executor, by its name; the gateway writes this.
    pub executors: BTreeMap<String, String>,
    /// The environments in which commands may be run at all. Empty: in none.
    pub allowed_environments: Vec<String>,
    /// The environments that are production.
    #[serde(default = "production")]
    pub production: Vec<String>,
    /// What becomes of a command that no rule is about.
    #[serde(default)]
    pub default_decision: Word,
    /// The rules; their order does not matter.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
}

fn production() -> Vec<String> {
    ["prd", "prod", "production"].map(str::to_owned).to_vec()
}

/// What a rule says.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// It is run.
    Allow,
    /// A person decides.
    #[default]
    Ask,
    /// It is refused.
    Deny,
}

/// How much harm the wrong command would do.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "UPPERCASE")]
pub enum Harm {
    /// Little.
    #[serde(alias = "low")]
    Low,
    /// Some.
    #[default]
    #[serde(alias = "medium")]
    Medium,
    /// Much.
    #[serde(alias = "high")]
    High,
}

/// One rule. It fits a call that fits all it names; what it does not name is left open.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// What becomes of the call.
    pub decision: Word,
    /// Names of commands.
    #[serde(default)]
    pub commands: Option<Vec<String>>,
    /// Environments.
    #[serde(default)]
    pub environments: Option<Vec<String>>,
    /// Subjects of callers.
    #[serde(default)]
    pub subjects: Option<Vec<String>>,
    /// Roles of callers.
    #[serde(default)]
    pub roles: Option<Vec<String>>,
    /// Values of slots: those that the rule is about, as texts. An allowance needs every value that is given to be among
    /// them; a denial or a question needs one.
    #[serde(default)]
    pub slots: BTreeMap<String, Vec<String>>,
    /// For a question: how much harm the wrong command would do.
    #[serde(default)]
    pub risk: Harm,
    /// For a question: the roles of those who may decide; empty for those that the operator lets approve.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// For a question: how many have to approve.
    #[serde(default = "one")]
    pub approvals: u32,
    /// A stable machine word for the refusal or the question.
    #[serde(default)]
    pub reason: Option<String>,
}

fn one() -> u32 {
    1
}

/// The call that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'text> {
    /// The environment of its executor.
    pub environment: &'text str,
    /// The command's name.
    pub command: &'text str,
    /// Who calls.
    pub subject: &'text str,
    /// Their role.
    pub role: &'text str,
}

/// What becomes of a call that is not refused.
#[derive(Debug)]
pub enum Decision {
    /// It is run.
    Allow,
    /// A person decides first.
    Ask(Box<ApprovalRequest>),
}

/// The JSON text of what is given for a slot.
pub type Slots<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The rules, checked.
#[derive(Debug)]
pub struct Policy(Config);

impl Config {
    /// Makes sure that the rules mean something.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn check(self) -> Result<Policy, Vec<ConfigError>> {
        let mut errors = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let at = |key: &str| format!("/rules/{index}/{key}");
            let lists = [
                ("commands", &rule.commands),
                ("environments", &rule.environments),
                ("subjects", &rule.subjects),
                ("roles", &rule.roles),
            ];
            for (key, list) in lists {
                if list.as_ref().is_some_and(Vec::is_empty) {
                    let error =
                        ConfigError::new(at(key), "names nothing, so the rule would be about nothing");
                    errors.push(error.hint("leave it out, if the rule is about all"));
                }
            }
            for (slot, _) in rule.slots.iter().filter(|(_, values)| values.is_empty()) {
                errors.push(ConfigError::new(format!("/rules/{index}/slots/{slot}"), "names no value"));
            }
            for environment in rule.environments.iter().flatten() {
                if !self.executors.values().any(|known| known == environment) {
                    let error =
                        ConfigError::new(at("environments"), format!("no executor is for {environment:?}"));
                    errors.push(error.hint("an `environment` of [[executors]]"));
                }
            }
            if rule.approvals == 0 {
                errors.push(ConfigError::new(at("approvals"), "must be at least 1"));
            }
        }
        if errors.is_empty() { Ok(Policy(self)) } else { Err(errors) }
    }
}

impl Policy {
    /// The environment that a backend runs commands in; none if it runs none.
    #[must_use]
    pub fn environment(&self, backend: &str) -> Option<&str> {
        self.0.executors.get(backend).map(String::as_str)
    }

    /// What becomes of a call of a command.
    ///
    /// # Errors
    /// `wrong_environment` or `command_denied`.
    pub fn decide(&self, asked: Asked<'_>, slots: Slots<'_>) -> Result<Decision, Refusal> {
        let Asked { environment, command, subject, .. } = asked;
        let among = |list: &[String]| list.iter().any(|known| known == environment);
        if !among(&self.0.allowed_environments) {
            let text = format!("Commands may not be run in the environment {environment:?} from here.");
            return Err(Refusal::new("wrong_environment", text));
        }
        let strictest = self.0.rules.iter().filter(|rule| rule.fits(asked, slots)).max_by_key(|rule| {
            // Of several questions the one about the greatest harm is asked, and of those the one that needs most.
            (rule.decision, rule.risk, rule.approvals)
        });
        let mut word = strictest.map_or(self.0.default_decision, |rule| rule.decision);
        let production = among(&self.0.production);
        if production && word == Word::Allow {
            word = Word::Ask;
        }
        match word {
            Word::Allow => Ok(Decision::Allow),
            Word::Deny => {
                let reason = strictest.and_then(|rule| rule.reason.as_deref()).unwrap_or("command_denied");
                let text = format!("The command {command:?} is denied to {subject:?} in {environment:?}.");
                Err(Refusal::new(reason, text))
            }
            Word::Ask => {
                let risk =
                    if production { Harm::High } else { strictest.map_or(Harm::Medium, |rule| rule.risk) };
                let reason = strictest.and_then(|rule| rule.reason.as_deref());
                let reason = reason.unwrap_or(if production { "production_command" } else { "command" });
                let text = format!("{subject} wants to run {command} in {environment}.");
                let mut request = ApprovalRequest::new(reason, text, risk.into());
                if let Some(rule) = strictest.filter(|rule| !rule.approvers.is_empty() || rule.approvals > 1)
                {
                    request.thresholds.push(Threshold {
                        name: "approvers".to_owned(),
                        roles: rule.approvers.clone(),
                        approve: rule.approvals,
                        deny: 1,
                    });
                }
                request.details.push(Field { name: "environment".to_owned(), value: environment.to_owned() });
                request.details.push(Field { name: "command".to_owned(), value: command.to_owned() });
                Ok(Decision::Ask(Box::new(request)))
            }
        }
    }
}

impl RuleConfig {
    fn fits(&self, asked: Asked<'_>, slots: Slots<'_>) -> bool {
        let names = |list: &Option<Vec<String>>, text: &str| {
            list.as_ref().is_none_or(|list| list.iter().any(|known| known == text))
        };
        names(&self.commands, asked.command)
            && names(&self.environments, asked.environment)
            && names(&self.subjects, asked.subject)
            && names(&self.roles, asked.role)
            && self.slots.iter().all(|(slot, values)| {
                let given = given(slots(slot).as_deref());
                let known = |value: &String| values.contains(value);
                match self.decision {
                    Word::Allow => {
                        given.as_ref().is_some_and(|given| !given.is_empty() && given.iter().all(known))
                    }
                    // What cannot be read may be anything.
                    Word::Ask | Word::Deny => given.as_ref().is_none_or(|given| given.iter().any(known)),
                }
            })
    }
}

/// The values of a slot as texts; none if they cannot be read as such. A slot that is not given has none of them.
fn given(json: Option<&str>) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() => Some(number.to_string()),
        _ => None,
    };
    match json {
        None => Some(Vec::new()),
        Some(json) => match serde_json::from_str(json).ok()? {
            Value::Array(values) => values.iter().map(one).collect(),
            value => Some(vec![one(&value)?]),
        },
    }
}

impl From<Harm> for Risk {
    fn from(harm: Harm) -> Self {
        match harm {
            Harm::Low => Self::Low,
            Harm::Medium => Self::Medium,
            Harm::High => Self::High,
        }
    }
}

#[cfg(test)]
mod tests;
