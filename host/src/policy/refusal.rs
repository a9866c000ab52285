//! Why a plugin keeps a call from going on: it refuses, it wants a person to be asked, or it failed. Here each becomes the
//! one refusal that the caller hears.

use std::fmt::Display;

use crate::call::{Denial, DenialKind};
use crate::config::OnFailure;
use crate::plugin::{ApprovalRequest, Plugin, Refusal};
use crate::redact::Redaction;
use crate::text;

/// Longest machine word and message a plugin may send to a client.
const MAX_REASON: usize = 64;
const MAX_MESSAGE: usize = 500;

/// A plugin's words for the wire: without secrets, bounded, printable, and with the step they belong to.
pub(crate) fn denied(redaction: &Redaction, plugin: &Plugin, refusal: &Refusal, stage: DenialKind) -> Denial {
    let denial = worded(redaction, refusal, stage);
    let by = decided(plugin, "deny", &denial.reason);
    denial.decided(by)
}

fn worded(redaction: &Redaction, refusal: &Refusal, stage: DenialKind) -> Denial {
    let kind = match refusal.reason.as_str() {
        "rate_limited" => DenialKind::RateLimited,
        "circuit_open" => DenialKind::CircuitOpen,
        "state_unavailable" | "keys_unavailable" => DenialKind::Unavailable,
        // Known, and not allowed: also where it is the authenticator that says so (RFC 6750, section 3.1).
        "insufficient_scope" => DenialKind::Forbidden,
        "unknown_method" => DenialKind::UnknownMethod,
        _ => stage,
    };
    Denial {
        kind,
        reason: redaction.excerpt(&refusal.reason, MAX_REASON),
        message: redaction.excerpt(&refusal.message, MAX_MESSAGE),
        retry_after: refusal.retry_after,
        details: refusal
            .details
            .iter()
            .take(16)
            .map(|(name, value)| (redaction.excerpt(name, MAX_REASON), redaction.excerpt(value, MAX_MESSAGE)))
            .collect(),
        decided: None,
    }
}

/// Who decided what, for the record.
fn decided(plugin: &Plugin, verdict: &str, why: &str) -> String {
    let version = text::excerpt(plugin.version().as_bytes(), MAX_REASON);
    format!("{} {version} sha256 {}: {verdict} {why}", plugin.name(), plugin.digest())
}

/// The refusal of a call that somebody would have to approve: this gateway cannot ask anybody yet, so such a call never
/// goes on, whatever the plugin's `on_failure` says. It is no failure of the plugin.
pub(super) fn nobody_to_ask(redaction: &Redaction, plugin: &Plugin, request: &ApprovalRequest) -> Denial {
    let wanted = redaction.excerpt(&request.reason, MAX_REASON);
    let message = format!(
        "the plugin `{}` wants a person to approve this call ({wanted}: {}); approvals are not available in this gateway, so the call is refused",
        plugin.name(),
        redaction.excerpt(&request.summary, MAX_MESSAGE)
    );
    let mut denial = Denial::new(DenialKind::Forbidden, "approval_unavailable", message);
    let facts = [("approval_reason", wanted), ("approval_risk", request.risk.as_str().to_owned())];
    denial.details.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    denial.decided(decided(plugin, "ask", &request.reason))
}

/// What follows from a plugin's failure: a refusal, unless the operator chose otherwise. `part` says what kind of plugin it
/// is, `why` what went wrong, for the log, and `shown` how much of that the caller may be told.
pub(crate) fn failed(
    plugin: &Plugin,
    part: &str,
    why: impl Display,
    shown: Option<&str>,
) -> Result<(), Denial> {
    let name = plugin.name();
    metrics::counter!("sentinel_plugin_failures_total", "plugin" => name.to_owned()).increment(1);
    match plugin.on_failure() {
        OnFailure::Allow => {
            tracing::error!(plugin = name, "{why}; passed over, because its on_failure is \"allow\"");
            Ok(())
        }
        OnFailure::Deny => {
            tracing::error!(plugin = name, "{why}; the call is refused");
            let shown =
                shown.map_or_else(|| "; see the gateway's log".to_owned(), |shown| format!(": {shown}"));
            let message = format!("the {part} plugin `{name}` failed, so the call is refused{shown}");
            let denial = Denial::new(DenialKind::Unavailable, "plugin_failed", message);
            Err(denial.decided(decided(plugin, "fault", "")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Secrets;

    #[test]
    fn a_plugins_words_are_bounded_and_printable() {
        let refusal = Refusal {
            reason: "x".repeat(100),
            message: "a\u{1b}[31m\nb hunter22".to_owned(),
            retry_after: None,
            details: Vec::new(),
        };
        let secrets = Secrets { values: vec!["hunter22".to_owned()], ..Secrets::default() };
        let denial = worded(&Redaction::new(&secrets), &refusal, DenialKind::Forbidden);
        assert_eq!(denial.reason, format!("{}… [100 bytes]", "x".repeat(MAX_REASON)));
        assert_eq!(denial.message, r"a\u{1b}[31m\nb [redacted]");
    }
}
