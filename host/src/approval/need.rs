//! What one guard wants a person to decide, with the operator's defaults filled in, so that it means the same whenever it is
//! read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Risk;
use crate::config;
use crate::plugin::ApprovalRequest;
use crate::redact::Redaction;

/// Longest word, sentence and value that a guard may put before a person, in bytes.
const MAX_WORD: usize = 64;
const MAX_TEXT: usize = 500;
/// Most details and groups of one guard.
const MAX_PARTS: usize = 16;
/// A person cannot be given less time than this, in milliseconds.
const LEAST_MS: u64 = 1_000;

/// What one guard wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// The plugin.
    pub guard: String,
    /// Its stable word.
    pub reason: String,
    /// Its sentence for the person who decides.
    pub summary: String,
    pub risk: Risk,
    /// Who may decide; the first that is reached counts. Never empty.
    pub groups: Vec<Group>,
    /// More facts for the person.
    pub details: Vec<(String, String)>,
    /// How long the request may stay open, in milliseconds.
    pub decide_ms: u64,
    /// How long after the approval the call may be made, in milliseconds.
    pub run_ms: u64,
}

/// Who may decide, and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub name: String,
    /// The roles whose members count; empty: everybody who may decide at all.
    pub roles: Vec<String>,
    /// So many approvals permit the call.
    pub approve: u32,
    /// So many rejections end the request.
    pub deny: u32,
}

impl Group {
    /// Whether the members of a role count.
    pub(super) fn takes(&self, role: &str) -> bool {
        self.roles.is_empty() || self.roles.iter().any(|own| own == role)
    }

    /// Whether this group has decided only when the other would have, too, and ends a request when the other would.
    pub(super) fn is_as_strict_as(&self, other: &Self) -> bool {
        let within = other.roles.is_empty()
            || (!self.roles.is_empty() && self.roles.iter().all(|role| other.takes(role)));
        within && self.approve >= other.approve && self.deny <= other.deny
    }
}

impl Need {
    /// What a guard wants, within the operator's limits and in words that may be shown.
    #[must_use]
    pub fn new(
        guard: &str,
        request: &ApprovalRequest,
        settings: &config::Approvals,
        redaction: &Redaction,
    ) -> Self {
        let word = |text: &str| redaction.excerpt(text, MAX_WORD);
        let text = |text: &str| redaction.excerpt(text, MAX_TEXT);
        let mut groups: Vec<Group> = request
            .thresholds
            .iter()
            .take(MAX_PARTS)
            .map(|group| Group {
                name: word(&group.name),
                roles: if group.roles.is_empty() { settings.approvers.clone() } else { group.roles.clone() },
                approve: group.approve.max(1),
                deny: group.deny.max(1),
            })
            .collect();
        if groups.is_empty() {
            groups.push(Group {
                name: "approvers".to_owned(),
                roles: settings.approvers.clone(),
                approve: settings.approve,
                deny: settings.deny,
            });
        }
        let most = match request.risk {
            Risk::High => settings.decide_high.min(settings.decide),
            Risk::Low | Risk::Medium => settings.decide,
        };
        let details = request.details.iter().take(MAX_PARTS);
        Self {
            guard: guard.to_owned(),
            reason: word(&request.reason),
            summary: text(&request.summary),
            risk: request.risk,
            groups,
            details: details.map(|(name, value)| (word(name), text(value))).collect(),
            decide_ms: within(request.decide_within, most),
            run_ms: within(request.run_within, settings.run),
        }
    }
}

/// What a guard asked for, at most what the operator allows.
fn within(asked: Option<Duration>, most: Duration) -> u64 {
    let time = asked.map_or(most, |asked| asked.min(most));
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(LEAST_MS)
}
