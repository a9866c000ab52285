//! What a plugin answered in one case, and whether it is what was expected.

use std::time::Duration;

use serde_json::Value;

use super::cases::{Expected, Verdict};

/// What came out of a case.
#[derive(Debug)]
pub struct Found {
    pub verdict: Verdict,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub retry_after_ms: Option<u64>,
    pub details: Vec<(String, String)>,
    pub permit: Option<bool>,
    /// The permit that a guard gave.
    pub(super) given: Option<u64>,
    pub risk: Option<String>,
    pub subject: Option<String>,
    pub role: Option<String>,
    pub claims: Vec<(String, String)>,
    pub params: Option<Value>,
    pub headers: Vec<(String, String)>,
    pub notes: Vec<(String, String)>,
    pub result: Option<Value>,
    pub items: Option<Vec<Value>>,
    pub visible: Option<Vec<bool>>,
    /// Steps the plugin took.
    pub fuel: u64,
    pub took: Duration,
}

impl Found {
    /// A verdict and nothing more.
    pub(super) fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            reason: None,
            message: None,
            retry_after_ms: None,
            details: Vec::new(),
            permit: None,
            given: None,
            risk: None,
            subject: None,
            role: None,
            claims: Vec::new(),
            params: None,
            headers: Vec::new(),
            notes: Vec::new(),
            result: None,
            items: None,
            visible: None,
            fuel: 0,
            took: Duration::ZERO,
        }
    }

    /// Everything that is not as expected, one sentence each; what stands in the file but does not belong to the answer is
    /// among it.
    pub(super) fn against(&self, wanted: &Expected) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.verdict != wanted.verdict {
            let why = self.message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default();
            let (found, wanted) = (self.verdict.as_str(), wanted.verdict.as_str());
            wrong.push(format!("the verdict is {found}{why}, not {wanted}"));
        }
        same(&mut wrong, "reason", wanted.reason.as_ref(), self.reason.as_ref());
        same(&mut wrong, "retry_after_ms", wanted.retry_after_ms.as_ref(), self.retry_after_ms.as_ref());
        same(&mut wrong, "permit", wanted.permit.as_ref(), self.permit.as_ref());
        same(&mut wrong, "risk", wanted.risk.as_ref(), self.risk.as_ref());
        same(&mut wrong, "subject", wanted.subject.as_ref(), self.subject.as_ref());
        same(&mut wrong, "role", wanted.role.as_ref(), self.role.as_ref());
        same(&mut wrong, "visible", wanted.visible.as_ref(), self.visible.as_ref());
        if let Some(part) = &wanted.message
            && !self.message.as_ref().is_some_and(|message| message.contains(part))
        {
            wrong.push(format!(
                "the message is {:?}, without {part:?}",
                self.message.as_deref().unwrap_or("")
            ));
        }
        json(&mut wrong, "params", wanted.params.as_ref(), self.params.as_ref());
        let arguments = self.params.as_ref().and_then(|params| params.get("arguments"));
        json(&mut wrong, "arguments", wanted.arguments.as_ref(), arguments);
        json(&mut wrong, "result", wanted.result.as_ref(), self.result.as_ref());
        let list = |items: &Vec<Value>| Value::Array(items.clone());
        json(
            &mut wrong,
            "items",
            wanted.items.as_ref().map(list).as_ref(),
            self.items.as_ref().map(list).as_ref(),
        );
        for (what, wanted, found) in [
            ("details", &wanted.details, &self.details),
            ("claims", &wanted.claims, &self.claims),
            ("headers", &wanted.headers, &self.headers),
            ("notes", &wanted.notes, &self.notes),
        ] {
            for (name, value) in wanted {
                let known = found.iter().find(|(known, _)| known == name).map(|(_, value)| value);
                same(&mut wrong, &format!("{what}.{name}"), Some(value), known);
            }
        }
        if let Some(most) = wanted.fuel
            && self.fuel > most
        {
            wrong.push(format!("it took {} steps, and may take {most}", self.fuel));
        }
        wrong
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    wrong: &mut Vec<String>,
    what: &str,
    wanted: Option<&T>,
    found: Option<&T>,
) {
    match (wanted, found) {
        (Some(wanted), Some(found)) if wanted != found => {
            wrong.push(format!("{what} is {found:?}, not {wanted:?}"));
        }
        (Some(wanted), None) => wrong.push(format!("{what} is missing; it should be {wanted:?}")),
        _ => {}
    }
}

fn json(wrong: &mut Vec<String>, what: &str, wanted: Option<&Value>, found: Option<&Value>) {
    match (wanted, found) {
        (Some(wanted), Some(found)) if wanted != found => {
            wrong.push(format!("{what} is {found}, not {wanted}"));
        }
        (Some(wanted), None) => wrong.push(format!("{what} is missing; it should be {wanted}")),
        _ => {}
    }
}
