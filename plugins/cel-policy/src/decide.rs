//! The rules in their order: the first that holds decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::{Context, Env, Program, Value};
use sentinel_plugin_sdk::names;
use sentinel_plugin_sdk::{ApprovalRequest, Refusal, Risk, Threshold, Verdict};

use super::look::ROOTS;
use super::value;

/// Where the parts of a call come from; each is asked for at most once, and only if a rule names it.
pub(crate) trait Source {
    /// One text: `caller.role`, the claim `team`.
    fn word(&self, root: &str, field: &str) -> Option<String>;
    /// A part that is JSON: `args`.
    fn json(&self, root: &str) -> Option<String>;
}

/// What a rule does with a call that it holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Allow,
    Deny,
    Ask,
}

/// One rule, compiled.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) then: Then,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) risk: Risk,
    /// Whose approval it takes; empty: as the operator set it.
    pub(crate) approvers: Vec<String>,
}

/// All rules, and what becomes of a call that none holds for.
pub(crate) struct Policy {
    pub(crate) rules: Vec<Rule>,
    pub(crate) otherwise: Then,
    /// The parts of a call that some rule names.
    pub(crate) roots: BTreeSet<String>,
    pub(crate) claims: BTreeSet<String>,
    pub(crate) env: Arc<Env>,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Policy {
    /// Judges a call.
    ///
    /// # Errors
    /// A rule denies it, none allows it, or one cannot be judged: what it says of such a call is not known, so the call is
    /// refused.
    pub(crate) fn judge(&self, call: &impl Source) -> Result<Verdict, Refusal> {
        let context = self.context(call);
        for rule in &self.rules {
            match rule.program.execute(&context) {
                Ok(Value::Bool(true)) => return rule.outcome(),
                Ok(Value::Bool(false)) => {}
                Ok(other) => {
                    let what = other.type_of();
                    return Err(rule.unsure(&format!("it came to {what:?}, and has to be true or false")));
                }
                Err(error) => return Err(rule.unsure(&error.to_string())),
            }
        }
        match self.otherwise {
            Then::Allow => Ok(Verdict::ALLOW),
            Then::Deny | Then::Ask => Err(Refusal::new("no_rule", "No rule allows this call.")),
        }
    }

    fn context(&self, call: &impl Source) -> Context<'static, 'static> {
        let mut context = Context::with_env(self.env.clone());
        // Were it missing, a rule that calls it could not be judged, and so would refuse.
        let _ = context
            .add_function("glob", |text: Arc<String>, pattern: Arc<String>| names::fits(&pattern, &text));
        for root in &self.roots {
            let fields = ROOTS.iter().find(|(known, _)| known == root).and_then(|(_, fields)| *fields);
            let word = |field: &str| Some((field.to_owned(), Value::from(call.word(root, field)?)));
            let value = match fields {
                Some(fields) => value::map(fields.iter().filter_map(|field| word(field))),
                None if root == "claims" => value::map(self.claims.iter().filter_map(|claim| word(claim))),
                // What a call does not have is an empty object, so that `has(args.path)` is false and no error.
                None => match call.json(root) {
                    Some(json) => value::read(&json),
                    None => value::map(std::iter::empty()),
                },
            };
            context.add_variable_from_value(root.as_str(), value);
        }
        context
    }
}

impl Rule {
    fn outcome(&self) -> Result<Verdict, Refusal> {
        match self.then {
            Then::Allow => Ok(Verdict::ALLOW),
            Then::Deny => Err(Refusal::new(&self.reason, self.message.as_str())),
            Then::Ask => {
                let mut request = ApprovalRequest::new(&self.reason, self.message.as_str(), self.risk);
                if !self.approvers.is_empty() {
                    request.thresholds = vec![Threshold {
                        name: self.name.clone(),
                        roles: self.approvers.clone(),
                        approve: 1,
                        deny: 1,
                    }];
                }
                Ok(Verdict::Ask(request))
            }
        }
    }

    fn unsure(&self, why: &str) -> Refusal {
        let message = format!("The rule {:?} cannot be judged for this call: {why}.", self.name);
        Refusal::new("rule_failed", message)
    }
}
