//! What a caller is told: the refusal, and the fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers.

use std::fmt::Write;

use sentinel_plugin_sdk::{Field, Refusal};

use crate::config::Tier;
use crate::decide::{Full, Usage};

/// Whole seconds, never less than the time itself.
pub(crate) fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

/// The policies of a tier, as a list of structured fields: `"hour";q=100;w=3600`.
pub(crate) fn policy(tier: &Tier) -> String {
    let mut text = String::new();
    for window in &tier.windows {
        let _ = write!(text, "{}\"{}\";q={};w={}", comma(&text), window.name, window.limit, window.seconds);
    }
    if let Some(most) = tier.concurrent {
        let _ = write!(text, "{}\"concurrent\";q={most};qu=\"concurrent-requests\"", comma(&text));
    }
    text
}

/// What is left of each: `"hour";r=50;t=30`. Of a refused call only those that refused it: `Retry-After` must not come before any
/// `t` beside it, and another window may say a later one.
pub(crate) fn left(tier: &Tier, usage: &Usage, now_ms: u64, refused: Option<&Full>) -> String {
    let mut text = String::new();
    for (at, window) in tier.windows.iter().enumerate() {
        if refused.is_some_and(|full| !full.windows.contains(&at)) {
            continue;
        }
        let (left, more) = usage.left(tier, at, now_ms);
        let _ = write!(text, "{}\"{}\";r={left}", comma(&text), window.name);
        if let Some(more) = more {
            let _ = write!(text, ";t={}", seconds(more));
        }
    }
    if let Some(most) = tier.concurrent.filter(|_| refused.is_none_or(|full| full.concurrent)) {
        let left = (most as usize).saturating_sub(usage.leases.len());
        let _ = write!(text, "{}\"concurrent\";r={left}", comma(&text));
    }
    text
}

fn comma(text: &str) -> &'static str {
    if text.is_empty() { "" } else { ", " }
}

/// The refusal of a call that does not fit.
pub(crate) fn refused(tier: &Tier, usage: &Usage, full: &Full, now_ms: u64) -> Refusal {
    let mut names: Vec<&str> =
        full.windows.iter().filter_map(|at| Some(tier.windows.get(*at)?.name.as_str())).collect();
    let mut what: Vec<String> = full
        .windows
        .iter()
        .filter_map(|at| tier.windows.get(*at))
        .map(|window| format!("{} calls per {}", window.limit, window.name))
        .collect();
    if let Some(most) = tier.concurrent.filter(|_| full.concurrent) {
        names.push("concurrent");
        what.push(format!("{most} calls at once"));
    }
    let again = match full.retry_after_ms {
        Some(wait) => format!("try again in {} s", seconds(wait)),
        None => "waiting does not help".to_owned(),
    };
    let field = |name: &str, value: String| Field { name: name.to_owned(), value };
    Refusal {
        retry_after_ms: full.retry_after_ms,
        details: vec![
            field("tier", tier.name.clone()),
            field("violated_policies", names.join(", ")),
            field("RateLimit-Policy", policy(tier)),
            field("RateLimit", left(tier, usage, now_ms, Some(full))),
        ],
        ..Refusal::new(
            "rate_limited",
            format!("The tier {:?} has {}; {again}.", tier.name, what.join(" and ")),
        )
    }
}

/// The refusal of one of very many calls that came at the same instant.
pub(crate) fn busy() -> Refusal {
    Refusal {
        retry_after_ms: Some(1_000),
        ..Refusal::new(
            "rate_limited",
            "Too many calls of one caller came at the same instant; try again in 1 s.",
        )
    }
}

/// The refusal while the cells cannot be used.
pub(crate) fn unavailable() -> Refusal {
    Refusal::new(
        "state_unavailable",
        "The limits of the caller's tier could not be checked, so the call was refused.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Window;

    #[test]
    fn the_fields_are_those_of_the_draft() {
        let window = |name: &str, limit, seconds| Window { name: name.to_owned(), limit, seconds };
        let tier = Tier {
            name: "free".to_owned(),
            windows: vec![window("minute", 2, 60), window("day", 9, 86_400)],
            concurrent: Some(3),
            lease_ms: 1_000,
        };
        let mut usage = Usage::default();
        assert!(usage.take(&tier, 0).is_ok());
        assert_eq!(
            policy(&tier),
            r#""minute";q=2;w=60, "day";q=9;w=86400, "concurrent";q=3;qu="concurrent-requests""#
        );
        assert_eq!(left(&tier, &usage, 0, None), r#""minute";r=1;t=62, "day";r=8;t=89280, "concurrent";r=2"#);
        assert!(usage.take(&tier, 500).is_ok());
        let full = usage.take(&tier, 600).unwrap_err();
        let refusal = refused(&tier, &usage, &full, 600);
        assert_eq!(left(&tier, &usage, 600, Some(&full)), r#""minute";r=0;t=62"#);
        assert_eq!(refusal.message, "The tier \"free\" has 2 calls per minute; try again in 62 s.");
        assert_eq!((refusal.reason.as_str(), refusal.details[1].value.as_str()), ("rate_limited", "minute"));
    }
}
