//! The log lines about a server that is down.

use super::restart::Cause;
use crate::redact::Words;

/// Logs why a backend is down, each reason once: a server that is tried again and again would fill the log.
#[derive(Default)]
pub(super) struct Complaint {
    said: Option<Words>,
}

impl Complaint {
    pub(super) fn say(&mut self, backend: &str, deaths: u32, reason: &Words, cause: Cause) {
        if self.said.as_ref() == Some(reason) {
            // The metric `sentinel_backend_healthy` and `/ready` go on saying so.
            if deaths.is_power_of_two() {
                tracing::warn!(backend, deaths, "backend is down, for the same reason as before");
            }
            return;
        }
        match cause {
            Cause::Passing | Cause::Asked(_) => tracing::warn!(backend, deaths, "backend is down: {reason}"),
            Cause::Lasting => tracing::warn!(
                backend,
                deaths,
                "backend is down: {reason}; this needs somebody to mend it, so it is tried again rarely: by a call at most every 10 s, by SIGHUP at once"
            ),
        }
        self.said = Some(reason.clone());
    }
}
