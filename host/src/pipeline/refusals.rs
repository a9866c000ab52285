//! The last refusals, for operators who ask who was refused, and why.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::redact::Redaction;
use crate::text;

/// So many are kept.
const KEPT: usize = 16;

/// The last refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<VecDeque<LastRefusal>>);

/// One refusal, in words that may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastRefusal {
    /// In milliseconds since 1970.
    pub at_ms: i64,
    /// Empty for a caller who is not known.
    pub subject: String,
    pub role: String,
    pub door: &'static str,
    /// The word in the record: `denied`.
    pub status: &'static str,
    /// What was asked for: `tools/call echo`.
    pub asked: String,
    pub why: String,
}

impl Refusals {
    /// Keeps one, without secrets, in place of the oldest. What comes in crowds and is the same is kept once, as it was last.
    pub(super) fn note(&self, redaction: &Redaction, refused: LastRefusal) {
        let shown = |said: &str| redaction.excerpt(said, text::SHORT);
        let LastRefusal { at_ms, subject, role, door, status, asked, why } = refused;
        let (subject, role) = (shown(&subject), shown(&role));
        let refused =
            LastRefusal { at_ms, subject, role, door, status, asked: shown(&asked), why: shown(&why) };
        let mut kept = self.0.lock();
        let like = |old: &LastRefusal| LastRefusal { at_ms, ..old.clone() } == refused;
        if let Some(place) = kept.iter().position(like) {
            kept.remove(place);
        }
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(refused);
    }

    /// The newest first.
    #[must_use]
    pub(crate) fn newest(&self) -> Vec<LastRefusal> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Secrets;

    fn refused(at_ms: i64, asked: &str) -> LastRefusal {
        LastRefusal {
            at_ms,
            subject: "ann".to_owned(),
            role: "user".to_owned(),
            door: "http",
            status: "denied",
            asked: asked.to_owned(),
            why: "no".to_owned(),
        }
    }

    #[test]
    fn the_newest_are_kept_without_secrets_and_the_same_once() {
        let secrets = Secrets { values: vec!["hunter22".to_owned()], ..Secrets::default() };
        let (refusals, redaction) = (Refusals::default(), Redaction::new(&secrets));
        for number in 0..20 {
            refusals.note(&redaction, refused(number, &format!("call {number}")));
        }
        (20..30).for_each(|time| refusals.note(&redaction, refused(time, "call hunter22\u{1b}")));
        let newest = refusals.newest();
        assert_eq!(newest.len(), KEPT);
        assert_eq!((newest[0].at_ms, newest[0].asked.as_str()), (29, "call [redacted]\\u{1b}"));
        assert_eq!((newest[1].asked.as_str(), newest[KEPT - 1].asked.as_str()), ("call 19", "call 5"));
    }
}
