//! Which calls that a role may make need a person's approval as well.

use sentinel_plugin_sdk::names::Rules;
use sentinel_plugin_sdk::{ApprovalRequest, ConfigError, Risk, TargetKind, Threshold};
use serde::Deserialize;

use super::{Asked, check_patterns};

/// Tools that are done only after a person has approved it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalConfig {
    /// Names of tools, as in `denied_tools`; of routes and commands as well.
    pub tools: Vec<String>,
    /// The roles whose calls it is about; empty: those of every role.
    #[serde(default)]
    pub roles: Vec<String>,
    /// How much harm the wrong call does.
    #[serde(default)]
    pub risk: RiskConfig,
    /// The sentence that the person reads; empty: who wants to use what.
    #[serde(default)]
    pub summary: String,
    /// The roles whose members may approve; empty: as the operator set it for all.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// So many of them have to approve it; none: as the operator set it for all.
    #[serde(default)]
    pub approve: Option<u32>,
    /// So many of them end it by rejecting it; none: one.
    #[serde(default)]
    pub deny: Option<u32>,
}

/// The words for the risk.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RiskConfig {
    Low,
    #[default]
    Medium,
    High,
}

/// One compiled rule.
#[derive(Debug)]
pub(super) struct Asking {
    tools: Rules,
    config: ApprovalConfig,
}

impl ApprovalConfig {
    pub(super) fn check(self, at: &str, errors: &mut Vec<ConfigError>) -> Asking {
        let tools = format!("{at}/tools");
        if self.tools.is_empty() {
            errors.push(ConfigError::new(&tools, "names no tool, so nobody would ever be asked"));
        }
        check_patterns(&tools, &self.tools, errors);
        for (key, count) in [("approve", self.approve), ("deny", self.deny)] {
            if count == Some(0) {
                errors.push(ConfigError::new(format!("{at}/{key}"), "has to be at least 1"));
            }
        }
        Asking { tools: Rules::new(self.tools.iter().map(String::as_str)), config: self }
    }
}

impl Asking {
    /// Whether this call needs an approval by this rule.
    pub(super) fn is_about(&self, role: &str, asked: &Asked<'_>) -> bool {
        let kind = matches!(asked.kind, TargetKind::Tool | TargetKind::Route | TargetKind::Command);
        let roles = &self.config.roles;
        kind && (roles.is_empty() || roles.iter().any(|own| own == role)) && self.tools.hits(&asked.names)
    }

    /// What the person is asked.
    pub(super) fn request(&self, subject: &str, asked: &Asked<'_>) -> ApprovalRequest {
        let ApprovalConfig { risk, summary, approvers, approve, deny, .. } = &self.config;
        let risk = match risk {
            RiskConfig::Low => Risk::Low,
            RiskConfig::Medium => Risk::Medium,
            RiskConfig::High => Risk::High,
        };
        let summary = if summary.is_empty() {
            format!("{subject} wants to use {}.", asked.names.shown)
        } else {
            summary.clone()
        };
        let mut request = ApprovalRequest::new("approval_required", summary, risk);
        // Without any of these the operator's own numbers hold.
        if !approvers.is_empty() || approve.is_some() || deny.is_some() {
            request.thresholds.push(Threshold {
                name: if approvers.is_empty() { "approvers".to_owned() } else { approvers.join(", ") },
                roles: approvers.clone(),
                approve: approve.unwrap_or(1),
                deny: deny.unwrap_or(1),
            });
        }
        request
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use sentinel_plugin_sdk::names::Names;

    use super::super::{Config, Roles};
    use super::*;

    fn roles(rules: &str) -> Result<Roles, Vec<ConfigError>> {
        let json =
            format!("{{\"roles\": {{\"user\": {{\"permissions\": [\"*\"]}}}}, \"approvals\": {rules}}}");
        serde_json::from_str::<Config>(&json).unwrap().check()
    }

    fn ann() -> String {
        "ann".to_owned()
    }

    fn asked<'t>(kind: TargetKind, shown: &'t str, own: &'t str) -> Asked<'t> {
        Asked { method: "tools/call", kind, names: Names { shown, own, backend: "files" } }
    }

    #[test]
    fn the_first_rule_that_fits_says_what_a_person_is_asked() {
        let roles = roles(
            r#"[{"tools": ["files/write_*"], "risk": "high", "approvers": ["lead"], "approve": 2},
                {"tools": ["write_file", "deploy"], "roles": ["user"], "summary": "It changes production."}]"#,
        )
        .unwrap();
        let request = roles.asks("user", ann, asked(TargetKind::Tool, "write_file", "write_file")).unwrap();
        assert_eq!((request.risk, request.summary.as_str()), (Risk::High, "ann wants to use write_file."));
        assert_eq!((request.thresholds[0].approve, request.thresholds[0].deny), (2, 1));
        assert_eq!(request.thresholds[0].roles, ["lead"]);
        let request = roles.asks("user", ann, asked(TargetKind::Command, "deploy", "deploy")).unwrap();
        assert_eq!((request.risk, request.summary.as_str()), (Risk::Medium, "It changes production."));
        assert!(request.thresholds.is_empty(), "as the operator set it");
        assert!(roles.asks("admin", ann, asked(TargetKind::Tool, "deploy", "deploy")).is_none());
        assert!(roles.asks("user", ann, asked(TargetKind::Tool, "read_file", "read_file")).is_none());
        assert!(roles.asks("user", ann, asked(TargetKind::Resource, "deploy", "deploy")).is_none());
    }

    #[test]
    fn a_rule_that_would_ask_nobody_or_nothing_is_a_mistake() {
        for (rules, place) in [
            (r#"[{"tools": []}]"#, "/approvals/0/tools"),
            (r#"[{"tools": ["a"]}, {"tools": ["b"], "approve": 0}]"#, "/approvals/1/approve"),
            (r#"[{"tools": ["a"], "deny": 0}]"#, "/approvals/0/deny"),
        ] {
            assert_eq!(roles(rules).unwrap_err()[0].path, place);
        }
    }
}
